"""MTA-STS policies of other domains, kept for as long as they hold (RFC 8461 3.3)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy import bindparam

from moxtw.store.schema_tlspolicy import mtasts_policies as table
from moxtw.store.tx import Statement, Tx
from moxtw.tlspolicy.mtasts import MAX_AGE, Policy, parse_policy

SECOND: Final = 1_000_000

BACKOFF: Final = 5 * 60
"""Seconds in which a policy that could not be had is not asked for again."""

_COLUMNS: Final = (
    table.c.domain,
    table.c.inserted,
    table.c.valid_end,
    table.c.last_update,
    table.c.last_use,
    table.c.backoff,
    table.c.record_id,
    table.c.policy_text,
)
_GET: Final = Statement(sa.select(*_COLUMNS).where(table.c.domain == bindparam("d")))
_ALL: Final = Statement(sa.select(*_COLUMNS).order_by(table.c.domain))
_STALE: Final = Statement(
    sa.select(*_COLUMNS)
    .where(table.c.last_update < bindparam("before"), table.c.backoff == 0)
    .order_by(table.c.last_update)
    .limit(bindparam("count"))
)
_REMOVE: Final = Statement(table.delete().where(table.c.domain == bindparam("d")))
_REMOVE_UNUSED: Final = Statement(
    table.delete().where(
        sa.or_(
            table.c.last_use < bindparam("unused"),
            sa.and_(table.c.backoff == 1, table.c.valid_end < bindparam("before")),
        )
    )
)
_ADD: Final = Statement(
    table.insert().values({column.name: bindparam(column.name) for column in _COLUMNS})
)
_USED: Final = Statement(
    table.update()
    .where(table.c.domain == bindparam("d"), table.c.last_use < bindparam("than"))
    .values(last_use=bindparam("t"))
)
_RENEW: Final = Statement(
    table.update()
    .where(table.c.domain == bindparam("d"), table.c.record_id == bindparam("known"))
    .values(last_update=bindparam("t"), valid_end=bindparam("e"))
)


@dataclass(frozen=True)
class PolicyRecord:
    """A policy that is kept; times are microseconds since the epoch.

    backoff: there is none, as it could not be had; until valid_end it is not asked for.
    record_id: of the TXT record that was there with it.
    """

    domain: str
    inserted: int
    valid_end: int
    last_update: int
    last_use: int
    backoff: bool
    record_id: str
    policy_text: str

    @cached_property
    def policy(self) -> Policy | None:
        """The policy; None with backoff."""
        return parse_policy(self.policy_text.encode()) if self.policy_text else None


def _record(row: tuple[Any, ...]) -> PolicyRecord:
    domain, inserted, valid_end, last_update, last_use, backoff, record_id, text = row
    return PolicyRecord(
        domain, inserted, valid_end, last_update, last_use, bool(backoff), record_id, text
    )


def get(tx: Tx, domain: str) -> PolicyRecord | None:
    """What is kept of a domain (ASCII), whether it holds still or not."""
    row = tx.one(_GET, d=domain)
    return None if row is None else _record(row)


def list_all(tx: Tx) -> list[PolicyRecord]:
    """All, by domain."""
    return [_record(row) for row in tx.all(_ALL)]


def stale(tx: Tx, before: int, limit: int) -> list[PolicyRecord]:
    """Policies last updated before a time, the oldest first."""
    return [_record(row) for row in tx.all(_STALE, before=before, count=limit)]


def keep(tx: Tx, domain: str, record_id: str, policy: Policy, text: str) -> None:
    """Keep a policy that was just fetched, in place of an older one."""
    _replace(tx, domain, policy, record_id, text)


def back_off(tx: Tx, domain: str, record_id: str) -> None:
    """Note that there is a policy, but it cannot be had."""
    _replace(tx, domain, None, record_id, "")


def _replace(tx: Tx, domain: str, policy: Policy | None, record_id: str, text: str) -> None:
    old = get(tx, domain)
    age = BACKOFF if policy is None else min(policy.max_age, MAX_AGE)
    tx.run(_REMOVE, d=domain)
    tx.run(
        _ADD,
        domain=domain,
        inserted=tx.now if old is None or old.backoff else old.inserted,
        valid_end=tx.now + age * SECOND,
        last_update=tx.now,
        # A refresh is no use.
        last_use=tx.now if old is None or old.backoff else old.last_use,
        backoff=int(policy is None),
        record_id=record_id,
        policy_text=text,
    )


def renew(tx: Tx, domain: str, record_id: str, policy: Policy) -> None:
    """The policy is what it was: it holds from now on again, if it is still the one kept."""
    end = tx.now + min(policy.max_age, MAX_AGE) * SECOND
    tx.run(_RENEW, d=domain, known=record_id, t=tx.now, e=end)


def used(tx: Tx, domain: str) -> None:
    """Note that a policy was used; not more often than each hour."""
    tx.run(_USED, d=domain, than=tx.now - 3600 * SECOND, t=tx.now)


def remove(tx: Tx, domain: str) -> None:
    """Forget a policy."""
    tx.run(_REMOVE, d=domain)


def remove_unused(tx: Tx, unused: int) -> int:
    """Forget policies not used since a time, and those not to be had that may be asked for."""
    return tx.run(_REMOVE_UNUSED, unused=unused, before=tx.now)
