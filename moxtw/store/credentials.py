"""Passwords, keys of TLS client certificates, and login attempts, as rows."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import msgspec
import sqlalchemy as sa
from sqlalchemy import bindparam

from moxtw.sasl.password import Verifiers
from moxtw.store.errors import StoreError
from moxtw.store.schema import credentials, login_attempts, tls_public_keys, web_sessions
from moxtw.store.tx import Statement, Tx

if TYPE_CHECKING:
    from moxtw.store.auth import Attempt

_MAX_FAILURES: Final = 10_000
_ATTEMPT_AGE: Final = 30 * 86400 * 1_000_000

_GET = Statement(
    sa.select(credentials.c.verifiers).where(credentials.c.account_id == bindparam("a"))
)
_DELETE = Statement(credentials.delete().where(credentials.c.account_id == bindparam("a")))
_INSERT = Statement(
    credentials.insert().values(
        account_id=bindparam("a"), verifiers=bindparam("v"), changed=bindparam("now")
    )
)
_END_SESSIONS = Statement(
    web_sessions.delete().where(
        web_sessions.c.account_id == bindparam("a"), web_sessions.c.token != bindparam("keep")
    )
)


def set_password(tx: Tx, account_id: int, verifiers: Verifiers, keep: bytes = b"") -> None:
    """Store what verifies a password; web sessions of the account end, but for `keep`."""
    tx.run(_DELETE, a=account_id)
    tx.run(_INSERT, a=account_id, v=msgspec.json.encode(verifiers), now=tx.now)
    tx.run(_END_SESSIONS, a=account_id, keep=keep)


def verifiers(tx: Tx, account_id: int) -> Verifiers | None:
    """What verifies the account's password, or None if it has none."""
    packed = tx.value(_GET, a=account_id)
    return None if packed is None else msgspec.json.decode(packed, type=Verifiers)


# -- TLS public keys -------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class TLSKey:
    """The public key of a client certificate. `created` in microseconds since the epoch."""

    fingerprint: str
    created: int
    type: str
    name: str
    no_imap_preauth: bool
    cert_der: bytes
    account: str
    login_address: str


_KEYS = Statement(sa.select(tls_public_keys).order_by(tls_public_keys.c.created))
_KEY = Statement(
    sa.select(tls_public_keys.c.fingerprint).where(tls_public_keys.c.fingerprint == bindparam("f"))
)
_ADD_KEY = Statement(
    tls_public_keys.insert().values(
        {column.name: bindparam(column.name) for column in tls_public_keys.columns}
    )
)
_UPDATE_KEY = Statement(
    tls_public_keys.update()
    .where(tls_public_keys.c.fingerprint == bindparam("f"))
    .values(
        name=bindparam("n"), no_imap_preauth=bindparam("p"), login_address=bindparam("l")
    )
)
_REMOVE_KEY = Statement(
    tls_public_keys.delete().where(tls_public_keys.c.fingerprint == bindparam("f"))
)


def tls_keys(tx: Tx, account: str | None = None) -> list[TLSKey]:
    """All keys, or those of an account, oldest first."""
    keys = []
    for row in tx.all(_KEYS):
        values = list(row)
        values[4] = bool(values[4])
        keys.append(TLSKey(*values))
    return keys if account is None else [key for key in keys if key.account == account]


def add_tls_key(tx: Tx, key: TLSKey) -> None:
    """Add a key. Raises StoreError when it is there already, for whichever account."""
    if tx.one(_KEY, f=key.fingerprint) is not None:
        raise StoreError("this public key is registered already")
    tx.run(
        _ADD_KEY,
        fingerprint=key.fingerprint,
        created=key.created,
        type=key.type,
        name=key.name,
        no_imap_preauth=int(key.no_imap_preauth),
        cert_der=key.cert_der,
        account=key.account,
        login_address=key.login_address,
    )


def update_tls_key(
    tx: Tx, fingerprint: str, name: str, login_address: str, *, no_imap_preauth: bool
) -> None:
    """Change what may be changed of a key. Raises StoreError when there is none."""
    changes = {"n": name, "p": int(no_imap_preauth), "l": login_address}
    if not tx.run(_UPDATE_KEY, f=fingerprint, **changes):
        raise StoreError("no such public key")


def remove_tls_key(tx: Tx, fingerprint: str) -> None:
    """Remove a key. Raises StoreError when there is none."""
    if not tx.run(_REMOVE_KEY, f=fingerprint):
        raise StoreError("no such public key")


# -- Login attempts --------------------------------------------------------------------------

_SEEN_AGAIN = Statement(
    login_attempts.update()
    .where(login_attempts.c.key == bindparam("k"))
    .values(last=bindparam("now"), count=login_attempts.c.count + 1)
)
_FIELDS: Final = (
    "account",
    "login_address",
    "remote_ip",
    "local_ip",
    "tls",
    "tls_pubkey_fingerprint",
    "protocol",
    "user_agent",
    "auth_mech",
    "result",
)
_ADD_ATTEMPT = Statement(
    login_attempts.insert().values(
        {name: bindparam(name) for name in ("key", "last", "first", *_FIELDS)}
    )
)
_COUNT_FAILURES = Statement(
    sa.select(sa.func.count())
    .select_from(login_attempts)
    .where(login_attempts.c.account == bindparam("a"), login_attempts.c.result != "ok")
)
_DROP_OLDEST = Statement(
    login_attempts.delete().where(
        login_attempts.c.key.in_(
            sa.select(login_attempts.c.key)
            .where(login_attempts.c.account == bindparam("a"), login_attempts.c.result != "ok")
            .order_by(login_attempts.c.last)
            .limit(bindparam("n"))
        )
    )
)
_DROP_OLD = Statement(login_attempts.delete().where(login_attempts.c.last < bindparam("before")))
_LIST = Statement(
    sa.select(login_attempts)
    .where(sa.or_(bindparam("a") == "", login_attempts.c.account == bindparam("a")))
    .order_by(login_attempts.c.last.desc())
    .limit(bindparam("n"))
)


def record_attempt(tx: Tx, attempt: Attempt, result: str) -> None:
    """Count an attempt in the row of its kind; failures of an account are bounded."""
    fields = dict(
        zip(
            _FIELDS,
            (
                attempt.account,
                attempt.login_address,
                attempt.remote_ip,
                attempt.local_ip,
                attempt.tls,
                attempt.fingerprint,
                attempt.protocol,
                attempt.user_agent[:1024],
                attempt.mechanism,
                result,
            ),
            strict=True,
        )
    )
    key = hashlib.sha256("\x00".join(fields.values()).encode("utf-8", "replace")).digest()
    if tx.run(_SEEN_AGAIN, k=key, now=tx.now):
        return
    tx.run(_ADD_ATTEMPT, key=key, last=tx.now, first=tx.now, **fields)
    if result != "ok":
        over = tx.value(_COUNT_FAILURES, a=attempt.account) - _MAX_FAILURES
        if over > 0:
            # Some more than needed go at once, so that not every failure has to delete.
            tx.run(_DROP_OLDEST, a=attempt.account, n=over + 100)


def drop_old_attempts(tx: Tx) -> int:
    """Remove attempts not seen for 30 days; says how many rows went."""
    return tx.run(_DROP_OLD, before=tx.now - _ATTEMPT_AGE)


def attempts(tx: Tx, account: str = "", limit: int = 100) -> list[tuple[Any, ...]]:
    """Rows of `login_attempts`, latest first; of all accounts for ''."""
    return tx.all(_LIST, a=account, n=limit if limit > 0 else 1 << 30)
