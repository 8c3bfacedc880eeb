"""Sessions of users on web pages, as rows.

Tokens are kept as digests: who gets hold of a copy of the database cannot use them.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import sqlalchemy as sa
from sqlalchemy import bindparam

from moxtw.store.schema import accounts, web_sessions
from moxtw.store.tx import Statement, Tx

MAX_SESSIONS: Final = 100
"""Sessions of an account; more push out those that would expire first."""


class WebSession(NamedTuple):
    """A session. `csrf` is a digest, `expires` in microseconds."""

    account_id: int
    account: str
    login_address: str
    csrf: bytes
    expires: int


_FIND = Statement(
    sa.select(
        web_sessions.c.account_id,
        accounts.c.name,
        web_sessions.c.login_address,
        web_sessions.c.csrf_token,
        web_sessions.c.expires,
    )
    .select_from(web_sessions.join(accounts, accounts.c.id == web_sessions.c.account_id))
    .where(web_sessions.c.token == bindparam("t"))
)
_ADD = Statement(
    web_sessions.insert().values(
        token=bindparam("t"),
        csrf_token=bindparam("c"),
        account_id=bindparam("a"),
        login_address=bindparam("l"),
        created=bindparam("now"),
        expires=bindparam("e"),
    )
)
_PROLONG = Statement(
    web_sessions.update()
    .where(web_sessions.c.token == bindparam("t"))
    .values(expires=bindparam("e"))
)
_REMOVE = Statement(web_sessions.delete().where(web_sessions.c.token == bindparam("t")))
_END_ALL = Statement(web_sessions.delete().where(web_sessions.c.account_id == bindparam("a")))
_EXPIRED = Statement(
    web_sessions.delete().where(
        web_sessions.c.account_id == bindparam("a"), web_sessions.c.expires <= bindparam("now")
    )
)
_LATEST = Statement(
    sa.select(web_sessions.c.token, web_sessions.c.expires)
    .where(web_sessions.c.expires > bindparam("now"))
    .order_by(web_sessions.c.expires.desc())
    .limit(bindparam("n"))
)
_COUNT = Statement(
    sa.select(sa.func.count())
    .select_from(web_sessions)
    .where(web_sessions.c.account_id == bindparam("a"))
)
_DROP_FIRST = Statement(
    web_sessions.delete().where(
        web_sessions.c.token.in_(
            sa.select(web_sessions.c.token)
            .where(web_sessions.c.account_id == bindparam("a"))
            .order_by(web_sessions.c.expires)
            .limit(bindparam("n"))
        )
    )
)


def add(
    tx: Tx, account_id: int, token: bytes, csrf: bytes, login_address: str, expires: int
) -> None:
    """Add a session, by the digests of its tokens."""
    tx.run(_EXPIRED, a=account_id, now=tx.now)
    over = tx.value(_COUNT, a=account_id) + 1 - MAX_SESSIONS
    if over > 0:
        tx.run(_DROP_FIRST, a=account_id, n=over)
    tx.run(_ADD, t=token, c=csrf, a=account_id, l=login_address, now=tx.now, e=expires)


def find(tx: Tx, token: bytes) -> WebSession | None:
    """The session with a token of that digest, expired ones too."""
    row = tx.one(_FIND, t=token)
    if row is None:
        return None
    account_id, account, address, csrf, expires = row
    return WebSession(account_id, account, address, bytes(csrf), expires)


def latest(tx: Tx, count: int) -> list[tuple[bytes, int]]:
    """Digests of tokens and expiry of the `count` sessions used last, the last one first."""
    return [(bytes(token), expires) for token, expires in tx.all(_LATEST, now=tx.now, n=count)]


def prolong(tx: Tx, token: bytes, expires: int) -> None:
    """Let a session expire later."""
    tx.run(_PROLONG, t=token, e=expires)


def remove(tx: Tx, token: bytes) -> None:
    """End a session."""
    tx.run(_REMOVE, t=token)


def end_all(tx: Tx, account_id: int) -> None:
    """End all sessions of an account."""
    tx.run(_END_ALL, a=account_id)
