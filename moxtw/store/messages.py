"""Messages: adding, reading, flags, expunge, and the changes since. Copies: `transfer`.

Sets of UIDs are lists of inclusive ranges, ascending and not overlapping. All changes of one
job share a modseq.
"""

from __future__ import annotations

import time
from array import array
from collections.abc import Iterable, Sequence
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy import bindparam

from moxtw.mail.parsed import ParsedMessage
from moxtw.ratelimit import ip_classes
from moxtw.store import accounts, content, mailboxes, threads
from moxtw.store.errors import NoSuchMailbox, NoSuchMessage, OverQuota, StoreError, TooMany
from moxtw.store.model import (
    Added,
    Changes,
    FlagRow,
    Mailbox,
    NewMessage,
    Row,
    SpecialUse,
    Want,
)
from moxtw.store.schema import accounts as account_table
from moxtw.store.schema import contents, message_meta, messages, recipients
from moxtw.store.schema import mailboxes as mailbox_table
from moxtw.store.sqlfunctions import joined, numbers
from moxtw.store.tx import Statement, Tx

Ranges = Sequence[tuple[int, int]]

SEEN: Final = 1
JUNK: Final = 16
NOTJUNK: Final = 32
DELETED: Final = 64
ALL_UIDS: Final = ((1, 0xFFFFFFFF),)

_MAX_KEYWORDS: Final = 100

IN_RANGE = (
    messages.c.mailbox_id == bindparam("mailbox"),
    messages.c.uid >= bindparam("first"),
    messages.c.uid <= bindparam("last"),
)
LIVE = messages.c.expunged == 0

# -- Adding --------------------------------------------------------------------------------

_TAKE_UID = Statement(
    mailbox_table.update()
    .where(mailbox_table.c.id == bindparam("mailbox"), mailbox_table.c.expunged == 0)
    .values(
        uidnext=mailbox_table.c.uidnext + 1,
        modseq=bindparam("m"),
        total=mailbox_table.c.total + bindparam("d_total"),
        deleted=mailbox_table.c.deleted + bindparam("d_deleted"),
        unread=mailbox_table.c.unread + bindparam("d_unread"),
        unseen=mailbox_table.c.unseen + bindparam("d_unseen"),
        size=mailbox_table.c.size + bindparam("d_size"),
        deleted_size=mailbox_table.c.deleted_size + bindparam("d_deleted_size"),
    )
    .returning(
        mailbox_table.c.uidnext,
        mailbox_table.c.uidvalidity,
        mailbox_table.c.name,
        mailbox_table.c.special_use,
        mailbox_table.c.keywords,
    )
)
_INSERT = Statement(
    messages.insert()
    .values(
        {
            name: bindparam(name)
            for name in (
                "id",
                "account_id",
                "mailbox_id",
                "uid",
                "modseq",
                "create_seq",
                "flags",
                "keywords",
                "size",
                "received",
                "save_date",
                "content_id",
                "thread_id",
            )
        }
    )
)
_META_PLAIN: Final = (
    "id",
    "account_id",
    "prefix",
    "message_id",
    "subject_base",
    "dsn",
    "thread_parents",
    "thread_missing_link",
    "thread_muted",
    "thread_collapsed",
    "mailbox_orig_id",
    "received",
)
_META_DELIVERY: Final = (
    "is_reject",
    "is_forward",
    "is_mailing_list",
    "mailbox_destined_id",
    "remote_ip",
    "remote_ip_masked1",
    "remote_ip_masked2",
    "remote_ip_masked3",
    "ehlo_domain",
    "mail_from",
    "mail_from_localpart",
    "mail_from_domain",
    "rcpt_to_localpart",
    "rcpt_to_domain",
    "msg_from_localpart",
    "msg_from_domain",
    "msg_from_org_domain",
    "ehlo_validated",
    "mail_from_validated",
    "msg_from_validated",
    "ehlo_validation",
    "mail_from_validation",
    "msg_from_validation",
    "dkim_domains",
    "orig_ehlo_domain",
    "orig_dkim_domains",
    "message_hash",
    "received_tls_version",
    "received_tls_cipher_suite",
    "received_requiretls",
)
_INSERT_META = Statement(
    message_meta.insert().values({name: bindparam(name) for name in _META_PLAIN})
)
_INSERT_META_DELIVERY = Statement(
    message_meta.insert().values(
        {name: bindparam(name) for name in (*_META_PLAIN, *_META_DELIVERY)}
    )
)
_INSERT_RECIPIENT = Statement(
    recipients.insert().values(
        {
            name: bindparam(name)
            for name in ("account_id", "message_id", "localpart", "domain", "org_domain", "sent")
        }
    )
)


