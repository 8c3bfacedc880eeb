"""Operations on imports: from uploaded files, and from files of the server's machine."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import IO

from moxtw.admin import accounts
from moxtw.admin.context import AdminContext, Caller, OperationError, not_found, user_error
from moxtw.admin.imports.archive import ArchiveError
from moxtw.admin.imports.items import Source, mailbox_name, open_source
from moxtw.admin.imports.service import Busy, Running
from moxtw.store.errors import InvalidMailboxName, NoSuchAccount


async def begin_upload(
    ctx: AdminContext,
    caller: Caller,
    account: str,
    file: IO[bytes],
    name: str,
    size: int,
    prefix: str,
) -> Running:
    """Begin to import an archive or mbox; `prefix` is left away from names of mailboxes.

    The file is closed at the end, also when the import is refused.
    """
    try:
        source = await ctx.store.run(lambda: open_source(file, name, size, prefix=prefix))
    except (ArchiveError, InvalidMailboxName) as exc:
        file.close()
        raise user_error(str(exc)) from exc
    except BaseException:
        file.close()
        raise
    return await _begin(ctx, caller, account, source, file.close)


async def begin_path(
    ctx: AdminContext, caller: Caller, account: str, kind: str, mailbox: str, path: str
) -> Running:
    """Begin to import a file or folder of this machine into a mailbox.

    kind: "mbox" for an mbox, "maildir" for a folder with new and cur; either can be an archive,
    whose mailboxes then come below the mailbox.
    """
    try:
        name = mailbox_name(mailbox)
        source = await ctx.store.run(_open_path, kind, name, path)
    except (ArchiveError, InvalidMailboxName) as exc:
        raise user_error(str(exc)) from exc
    except OSError as exc:
        raise user_error(f"{path}: {exc.strerror or exc}") from exc
    file = source.file
    return await _begin(ctx, caller, account, source, file.close if file else lambda: None)


def _open_path(kind: str, mailbox: str, path: str) -> Source:
    if os.path.isdir(path):
        if kind != "maildir":
            raise ArchiveError(f"{path} is a folder, not an mbox")
        if not any(os.path.isdir(os.path.join(path, each)) for each in ("new", "cur")):
            raise ArchiveError(f"{path} is no maildir: it has neither new nor cur")
        return Source("maildir", path, path=os.path.abspath(path), mailbox=mailbox)
    if not os.path.isfile(path):
        os.stat(path)
        raise ArchiveError(f"{path} is neither a file nor a folder")
    file = open(path, "rb")  # noqa: SIM115 - closed when the import ends
    try:
        size = os.fstat(file.fileno()).st_size
        if size == 0 and kind == "mbox":
            return Source("mbox", path, file, 0, mailbox=mailbox)
        source = open_source(file, path, size, mailbox=mailbox)
        if kind == "maildir" and source.kind == "mbox":
            raise ArchiveError(f"{path} is an mbox, not a maildir")
    except BaseException:
        file.close()
        raise
    return source


async def _begin(
    ctx: AdminContext,
    caller: Caller,
    account: str,
    source: Source,
    close: Callable[[], object],
) -> Running:
    try:
        config = accounts.get(ctx, account)
        quota = config.quota_message_size or ctx.config.static.quota_message_size
        running = await ctx.imports.begin(
            account, source, quota=max(quota, 0), close=close
        )
    except Busy as exc:
        close()
        raise user_error(str(exc)) from exc
    except NoSuchAccount as exc:
        close()
        raise OperationError("server", f"account {account!r} is not ready yet") from exc
    except BaseException:
        close()
        raise
    ctx.done(caller, "import begun", account=account, kind=source.kind)
    return running


async def abort(ctx: AdminContext, caller: Caller, account: str, token: str) -> None:
    """Abort an import, and take back what it added."""
    if not await ctx.imports.abort(account, token):
        raise not_found("no import with that token is under way")
    ctx.done(caller, "import aborted", account=account)
