"""Authentication-Results fields that came with a message and claim to be ours (RFC 8601 5).

What our server found stands under its name. Whoever can put that name into a message could
otherwise tell programs behind us what we are to have found.
"""

from __future__ import annotations

import re
from typing import Final

from moxtw.mail.domain import Domain
from moxtw.mail.header import iter_fields

_NAME: Final = b"authentication-results"
_ANY: Final = re.compile(rb"^authentication-results", re.IGNORECASE | re.MULTILINE)
# A name of a server comes early in the field.
_LOOKED_AT: Final = 2000


def forged(header: bytes, hostname: Domain) -> list[tuple[int, int]]:
    """Where in a header section fields stand that claim to be of this host: starts and ends."""
    if _ANY.search(header) is None:
        return []
    names = {name.lower() for name in (hostname.ascii, hostname.unicode) if name}
    found = []
    for field in iter_fields(header, 0, len(header)):
        if field.name == _NAME:
            value = header[field.value : min(field.end, field.value + _LOOKED_AT)]
            words, ended = _words(value.decode("utf-8", "replace"))
            # Who puts so much before a name wants it not to be seen.
            if names & words or not ended and len(value) == _LOOKED_AT:
                found.append((field.start, field.end))
    return found


def _words(value: str) -> tuple[set[str], bool]:
    """The words outside of comments, up to the first ";": the authserv-id and a version.

    And whether there is such an end.
    """
    words = [""]
    depth = 0
    ended = False
    quoted = escaped = False
    for char in value:
        if escaped:
            escaped = False
            if not depth:
                words[-1] += char
        elif char == "\\" and (quoted or depth):
            escaped = True
        elif quoted:
            if char == '"':
                quoted = False
            else:
                words[-1] += char
        elif char == "(":
            depth += 1
        elif char == ")" and depth:
            depth -= 1
        elif depth:
            continue
        elif char == '"':
            quoted = True
        elif char == ";":
            ended = True
            break
        elif char in " \t\r\n":
            words.append("")
        else:
            words[-1] += char
    return {word.lower().removesuffix(".") for word in words if word}, ended
