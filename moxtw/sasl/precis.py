"""Preparing passwords and user names for comparison."""

from __future__ import annotations

import re
import unicodedata
from typing import Final

from precis_i18n import get_profile

MAX_TEXT: Final = 1024
"""Longest password or user name that is looked at, in characters."""

_PRINTABLE_ASCII: Final = re.compile(r"[ -~]+")
_OPAQUE: Final = get_profile("OpaqueString")


class PreparationError(ValueError):
    """Text that the profile does not allow."""


def opaque_string(text: str) -> str:
    """A password by PRECIS OpaqueString, RFC 8265 4.2: other blanks become U+0020, then NFC.

    Raises PreparationError for empty text, control characters, unassigned code points, and
    text beyond MAX_TEXT.
    """
    if len(text) > MAX_TEXT:
        raise PreparationError(f"text longer than {MAX_TEXT} characters")
    if _PRINTABLE_ASCII.fullmatch(text):
        return text
    try:
        prepared: str = _OPAQUE.enforce(text)
    except UnicodeError as exc:
        raise PreparationError("character not allowed") from exc
    return prepared


def username(text: str) -> str:
    """A user name, here a mail address, in NFC."""
    return text if text.isascii() else unicodedata.normalize("NFC", text)
