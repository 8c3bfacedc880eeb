"""Operations on the server as a whole: log levels, configuration files, ids, records."""

from __future__ import annotations

import ipaddress
import platform
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from moxtw import log as logs
from moxtw.admin.context import AdminContext, Caller, OperationError, not_found, user_error
from moxtw.config import edit
from moxtw.config.dynamic import Route, WebHandler
from moxtw.config.static import Transport
from moxtw.dns.resolver import DNSError, NotFound, ptr
from moxtw.store import credentials
from moxtw.version import VERSION


@dataclass(frozen=True, slots=True)
class LoginAttempts:
    """Login attempts of the same kind, counted. Times in microseconds since the epoch."""

    key: bytes
    last: int
    first: int
    count: int
    account: str
    login_address: str
    remote_ip: str
    local_ip: str
    tls: str
    fingerprint: str
    protocol: str
    user_agent: str
    auth_mech: str
    result: str


MAX_ATTEMPTS: Final = 10_000
"""Most login attempts in a list."""

_ARCHITECTURES: Final = {"x86_64": "amd64", "aarch64": "arm64", "i686": "386", "armv7l": "arm"}


def version() -> tuple[str, str, str]:
    """Version, operating system and architecture."""
    machine = platform.machine()
    return VERSION, sys.platform, _ARCHITECTURES.get(machine, machine)


async def log_levels(ctx: AdminContext, caller: Caller) -> dict[str, str]:
    """The log levels in force by package; the default under ''."""
    return logs.levels.names()


async def log_level_set(ctx: AdminContext, caller: Caller, pkg: str, level: str) -> None:
    """Set the level of a package, or with '' the default, until the next start."""
    if len(pkg) > 100 or not pkg.isprintable():
        raise user_error("bad package name")
    try:
        logs.levels.set(pkg, level)
    except ValueError as exc:
        raise user_error(f"{exc}: one of {', '.join(list(logs.LEVELS)[2:])}") from exc
    ctx.done(caller, "log level set", package=pkg, to=level)


async def log_level_remove(ctx: AdminContext, caller: Caller, pkg: str) -> None:
    """Let a package log at the default level again."""
    if not pkg:
        raise user_error("the default level can only be set")
    try:
        logs.levels.remove(pkg)
    except KeyError as exc:
        raise not_found(f"package {pkg[:100]!r} has no log level of its own") from exc
    ctx.done(caller, "log level removed", package=pkg)


async def config_files(ctx: AdminContext, caller: Caller) -> tuple[str, str, str, str]:
    """Paths and texts of mox.conf and domains.conf, as they are on disk."""
    static, dynamic = ctx.config.static.path, ctx.config.path

    def read() -> tuple[str, str]:
        return static.read_text("utf-8", "replace"), dynamic.read_text("utf-8", "replace")

    try:
        texts = await ctx.store.run(read)
    except OSError as exc:
        raise OperationError("server", f"reading configuration file: {exc}") from exc
    return str(static), str(dynamic), *texts


async def lookup_cid(ctx: AdminContext, caller: Caller, text: str) -> str:
    """The connection id, in hex as in the log, of its encrypted form."""
    try:
        return f"{ctx.ids.decrypt(text):x}"
    except ValueError as exc:
        raise user_error(str(exc)) from exc


async def lookup_ip(ctx: AdminContext, caller: Caller, text: str) -> list[str]:
    """The names that an address leads back to; none if it has none."""
    try:
        ip = str(ipaddress.ip_address(text))
    except ValueError as exc:
        raise user_error(str(exc)) from exc
    assert ctx.resolver is not None
    try:
        return [name.removesuffix(".") for name in (await ptr(ctx.resolver, ip)).records]
    except NotFound:
        return []
    except DNSError as exc:
        raise OperationError("server", f"looking up {ip}: {exc}") from exc


async def transports(ctx: AdminContext, caller: Caller) -> Mapping[str, Transport]:
    """The configured transports."""
    return ctx.config.static.transports


async def save_routes(ctx: AdminContext, caller: Caller, routes: Sequence[Route]) -> None:
    """Replace the global routes."""
    await ctx.change(lambda dynamic: edit.routes_save(dynamic, routes))
    ctx.done(caller, "global routes changed")


async def save_monitor_dnsbls(ctx: AdminContext, caller: Caller, text: str) -> None:
    """Replace the DNS block lists to watch, one in a line."""
    await ctx.change(lambda dynamic: edit.monitor_dnsbls_save(dynamic, text))
    ctx.done(caller, "monitored dnsbls changed")


WebserverSettings = tuple[Mapping[str, str], Sequence[WebHandler]]
"""Redirects by domain, and handlers."""


async def save_webserver(
    ctx: AdminContext, caller: Caller, old: WebserverSettings, new: WebserverSettings
) -> None:
    """Replace redirects and handlers of the web server, if they still are as in `old`."""
    await ctx.change(lambda dynamic: edit.webserver_save(dynamic, old, new))
    ctx.done(caller, "webserver settings changed")


async def tls_public_keys(
    ctx: AdminContext, caller: Caller, account: str
) -> list[credentials.TLSKey]:
    """TLS public keys of an account, or of all for ''."""
    return await ctx.store.read(lambda tx: credentials.tls_keys(tx, account or None))


async def login_attempts(
    ctx: AdminContext, caller: Caller, account: str, limit: int
) -> list[LoginAttempts]:
    """Login attempts of an account, or of all for '', latest first."""
    most = MAX_ATTEMPTS if limit <= 0 else min(limit, MAX_ATTEMPTS)
    rows = await ctx.store.read(lambda tx: credentials.attempts(tx, account, most))
    return [LoginAttempts(*row) for row in rows]


async def stop(ctx: AdminContext, caller: Caller) -> None:
    """Stop the server, as after SIGTERM."""
    ctx.done(caller, "stopping")
    ctx.stop()
