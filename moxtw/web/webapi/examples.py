"""The methods in words, with examples: for pages and for the command line."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import msgspec

from moxtw.web.webapi.types import NameAddress, SendRequest, SendResult, Submission


@dataclass(frozen=True, slots=True)
class Example:
    """A method, and what a call of it looks like."""

    name: str
    doc: str
    request: Any
    result: Any


SEND: Final = Example(
    "Send",
    "Compose a message, and queue it for its recipients. Files may be in the JSON, or in form "
    "fields alternativefile, inlinefile and attachedfile.",
    SendRequest(
        From=[NameAddress("Me", "me@example.org")],
        To=[NameAddress("You", "you@example.net")],
        Subject="hello",
        Text="text \u263a\n",
        Extra={"orderid": "1"},
        SaveSent=True,
    ),
    SendResult(
        "<kVTha0Q-a5Zh1MuTh5rUjg@example.org>",
        [Submission("you@example.net", 10, "ZfV16EATHwKEufrSMo055Q")],
    ),
)

EXAMPLES: Final = {SEND.name: SEND}


def indented(value: Any) -> str:
    """A value as JSON over several lines."""
    return msgspec.json.format(msgspec.json.encode(value), indent=2).decode()
