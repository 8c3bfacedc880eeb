"""Mailboxes: names, hierarchy, special uses, subscriptions, counts."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy import bindparam

from moxtw.store import accounts
from moxtw.store.errors import (
    InvalidMailboxName,
    MailboxExists,
    MailboxHasChildren,
    NoSuchMailbox,
    TooMany,
)
from moxtw.store.model import Mailbox, MailboxChange, SpecialUse
from moxtw.store.schema import mailboxes, subscriptions
from moxtw.store.tx import Statement, Tx

_MAX_NAME: Final = 1024  # bytes of UTF-8
_MAX_DEPTH: Final = 100
# Of one account: mailboxes, and names subscribed to.
_MAX_MAILBOXES: Final = 20_000
_MAX_SUBSCRIPTIONS: Final = 40_000

_COLUMNS = (
    mailboxes.c.id,
    mailboxes.c.account_id,
    mailboxes.c.parent_id,
    mailboxes.c.name,
    mailboxes.c.uidvalidity,
    mailboxes.c.uidnext,
    mailboxes.c.special_use,
    mailboxes.c.keywords,
    mailboxes.c.create_seq,
    mailboxes.c.modseq,
    mailboxes.c.total,
    mailboxes.c.deleted,
    mailboxes.c.unread,
    mailboxes.c.unseen,
    mailboxes.c.size,
    mailboxes.c.deleted_size,
)


def _mailbox(row: tuple[Any, ...]) -> Mailbox:
    values = list(row)
    values[7] = tuple(values[7].split())
    return Mailbox(*values)


_LIVE = mailboxes.c.expunged == 0
_ALL = Statement(sa.select(*_COLUMNS).where(mailboxes.c.account_id == bindparam("a"), _LIVE))
_FIND = Statement(
    sa.select(*_COLUMNS).where(
        mailboxes.c.account_id == bindparam("a"), mailboxes.c.name == bindparam("n"), _LIVE
    )
)
_GET = Statement(sa.select(*_COLUMNS).where(mailboxes.c.id == bindparam("id"), _LIVE))
_INSERT = Statement(
    mailboxes.insert().values(
        {
            name: bindparam(name)
            for name in (
                "account_id",
                "parent_id",
                "name",
                "uidvalidity",
                "special_use",
                "create_seq",
                "modseq",
            )
        }
    )
)
_CHILD = Statement(
    sa.select(mailboxes.c.id)
    .where(mailboxes.c.account_id == bindparam("a"), mailboxes.c.parent_id == bindparam("p"), _LIVE)
    .limit(1)
)
_EXPUNGE = Statement(
    mailboxes.update()
    .where(mailboxes.c.id == bindparam("i"))
    .values(
        expunged=1,
        modseq=bindparam("m"),
        special_use=0,
        total=0,
        deleted=0,
        unread=0,
        unseen=0,
        size=0,
        deleted_size=0,
    )
)
_RENAME = Statement(
    mailboxes.update()
    .where(mailboxes.c.id == bindparam("i"))
    .values(
        name=bindparam("n"),
        parent_id=bindparam("p"),
        modseq=bindparam("m"),
        uidvalidity=bindparam("v"),
    )
)
_SET_USE = Statement(
    mailboxes.update()
    .where(mailboxes.c.id == bindparam("i"))
    .values(special_use=bindparam("u"), modseq=bindparam("m"))
)
_SET_KEYWORDS = Statement(
    mailboxes.update()
    .where(mailboxes.c.id == bindparam("i"))
    .values(keywords=bindparam("k"), modseq=bindparam("m"))
)
_COUNT = Statement(
    mailboxes.update()
    .where(mailboxes.c.id == bindparam("i"))
    .values(
        modseq=bindparam("m"),
        total=mailboxes.c.total + bindparam("d_total"),
        deleted=mailboxes.c.deleted + bindparam("d_deleted"),
        unread=mailboxes.c.unread + bindparam("d_unread"),
        unseen=mailboxes.c.unseen + bindparam("d_unseen"),
        size=mailboxes.c.size + bindparam("d_size"),
        deleted_size=mailboxes.c.deleted_size + bindparam("d_deleted_size"),
    )
)
_CHANGED = Statement(
    sa.select(mailboxes.c.expunged, *_COLUMNS).where(
        mailboxes.c.account_id == bindparam("a"), mailboxes.c.modseq > bindparam("m")
    )
)
_SUBSCRIBED = Statement(
    sa.select(subscriptions.c.name).where(
        subscriptions.c.account_id == bindparam("a"), subscriptions.c.name == bindparam("n")
    )
)
_SUBSCRIPTIONS = Statement(
    sa.select(subscriptions.c.name).where(subscriptions.c.account_id == bindparam("a"))
)
_COUNT_MAILBOXES = Statement(
    sa.select(sa.func.count()).where(mailboxes.c.account_id == bindparam("a"), _LIVE)
)
_COUNT_SUBSCRIPTIONS = Statement(
    sa.select(sa.func.count())
    .select_from(subscriptions)
    .where(subscriptions.c.account_id == bindparam("a"))
)
_SUBSCRIBE = Statement(
    subscriptions.insert().values(account_id=bindparam("a"), name=bindparam("n"))
)
_UNSUBSCRIBE = Statement(
    subscriptions.delete().where(
        subscriptions.c.account_id == bindparam("a"), subscriptions.c.name == bindparam("n")
    )
)


def valid_name(name: str) -> str:
    """A mailbox name, checked, with Inbox in its one spelling.

    Raises InvalidMailboxName: for empty elements, ``.`` and ``..``, a leading ``#``, control
    characters, names that are not in Unicode normal form C, and overlong ones.
    """
    if not name:
        raise InvalidMailboxName("mailbox name is empty")
    first, slash, rest = name.partition("/")
    if first.upper() == "INBOX" and first.isascii():
        name = "Inbox" + slash + rest
    try:
        size = len(name.encode("utf-8"))
    except UnicodeEncodeError:
        raise InvalidMailboxName("mailbox name is not valid UTF-8") from None
    if size > _MAX_NAME:
        raise InvalidMailboxName("mailbox name is too long")
    if name.startswith("#"):
        raise InvalidMailboxName("mailbox name may not start with #")
    if not name.isascii() and unicodedata.normalize("NFC", name) != name:
        raise InvalidMailboxName("mailbox name is not in Unicode normal form C")
    for char in name:
        if char < " " or "\x7f" <= char <= "\x9f" or char in "\u2028\u2029":
            raise InvalidMailboxName("mailbox name has control characters")
    elements = name.split("/")
    if len(elements) > _MAX_DEPTH:
        raise InvalidMailboxName("mailbox name has too many levels")
    for element in elements:
        if not element:
            raise InvalidMailboxName("mailbox name has an empty element")
        if element in (".", ".."):
            raise InvalidMailboxName("mailbox name has an element . or ..")
    return name


def all(tx: Tx, account_id: int) -> list[Mailbox]:  # noqa: A001 - read as mailboxes.all
    """All mailboxes, sorted by name."""
    found = [_mailbox(row) for row in tx.all(_ALL, a=account_id)]
    found.sort(key=lambda mailbox: mailbox.name)
    return found


def find(tx: Tx, account_id: int, name: str) -> Mailbox | None:
    """The mailbox of that very name, or None."""
    row = tx.one(_FIND, a=account_id, n=name)
    return None if row is None else _mailbox(row)


def named(tx: Tx, account_id: int, name: str) -> Mailbox:
    """The mailbox of that very name. Raises NoSuchMailbox."""
    found = find(tx, account_id, name)
    if found is None:
        raise NoSuchMailbox(name)
    return found


def get(tx: Tx, mailbox_id: int) -> Mailbox:
    """The mailbox of that id. Raises NoSuchMailbox if it is gone."""
    row = tx.one(_GET, id=mailbox_id)
    if row is None:
        raise NoSuchMailbox(str(mailbox_id))
    return _mailbox(row)


def create(
    tx: Tx, account_id: int, name: str, special_use: int = 0, subscribe_too: bool = True
) -> list[Mailbox]:
    """Make a mailbox and the parents it lacks; returns them, parents first.

    A special use moves to the new mailbox from the one that had it. Raises MailboxExists,
    InvalidMailboxName, and TooMany.
    """
    name = valid_name(name)
    if find(tx, account_id, name) is not None:
        raise MailboxExists(name)
    if tx.value(_COUNT_MAILBOXES, a=account_id) >= _MAX_MAILBOXES:
        raise TooMany("too many mailboxes")
    modseq = accounts.modseq(tx, account_id)
    made: list[Mailbox] = []
    parent_id = 0
    elements = name.split("/")
    for depth in range(1, len(elements) + 1):
        path = "/".join(elements[:depth])
        known = find(tx, account_id, path)
        if known is None:
            tx.run(
                _INSERT,
                account_id=account_id,
                parent_id=parent_id,
                name=path,
                uidvalidity=accounts.next_uidvalidity(tx, account_id),
                special_use=0,
                create_seq=modseq,
                modseq=modseq,
            )
            known = named(tx, account_id, path)
            made.append(known)
            if subscribe_too:
                subscribe(tx, account_id, path)
        parent_id = known.id
    if special_use:
        set_special_use(tx, account_id, made[-1].id, special_use)
        made[-1] = get(tx, made[-1].id)
    return made


def ensure(tx: Tx, account_id: int, name: str) -> Mailbox:
    """The mailbox of that name, made if it is missing."""
    name = valid_name(name)
    return find(tx, account_id, name) or create(tx, account_id, name)[-1]


def delete(tx: Tx, account_id: int, name: str) -> Mailbox:
    """Remove a mailbox with messages and annotations; its subscription stays.

    Raises NoSuchMailbox, MailboxHasChildren, and InvalidMailboxName for Inbox.
    """
    from moxtw.store import annotations as annotation_ops
    from moxtw.store import changing

    mailbox = named(tx, account_id, name)
    if name == "Inbox":
        raise InvalidMailboxName("Inbox can not be deleted")
    if tx.one(_CHILD, a=account_id, p=mailbox.id) is not None:
        raise MailboxHasChildren(name)
    changing.expunge_mailbox(tx, account_id, mailbox.id)
    annotation_ops.expunge_mailbox(tx, account_id, mailbox.id)
    tx.run(_EXPUNGE, i=mailbox.id, m=accounts.modseq(tx, account_id))
    return mailbox


def rename(tx: Tx, account_id: int, old: str, new: str) -> list[tuple[str | None, Mailbox]]:
    """Rename a mailbox and those below it; missing parents of the new name are made.

    Returns what changed as (old name or None for made ones, mailbox), the one of the new name
    last for Inbox: that stays, and a new mailbox gets copies of its annotations. Its messages
    are to be moved there with `transfer.move_some`. Subscriptions keep the old names.

    Raises NoSuchMailbox, MailboxExists, InvalidMailboxName, and what `annotations.copy` raises.
    """
    from moxtw.store import annotations as annotation_ops

    new = valid_name(new)
    mailbox = named(tx, account_id, old)
    if find(tx, account_id, new) is not None:
        raise MailboxExists(new)
    if old == "Inbox":
        made = create(tx, account_id, new)
        annotation_ops.copy(tx, account_id, mailbox.id, made[-1].id)
        return [(None, m) for m in made]
    if new.startswith(old + "/"):
        raise InvalidMailboxName("a mailbox can not be moved below itself")
    modseq = accounts.modseq(tx, account_id)
    changed: list[tuple[str | None, Mailbox]] = []
    parent_id = 0
    if "/" in new:
        parent = new.rpartition("/")[0]
        found = find(tx, account_id, parent)
        if found is None:
            made = create(tx, account_id, parent)
            changed += [(None, m) for m in made]
            found = made[-1]
        parent_id = found.id
    listing = all(tx, account_id)
    there = {m.name for m in listing}
    moved = [mailbox, *(m for m in listing if m.name.startswith(old + "/"))]
    # A name that was in use before must not bring back the old UIDs (RFC 9051 6.3.6).
    uidvalidity = accounts.next_uidvalidity(tx, account_id, len(moved))
    for number, former in enumerate(moved):
        name = valid_name(new + former.name[len(old) :])
        if name in there:
            raise MailboxExists(name)
        renamed = replace(
            former,
            name=name,
            parent_id=former.parent_id if number else parent_id,
            modseq=modseq,
            uidvalidity=uidvalidity + number,
        )
        changed.append((former.name, renamed))
    renames = [m for former, m in changed if former is not None]
    tx.many(
        _RENAME,
        [
            {"i": m.id, "n": m.name, "p": m.parent_id, "m": m.modseq, "v": m.uidvalidity}
            for m in renames
        ],
    )
    _subscribe_all(tx, account_id, [m.name for m in renames])
    return changed


def set_special_use(tx: Tx, account_id: int, mailbox_id: int, use: int) -> None:
    """Give a mailbox these special uses; other mailboxes lose them."""
    modseq = accounts.modseq(tx, account_id)
    for mailbox in all(tx, account_id):
        if mailbox.id == mailbox_id:
            if mailbox.special_use != use:
                tx.run(_SET_USE, i=mailbox.id, u=use, m=modseq)
        elif mailbox.special_use & use:
            tx.run(_SET_USE, i=mailbox.id, u=mailbox.special_use & ~use, m=modseq)


def with_use(tx: Tx, account_id: int, use: SpecialUse) -> Mailbox | None:
    """The mailbox that has a special use, or None."""
    for mailbox in all(tx, account_id):
        if mailbox.special_use & use:
            return mailbox
    return None


def add_keywords(tx: Tx, mailbox: Mailbox, keywords: set[str]) -> bool:
    """Add to the mailbox's list of keywords; says whether it grew."""
    missing = keywords.difference(mailbox.keywords)
    if not missing:
        return False
    if len(mailbox.keywords) + len(missing) > 1000:
        raise TooMany("too many different keywords in this mailbox")
    tx.run(
        _SET_KEYWORDS,
        i=mailbox.id,
        k=" ".join(sorted(missing.union(mailbox.keywords))),
        m=accounts.modseq(tx, mailbox.account_id),
    )
    return True


