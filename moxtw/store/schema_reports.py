"""Tables of reports: those received, and what is gathered to report to others.

Domains are in Unicode, times in microseconds since the epoch, UTC.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import BigInteger, Column, Index, Table, Text

from moxtw.store.schema import _bool, _id, _int, _text, metadata

# Aggregate reports of others about one of our domains (RFC 7489 7.2).
dmarc_reports: Final = Table(
    "dmarc_reports",
    metadata,
    _id(),
    Column("domain", Text, nullable=False),  # that the report is about
    _text("from_domain"),  # of the message
    Column("received", BigInteger, nullable=False),
    Column("begin_time", BigInteger, nullable=False),
    Column("end_time", BigInteger, nullable=False),
    _text("org_name"),
    _text("report_id"),
    _text("summary"),  # JSON: counts
    _text("feedback"),  # JSON
    # A message that comes again brings the same report.
    Index(
        "dmarc_reports_key",
        "domain",
        "from_domain",
        "org_name",
        "report_id",
        "begin_time",
        unique=True,
    ),
    Index("dmarc_reports_end", "end_time", "id"),
    Index("dmarc_reports_domain", "domain", "end_time"),
)

# What became of a message by DMARC, until it is reported to the domain of the policy.
dmarc_evaluations: Final = Table(
    "dmarc_evaluations",
    metadata,
    _id(),
    Column("policy_domain", Text, nullable=False),
    Column("evaluated", BigInteger, nullable=False),
    # Alone not worth a report.
    _bool("optional"),
    _int("interval_hours"),
    _text("addresses"),  # JSON list: URIs
    _text("published"),  # JSON
    _text("evaluation"),  # JSON: the row of a report
    Index("dmarc_evaluations_domain", "policy_domain", "evaluated"),
    Index("dmarc_evaluations_evaluated", "evaluated"),
)

# Reports of others on how TLS with us went (RFC 8460), once for each domain of ours in them.
tls_reports: Final = Table(
    "tls_reports",
    metadata,
    _id(),
    Column("domain", Text, nullable=False),
    _text("from_domain"),
    _text("mail_from"),
    _bool("host_report"),
    Column("received", BigInteger, nullable=False),
    Column("begin_time", BigInteger, nullable=False),
    Column("end_time", BigInteger, nullable=False),
    _text("organization"),
    _text("report_id"),
    _int("success"),
    _int("failure"),
    _text("types"),  # JSON: failures by type
    _text("report"),  # JSON
    Index(
        "tls_reports_key",
        "domain",
        "from_domain",
        "organization",
        "report_id",
        "begin_time",
        unique=True,
    ),
    Index("tls_reports_end", "end_time", "id"),
    Index("tls_reports_domain", "domain", "end_time"),
)

# Addresses that want no reports for a while.
report_suppressions: Final = Table(
    "report_suppressions",
    metadata,
    _id(),
    Column("kind", Text, nullable=False),  # dmarc or tls
    Column("address", Text, nullable=False),
    Column("inserted", BigInteger, nullable=False),
    Column("until", BigInteger, nullable=False),
    _text("comment"),
    Index("report_suppressions_address", "kind", "address", unique=True),
)
