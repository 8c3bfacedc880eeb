"""The account API: what users do with their own account, under the names of the original."""

from moxtw.web.accountapi import access, session, settings, transfers, webhooks
from moxtw.web.accountapi.base import AccountAPI, registry

__all__ = ["AccountAPI", "access", "registry", "session", "settings", "transfers", "webhooks"]
