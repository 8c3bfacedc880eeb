"""A running server as operations see it, in memory: configuration files, store, clock."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from moxtw.admin.context import AdminContext
from moxtw.config.testing import DYNAMIC, STATIC, live_from
from moxtw.dns.fake import ZoneResolver
from moxtw.net.cid import ConnectionIds
from moxtw.queue.hookoperations import HookOperations
from moxtw.queue.operations import QueueOperations
from moxtw.sasl import password as passwords
from moxtw.store import accounts
from moxtw.store.db import Store

START = 1_750_000_000


def make_admin_context(
    testcase: Any, dynamic: str = DYNAMIC, static: str = STATIC
) -> AdminContext:
    """A context over fresh files and a fresh store; things done are done at once.

    `ctx.ended` lists accounts whose sessions were ended. Passwords are hashed cheaply.
    """
    clock = Clock()
    clock.advance(START)
    directory = Path(testcase.mktemp()).absolute()
    config = live_from(dynamic, static, directory=directory, reactor=clock)
    store = Store(
        str(directory / "data"), clock, inline=True, now=lambda: int(clock.seconds() * 1_000_000)
    )
    store.open()
    store.startService()
    testcase.addCleanup(store.stopService)

    async def ensure_accounts() -> None:
        def job(tx: Any) -> None:
            for name in config.dynamic.accounts:
                accounts.ensure(tx, name)

        await store.write(job)

    ended: list[str] = []
    ctx = AdminContext(
        config=config,
        store=store,
        queue=QueueOperations(store, config),
        hooks=HookOperations(store, config),
        clock=clock,
        ids=ConnectionIds(b"k" * 24, 1000),
        end_sessions=ended.append,
        ensure_accounts=ensure_accounts,
        resolver=ZoneResolver(),
    )
    ctx.ended = ended  # type: ignore[attr-defined]
    derive, hash_password = passwords.derive, passwords.hash_password
    cheap = {"derive": derive, "hash_password": hash_password}
    for name, function in cheap.items():
        testcase.patch(passwords, name, lambda text, cost=4, f=function: f(text, cost=4))
    testcase.successResultOf(Deferred.fromCoroutine(ensure_accounts()))
    return ctx
