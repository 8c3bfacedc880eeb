"""The commands of the control socket: the same operations as in the admin API.

Lists of addresses are JSON on one line.
"""

from __future__ import annotations

import base64
import ssl
from collections.abc import AsyncIterator, Sequence
from typing import Final, TypeVar

from moxtw.admin import accounts, aliases, domains, system, tlskeys
from moxtw.admin.context import AdminContext, Caller, user_error
from moxtw.config.dynamic import Alias
from moxtw.ctl.maintenance import MAINTENANCE
from moxtw.ctl.queue import QUEUE
from moxtw.ctl.server import Answer, Command, Lines, Stream, Takeover
from moxtw.ctl.texts import (
    bool_of,
    from_json,
    listing,
    optional_bool,
    stamp,
    table,
    text_lines,
)
from moxtw.ctl.transfers import TRANSFERS
from moxtw.mail.address import pack_address
from moxtw.queue import api
from moxtw.web.admintypes import AuditEntry, AuditFilter
from moxtw.web.conversions import audit_entries

T = TypeVar("T")


# The server


async def _stop(ctx: AdminContext, caller: Caller) -> Answer:
    await system.stop(ctx, caller)
    return None


async def _log_levels(ctx: AdminContext, caller: Caller) -> Answer:
    levels = await system.log_levels(ctx, caller)
    return text_lines([f"{pkg or '(default)'}: {level}" for pkg, level in sorted(levels.items())])


async def _set_log_levels(ctx: AdminContext, caller: Caller, pkg: str, level: str) -> Answer:
    if level:
        await system.log_level_set(ctx, caller, pkg, level)
    else:
        await system.log_level_remove(ctx, caller, pkg)
    return None


async def _audit_log(ctx: AdminContext, caller: Caller, filter: str, form: str) -> Answer:
    async def pages() -> AsyncIterator[list[AuditEntry]]:
        yield await audit_entries(ctx, caller, from_json(filter, AuditFilter, "filter"))

    def row(entry: AuditEntry) -> Sequence[str]:
        failed = entry.message and f"{entry.result}: {entry.message}"
        return (
            str(entry.id),
            stamp(entry.time),
            entry.via,
            entry.caller,
            entry.remote_ip,
            entry.operation,
            failed or entry.result or "(not ended)",
            entry.params,
        )

    return await listing(form, "ID TIME VIA CALLER FROM OPERATION RESULT PARAMETERS", pages(), row)


async def _imap_serve(ctx: AdminContext, caller: Caller, address: str) -> Answer:
    """An IMAP session of the account with an address, on this connection."""
    assert ctx.imap is not None
    return Takeover(ctx.imap(await accounts.login_of(ctx, caller, address)))


# Accounts


async def _set_password(ctx: AdminContext, caller: Caller, name: str, password: str) -> Answer:
    await accounts.set_password(ctx, caller, name, password)
    return None


async def _account_list(ctx: AdminContext, caller: Caller) -> Answer:
    names, disabled = await accounts.account_list(ctx, caller)
    return text_lines([f"{n}\t(login disabled)" if n in disabled else n for n in names])


async def _account_addresses(ctx: AdminContext, caller: Caller, name: str) -> Answer:
    return text_lines(await accounts.addresses(ctx, caller, name))


async def _account_add(ctx: AdminContext, caller: Caller, name: str, address: str) -> Answer:
    await accounts.add(ctx, caller, name, address)
    return None


async def _account_remove(ctx: AdminContext, caller: Caller, name: str) -> Answer:
    await accounts.remove(ctx, caller, name)
    return None


async def _account_disabled(
    ctx: AdminContext, caller: Caller, name: str, message: str
) -> Answer:
    if not message:
        raise user_error("a message is needed for who tries to log in")
    await accounts.save_login_disabled(ctx, caller, name, message)
    return None


async def _account_enable(ctx: AdminContext, caller: Caller, name: str) -> Answer:
    await accounts.save_login_disabled(ctx, caller, name, "")
    return None


async def _address_add(ctx: AdminContext, caller: Caller, address: str, name: str) -> Answer:
    await accounts.address_add(ctx, caller, address, name)
    return None


async def _address_remove(ctx: AdminContext, caller: Caller, address: str) -> Answer:
    await accounts.address_remove(ctx, caller, address)
    return None


async def _address_account(ctx: AdminContext, caller: Caller, address: str) -> Answer:
    return Lines([await accounts.address_account(ctx, caller, address)])


# TLS public keys


async def _key_list(ctx: AdminContext, caller: Caller, account: str) -> Answer:
    rows = [
        (
            key.fingerprint,
            stamp(api.timestamp(key.created)),
            key.type,
            key.name,
            "no" if key.no_imap_preauth else "yes",
            key.account,
            key.login_address,
        )
        for key in await tlskeys.key_list(ctx, caller, account)
    ]
    return Stream(table("FINGERPRINT CREATED TYPE NAME IMAP-PREAUTH ACCOUNT LOGIN-ADDRESS", rows))


async def _key_get(ctx: AdminContext, caller: Caller, fingerprint: str) -> Answer:
    key = await tlskeys.get(ctx, caller, fingerprint)
    pem = ssl.DER_cert_to_PEM_cert(key.cert_der)
    return text_lines(
        [
            f"# fingerprint {key.fingerprint}",
            f"# type {key.type}",
            f"# name {key.name}",
            f"# account {key.account}",
            f"# login address {key.login_address}",
            f"# imap preauth {'no' if key.no_imap_preauth else 'yes'}",
            *pem.splitlines(),
        ]
    )


