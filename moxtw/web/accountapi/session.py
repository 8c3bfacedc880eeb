"""Logging in and out."""

from __future__ import annotations

from moxtw.admin import system
from moxtw.web.accountapi.base import AccountAPI, registry
from moxtw.web.admintypes import CSRFToken
from moxtw.web.rpc import Call


@registry.function(open=True, any_form=True)
async def LoginPrep(call: Call) -> str:
    """Begin a login: returns a token, also set as a cookie, good for 30 seconds."""
    api: AccountAPI = call.context
    return api.auth.prep(call)


@registry.function(open=True)
async def Login(call: Call, loginToken: str, username: str, password: str) -> CSRFToken:
    """Log in with a token of LoginPrep: sets the session cookie, returns the CSRF token.

    The user name is an address of the account.
    """
    api: AccountAPI = call.context
    return CSRFToken(await api.auth.login(call, loginToken, username, password))


@registry.function()
async def Logout(call: Call) -> None:
    """End the session."""
    api: AccountAPI = call.context
    await api.auth.logout(call)


@registry.function("version", "goos", "goarch", reads=True)
async def Version(call: Call) -> tuple[str, str, str]:
    """The version of the server, its operating system and architecture."""
    return system.version()
