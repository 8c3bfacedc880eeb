"""Accounts as rows: made on first use, their modseq and disk usage."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy import bindparam

from moxtw.store.db import Store
from moxtw.store.errors import NoSuchAccount
from moxtw.store.model import Account
from moxtw.store.schema import accounts as accounts
from moxtw.store.schema import (
    credentials,
    mailboxes,
    messages,
    outgoing,
    recipients,
    subject_keys,
    subscriptions,
    tls_public_keys,
    web_sessions,
)
from moxtw.store.schema_annotations import annotation_table
from moxtw.store.schema_copies import copy_ranges
from moxtw.store.schema_imports import import_ranges, imports
from moxtw.store.schema_requests import sent_requests
from moxtw.store.tx import Statement, Tx

_COLUMNS = (accounts.c.id, accounts.c.name, accounts.c.modseq, accounts.c.disk_usage)
_BY_NAME = Statement(sa.select(*_COLUMNS).where(accounts.c.name == bindparam("name")))
_BY_ID = Statement(sa.select(*_COLUMNS).where(accounts.c.id == bindparam("id")))
_NAMES = Statement(sa.select(accounts.c.name).order_by(accounts.c.name))
_INSERT = Statement(
    accounts.insert()
    .values(
        name=bindparam("name"),
        next_uidvalidity=bindparam("next_uidvalidity"),
        created=bindparam("created"),
    )
    .returning(accounts.c.id)
)
_NEXT_MODSEQ = Statement(
    accounts.update()
    .where(accounts.c.id == bindparam("account_id"))
    .values(modseq=accounts.c.modseq + 1)
    .returning(accounts.c.modseq)
)
_USE = Statement(
    accounts.update()
    .where(accounts.c.id == bindparam("account_id"))
    .values(
        modseq=accounts.c.modseq + bindparam("step"),
        disk_usage=accounts.c.disk_usage + bindparam("size"),
    )
    .returning(accounts.c.modseq, accounts.c.disk_usage)
)
_USAGE = Statement(
    sa.select(accounts.c.disk_usage).where(accounts.c.id == bindparam("account_id"))
)
_NEXT_UIDVALIDITY = Statement(
    accounts.update()
    .where(accounts.c.id == bindparam("account_id"))
    .values(next_uidvalidity=accounts.c.next_uidvalidity + bindparam("count"))
    .returning(accounts.c.next_uidvalidity)
)


def find(tx: Tx, name: str) -> Account | None:
    """The account of that name, or None."""
    row = tx.one(_BY_NAME, name=name)
    return None if row is None else Account(*row)


def get(tx: Tx, name: str) -> Account:
    """The account of that name. Raises NoSuchAccount."""
    found = find(tx, name)
    if found is None:
        raise NoSuchAccount(name)
    return found


def by_id(tx: Tx, account_id: int) -> Account:
    """The account of that id. Raises NoSuchAccount."""
    row = tx.one(_BY_ID, id=account_id)
    if row is None:
        raise NoSuchAccount(str(account_id))
    return Account(*row)


def name_of(tx: Tx, account_id: int) -> str:
    """The account's name."""
    name = tx.store.account_names.get(account_id)
    if name is None:
        name = tx.store.account_names[account_id] = by_id(tx, account_id).name
    return name


def all_names(tx: Tx) -> list[str]:
    """Names of all accounts, sorted."""
    return [row[0] for row in tx.all(_NAMES)]


def create(tx: Tx, name: str) -> Account:
    """Make an account's row, without mailboxes."""
    account_id = tx.value(
        _INSERT, name=name, next_uidvalidity=tx.now // 1_000_000 >> 1, created=tx.now
    )
    return by_id(tx, account_id)


def ensure(
    tx: Tx,
    name: str,
    special: dict[str, int] | None = None,
    regular: tuple[str, ...] = (),
) -> Account:
    """The account of that name, made with its first mailboxes if it is missing.

    `special` maps mailbox names to SpecialUse bits, `regular` names further mailboxes; Inbox
    is always made. None: Archive, Drafts, Junk, Sent and Trash with their uses.
    """
    found = find(tx, name)
    if found is not None:
        return found
    from moxtw.store import mailboxes as mailbox_ops
    from moxtw.store.model import SpecialUse

    account = create(tx, name)
    mailbox_ops.create(tx, account.id, "Inbox")
    if special is None:
        special = {
            "Archive": SpecialUse.ARCHIVE,
            "Drafts": SpecialUse.DRAFT,
            "Junk": SpecialUse.JUNK,
            "Sent": SpecialUse.SENT,
            "Trash": SpecialUse.TRASH,
        }
    for mailbox, use in special.items():
        if mailbox_ops.find(tx, account.id, mailbox) is None:
            mailbox_ops.create(tx, account.id, mailbox, int(use))
        else:
            known = mailbox_ops.named(tx, account.id, mailbox)
            mailbox_ops.set_special_use(tx, account.id, known.id, int(use))
    for other in regular:
        mailbox_ops.ensure(tx, account.id, other)
    return by_id(tx, account.id)