async def _key_add(
    ctx: AdminContext, caller: Caller, address: str, name: str, preauth: str, der: str
) -> Answer:
    try:
        cert = base64.b64decode(der, validate=True)
    except ValueError as exc:
        raise user_error(f"certificate: {exc}") from exc
    key = await tlskeys.add(
        ctx, caller, address, name, cert, no_imap_preauth=not bool_of(preauth)
    )
    return Lines([key.fingerprint])


async def _key_remove(ctx: AdminContext, caller: Caller, fingerprint: str) -> Answer:
    await tlskeys.remove(ctx, caller, fingerprint)
    return None


# Domains


async def _domain_add(
    ctx: AdminContext, caller: Caller, disabled: str, name: str, account: str, localpart: str
) -> Answer:
    await domains.add(ctx, caller, name, account, localpart, disabled=bool_of(disabled))
    return None


async def _domain_remove(ctx: AdminContext, caller: Caller, name: str) -> Answer:
    await domains.remove(ctx, caller, name)
    return None


async def _domain_disabled(
    ctx: AdminContext, caller: Caller, name: str, disabled: str
) -> Answer:
    await domains.save(ctx, caller, name, disabled=bool_of(disabled))
    return None


# Aliases


async def _alias_list(ctx: AdminContext, caller: Caller, domain: str) -> Answer:
    found = await aliases.alias_list(ctx, caller, domain)
    return text_lines([pack_address(alias.localpart_str, alias.domain.name) for alias in found])


async def _alias_print(ctx: AdminContext, caller: Caller, address: str) -> Answer:
    alias = await aliases.get(ctx, caller, *aliases.split(address))
    return text_lines(
        [
            f"# postpublic {str(alias.post_public).lower()}",
            f"# listmembers {str(alias.list_members).lower()}",
            f"# allowmsgfrom {str(alias.allow_msg_from).lower()}",
            "# members:",
            *alias.addresses,
        ]
    )


async def _alias_add(ctx: AdminContext, caller: Caller, address: str, members: str) -> Answer:
    alias = Alias(addresses=tuple(from_json(members, list[str], "addresses")))
    await aliases.add(ctx, caller, *aliases.split(address), alias)
    return None


async def _alias_update(
    ctx: AdminContext, caller: Caller, address: str, public: str, members: str, allow: str
) -> Answer:
    await aliases.update(
        ctx,
        caller,
        *aliases.split(address),
        post_public=optional_bool(public),
        list_members=optional_bool(members),
        allow_msg_from=optional_bool(allow),
    )
    return None


async def _alias_remove(ctx: AdminContext, caller: Caller, address: str) -> Answer:
    await aliases.remove(ctx, caller, *aliases.split(address))
    return None


async def _alias_add_members(
    ctx: AdminContext, caller: Caller, address: str, members: str
) -> Answer:
    addresses = from_json(members, list[str], "addresses")
    await aliases.addresses_add(ctx, caller, *aliases.split(address), addresses)
    return None


async def _alias_remove_members(
    ctx: AdminContext, caller: Caller, address: str, members: str
) -> Answer:
    addresses = from_json(members, list[str], "addresses")
    await aliases.addresses_remove(ctx, caller, *aliases.split(address), addresses)
    return None


COMMANDS: Final[dict[str, Command]] = {
    "stop": Command(_stop, 0),
    **MAINTENANCE,
    **TRANSFERS,
    **QUEUE,
    "auditlog": Command(_audit_log, 2, reads=True),
    "imapserve": Command(_imap_serve, 1),
    "loglevels": Command(_log_levels, 0, reads=True),
    "setloglevels": Command(_set_log_levels, 2),
    "setaccountpassword": Command(_set_password, 2),
    "accountlist": Command(_account_list, 0, reads=True),
    "accountaddresses": Command(_account_addresses, 1, reads=True),
    "accountadd": Command(_account_add, 2),
    "accountrm": Command(_account_remove, 1),
    "accountdisabled": Command(_account_disabled, 2),
    "accountenable": Command(_account_enable, 1),
    "addressadd": Command(_address_add, 2),
    "addressrm": Command(_address_remove, 1),
    "addressaccount": Command(_address_account, 1, reads=True),
    "tlspubkeylist": Command(_key_list, 1, reads=True),
    "tlspubkeyget": Command(_key_get, 1, reads=True),
    "tlspubkeyadd": Command(_key_add, 4),
    "tlspubkeyrm": Command(_key_remove, 1),
    "domainadd": Command(_domain_add, 4),
    "domainrm": Command(_domain_remove, 1),
    "domaindisabled": Command(_domain_disabled, 2),
    "aliaslist": Command(_alias_list, 1, reads=True),
    "aliasprint": Command(_alias_print, 1, reads=True),
    "aliasadd": Command(_alias_add, 2),
    "aliasupdate": Command(_alias_update, 4),
    "aliasrm": Command(_alias_remove, 1),
    "aliasaddaddr": Command(_alias_add_members, 2),
    "aliasrmaddr": Command(_alias_remove_members, 2),
}
