"""An index that tells which messages may have a text: trigrams of decoded texts.

It is kept up by a chore of the store, some time after messages have come in: `Reached` says how
far it is, what came later has to be looked through. What it tells are candidates, to be compared
with the text itself. It may name contents that are gone, since ids are never given twice, but
never leaves out one that has been indexed.

In SQLite it consists of FTS5 tables without content, one row for each content's header and body
and each message's prefix, and stands beside the schema: it can be made anew at any time, and a
program that does not know it does no harm.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

import sqlalchemy as sa
from sqlalchemy import bindparam

from moxtw.log import Logger
from moxtw.mail.text import folded, folded_header
from moxtw.store.criteria import Body, Header, Text
from moxtw.store.errors import NoContent
from moxtw.store.schema import content_text, contents, message_meta, messages, meta
from moxtw.store.sqlfunctions import joined
from moxtw.store.tx import Statement, Tx

_log = Logger("store")

# One part of the chore: so many bytes of text, contents, prefixes.
_STEP_BYTES: Final = 64 * 1024
_STEP_CONTENTS: Final = 50
_STEP_PREFIXES: Final = 100
# Longer texts are always candidates: indexing one would hold the writer for too long. Of
# contents above the second size it is not known without reading all of them.
_MAX_TEXT: Final = 256 * 1024
_MAX_CONTENT: Final = 512 * 1024
# Pages that a merge of the index may write at a time, and merges between two parts.
_MERGE_PAGES: Final = 16
_MERGES: Final = 4
# Trigrams of a needle that are looked up: enough of them lead to few candidates.
_MAX_TRIGRAMS: Final = 12


class Reached(NamedTuple):
    """Contents and messages with ids up to these are indexed."""

    contents: int
    messages: int


class Found(NamedTuple):
    """Candidates: ids of contents, and of messages whose prefix may have it; with commas."""

    contents: str
    messages: str


_CONTENTS_KEY: Final = "text_index_contents"
_MESSAGES_KEY: Final = "text_index_messages"
# Contents up to this id were there before the index: their text may have the form of an older
# version, which did not decompose characters.
_OLD_KEY: Final = "text_index_old"

_STATE = Statement(sa.select(meta.c.value).where(meta.c.key == bindparam("key")))
_SET_STATE = Statement(
    meta.update().where(meta.c.key == bindparam("k")).values(value=bindparam("v"))
)
_NEXT = Statement(
    sa.select(
        content_text.c.content_id,
        sa.func.length(content_text.c.header),
        sa.func.length(content_text.c.body),
    )
    .where(content_text.c.content_id > bindparam("after"))
    .order_by(content_text.c.content_id)
    .limit(_STEP_CONTENTS)
)
_NEXT_PREFIXES = Statement(
    sa.select(message_meta.c.id, message_meta.c.prefix)
    .where(message_meta.c.id > bindparam("after"))
    .order_by(message_meta.c.id)
    .limit(_STEP_PREFIXES)
)
_TEXTS = Statement(
    sa.select(content_text.c.content_id, content_text.c.header, content_text.c.body)
    .where(
        content_text.c.content_id >= bindparam("first"),
        content_text.c.content_id <= bindparam("last"),
    )
    .order_by(content_text.c.content_id)
)
_SIZE = Statement(sa.select(contents.c.size).where(contents.c.id == bindparam("i")))
_RENEW = Statement(
    content_text.update()
    .where(content_text.c.content_id == bindparam("i"))
    .values(header=bindparam("h"), body=bindparam("b"))
)


class TextIndex:
    """No index: all is looked through."""

    available = False
    # UIDs in a range of a mailbox of messages whose body is not indexed, as it is too long.
    long_texts: Statement

    def prepare(self, execute: Callable[..., Any]) -> None:
        """Make what is missing; in the writer's connection, before anything else uses it."""

    def reached(self, tx: Tx) -> Reached:
        """How far the index is."""
        return Reached(0, 0)

    def candidates(self, tx: Tx, leaf: Text | Body | Header, limit: int) -> Found | None:
        """Which of the indexed contents and messages may fit; None if the index does not help.

        It does not for short needles, nor if there are more than `limit` candidates.
        """
        return None

    def work(self, tx: Tx) -> bool:
        """Do some of what there is to do; whether there is more."""
        return False

    def forget_content(self, tx: Tx, content_id: int) -> None:
        """A content is about to be deleted."""

    def renew_content(self, tx: Tx, content_id: int) -> None:
        """The text of a content that was forgotten has been written anew."""

    def forget_message(self, tx: Tx, message_id: int, prefix: bytes) -> None:
        """A message is about to be erased."""


