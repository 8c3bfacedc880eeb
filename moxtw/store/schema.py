"""The tables. Times are microseconds since the epoch (UTC); booleans are 0 and 1.

`VERSION` is raised with each change, with an upgrade step in `moxtw.store.upgrade`. A database
with a higher version than the program's is refused.

What is read for lists of many messages stands in narrow rows (`messages`), what is read for
single ones apart (`message_meta`); what depends only on the bytes is kept once per content.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import (
    BigInteger,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    Table,
    Text,
    text,
)

VERSION: Final = 2

metadata: Final = MetaData()

# SQLite gives row ids only to columns declared INTEGER.
Id: Final = BigInteger().with_variant(Integer, "sqlite")


def _id() -> Column[int]:
    return Column("id", Id, primary_key=True)


def _own_id() -> Column[int]:
    """An id that we give, from `sequences`."""
    return Column("id", Id, primary_key=True, autoincrement=False)


def _int(name: str, default: int = 0) -> Column[int]:
    return Column(name, BigInteger, nullable=False, server_default=text(str(default)))


def _bool(name: str) -> Column[int]:
    return Column(name, SmallInteger, nullable=False, server_default=text("0"))


def _text(name: str) -> Column[str]:
    return Column(name, Text, nullable=False, server_default=text("''"))


meta: Final = Table(
    "meta", metadata, Column("key", Text, primary_key=True), Column("value", Text, nullable=False)
)

# Where the ids of messages and contents come from: the writer takes them in blocks, ahead of
# the transactions that use them.
sequences: Final = Table(
    "sequences",
    metadata,
    Column("name", Text, primary_key=True),
    Column("next", BigInteger, nullable=False),
)

accounts: Final = Table(
    "accounts",
    metadata,
    _id(),
    Column("name", Text, nullable=False, unique=True),
    # Starts at unix time >> 1 when the account is made, so that an account made anew moves on.
    Column("next_uidvalidity", BigInteger, nullable=False),
    _int("modseq", 1),
    # Below this modseq, rows of expunged messages no longer exist; -1: all are there.
    _int("highest_deleted_modseq", -1),
    _int("disk_usage"),
    Column("created", BigInteger, nullable=False),
)

mailboxes: Final = Table(
    "mailboxes",
    metadata,
    _id(),
    Column("account_id", Id, ForeignKey("accounts.id"), nullable=False),
    _int("parent_id"),  # 0: at the top
    Column("name", Text, nullable=False),
    Column("uidvalidity", BigInteger, nullable=False),
    _int("uidnext", 1),
    _int("special_use"),  # SpecialUse bits
    _text("keywords"),  # sorted, lower-case, separated by spaces
    Column("create_seq", BigInteger, nullable=False),
    Column("modseq", BigInteger, nullable=False),
    _bool("expunged"),
    # Counts: total and unread leave out messages flagged Deleted, the others have them.
    _int("total"),
    _int("deleted"),
    _int("unread"),
    _int("unseen"),
    _int("size"),
    _int("deleted_size"),
    Index(
        "mailboxes_live_name",
        "account_id",
        "name",
        unique=True,
        sqlite_where=text("expunged = 0"),
        postgresql_where=text("expunged = 0"),
    ),
    Index("mailboxes_modseq", "account_id", "modseq"),
)

subscriptions: Final = Table(
    "subscriptions",
    metadata,
    Column("account_id", Id, ForeignKey("accounts.id"), primary_key=True),
    Column("name", Text, primary_key=True),
)

contents: Final = Table(
    "contents",
    metadata,
    _own_id(),
    Column("size", BigInteger, nullable=False),
    Column("digest", LargeBinary, nullable=False),  # SHA-256 of the bytes
    Column("file", Text),  # below data/content/; null: the bytes are in content_data
    Column("created", BigInteger, nullable=False),
    _int("parse_version"),
    # IMAP wire forms (RFC 9051 7.5.2), so that lists are only concatenated.
    Column("envelope", LargeBinary, nullable=False),
    Column("body", LargeBinary, nullable=False),
    Column("bodystructure", LargeBinary, nullable=False),
    Column("preview", Text),
    # The Date header: microseconds since the epoch and its zone in minutes east of UTC.
    Column("sent", BigInteger),
    _int("sent_zone"),
    Column("tree", LargeBinary, nullable=False),  # packed MIME tree with byte offsets
)

content_data: Final = Table(
    "content_data",
    metadata,
    Column("content_id", Id, ForeignKey("contents.id"), primary_key=True),
    Column("data", LargeBinary, nullable=False),
)

# Decoded, case-folded UTF-8 text for searches; apart, so that scanning it reads nothing else.
content_text: Final = Table(
    "content_text",
    metadata,
    Column("content_id", Id, ForeignKey("contents.id"), primary_key=True),
    Column("header", LargeBinary, nullable=False),
    # Null: too long to be kept twice, to be decoded from the content.
    Column("body", LargeBinary),
)

messages: Final = Table(
    "messages",
    metadata,
    _own_id(),
    Column("account_id", Id, ForeignKey("accounts.id"), nullable=False),
    Column("mailbox_id", Id, ForeignKey("mailboxes.id"), nullable=False),
    Column("uid", BigInteger, nullable=False),
    Column("modseq", BigInteger, nullable=False),
    Column("create_seq", BigInteger, nullable=False),
    # 0: live. 1: expunged, its size still counts in the disk usage until its content is
    # erased. 2: expunged and not counted, what a move leaves in the old mailbox.
    _bool("expunged"),
    _int("flags"),  # Flag bits
    _text("keywords"),
    _int("size"),  # of prefix and content
    _int("received"),
    Column("save_date", BigInteger),
    Column("content_id", Id, ForeignKey("contents.id")),  # null: erased
    _int("thread_id"),  # id of the first message of the thread
    # Junk filter: the flag, Junk or NotJunk, with which the message was trained; 0: it was not.
    _int("trained"),
    # With expunged, so that the live UIDs of a mailbox are read from the index alone.
    Index("messages_uid", "mailbox_id", "uid", "expunged", unique=True),
    Index("messages_modseq", "mailbox_id", "modseq"),
    Index("messages_content", "content_id"),
    Index("messages_thread", "thread_id"),
    # The messages that clients look for most, and those that EXPUNGE looks for. With expunged, as
    # SQLite could prefer messages_uid otherwise.
    Index(
        "messages_unseen",
        "mailbox_id",
        "expunged",
        "uid",
        sqlite_where=text("expunged = 0 AND (flags & 1) = 0"),
        postgresql_where=text("expunged = 0 AND (flags & 1) = 0"),
    ),
    Index(
        "messages_deleted",
        "mailbox_id",
        "expunged",
        "uid",
        sqlite_where=text("expunged = 0 AND (flags & 64) = 64"),
        postgresql_where=text("expunged = 0 AND (flags & 64) = 64"),
    ),
    Index(
        "messages_unerased",
        "account_id",
        "modseq",
        sqlite_where=text("expunged > 0 AND content_id IS NOT NULL"),
        postgresql_where=text("expunged > 0 AND content_id IS NOT NULL"),
    ),
)

message_meta: Final = Table(
    "message_meta",
    metadata,
    Column("id", Id, ForeignKey("messages.id"), primary_key=True),
    Column("account_id", Id, nullable=False),
    # Header lines in front of the content: Received, Return-Path and so on.
    Column("prefix", LargeBinary, nullable=False),
    # Header and thread.
    Column("message_id", Text),  # canonical form
    _text("subject_base"),
    _bool("dsn"),
    _text("thread_parents"),  # message ids, nearest first, separated by spaces
    _bool("thread_missing_link"),
    _bool("thread_muted"),
    _bool("thread_collapsed"),
    # Routing.
    _bool("is_reject"),
    _bool("is_forward"),
    _bool("is_mailing_list"),
    _int("mailbox_orig_id"),
    _int("mailbox_destined_id"),
    # Connection.
    Column("received", BigInteger, nullable=False),
    _text("remote_ip"),
    _text("remote_ip_masked1"),
    _text("remote_ip_masked2"),
    _text("remote_ip_masked3"),
    _text("ehlo_domain"),
    # Envelope and author.
    _text("mail_from"),
    _text("mail_from_localpart"),
    _text("mail_from_domain"),
    _text("rcpt_to_localpart"),
    _text("rcpt_to_domain"),
    _text("msg_from_localpart"),
    _text("msg_from_domain"),
    _text("msg_from_org_domain"),
    # Checks (Validation values) and signatures.
    _bool("ehlo_validated"),
    _bool("mail_from_validated"),
    _bool("msg_from_validated"),
    _int("ehlo_validation"),
    _int("mail_from_validation"),
    _int("msg_from_validation"),
    _text("dkim_domains"),
    _text("orig_ehlo_domain"),
    _text("orig_dkim_domains"),
    _text("message_hash"),
    # Transport.
    _int("received_tls_version"),
    _int("received_tls_cipher_suite"),
    _bool("received_requiretls"),
    # Id of the message that this one was copied from at first; 0: it is no copy. The same for
    # all copies of a message, and for what a move leaves behind.
    _int("email_id"),
    Index("message_meta_message_id", "account_id", "message_id"),
    Index(
        "message_meta_subject",
        "account_id",
        "subject_base",
        "received",
        sqlite_where=text("subject_base <> ''"),
        postgresql_where=text("subject_base <> ''"),
    ),
    Index(
        "message_meta_remote_ip",
        "account_id",
        "remote_ip_masked3",
        "received",
        sqlite_where=text("remote_ip_masked3 <> ''"),
        postgresql_where=text("remote_ip_masked3 <> ''"),
    ),
    Index(
        "message_meta_email_id",
        "email_id",
        sqlite_where=text("email_id <> 0"),
        postgresql_where=text("email_id <> 0"),
    ),
)

# Addressees of messages in mailboxes with the Sent use: "we wrote to them".
recipients: Final = Table(
    "recipients",
    metadata,
    _id(),
    Column("account_id", Id, ForeignKey("accounts.id"), nullable=False),
    Column("message_id", Id, ForeignKey("messages.id"), nullable=False),
    Column("localpart", Text, nullable=False),
    Column("domain", Text, nullable=False),
    Column("org_domain", Text, nullable=False),
    Column("sent", BigInteger, nullable=False),
    Index("recipients_message", "message_id"),
    Index("recipients_address", "account_id", "domain", "localpart", "sent"),
    Index("recipients_org_domain", "account_id", "org_domain", "sent"),
)

# Submitted messages, a row per recipient, for sending limits.
outgoing: Final = Table(
    "outgoing",
    metadata,
    _id(),
    Column("account_id", Id, ForeignKey("accounts.id"), nullable=False),
    Column("recipient", Text, nullable=False),
    Column("submitted", BigInteger, nullable=False),
    Index("outgoing_submitted", "account_id", "submitted"),
    Index("outgoing_recipient", "account_id", "recipient", "submitted"),
)

credentials: Final = Table(
    "credentials",
    metadata,
    Column("account_id", Id, ForeignKey("accounts.id"), primary_key=True),
    Column("verifiers", LargeBinary, nullable=False),  # see moxtw.store.credentials
    Column("changed", BigInteger, nullable=False),
)

# For tokens that let refused senders in (moxtw.inbound.subjectpass).
subject_keys: Final = Table(
    "subject_keys",
    metadata,
    Column("account_id", Id, ForeignKey("accounts.id"), primary_key=True),
    Column("address", Text, primary_key=True),  # canonical
    Column("key", Text, nullable=False),
)

tls_public_keys: Final = Table(
    "tls_public_keys",
    metadata,
    # Raw-URL base64 of the SHA-256 of the SubjectPublicKeyInfo.
    Column("fingerprint", Text, primary_key=True),
    Column("created", BigInteger, nullable=False),
    Column("type", Text, nullable=False),
    Column("name", Text, nullable=False),
    _bool("no_imap_preauth"),
    Column("cert_der", LargeBinary, nullable=False),
    Column("account", Text, nullable=False),
    Column("login_address", Text, nullable=False),
    Index("tls_public_keys_account", "account"),
)

login_attempts: Final = Table(
    "login_attempts",
    metadata,
    Column("key", LargeBinary, primary_key=True),  # SHA-256 over what tells attempts apart
    Column("last", BigInteger, nullable=False),
    Column("first", BigInteger, nullable=False),
    _int("count", 1),
    Column("account", Text, nullable=False),  # "-" unknown, "(admin)" the admin
    _text("login_address"),
    _text("remote_ip"),
    _text("local_ip"),
    _text("tls"),
    _text("tls_pubkey_fingerprint"),
    _text("protocol"),
    _text("user_agent"),
    _text("auth_mech"),
    _text("result"),
    Index("login_attempts_account", "account", "last"),
    Index("login_attempts_last", "last"),
)

web_sessions: Final = Table(
    "web_sessions",
    metadata,
    Column("token", LargeBinary, primary_key=True),
    Column("csrf_token", LargeBinary, nullable=False),
    Column("account_id", Id, ForeignKey("accounts.id"), nullable=False),
    Column("login_address", Text, nullable=False),
    Column("created", BigInteger, nullable=False),
    Column("expires", BigInteger, nullable=False),
    Index("web_sessions_account", "account_id", "expires"),
)
