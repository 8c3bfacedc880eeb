"""What follows from an attempt: results, time of the next one, notifications, retirement.

For a message all of it happens in one transaction, so that none is ever gone without its sender
knowing, nor reported twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from moxtw import metrics
from moxtw.log import Logger
from moxtw.mail.address import base_address, pack_address
from moxtw.mail.header import MAX_HEADER_BYTES
from moxtw.queue import events, hooktypes, notify
from moxtw.queue.attempt import Attempt, Outcome, Source
from moxtw.queue.delivery import DeliveryError, Trouble
from moxtw.queue.notify import Notification
from moxtw.queue.routes import Config, ascii_domain
from moxtw.queue.schedule import SECOND
from moxtw.store import accounts, outgoing, queuedb, queuelists, suppressions
from moxtw.store.content import SMALL, Spooled
from moxtw.store.db import Store
from moxtw.store.errors import NoContent, NoSuchAccount
from moxtw.store.queuerecord import Queued, Result, Retired
from moxtw.store.tx import Tx

log = Logger("queue")

NOTICES: Final = 50
"""Messages with notifications that are stored together."""

KEEP_WITHOUT_ACCOUNT: Final = 7 * 86400
"""Seconds that retired messages are kept of accounts that are gone."""

# A reply that says that the address is no good, whatever may come (RFC 5321, RFC 7504).
_BAD_CODES: Final = frozenset({521, 550, 551, 553, 556})
_BAD_SECODES: Final = frozenset({"1.1", "1.2", "1.3", "1.6", "2.1", "7.1"})


@dataclass(slots=True)
class _End:
    """What is to be done with a message after an attempt."""

    message: Queued
    outcome: Outcome
    success: bool
    final: bool
    # What the sender is to be told of, empty for nothing.
    action: str = ""
    content: Spooled | None = None
    notification: Notification | None = None
    # What webhooks are told of, if it is not what the outcome says.
    event: str = ""


def keep_period(config: Config, account: str) -> int:
    """Microseconds that an account's retired messages are kept, 0: not at all."""
    known = config.dynamic.accounts.get(account)
    if known is None:
        return KEEP_WITHOUT_ACCOUNT * SECOND
    return int(known.keep_retired_message_period.seconds * SECOND)


async def finish(
    store: Store, config: Config, attempt: Attempt, *, began: int
) -> int | None:
    """Store what came of an attempt; returns when the next message to its domain is due.

    began: when the attempt began, microseconds since the epoch. Raises StoreError.

    What was delivered comes first and in one go, as it would be sent again after a crash.
    Messages with notifications follow in parts.
    """
    now = store.now()
    duration = max(0, now - began)
    ends = []
    for message in attempt.messages:
        outcome = attempt.outcomes.get(message.id)
        if outcome is None:
            error = DeliveryError(Trouble.LOCAL, "no outcome of the attempt")
            outcome = Outcome(error, text=error.text)
        ends.append(_judge(message, outcome, duration, now))
    # That a message was relayed may be told late, rather than that it is sent twice.
    noticed = [end for end in ends if end.action and not end.success]
    relayed = [end for end in ends if end.action and end.success]
    due = await _store_all(
        store,
        config,
        attempt,
        [end for end in ends if end.success or not end.action],
        first=True,
    )
    original = await _original(attempt, ends) if noticed or relayed else b""
    for start in range(0, len(noticed), NOTICES):
        part = noticed[start : start + NOTICES]
        await _compose(store, config, part, original, now)
        due = await _store_all(store, config, attempt, part)
    for start in range(0, len(relayed), NOTICES):
        part = relayed[start : start + NOTICES]
        await _compose(store, config, part, original, now)
        await _tell(store, config, part)
    return due


async def _tell(store: Store, config: Config, ends: Sequence[_End]) -> None:
    """Store notifications about messages that are gone from the queue."""

    def job(tx: Tx) -> None:
        for end in ends:
            if end.notification is not None and end.content is not None:
                notify.store(tx, config.static, end.notification, end.content)

    try:
        await store.write(job)
    finally:
        for end in ends:
            if end.content is not None:
                end.content.discard()


async def _store_all(
    store: Store, config: Config, attempt: Attempt, ends: Sequence[_End], *, first: bool = False
) -> int | None:
    """Store how messages ended, in one transaction; see `finish`."""
    tls_seen = attempt.tls_seen
    domain = attempt.first.recipient_domain

    def job(tx: Tx) -> int | None:
        for end in ends:
            if queuedb.exists(tx, end.message.id):
                _store(tx, config, end)
        if first and tls_seen is not None and ascii_domain(domain):
            try:
                account = accounts.get(tx, attempt.first.sender_account)
            except NoSuchAccount:
                pass
            else:
                outgoing.set_domain_tls(
                    tx, account.id, domain, starttls=tls_seen[0], require_tls=tls_seen[1]
                )
        return queuedb.next_in_domain(tx, domain)

    try:
        due = await store.write(job)
    finally:
        for end in ends:
            if end.content is not None:
                end.content.discard()
    for end in ends:
        _log_end(end)
    return due


CANCELED: Final = "delivery canceled by admin"


