"""How TLS went with other domains, gathered by day until it is reported (RFC 8460)."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy import bindparam

from moxtw.store.schema_tlspolicy import tls_results as table
from moxtw.store.tx import Statement, Tx
from moxtw.tlspolicy.tlsrpt import Result, merged

_MAX_RESULTS: Final = 100
"""Policies of a domain on one day; a domain that changes its records more often is odd."""

_COLUMNS: Final = (
    table.c.id,
    table.c.policy_domain,
    table.c.day,
    table.c.recipient_domain,
    table.c.created,
    table.c.updated,
    table.c.is_host,
    table.c.send_report,
    table.c.sent_to_recipient_domain,
    table.c.recipient_domain_addresses,
    table.c.sent_to_policy_domain,
    table.c.results,
)
_KEY: Final = (
    table.c.policy_domain == bindparam("p"),
    table.c.day == bindparam("d"),
    table.c.recipient_domain == bindparam("r"),
)
_GET: Final = Statement(sa.select(*_COLUMNS).where(*_KEY))
_ALL: Final = Statement(
    sa.select(*_COLUMNS).order_by(
        table.c.day.desc(), table.c.policy_domain, table.c.recipient_domain
    )
)
_UNSENT: Final = Statement(
    sa.select(*_COLUMNS)
    .where(
        table.c.day < bindparam("d"),
        sa.or_(table.c.sent_to_recipient_domain == 0, table.c.sent_to_policy_domain == 0),
    )
    .order_by(table.c.day, table.c.policy_domain, table.c.recipient_domain)
)
_SENT_TO_RECIPIENT: Final = Statement(
    table.update()
    .where(table.c.id == bindparam("i"))
    .values(sent_to_recipient_domain=1, recipient_domain_addresses=bindparam("addresses"))
)
_SENT_TO_POLICY: Final = Statement(
    table.update().where(table.c.id == bindparam("i")).values(sent_to_policy_domain=1)
)
_OF_DOMAIN: Final = {
    True: Statement(
        sa.select(*_COLUMNS)
        .where(table.c.recipient_domain == bindparam("domain"))
        .order_by(table.c.day.desc(), table.c.policy_domain)
    ),
    False: Statement(
        sa.select(*_COLUMNS)
        .where(table.c.policy_domain == bindparam("domain"))
        .order_by(table.c.day.desc(), table.c.recipient_domain)
    ),
}
_ADD: Final = Statement(
    table.insert().values(
        policy_domain=bindparam("p"),
        day=bindparam("d"),
        recipient_domain=bindparam("r"),
        created=bindparam("t"),
        updated=bindparam("t2"),
        is_host=bindparam("h"),
        send_report=bindparam("s"),
        results=bindparam("results"),
    )
)
_UPDATE: Final = Statement(
    table.update()
    .where(table.c.id == bindparam("i"))
    .values(updated=bindparam("t"), send_report=bindparam("s"), results=bindparam("results"))
)
_REMOVE: Final = {
    True: Statement(
        table.delete().where(
            table.c.recipient_domain == bindparam("domain"), table.c.day == bindparam("d")
        )
    ),
    False: Statement(
        table.delete().where(
            table.c.policy_domain == bindparam("domain"), table.c.day == bindparam("d")
        )
    ),
}
_REMOVE_BEFORE: Final = Statement(table.delete().where(table.c.day < bindparam("d")))


@dataclass(frozen=True, slots=True)
class TLSResult:
    """What a day's sessions for a recipient domain showed of a policy domain.

    Domains are in ASCII. day: UTC, as ``20261231``. created, updated: microseconds since the
    epoch. is_host: the policy domain is a host's. send_report: something but reports was sent.
    """

    id: int
    policy_domain: str
    day: str
    recipient_domain: str
    created: int
    updated: int
    is_host: bool
    send_report: bool
    sent_to_recipient_domain: bool
    recipient_domain_addresses: tuple[str, ...]
    sent_to_policy_domain: bool
    results: tuple[Result, ...]


def day_of(time: int) -> str:
    """The UTC day of a time in microseconds since the epoch."""
    return datetime.fromtimestamp(time / 1_000_000, UTC).strftime("%Y%m%d")


def _result(row: tuple[Any, ...]) -> TLSResult:
    addresses = tuple(json.loads(row[9])) if row[9] else ()
    results = tuple(Result.from_json(each) for each in json.loads(row[11] or "[]"))
    return TLSResult(
        id=row[0],
        policy_domain=row[1],
        day=row[2],
        recipient_domain=row[3],
        created=row[4],
        updated=row[5],
        is_host=bool(row[6]),
        send_report=bool(row[7]),
        sent_to_recipient_domain=bool(row[8]),
        recipient_domain_addresses=addresses,
        sent_to_policy_domain=bool(row[10]),
        results=results,
    )


def add(
    tx: Tx,
    recipient_domain: str,
    results: Iterable[tuple[Result, bool]],
    *,
    send_report: bool,
) -> None:
    """Add the results of an attempt at a domain; with each whether it is about a host."""
    day = day_of(tx.now)
    for result, is_host in results:
        row = tx.one(_GET, p=result.domain, d=day, r=recipient_domain)
        if row is None:
            tx.run(
                _ADD,
                p=result.domain,
                d=day,
                r=recipient_domain,
                t=tx.now,
                t2=tx.now,
                h=int(is_host),
                s=int(send_report),
                results=json.dumps([result.to_json()]),
            )
            continue
        known = _result(row)
        both = merged([*known.results, result])[:_MAX_RESULTS]
        tx.run(
            _UPDATE,
            i=known.id,
            t=tx.now,
            s=int(known.send_report or send_report),
            results=json.dumps([each.to_json() for each in both]),
        )


def unsent(tx: Tx, day: str) -> list[TLSResult]:
    """Those of days before one that somebody has not been told of, the oldest days first."""
    return [_result(row) for row in tx.all(_UNSENT, d=day)]


def sent_to_recipient(tx: Tx, result_ids: Iterable[int], addresses: Sequence[str]) -> None:
    """Note that the recipient domain has been told, at these addresses; none if it wants none."""
    text = json.dumps(list(addresses))
    tx.many(_SENT_TO_RECIPIENT, [{"i": each, "addresses": text} for each in result_ids])


def sent_to_policy(tx: Tx, result_ids: Iterable[int]) -> None:
    """Note that the domain of the policy has been told, or need not be."""
    tx.many(_SENT_TO_POLICY, [{"i": each} for each in result_ids])


def list_all(tx: Tx) -> list[TLSResult]:
    """All, the latest days first."""
    return [_result(row) for row in tx.all(_ALL)]


def of_domain(tx: Tx, domain: str, *, recipient: bool) -> list[TLSResult]:
    """Those of a recipient domain, or of a policy domain."""
    return [_result(row) for row in tx.all(_OF_DOMAIN[recipient], domain=domain)]


def remove(tx: Tx, domain: str, day: str, *, recipient: bool) -> int:
    """Remove a day's results of a recipient domain, or of a policy domain."""
    return tx.run(_REMOVE[recipient], domain=domain, d=day)


def remove_before(tx: Tx, day: str) -> int:
    """Remove what is older than a day."""
    return tx.run(_REMOVE_BEFORE, d=day)
