"""The commands of the control socket: the same operations as in the admin API.

Filters, sorts and lists of addresses are JSON on one line.
"""

from __future__ import annotations

import base64
import ssl
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import UTC, datetime
from typing import Final, TypeVar

import msgspec

from moxtw.admin import accounts, aliases, domains, queue, system, tlskeys
from moxtw.admin.context import AdminContext, Caller, not_found, user_error
from moxtw.config.dynamic import Alias
from moxtw.ctl.maintenance import MAINTENANCE
from moxtw.ctl.server import Answer, Command, Lines, Stream
from moxtw.ctl.transfers import TRANSFERS
from moxtw.mail.address import pack_address
from moxtw.queue import api

T = TypeVar("T")


def _json(text: str, kind: type[T], what: str) -> T:
    try:
        return msgspec.json.decode(text, type=kind)
    except (ValueError, RecursionError) as exc:
        raise user_error(f"{what}: {exc}") from exc


def _filter(text: str) -> api.Filter:
    return _json(text, api.Filter, "filter")


def _number(text: str, what: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 19):
        raise user_error(f"{what} {text[:100]!r} is not a number")
    return int(text)


def _bool(text: str) -> bool:
    if text not in ("true", "false"):
        raise user_error(f"{text[:100]!r} is neither true nor false")
    return text == "true"


def _optional_bool(text: str) -> bool | None:
    return None if text == "" else _bool(text)


def _table(titles: str, rows: Sequence[Sequence[str]]) -> bytes:
    """Columns under titles, or that there is nothing."""
    if not rows:
        return b"(none)\n"
    head = titles.split()
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    return "".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        + "\n"
        for row in [head, *rows]
    ).encode()


async def _tables(
    titles: str, pages: AsyncIterator[list[T]], row: Callable[[T], Sequence[str]]
) -> AsyncIterator[bytes]:
    """A table as its rows come; columns get wider if they must."""
    lines: list[Sequence[str]] = [titles.split()]
    widths = [len(title) for title in lines[0]]
    async for page in pages:
        if not page:
            continue
        lines += [row(each) for each in page]
        widths = [
            max(width, *map(len, column))
            for width, column in zip(widths, zip(*lines, strict=True), strict=True)
        ]
        yield "".join(
            "  ".join(
                cell.ljust(width) for cell, width in zip(line, widths, strict=True)
            ).rstrip()
            + "\n"
            for line in lines
        ).encode()
        lines = []
    if lines:
        yield b"(none)\n"


def _time(time: datetime) -> str:
    return time.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _lines(texts: Sequence[str]) -> Stream:
    return Stream("".join(text + "\n" for text in texts).encode())


# The server


async def _stop(ctx: AdminContext, caller: Caller) -> Answer:
    await system.stop(ctx, caller)
    return None


async def _log_levels(ctx: AdminContext, caller: Caller) -> Answer:
    levels = await system.log_levels(ctx, caller)
    return _lines([f"{pkg or '(default)'}: {level}" for pkg, level in sorted(levels.items())])


async def _set_log_levels(ctx: AdminContext, caller: Caller, pkg: str, level: str) -> Answer:
    if level:
        await system.log_level_set(ctx, caller, pkg, level)
    else:
        await system.log_level_remove(ctx, caller, pkg)
    return None


# Accounts


async def _set_password(ctx: AdminContext, caller: Caller, name: str, password: str) -> Answer:
    await accounts.set_password(ctx, caller, name, password)
    return None


async def _account_list(ctx: AdminContext, caller: Caller) -> Answer:
    names, disabled = await accounts.account_list(ctx, caller)
    return _lines([f"{n}\t(login disabled)" if n in disabled else n for n in names])


async def _account_addresses(ctx: AdminContext, caller: Caller, name: str) -> Answer:
    return _lines(await accounts.addresses(ctx, caller, name))


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
            _time(api.timestamp(key.created)),
            key.type,
            key.name,
            "no" if key.no_imap_preauth else "yes",
            key.account,
            key.login_address,
        )
        for key in await tlskeys.key_list(ctx, caller, account)
    ]
    return Stream(_table("FINGERPRINT CREATED TYPE NAME IMAP-PREAUTH ACCOUNT LOGIN-ADDRESS", rows))


async def _key_get(ctx: AdminContext, caller: Caller, fingerprint: str) -> Answer:
    key = await tlskeys.get(ctx, caller, fingerprint)
    pem = ssl.DER_cert_to_PEM_cert(key.cert_der)
    return _lines(
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
        ctx, caller, address, name, cert, no_imap_preauth=not _bool(preauth)
    )
    return Lines([key.fingerprint])


async def _key_remove(ctx: AdminContext, caller: Caller, fingerprint: str) -> Answer:
    await tlskeys.remove(ctx, caller, fingerprint)
    return None


# Domains


