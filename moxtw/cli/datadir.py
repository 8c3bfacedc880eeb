"""Commands on a data directory that no server uses: verifydata, and repair of UIDs."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from moxtw.cli.command import CommandError
from moxtw.cli.invocation import Invocation

if TYPE_CHECKING:
    from moxtw.store.db import Store
    from moxtw.store.tx import Tx

T = TypeVar("T")

# What a data directory may have.
_KNOWN = frozenset(
    {
        "acme",
        "content",
        "ctl",
        "lastknownversion",
        "moved",
        "moxtw.db",
        "moxtw.db-shm",
        "moxtw.db-wal",
        "moxversion",
        "receivedid.key",
        "tmp",
    }
)


@contextmanager
def opened(data: Path, url: str = "") -> Iterator[Store]:
    """The store of a data directory, which no server may use meanwhile. Raises CommandError."""
    from moxtw.service.process import DataLock
    from moxtw.store.db import Store

    if not url and not (data / "moxtw.db").is_file():
        raise CommandError(f"{data} is no data directory: it has no moxtw.db")
    try:
        lock = DataLock(data)
    except BlockingIOError as exc:
        raise CommandError(f"{data} is in use by a server: stop it first") from exc
    try:
        store = Store(str(data), None, inline=True, url=url or None)
        store.open()
        try:
            yield store
        finally:
            store.stopService()
    except sqlite3.DatabaseError as exc:
        raise CommandError(f"{data}: error: database: {exc}") from exc
    finally:
        lock.release()


class Progress:
    """A line on a terminal that says how far it is; nothing elsewhere."""

    def __init__(self, invocation: Invocation) -> None:
        self._stream = invocation.stderr
        self._shown = 0
        self._on = self._stream.isatty()

    def __call__(self, text: str) -> None:
        """Show a text in place of the one before."""
        if self._on:
            self._stream.write("\r" + text.ljust(self._shown))
            self._stream.flush()
            self._shown = len(text)

    def end(self) -> None:
        """Take the line away."""
        if self._shown:
            self._stream.write("\r" + " " * self._shown + "\r")
            self._shown = 0


# -- verifydata ------------------------------------------------------------------------------


def verifydata(invocation: Invocation) -> int:
    """``moxtw verifydata``."""
    from moxtw.admin.backupfiles import MARKER

    given = Path(invocation.args[0])
    data = given
    if not (given / "moxtw.db").is_file() and (given / "data" / "moxtw.db").is_file():
        # A backup.
        data = given / "data"
    fix = invocation.switch("fix")
    progress = Progress(invocation)
    with opened(data) as store:
        try:
            problems, strays = verify(
                store, digests=not invocation.switch("skip-size-check"), progress=progress
            )
            if fix and problems:
                progress.end()
                for text in repair_all(store, progress):
                    invocation.print(f"fixed: {text}")
                problems, strays = verify(
                    store, digests=not invocation.switch("skip-size-check"), progress=progress
                )
        finally:
            progress.end()
        if (data / MARKER).exists():
            problems.append("this backup was not completed")
        if data != given:
            problems += check_files(given)
        for problem in problems:
            invocation.warn(f"{data}: error: {problem}")
        for name in strays:
            invocation.warn(f"{data}: warning: content file {name} belongs to no message")
        for name in sorted(os.listdir(data)):
            if name not in _KNOWN and name != MARKER:
                invocation.warn(f"{data}: warning: unknown file {name}")
        if fix:
            for name in strays:
                source, target = data / "content" / name, data / "moved" / "content" / name
                target.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
                source.rename(target)
                invocation.print(f"moved {source} to {target}")
    if problems:
        invocation.warn(f"{data}: {len(problems)} errors")
        return 1
    invocation.print(f"{data}: OK")
    return 0


def verify(
    store: Store, *, digests: bool, progress: Callable[[str], object]
) -> tuple[list[str], list[str]]:
    """Errors, and files that belong to nothing, of a store that works at once."""
    from twisted.internet.defer import Deferred

    from moxtw.cli.server import now
    from moxtw.store.verify import stray_files, verify_all

    problems = now(
        Deferred.fromCoroutine(verify_all(store, digests=digests, progress=progress))
    )
    return problems, now(store.read(stray_files))


def check_files(backup: Path) -> list[str]:
    """Compare the files of a backup with its manifest."""
    from moxtw.admin.backupfiles import BackupError, digest_of, read_manifest

    try:
        manifest = read_manifest(backup)
    except BackupError as exc:
        return [str(exc)]
    problems = []
    for entry in manifest.files:
        try:
            found = digest_of(backup / entry.path)
        except OSError as exc:
            problems.append(f"{entry.path}: {exc.strerror}")
            continue
        if found != (entry.size, entry.sha256):
            problems.append(f"{entry.path} differs from what was backed up")
    return problems


def repair_all(store: Store, progress: Callable[[str], object]) -> Iterator[str]:
    """Repair what can be computed anew, for all accounts; what was done, in words."""
    from moxtw.cli.server import now
    from moxtw.store import accounts, mailboxes, repair

    def run(fn: Callable[..., T], *args: Any) -> T:
        result: T = now(store.write(lambda tx: fn(tx, *args)))
        return result

    if run(repair.fix_ids):
        yield "next id raised above those in use"
    for name in run(accounts.all_names):
        account_id = run(accounts.get, name).id
        told = run(repair.fix_uid_meta, account_id)
        fixed = 0
        after = 0
        while True:
            wrong = run(repair.wrong_sizes, account_id, after)
            if not wrong.seen:
                break
            after = wrong.last
            if wrong.messages:
                # Only what the rows say of themselves: content that was cut off stays wrong.
                fixed += run(repair.fix_sizes, wrong._replace(contents={}))
            progress(f"account {name}: sizes up to message {after}")
        if fixed:
            told.append(f"sizes of {fixed} messages")
        for box in run(mailboxes.all, account_id):
            changed = run(repair.recount_mailbox, box.id)
            if changed:
                told.append(changed)
        changed = run(repair.recount_usage, account_id)
        if changed:
            told.append(changed)
        for text in told:
            yield f"account {name}: {text}"


# -- Repair of UIDs --------------------------------------------------------------------------


def _with_account(invocation: Invocation, fn: Callable[[Tx, int], T]) -> T:
    """Run a job for the account that is named first. Raises CommandError."""
    from moxtw.cli.server import now
    from moxtw.store import accounts

    static = invocation.static()
    name = invocation.args[0]

    def job(tx: Any) -> T:
        return fn(tx, accounts.get(tx, name).id)

    from moxtw.store.errors import NoSuchAccount, NoSuchMailbox

    with opened(static.data_path, static.database_url) as store:
        try:
            found: T = now(store.write(job))
        except NoSuchAccount as exc:
            raise CommandError(f"no account {name!r}") from exc
        except NoSuchMailbox as exc:
            raise CommandError(f"no such mailbox: {exc}") from exc
        return found


def bumpuidvalidity(invocation: Invocation) -> None:
    """``moxtw bumpuidvalidity``."""
    from moxtw.store import repair

    name = invocation.args[1] if len(invocation.args) > 1 else None
    for box in _with_account(invocation, lambda tx, a: repair.bump_uidvalidity(tx, a, name)):
        invocation.print(f"{box.mailbox}: uidvalidity {box.old} becomes {box.new}")


def reassignuids(invocation: Invocation) -> None:
    """``moxtw reassignuids``."""
    from moxtw.store import repair

    mailbox: int | None = None
    if len(invocation.args) > 1:
        text = invocation.args[1]
        if not (text.isascii() and text.isdigit() and len(text) < 19):
            raise CommandError(f"mailbox id {text!r} is not a number")
        mailbox = int(text)
    for box in _with_account(invocation, lambda tx, a: repair.reassign_uids(tx, a, mailbox)):
        invocation.print(
            f"{box.mailbox}: UIDs of {box.messages} messages, uidvalidity {box.uidvalidity}"
        )


def ensureparsed(invocation: Invocation) -> None:
    """``moxtw ensureparsed``."""
    from twisted.internet.defer import Deferred

    from moxtw.cli.server import now
    from moxtw.store import accounts
    from moxtw.store.errors import NoSuchAccount
    from moxtw.store.reparse import reparse_account

    static = invocation.static()
    name = invocation.args[0]
    progress = Progress(invocation)
    with opened(static.data_path, static.database_url) as store:
        try:
            account_id = now(store.read(lambda tx: accounts.get(tx, name))).id
        except NoSuchAccount as exc:
            raise CommandError(f"no account {name!r}") from exc
        try:
            done = now(
                Deferred.fromCoroutine(
                    reparse_account(
                        store,
                        account_id,
                        lambda count: progress(f"{count} messages"),
                        missing=not invocation.switch("all"),
                    )
                )
            )
        finally:
            progress.end()
    for text in done.problems:
        invocation.warn(f"error: {text}")
    invocation.print(
        f"{done.messages} messages looked at, {done.parsed} parsed, {done.changed} changed"
    )
    if done.problems:
        raise CommandError(f"{len(done.problems)} messages could not be read")


def fixuidmeta(invocation: Invocation) -> None:
    """``moxtw fixuidmeta``."""
    from moxtw.store import repair

    told = _with_account(invocation, repair.fix_uid_meta)
    for text in told:
        invocation.print(text)
    if not told:
        invocation.print("nothing to fix")
