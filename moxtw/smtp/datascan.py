"""The content of a DATA command as a pure state machine: whole chunks in, message bytes out.

RFC 5321 4.5.2 (transparency) and 2.3.8 (only CRLF ends a line). A line that holds nothing but a
dot ends the message only when it stands between two CRLFs. Whatever another server could take
for such an end (a bare CR, or a lone dot next to a bare LF) makes the whole message refused, so
that nobody can smuggle a second message inside of one. The scan still goes on to the proper
end, so that what follows it is read as commands by both sides alike.

Bare LFs elsewhere are kept as line ends and come out as CRLF.
"""

from __future__ import annotations

import re
from typing import Final

# What a chunk can end with while it is open what that means; each is a proper prefix of an
# end marker, a lone dot at a bare LF, or stuffing. Longest first.
_OPEN_TAILS: Final = (b"\r\n.\r", b"\n.\r", b"\r\n.", b"\n.", b"\r\n", b"\n", b"\r")

# Literal prefixes, so that the search runs at the speed of memchr.
_find_dot_line = re.compile(rb"\n\.").search
_find_end = re.compile(rb"\r\n\.\r\n").search
_find_lone_dot = re.compile(rb"\n\.\r?\n").search
_find_bare_cr = re.compile(rb"\r[^\n]").search


class DataScanner:
    """Finds the end of message content, undoes dot-stuffing, and notices smuggling.

    Feed it chunks of any size; the work is linear in their sum. `bad` is set once the content
    must be refused; from then on no output is made. `done` is set at the end marker.
    """

    __slots__ = ("_held", "_start", "bad", "done")

    def __init__(self) -> None:
        # The start counts as after a CRLF (RFC 5321 4.1.1.4), which is not part of the output.
        self._held = b"\r\n"
        self._start = True
        self.bad = False
        self.done = False

    def feed(self, chunk: bytes) -> tuple[bytes, bool, bytes]:
        """Take the next bytes: (message bytes, whether the end was found, bytes after the end).

        Of the message bytes up to four can be held back until the next call.
        """
        if not chunk:
            return b"", self.done, b""
        data = self._held + chunk if self._held else chunk
        rest = b""
        dots = _find_dot_line(data) is not None
        if dots and (end := _find_end(data)) is not None:
            rest = data[end.end() :]
            data = body = data[: end.start() + 2]
            self._held = b""
            self.done = True
        else:
            body = data
            if data.endswith(_OPEN_TAILS):
                held = next(tail for tail in _OPEN_TAILS if data.endswith(tail))
                self._held = held
                body = data[: -len(held)]
            else:
                self._held = b""
        if self.bad:
            return b"", self.done, rest

        bare_lf = False
        if _find_bare_cr(data) is not None:
            self.bad = True
        else:
            # Each CR but an open one at the very end is followed by LF, so more LFs than CRs
            # means bare ones.
            crs = data.count(b"\r") - (data[-1] == 13)
            bare_lf = data.count(b"\n") != crs
            if bare_lf and dots and _find_lone_dot(data) is not None:
                self.bad = True
        if self.bad:
            return b"", self.done, rest
        if dots:
            body = body.replace(b"\r\n.", b"\r\n")
        if bare_lf:
            body = body.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
        if self._start and body:
            # The CRLF before the content. When there is any body at this point, it begins
            # with both bytes: the longest open tail was taken off.
            self._start = False
            body = body[2:]
        return body, self.done, rest
