"""Training of the junk filters, after messages came, went, or got other flags.

Whoever changes messages does not know of it: the database has an index of those that the
filter has yet to learn from, or to forget (`moxtw.store.junkdb`). After each commit that
changes an account, the trainer looks there, takes the words of some messages in a thread, and
counts them in small jobs. Each job looks at the flags once more, and says in the rows of its
messages that they are trained: a crash loses nothing and counts nothing twice.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any, Final

from twisted.application.service import Service
from twisted.internet.defer import Deferred, succeed
from twisted.python.failure import Failure

from moxtw import metrics
from moxtw.config.accounts import JunkParams
from moxtw.junk.message import words_by
from moxtw.junk.score import ngram_bits
from moxtw.log import Logger
from moxtw.mail.mime import TreeError, parse_message, unpack_tree
from moxtw.store import accounts, junkdb
from moxtw.store.db import Store
from moxtw.store.errors import NoSuchAccount, StoreClosed
from moxtw.store.junkdb import Filter, Untrained
from moxtw.store.schema_junk import State
from moxtw.store.tx import Tx

_log = Logger("junk")

# Seconds from a change to the look at what there is to learn.
_DELAY: Final = 0.1
# What is read at a time: messages, and bytes of them.
_MESSAGES: Final = 50
_BYTES: Final = 256 * 1024
# Words that one job counts, so that others do not wait long for the writer.
_JOB_WORDS: Final = 2000
# Between batches the trainer rests for as long as it worked, at most these seconds.
_REST: Final = 0.1

Words = tuple[str, ...]


@dataclass(slots=True)
class _Pass:
    """A way through the messages of one account that are to be trained, by id."""

    expunged: int = 1
    after: int = 0


@dataclass(slots=True)
class _Retraining:
    """Somebody waits for an account to be trained anew."""

    done: Deferred[int]
    progress: Callable[[int], object]
    count: int = 0


class Trainer(Service):
    """Trains the filters of all accounts.

    `params` gives the settings of an account's filter, None if it has none: then nothing is
    learned, and expunged messages are still forgotten.
    """

    name = "junk"

    def __init__(
        self, store: Store, params: Callable[[str], JunkParams | None], reactor: Any
    ) -> None:
        self._store = store
        self._params = params
        self._reactor = reactor
        self._due: dict[int, None] = {}
        # Changed since their pass began.
        self._changed: set[int] = set()
        self._passes: dict[int, _Pass] = {}
        self._resets: dict[int, tuple[int, int]] = {}
        self._retraining: dict[int, _Retraining] = {}
        self._timer: Any = None
        self._working: Deferred[None] | None = None
        self._unsubscribe: Callable[[], object] = lambda: None

    # -- Life cycle ------------------------------------------------------------------

    def startService(self) -> None:
        """Follow changes, and look for what a stop or crash has left."""
        super().startService()  # type: ignore[no-untyped-call]
        self._unsubscribe = self._store.changes.on_accounts(self.look)
        self.look_at_all()

    def look_at_all(self) -> None:
        """Look at what there is to learn in all accounts."""
        deferred = self._store.read(
            lambda tx: [accounts.get(tx, name).id for name in accounts.all_names(tx)]
        )
        deferred.addCallbacks(self.look, lambda f: _log.failure("looking for accounts", f))

    def stopService(self) -> Deferred[None]:
        """Stop after the batch that is worked on."""
        super().stopService()  # type: ignore[no-untyped-call]
        self._unsubscribe()
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()
        for waiting in list(self._retraining.values()):
            waiting.done.errback(Failure(StoreClosed("the server is stopping")))
        self._retraining.clear()
        if self._working is None:
            return succeed(None)
        done: Deferred[None] = Deferred()
        self._working.addBoth(lambda _: done.callback(None))
        return done

    # -- What there is to do -----------------------------------------------------------

    def look(self, account_ids: Collection[int]) -> None:
        """Look soon at what there is to learn in accounts."""
        for account_id in account_ids:
            self._due[account_id] = None
        self._changed.update(account_ids)
        self._schedule(_DELAY)

    def _schedule(self, delay: float) -> None:
        if self.running and self._timer is None and self._working is None and self._due:
            self._timer = self._reactor.callLater(delay, self._start)

    def _start(self) -> None:
        self._timer = None
        account_id = next(iter(self._due))
        del self._due[account_id]
        begun = time.monotonic()
        self._working = Deferred.fromCoroutine(self._work(account_id))

        def ended(result: object) -> None:
            self._working = None
            if isinstance(result, Failure):
                self._failed(account_id, result)
            if account_id in self._retraining:
                self._schedule(0)
            else:
                self._schedule(min(_REST, time.monotonic() - begun))

        self._working.addBoth(ended)

    def _failed(self, account_id: int, failure: Failure) -> None:
        """It is tried again after the next change."""
        if not failure.check(StoreClosed, NoSuchAccount):
            _log.failure("training the junk filter", failure, account_id=account_id)
        self._passes.pop(account_id, None)
        self._resets.pop(account_id, None)
        waiting = self._retraining.pop(account_id, None)
        if waiting is not None:
            waiting.done.errback(failure)

    async def _work(self, account_id: int) -> None:
        if await self._step(account_id):
            self._due[account_id] = None

    async def _step(self, account_id: int) -> bool:
        """Do a little for an account; whether there is more."""

        def look(tx: Tx) -> tuple[str, list[Filter]]:
            return accounts.by_id(tx, account_id).name, junkdb.filters(tx, account_id)

        name, filters = await self._store.read(look)
        if name.startswith("/"):
            return False  # It is being removed.
        params = self._params(name)
        current = next((each for each in reversed(filters) if each.state < State.OLD), None)
        if current is not None and current.state == State.RESET:
            return await self._reset(account_id)
        if any(each.state == State.GONE for each in filters):
            await self._store.write(lambda tx: junkdb.drop_some(tx, account_id))
            return True
        if params is not None and current is not None and current.ngrams != ngram_bits(params):
            _log.info("other groups of words are to be counted, training anew", account=name)
            await self.restart(account_id, params)
            return True
        return await self._train(account_id, params, current)

    async def _reset(self, account_id: int) -> bool:
        mailbox_id, uid = self._resets.get(account_id, (0, 0))
        following = await self._store.write(
            lambda tx: junkdb.reset(tx, account_id, mailbox_id, uid)
        )
        if following is None:
            self._resets.pop(account_id, None)
            self._passes.pop(account_id, None)
        else:
            self._resets[account_id] = following
        return True

    async def _train(
        self, account_id: int, params: JunkParams | None, current: Filter | None
    ) -> bool:
        place = self._passes.get(account_id)
        if place is None:
            place = self._passes[account_id] = _Pass()
            self._changed.discard(account_id)
        expunged, after = place.expunged, place.after
        batch = await self._store.read(
            lambda tx: junkdb.untrained(tx, account_id, expunged, after, _MESSAGES, _BYTES)
        )
        if batch:
            place.after = batch[-1].id
            await self._learn(account_id, params, current, batch)
            return True
        if expunged and params is not None:
            place.expunged, place.after = 0, 0
            return True
        del self._passes[account_id]
        if account_id in self._changed:
            return True
        return await self._finish(account_id, current)

    async def _finish(self, account_id: int, current: Filter | None) -> bool:
        """All is trained."""
        if current is None or current.state == State.READY:
            return False
        ready = await self._store.write(lambda tx: junkdb.finish(tx, account_id))
        # Meanwhile somebody may have begun to train anew.
        if ready and (waiting := self._retraining.pop(account_id, None)) is not None:
            waiting.done.callback(waiting.count)
        return True  # The old one is to be deleted.

    async def _learn(
        self,
        account_id: int,
        params: JunkParams | None,
        current: Filter | None,
        batch: Sequence[Untrained],
    ) -> None:
        if current is None:
            # Without settings only what was counted once is forgotten.
            ngrams = 0 if params is None else ngram_bits(params)
            current = await self._store.write(lambda tx: junkdb.begin(tx, account_id, ngrams))
        found = await self._store.run(_words, batch, current.ngrams)
        filter_id = current.id
        items = list(found.items())
        while items:
            job: dict[int, Words | None] = {}
            room = _JOB_WORDS
            while items and (room > 0 or not job):
                row_id, words = items.pop(0)
                job[row_id] = words
                room -= 1 if words is None else len(words) + 1
            trained, untrained = await self._store.write(
                lambda tx, j=job: junkdb.learn(tx, account_id, filter_id, j)  # type: ignore[misc]
            )
            metrics.junk_trained_total.labels("train").inc(trained)
            metrics.junk_trained_total.labels("untrain").inc(untrained)
            waiting = self._retraining.get(account_id)
            if waiting is not None:
                waiting.count += trained
                waiting.progress(waiting.count)

    # -- Training anew -----------------------------------------------------------------

    async def restart(self, account_id: int, params: JunkParams) -> None:
        """Begin to train an account anew; until that is done, its old filter is asked."""
        bits = ngram_bits(params)
        await self._store.write(lambda tx: junkdb.restart(tx, account_id, bits))
        self._resets.pop(account_id, None)
        self._passes.pop(account_id, None)

    async def retrain(
        self,
        account_id: int,
        params: JunkParams,
        progress: Callable[[int], object] = lambda count: None,
    ) -> int:
        """Train an account anew; returns from how many messages the filter has learned.

        `progress` is told now and then how many there are so far. Raises StoreError.
        """
        earlier = self._retraining.pop(account_id, None)
        if earlier is not None:
            earlier.done.errback(Failure(StoreClosed("another training began")))
        await self.restart(account_id, params)
        done: Deferred[int] = Deferred()
        self._retraining[account_id] = _Retraining(done, progress)
        self._due[account_id] = None
        self._schedule(0)
        return await done


def _words(batch: Sequence[Untrained], ngrams: int) -> dict[int, Words | None]:
    """The words of messages by id; None where they cannot be read."""
    return {each.id: _words_of(each, ngrams) for each in batch}


def _words_of(message: Untrained, ngrams: int) -> Words | None:
    try:
        if message.data is not None:
            data = message.data
            try:
                tree = unpack_tree(message.tree)
            except TreeError:
                tree = parse_message(data)
            return words_by(
                tree, lambda start, end: data[start:end], ngrams, message.prefix
            ).words
        if message.path is None:
            return None
        with open(message.path, "rb") as file:

            def read(start: int, end: int) -> bytes:
                file.seek(start)
                return file.read(end - start)

            return words_by(unpack_tree(message.tree), read, ngrams, message.prefix).words
    except (OSError, TreeError) as exc:
        _log.error("message cannot be read for training", message_id=message.id, err=exc)
        return None
