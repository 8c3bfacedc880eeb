"""The admin API: functions of `moxtw.admin` for the web, under the names of the original."""

from moxtw.web.adminapi import (
    accounts,
    aliases,
    domains,
    hooks,
    queue,
    reports,
    session,
    system,
)
from moxtw.web.adminapi.base import AdminAPI, registry

__all__ = [
    "AdminAPI",
    "accounts",
    "aliases",
    "domains",
    "hooks",
    "queue",
    "registry",
    "reports",
    "session",
    "system",
]
