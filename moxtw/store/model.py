"""Values that the store takes and gives."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntFlag
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from moxtw.store.content import Spooled


class Flag(IntFlag):
    """System flags of a message (RFC 9051 2.3.2), as bits of `messages.flags`."""

    SEEN = 1
    ANSWERED = 2
    FLAGGED = 4
    FORWARDED = 8
    JUNK = 16
    NOTJUNK = 32
    DELETED = 64
    DRAFT = 128
    PHISHING = 256
    MDNSENT = 512


class SpecialUse(IntFlag):
    """Special uses of a mailbox (RFC 6154)."""

    ARCHIVE = 1
    DRAFT = 2
    JUNK = 4
    SENT = 8
    TRASH = 16


class Want(IntFlag):
    """Which columns `messages.rows` reads."""

    FLAGS = 1
    SIZE = 2
    DATE = 4
    SAVEDATE = 8
    MODSEQ = 16
    ENVELOPE = 32
    BODY = 64
    BODYSTRUCTURE = 128
    PREVIEW = 256
    TREE = 512
    PREFIX = 1024
    CONTENT = 2048
    THREAD = 4096
    EMAIL = 8192


@dataclass(frozen=True, slots=True)
class Account:
    """An account's row. `disk_usage` is in bytes."""

    id: int
    name: str
    modseq: int
    disk_usage: int


@dataclass(frozen=True, slots=True)
class Mailbox:
    """A mailbox's row. IMAP's MESSAGES is ``total + deleted``; `size` is in bytes."""

    id: int
    account_id: int
    parent_id: int
    name: str
    uidvalidity: int
    uidnext: int
    special_use: int
    keywords: tuple[str, ...]
    create_seq: int
    modseq: int
    total: int
    deleted: int
    unread: int
    unseen: int
    size: int
    deleted_size: int

    @property
    def messages(self) -> int:
        """The number of messages, those flagged Deleted among them."""
        return self.total + self.deleted


class Validation(IntFlag):
    """How an identity of a message was validated; the numbers are those in rows."""

    UNKNOWN = 0
    STRICT = 1
    DMARC = 2
    RELAXED = 3
    PASS = 4
    NEUTRAL = 5
    TEMPERROR = 6
    PERMERROR = 7
    FAIL = 8
    SOFTFAIL = 9
    NONE = 10


@dataclass(slots=True)
class Delivery:
    """What is known of how a message came in. Domains are in Unicode form."""

    remote_ip: str = ""
    ehlo_domain: str = ""
    mail_from: str = ""
    mail_from_localpart: str = ""
    mail_from_domain: str = ""
    rcpt_to_localpart: str = ""
    rcpt_to_domain: str = ""
    msg_from_localpart: str = ""
    msg_from_domain: str = ""
    msg_from_org_domain: str = ""
    ehlo_validated: bool = False
    mail_from_validated: bool = False
    msg_from_validated: bool = False
    ehlo_validation: int = 0
    mail_from_validation: int = 0
    msg_from_validation: int = 0
    dkim_domains: tuple[str, ...] = ()
    orig_ehlo_domain: str = ""
    orig_dkim_domains: tuple[str, ...] = ()
    is_reject: bool = False
    is_forward: bool = False
    is_mailing_list: bool = False
    mailbox_orig_id: int = 0
    mailbox_destined_id: int = 0
    message_hash: str = ""
    received_tls_version: int = 0
    received_tls_cipher_suite: int = 0
    received_requiretls: bool = False


@dataclass(slots=True)
class NewMessage:
    """A message to add: `prefix` holds header lines to put in front of the content.

    `received` and `save_date` are set to now when they are None. With `junk_flags`, the flags
    are adapted to the mailbox; imports turn that off.
    """

    content: Spooled
    prefix: bytes = b""
    flags: int = 0
    keywords: tuple[str, ...] = ()
    received: int | None = None
    save_date: int | None = None
    delivery: Delivery = field(default_factory=Delivery)
    junk_flags: bool = True


@dataclass(frozen=True, slots=True)
class Added:
    """What became of an added message."""

    id: int
    uid: int
    modseq: int
    mailbox_id: int
    uidvalidity: int
    size: int
    received: int
    flags: int


class FlagRow(NamedTuple):
    """A message's changeable state. `keywords` are lower-case, separated by spaces."""

    uid: int
    flags: int
    keywords: str
    modseq: int


class Row(NamedTuple):
    """A message as read for FETCH; what was not asked for is None."""

    uid: int
    id: int
    flags: int | None
    keywords: str | None
    size: int | None
    received: int | None
    save_date: int | None
    modseq: int | None
    envelope: bytes | None
    body: bytes | None
    bodystructure: bytes | None
    preview: str | None
    tree: bytes | None
    prefix: bytes | None
    content_id: int | None
    thread_id: int | None
    # The message's own id unless it is a copy.
    email_id: int | None


class Changes(NamedTuple):
    """What came after a modseq in a mailbox: live rows that changed and UIDs that went."""

    modseq: int
    uidnext: int
    changed: list[FlagRow]
    vanished: list[int]
    keywords: tuple[str, ...]
    gone: bool


class StoreResult(NamedTuple):
    """What a change of flags did. `failed` are UIDs changed since the given modseq.

    `before` are the modseqs that the messages of `changed` had.
    """

    modseq: int
    changed: list[FlagRow]
    unchanged: list[FlagRow]
    failed: list[int]
    new_keywords: bool
    before: list[int]


class CopyResult(NamedTuple):
    """What a copy or move did; both lists are ascending and belong together pairwise."""

    uidvalidity: int
    source_uids: list[int]
    dest_uids: list[int]
    modseq: int


class MailboxChange(NamedTuple):
    """A change in the list of mailboxes: `kind` is add, remove or change."""

    kind: str
    mailbox: Mailbox