def add(
    tx: Tx,
    account_id: int,
    mailbox_id: int,
    new: NewMessage,
    *,
    quota: int = 0,
    saved: dict[int, int] | None = None,
) -> Added:
    """Add a message to a mailbox.

    `quota` is the maximum of bytes for the account, 0 for none. `saved`, a dict that the
    caller makes for its job, lets several messages share the rows of one content. Raises
    OverQuota, NoSuchMailbox, NoSuchAccount, StoreError for too many keywords.
    """
    spooled = new.content
    parsed: ParsedMessage = spooled.parsed
    size = len(new.prefix) + spooled.size
    modseq, used = accounts.use(tx, account_id, size)
    if quota > 0 and used > quota:
        raise OverQuota(f"{used} bytes would be used of {quota}")
    received = tx.now if new.received is None else new.received
    delivery = new.delivery
    orig_id = delivery.mailbox_orig_id or mailbox_id
    thread = threads.place(tx, account_id, parsed, orig_id, received)
    flags = new.flags
    if thread.muted:
        flags |= SEEN
    seen = flags & SEEN
    deleted = 1 if flags & DELETED else 0
    row = tx.one(
        _TAKE_UID,
        mailbox=mailbox_id,
        m=modseq,
        d_total=1 - deleted,
        d_deleted=deleted,
        d_unread=0 if seen or deleted else 1,
        d_unseen=0 if seen else 1,
        d_size=size,
        d_deleted_size=size if deleted else 0,
    )
    if row is None:
        raise NoSuchMailbox(str(mailbox_id))
    uidnext, uidvalidity, name, special_use, known_keywords = row
    uid = uidnext - 1
    if uid > 0xFFFFFFFE:
        raise StoreError("the mailbox has no UIDs left")
    # The counts above depend on Seen and Deleted only, which mailboxes do not change.
    if new.junk_flags:
        flags = tx.store.junk_flags(accounts.name_of(tx, account_id), name, special_use, flags)
    keywords = ""
    if new.keywords:
        keywords = check_keywords(new.keywords)
        if not set(keywords.split()) <= set(known_keywords.split()):
            mailboxes.add_keywords(tx, mailboxes.get(tx, mailbox_id), set(keywords.split()))
    content_id = content.save(tx, spooled, {} if saved is None else saved)
    message_id = tx.new_id()
    tx.run(
        _INSERT,
        id=message_id,
        account_id=account_id,
        mailbox_id=mailbox_id,
        uid=uid,
        modseq=modseq,
        create_seq=modseq,
        flags=flags,
        keywords=keywords,
        size=size,
        received=received,
        save_date=tx.now if new.save_date is None else new.save_date,
        content_id=content_id,
        thread_id=thread.thread_id or message_id,
    )
    plain: dict[str, Any] = {
        "id": message_id,
        "account_id": account_id,
        "prefix": new.prefix,
        "message_id": parsed.message_id or None,
        "subject_base": parsed.subject_base,
        "dsn": int(parsed.is_dsn),
        "thread_parents": thread.parents,
        "thread_missing_link": int(thread.missing_link),
        "thread_muted": int(thread.muted),
        "thread_collapsed": int(thread.collapsed),
        "mailbox_orig_id": orig_id,
        "received": received,
    }
    if delivery.remote_ip or delivery.mail_from or delivery.msg_from_domain or delivery.is_reject:
        masked = ip_classes(delivery.remote_ip) if delivery.remote_ip else ("", "", "")
        destined = delivery.mailbox_destined_id
        plain.update(
            is_reject=int(delivery.is_reject),
            is_forward=int(delivery.is_forward),
            is_mailing_list=int(delivery.is_mailing_list),
            mailbox_destined_id=0 if destined == orig_id else destined,
            remote_ip=delivery.remote_ip,
            remote_ip_masked1=masked[0],
            remote_ip_masked2=masked[1],
            remote_ip_masked3=masked[2],
            ehlo_domain=delivery.ehlo_domain,
            mail_from=delivery.mail_from,
            mail_from_localpart=delivery.mail_from_localpart,
            mail_from_domain=delivery.mail_from_domain,
            rcpt_to_localpart=delivery.rcpt_to_localpart,
            rcpt_to_domain=delivery.rcpt_to_domain,
            msg_from_localpart=delivery.msg_from_localpart,
            msg_from_domain=delivery.msg_from_domain,
            msg_from_org_domain=delivery.msg_from_org_domain,
            ehlo_validated=int(delivery.ehlo_validated),
            mail_from_validated=int(delivery.mail_from_validated),
            msg_from_validated=int(delivery.msg_from_validated),
            ehlo_validation=delivery.ehlo_validation,
            mail_from_validation=delivery.mail_from_validation,
            msg_from_validation=delivery.msg_from_validation,
            dkim_domains=" ".join(delivery.dkim_domains),
            orig_ehlo_domain=delivery.orig_ehlo_domain,
            orig_dkim_domains=" ".join(delivery.orig_dkim_domains),
            message_hash=delivery.message_hash,
            received_tls_version=delivery.received_tls_version,
            received_tls_cipher_suite=delivery.received_tls_cipher_suite,
            received_requiretls=int(delivery.received_requiretls),
        )
        tx.run(_INSERT_META_DELIVERY, **plain)
    else:
        tx.run(_INSERT_META, **plain)
    if special_use & SpecialUse.SENT:
        _add_recipients(tx, account_id, message_id, parsed, received)
    return Added(message_id, uid, modseq, mailbox_id, uidvalidity, size, received, flags)


