"""Commands on accounts, addresses, domains and aliases of the running server."""

from __future__ import annotations

import json
from collections.abc import Sequence

from moxtw.cli.command import UsageError
from moxtw.cli.invocation import Invocation
from moxtw.cli.output import plural


def _do(invocation: Invocation, done: str, command: str, *params: str) -> None:
    """A command without an answer."""
    with invocation.control() as control:
        control.command(command, *params)
    invocation.print(done)


def _show(invocation: Invocation, command: str, *params: str) -> None:
    """A command that answers with lines."""
    with invocation.control() as control:
        control.command(command, *params)
        invocation.write_lines(control.read_text())


# -- Accounts and addresses -------------------------------------------------------------------


def account_list(invocation: Invocation) -> None:
    """``moxtw config account list``."""
    _show(invocation, "accountlist")


def account_addresses(invocation: Invocation) -> None:
    """``moxtw config account addresses``."""
    _show(invocation, "accountaddresses", invocation.args[0])


def account_add(invocation: Invocation) -> None:
    """``moxtw config account add``."""
    account, address = invocation.args
    _do(
        invocation,
        f"Account {account} added, with address {address}. It has no password yet: set one with "
        f'"moxtw setaccountpassword {account}".',
        "accountadd",
        account,
        address,
    )


def account_remove(invocation: Invocation) -> None:
    """``moxtw config account rm``."""
    account = invocation.args[0]
    _do(invocation, f"Account {account} removed, with its mail.", "accountrm", account)


def account_disable(invocation: Invocation) -> None:
    """``moxtw config account disable``."""
    account, message = invocation.args
    if not message:
        raise UsageError("the message must not be empty: it is shown to who tries to log in")
    done = f"Logins to account {account} are refused now, its sessions were ended."
    _do(invocation, done, "accountdisabled", account, message)


def account_enable(invocation: Invocation) -> None:
    """``moxtw config account enable``."""
    account = invocation.args[0]
    _do(invocation, f"Logins to account {account} are possible.", "accountenable", account)


def address_add(invocation: Invocation) -> None:
    """``moxtw config address add``."""
    address, account = invocation.args
    done = f"Address {address} added to account {account}."
    _do(invocation, done, "addressadd", address, account)


def address_remove(invocation: Invocation) -> None:
    """``moxtw config address rm``."""
    address = invocation.args[0]
    _do(invocation, f"Address {address} removed.", "addressrm", address)


def address_account(invocation: Invocation) -> None:
    """``moxtw config address account``."""
    with invocation.control() as control:
        control.command("addressaccount", invocation.args[0])
        invocation.write_lines(control.read_line())


# -- Domains ----------------------------------------------------------------------------------


def domain_add(invocation: Invocation) -> None:
    """``moxtw config domain add``."""
    domain, account = invocation.args[:2]
    localpart = invocation.args[2] if len(invocation.args) > 2 else ""
    disabled = invocation.switch("disabled")
    done = f"Domain {domain} added, with DKIM keys."
    if localpart:
        done += f" New account {account} has address {localpart}@{domain}."
    if disabled:
        done += " The domain is disabled."
    _do(invocation, done, "domainadd", str(disabled).lower(), domain, account, localpart)


def domain_remove(invocation: Invocation) -> None:
    """``moxtw config domain rm``."""
    domain = invocation.args[0]
    _do(invocation, f"Domain {domain} removed. Its DNS records may go too.", "domainrm", domain)


def domain_disable(invocation: Invocation) -> None:
    """``moxtw config domain disable``."""
    domain = invocation.args[0]
    _do(invocation, f"Domain {domain} is disabled.", "domaindisabled", domain, "true")


def domain_enable(invocation: Invocation) -> None:
    """``moxtw config domain enable``."""
    domain = invocation.args[0]
    _do(invocation, f"Domain {domain} is enabled.", "domaindisabled", domain, "false")


# -- Aliases ----------------------------------------------------------------------------------


def _members(addresses: Sequence[str]) -> str:
    return json.dumps(list(addresses))


def alias_list(invocation: Invocation) -> None:
    """``moxtw config alias list``."""
    _show(invocation, "aliaslist", invocation.args[0])


def alias_print(invocation: Invocation) -> None:
    """``moxtw config alias print``."""
    _show(invocation, "aliasprint", invocation.args[0])


def alias_add(invocation: Invocation) -> None:
    """``moxtw config alias add``."""
    alias, *members = invocation.args
    done = f"Alias {alias} added, with {plural(len(members), 'member')}."
    _do(invocation, done, "aliasadd", alias, _members(members))


_SETTINGS = ("postpublic", "listmembers", "allowmsgfrom")


def alias_update(invocation: Invocation) -> None:
    """``moxtw config alias update``."""
    alias = invocation.args[0]
    values = [
        "" if invocation.flags[name] is None else str(invocation.flags[name]).lower()
        for name in _SETTINGS
    ]
    if not any(values):
        raise UsageError("a flag is needed that says what to change")
    _do(invocation, f"Alias {alias} changed.", "aliasupdate", alias, *values)


def alias_remove(invocation: Invocation) -> None:
    """``moxtw config alias rm``."""
    alias = invocation.args[0]
    _do(invocation, f"Alias {alias} removed.", "aliasrm", alias)


def alias_add_members(invocation: Invocation) -> None:
    """``moxtw config alias addaddr``."""
    alias, *members = invocation.args
    done = f"{', '.join(members)} added to alias {alias}."
    _do(invocation, done, "aliasaddaddr", alias, _members(members))


def alias_remove_members(invocation: Invocation) -> None:
    """``moxtw config alias rmaddr``."""
    alias, *members = invocation.args
    done = f"{', '.join(members)} removed from alias {alias}."
    _do(invocation, done, "aliasrmaddr", alias, _members(members))
