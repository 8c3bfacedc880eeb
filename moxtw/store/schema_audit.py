"""The table of the audit log: what was changed, by whom."""

from __future__ import annotations

from typing import Final

from sqlalchemy import BigInteger, Column, Index, Table

from moxtw.store.schema import Id, _text, metadata

audit_log: Final = Table(
    "audit_log",
    metadata,
    Column("id", Id, primary_key=True),
    Column("begun", BigInteger, nullable=False),
    _text("via"),
    _text("caller"),
    _text("remote_ip"),
    Column("cid", BigInteger, nullable=False),
    _text("operation"),
    _text("params"),  # JSON, without what is secret
    _text("result"),  # a code, "" until the operation has ended
    _text("message"),
    Index("audit_log_begun", "begun"),
    Index("audit_log_caller", "caller", "id"),
    Index("audit_log_operation", "operation", "id"),
)
