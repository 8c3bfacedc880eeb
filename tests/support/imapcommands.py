"""Random commands of IMAP, made from its grammar: mostly right, now and then wrong somewhere.

Choices are drawn from a `random.Random`, so that hypothesis can draw them and make failures
small. A command is a list of pieces: bytes to send, and literals (the client may have to wait
before their bytes).
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeVar

T = TypeVar("T")


class Literal(NamedTuple):
    """A literal: its bytes, whether the client asks first, and whether it is a literal8."""

    data: bytes
    sync: bool = False
    binary: bool = False

    def head(self) -> bytes:
        """How it is announced."""
        return b"%b{%d%b}\r\n" % (
            b"~" if self.binary else b"", len(self.data), b"" if self.sync else b"+"
        )  # fmt: skip


Pieces = list["bytes | Literal"]

BOXES = (b"Inbox", b"inbox", b"a", b"a/b", b"a/b/c", b"Sent", b"Trash", b"&AOk-", b"x y", b"nope",
         b"%", b"*", b"/a", b"a//b", b"a/", b"#x", b"NIL", b"&", b"&AO", b"", b"{3}",
         b"a" * 200, b'"', b"Inbox/sub", b"\xc3\xa9", b"..")  # fmt: skip
FLAGS = (rb"\Seen", rb"\Answered", rb"\flagged", rb"\Deleted", rb"\Draft", b"$Junk", b"$NotJunk",
         b"red", b"Blue", rb"\Recent", rb"\Nope", b"a" * 60, b"$MDNSent", b"NIL")  # fmt: skip
WORDS = (b"hello", b"", b"Jo", b"=?utf-8?q?J=C3=BC?=", b"a\"b", b"\\", b"\xc3\xbc", b"\xff", b"NIL",
         b"body", b"x" * 300, b"1", b"(", b"]", b"joe@example.org")  # fmt: skip
MESSAGES = (
    b"Subject: x\r\n\r\nbody\r\n",
    b"",
    b"\r\n",
    b"x",
    b"From: J <j@x>\r\nTo: g: a@b;\r\nSubject: =?utf-8?q?J=C3=BC?=\r\nDate: Thu, 15 Feb 2007"
    b" 01:02:03 +0200\r\nMessage-ID: <1@x>\r\nReferences: <2@x>\r\n\r\nhello\n\0x\r\n",
    b'Content-Type: multipart/mixed; boundary="b"\r\n\r\n--b\r\n\r\none\r\n--b\r\n'
    b"Content-Type: message/rfc822\r\n\r\nSubject: in\r\n\r\nx\r\n--b\r\n"
    b"Content-Transfer-Encoding: base64\r\n\r\naGVsbG8AAA==\r\n--b--\r\n",
    b"Subject: \xc3\xbc\r\nContent-Transfer-Encoding: x-odd\r\n\r\n\xff\xfe\r\n",
    b"X: " + b"y" * 9000 + b"\r\n\r\n" + b"z" * 70000,
)
NUMBERS = (b"1", b"2", b"3", b"5", b"10", b"0", b"4294967295", b"4294967296",
           b"9223372036854775807", b"9223372036854775808", b"18446744073709551616", b"-1", b"01",
           b"")  # fmt: skip
DATES = (b"1-Feb-2007", b'"15-Feb-2007"', b"31-Feb-2007", b"01-Jan-1970", b"1-jan-0001",
         b"31-Dec-9999", b"0-Jan-2000")  # fmt: skip
PARTS = (b"", b"1", b"2", b"1.1", b"2.1", b"3", b"1.2.3", b"4294967296", b"0", b"1.")
ITEMS = (b"FLAGS", b"UID", b"INTERNALDATE", b"RFC822.SIZE", b"ENVELOPE", b"BODY", b"BODYSTRUCTURE",
         b"MODSEQ", b"SAVEDATE", b"PREVIEW", b"PREVIEW (LAZY)", b"EMAILID", b"THREADID", b"RFC822",
         b"RFC822.HEADER", b"RFC822.TEXT", b"NOPE", b"X-GM-MSGID")  # fmt: skip
STATUS = (b"MESSAGES", b"UIDNEXT", b"UIDVALIDITY", b"UNSEEN", b"RECENT", b"SIZE", b"DELETED",
          b"HIGHESTMODSEQ", b"MAILBOXID", b"APPENDLIMIT", b"DELETED-STORAGE", b"NOPE")  # fmt: skip
ENABLE = (b"CONDSTORE", b"QRESYNC", b"UTF8=ACCEPT", b"IMAP4rev2", b"UIDONLY", b"METADATA", b"NOPE")
SORTS = (b"ARRIVAL", b"CC", b"DATE", b"FROM", b"SIZE", b"SUBJECT", b"TO", b"DISPLAYFROM",
         b"DISPLAYTO", b"NOPE")  # fmt: skip
URLS = (b'"/Inbox/;UID=1"', b'"/Inbox/;UID=1/;SECTION=TEXT"', b'"imap://x/y"', b'"/nope/;UID=2"',
        b'"/Inbox;UIDVALIDITY=1/;UID=1/;PARTIAL=0.5"', b'""')  # fmt: skip
FILTERS = (b"selected", b"selected-delayed", b"inboxes", b"personal", b"nope", b"subscribed",
           b"subtree", b"subtree-one", b"mailboxes")  # fmt: skip
EVENTS = (b"MessageNew", b"MessageExpunge", b"FlagChange", b"MailboxName", b"SubscriptionChange",
          b"MailboxMetadataChange", b"ServerMetadataChange", b"MessageNew (FLAGS)",
          b"Nope")  # fmt: skip
RETURNS = (b"MIN", b"MAX", b"ALL", b"COUNT", b"SAVE", b"PARTIAL", b"UPDATE", b"CONTEXT", b"NOPE")
ENTRIES = (b"/private/comment", b"/shared/comment", b"/private/vendor/x/y", b"/nope",
           b"/private//x", b"/private/*", b"/shared/admin", b"private/x")  # fmt: skip


_WRONG = {b"NOPE", b"NOPE ", b" NOPE ", b"nope", b"Nope", b"\\Nope", b"/nope", b"-1", b"0", b"",
          b"\xff", b"x"}  # fmt: skip


class Maker:
    """Makes commands."""

    def __init__(self, rng: random.Random, *, wrong: float = 0.02) -> None:
        self.rng = rng
        self.wrong = wrong
        self.out: Pieces = []

    # -- Pieces ---------------------------------------------------------------------------

    def put(self, *pieces: bytes | Literal) -> None:
        self.out.extend(pieces)

    def choose(self, choices: Sequence[T]) -> T:
        """One of the choices, seldom one that is wrong in any place."""
        choice = self.rng.choice(choices)
        if choice in _WRONG and self.chance(0.85):
            return self.rng.choice(choices)
        return choice

    def pick(self, *choices: bytes) -> None:
        self.put(self.choose(choices))

    def chance(self, part: float) -> bool:
        return self.rng.random() < part

    def many(self, make: Callable[[], object], most: int = 4, between: bytes = b" ") -> None:
        for index in range(self.rng.randint(1, most)):
            if index:
                self.put(between)
            make()

    def group(self, make: Callable[[], object], most: int = 4) -> None:
        self.put(b"(")
        if not self.chance(0.05):
            self.many(make, most)
        self.put(b")")

    def string(self, value: bytes) -> None:
        """A string in one of its forms."""
        roll = self.rng.random()
        if roll < 0.6:
            self.put(b'"' + value.replace(b"\\", b"\\\\").replace(b'"', b'\\"') + b'"')
        else:
            self.put(Literal(value, roll < 0.7, roll > 0.97))

    def astring(self, value: bytes) -> None:
        if value.isalnum() and self.chance(0.6):
            self.put(value)
        else:
            self.string(value)

    def number(self) -> None:
        self.put(self.choose(NUMBERS[:5] if self.chance(0.9) else NUMBERS))

    def set(self) -> None:
        if self.chance(0.06):
            self.put(b"$")
            return

        def one() -> None:
            self.pick(b"1", b"2", b"3", b"*", b"4", b"100")
            if self.chance(0.3):
                self.put(b":")
                self.pick(b"1", b"3", b"*", b"4294967295")

        self.many(one, 3, b",")

    def box(self) -> None:
        self.astring(self.choose(BOXES[:7] if self.chance(0.8) else BOXES))

    def flag(self) -> None:
        self.put(self.choose(FLAGS[:9] if self.chance(0.9) else FLAGS))

    def word(self) -> None:
        self.astring(self.choose(WORDS))

    # -- Arguments ------------------------------------------------------------------------

    def key(self, depth: int = 0) -> None:
        """A search key."""
        roll = self.rng.randrange(16)
        if roll < 4:
            self.pick(b"ALL", b"SEEN", b"UNSEEN", b"DELETED", b"NEW", b"OLD", b"RECENT", b"DRAFT",
                      b"SAVEDATESUPPORTED", b"UNDELETED", b"ANSWERED", b"NOPE")  # fmt: skip
        elif roll < 6:
            self.pick(b"FROM ", b"TO ", b"CC ", b"BCC ", b"SUBJECT ", b"BODY ", b"TEXT ")
            self.word()
        elif roll == 6:
            self.put(b"HEADER ")
            self.astring(self.choose((b"Subject", b"", b"X-y", b"\xc3\xbc", b"from:")))
            self.put(b" ")
            self.word()
        elif roll == 7:
            self.pick(b"BEFORE ", b"ON ", b"SINCE ", b"SENTBEFORE ", b"SENTON ", b"SENTSINCE ",
                      b"SAVEDBEFORE ", b"SAVEDON ", b"SAVEDSINCE ")  # fmt: skip
            self.put(self.choose(DATES))
        elif roll == 8:
            self.pick(b"LARGER ", b"SMALLER ", b"OLDER ", b"YOUNGER ", b"MODSEQ ",
                      b'MODSEQ "/flags/\\\\Seen" all ')  # fmt: skip
            self.number()
        elif roll == 9:
            self.pick(b"KEYWORD ", b"UNKEYWORD ")
            self.flag()
        elif roll == 10:
            self.pick(b"EMAILID ", b"THREADID ")
            self.pick(b"M1", b"T2", b"F3", b"x", b"")
        elif roll == 11:
            self.set()
        elif roll == 12:
            self.put(b"UID ")
            self.set()
        elif depth > 5:
            self.put(b"ALL")
        elif roll == 13:
            self.put(b"NOT ")
            self.key(depth + 1)
        elif roll == 14:
            self.put(b"OR ")
            self.key(depth + 1)
            self.put(b" ")
            self.key(depth + 1)
        else:
            self.group(lambda: self.key(depth + 1))

    def returning(self) -> None:
        def option() -> None:
            word = self.choose(RETURNS)
            self.put(word)
            if word == b"PARTIAL":
                self.pick(b" 1:2", b" 2:1", b" -1:-2", b" 1:*", b" 0:1", b"")

        self.put(b"RETURN ")
        self.group(option)
        self.put(b" ")

    def program(self, charset: bool) -> None:
        if charset or self.chance(0.1):
            self.put(b"" if charset else b"CHARSET ")
            self.pick(b"UTF-8 ", b"utf-8 ", b"US-ASCII ", b"NOPE ", b'"UTF-8" ')
        self.many(self.key, 3)

    def item(self) -> None:
        """A FETCH item."""
        if self.chance(0.5):
            self.put(self.choose(ITEMS[:-2] if self.chance(0.95) else ITEMS))
            return
        what = self.choose((b"BODY[", b"BODY.PEEK[", b"BODY.PEEK[", b"BINARY[", b"BINARY.PEEK[",
                            b"BINARY.SIZE["))  # fmt: skip
        self.put(what)
        part = self.choose(PARTS[:6] if self.chance(0.9) else PARTS)
        self.put(part)
        if self.chance(0.02 if what.startswith(b"BINARY") else 0.6):
            self.put(b"." if part else b"")
            kind = self.choose((b"HEADER", b"TEXT", b"MIME", b"HEADER.FIELDS",
                                    b"HEADER.FIELDS.NOT", b"NOPE"))  # fmt: skip
            self.put(kind)
            if kind.startswith(b"HEADER.FIELDS"):
                self.put(b" ")
                names = (b"Subject", b"x y", b"", b"\xff")
                self.group(lambda: self.astring(self.choose(names)))
        self.put(b"]")
        if self.chance(0.3):
            self.put(b"<")
            self.number()
            self.put(b".")
            self.number()
            self.put(b">")

    def message(self) -> None:
        """What APPEND has for a message."""
        if self.chance(0.4):
            self.group(self.flag)
            self.put(b" ")
        if self.chance(0.3):
            self.pick(b'"17-Jul-1996 02:44:25 -0700" ', b'" 1-Jan-2000 00:00:00 +0000" ',
                      b'"32-Jan-2000 00:00:00 +0000" ', b'"17-Jul-1996" ')  # fmt: skip
        data = self.choose(MESSAGES)
        roll = self.rng.random()
        if roll < 0.1:
            self.put(b"UTF8 (", Literal(data, self.chance(0.3), True), b")")
        elif roll < 0.2:
            self.put(b"CATENATE ")
            self.group(self.piece, 3)
        else:
            self.put(Literal(data, self.chance(0.3), self.chance(0.1)))

    def piece(self) -> None:
        if self.chance(0.5):
            self.put(b"TEXT ", Literal(self.choose(MESSAGES), self.chance(0.3)))
        else:
            self.put(b"URL ")
            self.put(self.choose(URLS))

    def filter(self) -> None:
        """Which mailboxes (RFC 5465 6, RFC 7377 2.2)."""
        word = self.choose(FILTERS)
        self.put(word)
        if word in (b"subtree", b"subtree-one", b"mailboxes"):
            self.put(b" ")
            if self.chance(0.5):
                self.box()
            else:
                self.group(self.box)

    def event(self) -> None:
        self.put(self.choose(EVENTS))

    def selection(self) -> None:
        self.box()
        if self.chance(0.4):
            self.put(b" (")
            self.many(self.select_parameter, 2)
            self.put(b")")

    def select_parameter(self) -> None:
        if self.chance(0.4):
            self.put(b"CONDSTORE")
            return
        self.put(b"QRESYNC (")
        self.pick(b"875000500", b"875000501", b"1", b"0")
        self.put(b" ")
        self.number()
        if self.chance(0.5):
            self.put(b" ")
            self.pick(b"1:3", b"1,3", b"*", b"1:4294967295", b"3:1")
            if self.chance(0.5):
                self.put(b" (")
                self.pick(b"1:3", b"1", b"1,2", b"2:1", b"*")
                self.put(b" ")
                self.pick(b"1:3", b"1", b"1,2", b"5:9", b"*")
                self.put(b")")
        self.put(b")")

    def listing(self) -> None:
        if self.chance(0.3):
            self.group(lambda: self.pick(b"SUBSCRIBED", b"REMOTE", b"RECURSIVEMATCH",
                                         b"SPECIAL-USE", b"NOPE"))  # fmt: skip
            self.put(b" ")
        self.astring(self.choose((b"", b"", b"a", b"a/", b"/")))
        self.put(b" ")

        def pattern() -> None:
            value = self.choose((b"*", b"%", b"a*", b"a/%", b"", b"Inbox", b"%/%", b"*%*%*",
                                     b"&AOk-", b"&", b"x y"))  # fmt: skip
            if b" " in value or not value or self.chance(0.3):
                self.string(value)
            else:
                self.put(value)

        if self.chance(0.2):
            self.group(pattern)
        else:
            pattern()
        if self.chance(0.4):
            self.put(b" RETURN ")
            self.group(self.list_return)

    def list_return(self) -> None:
        word = self.choose((b"SUBSCRIBED", b"CHILDREN", b"SPECIAL-USE", b"STATUS", b"METADATA",
                                b"NOPE"))  # fmt: skip
        self.put(word)
        if word == b"STATUS":
            self.put(b" ")
            self.group(self.status_item)
        elif word == b"METADATA":
            self.put(b" ")
            self.group(lambda: self.put(self.choose(ENTRIES)))

    def status_item(self) -> None:
        self.put(self.choose(STATUS[:-1] if self.chance(0.97) else STATUS))

    # -- Commands -------------------------------------------------------------------------

    def command(self, names: tuple[str, ...]) -> Pieces:
        """A command without its tag; `names` are those that there are, UID forms included."""
        self.out = []
        name = self.choose(names)
        self.put(name.encode())
        uid = name.startswith("UID ")
        make = _COMMANDS.get(name.removeprefix("UID "))
        if make is None:
            # One that was not known when this was written.
            if self.chance(0.7):
                self.put(b" ")
                self.many(lambda: self.choose((self.box, self.set, self.number, self.word))())
        else:
            make(self, uid)
        return self._spoilt() if self.chance(self.wrong) else self.out

    def _spoilt(self) -> Pieces:
        """The command with a fault somewhere."""
        pieces = list(self.out)
        at = self.rng.randrange(len(pieces))
        piece = pieces[at]
        if isinstance(piece, Literal) or self.chance(0.3):
            del pieces[at]
            return pieces or [b"x"]
        place = self.rng.randint(0, len(piece))
        extra = self.choose((b" ", b"(", b")", b'"', b"\\", b"*", b"{", b"\0", b"\xff", b"%",
                                 b"[", b"\r", b"{3}", b"~{3+}"))  # fmt: skip
        pieces[at] = piece[:place] + extra + piece[place + self.rng.randint(0, 2) :]
        return pieces


def _fetch(m: Maker, uid: bool) -> None:
    m.put(b" ")
    m.set()
    m.put(b" ")
    if m.chance(0.1):
        m.pick(b"ALL", b"FAST", b"FULL")
    elif m.chance(0.3):
        m.item()
    else:
        m.group(m.item)
    if m.chance(0.15):
        m.put(b" (CHANGEDSINCE ")
        m.number()
        m.put(b" VANISHED)" if m.chance(0.4) else b")")


def _store(m: Maker, uid: bool) -> None:
    m.put(b" ")
    m.set()
    m.put(b" ")
    if m.chance(0.2):
        m.put(b"(UNCHANGEDSINCE ")
        m.number()
        m.put(b") ")
    m.pick(b"FLAGS ", b"+FLAGS ", b"-FLAGS ", b"+FLAGS.SILENT ", b"FLAGS.SILENT ", b"NOPE ")
    if m.chance(0.8):
        m.group(m.flag)
    else:
        m.many(m.flag)


def _search(m: Maker, uid: bool) -> None:
    m.put(b" ")
    if m.chance(0.4):
        m.returning()
    m.program(False)


def _sort(m: Maker, uid: bool) -> None:
    m.put(b" ")
    if m.chance(0.3):
        m.returning()

    def criterion() -> None:
        m.put(b"REVERSE " if m.chance(0.3) else b"", m.choose(SORTS))

    m.group(criterion)
    m.put(b" ")
    m.program(True)


def _thread(m: Maker, uid: bool) -> None:
    m.pick(b" REFERENCES ", b" REFS ", b" ORDEREDSUBJECT ", b" NOPE ")
    m.program(True)


def _copy(m: Maker, uid: bool) -> None:
    m.put(b" ")
    m.set()
    m.put(b" ")
    m.box()


def _append(m: Maker, uid: bool) -> None:
    m.put(b" ")
    m.box()
    m.put(b" ")
    m.many(m.message, 3 if m.chance(0.2) else 1)


def _replace(m: Maker, uid: bool) -> None:
    m.put(b" ")
    m.pick(b"1", b"2", b"*", b"100", b"1:2")
    m.put(b" ")
    m.box()
    m.put(b" ")
    m.message()


def _esearch(m: Maker, uid: bool) -> None:
    if m.chance(0.8):
        m.put(b" IN ")
        m.group(m.filter)
    m.put(b" ")
    if m.chance(0.5):
        m.returning()
    m.program(False)


def _notify(m: Maker, uid: bool) -> None:
    if m.chance(0.2):
        m.put(b" NONE")
        return
    m.put(b" SET ", b"STATUS " if m.chance(0.3) else b"")

    def group() -> None:
        m.put(b"(")
        m.filter()
        m.put(b" ")
        if m.chance(0.2):
            m.put(b"NONE")
        else:
            m.group(m.event)
        m.put(b")")

    m.many(group, 3)


def _one_box(m: Maker, uid: bool) -> None:
    m.put(b" ")
    m.box()


def _nothing(m: Maker, uid: bool) -> None:
    if m.chance(0.02):
        m.put(b" x")


def _create(m: Maker, uid: bool) -> None:
    _one_box(m, uid)
    if m.chance(0.2):
        m.put(b" (USE ")
        m.group(lambda: m.pick(b"\\Sent", b"\\Trash", b"\\All", b"\\Nope", b"x"))
        m.put(b")")


def _rename(m: Maker, uid: bool) -> None:
    _one_box(m, uid)
    _one_box(m, uid)


def _id(m: Maker, uid: bool) -> None:
    if m.chance(0.3):
        m.put(b" NIL")
        return
    m.put(b" ")

    def pair() -> None:
        m.string(m.choose((b"name", b"version", b"", b"x" * 40)))
        m.put(b" ")
        if m.chance(0.2):
            m.put(b"NIL")
        else:
            m.string(m.choose(WORDS))

    m.group(pair)


def _getmetadata(m: Maker, uid: bool) -> None:
    m.put(b" ")
    if m.chance(0.4):
        m.pick(b"(MAXSIZE 10) ", b"(DEPTH 1) ", b"(DEPTH infinity MAXSIZE 1) ", b"(NOPE) ", b"() ")
    m.box()
    m.put(b" ")
    if m.chance(0.4):
        m.put(m.choose(ENTRIES))
    else:
        m.group(lambda: m.put(m.choose(ENTRIES)))


def _setmetadata(m: Maker, uid: bool) -> None:
    m.put(b" ")
    m.box()
    m.put(b" ")

    def entry() -> None:
        m.put(m.choose(ENTRIES), b" ")
        if m.chance(0.2):
            m.put(b"NIL")
        elif m.chance(0.3):
            m.put(Literal(b"a\0b", m.chance(0.3), True))
        else:
            m.string(m.choose(WORDS))

    m.group(entry)


def _select(m: Maker, uid: bool) -> None:
    m.put(b" ")
    m.selection()


def _list(m: Maker, uid: bool) -> None:
    m.put(b" ")
    m.listing()


def _status(m: Maker, uid: bool) -> None:
    _one_box(m, uid)
    m.put(b" ")
    m.group(m.status_item)


def _expunge(m: Maker, uid: bool) -> None:
    if uid:
        m.put(b" ")
        m.set()


def _enable(m: Maker, uid: bool) -> None:
    # IMAP4rev2 and UIDONLY change much, and for good.
    m.put(b" ")
    m.many(lambda: m.put(m.choose(ENABLE[:2] if m.chance(0.6) else ENABLE)), 2)


def _cancel(m: Maker, uid: bool) -> None:
    m.put(b" ")
    m.many(lambda: m.string(m.choose((b"c1", b"c2", b"c3", b"x"))), 2)


def _compress(m: Maker, uid: bool) -> None:
    m.pick(b" LZ", b"", b" DEFLATE x")


_COMMANDS: dict[str, Callable[[Maker, bool], None]] = {
    "APPEND": _append,
    "CANCELUPDATE": _cancel,
    "CAPABILITY": _nothing,
    "CHECK": _nothing,
    "CLOSE": _nothing,
    "COMPRESS": _compress,
    "COPY": _copy,
    "CREATE": _create,
    "DELETE": _one_box,
    "ENABLE": _enable,
    "ESEARCH": _esearch,
    "EXAMINE": _select,
    "EXPUNGE": _expunge,
    "FETCH": _fetch,
    "GETMETADATA": _getmetadata,
    "GETQUOTA": _one_box,
    "GETQUOTAROOT": _one_box,
    "ID": _id,
    "IDLE": _nothing,
    "LIST": _list,
    "LOGOUT": _nothing,
    "LSUB": _list,
    "MOVE": _copy,
    "NAMESPACE": _nothing,
    "NOOP": _nothing,
    "NOTIFY": _notify,
    "RENAME": _rename,
    "REPLACE": _replace,
    "SEARCH": _search,
    "SELECT": _select,
    "SETMETADATA": _setmetadata,
    "SORT": _sort,
    "STARTTLS": _nothing,
    "STATUS": _status,
    "STORE": _store,
    "SUBSCRIBE": _one_box,
    "THREAD": _thread,
    "UNSELECT": _nothing,
    "UNSUBSCRIBE": _one_box,
}