async def _domain_add(
    ctx: AdminContext, caller: Caller, disabled: str, name: str, account: str, localpart: str
) -> Answer:
    await domains.add(ctx, caller, name, account, localpart, disabled=_bool(disabled))
    return None


async def _domain_remove(ctx: AdminContext, caller: Caller, name: str) -> Answer:
    await domains.remove(ctx, caller, name)
    return None


async def _domain_disabled(
    ctx: AdminContext, caller: Caller, name: str, disabled: str
) -> Answer:
    await domains.save(ctx, caller, name, disabled=_bool(disabled))
    return None


# Aliases


async def _alias_list(ctx: AdminContext, caller: Caller, domain: str) -> Answer:
    found = await aliases.alias_list(ctx, caller, domain)
    return _lines([pack_address(alias.localpart_str, alias.domain.name) for alias in found])


async def _alias_print(ctx: AdminContext, caller: Caller, address: str) -> Answer:
    alias = await aliases.get(ctx, caller, *aliases.split(address))
    return _lines(
        [
            f"# postpublic {str(alias.post_public).lower()}",
            f"# listmembers {str(alias.list_members).lower()}",
            f"# allowmsgfrom {str(alias.allow_msg_from).lower()}",
            "# members:",
            *alias.addresses,
        ]
    )


async def _alias_add(ctx: AdminContext, caller: Caller, address: str, members: str) -> Answer:
    alias = Alias(addresses=tuple(_json(members, list[str], "addresses")))
    await aliases.add(ctx, caller, *aliases.split(address), alias)
    return None


async def _alias_update(
    ctx: AdminContext, caller: Caller, address: str, public: str, members: str, allow: str
) -> Answer:
    await aliases.update(
        ctx,
        caller,
        *aliases.split(address),
        post_public=_optional_bool(public),
        list_members=_optional_bool(members),
        allow_msg_from=_optional_bool(allow),
    )
    return None


async def _alias_remove(ctx: AdminContext, caller: Caller, address: str) -> Answer:
    await aliases.remove(ctx, caller, *aliases.split(address))
    return None


async def _alias_add_members(
    ctx: AdminContext, caller: Caller, address: str, members: str
) -> Answer:
    addresses = _json(members, list[str], "addresses")
    await aliases.addresses_add(ctx, caller, *aliases.split(address), addresses)
    return None


async def _alias_remove_members(
    ctx: AdminContext, caller: Caller, address: str, members: str
) -> Answer:
    addresses = _json(members, list[str], "addresses")
    await aliases.addresses_remove(ctx, caller, *aliases.split(address), addresses)
    return None


# The queue


def _last_error(row: api.Msg | api.MsgRetired) -> str:
    return row.Results[-1].Error[:200].replace("\n", " ") if row.Results else ""


def _address(localpart: str, domain: str) -> str:
    return pack_address(localpart, domain) if domain or localpart else "<>"


async def _queue_list(ctx: AdminContext, caller: Caller, filter: str, sort: str) -> Answer:
    def row(message: api.Msg) -> Sequence[str]:
        return (
            str(message.ID),
            _time(message.Queued),
            _time(message.NextAttempt),
            "hold" if message.Hold else "",
            str(message.Attempts),
            str(message.Size),
            message.SenderAccount,
            _address(message.SenderLocalpart, message.SenderDomainStr),
            _address(message.RecipientLocalpart, message.RecipientDomainStr),
            message.Transport,
            _last_error(message),
        )

    order = _json(sort, api.Sort, "sort")
    pages = await queue.queued_pages(ctx, caller, _filter(filter), order)
    titles = "ID QUEUED NEXT HOLD TRIES SIZE ACCOUNT FROM TO TRANSPORT LAST-RESULT"
    return Stream(_tables(titles, pages, row))


async def _queue_retired_list(
    ctx: AdminContext, caller: Caller, filter: str, sort: str
) -> Answer:
    def row(message: api.MsgRetired) -> Sequence[str]:
        return (
            str(message.ID),
            _time(message.Queued),
            _time(message.LastActivity),
            "ok" if message.Success else "failed",
            str(message.Attempts),
            str(message.Size),
            message.SenderAccount,
            _address(message.SenderLocalpart, message.SenderDomainStr),
            _address(message.RecipientLocalpart, message.RecipientDomainStr),
            _last_error(message),
        )

    wanted = _json(filter, api.RetiredFilter, "filter")
    order = _json(sort, api.RetiredSort, "sort")
    pages = await queue.retired_pages(ctx, caller, wanted, order)
    titles = "ID QUEUED LAST RESULT TRIES SIZE ACCOUNT FROM TO LAST-RESULT"
    return Stream(_tables(titles, pages, row))


async def _queue_retired_print(ctx: AdminContext, caller: Caller, number: str) -> Answer:
    wanted = api.RetiredFilter(IDs=[_number(number, "id")])
    found = await queue.retired(ctx, caller, wanted, api.RetiredSort())
    if not found:
        raise not_found(f"no retired message {number}")
    data = msgspec.json.format(msgspec.json.encode(found[0]), indent=2)
    return Stream(data + b"\n")


