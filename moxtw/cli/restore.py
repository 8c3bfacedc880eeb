"""``moxtw restoredrill``: whether a backup can be restored, and would serve."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from moxtw.cli.command import CommandError
from moxtw.cli.datadir import Progress, check_files, opened, verify
from moxtw.cli.invocation import Invocation

if TYPE_CHECKING:
    from moxtw.admin.backupfiles import Manifest
    from moxtw.config.dynamic import Dynamic
    from moxtw.store.db import Store


def restoredrill(invocation: Invocation) -> int:
    """``moxtw restoredrill``."""
    from moxtw.admin.backupfiles import BackupError, read_manifest

    backup = Path(invocation.args[0]).absolute()
    if backup.name == "data" and not (backup / "data").exists():
        backup = backup.parent
    try:
        manifest = read_manifest(backup)
    except BackupError as exc:
        raise CommandError(str(exc)) from exc
    place = invocation.text("dir")
    scratch = _new_directory(Path(place).absolute()) if place else _scratch(backup)
    try:
        errors = _drill(invocation, backup, manifest, scratch)
        if place:
            invocation.print(f"restored to {scratch}, which is kept")
    finally:
        if not place:
            shutil.rmtree(scratch)
    if errors:
        invocation.warn(f"{backup} would not serve as it is: {errors} errors")
        return 1
    invocation.print(f"{backup} would serve")
    return 0


def _new_directory(path: Path) -> Path:
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise CommandError(f"{path} is there already, and not an empty directory")
    path.mkdir(mode=0o750, parents=True, exist_ok=True)
    return path


def _scratch(backup: Path) -> Path:
    """A new directory, beside the backup if possible: there content can be linked."""
    for parent in (backup.parent, Path(tempfile.gettempdir())):
        if os.access(parent, os.W_OK):
            return Path(tempfile.mkdtemp(prefix=".moxtw-drill-", dir=parent))
    raise CommandError("there is no directory to restore to: give one with -dir")


def _drill(
    invocation: Invocation, backup: Path, manifest: Manifest, scratch: Path
) -> int:
    """Restore, and check everything; returns how many errors there are."""
    invocation.print(
        f"backup of {manifest.started} by version {manifest.version}:"
        f" {manifest.messages} messages, {manifest.content_files} content files"
    )
    errors = _told(invocation, "files", check_files(backup))
    progress = Progress(invocation)
    try:
        _restore(backup, scratch, progress)
        progress.end()
        dynamic, problems = _configuration(invocation, scratch, manifest)
        errors += _told(invocation, "configuration", problems)
        data = scratch / "data"
        errors += _told(invocation, "keys", _keys(data))
        with opened(data) as store:
            problems, strays = verify(store, digests=True, progress=progress)
            progress.end()
            problems += [f"content file {name} belongs to no message" for name in strays]
            errors += _told(invocation, "data", problems)
            if dynamic is not None:
                problems = _accounts(invocation, store, dynamic)
                errors += _told(invocation, "accounts", problems)
    finally:
        progress.end()
    return errors


def _told(invocation: Invocation, what: str, problems: list[str]) -> int:
    for problem in problems:
        invocation.warn(f"{what}: error: {problem}")
    if not problems:
        invocation.print(f"{what}: OK")
    return len(problems)


def _restore(backup: Path, scratch: Path, progress: Progress) -> None:
    """Copy a backup, content by links where possible. Raises OSError."""
    from moxtw.admin.backupfiles import TreeCopier, copy_file, link, walk

    progress("restoring the database and other files")
    TreeCopier(backup / "config", scratch / "config", "config", frozenset()).run()
    content = backup / "data" / "content"
    TreeCopier(backup / "data", scratch / "data", "data", frozenset({content})).run()
    target = scratch / "data" / "content"
    target.mkdir(mode=0o750)
    linking = True
    count = 0
    for path, _ in walk(content, frozenset()):
        place = target / path.relative_to(content)
        if path.is_dir():
            place.mkdir(mode=0o750)
            continue
        linking = linking and link(path, place)
        if not linking:
            copy_file(path, place, place.name)
        count += 1
        if count % 100 == 0:
            progress(f"restoring content: {count} files")


def _configuration(
    invocation: Invocation, scratch: Path, manifest: Manifest
) -> tuple[Dynamic | None, list[str]]:
    """Load the restored configuration with all files that it names."""
    from moxtw.config.load import ConfigError, load_dynamic, load_static

    path = scratch / manifest.config
    if scratch.resolve() not in path.resolve().parents:
        return None, [f"{manifest.config} does not lie in the backup"]
    try:
        static = load_static(path)
        dynamic = load_dynamic(static.dynamic_path, static)
    except ConfigError as exc:
        return None, exc.errors
    if static.data_path.resolve() != (scratch / "data").resolve():
        invocation.print(f"note: the configuration has its data in {static.data_path}")
    return dynamic, []


def _keys(data: Path) -> list[str]:
    from moxtw.net.cid import load_key

    try:
        load_key(data)
    except (OSError, ValueError) as exc:
        return [str(exc)]
    return []


def _accounts(invocation: Invocation, store: Store, dynamic: Dynamic) -> list[str]:
    """Whether each configured account is there; tells what each has."""
    from moxtw.cli.server import now
    from moxtw.store import accounts, credentials, mailboxes
    from moxtw.store.tx import Tx

    def read(tx: Tx) -> tuple[dict[str, tuple[int, int, bool]], list[str]]:
        found = {}
        names = [name for name in accounts.all_names(tx) if not name.startswith("/")]
        for name in names:
            account = accounts.get(tx, name)
            boxes = mailboxes.all(tx, account.id)
            count = sum(box.total + box.deleted for box in boxes)
            found[name] = len(boxes), count, credentials.verifiers(tx, account.id) is not None
        return found, names

    found, names = now(store.read(read))
    problems = []
    for name in sorted({*dynamic.accounts, *names}):
        if name not in found:
            problems.append(f"account {name} is configured, but there is no data of it")
            continue
        boxes, count, password = found[name]
        notes = "" if name in dynamic.accounts else ", not configured"
        notes += "" if password else ", no password"
        invocation.print(f"account {name}: {count} messages in {boxes} mailboxes{notes}")
    return problems