def _add_recipients(
    tx: Tx, account_id: int, message_id: int, parsed: ParsedMessage, sent: int
) -> None:
    seen = set()
    for _name, localpart, domain in [*parsed.to, *parsed.cc, *parsed.bcc][:1000]:
        if not localpart or not domain or (localpart, domain) in seen:
            continue
        seen.add((localpart, domain))
        tx.run(
            _INSERT_RECIPIENT,
            account_id=account_id,
            message_id=message_id,
            localpart=localpart,
            domain=domain.lower(),
            org_domain=tx.store.organizational_domain(domain.lower()),
            sent=sent,
        )


def check_keywords(keywords: Iterable[str]) -> str:
    """Keywords as rows have them: lower-case, sorted, separated by spaces. Raises TooMany."""
    found = sorted({keyword.lower() for keyword in keywords})
    if len(found) > _MAX_KEYWORDS:
        raise TooMany("too many keywords on a message")
    return " ".join(found)


# -- Reading -------------------------------------------------------------------------------

_UIDS = Statement(sa.select(messages.c.uid).where(*IN_RANGE, LIVE).order_by(messages.c.uid))
_EXTENT = Statement(
    sa.select(
        sa.func.count(), sa.func.min(messages.c.uid), sa.func.max(messages.c.uid)
    ).where(*IN_RANGE, LIVE)
)
# UIDs that are looked at together: all of them are there, or they are read one by one.
_EXTENT_UIDS: Final = 4096
_FIRST_UNSEEN = Statement(
    sa.select(messages.c.uid)
    .where(
        messages.c.mailbox_id == bindparam("mailbox"),
        LIVE,
        messages.c.flags.op("&")(SEEN) == 0,
    )
    .order_by(messages.c.uid)
    .limit(1)
)
_FLAGS = Statement(
    sa.select(messages.c.uid, messages.c.flags, messages.c.keywords, messages.c.modseq)
    .where(*IN_RANGE, LIVE)
    .order_by(messages.c.uid)
)
# Whether any has keywords, and the columns as texts.
_FLAG_LISTS = Statement(
    sa.select(
        sa.func.max(messages.c.keywords),
        joined(messages.c.uid),
        joined(messages.c.flags),
        joined(messages.c.modseq),
    ).where(*IN_RANGE, LIVE)
)
# In a range of fewer UIDs, rows cost less.
_FEW: Final = 50
_CHANGED = Statement(
    sa.select(
        messages.c.uid,
        messages.c.flags,
        messages.c.keywords,
        messages.c.modseq,
        messages.c.expunged,
    )
    .where(messages.c.mailbox_id == bindparam("mailbox"), messages.c.modseq > bindparam("m"))
    .order_by(messages.c.uid)
)
STATE = Statement(
    sa.select(
        mailbox_table.c.modseq,
        mailbox_table.c.uidnext,
        mailbox_table.c.keywords,
        mailbox_table.c.expunged,
    ).where(mailbox_table.c.id == bindparam("mailbox"))
)
_VANISHED = Statement(
    sa.select(messages.c.uid)
    .where(*IN_RANGE, messages.c.expunged != 0, messages.c.modseq > bindparam("m"))
    .order_by(messages.c.uid)
)