async def cancel(store: Store, config: Config, ids: Sequence[int], *, notice: bool) -> int:
    """Take messages from the queue as failed; with `notice` their senders are told.

    Returns how many there were still. An attempt that is under way has no effect any more on
    what is recorded.
    """
    now = store.now()
    found = await store.read(lambda tx: queuelists.rows(tx, ids))
    error = DeliveryError(Trouble.CANCELED, CANCELED, permanent=True)
    ends = []
    for message in found:
        if message.delivering and message.results:
            message.results.pop()
        message.results.append(Result(now, error=CANCELED))
        message.delivering = False
        outcome = Outcome(error, text=CANCELED)
        end = _End(
            message, outcome, False, True, event=hooktypes.FAILED if notice else hooktypes.CANCELED
        )
        ends.append(end)
        if notice:
            end.action = notify.wanted(message, outcome, success=False, final=True)
        if end.action:
            attempt = Attempt([message], await _source(store, message))
            await _compose(store, config, [end], await _original(attempt, [end]), now)

    def job(tx: Tx) -> int:
        count = 0
        for end in ends:
            if queuedb.exists(tx, end.message.id):
                _store(tx, config, end)
                count += 1
        return count

    try:
        return await store.write(job)
    finally:
        for end in ends:
            if end.content is not None:
                end.content.discard()


async def _source(store: Store, message: Queued) -> Source:
    try:
        content_id, prefix, utf8 = await store.read(lambda tx: queuedb.source(tx, message.id))
    except queuedb.NoSuchQueued:
        content_id, prefix, utf8 = 0, b"", None
    return Source(store, content_id, prefix, message.size, utf8)


def _judge(message: Queued, outcome: Outcome, duration: int, now: int) -> _End:
    """Complete the result of the attempt, and decide what is next."""
    error = outcome.error
    result = message.results[-1] if message.results else Result(now)
    result.duration = duration
    result.success = error is None
    result.code = outcome.code
    result.secode = outcome.secode
    result.error = "" if error is None else error.text
    message.delivering = False
    final = error is not None and (
        error.permanent or message.attempts >= message.attempts_allowed
    )
    success = error is None
    action = notify.wanted(message, outcome, success=success, final=final)
    return _End(message, outcome, success, final, action)


async def _original(attempt: Attempt, ends: Sequence[_End]) -> bytes:
    """The beginning of the message, with its header; all of it if a sender wants that."""
    full = any(notify.returns_full(end.message, end.action) for end in ends)
    try:
        return await attempt.source.read(
            0, attempt.source.size if full else MAX_HEADER_BYTES
        )
    except NoContent as exc:
        log.error("original message for notification", msgid=attempt.first.id, err=exc)
        return b""


async def _compose(
    store: Store, config: Config, ends: Sequence[_End], original: bytes, now: int
) -> None:
    """Compose the notifications about messages with the same content."""

    def compose() -> None:
        for end in ends:
            notice = end.notification = notify.compose(
                config.static, end.message, end.outcome, original, now, end.action
            )
            if len(notice.data) <= SMALL:
                end.content = store.contents.from_bytes_now(notice.data)

    # In a thread: there can be many.
    await store.run(compose)
    for end in ends:
        if end.content is None and end.notification is not None:
            end.content = await store.contents.from_bytes(end.notification.data)


def _store(tx: Tx, config: Config, end: _End) -> None:
    message = end.message
    if not end.success and end.notification is not None and end.content is not None:
        notify.store(tx, config.static, end.notification, end.content)
    if not end.success and not end.final:
        queuedb.postpone(tx, message)
        _tell_event(tx, config, end)
        return
    suppressing = (
        not end.success
        and end.outcome.code != 0
        and suppress(tx, message, end.outcome.code, end.outcome.secode)
    )
    queuedb.retire(tx, message, end.success, keep_period(config, message.sender_account))
    _tell_event(tx, config, end, suppressing)


def _tell_event(tx: Tx, config: Config, end: _End, suppressing: bool = False) -> None:
    outcome = end.outcome
    error = "" if outcome.error is None else outcome.error.text
    event = end.event
    if not event:
        if end.success:
            event = hooktypes.DELIVERED
        elif not end.final:
            event = hooktypes.DELAYED
        elif outcome.error is not None and outcome.error.trouble is Trouble.SUPPRESSED:
            event = hooktypes.SUPPRESSED
        else:
            event = hooktypes.FAILED
    events.add(
        tx,
        config,
        end.message,
        event,
        code=outcome.code,
        secode=outcome.secode,
        error=error,
        suppressing=suppressing,
    )


def suppress(
    tx: Tx, message: Queued | Retired, code: int, secode: str, source: str = "delivery"
) -> bool:
    """After a final failure with an SMTP code: suppress the address if that is what it means.

    True if it was added to the list now.
    """
    bad = code in _BAD_CODES or (500 <= code < 600 and secode in _BAD_SECODES)
    if not bad and not queuedb.others_failed(tx, message):
        return False
    enhanced = f" {code // 100}.{secode}" if secode else ""
    added = suppressions.suppress(
        tx,
        message.sender_account,
        base_address(message.recipient_localpart, message.recipient_domain),
        pack_address(message.recipient_localpart, message.recipient_domain),
        manual=False,
        reason=f"{source} failed with smtp code {code}{enhanced}",
    )
    return added is not None


def _log_end(end: _End) -> None:
    message = end.message
    fields = {
        "msgid": message.id,
        "from": message.sender,
        "to": message.recipient,
        "attempts": message.attempts,
    }
    if end.success:
        log.info("delivered from queue", **fields)
        return
    if end.final and message.is_dmarc_report:
        metrics.queue_dmarcreport_failure_total.inc()
    text = "permanent failure delivering from queue" if end.final else "delivery delayed"
    log.info(text, err=end.outcome.text, code=end.outcome.code, **fields)
