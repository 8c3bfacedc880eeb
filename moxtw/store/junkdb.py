"""What the junk filter counted, and which messages it has yet to learn from.

A message's row says how it was trained (`messages.trained`); an index has those for which that
is not what their flags ask for. So nothing has to remember a change, and no crash loses one.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from functools import lru_cache
from hashlib import blake2b
from typing import Any, Final, NamedTuple

import sqlalchemy as sa
from sqlalchemy import bindparam

from moxtw.store import content
from moxtw.store.junkcache import MAX_LENGTH
from moxtw.store.schema import mailboxes, message_meta, messages
from moxtw.store.schema_junk import UNTRAINED, State, junk_filters, junk_words
from moxtw.store.tx import Statement, Tx

JUNK: Final = 16
NOTJUNK: Final = 32
_BOTH: Final = JUNK | NOTJUNK

# Bytes up to which a word is its own key.
_MAX_WORD: Final = 64
# Characters of a word that fit into that.
_SHORT: Final = _MAX_WORD // 4
# Words of one statement: each one that gives a row, or is executed once more, gives the
# interpreter away and has to wait for it again.
_CHUNKS: Final = (256, 32, 4)
# Rows that are reset or deleted in one job.
_STEP: Final = 2000


class Filter(NamedTuple):
    """A filter's row: messages counted, which groups of words (bits), and how often it changed."""

    id: int
    account_id: int
    state: int
    ngrams: int
    ham: int
    spam: int
    version: int


class Untrained(NamedTuple):
    """A message whose training is not what its flags ask for.

    `data` is its content, or None if that lies in the file `path`.
    """

    id: int
    expunged: int
    prefix: bytes
    size: int
    tree: bytes
    data: bytes | None
    path: str | None


def wanted(flags: int, expunged: int) -> int:
    """The flag with which a message is to be trained, 0 if it is not."""
    flag = flags & _BOTH
    return 0 if expunged or flag == _BOTH else flag


# -- Filters -------------------------------------------------------------------------------

_FILTERS = Statement(
    sa.select(*(junk_filters.c[name] for name in Filter._fields))
    .where(junk_filters.c.account_id == bindparam("a"))
    .order_by(junk_filters.c.id)
)
_INSERT = Statement(
    junk_filters.insert()
    .values(
        account_id=bindparam("a"), state=bindparam("s"), ngrams=bindparam("n"), ham=0, spam=0
    )
    .returning(junk_filters.c.id)
)
_STATE = Statement(
    junk_filters.update().where(junk_filters.c.id == bindparam("i")).values(state=bindparam("s"))
)
_COUNT = Statement(
    junk_filters.update()
    .where(junk_filters.c.id == bindparam("i"))
    .values(
        ham=sa.case(
            (junk_filters.c.ham + bindparam("h") > 0, junk_filters.c.ham + bindparam("h")),
            else_=0,
        ),
        spam=sa.case(
            (junk_filters.c.spam + bindparam("s") > 0, junk_filters.c.spam + bindparam("s")),
            else_=0,
        ),
        version=junk_filters.c.version + 1,
    )
)


def filters(tx: Tx, account_id: int) -> list[Filter]:
    """All filters of an account, the oldest first."""
    return [Filter._make(row) for row in tx.all(_FILTERS, a=account_id)]


def asked(tx: Tx, account_id: int) -> Filter | None:
    """The filter that judges messages: while an account is trained anew, the old one."""
    found = [each for each in filters(tx, account_id) if each.state != State.GONE]
    return found[0] if found else None


def trained(tx: Tx, account_id: int) -> Filter | None:
    """The filter that learns."""
    found = [each for each in filters(tx, account_id) if each.state < State.OLD]
    return found[-1] if found else None


def begin(tx: Tx, account_id: int, ngrams: int) -> Filter:
    """The filter that learns, made if there is none."""
    return trained(tx, account_id) or _make(tx, account_id, State.READY, ngrams)


