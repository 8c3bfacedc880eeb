"""Tells the postmaster of new versions."""

from __future__ import annotations

import pathlib
from collections.abc import Sequence
from typing import Any, Final

from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.python.failure import Failure

from moxtw.config.lookup import ConfigView
from moxtw.log import Logger
from moxtw.mail.address import Address, Path
from moxtw.mail.compose import Composer, NameAddress, TextPart, message_id
from moxtw.mail.received import return_path
from moxtw.store import accounts, mailboxes, messages
from moxtw.store.db import Store
from moxtw.store.errors import StoreClosed, StoreError
from moxtw.store.model import Flag, NewMessage
from moxtw.store.tx import Tx
from moxtw.updates import lastknown
from moxtw.updates.changelog import Change
from moxtw.updates.check import Source, UpdateError, running
from moxtw.updates.record import Version

log = Logger("updates")

INTERVAL: Final = 24 * 3600.0
"""Seconds from one check to the next, over restarts too."""
AGAIN: Final = 3600.0
"""Seconds after a check that failed."""


class UpdateService(Service):
    """Checks once a day, and delivers what is new to the postmaster's mailbox.

    clock: IReactorTime. data_path: the data directory.
    """

    name = "updates"

    def __init__(
        self, store: Store, config: ConfigView, source: Source, data_path: pathlib.Path, clock: Any
    ) -> None:
        self._store = store
        self._config = config
        self._source = source
        self._data_path = data_path
        self._clock = clock
        self._timer: Any = None
        self._work: Deferred[None] | None = None

    def startService(self) -> None:  # noqa: N802 - Twisted's name
        """Begin: a day after the last check, or now if that is over."""
        super().startService()  # type: ignore[no-untyped-call]
        self._begin(self._first())

    def stopService(self) -> Deferred[Any]:  # noqa: N802 - Twisted's name
        """Stop where it is."""
        super().stopService()  # type: ignore[no-untyped-call]
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._work is not None:
            self._work.cancel()
        return succeed(None)

    def _begin(self, work: Any) -> None:
        self._timer = None
        delay = [AGAIN]

        def done(seconds: float) -> None:
            delay[0] = seconds

        def failed(failure: Failure) -> None:
            if failure.check(UpdateError, OSError, StoreError):
                log.error("looking for a new version", err=failure.value)
            elif not failure.check(CancelledError, StoreClosed):
                log.failure("looking for a new version", failure)

        def ended(_: object) -> None:
            self._work = None
            if self.running:
                self._timer = self._clock.callLater(
                    delay[0], lambda: self._begin(self._check())
                )

        self._work = Deferred.fromCoroutine(work)
        self._work.addCallbacks(done, failed)
        self._work.addCallback(ended)

    async def _first(self) -> float:
        """Seconds until a check is due."""
        _, checked = await self._store.run(lastknown.read, self._data_path)
        now: float = self._clock.seconds()
        # A time to come is that of a clock that was wrong.
        return max(0.0, min(checked, now) + INTERVAL - now)

    async def _check(self) -> float:
        known, _ = await self._store.run(lastknown.read, self._data_path)
        since = max(running(), known or Version())
        latest = await self._source.latest()
        if latest > since:
            changes = await self._source.changes(since)
            if not changes:
                raise UpdateError(f"{latest} is announced, but the changelog does not know of it")
            await self._tell(changes)
            # By the texts, as they are what is signed.
            since = changes[0].version
            log.info("told the postmaster of a new version", version=str(since))
        # Only now: who crashes before tells it again.
        await self._store.run(lastknown.write, self._data_path, since, self._clock.seconds())
        return INTERVAL

    async def _tell(self, changes: Sequence[Change]) -> None:
        static = self._config.static
        data = compose(static.dns_hostname, changes, int(self._clock.seconds() * 1_000_000))
        content = await self._store.contents.from_bytes(data)

        def add(tx: Tx) -> None:
            account = accounts.get(tx, static.postmaster.account)
            mailbox = mailboxes.ensure(tx, account.id, static.postmaster.mailbox)
            new = NewMessage(content, return_path(Path()), flags=int(Flag.FLAGGED))
            messages.add(tx, account.id, mailbox.id, new)

        try:
            await self._store.write(add)
        finally:
            content.discard()


def compose(hostname: Any, changes: Sequence[Change], now: int) -> bytes:
    """The message about new versions. now: microseconds since the epoch."""
    postmaster = NameAddress("moxtw", Address("postmaster", hostname))
    composer = Composer()
    composer.addresses("From", [postmaster])
    composer.addresses("To", [NameAddress("", postmaster.address)])
    composer.text("Subject", f"moxtw {changes[0].version} is available")
    composer.message_ids("Message-Id", [message_id(hostname)])
    composer.date(now)
    rule = "\n" + "-" * 72 + "\n\n"
    text = rule.join(change.text.replace("\r\n", "\n").strip("\n") + "\n" for change in changes)
    intro = (
        f"A new version of moxtw is available: {changes[0].version}, while this server runs "
        f"{running()}.\nThese are the changes, newest first.\n"
    )
    return composer.message(TextPart(intro + rule + text))
