"""Bytes of mail into text, whatever charset they claim to have (RFC 2045 5.2, RFC 2978)."""

from __future__ import annotations

import codecs
import re
from encodings.aliases import aliases
from functools import lru_cache
from typing import Final

# Names that mail uses and Python does not know, and names whose senders mean the superset
# (as the WHATWG encoding standard has it).
_NAMES: Final = {
    "ascii": "cp1252",
    "us_ascii": "cp1252",
    "ansi_x3_4_1968": "cp1252",
    "iso_8859_1": "cp1252",
    "iso8859_1": "cp1252",
    "latin1": "cp1252",
    "latin_1": "cp1252",
    "iso_8859_8_i": "iso8859_8",
    "iso_8859_8_e": "iso8859_8",
    "iso_8859_9": "cp1254",
    "tis_620": "cp874",
    "iso_8859_11": "cp874",
    "gb2312": "gb18030",
    "gbk": "gb18030",
    "x_gbk": "gb18030",
    "gb_2312_80": "gb18030",
    "euc_cn": "gb18030",
    "x_sjis": "cp932",
    "shift_jis": "cp932",
    "sjis": "cp932",
    "windows_31j": "cp932",
    "x_euc_jp": "euc_jp",
    "euc_kr": "cp949",
    "ks_c_5601_1987": "cp949",
    "ks_c_5601": "cp949",
    "ksc5601": "cp949",
    "big5": "big5hkscs",
    "x_mac_roman": "mac_roman",
    "macintosh": "mac_roman",
    "unicode_1_1_utf_7": "utf_7",
    "unicode_1_1_utf_8": "utf_8",
    "x_windows_1252": "cp1252",
}
_LOOKALIKES: Final = re.compile(r"(?:x_)?(?:windows|cp|win)_?(\d{3,4})")

# Only names out of Python's own table reach codecs.lookup: it would search the disk for any
# other, and remember each for ever. The ones left out are no charsets, or slow by design.
_NO_CHARSETS: Final = frozenset(
    (
        "base64_codec",
        "bz2_codec",
        "hex_codec",
        "idna",
        "mbcs",
        "oem",
        "punycode",
        "quopri_codec",
        "raw_unicode_escape",
        "rot_13",
        "undefined",
        "unicode_escape",
        "uu_codec",
        "zlib_codec",
    )
)
_PYTHON_NAMES: Final = (
    frozenset(set(aliases) | set(aliases.values()))
    - {name for name, codec in aliases.items() if codec in _NO_CHARSETS}
    - _NO_CHARSETS
)
_SEPARATORS: Final = re.compile(r"[^0-9a-z]+")
_ASCII: Final = bytes(range(128))


@lru_cache(maxsize=256)
def _codec(charset: str) -> tuple[str, bool]:
    """Python's name of the codec, "" if there is none, and whether ASCII bytes stand for ASCII."""
    name = _SEPARATORS.sub("_", charset.lower()).strip("_")
    name = _NAMES.get(name, name)
    if name not in _PYTHON_NAMES and (match := _LOOKALIKES.fullmatch(name)):
        name = "cp" + match[1]
    if name not in _PYTHON_NAMES:
        return "", True
    name = codecs.lookup(name).name
    if name.startswith("iso2022"):
        return name, False  # After an escape sequence, ASCII bytes mean something else.
    try:
        return name, _ASCII.decode(name) == _ASCII.decode("ascii")
    except UnicodeError:
        return name, False


def is_known(charset: str) -> bool:
    """Whether text in `charset` can be decoded as such."""
    return len(charset) <= 64 and _codec(charset)[0] != ""


def is_ascii_superset(charset: str | None) -> bool:
    """Whether bytes below 0x80 mean ASCII in `charset`; also for unknown charsets."""
    return charset is None or len(charset) > 64 or _codec(charset)[1]


def guess(data: bytes) -> str:
    """Text of undeclared charset: UTF-8 if it is that, else Windows-1252."""
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as exc:
        # A character cut off at the end does not speak against UTF-8.
        if exc.start >= len(data) - 3 and exc.start > 0 and not data[: exc.start].isascii():
            return data.decode("utf-8", "replace")
    return data.decode("cp1252", "replace")


def decode(data: bytes, charset: str | None) -> str:
    """`data` as text, never failing: what does not fit becomes U+FFFD.

    Without a (known) charset, and for 8-bit text that claims to be ASCII, the charset is guessed.
    The result has no surrogates.
    """
    if charset is None or len(charset) > 64:
        return guess(data)
    name, superset = _codec(charset)
    if superset and data.isascii():
        return data.decode("ascii")
    if not name or name == "cp1252":
        # Much that calls itself ASCII, Latin-1 or Windows-1252 is UTF-8, never by chance.
        return guess(data)
    try:
        text = data.decode(name, "replace")
    except (UnicodeError, ValueError):  # Some codecs do not take "replace" everywhere.
        return guess(data)
    if name == "utf-7":
        text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text
