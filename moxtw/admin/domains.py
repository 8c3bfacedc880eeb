"""Operations on domains."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from moxtw.admin import keys
from moxtw.admin.accounts import check_unused
from moxtw.admin.context import (
    AdminContext,
    Caller,
    OperationError,
    log,
    looked_up,
    not_found,
    user_error,
)
from moxtw.config import edit
from moxtw.config.clientconfig import ClientConfigEntry, client_config_entries
from moxtw.config.defaults import DKIM_EXPIRATION, default_domain
from moxtw.config.duration import Duration
from moxtw.config.dynamic import (
    DKIM,
    Alias,
    Canonicalization,
    ConfigDomain,
    Route,
    Selector,
)
from moxtw.mail.address import AddressError, parse_address
from moxtw.mail.domain import Domain, DomainError, parse_domain
from moxtw.store import credentials


def parse(name: str) -> Domain:
    """A domain name in any form. Raises OperationError."""
    try:
        return parse_domain(name)
    except DomainError as exc:
        raise user_error(f"bad domain {name[:100]!r}: {exc}") from exc


def get(ctx: AdminContext, name: str) -> ConfigDomain:
    """A configured domain."""
    return looked_up(lambda: edit.find_domain(ctx.config.dynamic, name))


async def domain_list(ctx: AdminContext, caller: Caller) -> list[ConfigDomain]:
    """All configured domains, sorted by name."""
    return [domain for _, domain in sorted(ctx.config.dynamic.domains.items())]


async def localparts(
    ctx: AdminContext, caller: Caller, name: str
) -> tuple[dict[str, str], dict[str, Alias]]:
    """The localparts of a domain with their accounts ('' for the catchall), and its aliases."""
    domain = get(ctx, name)
    found: dict[str, str] = {}
    for account, destinations in ctx.config.dynamic.index.account_destinations.items():
        for destination in destinations:
            if destination.domain == domain.domain:
                found["" if destination.catchall else destination.localpart] = account
    return found, {alias.localpart_str: alias for alias in domain.aliases.values()}


async def add(
    ctx: AdminContext,
    caller: Caller,
    name: str,
    account: str,
    localpart: str = "",
    *,
    disabled: bool = False,
) -> None:
    """Add a domain with new DKIM keys.

    `account` gets its reports; with a `localpart` that is a new account, with that address.
    """
    domain = parse(name)
    dynamic, static = ctx.config.dynamic, ctx.config.static
    now = ctx.clock.seconds()
    mtasts = any(listener.mtasts_https.enabled for listener in static.listeners.values())
    year = time.strftime("%Y", time.gmtime(now))
    files = {
        f"{year}{letter}": keys.dkim_file(f"{year}{letter}", domain.ascii, "rsa", now)
        for letter in "ab"
    }
    config = default_domain(
        domain,
        static.dns_hostname,
        account=account,
        dkim=DKIM(
            selectors={
                selector: Selector(expiration=DKIM_EXPIRATION, private_key_file=file)
                for selector, file in files.items()
            },
            sign=(f"{year}a",),
        ),
        policy_id=keys.timestamp(now) if mtasts else "",
        disabled=disabled,
    )
    # Most mistakes show here, before keys are made.
    looked_up(
        lambda: edit.domain_add(dynamic, name, config, account=account, localpart=localpart)
    )
    if localpart:
        await check_unused(ctx, account)
    paths = [static.directory / file for file in files.values()]
    await _make_keys(ctx, paths, "rsa")
    try:
        await ctx.change(
            lambda current: edit.domain_add(
                current, name, config, account=account, localpart=localpart
            )
        )
    except BaseException:
        await _remove_files(ctx, paths)
        raise
    if localpart:
        await ctx.ensure_accounts()
    ctx.done(caller, "domain added", domain=domain, account=account, disabled=disabled)


async def _make_keys(ctx: AdminContext, paths: Sequence[Path], algorithm: str) -> None:
    made: list[Path] = []

    def work() -> None:
        for path in paths:
            keys.write_private(path, keys.key_pem(keys.make_key(algorithm)))
            made.append(path)

    try:
        await ctx.store.run(work)
    except OSError as exc:
        await _remove_files(ctx, made)
        log.error("writing dkim key", err=exc)
        raise OperationError("server", f"writing dkim key: {exc.strerror or exc}") from exc


async def _remove_files(ctx: AdminContext, paths: Sequence[Path]) -> None:
    def work() -> None:
        for path in paths:
            path.unlink(missing_ok=True)

    try:
        await ctx.store.run(work)
    except OSError as exc:
        log.error("removing dkim keys that are not used", err=exc)


async def _retire_keys(ctx: AdminContext, files: Sequence[str]) -> None:
    """Move keys of removed selectors away, unless another selector uses them too."""
    directory = ctx.config.static.directory
    used = {
        selector.private_key_file
        for domain in ctx.config.dynamic.domains.values()
        for selector in domain.dkim.selectors.values()
    }
    for file in files:
        if file in used:
            continue
        try:
            await ctx.store.run(keys.move_to_old, directory / file)
        except OSError as exc:
            # The domain is gone from the configuration: that is what was asked for.
            log.error("moving dkim key of removed selector", path=file, err=exc)


async def remove(ctx: AdminContext, caller: Caller, name: str) -> None:
    """Remove a domain; its DKIM keys are kept in ``dkim/old``."""
    domain = get(ctx, name)
    for key in await ctx.store.read(credentials.tls_keys):
        try:
            address = parse_address(key.login_address)
        except AddressError:
            continue
        if address.domain == domain.domain:
            raise user_error(
                f"a TLS public key of account {key.account!r} has login address "
                f"{key.login_address}: remove that key first"
            )
    await ctx.change(lambda dynamic: edit.domain_remove(dynamic, name))
    files = [selector.private_key_file for selector in domain.dkim.selectors.values()]
    await _retire_keys(ctx, files)
    ctx.done(caller, "domain removed", domain=domain.domain)


async def save(ctx: AdminContext, caller: Caller, name: str, **changes: object) -> None:
    """Change fields of a domain by their attribute names."""
    await ctx.change(lambda dynamic: edit.domain_save(dynamic, name, **changes))
    ctx.done(caller, "domain changed", domain=name, fields=",".join(changes))


async def save_routes(
    ctx: AdminContext, caller: Caller, name: str, routes: Sequence[Route]
) -> None:
    """Replace the routes of a domain."""
    await save(ctx, caller, name, routes=tuple(routes))


async def save_localparts(
    ctx: AdminContext, caller: Caller, name: str, separators: Sequence[str], case_sensitive: bool
) -> None:
    """Change how localparts of a domain are compared."""
    await ctx.change(
        lambda dynamic: edit.domain_localparts(dynamic, name, separators, case_sensitive)
    )
    ctx.done(caller, "domain localparts changed", domain=name)


async def save_dmarc(
    ctx: AdminContext,
    caller: Caller,
    name: str,
    localpart: str,
    domain: str,
    account: str,
    mailbox: str,
) -> None:
    """Change where DMARC reports about a domain go."""
    await ctx.change(
        lambda dynamic: edit.domain_dmarc_address(
            dynamic, name, localpart, domain, account, mailbox
        )
    )
    ctx.done(caller, "domain dmarc address changed", domain=name)


async def save_tlsrpt(
    ctx: AdminContext,
    caller: Caller,
    name: str,
    localpart: str,
    domain: str,
    account: str,
    mailbox: str,
) -> None:
    """Change where TLS reports about a domain go."""
    await ctx.change(
        lambda dynamic: edit.domain_tlsrpt_address(
            dynamic, name, localpart, domain, account, mailbox
        )
    )
    ctx.done(caller, "domain tlsrpt address changed", domain=name)


async def save_mtasts(
    ctx: AdminContext,
    caller: Caller,
    name: str,
    policy_id: str,
    mode: str,
    max_age: int,
    mx: Sequence[str],
) -> None:
    """Change the MTA-STS policy of a domain; `max_age` in nanoseconds."""
    await ctx.change(
        lambda dynamic: edit.domain_mtasts(dynamic, name, policy_id, mode, max_age, mx)
    )
    ctx.done(caller, "domain mtasts policy changed", domain=name)


async def dkim_add(
    ctx: AdminContext,
    caller: Caller,
    name: str,
    selector: str,
    algorithm: str,
    *,
    hash: str = "",
    header_relaxed: bool = True,
    body_relaxed: bool = True,
    seal: bool = True,
    headers: Sequence[str] = (),
    lifetime: int = 0,
) -> None:
    """Add a DKIM selector with a new key, not used for signing yet.

    `algorithm` is rsa or ed25519, `lifetime` of signatures is in nanoseconds.
    """
    domain = get(ctx, name).domain
    if algorithm not in ("rsa", "ed25519"):
        raise user_error(f"unknown algorithm {algorithm[:100]!r}: rsa or ed25519")
    sel = parse_selector(selector)
    if lifetime < 0:
        raise user_error("lifetime is negative")
    file = keys.dkim_file(sel, domain.ascii, algorithm, ctx.clock.seconds())
    value = Selector(
        hash=hash,
        canonicalization=Canonicalization(
            header_relaxed=header_relaxed, body_relaxed=body_relaxed
        ),
        headers=tuple(headers),
        dont_seal_headers=not seal,
        expiration=str(Duration(lifetime)) if lifetime else "",
        private_key_file=file,
    )
    dynamic = ctx.config.dynamic
    looked_up(lambda: edit.domain_dkim_add(dynamic, name, selector, value))
    path = ctx.config.static.directory / file
    await _make_keys(ctx, [path], algorithm)
    try:
        await ctx.change(lambda current: edit.domain_dkim_add(current, name, selector, value))
    except BaseException:
        await _remove_files(ctx, [path])
        raise
    ctx.done(caller, "dkim selector added", domain=domain, selector=selector)


def parse_selector(selector: str) -> str:
    """A DKIM selector in ASCII form. Raises OperationError."""
    try:
        return parse_domain(selector, strict=False).ascii
    except DomainError as exc:
        raise user_error(f"bad selector {selector[:100]!r}: {exc}") from exc


async def dkim_remove(ctx: AdminContext, caller: Caller, name: str, selector: str) -> None:
    """Remove a DKIM selector; its key is kept in ``dkim/old``."""
    removed = get(ctx, name).dkim.selectors.get(selector)
    await ctx.change(lambda dynamic: edit.domain_dkim_remove(dynamic, name, selector))
    if removed is not None:
        await _retire_keys(ctx, [removed.private_key_file])
    ctx.done(caller, "dkim selector removed", domain=name, selector=selector)


async def dkim_save(
    ctx: AdminContext,
    caller: Caller,
    name: str,
    selectors: Mapping[str, Selector],
    sign: Sequence[str],
) -> None:
    """Change how selectors sign, and which do."""
    await ctx.change(lambda dynamic: edit.domain_dkim_save(dynamic, name, selectors, sign))
    ctx.done(caller, "dkim settings changed", domain=name)


async def client_configs(
    ctx: AdminContext, caller: Caller, name: str
) -> list[ClientConfigEntry]:
    """What mail clients of a domain's users can be set to."""
    domain = parse(name)
    try:
        return client_config_entries(ctx.config, domain)
    except KeyError as exc:
        raise not_found(f"no domain {domain} is configured") from exc
