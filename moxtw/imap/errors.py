"""What a command can fail with: the reply stands in the exception.

A command raises one of these where the fault is known; the connection turns it into the
tagged reply in one place (RFC 9051 7.1).
"""

from __future__ import annotations


class IMAPError(Exception):
    """A command failed. `text` is shown to people, `code` is a response code without brackets."""

    status = b"NO"

    def __init__(self, text: str, code: bytes | None = None) -> None:
        super().__init__(text)
        self.text = text
        self.code = code

    def reply(self) -> bytes:
        """What follows the status word of the reply, without anything that breaks a line."""
        text = self.text.encode("ascii", "replace")
        text = text.translate(_PRINTABLE)[:500] or b"error"
        if text.endswith(b"}"):
            # What looks like the beginning of a literal makes clients wait for it.
            text += b" (end)"
        return b"[" + self.code + b"] " + text if self.code else text


# A reply is one line of text: control characters become "?".
_PRINTABLE = bytes(c if 32 <= c < 127 else 63 for c in range(256))


class No(IMAPError):
    """The command is fine, and cannot be done (tagged NO)."""


class Bad(IMAPError):
    """The command is not understood or not allowed so (tagged BAD)."""

    status = b"BAD"


class Close(Exception):
    """The connection ends: `lines` are the last that the client gets, without line ends."""

    def __init__(self, *lines: bytes) -> None:
        super().__init__(b" / ".join(lines).decode("ascii", "replace"))
        self.lines = lines
