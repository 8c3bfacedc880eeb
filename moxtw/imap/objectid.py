"""Object identifiers (RFC 8474): the store's ids with a letter in front.

The letter keeps the three kinds apart, and ids from looking like numbers (RFC 8474 8.1).
"""

from __future__ import annotations

import re
from typing import Final

from moxtw.imap.errors import Bad
from moxtw.imap.parser import Parser

_OBJECT_ID: Final = re.compile(rb"[A-Za-z0-9_-]{1,255}")
_OURS: Final = re.compile(rb"[A-Z]([1-9][0-9]{0,17})")

EMAIL: Final = b"M"
THREAD: Final = b"T"


def mailbox(mailbox_id: int) -> bytes:
    """MAILBOXID and its value, as in response codes and STATUS (RFC 8474 4)."""
    return b"MAILBOXID (F%d)" % mailbox_id


def parse(p: Parser, kind: bytes) -> int:
    """An object identifier of a kind; 0 for one that this server has not given."""
    given = p.match(_OBJECT_ID, "object identifier")
    if p.pos < len(p.buf) and p.buf[p.pos : p.pos + 1] not in (b" ", b")"):
        raise Bad("object identifier expected")
    ours = _OURS.fullmatch(given)
    return int(ours.group(1)) if ours is not None and given[:1] == kind else 0