def view(tx: Tx, mailbox_id: int) -> tuple[Mailbox, array[int]]:
    """A mailbox and its UIDs, ascending: what a session that selects it starts from."""
    mailbox = mailboxes.get(tx, mailbox_id)
    uids = array("I")
    end = mailbox.uidnext
    step = _EXTENT_UIDS
    if end > 4 * (mailbox.total + mailbox.deleted):
        step = end  # most are gone
    for start in range(1, end, step):
        place = {"mailbox": mailbox_id, "first": start, "last": start + step - 1}
        if step == _EXTENT_UIDS:
            # The database counts them in a fraction of the time that handing them over takes.
            extent = tx.one(_EXTENT, **place)
            count, low, high = extent or (0, 0, 0)
            if not count:
                continue
            if count == high - low + 1:
                uids.extend(range(low, high + 1))
                continue
        uids.extend([row[0] for row in tx.all(_UIDS, **place)])
    return mailbox, uids


def first_unseen(tx: Tx, mailbox_id: int) -> int | None:
    """The lowest UID without Seen."""
    uid: int | None = tx.value(_FIRST_UNSEEN, mailbox=mailbox_id)
    return uid


def flags(tx: Tx, mailbox_id: int, uid_ranges: Ranges) -> list[FlagRow]:
    """UID, flags, keywords and modseq of live messages, ascending."""
    return [
        FlagRow._make(row)
        for first, last in uid_ranges
        for row in tx.all(_FLAGS, mailbox=mailbox_id, first=first, last=last)
    ]


def flag_columns(
    tx: Tx, mailbox_id: int, uid_ranges: Ranges
) -> tuple[list[int], list[int], list[str], list[int]]:
    """The same column by column, for where there are very many; the order may be another."""
    uids: list[int] = []
    bits: list[int] = []
    words: list[str] = []
    modseqs: list[int] = []
    for first, last in uid_ranges:
        place = {"mailbox": mailbox_id, "first": first, "last": last}
        if last - first >= _FEW:
            some, *texts = tx.one(_FLAG_LISTS, **place) or ("",)
            if not some:
                # A text for each column costs half of what rows cost.
                for column, text in zip((uids, bits, modseqs), texts, strict=True):
                    column += numbers(text)
                words += [""] * (len(uids) - len(words))
                continue
        for uid, flag_bits, keywords, modseq in tx.all(_FLAGS, **place):
            uids.append(uid)
            bits.append(flag_bits)
            words.append(keywords)
            modseqs.append(modseq)
    return uids, bits, words, modseqs


