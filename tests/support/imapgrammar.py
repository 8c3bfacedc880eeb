"""A strict reader of what an IMAP server sends (RFC 9051 section 9, and of its extensions).

It shares no code with the program. Whatever is not exactly in the grammar raises GrammarError:
a space too many, an unknown response code, a string that needs a literal, an item said twice.

    reader = ResponseReader()
    for response in reader.feed(data):
        ...
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tests.support.imaptokens import ATOM, FLAG, FetchTokens, GrammarError

_LITERAL_END = re.compile(rb"(~?)\{([0-9]+)\}\Z")
_TAG = re.compile(rb'[^\x00-\x20\x7f-\xff(){%*"\\+]+')
_TEXT = re.compile(rb"[\x01-\x09\x0b\x0c\x0e-\x7f]+")
_PARTIAL = re.compile(rb"-?[1-9][0-9]*:-?[1-9][0-9]*")


@dataclass
class Response:
    """One response. `kind` is ``tagged``, ``untagged`` or ``+``.

    `name` is the upper-case word that says what it is (OK, FETCH, LIST); `number` stands in
    front of some. `code` is the response code with its upper-case name first. `data` depends
    on `name`.
    """

    kind: str
    raw: bytes
    tag: bytes = b""
    name: str = ""
    number: int = 0
    code: tuple[Any, ...] = ()
    text: bytes = b""
    data: Any = None


class ResponseReader:
    """Cuts what a server sends into responses and reads them."""

    def __init__(self, utf8: bool = False) -> None:
        self.utf8 = utf8
        self._buffer = b""
        self._at = 0

    @property
    def rest(self) -> bytes:
        """What is left: the beginning of a response."""
        return self._buffer

    def feed(self, data: bytes) -> list[Response]:
        """Take bytes; the responses that are complete now."""
        self._buffer += data
        found = []
        while (end := self._end()) >= 0:
            raw, self._buffer = self._buffer[:end], self._buffer[end:]
            self._at = 0
            found.append(_Reader(raw, self.utf8).response())
        return found

    def _end(self) -> int:
        """Where the first response ends, -1 if it has not all arrived."""
        while True:
            end = self._buffer.find(b"\r\n", self._at)
            if end < 0:
                return -1
            match = _LITERAL_END.search(self._buffer[max(self._at, end - 30) : end])
            if match is None:
                return end + 2
            after = end + 2 + int(match[2])
            if len(self._buffer) < after:
                return -1
            self._at = after


class _Reader(FetchTokens):
    """A whole response."""

    def response(self) -> Response:
        """The whole."""
        if self.take(b"+ "):
            text = self.raw[self.pos : -2]
            if b"\r" in text or b"\n" in text or b"\0" in text:
                self.fail("one line")
            return Response("+", self.raw, text=text)
        if self.take(b"* "):
            response = self.untagged()
        else:
            tag = self.match(_TAG, "tag")[0]
            self.sp()
            name = self.atom()
            if name not in (b"OK", b"NO", b"BAD"):
                self.fail("OK, NO or BAD")
            response = self.status("tagged", name, tag)
        self.expect(b"\r\n")
        if self.pos != len(self.raw):
            self.fail("end of response")
        return response

    def status(self, kind: str, name: bytes, tag: bytes = b"") -> Response:
        self.sp()
        code: tuple[Any, ...] = ()
        if self.take(b"["):
            code = self.code()
            self.expect(b"]")
            self.sp()
        text = self.match(_TEXT, "text")[0]
        return Response(kind, self.raw, tag, name.decode(), code=code, text=text)

    def code(self) -> tuple[Any, ...]:
        name = self.match(ATOM, "response code")[0].upper().decode()
        if name not in CODES:
            self.fail("known response code")
        arguments = CODES[name]
        return (name, *(arguments(self) if arguments is not None else ()))

    def untagged(self) -> Response:
        if self.raw[self.pos : self.pos + 1].isdigit():
            number = self.number()
            self.sp()
            name = self.atom()
            response = Response("untagged", self.raw, name=name.decode().upper(), number=number)
            if name in (b"FETCH", b"UIDFETCH"):
                self.sp()
                response.data = self.msg_att(name == b"UIDFETCH")
            elif name not in (b"EXISTS", b"RECENT", b"EXPUNGE"):
                self.fail("response after a number")
            if name not in (b"EXISTS", b"RECENT") and not number:
                self.fail("number above 0")
            return response
        name = self.atom()
        if name in (b"OK", b"NO", b"BAD", b"BYE", b"PREAUTH"):
            return self.status("untagged", name)
        read = UNTAGGED.get(name)
        if read is None:
            self.fail("known response")
        return Response("untagged", self.raw, name=name.decode(), data=read(self))

    def words(self) -> list[bytes]:
        found = []
        while self.take(b" "):
            found.append(self.atom())
        return found

    def some_words(self) -> list[bytes]:
        found = self.words()
        if not found:
            self.fail("word")
        return found

    def listed(self) -> dict[str, Any]:
        self.sp()
        attributes = self.items(self.attribute, empty=True)
        self.sp()
        separator = None if self.nil() else self.quoted()
        if separator is not None and len(separator) != 1:
            self.fail("one character")
        self.sp()
        name = self.mailbox()
        more: dict[bytes, Any] = {}
        if self.take(b" "):
            for key, value in self.items(self.list_item):
                if key in more:
                    self.fail("extended item said once")
                more[key] = value
        return {
            "attributes": {attribute.lower() for attribute in attributes},
            "separator": separator,
            "name": name,
            "more": more,
        }

    def attribute(self) -> bytes:
        if not self.peek(b"\\"):
            self.fail("attribute")
        return self.match(FLAG, "attribute")[0]

    def list_item(self) -> tuple[bytes, Any]:
        name = self.astring().upper()
        self.sp()
        if name == b"CHILDINFO":
            return name, self.items(self.string)
        if name == b"OLDNAME":
            self.expect(b"(")
            old = self.mailbox()
            self.expect(b")")
            return name, old
        return self.fail("known extended item of LIST")

    def search(self) -> dict[str, Any]:
        numbers = []
        modseq = 0
        while self.take(b" "):
            if self.take(b"(MODSEQ "):
                modseq = self.number64()
                self.expect(b")")
                break
            numbers.append(self.nz_number())
        return {"numbers": numbers, "modseq": modseq}

    def thread(self) -> list[Any]:
        self.take(b" ")
        found = []
        while self.peek(b"("):
            found.append(self.one_thread())
        return found

    def one_thread(self) -> list[Any]:
        """A thread (RFC 5256 section 5): numbers, then at most one list of branches."""
        self.expect(b"(")
        found: list[Any] = []
        if not self.peek(b"("):
            found.append(self.nz_number())
            while self.take(b" "):
                if self.peek(b"("):
                    break
                found.append(self.nz_number())
        branches = 0
        while self.peek(b"("):
            found.append(self.one_thread())
            branches += 1
        if branches == 1:
            self.fail("more than one branch")
        self.expect(b")")
        return found

    def esearch(self) -> dict[str, Any]:
        found: dict[str, Any] = {"uid": False, "tag": None}
        if self.take(b" ("):
            while True:
                key = self.atom().decode()
                self.sp()
                if key == "TAG":
                    found["tag"] = self.string()
                elif key == "MAILBOX":
                    found["mailbox"] = self.mailbox()
                elif key == "UIDVALIDITY":
                    found["uidvalidity"] = self.nz_number()
                else:
                    self.fail("known correlator")
                if self.take(b")"):
                    break
                self.sp()
        if self.take(b" UID"):
            found["uid"] = True
        while self.take(b" "):
            key = self.atom().decode()
            if key in found and key not in ("ADDTO", "REMOVEFROM"):
                self.fail("each result once")
            self.sp()
            if key in ("MIN", "MAX"):
                found[key] = self.nz_number()
            elif key == "COUNT":
                found[key] = self.number()
            elif key == "MODSEQ":
                found[key] = self.number64()
            elif key == "ALL":
                found[key] = self.sequence_set()
            elif key == "RELEVANCY":
                found[key] = self.items(self.nz_number, empty=True)
            elif key == "PARTIAL":
                self.expect(b"(")
                span = self.match(_PARTIAL, "range")[0]
                self.sp()
                found[key] = (span, None if self.nil() else self.sequence_set())
                self.expect(b")")
            elif key in ("ADDTO", "REMOVEFROM"):
                found.setdefault(key, []).extend(self.items(self.position))
            else:
                self.fail("known result")
        return found

    def position(self) -> tuple[int, list[int]]:
        place = self.number()
        self.sp()
        return place, self.sequence_set()

    def status_items(self) -> dict[str, Any]:
        self.sp()
        found: dict[str, Any] = {"name": self.mailbox()}
        self.sp()

        def item() -> None:
            key = self.atom().decode()
            if key in found:
                self.fail("item once")
            self.sp()
            if key in ("MESSAGES", "UNSEEN", "DELETED", "RECENT"):
                found[key] = self.number()
            elif key in ("UIDNEXT", "UIDVALIDITY"):
                found[key] = self.nz_number()
            elif key in ("SIZE", "DELETED-STORAGE", "HIGHESTMODSEQ"):
                found[key] = self.number64()
            elif key == "APPENDLIMIT":
                found[key] = None if self.nil() else self.number64()
            elif key == "MAILBOXID":
                found[key] = self.object_id()
            else:
                self.fail("known item")

        self.items(item, empty=True)
        return found

    def namespaces(self) -> None:
        for _ in range(3):
            self.sp()
            if self.nil():
                continue
            self.expect(b"(")
            while not self.take(b")"):
                self.expect(b"(")
                self.string()
                self.sp()
                if not self.nil():
                    self.quoted()
                self.expect(b")")

    def id(self) -> Any:
        self.sp()
        if self.nil():
            return None
        found = {}
        self.expect(b"(")
        while True:
            key = self.string()
            self.sp()
            found[key] = self.nstring()
            if self.take(b")"):
                return found
            self.sp()

    def quota(self) -> None:
        self.sp()
        self.astring()
        self.sp()

        def resource() -> None:
            self.atom()
            self.sp()
            self.number64()
            self.sp()
            self.number64()

        self.items(resource, empty=True)

    def quotaroot(self) -> None:
        self.sp()
        self.mailbox()
        while self.take(b" "):
            self.astring()

    def vanished(self) -> dict[str, Any]:
        earlier = self.take(b" (EARLIER)")
        self.sp()
        return {"earlier": earlier, "uids": self.sequence_set()}

    def metadata(self) -> dict[str, Any]:
        self.sp()
        found: dict[str, Any] = {"name": self.mailbox()}
        self.sp()
        if not self.peek(b"("):
            # Entries whose values have changed (RFC 5464 4.4.2).
            found["changed"] = [self.astring()]
            while self.take(b" "):
                found["changed"].append(self.astring())
            return found
        values: dict[bytes, bytes | None] = {}

        def entry() -> None:
            name = self.astring()
            self.sp()
            values[name] = (
                self.literal(eight=True) if self.peek(b"~{") else self.nstring()
            )

        self.items(entry)
        found["values"] = values
        return found


def _argument(*kinds: str) -> Callable[[_Reader], tuple[Any, ...]]:
    def read(reader: _Reader) -> tuple[Any, ...]:
        values = []
        for kind in kinds:
            reader.sp()
            values.append(getattr(reader, kind)())
        return tuple(values)

    return read


def _permanent(reader: _Reader) -> tuple[Any, ...]:
    def flag() -> bytes:
        return b"\\*" if reader.take(b"\\*") else reader.flag()

    reader.sp()
    return (frozenset(item.lower() for item in reader.items(flag, empty=True)),)


def _badcharset(reader: _Reader) -> tuple[Any, ...]:
    return (reader.items(reader.astring),) if reader.take(b" ") else ()


def _badevent(reader: _Reader) -> tuple[Any, ...]:
    reader.sp()
    return (reader.items(reader.atom),)


def _inprogress(reader: _Reader) -> tuple[Any, ...]:
    if not reader.take(b" ("):
        return ()
    tag = None if reader.nil() else reader.quoted()
    reader.sp()
    done = None if reader.nil() else reader.number()
    reader.sp()
    goal = None if reader.nil() else reader.nz_number()
    reader.expect(b")")
    return tag, done, goal


def _metadata_code(reader: _Reader) -> tuple[Any, ...]:
    reader.sp()
    # Without the parentheses of RFC 5464's grammar, as its text and its examples have them.
    word = reader.atom()
    if word in (b"LONGENTRIES", b"MAXSIZE"):
        reader.sp()
        return word.decode(), reader.number()
    if word in (b"TOOMANY", b"NOPRIVATE"):
        return word.decode(), 0
    return reader.fail("known METADATA code")


_PLAIN_CODES = (
    "ALERT", "ALREADYEXISTS", "AUTHENTICATIONFAILED", "AUTHORIZATIONFAILED", "CANNOT",
    "CLIENTBUG", "CLOSED", "COMPRESSIONACTIVE", "CONTACTADMIN", "CORRUPTION", "EXPIRED",
    "EXPUNGEISSUED", "HASCHILDREN", "INUSE", "LIMIT", "NOMODSEQ", "NONEXISTENT", "NOPERM",
    "NOTIFICATIONOVERFLOW", "NOTSAVED", "OVERQUOTA", "PARSE", "PRIVACYREQUIRED",
    "READ-ONLY", "READ-WRITE", "SERVERBUG", "TOOBIG", "TRYCREATE", "UIDNOTSTICKY", "UIDREQUIRED",
    "UNAVAILABLE", "UNKNOWN-CTE", "USEATTR", "NOTSUPPORTED",
)  # fmt: skip
CODES: dict[str, Callable[[_Reader], tuple[Any, ...]] | None] = {
    **dict.fromkeys(_PLAIN_CODES),
    "APPENDUID": _argument("nz_number", "sequence_set"),
    "BADCHARSET": _badcharset,
    "BADEVENT": _badevent,
    "BADURL": _argument("string"),
    "CAPABILITY": lambda reader: (reader.some_words(),),
    "COPYUID": _argument("nz_number", "sequence_set", "sequence_set"),
    "HIGHESTMODSEQ": _argument("number64"),
    "INPROGRESS": _inprogress,
    "MAILBOXID": _argument("object_id"),
    "METADATA": _metadata_code,
    "MODIFIED": _argument("sequence_set"),
    "NOUPDATE": _argument("quoted"),
    "PERMANENTFLAGS": _permanent,
    "UIDNEXT": _argument("nz_number"),
    "UIDVALIDITY": _argument("nz_number"),
    "UNSEEN": _argument("nz_number"),
}



UNTAGGED: dict[bytes, Callable[[_Reader], Any]] = {
    b"CAPABILITY": _Reader.some_words,
    b"ENABLED": _Reader.words,
    b"ESEARCH": _Reader.esearch,
    b"FLAGS": lambda reader: (reader.sp(), reader.flags())[1],  # type: ignore[func-returns-value]
    b"ID": _Reader.id,
    b"LIST": _Reader.listed,
    b"LSUB": _Reader.listed,
    b"METADATA": _Reader.metadata,
    b"NAMESPACE": _Reader.namespaces,
    b"QUOTA": _Reader.quota,
    b"QUOTAROOT": _Reader.quotaroot,
    b"SEARCH": _Reader.search,
    b"SORT": _Reader.search,
    b"STATUS": _Reader.status_items,
    b"THREAD": _Reader.thread,
    b"VANISHED": _Reader.vanished,
}

__all__ = ["GrammarError", "Response", "ResponseReader"]
