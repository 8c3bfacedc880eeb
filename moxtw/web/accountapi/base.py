"""What the functions of the account API share: their registry, and for whom they work."""

from __future__ import annotations

from dataclasses import dataclass

from moxtw.admin.context import AdminContext, Caller
from moxtw.web.rpc import Call, Registry
from moxtw.web.sessions import Session, WebAuth
from moxtw.web.storedsessions import digest

registry = Registry(
    "Account",
    "moxaccount",
    "Settings of the own account. Call a function with POST of "
    '{"params": [...]} to its name below api/, content type application/json. After '
    "LoginPrep and Login, calls need the session cookie, and the token that Login returned in "
    "header x-mox-csrf.",
)


@dataclass(frozen=True, slots=True)
class AccountAPI:
    """The context of calls: operations, and logins."""

    admin: AdminContext
    auth: WebAuth


def own(call: Call) -> tuple[AdminContext, Caller, str]:
    """What an operation is called with, the account's name last."""
    api: AccountAPI = call.context
    session: Session = call.session
    visit = call.visit
    caller = Caller("webaccount", session.account, visit.remote_ip, visit.cid)
    return api.admin, caller, session.account


def session_digest(call: Call) -> bytes:
    """What tells the session of the call from others of the account."""
    session: Session = call.session
    return digest(session.token)
