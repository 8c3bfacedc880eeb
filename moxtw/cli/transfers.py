"""``moxtw import …`` and ``moxtw export …``."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

from moxtw.cli.command import CommandError, UsageError
from moxtw.cli.invocation import Invocation
from moxtw.cli.maintenance import stream
from moxtw.cli.output import clean, plural

if TYPE_CHECKING:
    from moxtw.admin.imports.archive import Entry

_PROGRESS = 1000


def import_maildir(invocation: Invocation) -> None:
    """``moxtw import maildir``."""
    _import(invocation, "maildir")


def import_mbox(invocation: Invocation) -> None:
    """``moxtw import mbox``."""
    _import(invocation, "mbox")


def _import(invocation: Invocation, kind: str) -> None:
    account, mailbox, path = invocation.args
    for line in stream(invocation, "import", kind, account, mailbox, os.path.abspath(path)):
        if line.startswith("warning: "):
            invocation.warn(f"moxtw: {line}")
        else:
            invocation.print(line)
            invocation.stdout.flush()


def export_maildir(invocation: Invocation) -> int:
    """``moxtw export maildir``."""
    return _export(invocation, "maildir")


def export_mbox(invocation: Invocation) -> int:
    """``moxtw export mbox``."""
    return _export(invocation, "mbox")


def _export(invocation: Invocation, kind: str) -> int:
    directory, account = invocation.args[:2]
    mailbox = invocation.args[2] if len(invocation.args) > 2 else ""
    single = invocation.switch("single")
    if single and not mailbox:
        raise UsageError("-single needs a mailbox")
    os.makedirs(directory, mode=0o700, exist_ok=True)
    data, name = _place(invocation, account)
    pieces = _pieces(invocation, data, name, kind, mailbox, single=single)
    return _extract(invocation, directory, kind, pieces)


def _place(invocation: Invocation, account: str) -> tuple[str, str]:
    """Data directory and account's name."""
    path = account.rstrip("/")
    data, slash, name = path.rpartition("/")
    if not slash:
        return str(invocation.static().data_path), name
    if os.path.basename(data) == "accounts":
        data = os.path.dirname(data)
    return os.path.abspath(data or "/"), name


def _pieces(
    invocation: Invocation, data: str, name: str, kind: str, mailbox: str, *, single: bool
) -> Iterator[bytes]:
    """The export as a tar file, from the running server or the database."""
    from moxtw.ctl.client import ControlClient, ControlError

    try:
        control = ControlClient(os.path.join(data, "ctl"))
    except ControlError as exc:
        if isinstance(exc.__cause__, FileNotFoundError | ConnectionRefusedError):
            yield from _offline(invocation, data, name, kind, mailbox, single=single)
            return
        raise
    with control:
        control.command("export", kind, name, mailbox, "single" if single else "")
        yield from control.read_stream()


def _database_url(invocation: Invocation, data: str) -> str | None:
    """The database of a data directory; None for the one in it."""
    try:
        static = invocation.static()
    except CommandError:
        return None
    same = os.path.realpath(static.data_path) == os.path.realpath(data)
    return static.database_url or None if same else None


def _offline(
    invocation: Invocation, data: str, name: str, kind: str, mailbox: str, *, single: bool
) -> Iterator[bytes]:
    from moxtw.admin.exports.containers import Tar
    from moxtw.admin.exports.engine import Export, all_of, select
    from moxtw.cli.server import now
    from moxtw.store import accounts
    from moxtw.store.db import Store
    from moxtw.store.errors import NoSuchAccount, NoSuchMailbox, StoreError

    url = _database_url(invocation, data)
    if url is None and not os.path.exists(os.path.join(data, "moxtw.db")):
        raise CommandError(f"{data}: no server is running on it, and it has no moxtw.db")
    store = Store(data, None, url=url, inline=True)
    try:
        store.open()
        try:
            account_id = now(store.read(lambda tx: accounts.get(tx, name).id))
            found = now(
                store.read(lambda tx: select(tx, account_id, mailbox, recursive=not single))
            )
            export = Export(store, account_id, kind)
            yield from all_of(export.mailboxes(Tar(gzip=False), found))
        finally:
            store.stopService()
    except NoSuchAccount as exc:
        raise CommandError(f"no account {name!r}") from exc
    except NoSuchMailbox as exc:
        raise CommandError(f"no mailbox {mailbox!r}") from exc
    except StoreError as exc:
        raise CommandError(f"{data}: {exc}") from exc


def _extract(
    invocation: Invocation, directory: str, kind: str, pieces: Iterator[bytes]
) -> int:
    """Write the files of a tar file, and tell of progress; the exit code."""
    from moxtw.admin.imports.archive import ArchiveError, tar_stream

    held = b""

    def read(size: int) -> bytes:
        nonlocal held
        while not held:
            piece = next(pieces, None)
            if piece is None:
                return b""
            held = piece
        data, held = held[:size], held[size:]
        return data

    files = told = 0
    problems: list[str] = []
    try:
        for entry in tar_stream(read):
            path = os.path.join(directory, *_parts(entry.name))
            if entry.kind == "dir":
                os.makedirs(path, mode=0o700, exist_ok=True)
                continue
            _write(path, entry)
            base = os.path.basename(path)
            if entry.name == "errors.txt":
                with open(path, encoding="utf-8", errors="replace") as file:
                    problems = file.read().splitlines()
            elif kind == "mbox":
                files += 1
                invocation.print(f"{clean(entry.name)}: {entry.size} bytes")
                invocation.stdout.flush()
            elif base != "dovecot-keywords":
                files += 1
                if files >= told + _PROGRESS:
                    told = files
                    invocation.print(f"{files} messages")
                    invocation.stdout.flush()
        for _ in pieces:
            pass  # what is behind the end of the archive
    except ArchiveError as exc:
        raise CommandError(f"export: {exc}") from exc
    what = plural(files, "message") if kind == "maildir" else plural(files, "mailbox")
    invocation.print(f"exported {what} to {directory}".replace("mailboxs", "mailboxes"))
    for text in problems:
        invocation.warn(f"moxtw: {clean(text)}")
    return 1 if problems else 0


def _parts(name: str) -> list[str]:
    parts = [part for part in name.split("/") if part]
    if name.startswith("/") or any(part in (".", "..") or "\0" in part for part in parts):
        raise CommandError(f"mailbox name {clean(name)!r} is no path of a file")
    return parts


def _write(path: str, entry: Entry) -> None:
    os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
    try:
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            while data := entry.read(1 << 18):
                file.write(data)
    except FileExistsError as exc:
        raise CommandError(f"{path} exists already") from exc
    if entry.modified is not None:
        os.utime(path, (entry.modified, entry.modified))
