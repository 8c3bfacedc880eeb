"""Tables of what other domains say of TLS, and of how TLS with them went."""

from __future__ import annotations

from typing import Final

from sqlalchemy import BigInteger, Column, Index, Table, Text

from moxtw.store.schema import Id, _bool, _text, metadata

# MTA-STS policies (RFC 8461) of domains to which mail went. Domains are in ASCII.
mtasts_policies: Final = Table(
    "mtasts_policies",
    metadata,
    Column("domain", Text, primary_key=True),
    Column("inserted", BigInteger, nullable=False),
    Column("valid_end", BigInteger, nullable=False),
    Column("last_update", BigInteger, nullable=False),
    Column("last_use", BigInteger, nullable=False),
    # No policy could be had: not asked for again until the end of its validity.
    _bool("backoff"),
    _text("record_id"),
    # The policy as text; what it means is parsed from that. Empty with backoff.
    _text("policy_text"),
    Index("mtasts_policies_last_update", "last_update"),
    Index("mtasts_policies_last_use", "last_use"),
)

# How sessions went, to be reported to the policy domain (RFC 8460).
tls_results: Final = Table(
    "tls_results",
    metadata,
    Column("id", Id, primary_key=True),
    # Domain of a policy: that of the recipients, or of a host with TLSA records. In ASCII.
    Column("policy_domain", Text, nullable=False),
    Column("day", Text, nullable=False),  # UTC, as 20261231
    Column("recipient_domain", Text, nullable=False),
    Column("created", BigInteger, nullable=False),
    Column("updated", BigInteger, nullable=False),
    # The policy domain is a host's.
    _bool("is_host"),
    _bool("send_report"),
    _bool("sent_to_recipient_domain"),
    _text("recipient_domain_addresses"),  # JSON list
    _bool("sent_to_policy_domain"),
    _text("results"),  # JSON, as in reports
    Index("tls_results_key", "policy_domain", "day", "recipient_domain", unique=True),
    Index("tls_results_day", "day"),
)
