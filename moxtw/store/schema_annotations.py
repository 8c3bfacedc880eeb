"""The table of annotations (RFC 5464): small values that clients keep for mailboxes."""

from __future__ import annotations

from typing import Final

from sqlalchemy import (
    BigInteger,
    Column,
    ForeignKey,
    Index,
    LargeBinary,
    SmallInteger,
    Table,
    Text,
    text,
)

from moxtw.store.schema import Id, metadata

annotation_table: Final = Table(
    "annotations",
    metadata,
    Column("account_id", Id, ForeignKey("accounts.id"), primary_key=True),
    # 0: of the account as a whole, which clients see as the server's.
    Column("mailbox_id", Id, primary_key=True, autoincrement=False),
    Column("key", Text, primary_key=True),  # lower-case
    Column("value", LargeBinary, nullable=False),
    # Given as a string, and told as one; else as binary data.
    Column("is_string", SmallInteger, nullable=False, server_default=text("1")),
    Column("create_seq", BigInteger, nullable=False),
    Column("modseq", BigInteger, nullable=False),
    # Removed ones stay for a while, so that sessions are told.
    Column("expunged", SmallInteger, nullable=False, server_default=text("0")),
    Index("annotations_modseq", "account_id", "modseq"),
)