def _make(tx: Tx, account_id: int, state: State, ngrams: int) -> Filter:
    number: int = tx.value(_INSERT, a=account_id, s=int(state), n=ngrams)
    return Filter(number, account_id, int(state), ngrams, 0, 0, 0)


def restart(tx: Tx, account_id: int, ngrams: int) -> Filter:
    """A new filter, to be trained with all messages, beside the one that is asked until then."""
    for each in filters(tx, account_id):
        if each.state == State.READY:
            tx.run(_STATE, i=each.id, s=int(State.OLD))
        elif each.state in (State.RESET, State.FILLING):
            tx.run(_STATE, i=each.id, s=int(State.GONE))
    return _make(tx, account_id, State.RESET, ngrams)


def finish(tx: Tx, account_id: int) -> bool:
    """All is trained: a new filter takes the place of the old one; whether it did."""
    found = filters(tx, account_id)
    if not any(each.state == State.FILLING for each in found):
        return False
    for each in found:
        if each.state == State.FILLING:
            tx.run(_STATE, i=each.id, s=int(State.READY))
        elif each.state == State.OLD:
            tx.run(_STATE, i=each.id, s=int(State.GONE))
    return True


_MAILBOXES = Statement(
    sa.select(mailboxes.c.id)
    .where(mailboxes.c.account_id == bindparam("a"), mailboxes.c.id >= bindparam("m"))
    .order_by(mailboxes.c.id)
    .limit(1)
)
_RESET_UPTO = Statement(
    sa.select(messages.c.uid)
    .where(messages.c.mailbox_id == bindparam("m"), messages.c.uid > bindparam("u"))
    .order_by(messages.c.uid)
    .limit(1)
    .offset(_STEP - 1)
)
_RESET = Statement(
    messages.update()
    .where(
        messages.c.mailbox_id == bindparam("m"),
        messages.c.uid > bindparam("u"),
        messages.c.uid <= bindparam("v"),
        messages.c.trained != 0,
    )
    .values(trained=0)
)


def reset(tx: Tx, account_id: int, mailbox_id: int, uid: int) -> tuple[int, int] | None:
    """Mark some messages as not trained, from a mailbox id and UID (exclusive) on.

    Returns from where to go on. When that is None, the new filter can learn.
    """
    found = tx.value(_MAILBOXES, a=account_id, m=mailbox_id)
    if found is None:
        for each in filters(tx, account_id):
            if each.state == State.RESET:
                tx.run(_STATE, i=each.id, s=int(State.FILLING))
        tx.erase.add(account_id)
        return None
    if found != mailbox_id:
        mailbox_id, uid = found, 0
    last: int | None = tx.value(_RESET_UPTO, m=mailbox_id, u=uid)
    tx.run(_RESET, m=mailbox_id, u=uid, v=0xFFFFFFFF if last is None else last)
    return (mailbox_id + 1, 0) if last is None else (mailbox_id, last)


_WORD_UPTO = Statement(
    sa.select(junk_words.c.word)
    .where(junk_words.c.filter_id == bindparam("f"))
    .order_by(junk_words.c.word)
    .limit(1)
    .offset(_STEP)
)
_DELETE_BELOW = Statement(
    junk_words.delete().where(
        junk_words.c.filter_id == bindparam("f"), junk_words.c.word < bindparam("w")
    )
)
_DELETE_WORDS = Statement(junk_words.delete().where(junk_words.c.filter_id == bindparam("f")))
_DELETE = Statement(junk_filters.delete().where(junk_filters.c.id == bindparam("f")))


def drop_some(tx: Tx, account_id: int, *, every: bool = False) -> bool:
    """Delete some words of filters that are gone (or all); whether there are more."""
    for each in filters(tx, account_id):
        if each.state != State.GONE and not every:
            continue
        word = tx.value(_WORD_UPTO, f=each.id)
        if word is None:
            tx.run(_DELETE_WORDS, f=each.id)
            tx.run(_DELETE, f=each.id)
        else:
            tx.run(_DELETE_BELOW, f=each.id, w=word)
        return True
    return False


# -- Words ---------------------------------------------------------------------------------


