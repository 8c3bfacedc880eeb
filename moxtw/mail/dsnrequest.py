"""What a sender wants to be told of a message: the parameters of RFC 3461, and xtext."""

from __future__ import annotations

import re
from enum import IntFlag
from typing import Final

import msgspec

MAX_ENVELOPE_ID: Final = 100
"""Characters of ENVID as xtext, RFC 3461 4.4."""

MAX_ORIGINAL: Final = 500
"""Characters of ORCPT, RFC 3461 4.2."""

_XTEXT: Final = re.compile(r"(?:[!-*,-<>-~]|\+[0-9A-F]{2})*")
_HEX: Final = re.compile(r"\+([0-9A-F]{2})")
_NOT_XCHAR: Final = re.compile(r"[^!-*,-<>-~]")
_TYPE: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`{|}~-]+")
# RFC 6533 3: utf-8-addr-unitext, or xtext of utf-8-addr-xtext.
_UNITEXT: Final = re.compile(r"(?:[!-*,-<>-~\u00a0-\U0010ffff]|\+[0-9A-F]{2})*")
_PRINTABLE: Final = re.compile(r"[ -~]*")


class Notify(IntFlag):
    """When the sender wants a notification (RFC 3461 4.1); 0 if the client did not say."""

    NEVER = 1
    SUCCESS = 2
    FAILURE = 4
    DELAY = 8


class DSNRequest(msgspec.Struct, frozen=True, omit_defaults=True):
    """The request for one recipient.

    ret: ``FULL``, ``HDRS`` or empty. envelope_id: decoded ENVID. notify: `Notify` bits.
    original: the original recipient as ``type;address``, decoded.
    """

    ret: str = ""
    envelope_id: str = ""
    notify: int = 0
    original: str = ""

    @property
    def on_failure(self) -> bool:
        """Whether to tell of failure: unless said otherwise."""
        return not self.notify or bool(self.notify & Notify.FAILURE)

    @property
    def on_delay(self) -> bool:
        """Whether to tell of delay: unless said otherwise."""
        return not self.notify or bool(self.notify & Notify.DELAY)

    @property
    def on_success(self) -> bool:
        """Whether to tell of success: only on request."""
        return bool(self.notify & Notify.SUCCESS)

    def mail_parameters(self) -> str:
        """Parameters of MAIL, with a space before each."""
        text = f" RET={self.ret}" if self.ret else ""
        return text + (f" ENVID={encode_xtext(self.envelope_id)}" if self.envelope_id else "")

    def rcpt_parameters(self, *, utf8: bool) -> str:
        """Parameters of RCPT, with a space before each; utf8: within SMTPUTF8."""
        text = f" NOTIFY={notify_text(self.notify)}" if self.notify else ""
        if self.original:
            kind, _, address = self.original.partition(";")
            if address.isascii() or (utf8 and kind.lower() == "utf-8"):
                text += f" ORCPT={kind};{encode_xtext(address)}"
            elif kind.lower() == "utf-8":
                escaped = "".join(c if c.isascii() else f"\\x{{{ord(c):X}}}" for c in address)
                text += f" ORCPT={kind};{encode_xtext(escaped)}"
        return text


NO_REQUEST: Final = DSNRequest()


def encode_xtext(text: str) -> str:
    """Text as xtext (RFC 3461 4); what is not ASCII stays as it is (RFC 6533 3)."""
    return _NOT_XCHAR.sub(lambda m: m[0] if m[0] > "\x7f" else f"+{ord(m[0]):02X}", text)


def decode_xtext(text: str) -> str:
    """The text that xtext stands for. Raises ValueError."""
    if not _XTEXT.fullmatch(text):
        raise ValueError("bad xtext")
    return _HEX.sub(lambda m: chr(int(m[1], 16)), text)


def notify_text(notify: int) -> str:
    """The value of NOTIFY."""
    if notify & Notify.NEVER:
        return "NEVER"
    return ",".join(bit.name or "" for bit in Notify if notify & bit)


def parse_notify(value: str) -> int:
    """The value of NOTIFY: NEVER alone, or a list of the others. Raises ValueError."""
    notify = 0
    for word in value.upper().split(","):
        bit = Notify.__members__.get(word)
        if bit is None or notify & bit or (notify and Notify.NEVER in (bit, notify)):
            raise ValueError("bad list of conditions")
        notify |= bit
    return notify


def parse_ret(value: str) -> str:
    """The value of RET. Raises ValueError."""
    upper = value.upper()
    if upper not in ("FULL", "HDRS"):
        raise ValueError("must be FULL or HDRS")
    return upper


def parse_envelope_id(value: str) -> str:
    """The value of ENVID: xtext of printable ASCII. Raises ValueError."""
    if len(value) > MAX_ENVELOPE_ID:
        raise ValueError("too long")
    text = decode_xtext(value)
    if not text or not _PRINTABLE.fullmatch(text):
        raise ValueError("must be printable ASCII")
    return text


def parse_original(value: str) -> str:
    """The value of ORCPT: an address type and the address as xtext. Raises ValueError."""
    if len(value) > MAX_ORIGINAL:
        raise ValueError("too long")
    kind, semicolon, address = value.partition(";")
    if not semicolon or not _TYPE.fullmatch(kind):
        raise ValueError("must be an address type and an address")
    if kind.lower() == "utf-8":
        if not _UNITEXT.fullmatch(address):
            raise ValueError("bad address")
        address = _HEX.sub(lambda m: chr(int(m[1], 16)), address)
    else:
        address = decode_xtext(address)
    if not address or not all(c.isprintable() for c in address):
        raise ValueError("bad address")
    return f"{kind};{address}"
