"""Operations on exports."""

from __future__ import annotations

from array import array
from collections.abc import AsyncIterator, Sequence

from moxtw.admin import accounts
from moxtw.admin.context import AdminContext, Caller, not_found, user_error
from moxtw.admin.exports.containers import Container, Tar, Zip
from moxtw.admin.exports.engine import Export, select
from moxtw.store import accounts as rows
from moxtw.store.errors import NoSuchAccount, NoSuchMailbox
from moxtw.store.model import Mailbox
from moxtw.store.tx import Tx


def make_container(archive: str) -> Container | None:
    """A container by its name: tar, tgz, zip; None for "none" or ""."""
    if archive == "tar":
        return Tar(gzip=False)
    if archive == "tgz":
        return Tar(gzip=True)
    return Zip() if archive == "zip" else None


async def export(
    ctx: AdminContext,
    caller: Caller,
    account: str,
    *,
    kind: str,
    archive: str,
    mailbox: str = "",
    recursive: bool = False,
    message_ids: Sequence[int] = (),
) -> AsyncIterator[bytes]:
    """The bytes of an export.

    kind: "mbox" or "maildir"; archive: "tar", "tgz", "zip", or "none" for a single mbox. Of the
    mailbox, with those below it if `recursive`; of the messages if there are ids; of all else.
    """
    if kind not in ("mbox", "maildir"):
        raise user_error("format must be maildir or mbox")
    if archive not in ("", "none", "tar", "tgz", "zip"):
        raise user_error("archive must be none, tar, tgz or zip")
    if mailbox and message_ids:
        raise user_error("a mailbox and messages cannot both be given")
    if message_ids and recursive:
        raise user_error("messages cannot be exported recursively")
    container = make_container(archive)
    if container is None and (kind != "mbox" or recursive or not (mailbox or message_ids)):
        raise user_error("without archive, only one mailbox can be exported, as mbox")
    accounts.get(ctx, account)

    def look(tx: Tx) -> tuple[int, list[tuple[str, Mailbox]]]:
        account_id = rows.get(tx, account).id
        if message_ids:
            return account_id, []
        return account_id, select(tx, account_id, mailbox, recursive=recursive)

    try:
        account_id, found = await ctx.store.read(look)
    except NoSuchMailbox as exc:
        raise not_found(f"no mailbox {mailbox[:200]!r}") from exc
    except NoSuchAccount as exc:
        raise not_found(f"account {account!r} has no mail yet") from exc
    task = Export(ctx.store, account_id, kind)
    wanted = array("q", message_ids)
    ctx.done(caller, "export begun", account=account, kind=kind, archive=archive)
    if container is None:
        return task.single(found[0][1] if found else None, wanted)
    if message_ids:
        return task.selection(container, wanted)
    return task.mailboxes(container, found)