def trigrams(needle: str) -> list[str]:
    """Trigrams that each text with the needle has, not too many; none for short needles."""
    last = len(needle) - 3
    if last < 0 or "\0" in needle:
        return []
    if last < _MAX_TRIGRAMS:
        places = list(range(last + 1))
    else:
        places = [index * last // (_MAX_TRIGRAMS - 1) for index in range(_MAX_TRIGRAMS)]
    return list(dict.fromkeys(needle[place : place + 3] for place in places))


_HEADERS: Final = "text_index_header"
_BODIES: Final = "text_index_body"
_PREFIXES: Final = "text_index_prefix"
_TABLES: Final = (_HEADERS, _BODIES, _PREFIXES)


def _find(*tables: str) -> Statement:
    """Row ids in one of the tables, joined, and how many; a number for each table."""
    parts = " UNION ".join(
        f"SELECT rowid AS id FROM {table} WHERE {table} MATCH :query" for table in tables
    )
    # The limit is one more than what helps.
    return Statement(
        sa.text(f"SELECT group_concat(id), count(*) FROM (SELECT id FROM ({parts}) LIMIT :limit)")
    )


def _insert(table: str, delete: bool) -> Statement:
    if delete:
        return Statement(
            sa.text(f"INSERT INTO {table}({table}, rowid, text) VALUES ('delete', :i, :t)")
        )
    return Statement(sa.text(f"INSERT INTO {table}(rowid, text) VALUES (:i, :t)"))


class SQLiteTextIndex(TextIndex):
    """FTS5 tables with trigrams."""

    long_texts = Statement(
        sa.select(joined(messages.c.uid)).where(
            sa.text("messages.content_id IN (SELECT content_id FROM text_index_long)"),
            messages.c.mailbox_id + 0 == bindparam("mailbox"),
            messages.c.uid >= bindparam("first"),
            messages.c.uid <= bindparam("last"),
            messages.c.expunged == 0,
        )
    )

    _FIND_TEXT = _find(_HEADERS, _BODIES)
    _FIND_HEADER = _find(_HEADERS)
    _FIND_BODY = _find(_BODIES)
    _FIND_PREFIX = _find(_PREFIXES)
    _INSERT: Final = {table: _insert(table, False) for table in _TABLES}
    _DELETE: Final = {table: _insert(table, True) for table in _TABLES}
    _MERGE: Final = {
        table: Statement(sa.text(f"INSERT INTO {table}({table}, rank) VALUES ('merge', :n)"))
        for table in _TABLES
    }
    _CHANGES = Statement(sa.text("SELECT total_changes()"))
    _IS_LONG = Statement(sa.text("SELECT 1 FROM text_index_long WHERE content_id = :i"))
    _ADD_LONG = Statement(
        sa.text("INSERT OR IGNORE INTO text_index_long(content_id) VALUES (:i)")
    )
    _DROP_LONG = Statement(sa.text("DELETE FROM text_index_long WHERE content_id = :i"))

    def __init__(self) -> None:
        # Tables that may have something to merge, and merges since the last part; used by the
        # writer only.
        self._unmerged: set[str] = set(_TABLES)
        self._merged = 0

    def prepare(self, execute: Callable[..., Any]) -> None:
        """Make the tables."""
        try:
            execute("BEGIN IMMEDIATE")
            for table in _TABLES:
                # The text is folded already. Ids are all that is kept of where it is.
                execute(
                    f"CREATE VIRTUAL TABLE IF NOT EXISTS {table} USING fts5(text, content='',"
                    " columnsize=0, detail=none, tokenize='trigram case_sensitive 1')"
                )
                # Merged by us, a little at a time.
                execute(f"INSERT INTO {table}({table}, rank) VALUES ('automerge', 0)")
                execute(f"INSERT INTO {table}({table}, rank) VALUES ('crisismerge', 1000)")
            execute(
                "CREATE TABLE IF NOT EXISTS text_index_long (content_id INTEGER PRIMARY KEY)"
            )
            execute(
                f"INSERT OR IGNORE INTO meta(key, value) VALUES ('{_CONTENTS_KEY}', '0'),"
                f" ('{_MESSAGES_KEY}', '0'), ('{_OLD_KEY}',"
                " (SELECT CAST(coalesce(max(content_id), 0) AS TEXT) FROM content_text))"
            )
            execute("COMMIT")
            self.available = True
        except sqlite3.OperationalError as exc:
            _log.warn("no text index, searches will be slower", err=exc)
            execute("ROLLBACK")

    def reached(self, tx: Tx) -> Reached:
        """How far the index is."""
        if not self.available:
            return Reached(0, 0)
        return Reached(
            int(tx.value(_STATE, key=_CONTENTS_KEY)), int(tx.value(_STATE, key=_MESSAGES_KEY))
        )

    # -- Finding ---------------------------------------------------------------------------

    def candidates(self, tx: Tx, leaf: Text | Body | Header, limit: int) -> Found | None:
        """Which of the indexed contents and messages may fit."""
        if not self.available:
            return None
        wanted = trigrams(folded(leaf.needle).decode())
        if isinstance(leaf, Header):
            wanted += trigrams(folded(leaf.name).decode())
        if not wanted:
            return None
        quoted = [each.replace('"', '""') for each in wanted]
        query = " AND ".join(f'"{each}"' for each in quoted)
        statements: Sequence[Statement]
        match leaf:
            case Text():
                statements = (self._FIND_TEXT, self._FIND_PREFIX)
            case Header():
                statements = (self._FIND_HEADER, self._FIND_PREFIX)
            case Body():
                statements = (self._FIND_BODY,)
        found = []
        for statement in statements:
            ids, count = tx.one(statement, query=query, limit=limit + 1) or ("", 0)
            if count > limit:
                return None
            found.append(ids or "")
        return Found(found[0], found[1] if len(found) > 1 else "")

    # -- Keeping it up -----------------------------------------------------------------------

    def work(self, tx: Tx) -> bool:
        """Index some texts, or merge parts of the index."""
        if not self.available:
            return False
        if self._unmerged and self._merged < _MERGES:
            self._merged += 1
            return self._merge(tx) or self._unmerged != set()
        self._merged = 0
        reached = self.reached(tx)
        if self._index_contents(tx, reached.contents):
            return True
        if self._index_prefixes(tx, reached.messages):
            return True
        return bool(self._unmerged)

    def _merge(self, tx: Tx) -> bool:
        """Merge some pages of one table."""
        table = min(self._unmerged)
        before = tx.value(self._CHANGES)
        tx.run(self._MERGE[table], n=_MERGE_PAGES)
        # FTS5's way to say that there was nothing to merge.
        if tx.value(self._CHANGES) - before < 2:
            self._unmerged.discard(table)
        return True

    def _index_contents(self, tx: Tx, after: int) -> bool:
        rows = tx.all(_NEXT, after=after)
        if not rows:
            return False
        size = 0
        last = after
        for content_id, header_size, body_size in rows:
            size += header_size + (_STEP_BYTES if body_size is None else body_size)
            last = content_id
            if size >= _STEP_BYTES:
                break
        old = int(tx.value(_STATE, key=_OLD_KEY) or 0)
        for content_id, header, body in tx.all(_TEXTS, first=after + 1, last=last):
            if content_id <= old and not (header.isascii() and (body or b"").isascii()):
                header, body = _renewed(tx, content_id, header, body)
            self._put_content(tx, content_id, header, body)
        tx.run(_SET_STATE, k=_CONTENTS_KEY, v=str(last))
        return True

    def _put_content(self, tx: Tx, content_id: int, header: bytes, body: bytes | None) -> None:
        self._put(tx, _HEADERS, content_id, header)
        if body is None:
            body = _long_text(tx, content_id)
            if body is None:
                tx.run(self._ADD_LONG, i=content_id)
                return
        self._put(tx, _BODIES, content_id, body)

    def renew_content(self, tx: Tx, content_id: int) -> None:
        """Take a content into the index again, if the index had come to it."""
        if not self.available or content_id > self.reached(tx).contents:
            return
        for _, header, body in tx.all(_TEXTS, first=content_id, last=content_id):
            self._put_content(tx, content_id, header, body)

    def _index_prefixes(self, tx: Tx, after: int) -> bool:
        rows = tx.all(_NEXT_PREFIXES, after=after)
        if not rows:
            return False
        for message_id, prefix in rows:
            if prefix:
                self._put(tx, _PREFIXES, message_id, folded_header(prefix))
        tx.run(_SET_STATE, k=_MESSAGES_KEY, v=str(rows[-1][0]))
        return True

    def _put(self, tx: Tx, table: str, row_id: int, text: bytes, delete: bool = False) -> None:
        if text:
            # FTS5 would stop at a NUL.
            shown = text.replace(b"\0", b" ").decode("utf-8", "replace")
            tx.run((self._DELETE if delete else self._INSERT)[table], i=row_id, t=shown)
            self._unmerged.add(table)

    def forget_content(self, tx: Tx, content_id: int) -> None:
        """Take a content that is about to be deleted out of the index."""
        if not self.available or content_id > self.reached(tx).contents:
            return
        row = tx.one(_TEXTS, first=content_id, last=content_id)
        if row is None:
            return
        _, header, body = row
        self._put(tx, _HEADERS, content_id, header, delete=True)
        if body is None:
            if tx.value(self._IS_LONG, i=content_id):
                tx.run(self._DROP_LONG, i=content_id)
                return
            body = _long_text(tx, content_id) or b""
        self._put(tx, _BODIES, content_id, body, delete=True)

    def forget_message(self, tx: Tx, message_id: int, prefix: bytes) -> None:
        """Take a message that is about to be erased out of the index."""
        if self.available and prefix and message_id <= self.reached(tx).messages:
            self._put(tx, _PREFIXES, message_id, folded_header(prefix), delete=True)


def _long_text(tx: Tx, content_id: int) -> bytes | None:
    """A text that is not kept, None if it is too long for the index."""
    from moxtw.store import content

    if (tx.value(_SIZE, i=content_id) or 0) > _MAX_CONTENT:
        return None
    try:
        text = content.body_text(tx, content_id)
    except NoContent as exc:
        _log.error("indexing a content", err=exc)
        return None
    return text if len(text) <= _MAX_TEXT else None


def _renewed(
    tx: Tx, content_id: int, header: bytes, body: bytes | None
) -> tuple[bytes, bytes | None]:
    """The texts of a content in today's form."""
    header = folded(header.decode("utf-8", "replace"))
    if body is not None:
        body = folded(body.decode("utf-8", "replace"))
    tx.run(_RENEW, i=content_id, h=header, b=body)
    return header, body