def key(word: str) -> str:
    """What stands for a word: the word, or a digest of a very long one."""
    data = word.encode("utf-8", "replace")
    if len(data) <= _MAX_WORD:
        return word
    # No word has this sign in it.
    return "=" + blake2b(data, digest_size=16).hexdigest()


# One row for all words: each row more gives the interpreter away, and takes longer to make than
# to find.
_SELECT = Statement(
    sa.text(
        "SELECT json_group_array(j.key), json_group_array(w.ham), json_group_array(w.spam)"
        " FROM json_each(:words) AS j CROSS JOIN junk_words AS w"
        " WHERE w.filter_id = :f AND w.word = j.value"
    ),
    postgresql=sa.text(
        "SELECT CAST(json_agg(j.n - 1) AS text), CAST(json_agg(w.ham) AS text),"
        " CAST(json_agg(w.spam) AS text)"
        " FROM json_array_elements_text(CAST(:words AS json)) WITH ORDINALITY AS j(value, n)"
        " JOIN junk_words AS w ON w.filter_id = :f AND w.word = j.value"
    ),
)


@lru_cache
def _add(count: int) -> Statement:
    rows = ", ".join(f"(:f, :w{n}, :h{n}, :s{n})" for n in range(count))
    return Statement(
        sa.text(
            f"INSERT INTO junk_words (filter_id, word, ham, spam) VALUES {rows}"
            " ON CONFLICT (filter_id, word) DO UPDATE SET"
            " ham = CASE WHEN junk_words.ham + excluded.ham > 0"
            " THEN junk_words.ham + excluded.ham ELSE 0 END,"
            " spam = CASE WHEN junk_words.spam + excluded.spam > 0"
            " THEN junk_words.spam + excluded.spam ELSE 0 END"
        )
    )


@lru_cache
def _clean(count: int) -> Statement:
    names = ", ".join(f":w{n}" for n in range(count))
    return Statement(
        sa.text(
            f"DELETE FROM junk_words WHERE filter_id = :f AND word IN ({names})"
            " AND ham <= 0 AND spam <= 0"
        )
    )


def _chunks(items: list[Any], *, fill: bool = False) -> Iterable[list[Any]]:
    """Lists of the lengths that there are statements for; with `fill`, the last repeats an item."""
    start = 0
    while start < len(items):
        left = len(items) - start
        for size in (*_CHUNKS, 1):
            if size <= left:
                break
        if fill and left < _CHUNKS[0]:
            size = next(s for s in reversed(_CHUNKS) if s >= left)
        part = items[start : start + size]
        yield part + [part[-1]] * (size - len(part))
        start += size


def counts(tx: Tx, filter_id: int, words: Iterable[str]) -> dict[str, tuple[int, int]]:
    """How often words were counted, as (ham, spam); those that never were are left out."""
    # In order, so that neighbours are found beside each other.
    wanted = sorted(words)
    keys = [word if len(word) <= _SHORT else key(word) for word in wanted]
    row = tx.one(_SELECT, f=filter_id, words=json.dumps(keys))
    if row is None or not row[0]:
        return {}
    places, hams, spams = map(json.loads, row)
    return {
        wanted[n]: (ham, spam) for n, ham, spam in zip(places, hams, spams, strict=True)
    }


def counts_of(tx: Tx, found: Filter, words: Iterable[str]) -> dict[str, tuple[int, int]]:
    """The same for a job that reads, of what was looked up lately from memory."""
    cache = tx.store.junk_words
    known = cache.of(found.id, found[4:])
    wanted = list(words)
    missing = [word for word in wanted if word not in known]
    if not missing:
        return {word: pair for word in wanted if (pair := known[word]) is not None}
    fresh = counts(tx, found.id, missing)
    result = {word: pair for word in wanted if (pair := known.get(word) or fresh.get(word))}
    known.update((word, fresh.get(word)) for word in missing if len(word) <= MAX_LENGTH)
    cache.trim()
    return result