_ROW_COLUMNS: Final[tuple[tuple[Want | None, Any], ...]] = (
    (None, messages.c.uid),
    (None, messages.c.id),
    (Want.FLAGS, messages.c.flags),
    (Want.FLAGS, messages.c.keywords),
    (Want.SIZE, messages.c.size),
    (Want.DATE, messages.c.received),
    (Want.SAVEDATE, messages.c.save_date),
    (Want.MODSEQ, messages.c.modseq),
    (Want.ENVELOPE, contents.c.envelope),
    (Want.BODY, contents.c.body),
    (Want.BODYSTRUCTURE, contents.c.bodystructure),
    (Want.PREVIEW, contents.c.preview),
    (Want.TREE, contents.c.tree),
    (Want.PREFIX, message_meta.c.prefix),
    (Want.CONTENT, messages.c.content_id),
    (Want.THREAD, messages.c.thread_id),
    (
        Want.EMAIL,
        sa.case((message_meta.c.email_id == 0, messages.c.id), else_=message_meta.c.email_id),
    ),
)
_rows_statements: dict[tuple[int, bool], Statement] = {}


def _rows_statement(want: int, expunged: bool) -> Statement:
    known = _rows_statements.get((want, expunged))
    if known is None:
        columns = [
            column if bit is None or want & bit else sa.null().label(f"no{index}")
            for index, (bit, column) in enumerate(_ROW_COLUMNS)
        ]
        source: Any = messages
        if want & (Want.ENVELOPE | Want.BODY | Want.BODYSTRUCTURE | Want.PREVIEW | Want.TREE):
            source = source.join(contents, contents.c.id == messages.c.content_id)
        if want & (Want.PREFIX | Want.EMAIL):
            source = source.join(message_meta, message_meta.c.id == messages.c.id)
        condition = messages.c.content_id.is_not(None) if expunged else LIVE
        known = _rows_statements[want, expunged] = Statement(
            sa.select(*columns)
            .select_from(source)
            .where(*IN_RANGE, condition)
            .order_by(messages.c.uid)
        )
    return known


def rows(
    tx: Tx, mailbox_id: int, uid_ranges: Ranges, want: int, *, expunged: bool = False
) -> list[Row]:
    """Messages with the wanted columns, ascending by UID.

    With `expunged`, also messages that were expunged and not yet erased. Meant for some
    hundred messages at a time.
    """
    statement = _rows_statement(int(want), expunged)
    found: list[tuple[Any, ...]] = []
    for first, last in uid_ranges:
        found += tx.all(statement, mailbox=mailbox_id, first=first, last=last)
    return [Row._make(row) for row in found]


_SOURCE = Statement(
    sa.select(messages.c.content_id, message_meta.c.prefix)
    .select_from(messages.join(message_meta, message_meta.c.id == messages.c.id))
    .where(messages.c.id == bindparam("i"))
)


def source(tx: Tx, message_id: int) -> tuple[int, bytes]:
    """Content id and prefix of a message. Raises NoSuchMessage when it is erased."""
    row = tx.one(_SOURCE, i=message_id)
    if row is None or row[0] is None:
        raise NoSuchMessage(str(message_id))
    return row[0], row[1]


def read(tx: Tx, message_id: int, start: int = 0, length: int | None = None) -> bytes:
    """Bytes of a whole message: its prefix, then its content; `start` 0 is the prefix."""
    content_id, prefix = source(tx, message_id)
    return read_parts(tx, content_id, prefix, start, length)


def read_parts(
    tx: Tx, content_id: int, prefix: bytes, start: int = 0, length: int | None = None
) -> bytes:
    """As `read`, for a content and prefix that are known already."""
    size = len(prefix)
    if start >= size:
        return content.read(tx, content_id, start - size, length)
    if length is None:
        return prefix[start:] + content.read(tx, content_id)
    head = prefix[start : start + length]
    if len(head) == length:
        return head
    return head + content.read(tx, content_id, 0, length - len(head))


def changes_since(tx: Tx, mailbox_id: int, modseq: int) -> Changes:
    """What changed in a mailbox after `modseq`.

    `gone` says that the mailbox has been deleted. New messages are the changed ones with UIDs
    from the UIDNEXT that the caller knew.
    """
    state = tx.one(STATE, mailbox=mailbox_id)
    if state is None:
        return Changes(modseq, 0, [], [], (), True)
    changed: list[FlagRow] = []
    vanished: list[int] = []
    reached = max(modseq, state[0])
    for row in tx.all(_CHANGED, mailbox=mailbox_id, m=modseq):
        if row[4]:
            vanished.append(row[0])
        else:
            changed.append(FlagRow(*row[:4]))
        reached = max(reached, row[3])
    return Changes(
        reached, state[1], changed, vanished, tuple(state[2].split()), bool(state[3])
    )


