"""An attempt to deliver a message to recipients of one domain, whatever the way."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from moxtw import metrics
from moxtw.log import Logger
from moxtw.mail.address import pack_address, parse_path
from moxtw.queue.delivery import (
    DeliveryError,
    RcptResult,
    SMTPDialer,
    SMTPSession,
    Target,
    TLSMode,
    Transaction,
    Trouble,
)
from moxtw.queue.routes import ascii_domain
from moxtw.store import queuedb
from moxtw.store.db import Store
from moxtw.store.queuerecord import Queued

log = Logger("queue")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a recipient: `error` None means that the next host has the message.

    dsn: that host cares for what the sender wants to be told.
    """

    error: DeliveryError | None
    code: int = 0
    secode: str = ""
    text: str = ""
    dsn: bool = False


@dataclass(frozen=True, slots=True)
class Source:
    """Where the bytes of a message are."""

    store: Store
    content_id: int
    prefix: bytes
    size: int
    utf8: bytes | None = None

    async def read(self, start: int, length: int) -> bytes:
        """A part of the message."""
        return await self.store.read(
            lambda tx: queuedb.read_parts(tx, self.content_id, self.prefix, start, length)
        )


@dataclass(slots=True)
class Attempt:
    """Messages that go out together: same content, sender, recipient domain, transport.

    left: those that can be tried with a further host, by id. outcomes: what became of the
    others; for those that are left, the best explanation so far. soft: those for which some
    host failed in a way that may be better later. tls_seen: STARTTLS and REQUIRETLS of the
    host, once a session was set up. transport: its name, empty for direct delivery. tls_label:
    for metrics, how TLS was used last.
    """

    messages: list[Queued]
    source: Source
    transport: str = ""
    left: dict[int, Queued] = field(default_factory=dict)
    outcomes: dict[int, Outcome] = field(default_factory=dict)
    soft: set[int] = field(default_factory=set)
    tls_seen: tuple[bool, bool] | None = None
    tls_label: str = TLSMode.SKIP.value
    begun: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        self.left = {message.id: message for message in self.messages}

    @property
    def first(self) -> Queued:
        """The message that stands for all in what they have in common."""
        return self.messages[0]

    def fail(self, error: DeliveryError, ids: Iterable[int] | None = None) -> None:
        """A failure that ends the attempt, for all that are left or some of them."""
        for message_id in list(self.left if ids is None else ids):
            self.outcomes[message_id] = _failed(error)
            self.left.pop(message_id, None)

    def explain(self, error: DeliveryError, ids: Iterable[int] | None = None) -> None:
        """Note why those that are left could not be delivered to one host.

        What a server said is worth more than that another one could not be reached.
        """
        for message_id in self.left if ids is None else ids:
            if not error.permanent:
                self.soft.add(message_id)
            known = self.outcomes.get(message_id)
            if (
                known is None
                or known.error is None
                or error.trouble is Trouble.REPLY
                or known.error.trouble is not Trouble.REPLY
            ):
                self.outcomes[message_id] = _failed(error)

    def conclude(self) -> None:
        """No host is left to try: fail what all of them refused for good."""
        for message_id in list(self.left):
            outcome = self.outcomes.get(message_id)
            if outcome is None or outcome.error is None or not outcome.error.permanent:
                continue
            if message_id in self.soft:
                self.outcomes[message_id] = _failed(outcome.error.copy(permanent=False))
            else:
                self.fail(outcome.error, [message_id])

    def keep_decided(self) -> bool:
        """After an attempt that was stopped: forget the messages that it decided nothing about.

        Returns whether any are left.
        """
        self.messages = [
            message
            for message in self.messages
            if message.id not in self.left and message.id in self.outcomes
        ]
        return bool(self.messages)

    def take_results(
        self,
        ids: list[int],
        results: list[RcptResult],
        *,
        judge: Callable[[DeliveryError], tuple[bool, DeliveryError]],
    ) -> list[int]:
        """Note the results of a transaction; returns those that were not tried in it.

        `judge` says of a failure whether it ends the attempt for a recipient, and may give
        another one in its place.
        """
        untried = []
        for message_id, result in zip(ids, results, strict=True):
            if result.untried:
                untried.append(message_id)
            elif result.error is None:
                self.outcomes[message_id] = Outcome(
                    None, result.code, result.secode, result.text, result.dsn
                )
                self.left.pop(message_id, None)
            else:
                final, error = judge(result.error)
                if final:
                    self.fail(error, [message_id])
                else:
                    self.explain(error, [message_id])
        return untried

    def transaction(self, ids: list[int], **more: Any) -> Transaction:
        """The transaction for recipients."""
        first = self.first
        return Transaction(
            mail_from=wire_address(first.sender_localpart, first.sender_domain),
            recipients=tuple(
                wire_address(self.left[i].recipient_localpart, self.left[i].recipient_domain)
                for i in ids
            ),
            size=self.source.size,
            read=self.source.read,
            has8bit=first.has8bit,
            smtputf8=any(self.left[i].smtputf8 for i in ids),
            requiretls=first.require_tls is True,
            utf8_content=self.source.utf8,
            dsn=tuple(self.left[i].dsn for i in ids),
            **more,
        )

    def observe(self) -> None:
        """Count the attempt in metrics."""
        errors = [outcome.error for outcome in self.outcomes.values() if outcome.error]
        if not errors:
            result = "ok"
        elif len(errors) < len(self.messages):
            result = "okpartial"
        else:
            result = result_label(errors[0])
        metrics.queue_delivery_duration_seconds.labels(
            str(self.first.attempts), self.transport, self.tls_label, result
        ).observe(time.monotonic() - self.begun)


def _failed(error: DeliveryError) -> Outcome:
    return Outcome(error, error.code, error.secode, error.text)


def result_label(error: DeliveryError) -> str:
    """The kind of a failure, as metrics name it."""
    if error.trouble is Trouble.TIMEOUT:
        return "timeout"
    if error.trouble is Trouble.CANCELED:
        return "canceled"
    if error.permanent:
        return "permerror"
    return "temperror" if error.trouble is Trouble.REPLY else "error"


def wire_address(localpart: str, domain: str) -> str:
    """An address as in MAIL and RCPT: the domain in ASCII, or as a literal; empty for null."""
    if not localpart and not domain:
        return ""
    if domain.startswith("["):
        return parse_path(pack_address(localpart, domain)).form(utf8=False)
    return pack_address(localpart, ascii_domain(domain))


async def connect(
    dialer: SMTPDialer,
    target: Target,
    dialed: Callable[[str], None] | None = None,
) -> SMTPSession:
    """A session with a server, counted in metrics. Raises DeliveryError."""
    try:
        session = await dialer.connect(target, dialed=dialed)
    except DeliveryError as exc:
        if exc.trouble is Trouble.DIAL:
            label = "timeout" if "timed out" in exc.text.lower() else "error"
        elif exc.trouble is Trouble.CANCELED:
            label = "canceled"
        else:
            label = "ok"
        metrics.queue_connection_total.labels(label).inc()
        raise
    metrics.queue_connection_total.labels("ok").inc()
    return session
