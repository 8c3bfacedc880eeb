"""Commands on new versions of the program: looking for them, and announcing them."""

from __future__ import annotations

import base64
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from moxtw.cli.command import CommandError, UsageError
from moxtw.cli.dns import configured_roots, make_resolver, run_async
from moxtw.cli.invocation import Invocation
from moxtw.cli.output import clean

if TYPE_CHECKING:
    from moxtw.updates.changelog import Change
    from moxtw.updates.record import Version


def checkupdate(invocation: Invocation) -> None:
    """``moxtw checkupdate``."""
    from moxtw.updates import lastknown
    from moxtw.updates.check import Announcements, UpdateError, running
    from moxtw.updates.record import Version

    static = invocation.static()
    updates = static.updates
    if updates is None:
        raise CommandError("the configuration does not say who announces versions (Updates)")
    try:
        known, _ = lastknown.read(static.data_path)
    except OSError as exc:
        raise CommandError(str(exc)) from exc
    since = max(running(), known or Version())
    async def look(reactor: Any) -> tuple[Version, list[Change]]:
        source = Announcements(
            updates.dns_domain.ascii,
            updates.key,
            make_resolver(invocation, reactor),
            reactor,
            configured_roots(static),
        )
        latest = await source.latest()
        return latest, await source.changes(since) if latest > since else []

    try:
        latest, changes = run_async(look)
    except UpdateError as exc:
        raise CommandError(clean(str(exc))) from exc
    invocation.print(f"running:    {running()}")
    if known is not None:
        invocation.print(f"last known: {known}")
    invocation.print(f"latest:     {latest}")
    if latest <= since:
        invocation.print("no new version")
    for change in changes:
        invocation.print()
        for line in change.text.splitlines():
            invocation.print(clean(line.replace("\t", "    ")))


def genkey(invocation: Invocation) -> None:
    """``moxtw updates genkey``."""
    from moxtw.updates.changelog import KEY_SIZE

    invocation.print(base64.b64encode(os.urandom(KEY_SIZE)).decode())


def _key(text: bytes, what: str) -> bytes:
    """A key in base64. Raises CommandError."""
    from moxtw.updates.changelog import KEY_SIZE

    try:
        key = base64.b64decode(text.strip(), validate=True)
    except ValueError as exc:
        raise CommandError(f"{what}: bad base64: {exc}") from exc
    if len(key) != KEY_SIZE:
        raise CommandError(f"{what}: need {KEY_SIZE} bytes in base64, not {len(key)}")
    return key


def pubkey(invocation: Invocation) -> None:
    """``moxtw updates pubkey``."""
    from moxtw.updates.changelog import public_key

    seed = _key(invocation.read_bytes(), "private key")
    invocation.print(base64.b64encode(public_key(seed)).decode())


def _read(path: Path) -> list[Change]:
    """The changes in a file. Raises CommandError."""
    from moxtw.updates.changelog import ChangelogError, decode

    try:
        return decode(path.read_bytes())
    except (OSError, ChangelogError) as exc:
        raise CommandError(f"{path}: {exc}") from exc


def addsigned(invocation: Invocation) -> None:
    """``moxtw updates addsigned``."""
    from moxtw.updates.changelog import MAX_SIZE, ChangelogError, encode, sign

    key_path, path = map(Path, invocation.args)
    try:
        seed = _key(key_path.read_bytes(), str(key_path))
    except OSError as exc:
        raise CommandError(str(exc)) from exc
    changes = _read(path) if path.exists() else []
    try:
        change = sign(seed, invocation.read_bytes().decode())
        later = [each for each in changes if each.version >= change.version]
    except (ChangelogError, UnicodeDecodeError) as exc:
        raise CommandError(str(exc)) from exc
    if later:
        raise CommandError(f"{path} has {later[0].version} already")
    data = encode([change, *changes])
    if len(data) > MAX_SIZE:
        raise CommandError(f"{path} would have {len(data)} bytes, more than servers read")
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        temporary.write_bytes(data)
        os.replace(temporary, path)
    except OSError as exc:
        raise CommandError(str(exc)) from exc
    invocation.print(f"{path}: {change.version} added, {len(changes) + 1} in all")


def verify(invocation: Invocation) -> None:
    """``moxtw updates verify``."""
    from moxtw.updates.changelog import ChangelogError, decode
    from moxtw.updates.changelog import verify as check

    key = _key(invocation.args[0].encode(), "public key")
    try:
        changes = decode(invocation.read_bytes())
        check(changes, key)
    except ChangelogError as exc:
        raise CommandError(clean(str(exc))) from exc
    invocation.print(f"{len(changes)} changes verified")


def serve(invocation: Invocation) -> None:
    """``moxtw updates serve``."""
    from twisted.internet import reactor as global_reactor
    from twisted.internet.error import CannotListenError
    from twisted.web.server import Site

    from moxtw.web.changelog import make_changelog

    reactor: Any = global_reactor
    path = Path(invocation.text("changelog") or "changelog.json")
    count = len(_read(path))
    host, _, port = (invocation.text("address") or "127.0.0.1:8596").rpartition(":")
    if not (host and port.isascii() and port.isdigit() and int(port) < 65536):
        raise UsageError("flag -address: need an address and a port")
    try:
        listening = reactor.listenTCP(
            int(port), Site(make_changelog(path)), interface=host.strip("[]")
        )
    except (CannotListenError, OSError) as exc:
        raise CommandError(str(exc)) from exc
    bound = listening.getHost()
    invocation.print(f"serving {count} changes on {host}:{bound.port}")
    invocation.stdout.flush()
    reactor.run()
