"""Keys for the tokens that let refused senders in, one for each address of an account."""

from __future__ import annotations

import secrets
import string
from typing import Final

import sqlalchemy as sa
from sqlalchemy import bindparam

from moxtw.store.schema import subject_keys
from moxtw.store.tx import Statement, Tx

_ALPHABET: Final = string.ascii_letters + string.digits
_LENGTH: Final = 16

_FIND = Statement(
    sa.select(subject_keys.c.key).where(
        subject_keys.c.account_id == bindparam("account"),
        subject_keys.c.address == bindparam("address"),
    )
)
_ADD = Statement(
    subject_keys.insert().values(
        account_id=bindparam("account"), address=bindparam("address"), key=bindparam("k")
    )
)


def find(tx: Tx, account_id: int, address: str) -> bytes:
    """The key of a canonical address; empty if it never had one."""
    found: str | None = tx.value(_FIND, account=account_id, address=address)
    return b"" if found is None else found.encode()


def get(tx: Tx, account_id: int, address: str) -> bytes:
    """The key of a canonical address, made if there is none."""
    found = find(tx, account_id, address)
    if not found:
        text = "".join(secrets.choice(_ALPHABET) for _ in range(_LENGTH))
        tx.run(_ADD, account=account_id, address=address, k=text)
        found = text.encode()
    return found
