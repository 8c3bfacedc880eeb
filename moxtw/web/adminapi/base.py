"""What the functions of the admin API share: their registry and their context."""

from __future__ import annotations

from dataclasses import dataclass

from moxtw.admin.context import AdminContext, Caller
from moxtw.web.rpc import Call, Registry
from moxtw.web.sessions import ADMIN_ACCOUNT, WebAuth

registry = Registry(
    "Admin",
    "moxadmin",
    "Administration of the server. Call a function with POST of "
    '{"params": [...]} to its name below api/, content type application/json. After '
    "LoginPrep and Login, calls need the session cookie, and the token that Login returned in "
    "header x-mox-csrf.",
)


@dataclass(frozen=True, slots=True)
class AdminAPI:
    """The context of calls: operations, and logins."""

    admin: AdminContext
    auth: WebAuth


def admin_of(call: Call) -> tuple[AdminContext, Caller]:
    """What an operation is called with."""
    api: AdminAPI = call.context
    visit = call.visit
    return api.admin, Caller("webadmin", ADMIN_ACCOUNT, visit.remote_ip, visit.cid)