def count(
    tx: Tx, filter_id: int, words: Mapping[str, tuple[int, int]], ham: int, spam: int
) -> None:
    """Add to the counts of words (ham, spam), and to those of messages; or subtract."""
    rows = sorted((key(word), h, s) for word, (h, s) in words.items() if h or s)
    for part in _chunks(rows):
        params: dict[str, Any] = {}
        for n, (word, h, s) in enumerate(part):
            params[f"w{n}"] = word
            params[f"h{n}"] = h
            params[f"s{n}"] = s
        tx.run(_add(len(part)), f=filter_id, **params)
    less = [word for word, h, s in rows if h < 0 or s < 0]
    for part in _chunks(less, fill=True):
        tx.run(_clean(len(part)), f=filter_id, **{f"w{n}": w for n, w in enumerate(part)})
    tx.run(_COUNT, i=filter_id, h=ham, s=spam)


# -- Messages ------------------------------------------------------------------------------

# Of live and of expunged messages. The number is part of the statement, since SQLite would
# prepare it anew for each value.
_UNTRAINED: Final = tuple(
    Statement(
        sa.select(messages.c.id, messages.c.content_id)
        .where(
            messages.c.account_id == bindparam("a"),
            messages.c.expunged == expunged,
            messages.c.id > bindparam("after"),
            sa.text(UNTRAINED),
        )
        .order_by(messages.c.id)
        .limit(bindparam("n"))
    )
    for expunged in (0, 1)
)
_SOURCE = Statement(
    sa.select(message_meta.c.prefix).where(message_meta.c.id == bindparam("i"))
)
_MESSAGE = Statement(
    sa.select(messages.c.flags, messages.c.expunged, messages.c.trained).where(
        messages.c.id == bindparam("i")
    )
)
_TRAINED = Statement(
    messages.update().where(messages.c.id == bindparam("i")).values(trained=bindparam("t"))
)
def untrained(
    tx: Tx, account_id: int, expunged: int, after: int, limit: int, size: int
) -> list[Untrained]:
    """Messages to learn from, or expunged ones to forget, by id; of about `size` bytes."""
    found: list[Untrained] = []
    for row_id, content_id in tx.all(_UNTRAINED[expunged], a=account_id, after=after, n=limit):
        prefix = tx.value(_SOURCE, i=row_id) or b""
        data: bytes | None = None
        path: str | None = None
        length, tree = 0, b""
        if content_id is not None:
            length, path = content.info(tx, content_id)
            tree = content.tree(tx, content_id)
            if path is None:
                data = content.read(tx, content_id)
        found.append(Untrained(row_id, expunged, bytes(prefix), length, tree, data, path))
        size -= length
        if size <= 0:
            break
    return found


def learn(
    tx: Tx, account_id: int, filter_id: int, words: Mapping[int, Iterable[str] | None]
) -> tuple[int, int]:
    """Let the filter learn from messages, or forget them, as their flags ask for now.

    `words` are those of each message by its id; None: they cannot be read. Returns how many
    messages were trained, and how many untrained.
    """
    counted: dict[str, tuple[int, int]] = {}
    total = [0, 0]
    done = [0, 0]
    for row_id, found in words.items():
        row = tx.one(_MESSAGE, i=row_id)
        if row is None:
            continue
        flags, expunged, before = row
        after = wanted(flags, expunged)
        if after == before:
            continue
        if found is None:
            if expunged:
                # What cannot be read any more must not be kept for that.
                tx.run(_TRAINED, i=row_id, t=0)
            continue
        ham = (after == NOTJUNK) - (before == NOTJUNK)
        spam = (after == JUNK) - (before == JUNK)
        for word in found:
            h, s = counted.get(word, (0, 0))
            counted[word] = (h + ham, s + spam)
        total[0] += ham
        total[1] += spam
        done[0] += after != 0
        done[1] += before != 0
        tx.run(_TRAINED, i=row_id, t=after)
        if expunged:
            tx.erase.add(account_id)
    if counted or total != [0, 0]:
        count(tx, filter_id, counted, *total)
    return done[0], done[1]
