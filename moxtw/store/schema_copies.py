"""The table of copies that are made in several transactions: what to take back of them."""

from __future__ import annotations

from typing import Final

from sqlalchemy import BigInteger, Column, ForeignKey, Table

from moxtw.store.schema import Id, metadata

# A row for each transaction of a copy that is not complete: the UIDs that it gave.
copy_ranges: Final = Table(
    "copy_ranges",
    metadata,
    Column("copy_id", Id, primary_key=True),
    Column("first_uid", BigInteger, primary_key=True),
    Column("last_uid", BigInteger, nullable=False),
    Column("account_id", Id, ForeignKey("accounts.id"), nullable=False),
    Column("mailbox_id", Id, nullable=False),
)
