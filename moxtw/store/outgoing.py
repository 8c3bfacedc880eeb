"""Which addresses an account has sent to, for its sending limits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import sqlalchemy as sa
from sqlalchemy import bindparam

from moxtw.store.errors import StoreError
from moxtw.store.schema import outgoing
from moxtw.store.schema_queue import recipient_domain_tls
from moxtw.store.tx import Statement, Tx

DAY: Final = 86_400_000_000


class MessageLimit(StoreError):
    """More messages within a day than the account may send."""


class FirstTimeLimit(StoreError):
    """More recipients within a day that the account never wrote to before than it may."""


_ADD = Statement(
    outgoing.insert().values(
        account_id=bindparam("a"), recipient=bindparam("r"), submitted=bindparam("t")
    )
)
_SENT = Statement(
    sa.select(sa.func.count())
    .select_from(outgoing)
    .where(outgoing.c.account_id == bindparam("a"), outgoing.c.submitted > bindparam("t"))
)
_KNOWN = Statement(
    sa.select(outgoing.c.id)
    .where(outgoing.c.account_id == bindparam("a"), outgoing.c.recipient == bindparam("r"))
    .limit(1)
)


def _first_times() -> Statement:
    before = outgoing.alias("before")
    earlier = (
        sa.select(before.c.id)
        .where(
            before.c.account_id == outgoing.c.account_id,
            before.c.recipient == outgoing.c.recipient,
            before.c.submitted <= bindparam("t"),
        )
        .exists()
    )
    return Statement(
        sa.select(sa.func.count(outgoing.c.recipient.distinct())).where(
            outgoing.c.account_id == bindparam("a"), outgoing.c.submitted > bindparam("t"), ~earlier
        )
    )


_FIRST_TIMES = _first_times()


def check_limits(
    tx: Tx, account_id: int, recipients: Sequence[str], most: int, most_first_time: int
) -> None:
    """Whether an account may send to further recipients, counted over 24 hours.

    Raises MessageLimit, FirstTimeLimit.
    """
    since = tx.now - DAY
    sent = tx.value(_SENT, a=account_id, t=since)
    if sent + len(recipients) > most:
        raise MessageLimit(f"{sent} messages sent within a day, {most} are allowed")
    # New recipients are among all of the day: below the limit nothing more needs counting.
    if sent + len(recipients) <= most_first_time:
        return
    first = tx.value(_FIRST_TIMES, a=account_id, t=since)
    new = sum(tx.value(_KNOWN, a=account_id, r=r) is None for r in set(recipients))
    if first + new > most_first_time:
        raise FirstTimeLimit(
            f"{first} first-time recipients within a day, {most_first_time} are allowed"
        )


def add(tx: Tx, account_id: int, recipients: Sequence[str]) -> None:
    """Note that an account sends to recipients."""
    tx.many(_ADD, [{"a": account_id, "r": r, "t": tx.now} for r in recipients])


_DROP_TLS = Statement(
    recipient_domain_tls.delete().where(
        recipient_domain_tls.c.account_id == bindparam("a"),
        recipient_domain_tls.c.domain == bindparam("d"),
    )
)
_ADD_TLS = Statement(
    recipient_domain_tls.insert().values(
        account_id=bindparam("a"),
        domain=bindparam("d"),
        updated=bindparam("t"),
        starttls=bindparam("starttls"),
        require_tls=bindparam("require_tls"),
    )
)


def set_domain_tls(
    tx: Tx, account_id: int, domain: str, *, starttls: bool, require_tls: bool
) -> None:
    """Note what a delivery to a domain saw of its TLS."""
    tx.run(_DROP_TLS, a=account_id, d=domain)
    tx.run(
        _ADD_TLS,
        a=account_id,
        d=domain,
        t=tx.now,
        starttls=int(starttls),
        require_tls=int(require_tls),
    )