async def _queue_hold_set(ctx: AdminContext, caller: Caller, filter: str, hold: str) -> Answer:
    return _count(await queue.set_hold(ctx, caller, _filter(filter), _bool(hold)))


async def _queue_schedule(
    ctx: AdminContext, caller: Caller, filter: str, relative: str, duration: str
) -> Answer:
    if relative not in ("", "now"):
        raise user_error(f"{relative[:100]!r} is neither now nor empty")
    count = await queue.schedule(
        ctx, caller, _filter(filter), duration, from_now=relative == "now"
    )
    return _count(count)


async def _queue_transport(
    ctx: AdminContext, caller: Caller, filter: str, transport: str
) -> Answer:
    return _count(await queue.set_transport(ctx, caller, _filter(filter), transport))


async def _queue_require_tls(
    ctx: AdminContext, caller: Caller, filter: str, value: str
) -> Answer:
    require = _optional_bool(value)
    return _count(await queue.set_require_tls(ctx, caller, _filter(filter), require))


async def _queue_fail(ctx: AdminContext, caller: Caller, filter: str) -> Answer:
    return _count(await queue.fail(ctx, caller, _filter(filter)))


async def _queue_drop(ctx: AdminContext, caller: Caller, filter: str) -> Answer:
    return _count(await queue.drop(ctx, caller, _filter(filter)))


async def _queue_dump(ctx: AdminContext, caller: Caller, number: str) -> Answer:
    return Stream(await queue.dump(ctx, caller, _number(number, "id")))


def _count(number: int) -> Lines:
    return Lines([str(number)])


async def _hold_rules_list(ctx: AdminContext, caller: Caller) -> Answer:
    rows = [
        (str(r.ID), r.Account or "*", r.SenderDomainStr or "*", r.RecipientDomainStr or "*")
        for r in await queue.hold_rules(ctx, caller)
    ]
    return Stream(_table("ID ACCOUNT SENDER-DOMAIN RECIPIENT-DOMAIN", rows))


async def _hold_rules_add(
    ctx: AdminContext, caller: Caller, account: str, sender: str, recipient: str
) -> Answer:
    rule = await queue.hold_rule_add(ctx, caller, account, sender, recipient)
    return Lines([str(rule.ID)])


async def _hold_rules_remove(ctx: AdminContext, caller: Caller, number: str) -> Answer:
    await queue.hold_rule_remove(ctx, caller, _number(number, "id"))
    return None


COMMANDS: Final[dict[str, Command]] = {
    "stop": Command(_stop, 0),
    **MAINTENANCE,
    **TRANSFERS,
    "loglevels": Command(_log_levels, 0),
    "setloglevels": Command(_set_log_levels, 2),
    "setaccountpassword": Command(_set_password, 2),
    "accountlist": Command(_account_list, 0),
    "accountaddresses": Command(_account_addresses, 1),
    "accountadd": Command(_account_add, 2),
    "accountrm": Command(_account_remove, 1),
    "accountdisabled": Command(_account_disabled, 2),
    "accountenable": Command(_account_enable, 1),
    "addressadd": Command(_address_add, 2),
    "addressrm": Command(_address_remove, 1),
    "addressaccount": Command(_address_account, 1),
    "tlspubkeylist": Command(_key_list, 1),
    "tlspubkeyget": Command(_key_get, 1),
    "tlspubkeyadd": Command(_key_add, 4),
    "tlspubkeyrm": Command(_key_remove, 1),
    "domainadd": Command(_domain_add, 4),
    "domainrm": Command(_domain_remove, 1),
    "domaindisabled": Command(_domain_disabled, 2),
    "aliaslist": Command(_alias_list, 1),
    "aliasprint": Command(_alias_print, 1),
    "aliasadd": Command(_alias_add, 2),
    "aliasupdate": Command(_alias_update, 4),
    "aliasrm": Command(_alias_remove, 1),
    "aliasaddaddr": Command(_alias_add_members, 2),
    "aliasrmaddr": Command(_alias_remove_members, 2),
    "queuelist": Command(_queue_list, 2),
    "queueretiredlist": Command(_queue_retired_list, 2),
    "queueretiredprint": Command(_queue_retired_print, 1),
    "queueholdset": Command(_queue_hold_set, 2),
    "queueschedule": Command(_queue_schedule, 3),
    "queuetransport": Command(_queue_transport, 2),
    "queuerequiretls": Command(_queue_require_tls, 2),
    "queuefail": Command(_queue_fail, 1),
    "queuedrop": Command(_queue_drop, 1),
    "queuedump": Command(_queue_dump, 1),
    "queueholdruleslist": Command(_hold_rules_list, 0),
    "queueholdrulesadd": Command(_hold_rules_add, 3),
    "queueholdrulesremove": Command(_hold_rules_remove, 1),
}
