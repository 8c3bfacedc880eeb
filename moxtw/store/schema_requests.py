"""The table of requests that clients may repeat: what they were answered."""

from __future__ import annotations

from typing import Final

from sqlalchemy import BigInteger, Column, ForeignKey, Index, LargeBinary, Table, Text

from moxtw.store.schema import Id, metadata

sent_requests: Final = Table(
    "sent_requests",
    metadata,
    Column("account_id", Id, ForeignKey("accounts.id"), primary_key=True),
    Column("key", Text, primary_key=True),
    # A digest of the request, to tell a repeated one from another with the same key.
    Column("digest", LargeBinary, nullable=False),
    Column("created", BigInteger, nullable=False),
    Column("answer", LargeBinary, nullable=False),
    Index("sent_requests_created", "created"),
)
