"""Functions on the server as a whole."""

from __future__ import annotations

from moxtw.admin import blocklists, system
from moxtw.config import dynamic as config
from moxtw.web import admintypes as types
from moxtw.web.adminapi.base import admin_of, registry
from moxtw.web.configtypes import Domain, Dynamic, Route, Transport, WebHandler
from moxtw.web.conversions import (
    audit_entries,
    list_from_api,
    map_to_api,
    time_of,
    tls_public_key,
    to_api,
)
from moxtw.web.rpc import USER_ERROR, ApiError, Call
from moxtw.web.typewords import Int32


@registry.function("version", "goos", "goarch", reads=True)
async def Version(call: Call) -> tuple[str, str, str]:
    """The version of the server, its operating system and architecture."""
    return system.version()


@registry.function("staticPath", "dynamicPath", "static", "dynamic", reads=True)
async def ConfigFiles(call: Call) -> tuple[str, str, str, str]:
    """Paths and texts of the configuration files, as they are on disk."""
    return await system.config_files(*admin_of(call))


@registry.function(reads=True)
async def Config(call: Call) -> Dynamic:
    """All of domains.conf."""
    ctx, _ = admin_of(call)
    return to_api(ctx.config.dynamic, Dynamic)


@registry.function(reads=True)
async def LogLevels(call: Call) -> dict[str, str]:
    """The log levels in force by package; the default under ''."""
    return await system.log_levels(*admin_of(call))


@registry.function()
async def LogLevelSet(call: Call, pkg: str, levelStr: str) -> None:
    """Set the log level of a package, or with '' the default, until the next start."""
    await system.log_level_set(*admin_of(call), pkg, levelStr)


@registry.function()
async def LogLevelRemove(call: Call, pkg: str) -> None:
    """Let a package log at the default level again."""
    await system.log_level_remove(*admin_of(call), pkg)


@registry.function("cid", reads=True)
async def LookupCid(call: Call, recvID: str) -> str:
    """The connection id, in hex as in the log, of the form that outsiders see."""
    return await system.lookup_cid(*admin_of(call), recvID)


@registry.function(reads=True)
async def LookupIP(call: Call, ip: str) -> types.Reverse:
    """The names that an IP address leads back to."""
    return types.Reverse(hostnames=await system.lookup_ip(*admin_of(call), ip))


@registry.function(reads=True)
async def CheckUpdatesEnabled(call: Call) -> bool:
    """Whether the server looks for new versions."""
    ctx, _ = admin_of(call)
    static = ctx.config.static
    return static.check_updates and static.updates is not None


@registry.function(reads=True)
async def Transports(call: Call) -> dict[str, Transport]:
    """The configured transports."""
    return map_to_api(await system.transports(*admin_of(call)), Transport)


@registry.function()
async def RoutesSave(call: Call, routes: list[Route]) -> None:
    """Replace the global routes."""
    await system.save_routes(*admin_of(call), list_from_api(config.Route, routes))


@registry.function("results", "using", "monitoring", reads=True)
async def DNSBLStatus(
    call: Call,
) -> tuple[dict[str, dict[str, str]], list[Domain], list[Domain]]:
    """What DNS block lists say of our addresses: by address, by list.

    It is "pass" for an address that is not listed; or else it begins with "fail" or "temperror".
    Then the lists that are used for incoming mail, and the others that are watched.
    """
    results, using, watching = await blocklists.status(*admin_of(call))
    return results, [to_api(z, Domain) for z in using], [to_api(z, Domain) for z in watching]


@registry.function()
async def MonitorDNSBLsSave(call: Call, text: str) -> None:
    """Replace the DNS block lists to watch, one in a line."""
    await system.save_monitor_dnsbls(*admin_of(call), text)


def _webserver_config(dynamic: config.Dynamic) -> types.WebserverConfig:
    redirects = dynamic.web_domain_redirects
    targets = dynamic.web_dns_domain_redirects
    return types.WebserverConfig(
        web_domain_redirects=[[source, target] for source, target in redirects.items()],
        web_dns_domain_redirects=[
            [_domain(source), to_api(target, Domain)] for source, target in targets.items()
        ],
        web_handlers=[to_api(handler, WebHandler) for handler in dynamic.web_handlers],
    )


def _domain(name: str) -> Domain:
    from moxtw.mail.domain import parse_domain

    return to_api(parse_domain(name), Domain)


def _webserver_settings(conf: types.WebserverConfig) -> system.WebserverSettings:
    redirects: dict[str, str] = {}
    for pair in conf.web_domain_redirects:
        if len(pair) != 2:
            raise ApiError(USER_ERROR, "a redirect is a pair of domains")
        if pair[0] in redirects:
            raise ApiError(USER_ERROR, f"duplicate redirect from {pair[0][:100]!r}")
        redirects[pair[0]] = pair[1]
    return redirects, list_from_api(config.WebHandler, conf.web_handlers)


@registry.function("conf", reads=True)
async def WebserverConfig(call: Call) -> types.WebserverConfig:
    """Redirects and handlers of the web server."""
    ctx, _ = admin_of(call)
    return _webserver_config(ctx.config.dynamic)


@registry.function("savedConf")
async def WebserverConfigSave(
    call: Call, oldConf: types.WebserverConfig, newConf: types.WebserverConfig
) -> types.WebserverConfig:
    """Replace redirects and handlers of the web server, if they are still as in oldConf."""
    ctx, caller = admin_of(call)
    await system.save_webserver(
        ctx, caller, _webserver_settings(oldConf), _webserver_settings(newConf)
    )
    return _webserver_config(ctx.config.dynamic)


@registry.function(reads=True)
async def TLSPublicKeys(call: Call, accountOpt: str) -> list[types.TLSPublicKey]:
    """TLS public keys of an account, or of all accounts for ''."""
    return [
        tls_public_key(key) for key in await system.tls_public_keys(*admin_of(call), accountOpt)
    ]


@registry.function(reads=True)
async def LoginAttempts(
    call: Call, accountName: str, limit: Int32
) -> list[types.LoginAttempt]:
    """Login attempts of an account, or of all accounts for '', latest first.

    Those of unknown users are under account "-", those of the admin under "(admin)". A limit
    of 0 or less gives as many as there are, up to 10000.
    """
    rows = await system.login_attempts(*admin_of(call), accountName, limit)
    return [login_attempt(row) for row in rows]


def login_attempt(row: system.LoginAttempts) -> types.LoginAttempt:
    """A row of the store in the form of the API."""
    return types.LoginAttempt(
        key=row.key,
        last=time_of(row.last),
        first=time_of(row.first),
        count=row.count,
        account_name=row.account,
        login_address=row.login_address,
        remote_ip=row.remote_ip,
        local_ip=row.local_ip,
        tls=row.tls,
        tls_pub_key_fingerprint=row.fingerprint,
        protocol=row.protocol,
        user_agent=row.user_agent,
        auth_mech=row.auth_mech,
        result=types.AuthResult(row.result),
    )


@registry.function(reads=True)
async def AuditLog(call: Call, filter: types.AuditFilter) -> list[types.AuditEntry]:
    """What was changed, by whom: by this API, the account API, commands and edits of files.

    Latest first, at most 1000 at a time.
    """
    return await audit_entries(*admin_of(call), filter)
