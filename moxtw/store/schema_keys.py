"""The tables of what messages are sorted and threaded by, one narrow row for each content."""

from __future__ import annotations

from typing import Final

from sqlalchemy import BigInteger, Column, ForeignKey, LargeBinary, Table

from moxtw.store.schema import Id, metadata

# See `moxtw.mail.sortkeys`: bytes that are compared as they are.
content_keys: Final = Table(
    "content_keys",
    metadata,
    Column("content_id", Id, ForeignKey("contents.id"), primary_key=True),
    # The Date header in microseconds since the epoch; null: missing or unreadable.
    Column("sent", BigInteger),
    *[
        Column(name, LargeBinary, nullable=False)
        for name in ("subject", "from_", "to_", "cc", "display_from", "display_to", "thread")
    ],
)

# Contents from before there were keys.
keys_due: Final = Table(
    "keys_due",
    metadata,
    Column("content_id", Id, primary_key=True, autoincrement=False),
)
