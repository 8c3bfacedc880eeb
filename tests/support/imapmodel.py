"""A client that believes only what it is told, and objects to what a server may not tell.

It keeps the view that a client of RFC 3501, 7162 or 9586 would keep: sequence numbers, UIDs,
flags, modseqs. Everything that the server sends is read by the strict grammar and held against
that view and against the rules of when something may be said.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NoReturn

from tests.support.imapgrammar import Response, ResponseReader

# While these run, sequence numbers may not change (RFC 9051 7.5.1, RFC 5256 3).
STEADY = ("FETCH", "STORE", "SEARCH", "SORT", "THREAD")


class RuleError(AssertionError):
    """The server told what it may not tell, or what cannot be."""


@dataclass(eq=False)
class Known:
    """What a client knows of a message."""

    uid: int = 0
    flags: frozenset[bytes] | None = None
    modseq: int = 0


@dataclass
class Mailbox:
    """The selected mailbox as the client knows it, messages in order."""

    name: str
    messages: list[Known] = field(default_factory=list)
    exists: int = 0
    uidvalidity: int = 0
    uidnext: int = 0
    modseq: int = 0
    readonly: bool = False
    ready: bool = False

    @property
    def uids(self) -> list[int]:
        """UIDs, 0 for those that have not been told."""
        return [message.uid for message in self.messages]


class Model:
    """One session: sends with `send`, takes what comes back in `receive`.

    `tell` is called with bytes for the server.
    """

    def __init__(self, tell: Callable[[bytes], None], name: str = "") -> None:
        self.tell = tell
        self.name = name
        self.reader = ResponseReader()
        self.tags = 0
        # Commands that are not answered yet: tag -> what it is.
        self.running: dict[bytes, str] = {}
        self.idling = False
        self.box: Mailbox | None = None
        self.condstore = self.qresync = self.uidonly = False
        self.answers: list[Response] = []
        self.last: Response | None = None
        self.closed = False
        # UIDs that a SELECT with QRESYNC said have gone.
        self.gone_earlier: set[int] = set()
        self._next_box = Mailbox("")
        self.log: list[tuple[str, bytes]] = []

    def fail(self, text: str) -> NoReturn:
        """Something is wrong."""
        tail = "\n".join(f"{way} {data[:300]!r}" for way, data in self.log[-30:])
        raise RuleError(f"{self.name}: {text}\n{tail}")

    # -- Sending --------------------------------------------------------------------------

    def send(self, command: bytes, *, box: str = "", readonly: bool = False) -> bytes:
        """Send a command; `box` names what a SELECT or EXAMINE in it selects."""
        self.tags += 1
        tag = b"%b%d" % (self.name.encode() or b"t", self.tags)
        words = command.split(b"\r\n")[0].upper().split(b" ", 2)
        name = words[0] if words[0] != b"UID" else b" ".join(words[:2])
        self.running[tag] = name.decode()
        self.answers = []
        if box:
            self._next_box = Mailbox(box, readonly=readonly)
            self.gone_earlier = set()
        self.log.append(("C", tag + b" " + command))
        self.tell(tag + b" " + command + b"\r\n")
        return tag

    def done(self) -> None:
        """End IDLE."""
        self.log.append(("C", b"DONE"))
        self.idling = False
        self.tell(b"DONE\r\n")

    @property
    def busy(self) -> bool:
        """Whether a command is not answered yet (IDLE neither)."""
        return bool(self.running)

    # -- Receiving ------------------------------------------------------------------------

    def receive(self, data: bytes) -> None:
        """Take what the server sends."""
        for response in self.reader.feed(data):
            self.log.append(("S", response.raw))
            del self.log[:-200]
            self.answers.append(response)
            self._take(response)

    def _take(self, response: Response) -> None:
        if response.kind == "+":
            if "IDLE" not in self.running.values():
                self.fail("continuation that nobody waits for")
            self.idling = True
            return
        if response.kind == "tagged":
            self._tagged(response)
            return
        name = response.name
        handler = getattr(self, "_on_" + name.lower().replace("-", "_"), None)
        if handler is not None:
            handler(response)
        if response.code:
            self._code(response)

    def _tagged(self, response: Response) -> None:
        command = self.running.pop(response.tag, None)
        if command is None:
            self.fail("reply to no command")
        self.last = response
        if response.code:
            self._code(response)
        if command in ("SELECT", "EXAMINE"):
            box = self._next_box
            if response.name == "OK":
                if self.box is not box:
                    self.fail("selected without EXISTS")
                box.ready = True
                if len(box.messages) != box.exists:
                    self.fail("number of messages")
                if response.code[:1] != ("READ-ONLY" if box.readonly else "READ-WRITE",):
                    self.fail("access is not told rightly")
            else:
                self.box = None
        elif command in ("CLOSE", "UNSELECT") and response.name == "OK":
            self.box = None

    def _code(self, response: Response) -> None:
        name, *values = response.code
        box = self.box
        if name == "HIGHESTMODSEQ" and box is not None:
            box.modseq = max(box.modseq, values[0])
        elif name == "UIDVALIDITY" and box is not None:
            box.uidvalidity = values[0]
        elif name == "UIDNEXT" and box is not None:
            box.uidnext = values[0]
        elif name == "CLOSED":
            self.box = None
        elif name == "SERVERBUG":
            self.fail("the server has found a bug")

    def _selected(self) -> Mailbox:
        if self.box is None:
            self.fail("nothing is selected")
        return self.box

    def _on_flags(self, response: Response) -> None:
        selecting = [c for c in self.running.values() if c in ("SELECT", "EXAMINE")]
        if selecting and (self.box is None or self.box is not self._next_box):
            self.box = self._next_box

    def _on_exists(self, response: Response) -> None:
        box = self._selected()
        if response.number < box.exists:
            self.fail("fewer messages without EXPUNGE")
        box.exists = response.number
        while len(box.messages) < response.number:
            box.messages.append(Known())

    def _numbers_may_change(self) -> None:
        if not self.running:
            self.fail("removal while no command runs")
        first = next(iter(self.running.values()))
        if first in STEADY:
            self.fail(f"removal while {first} runs")

    def _on_expunge(self, response: Response) -> None:
        box = self._selected()
        self._numbers_may_change()
        if self.qresync or self.uidonly:
            self.fail("EXPUNGE instead of VANISHED")
        if response.number > len(box.messages):
            self.fail("EXPUNGE of a message that is not there")
        del box.messages[response.number - 1]
        box.exists -= 1

    def _on_vanished(self, response: Response) -> None:
        box = self._selected()
        uids = set(response.data["uids"])
        known = {message.uid for message in box.messages if message.uid}
        if response.data["earlier"]:
            # RFC 7162 3.2.10: may name UIDs that the client does not know.
            if not (self.qresync or self.uidonly):
                self.fail("VANISHED without QRESYNC")
            if not box.ready:
                # Answers to QRESYNC: the counts in EXISTS are of now.
                self.gone_earlier |= uids
            elif uids & known:
                self.fail("VANISHED (EARLIER) of messages that are in view")
            return
        if not (self.qresync or self.uidonly):
            self.fail("VANISHED without QRESYNC")
        self._numbers_may_change()
        unknown = uids - known
        before = [message for message in box.messages if message.uid not in uids]
        if unknown:
            nameless = [message for message in before if not message.uid]
            if len(nameless) < len(unknown):
                self.fail(f"VANISHED of unknown messages {sorted(unknown)}")
            # Which of the messages without a UID they are is not known, nor who is where now.
            before = [Known() for _ in range(len(before) - len(unknown))]
        box.messages = before
        box.exists = len(before)

    def _on_fetch(self, response: Response) -> None:
        box = self._selected()
        if self.uidonly:
            self.fail("FETCH after ENABLE UIDONLY")
        if response.number > box.exists:
            self.fail("FETCH of a message that is not there")
        message = box.messages[response.number - 1]
        uid = response.data.get("UID", 0)
        if not uid:
            self.fail("FETCH without UID")
        if message.uid and message.uid != uid:
            self.fail(f"message {response.number} has UID {message.uid}, not {uid}")
        message.uid = uid
        index = response.number - 1
        before = max((m.uid for m in box.messages[:index]), default=0)
        after = [m.uid for m in box.messages[index + 1 :] if m.uid]
        if uid <= before or (after and uid >= min(after)):
            self.fail("UIDs do not ascend")
        self._learn(box, message, response.data)

    def _on_uidfetch(self, response: Response) -> None:
        box = self._selected()
        if not self.uidonly:
            self.fail("UIDFETCH without UIDONLY")
        uid = response.number
        for message in box.messages:
            if message.uid == uid:
                break
        else:
            for message in box.messages:
                if not message.uid:
                    message.uid = uid
                    break
            else:
                self.fail(f"UIDFETCH of a message {uid} that is not there")
            known = sorted(m.uid for m in box.messages if m.uid)
            rest = [m for m in box.messages if not m.uid]
            by_uid = {m.uid: m for m in box.messages if m.uid}
            box.messages = [by_uid[uid] for uid in known] + rest
            message = by_uid[uid]
        self._learn(box, message, response.data)

    def _learn(self, box: Mailbox, message: Known, data: dict[str, Any]) -> None:
        modseq = data.get("MODSEQ", 0)
        if modseq:
            if not self.condstore and "MODSEQ" in data:
                self.fail("MODSEQ without CONDSTORE")
            if modseq < message.modseq:
                self.fail(f"modseq of UID {message.uid} fell to {modseq}")
            message.modseq = modseq
            box.modseq = max(box.modseq, modseq)
        if "FLAGS" in data:
            message.flags = data["FLAGS"]
