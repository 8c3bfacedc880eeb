"""SMTP replies on the wire, and the error that carries one (RFC 5321 4.2, RFC 2034)."""

from __future__ import annotations

from typing import Final

# RFC 5321 4.5.3.1.5: a reply line has at most 512 octets with its CRLF. Longer texts are
# folded at a space, looked for from this column on.
_MAX_LINE: Final = 510
_FOLD_FROM: Final = 400


class SMTPError(Exception):
    """A command is refused, with the reply to give.

    code: three digits. secode: enhanced code such as ``5.1.1``, or empty. text: one or more
    lines. close: end the connection behind the reply.
    """

    def __init__(self, code: int, secode: str, text: str, *, close: bool = False) -> None:
        super().__init__(code, secode, text)
        self.code = code
        self.secode = secode
        self.text = text
        self.close = close

    def __str__(self) -> str:
        return f"{self.code} {self.secode} {self.text}"


def format_reply(code: int, secode: str, text: str, cid: str = "") -> bytes:
    """A complete reply with its line ends; several lines of text make a multi-line reply.

    cid: connection id for the end of the last line of an error, in parentheses.
    """
    if cid:
        text = f"{text} ({cid})"
    head = f"{code} {secode} " if secode else f"{code} "
    line = head + text
    if len(line) <= 127 and "\n" not in text:
        # No UTF-8 makes this too long: the way of nearly all replies.
        return line.encode("utf-8", "replace") + b"\r\n"
    rest = f"{secode} ".encode() if secode else b""
    lines: list[bytes] = []
    room = _MAX_LINE - 4 - len(rest)
    for part in text.split("\n"):
        lines.extend(_fold(part.rstrip("\r").encode("utf-8", "replace"), room))
    last = len(lines) - 1
    return b"".join(
        b"%d%c%s%s\r\n" % (code, b" " if i == last else b"-", rest, part)
        for i, part in enumerate(lines)
    )


def _fold(line: bytes, room: int) -> list[bytes]:
    """Cut a text into lines of at most `room` bytes, at spaces where there are some."""
    lines = []
    while len(line) > room:
        at = line.find(b" ", _FOLD_FROM, room)
        if at > 0:
            lines.append(line[:at])
            line = line[at + 1 :]
        else:
            # Not within a UTF-8 character.
            at = room
            while at > room - 4 and line[at] & 0xC0 == 0x80:
                at -= 1
            lines.append(line[:at])
            line = line[at:]
    lines.append(line)
    return lines
