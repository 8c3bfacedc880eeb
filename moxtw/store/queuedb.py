"""Queued messages as rows: adding, the scheduler's picks, outcomes, retired messages.

Functions take the transaction of a job, like those of the other modules here. Which messages
are due is found by domain, through an index, so that nothing reads all rows however many
there are. Lists and changes by filter stand in `moxtw.store.queuelists`.

What adds messages or makes them due earlier names their domains in `Tx.queue_domains`, and
so wakes the scheduler after the commit.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import sqlalchemy as sa
from sqlalchemy import bindparam

from moxtw.mail.address import base_address
from moxtw.store import content
from moxtw.store.errors import StoreError
from moxtw.store.queuerecord import (
    COLUMNS,
    DELIVERING,
    MAX_RESULTS,
    NewQueued,
    Queued,
    Result,
    Retired,
    dsn_to_json,
    queued_row,
    results_of,
    to_json,
)
from moxtw.store.schema_queue import queue, queue_hold_rules, queue_retired, queue_sources
from moxtw.store.tx import Statement, Tx

HELD: Final = "\0"
"""In `Tx.queue_domains`: messages were put on hold, others are due as they were."""


class FromIDInUse(StoreError):
    """A message with that FromID is queued or retired already."""


class NoSuchQueued(StoreError):
    """There is no queued message of that id."""


# -- Adding ----------------------------------------------------------------------------------

_INSERT = Statement(
    queue.insert()
    .values({c.name: bindparam(c.name) for c in queue.c if c.name not in ("id", "delivering")})
    .returning(queue.c.id)
)
_INSERT_SOURCE = Statement(
    queue_sources.insert()
    .values(
        content_id=bindparam("content_id"), prefix=bindparam("prefix"), dsn_utf8=bindparam("utf8")
    )
    .returning(queue_sources.c.id)
)
_SET_BASE = Statement(
    queue.update().where(queue.c.id == bindparam("i")).values(base_id=bindparam("base"))
)
_FROM_ID_QUEUED = Statement(sa.select(queue.c.id).where(queue.c.from_id == bindparam("f")))
_FROM_ID_RETIRED = Statement(
    sa.select(queue_retired.c.id).where(queue_retired.c.from_id == bindparam("f")).limit(1)
)
_RULES = Statement(
    sa.select(
        queue_hold_rules.c.id,
        queue_hold_rules.c.account,
        queue_hold_rules.c.sender_domain,
        queue_hold_rules.c.recipient_domain,
    ).order_by(queue_hold_rules.c.id)
)


def add(tx: Tx, messages: Sequence[NewQueued], saved: dict[int, int] | None = None) -> list[int]:
    """Queue messages: the recipients of one submission. Returns their ids.

    Those with the same sender and prefix share a base id and may go out together. `saved` as
    for `moxtw.store.messages.add`. Raises FromIDInUse.
    """
    saved = {} if saved is None else saved
    rules = hold_rules(tx)
    groups: dict[tuple[str, str, int], list[int]] = {}
    sources: dict[tuple[int, bytes, bytes | None], int] = {}
    ids: list[int] = []
    for new in messages:
        if new.from_id and from_id_in_use(tx, new.from_id):
            raise FromIDInUse(new.from_id)
        bytes_of = (content.save(tx, new.content, saved), new.prefix, new.dsn_utf8)
        source_id = sources.get(bytes_of)
        if source_id is None:
            source_id = sources[bytes_of] = tx.value(
                _INSERT_SOURCE, content_id=bytes_of[0], prefix=new.prefix, utf8=new.dsn_utf8
            )
        hold = any(rule.matches(new) for rule in rules)
        message_id: int = tx.value(
            _INSERT,
            base_id=0,
            queued=tx.now,
            sender_account=new.sender_account,
            sender_localpart=new.sender_localpart,
            sender_domain=new.sender_domain,
            recipient_localpart=new.recipient_localpart,
            recipient_domain=new.recipient_domain,
            from_id=new.from_id or None,
            attempts=0,
            max_attempts=new.max_attempts,
            last_attempt=None,
            dialed_ips="",
            results="",
            has8bit=int(new.has8bit),
            smtputf8=int(new.smtputf8),
            size=len(new.prefix) + new.content.size,
            message_id=new.message_id,
            subject=new.subject,
            is_dmarc_report=int(new.is_dmarc_report),
            is_tls_report=int(new.is_tls_report),
            transport=new.transport,
            require_tls=None if new.require_tls is None else int(new.require_tls),
            future_release=new.future_release,
            extra=to_json(new.extra),
            dsn=dsn_to_json(new.dsn),
            hold=int(hold),
            next_attempt=tx.now if new.next_attempt is None else new.next_attempt,
            source_id=source_id,
        )
        ids.append(message_id)
        sender = (new.sender_localpart, new.sender_domain, source_id)
        groups.setdefault(sender, []).append(message_id)
        tx.queue_domains.add(HELD if hold else new.recipient_domain)
    for group in groups.values():
        if len(group) > 1:
            tx.many(_SET_BASE, [{"i": i, "base": group[0]} for i in group])
    return ids


def from_id_in_use(tx: Tx, from_id: str) -> bool:
    """Whether a queued or retired message has that id in its MAIL FROM."""
    return (
        tx.value(_FROM_ID_QUEUED, f=from_id) is not None
        or tx.value(_FROM_ID_RETIRED, f=from_id) is not None
    )


# -- Hold rules ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class HoldRule:
    """Messages that match all fields that are not empty are put on hold."""

    id: int
    account: str
    sender_domain: str
    recipient_domain: str

    def matches(self, message: NewQueued) -> bool:
        """Whether a message that is being queued is to be held."""
        return (
            self.account in ("", message.sender_account)
            and self.sender_domain in ("", message.sender_domain)
            and self.recipient_domain in ("", message.recipient_domain)
        )


_INSERT_RULE = Statement(
    queue_hold_rules.insert()
    .values(
        account=bindparam("account"),
        sender_domain=bindparam("sender_domain"),
        recipient_domain=bindparam("recipient_domain"),
    )
    .returning(queue_hold_rules.c.id)
)
_DELETE_RULE = Statement(queue_hold_rules.delete().where(queue_hold_rules.c.id == bindparam("i")))


def hold_rules(tx: Tx) -> list[HoldRule]:
    """All hold rules."""
    return [HoldRule(*row) for row in tx.all(_RULES)]


def hold_rule_add(
    tx: Tx, account: str, sender_domain: str, recipient_domain: str
) -> HoldRule:
    """Add a rule; messages queued before are another matter (`queuelists.hold_matching`)."""
    rule_id = tx.value(
        _INSERT_RULE,
        account=account,
        sender_domain=sender_domain,
        recipient_domain=recipient_domain,
    )
    return HoldRule(rule_id, account, sender_domain, recipient_domain)


def hold_rule_remove(tx: Tx, rule_id: int) -> bool:
    """Remove a rule; what it holds stays on hold. False if there is none of that id."""
    return tx.run(_DELETE_RULE, i=rule_id) > 0


# -- The schedule ----------------------------------------------------------------------------


def _domains() -> Statement:
    """Each domain with messages not on hold, and when its next one is due.

    Goes from domain to domain through the index `queue_due_in`, instead of reading all its rows.
    """
    first = sa.select(sa.func.min(queue.c.recipient_domain).label("domain")).where(
        queue.c.hold == 0
    )
    found = first.cte("found", recursive=True)
    following = (
        sa.select(sa.func.min(queue.c.recipient_domain))
        .where(queue.c.hold == 0, queue.c.recipient_domain > found.c.domain)
        .scalar_subquery()
    )
    found = found.union_all(sa.select(following).where(found.c.domain.is_not(None)))
    due = (
        sa.select(sa.func.min(queue.c.next_attempt))
        .where(queue.c.hold == 0, queue.c.recipient_domain == found.c.domain)
        .scalar_subquery()
    )
    return Statement(sa.select(found.c.domain, due).where(found.c.domain.is_not(None)))


_DOMAINS = _domains()
_NEXT_IN_DOMAIN = Statement(
    sa.select(sa.func.min(queue.c.next_attempt)).where(
        queue.c.hold == 0, queue.c.recipient_domain == bindparam("domain")
    )
)
_FIRST_DUE = Statement(
    sa.select(*COLUMNS)
    .where(
        queue.c.hold == 0,
        queue.c.recipient_domain == bindparam("domain"),
        queue.c.next_attempt <= bindparam("t"),
    )
    .order_by(queue.c.next_attempt, queue.c.id)
    .limit(1)
)
_GATHER = Statement(
    sa.select(*COLUMNS)
    .where(
        queue.c.base_id == bindparam("base"),
        queue.c.base_id > sa.literal_column("0"),  # literal, for the partial index
        queue.c.id != bindparam("i"),
        queue.c.recipient_domain == bindparam("domain"),
        queue.c.attempts == bindparam("attempts"),
        # As an expression, so that SQLite prefers the index of base ids to that of domains.
        queue.c.hold + 0 == 0,
        queue.c.next_attempt <= bindparam("t"),
        queue.c.transport == bindparam("transport"),
        sa.func.coalesce(queue.c.require_tls, -1) == bindparam("require_tls"),
        # A server without SMTPUTF8 can have the message for those who do not need it.
        queue.c.smtputf8 == bindparam("smtputf8"),
    )
    .order_by(queue.c.id)
    .limit(bindparam("most"))
)
_BEGIN = Statement(
    queue.update()
    .where(queue.c.id == bindparam("i"))
    .values(
        attempts=queue.c.attempts + 1,
        last_attempt=bindparam("last"),
        next_attempt=bindparam("next"),
        results=bindparam("r"),
        delivering=1,
    )
)
_BY_ID = Statement(sa.select(*COLUMNS).where(queue.c.id == bindparam("i")))
_SOURCE = Statement(
    sa.select(
        queue_sources.c.content_id, queue_sources.c.prefix, queue_sources.c.dsn_utf8
    ).where(queue.c.id == bindparam("i"), queue_sources.c.id == queue.c.source_id)
)
_EXISTS = Statement(sa.select(queue.c.id).where(queue.c.id == bindparam("i")))
_INTERRUPTED = Statement(
    sa.select(queue.c.id, queue.c.results, queue.c.recipient_domain)
    .where(queue.c.delivering == sa.literal_column("1"))
    .limit(bindparam("most"))
)
_RESUME = Statement(
    queue.update()
    .where(queue.c.id == bindparam("i"))
    .values(delivering=0, next_attempt=bindparam("next"), results=bindparam("r"))
)
_HELD = Statement(sa.select(sa.func.count()).select_from(queue).where(queue.c.hold == 1))


def domains(tx: Tx) -> list[tuple[str, int]]:
    """Recipient domains with messages not on hold, and when the next one of each is due."""
    return [(row[0], row[1]) for row in tx.all(_DOMAINS)]


def next_in_domain(tx: Tx, domain: str) -> int | None:
    """When the next message to a domain is due, None if there is none."""
    value: int | None = tx.value(_NEXT_IN_DOMAIN, domain=domain)
    return value


def held(tx: Tx) -> int:
    """The number of messages on hold."""
    count: int = tx.value(_HELD)
    return count


def first_due(tx: Tx, domain: str) -> Queued | None:
    """The message to a domain that is due for the longest time."""
    row = tx.one(_FIRST_DUE, domain=domain, t=tx.now)
    return None if row is None else queued_row(row)


def gather(tx: Tx, message: Queued, most: int) -> list[Queued]:
    """Further recipients that can go out in one transaction with a message: at most `most`."""
    if not message.base_id or most <= 0:
        return []
    rows = tx.all(
        _GATHER,
        base=message.base_id,
        i=message.id,
        domain=message.recipient_domain,
        attempts=message.attempts,
        t=message.next_attempt,
        transport=message.transport,
        require_tls=-1 if message.require_tls is None else int(message.require_tls),
        smtputf8=int(message.smtputf8),
        most=most,
    )
    return [queued_row(row) for row in rows]


def begin(tx: Tx, messages: Iterable[Queued], next_attempt: int) -> None:
    """Begin an attempt: count it, set the time of the next, note a result under way.

    The messages are updated too.
    """
    for message in messages:
        message.attempts += 1
        message.last_attempt = tx.now
        message.next_attempt = next_attempt
        message.delivering = True
        message.results.append(Result(tx.now, error=DELIVERING))
        del message.results[:-MAX_RESULTS]
        tx.run(_BEGIN, i=message.id, last=tx.now, next=next_attempt, r=to_json(message.results))


def get(tx: Tx, message_id: int) -> Queued:
    """A queued message. Raises NoSuchQueued."""
    row = tx.one(_BY_ID, i=message_id)
    if row is None:
        raise NoSuchQueued(str(message_id))
    return queued_row(row)


def source(tx: Tx, message_id: int) -> tuple[int, bytes, bytes | None]:
    """Content id, prefix and UTF-8 form of a queued message. Raises NoSuchQueued."""
    row = tx.one(_SOURCE, i=message_id)
    if row is None:
        raise NoSuchQueued(str(message_id))
    return row[0], bytes(row[1]), None if row[2] is None else bytes(row[2])


def read(tx: Tx, message_id: int, start: int = 0, length: int | None = None) -> bytes:
    """Bytes of a queued message, prefix first. Raises NoSuchQueued, NoContent."""
    content_id, prefix, _ = source(tx, message_id)
    return read_parts(tx, content_id, prefix, start, length)


def read_parts(
    tx: Tx, content_id: int, prefix: bytes, start: int = 0, length: int | None = None
) -> bytes:
    """Bytes of a message whose parts are known."""
    if start >= len(prefix):
        return content.read(tx, content_id, start - len(prefix), length)
    head = prefix[start:] if length is None else prefix[start : start + length]
    left = None if length is None else length - len(head)
    if left == 0:
        return head
    return head + content.read(tx, content_id, 0, left)


def resume(tx: Tx, most: int = 500) -> int:
    """Make messages whose attempt was interrupted due again; returns how many there were.

    Call until it returns 0. The attempt counts: the other side may have taken the message.
    """
    rows = tx.all(_INTERRUPTED, most=most)
    for message_id, text, domain in rows:
        results = results_of(text)
        if results and results[-1].error == DELIVERING:
            results[-1].error = "interrupted: the server was stopped during this attempt"
            results[-1].duration = 0
        tx.run(_RESUME, i=message_id, next=tx.now, r=to_json(results))
        tx.queue_domains.add(domain)
    return len(rows)


# -- Outcomes --------------------------------------------------------------------------------

_POSTPONE = Statement(
    queue.update()
    .where(queue.c.id == bindparam("i"))
    .values(
        delivering=0,
        next_attempt=bindparam("next"),
        results=bindparam("r"),
        dialed_ips=bindparam("ips"),
    )
)
_DELETE = Statement(queue.delete().where(queue.c.id == bindparam("i")))
_SOURCE_USED = Statement(
    sa.select(queue.c.id).where(queue.c.source_id == bindparam("i")).limit(1)
)
_SOURCE_CONTENT = Statement(
    sa.select(queue_sources.c.content_id).where(queue_sources.c.id == bindparam("i"))
)
_DELETE_SOURCE = Statement(queue_sources.delete().where(queue_sources.c.id == bindparam("i")))
_RETIRE = Statement(
    queue_retired.insert().values({c.name: bindparam(c.name) for c in queue_retired.c})
)
_OTHER_RETIRED = Statement(
    sa.select(queue_retired.c.success)
    .where(
        queue_retired.c.sender_account == bindparam("account"),
        queue_retired.c.recipient_address == bindparam("address"),
        queue_retired.c.id != bindparam("i"),
    )
    .order_by(queue_retired.c.last_activity.desc())
    .limit(2)
)
_EXPIRED = Statement(
    queue_retired.delete().where(
        queue_retired.c.id.in_(
            sa.select(queue_retired.c.id)
            .where(queue_retired.c.keep_until < bindparam("t"))
            .order_by(queue_retired.c.keep_until)
            .limit(1000)
        )
    )
)


def exists(tx: Tx, message_id: int) -> bool:
    """Whether a message is queued still: it may have been removed while it was delivered."""
    return tx.one(_EXISTS, i=message_id) is not None


def postpone(tx: Tx, message: Queued) -> None:
    """An attempt has failed for now: store results, dialed addresses, time of the next."""
    message.delivering = False
    tx.run(
        _POSTPONE,
        i=message.id,
        next=message.next_attempt,
        r=to_json(message.results),
        ips=to_json(message.dialed_ips),
    )


def retire(tx: Tx, message: Queued, success: bool, keep: int) -> None:
    """Take a message from the queue; its record is kept for `keep` microseconds (0: not)."""
    if tx.run(_DELETE, i=message.id) == 0:
        raise NoSuchQueued(str(message.id))
    if tx.value(_SOURCE_USED, i=message.source_id) is None:
        content_id = tx.value(_SOURCE_CONTENT, i=message.source_id)
        tx.run(_DELETE_SOURCE, i=message.source_id)
        if content_id is not None:
            content.release(tx, content_id)
    if keep <= 0:
        return
    tx.run(
        _RETIRE,
        id=message.id,
        base_id=message.base_id,
        queued=message.queued,
        sender_account=message.sender_account,
        sender_localpart=message.sender_localpart,
        sender_domain=message.sender_domain,
        recipient_localpart=message.recipient_localpart,
        recipient_domain=message.recipient_domain,
        from_id=message.from_id or None,
        attempts=message.attempts,
        max_attempts=message.max_attempts,
        last_attempt=message.last_attempt,
        dialed_ips=to_json(message.dialed_ips),
        results=to_json(message.results),
        has8bit=int(message.has8bit),
        smtputf8=int(message.smtputf8),
        size=message.size,
        message_id=message.message_id,
        subject=message.subject,
        is_dmarc_report=int(message.is_dmarc_report),
        is_tls_report=int(message.is_tls_report),
        transport=message.transport,
        require_tls=None if message.require_tls is None else int(message.require_tls),
        future_release=message.future_release,
        extra=to_json(message.extra),
        dsn=dsn_to_json(message.dsn),
        recipient_address=message.recipient_base,
        success=int(success),
        last_activity=tx.now,
        keep_until=tx.now + keep,
    )


def others_failed(tx: Tx, message: Queued | Retired) -> bool:
    """Whether the two latest other messages to the same address that are retired failed."""
    rows = tx.all(
        _OTHER_RETIRED,
        account=message.sender_account,
        address=base_address(message.recipient_localpart, message.recipient_domain),
        i=message.id,
    )
    return len(rows) == 2 and not any(row[0] for row in rows)


def remove_expired(tx: Tx) -> int:
    """Remove retired messages that need not be kept longer; call until it returns 0."""
    return tx.run(_EXPIRED, t=tx.now)
