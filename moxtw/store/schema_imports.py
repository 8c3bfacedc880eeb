"""The tables of imports that are under way, or were interrupted."""

from __future__ import annotations

from typing import Final

from sqlalchemy import BigInteger, Column, ForeignKey, Index, Table, Text

from moxtw.store.schema import Id, _int, _text, metadata

imports: Final = Table(
    "imports",
    metadata,
    Column("token", Text, primary_key=True),
    Column("account_id", Id, ForeignKey("accounts.id"), nullable=False),
    # A digest of what is imported and how: the same again goes on where it stopped.
    Column("source", Text, nullable=False),
    _int("position"),  # messages of the source that are done with
    _text("counts"),  # JSON: messages by mailbox
    _text("made"),  # ids of mailboxes that were made for it, separated by spaces
    Column("updated", BigInteger, nullable=False),
    Index("imports_account", "account_id", "source"),
)

# What has been added, so that it can be taken back.
import_ranges: Final = Table(
    "import_ranges",
    metadata,
    Column("id", Id, primary_key=True),
    Column("token", Text, nullable=False),
    Column("account_id", Id, ForeignKey("accounts.id"), nullable=False),
    Column("mailbox_id", Id, nullable=False),
    Column("first_uid", BigInteger, nullable=False),
    Column("last_uid", BigInteger, nullable=False),
    Index("import_ranges_token", "token"),
)
