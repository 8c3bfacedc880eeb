"""Search keys (RFC 9051 6.4.4 and extensions) as criteria of the store."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from moxtw.imap import objectid, seqset, wire
from moxtw.imap.errors import Bad
from moxtw.imap.esearch import Return
from moxtw.imap.parser import MAX_NUMBER, Parser
from moxtw.imap.session import MessageSet, View
from moxtw.store import search
from moxtw.store.search import Criterion

# Keys in one command, and those of them that look through text.
_MAX_KEYS: Final = 250
_MAX_TEXTS: Final = 50
_FUZZY_COST: Final = 5

_DAY: Final = 86_400_000_000
_SECOND: Final = 1_000_000

_NOTHING: Final = search.Not(search.All())
_ALWAYS: Final[dict[bytes, Criterion]] = {
    b"ALL": search.All(),
    # There are no recent messages (RFC 9051 appendix E): all are old.
    b"NEW": _NOTHING,
    b"RECENT": _NOTHING,
    b"OLD": search.All(),
    b"SAVEDATESUPPORTED": search.All(),
    **{
        prefix + name: search.Flags(bit, bit if not prefix else 0)
        for name, bit in (
            (b"SEEN", 1),
            (b"ANSWERED", 2),
            (b"FLAGGED", 4),
            (b"DELETED", 64),
            (b"DRAFT", 128),
        )
        for prefix in (b"", b"UN")
    },
}
_HEADERS: Final = {b"BCC", b"CC", b"FROM", b"SUBJECT", b"TO"}
_DATES: Final[dict[bytes, Callable[[int | None, int | None], Criterion]]] = {
    b"": search.Received,
    b"SENT": search.Sent,
    b"SAVED": search.Saved,
}


@dataclass(frozen=True, slots=True)
class Now:
    """What keys refer to when the search runs; `time` in microseconds since the epoch.

    `live`: the result is kept up to date, so that ranges up to "*" have no end. `across`: the
    mailbox is not the selected one, and its view knows no messages.
    """

    view: View
    time: int
    live: bool = False
    across: bool = False


Key = Callable[[Now], Criterion]


@dataclass(frozen=True, slots=True)
class Age(search.Received):
    """Times of reception that were reckoned from the time of the search (RFC 5032)."""


def aged(criterion: Criterion, by: int) -> Criterion:
    """What the criterion is so many microseconds later; itself if it has no `Age` in it."""
    match criterion:
        case Age(start, end):
            return Age(start and start + by, end and end + by)
        case search.Not(item):
            later = aged(item, by)
            return criterion if later is item else search.Not(later)
        case search.And(items) | search.Or(items):
            changed = tuple(aged(item, by) for item in items)
            same = all(new is old for new, old in zip(changed, items, strict=True))
            return criterion if same else type(criterion)(changed)
        case _:
            return criterion


@dataclass(slots=True)
class Keys:
    """The parser of search keys; counts what it meets.

    `lenient`: text may be in a charset that cannot be read, as the search will be refused.
    """

    p: Parser
    lenient: bool = False
    uses_modseq: bool = False
    _count: int = 0
    _texts: int = 0
    # Sets of sequence numbers are among the keys.
    uses_numbers: bool = field(default=False)
    # Keys that need not be exact are among the keys.
    uses_fuzzy: bool = field(default=False)
    # A saved result is among the keys.
    uses_saved: bool = field(default=False)

    def check(self, wanted: Return | None) -> None:
        """Refuse RETURN options that have no meaning with these keys."""
        if wanted is not None and b"RELEVANCY" in wanted and not self.uses_fuzzy:
            # RFC 6203 4.
            raise Bad("RELEVANCY needs FUZZY")

    def all(self) -> Key:
        """One key or more: all must hold."""
        keys = [self.one()]
        while self.p.take(b" "):
            keys.append(self.one())
        return _all(keys)

    def one(self) -> Key:
        """A key."""
        p = self.p
        self._count += 1
        if self._count > _MAX_KEYS:
            raise Bad("too many search keys")
        c = p.buf[p.pos : p.pos + 1]
        if c == b"(":
            return _all(p.nested(lambda: p.parenthesised(self.one)))
        if c.isdigit() or c in (b"*", b"$"):
            self.uses_numbers = self.uses_numbers or c != b"$"
            return self._set(uid=False)
        word = p.word()
        always = _ALWAYS.get(word)
        if always is not None:
            return lambda now: always
        if word == b"NOT":
            p.space()
            negated = p.nested(self.one)
            return lambda now: search.Not(negated(now))
        if word == b"FUZZY":
            return self._fuzzy()
        if word == b"OR":
            p.space()
            first = p.nested(self.one)
            p.space()
            second = p.nested(self.one)
            return lambda now: search.Or((first(now), second(now)))
        for prefix, make in _DATES.items():
            if word.startswith(prefix) and word[len(prefix) :] in (b"BEFORE", b"ON", b"SINCE"):
                return self._date(word[len(prefix) :], make)
        return self._argument(word)

    def _fuzzy(self) -> Key:
        """A key that need not be exact (RFC 6203 3)."""
        self.p.space()
        self.uses_fuzzy = True
        before = self._texts
        key = self.p.nested(self.one)
        # They cost more than others.
        self._texts += (self._texts - before) * (_FUZZY_COST - 1)
        self._check_texts()
        return lambda now: search.fuzzy(key(now))

    def _check_texts(self) -> None:
        if self._texts > _MAX_TEXTS:
            raise Bad("too many search keys that look for text")

    def _argument(self, word: bytes) -> Key:
        p = self.p
        p.space()
        criterion: Criterion
        if word == b"UID":
            return self._set(uid=True)
        if word in (b"OLDER", b"YOUNGER"):
            seconds = p.nz_number() * _SECOND
            if word == b"OLDER":
                return lambda now: Age(None, now.time - seconds + 1)
            return lambda now: Age(now.time - seconds, None)
        if word in _HEADERS:
            criterion = search.Header(word.decode("ascii").lower(), self._text())
        elif word == b"HEADER":
            name = p.text(p.astring()).lower()
            p.space()
            criterion = search.Header(name, self._text())
        elif word == b"TEXT":
            criterion = search.Text(self._text())
        elif word == b"BODY":
            criterion = search.Body(self._text())
        elif word in (b"KEYWORD", b"UNKEYWORD"):
            criterion = _keyword(p.atom())
            if word == b"UNKEYWORD":
                criterion = search.Not(criterion)
        elif word == b"LARGER":
            criterion = search.Size(above=p.number64())
        elif word == b"SMALLER":
            criterion = search.Size(below=p.number64())
        elif word == b"MODSEQ":
            criterion = self._modseq()
        elif word == b"EMAILID":
            criterion = search.Email(objectid.parse(p, objectid.EMAIL))
        elif word == b"THREADID":
            criterion = search.Thread(objectid.parse(p, objectid.THREAD))
        else:
            raise Bad("unknown search key")
        return lambda now: criterion

    def _text(self) -> str:
        self._texts += 1
        self._check_texts()
        text = self.p.astring()
        return text.decode("utf-8", "replace") if self.lenient else self.p.text(text)

    def _set(self, uid: bool) -> Key:
        if self.p.take(b"$"):
            self.uses_saved = True
            numbers = MessageSet(None, uid)
        else:
            numbers = MessageSet(self.p.sequence_set(), uid)

        def key(now: Now) -> Criterion:
            view = now.view
            if now.across and numbers.ranges is not None:
                last = view.uids[-1] if view.uids else 0
                return search.Uids(seqset.resolve(numbers.ranges, last))
            if now.live and numbers.uid and numbers.ranges is not None:
                last = view.uids[-1] if view.uids else 0
                return search.Uids(seqset.resolve_open(numbers.ranges, last))
            found = view.uid_ranges(view.slices(numbers, search=True))
            if now.live:
                found += _open_ranges(view, numbers)
            return search.Uids(seqset.normalise(found))

        return key

    def _date(self, word: bytes, make: Callable[[int | None, int | None], Criterion]) -> Key:
        self.p.space()
        day = self.p.date() * _DAY
        if word == b"BEFORE":
            criterion = make(None, day)
        elif word == b"ON":
            criterion = make(day, day + _DAY)
        else:
            criterion = make(day, None)
        return lambda now: criterion

    def _modseq(self) -> Criterion:
        p = self.p
        if p.peek(b'"'):
            # RFC 7162 3.1.5: modseqs of single flags are not kept, so the entry is ignored.
            p.quoted()
            p.space()
            if p.word() not in (b"PRIV", b"SHARED", b"ALL"):
                raise Bad("priv, shared or all expected")
            p.space()
        self.uses_modseq = True
        return search.ModSeq(p.number64())


def _open_ranges(view: View, numbers: MessageSet) -> seqset.Ranges:
    """The UIDs that messages to come may have in ranges of sequence numbers up to "*"."""
    uids = view.uids
    return [
        (uids[min(max(start, end), len(uids)) - 1] if uids else 1, MAX_NUMBER)
        for start, end in numbers.ranges or ()
        if seqset.STAR in (start, end) and start != end
    ]


def _keyword(name: bytes) -> Criterion:
    bit = wire.FLAG_BITS.get(name.lower())
    if bit:
        return search.Flags(bit, bit)
    return search.Keyword(name.decode("ascii").lower())


def _all(keys: list[Key]) -> Key:
    if len(keys) == 1:
        return keys[0]
    return lambda now: search.And(tuple(key(now) for key in keys))