def count(
    tx: Tx,
    mailbox_id: int,
    modseq: int,
    *,
    total: int = 0,
    deleted: int = 0,
    unread: int = 0,
    unseen: int = 0,
    size: int = 0,
    deleted_size: int = 0,
) -> None:
    """Add to a mailbox's counts and set its modseq."""
    tx.run(
        _COUNT,
        i=mailbox_id,
        m=modseq,
        d_total=total,
        d_deleted=deleted,
        d_unread=unread,
        d_unseen=unseen,
        d_size=size,
        d_deleted_size=deleted_size,
    )


def subscribe(tx: Tx, account_id: int, name: str) -> bool:
    """Subscribe to a valid name, with a mailbox or not; says whether that is new."""
    name = valid_name(name)
    if tx.one(_SUBSCRIBED, a=account_id, n=name) is not None:
        return False
    if tx.value(_COUNT_SUBSCRIPTIONS, a=account_id) >= _MAX_SUBSCRIPTIONS:
        raise TooMany("too many subscriptions")
    tx.run(_SUBSCRIBE, a=account_id, n=name)
    # Whoever watches subscriptions is to look.
    accounts.modseq(tx, account_id)
    return True


def _subscribe_all(tx: Tx, account_id: int, names: Sequence[str]) -> None:
    """Subscribe to valid names."""
    known = subscriptions_of(tx, account_id)
    new = [name for name in names if name not in known]
    if len(known) + len(new) > _MAX_SUBSCRIPTIONS:
        raise TooMany("too many subscriptions")
    tx.many(_SUBSCRIBE, [{"a": account_id, "n": name} for name in new])


def unsubscribe(tx: Tx, account_id: int, name: str) -> bool:
    """Drop a subscription; says whether there was one."""
    if tx.run(_UNSUBSCRIBE, a=account_id, n=name) == 0:
        return False
    accounts.modseq(tx, account_id)
    return True


def subscriptions_of(tx: Tx, account_id: int) -> set[str]:
    """All subscribed names."""
    return {row[0] for row in tx.all(_SUBSCRIPTIONS, a=account_id)}


def changes_since(tx: Tx, account_id: int, modseq: int) -> list[MailboxChange]:
    """Mailboxes made, removed or changed (name, use, counts) after a modseq."""
    changes = []
    for expunged, *row in tx.all(_CHANGED, a=account_id, m=modseq):
        mailbox = _mailbox(tuple(row))
        kind = "remove" if expunged else "add" if mailbox.create_seq > modseq else "change"
        changes.append(MailboxChange(kind, mailbox))
    return changes
