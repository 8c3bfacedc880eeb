"""The commands, a module for each family of them."""

from __future__ import annotations

from typing import Final

from moxtw.imap import auth
from moxtw.imap.commands import (
    append,
    basic,
    context,
    copy,
    fetch,
    flags,
    idle,
    listing,
    mailbox,
    metadata,
    multisearch,
    notify,
    quota,
    replace,
    search,
    select,
    sort,
    status,
)
from moxtw.imap.registry import Command, collect

COMMANDS: Final[dict[bytes, Command]] = collect(
    family.COMMANDS
    for family in (
        auth,
        basic,
        mailbox,
        listing,
        status,
        quota,
        metadata,
        notify,
        select,
        idle,
        append,
        replace,
        fetch,
        flags,
        copy,
        search,
        multisearch,
        sort,
        context,
    )
)
