"""Logging in and out."""

from __future__ import annotations

from moxtw.web.adminapi.base import AdminAPI, registry
from moxtw.web.admintypes import CSRFToken
from moxtw.web.rpc import Call


@registry.function(open=True, any_form=True)
async def LoginPrep(call: Call) -> str:
    """Begin a login: returns a token, also set as a cookie, good for 30 seconds."""
    api: AdminAPI = call.context
    return api.auth.prep(call)


@registry.function(open=True)
async def Login(call: Call, loginToken: str, password: str) -> CSRFToken:
    """Log in with a token of LoginPrep: sets the session cookie, returns the CSRF token."""
    api: AdminAPI = call.context
    return CSRFToken(await api.auth.login(call, loginToken, "", password))


@registry.function()
async def Logout(call: Call) -> None:
    """End the session."""
    api: AdminAPI = call.context
    await api.auth.logout(call)
