"""Asking the junk filter of an account about a message."""

from __future__ import annotations

import time
from typing import Final, Protocol

from moxtw import metrics
from moxtw.config.accounts import JunkParams
from moxtw.junk.message import MessageWords, words_by
from moxtw.junk.score import Classification, classify_words, ngram_bits
from moxtw.mail.mime import unpack_tree
from moxtw.store import junkdb
from moxtw.store.db import Store
from moxtw.store.tx import Tx

# Larger messages are looked at in a thread.
_QUICK: Final = 16 * 1024


class Parsed(Protocol):
    """Of `moxtw.mail.parsed.ParsedMessage`, what is needed."""

    @property
    def tree(self) -> bytes:
        """The packed MIME tree."""
        ...


class Content(Protocol):
    """Of `moxtw.store.content.Spooled`, what is needed."""

    @property
    def size(self) -> int:
        """Bytes."""
        ...

    @property
    def parsed(self) -> Parsed:
        """What was found out of it."""
        ...

    def read(self, start: int, length: int) -> bytes:
        """Some of its bytes."""
        ...


def words_of_content(content: Content, ngrams: int, prefix: bytes = b"") -> MessageWords:
    """The words of a spooled message; reads its file if it is large."""
    tree = unpack_tree(content.parsed.tree)
    return words_by(tree, lambda start, end: content.read(start, end - start), ngrams, prefix)


async def message_words(store: Store, content: Content, ngrams: int) -> MessageWords:
    """The same, in a thread where it may take long. Raises OSError."""
    if content.size <= _QUICK:
        return words_of_content(content, ngrams)
    return await store.run(words_of_content, content, ngrams)


async def classify(
    store: Store,
    account_id: int,
    params: JunkParams,
    content: Content,
    *,
    words: MessageWords | None = None,
) -> Classification:
    """How likely a message is junk, says the filter of an account.

    `words` are those of the message for the parameters, if they are known already (see
    `message_words`). A filter that was never trained says 0.5. Raises StoreError, OSError.
    """
    begun = time.perf_counter()
    try:
        if words is None:
            words = await message_words(store, content, ngram_bits(params))
        found = words
        return await store.read(lambda tx: _judged(tx, account_id, params, found))
    finally:
        metrics.junk_classify_duration_seconds.observe(time.perf_counter() - begun)


def classify_small(
    tx: Tx, account_id: int, params: JunkParams, content: Content
) -> Classification | None:
    """The same in a job that reads anyway; None: the message is too large for that."""
    if content.size > _QUICK:
        return None
    begun = time.perf_counter()
    try:
        return _judged(tx, account_id, params, words_of_content(content, ngram_bits(params)))
    finally:
        metrics.junk_classify_duration_seconds.observe(time.perf_counter() - begun)


def _judged(
    tx: Tx, account_id: int, params: JunkParams, words: MessageWords
) -> Classification:
    if words.malformed:
        return Classification(1.0, len(words.words), significant=True)
    asked = junkdb.asked(tx, account_id)
    if asked is None:
        return classify_words(params, {}, 0, 0, len(words.words))
    counts = junkdb.counts_of(tx, asked, words.words)
    return classify_words(params, counts, asked.ham, asked.spam, len(words.words))
