"""A store for unit tests: jobs run at once, Deferreds have fired already."""

from __future__ import annotations

from typing import Any

from twisted.internet.task import Clock

from moxtw.store import accounts
from moxtw.store.db import Store
from moxtw.store.model import Account, NewMessage
from moxtw.store.tx import Tx


def make_store(testcase: Any, clock: Any = None) -> Store:
    """An open store in a fresh directory, closed after the test. Its reactor is a Clock."""
    clock = clock or Clock()
    store = Store(
        testcase.mktemp(),
        clock,
        inline=True,
        now=lambda: 1_750_000_000_000_000 + int(clock.seconds() * 1_000_000),
    )
    store.open()
    store.startService()
    testcase.addCleanup(store.stopService)
    return store


def now(deferred: Any) -> Any:
    """The result of a Deferred that has fired; raises its failure."""
    results: list[Any] = []
    failures: list[Any] = []
    deferred.addCallbacks(results.append, failures.append)
    if failures:
        failures[0].raiseException()
    if not results:
        raise AssertionError("the Deferred has not fired")
    return results[0]


def make_account(store: Store, name: str = "mox") -> Account:
    """An account with the default mailboxes."""
    return now(store.write(lambda tx: accounts.ensure(tx, name)))


def message(
    store: Store, data: bytes = b"Subject: hi\r\n\r\nbody\r\n", **fields: Any
) -> NewMessage:
    """A message to add, from its bytes."""
    return NewMessage(now(store.contents.from_bytes(data)), **fields)


def job(store: Store, fn: Any, *args: Any, **kwargs: Any) -> Any:
    """Run `fn(tx, *args)` as a write job, and give its result."""

    def run(tx: Tx) -> Any:
        return fn(tx, *args, **kwargs)

    return now(store.write(run))
