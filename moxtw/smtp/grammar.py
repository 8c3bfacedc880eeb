"""The arguments of SMTP commands (RFC 5321 4.1.2, RFC 6531 3.3 and the extensions' own).

Each function takes the text behind the verb, including the space that stands between, and
raises `SMTPError` with the reply for what is wrong with it. Mere bad syntax is a
`GrammarError`, which also has the text that was not understood, for those who may be told.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from moxtw.mail import dsnrequest
from moxtw.mail.address import (
    MAX_PATH,
    AddressError,
    IPDomain,
    Path,
    scan_ipdomain,
    scan_mailbox,
    scan_path,
)
from moxtw.smtp.reply import SMTPError

# RFC 5321 4.1.2 esmtp-keyword and esmtp-value; RFC 6531 3.3 adds UTF-8 to the latter.
_PARAMETER: Final = re.compile(r"([A-Za-z0-9][A-Za-z0-9-]*)(?:=([!-<>-~\u00a0-\U0010ffff]+))?")
_DIGITS: Final = re.compile(r"[0-9]+")
_CHUNK: Final = re.compile(r" ([0-9]{1,20})( LAST)?", re.IGNORECASE)
_MECHANISM: Final = re.compile(r"[A-Za-z0-9_-]{1,32}")
_RFC3339: Final = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d{1,9})?[Zz]")

MAX_PARAMETERS: Final = 16

# Parameters of MAIL, with whether they have a value (RFC 1870, 6152, 4954, 6531, 8689, 4865,
# 3461).
_MAIL_PARAMETERS: Final = {
    "SIZE": True,
    "BODY": True,
    "AUTH": True,
    "SMTPUTF8": False,
    "REQUIRETLS": False,
    "HOLDFOR": True,
    "HOLDUNTIL": True,
    "RET": True,
    "ENVID": True,
}
# Of RCPT (RFC 3461).
_RCPT_PARAMETERS: Final = ("NOTIFY", "ORCPT")
_SUBMISSION_PARAMETERS: Final = ("HOLDFOR", "HOLDUNTIL")


class GrammarError(SMTPError):
    """A command with bad syntax; `rest` is what could not be parsed."""

    def __init__(self, why: str, rest: str) -> None:
        super().__init__(501, "5.5.2", f"bad syntax: {why}")
        self.why = why
        self.rest = rest


@dataclass(frozen=True, slots=True)
class Mail:
    """The arguments of MAIL. `size` and the others are None when the client gave none.

    hold_for: seconds. hold_until: seconds since the epoch, and the text as given.
    """

    path: Path
    size: int | None = None
    body: str | None = None
    smtputf8: bool = False
    requiretls: bool = False
    hold_for: int | None = None
    hold_until: float | None = None
    hold_until_text: str = ""
    ret: str = ""
    envelope_id: str = ""


@dataclass(frozen=True, slots=True)
class Rcpt:
    """The arguments of RCPT; see `moxtw.mail.dsnrequest.DSNRequest` for the others."""

    path: Path
    notify: int = 0
    original: str = ""


def verb(line: bytes) -> str:
    """The verb of a command line, in upper case; white space at its end is none of it."""
    space = line.find(b" ")
    word = line if space < 0 else line[:space]
    # Only ASCII letters have another case here.
    return word.rstrip(b"\t").upper().decode("utf-8", "backslashreplace")


def arguments(line: bytes) -> str:
    """The text behind the verb, with its space. Raises GrammarError unless UTF-8 (RFC 6531 3.2)."""
    space = line.find(b" ")
    if space < 0:
        space = len(line)
    while space and line[space - 1] == 9:
        space -= 1
    try:
        return line[space:].decode()
    except UnicodeDecodeError:
        raise GrammarError("not utf-8", "") from None


def nothing(args: str, *, trailing: bool = False) -> None:
    """There are no arguments. trailing: space and tab at the end of the line do no harm."""
    _end(args, 0, trailing)


def ehlo(args: str) -> IPDomain:
    """The argument of EHLO and HELO: a domain or an address literal.

    Text behind a literal is let pass, as some clients add their name there.
    """
    if not args.startswith(" "):
        raise GrammarError("expected space and domain or address literal", args)
    pos = 1
    try:
        ipdomain, pos = scan_ipdomain(args, pos)
    except AddressError as exc:
        raise GrammarError(str(exc), args[1:]) from None
    if ipdomain.is_ip and args.startswith(" ", pos):
        return ipdomain
    _end(args, pos, True)
    return ipdomain


def mail(args: str, *, submission: bool, pedantic: bool, trailing: bool) -> Mail:
    """The arguments of MAIL (RFC 5321 4.1.1.2)."""
    path, pos = _path(args, " FROM:", pedantic, null=True, postmaster=False, limit=None)
    if pos == len(args):
        return Mail(path)
    values = _parameters(args, pos, trailing)
    if not values:
        return Mail(path)
    for name, value in values.items():
        wants_value = _MAIL_PARAMETERS.get(name)
        if wants_value is None or (name in _SUBMISSION_PARAMETERS and not submission):
            raise SMTPError(555, "5.3.3", f"unrecognized parameter {name}")
        if wants_value != (value is not None):
            raise GrammarError(f"{'missing' if wants_value else 'unexpected'} value of {name}", "")
    if "HOLDFOR" in values and "HOLDUNTIL" in values:
        raise SMTPError(501, "5.5.4", "cannot use both HOLDFOR and HOLDUNTIL")
    if (auth := values.get("AUTH")) is not None:
        _check_auth(auth)
    until = values.get("HOLDUNTIL")
    return Mail(
        path,
        size=_size(values.get("SIZE")),
        body=_body(values.get("BODY")),
        smtputf8="SMTPUTF8" in values,
        requiretls="REQUIRETLS" in values,
        hold_for=_hold_for(values.get("HOLDFOR")),
        hold_until=_hold_until(until),
        hold_until_text=until or "",
        ret=_dsn(dsnrequest.parse_ret, "RET", values),
        envelope_id=_dsn(dsnrequest.parse_envelope_id, "ENVID", values),
    )


def rcpt(args: str, *, pedantic: bool, trailing: bool) -> Rcpt:
    """The arguments of RCPT (RFC 5321 4.1.1.3)."""
    path, pos = _path(args, " TO:", pedantic, null=False, postmaster=True, limit=MAX_PATH)
    if pos == len(args):
        return Rcpt(path)
    values = _parameters(args, pos, trailing)
    for name, value in values.items():
        if name not in _RCPT_PARAMETERS:
            raise SMTPError(555, "5.3.3", f"unrecognized parameter {name}")
        if value is None:
            raise GrammarError(f"missing value of {name}", "")
    notify = values.get("NOTIFY")
    try:
        return Rcpt(
            path,
            0 if notify is None else dsnrequest.parse_notify(notify),
            _dsn(dsnrequest.parse_original, "ORCPT", values),
        )
    except ValueError as exc:
        raise SMTPError(501, "5.5.4", f"NOTIFY: {exc}") from None


def _dsn(
    parse: Callable[[str], str], name: str, values: Mapping[str, str | None]
) -> str:
    value = values.get(name)
    if value is None:
        return ""
    try:
        return parse(value)
    except ValueError as exc:
        raise SMTPError(501, "5.5.4", f"{name}: {exc}") from None


def bdat(args: str, *, trailing: bool) -> tuple[int, bool]:
    """The arguments of BDAT (RFC 3030 2): bytes of the chunk, and whether it is the last."""
    match = _CHUNK.match(args)
    if match is None:
        raise GrammarError("expected size of chunk", args)
    _end(args, match.end(), trailing)
    return int(match[1]), match[2] is not None


def auth(args: str, *, pedantic: bool, trailing: bool) -> tuple[str, str | None]:
    """The arguments of AUTH (RFC 4954 4): mechanism in upper case, initial response or None.

    The response is still in base64; an empty one is written "=".
    """
    match = _MECHANISM.match(args, 1) if args.startswith(" ") else None
    if match is None:
        raise GrammarError("expected space and mechanism", args)
    rest = args[match.end() :]
    if trailing and not rest.strip(" \t"):
        rest = ""
    if not rest:
        return match[0].upper(), None
    if not rest.startswith(" "):
        raise GrammarError("expected space", rest)
    initial = rest[1:] if pedantic else rest.lstrip(" ")
    if not initial:
        raise GrammarError("empty initial response", "")
    return match[0].upper(), initial


def decode_base64(text: str) -> bytes:
    """A response of AUTH. Raises GrammarError."""
    try:
        return base64.b64decode(text.encode("ascii"), validate=True)
    except (binascii.Error, UnicodeError):
        raise GrammarError("invalid base64", "") from None


def _path(
    args: str, keyword: str, pedantic: bool, *, null: bool, postmaster: bool, limit: int | None
) -> tuple[Path, int]:
    pos = len(keyword)
    if args[:pos].upper() != keyword:
        raise GrammarError(f"expected {keyword.strip()}", args)
    if not pedantic and args.startswith(" ", pos):
        pos += 1
    try:
        return scan_path(
            args, pos, strict=pedantic, null=null, postmaster=postmaster, limit=limit
        )
    except AddressError as exc:
        raise GrammarError(str(exc), args[pos:]) from None


def _parameters(args: str, pos: int, trailing: bool) -> dict[str, str | None]:
    values: dict[str, str | None] = {}
    end = len(args.rstrip(" \t")) if trailing else len(args)
    while pos < end:
        match = _PARAMETER.match(args, pos + 1) if args[pos] == " " else None
        if match is None:
            raise GrammarError("expected space and parameter", args[pos:])
        name = match[1].upper()
        if name in values:
            raise SMTPError(501, "5.5.4", f"duplicate parameter {name}")
        if len(values) == MAX_PARAMETERS:
            raise SMTPError(501, "5.5.4", "too many parameters")
        values[name] = match[2]
        pos = match.end()
    return values


def _end(args: str, pos: int, trailing: bool) -> None:
    rest = args[pos:]
    if rest and not (trailing and not rest.strip(" \t")):
        raise GrammarError("unexpected text", rest)


def _size(value: str | None) -> int | None:
    """RFC 1870 3: up to 20 digits."""
    if value is None:
        return None
    if len(value) > 20 or not _DIGITS.fullmatch(value):
        raise GrammarError("bad number for SIZE", value)
    return int(value)


def _body(value: str | None) -> str | None:
    """RFC 6152 2, RFC 3030 3."""
    if value is None:
        return None
    if (upper := value.upper()) not in ("7BIT", "8BITMIME", "BINARYMIME"):
        raise SMTPError(555, "5.5.4", "unrecognized value for BODY")
    return upper


def _check_auth(value: str) -> None:
    """RFC 4954 5: xtext of a mailbox, or <>. It is of no use to us."""
    if value == "<>":
        return
    try:
        text = dsnrequest.decode_xtext(value).encode("latin-1", "replace")
    except ValueError:
        raise GrammarError("bad xtext for AUTH", value) from None
    try:
        mailbox = text.decode()
        _, end = scan_mailbox(mailbox, 0)
    except (AddressError, UnicodeDecodeError):
        raise GrammarError("bad address for AUTH", value) from None
    if end != len(mailbox):
        raise GrammarError("bad address for AUTH", value)


def _hold_for(value: str | None) -> int | None:
    """RFC 4865 4: up to 9 digits, not zero."""
    if value is None:
        return None
    if len(value) > 9 or not _DIGITS.fullmatch(value) or int(value) == 0:
        raise SMTPError(554, "5.5.4", "bad number of seconds for HOLDFOR")
    return int(value)


def _hold_until(value: str | None) -> float | None:
    """RFC 4865 4: an RFC 3339 time, in UTC."""
    if value is None:
        return None
    match = _RFC3339.fullmatch(value)
    if match is None:
        raise SMTPError(554, "5.5.4", "bad time for HOLDUNTIL: want RFC 3339 with Z")
    try:
        whole = datetime.fromisoformat(value[:19].upper() + "+00:00")
    except ValueError:
        raise SMTPError(554, "5.5.4", "bad time for HOLDUNTIL: no such time") from None
    return whole.timestamp() + float(match[1] or 0)
