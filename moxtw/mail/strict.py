"""Whether a message is well-formed, for those who want to know what their program sends.

Everything else here makes the best of any message (`moxtw.mail.mime`); this tells what it had to
be good at guessing for.
"""

from __future__ import annotations

import re
from typing import Final

from moxtw.mail.header import parse_headers
from moxtw.mail.mime import Buffer, Part, as_bytes, is_content_type, parse_message

# A line of a header section that is no field, no continuation, and not the empty one at the end.
_BAD_LINE: Final = re.compile(rb"\A[ \t]|^(?![!-9;-~]++[ \t]*+:|[ \t]|\r?$)[^\n]*", re.MULTILINE)


def fault(buf: Buffer) -> str:
    """What is wrong with the form of a message and its parts, empty if nothing is.

    Text without any header is no fault. The time is linear in the size of the message, for each
    level of parts.
    """
    data = as_bytes(buf)
    for part in parse_message(data).walk():
        found = _header_fault(part, data)
        if not found and part.media_type == "multipart":
            found = _multipart_fault(part, data)
        if found:
            return found
    return ""


def _header_fault(part: Part, data: bytes) -> str:
    section = data[part.header_start : part.body_start]
    bad = _BAD_LINE.search(section)
    if bad is not None:
        line = bad[0][:60].decode("utf-8", "backslashreplace")
        return f"malformed header line {line!r}"
    value = parse_headers(section).raw(b"content-type")
    if value is not None and not is_content_type(value):
        return f"malformed Content-Type {value[:60].decode('utf-8', 'backslashreplace')!r}"
    return ""


def _multipart_fault(part: Part, data: bytes) -> str:
    boundary = (part.boundary or "").rstrip().encode()
    if not boundary:
        return "multipart without boundary parameter"
    end = re.compile(rb"^--%b--[ \t]*+\r?$" % re.escape(boundary), re.MULTILINE)
    if end.search(data, part.body_start, part.body_end) is None:
        return "multipart without closing boundary"
    return ""
