"""The tables of the junk filter: what it counted, per account.

A filter belongs to an account and counts messages and words of each kind. While an account is
trained anew, there are two: the old one is asked until the new one is ready.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final

from sqlalchemy import Column, ForeignKey, Index, Integer, Table, Text, text

from moxtw.store.schema import Id, _id, _int, messages, metadata


class State(IntEnum):
    """What becomes of a filter."""

    READY = 0  # asked and trained
    RESET = 1  # new: messages have yet to be marked as not trained
    FILLING = 2  # new: trained with all there is
    OLD = 3  # asked until the new one is ready
    GONE = 4  # to be deleted


junk_filters: Final = Table(
    "junk_filters",
    metadata,
    _id(),
    Column("account_id", Id, ForeignKey("accounts.id"), nullable=False),
    _int("state"),
    _int("ngrams"),  # which groups of words are counted, bits as in moxtw.junk.words
    _int("ham"),  # messages
    _int("spam"),
    _int("version"),  # changes with each change of words
    Index("junk_filters_account", "account_id"),
)

# Compared byte by byte.
_Word: Final = Text().with_variant(Text(collation="C"), "postgresql")

junk_words: Final = Table(
    "junk_words",
    metadata,
    Column("filter_id", Id, primary_key=True, autoincrement=False),
    Column("word", _Word, primary_key=True),
    Column("ham", Integer, nullable=False),
    Column("spam", Integer, nullable=False),
    sqlite_with_rowid=False,
)

UNTRAINED: Final = (
    "trained <> CASE WHEN expunged <> 0 OR (flags & 48) = 48 THEN 0 ELSE (flags & 48) END"
)
"""Whether the filter has yet to learn from a message, or to forget what it learned.

`trained` is the flag, Junk or NotJunk, with which a message was trained, 0 if it was not. To
be trained are live messages with exactly one of the two flags.
"""

# Kept up to date by the database itself, whoever changes flags, expunges or copies.
untrained: Final = Index(
    "messages_untrained",
    messages.c.account_id,
    messages.c.expunged,
    messages.c.id,
    sqlite_where=text(UNTRAINED),
    postgresql_where=text(UNTRAINED),
)