def modseq(tx: Tx, account_id: int) -> int:
    """The modseq of this job's changes to the account: taken once, then shared."""
    known = tx.modseqs.get(account_id)
    if known is None:
        known = tx.value(_NEXT_MODSEQ, account_id=account_id)
        if known is None:
            raise NoSuchAccount(str(account_id))
        tx.modseqs[account_id] = tx.changed[account_id] = known
    return known


def use(tx: Tx, account_id: int, size: int) -> tuple[int, int]:
    """Count `size` bytes (negative: less) as used; returns the job's modseq and the usage."""
    known = tx.modseqs.get(account_id)
    row = tx.one(_USE, account_id=account_id, step=1 if known is None else 0, size=size)
    if row is None:
        raise NoSuchAccount(str(account_id))
    if known is None:
        tx.modseqs[account_id] = tx.changed[account_id] = row[0]
    return row[0], row[1]


def usage(tx: Tx, account_id: int) -> int:
    """Bytes in use."""
    used: int = tx.value(_USAGE, account_id=account_id) or 0
    return used


def next_uidvalidity(tx: Tx, account_id: int, count: int = 1) -> int:
    """The first of `count` consecutive UIDVALIDITYs that the account has not used yet."""
    value: int = tx.value(_NEXT_UIDVALIDITY, account_id=account_id, count=count)
    return value - count


_EXPUNGE_ALL = Statement(
    messages.update()
    .where(messages.c.account_id == bindparam("a"), messages.c.expunged == 0)
    .values(expunged=1, modseq=bindparam("m"))
)
_FORGET_TRAINING = Statement(
    messages.update()
    .where(messages.c.account_id == bindparam("a"), messages.c.trained != 0)
    .values(trained=0)
)
_ERASE_ROWS = Statement(
    messages.delete().where(
        messages.c.id.in_(
            sa.select(messages.c.id).where(messages.c.account_id == bindparam("a")).limit(1000)
        )
    )
)
_DROP = [
    Statement(table.delete().where(table.c.account_id == bindparam("a")))
    for table in (
        annotation_table,
        recipients,
        outgoing,
        credentials,
        web_sessions,
        subscriptions,
        subject_keys,
        sent_requests,
        import_ranges,
        imports,
        copy_ranges,
    )
]
_DROP_KEYS = Statement(tls_public_keys.delete().where(tls_public_keys.c.account == bindparam("n")))
_DROP_MAILBOXES = Statement(mailboxes.delete().where(mailboxes.c.account_id == bindparam("a")))
_DROP_ACCOUNT = Statement(accounts.delete().where(accounts.c.id == bindparam("a")))
_RENAME = Statement(
    accounts.update().where(accounts.c.id == bindparam("a")).values(name=bindparam("n"))
)


async def remove(store: Store, name: str) -> None:
    """Remove an account with all it holds, in many small jobs. Raises NoSuchAccount.

    The row is renamed first, so that an account of the same name can be made at once; an
    interrupted removal goes on at the next start (`finish_removals`).
    """

    def begin(tx: Tx) -> None:
        account = get(tx, name)
        for statement in _DROP:
            tx.run(statement, a=account.id)
        tx.run(_DROP_KEYS, n=name)
        tx.store.account_names.pop(account.id, None)
        tx.run(_RENAME, a=account.id, n=f"/removed/{account.id}")
        tx.run(_EXPUNGE_ALL, a=account.id, m=modseq(tx, account.id))
        tx.run(_FORGET_TRAINING, a=account.id)

    await store.write(begin)
    await finish_removals(store)


async def finish_removals(store: Store) -> None:
    """Erase what is left of removed accounts."""
    from moxtw.store import junkdb
    from moxtw.store import messages as message_ops

    names = await store.read(lambda tx: [n for n in all_names(tx) if n.startswith("/removed/")])
    for name in names:
        account = await store.read(lambda tx, n=name: get(tx, n))  # type: ignore[misc]
        erased = "more"
        while erased == "more":
            erased = await store.write(
                lambda tx, a=account.id: message_ops.erase(tx, a, None)  # type: ignore[misc]
            )
        rows = 1
        while rows:
            rows = await store.write(lambda tx, a=account.id: tx.run(_ERASE_ROWS, a=a))  # type: ignore[misc]

        words = True
        while words:
            words = await store.write(
                lambda tx, a=account.id: junkdb.drop_some(tx, a, every=True)  # type: ignore[misc]
            )

        def end(tx: Tx, account_id: int = account.id) -> None:
            tx.run(_DROP_MAILBOXES, a=account_id)
            tx.run(_DROP_ACCOUNT, a=account_id)

        await store.write(end)