def vanished_since(tx: Tx, mailbox_id: int, modseq: int, uid_ranges: Ranges) -> list[int]:
    """UIDs in the ranges that were expunged after `modseq`."""
    found: list[int] = []
    for first, last in uid_ranges:
        gone = tx.all(_VANISHED, mailbox=mailbox_id, first=first, last=last, m=modseq)
        found += [row[0] for row in gone]
    return found


# -- Single messages by id -----------------------------------------------------------------

_PLACE = Statement(
    sa.select(messages.c.mailbox_id, messages.c.uid).where(
        messages.c.id == bindparam("i"), messages.c.account_id == bindparam("a"), LIVE
    )
)


def place_of(tx: Tx, account_id: int, message_id: int) -> tuple[int, int]:
    """Mailbox id and UID of a live message of the account. Raises NoSuchMessage."""
    row = tx.one(_PLACE, i=message_id, a=account_id)
    if row is None:
        raise NoSuchMessage(str(message_id))
    return row[0], row[1]


# -- Erasing -------------------------------------------------------------------------------

_TO_ERASE = Statement(
    sa.select(
        messages.c.id,
        messages.c.content_id,
        messages.c.size,
        messages.c.expunged,
        messages.c.modseq,
        message_meta.c.prefix,
    )
    .select_from(messages.outerjoin(message_meta, message_meta.c.id == messages.c.id))
    .where(
        messages.c.account_id == bindparam("a"),
        messages.c.expunged > 0,
        messages.c.content_id.is_not(None),
        # Not before the junk filter has forgotten it.
        messages.c.trained == 0,
    )
    .order_by(messages.c.modseq)
    .limit(bindparam("n"))
)
_ERASED = Statement(
    messages.update()
    .where(messages.c.id == bindparam("i"))
    .values(content_id=None, size=0, flags=0, keywords="", received=0, save_date=None)
)
_DELETE_META = Statement(message_meta.delete().where(message_meta.c.id == bindparam("i")))
_DELETE_RECIPIENTS = Statement(
    recipients.delete().where(recipients.c.message_id == bindparam("i"))
)
_ACCOUNTS_TO_ERASE = Statement(
    sa.select(messages.c.account_id)
    .where(messages.c.expunged > 0, messages.c.content_id.is_not(None))
    .distinct()
)
_ERASE_STEP: Final = 200
# What an erase takes at most, about: texts leave the index, too.
_ERASE_SECONDS: Final = 0.03


def accounts_to_erase(tx: Tx) -> list[int]:
    """Accounts with expunged messages whose content is still there."""
    return [row[0] for row in tx.all(_ACCOUNTS_TO_ERASE)]


def erase(tx: Tx, account_id: int, horizon: int | None) -> str:
    """Erase the content of some expunged messages, up to the modseq `horizon` (None: all).

    Returns "more" when there is more to do, "wait" when sessions still need the rest, "done".
    """
    found = tx.all(_TO_ERASE, a=account_id, n=_ERASE_STEP)
    freed = 0
    content_ids: set[int] = set()
    index = tx.store.backend.text_index
    end = time.monotonic() + _ERASE_SECONDS
    for row_id, content_id, size, expunged, modseq, prefix in found:
        if horizon is not None and modseq > horizon:
            break
        if time.monotonic() > end:
            break
        if expunged == 1:
            freed += size
        index.forget_message(tx, row_id, prefix or b"")
        tx.run(_ERASED, i=row_id)
        tx.run(_DELETE_META, i=row_id)
        tx.run(_DELETE_RECIPIENTS, i=row_id)
        content_ids.add(content_id)
        content.release(tx, content_id)
    if freed:
        tx.run(_FREE, a=account_id, size=freed)
    if not content_ids:
        return "wait" if found else "done"
    return "more"


_FREE = Statement(
    account_table.update()
    .where(account_table.c.id == bindparam("a"))
    .values(disk_usage=account_table.c.disk_usage - bindparam("size"))
)
