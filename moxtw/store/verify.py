"""Consistency of what is stored: the account part of ``verifydata``, and for tests.

Each check says in plain words what is wrong; at most `MAX_PER_KIND` of a kind are listed.
"""

from __future__ import annotations

import os
from array import array
from bisect import bisect_left
from collections.abc import Callable
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy import bindparam

from moxtw.store import accounts, content, junkdb, threads
from moxtw.store.db import Store
from moxtw.store.queueverify import verify_queue
from moxtw.store.repair import HIGHEST_ID
from moxtw.store.schema import accounts as account_table
from moxtw.store.schema import (
    content_data,
    content_text,
    contents,
    message_meta,
    messages,
    sequences,
)
from moxtw.store.schema import mailboxes as mailbox_table
from moxtw.store.schema_annotations import annotation_table
from moxtw.store.schema_junk import State
from moxtw.store.schema_keys import content_keys, keys_due
from moxtw.store.tx import Statement, Tx

MAX_PER_KIND: Final = 20

_ACCOUNT = Statement(
    sa.select(
        account_table.c.modseq, account_table.c.next_uidvalidity, account_table.c.disk_usage
    ).where(account_table.c.id == bindparam("a"))
)
_MAILBOXES = Statement(
    sa.select(
        *(
            mailbox_table.c[name]
            for name in (
                "id",
                "name",
                "parent_id",
                "uidvalidity",
                "uidnext",
                "create_seq",
                "modseq",
                "expunged",
                "total",
                "deleted",
                "unread",
                "unseen",
                "size",
                "deleted_size",
                "keywords",
            )
        )
    ).where(mailbox_table.c.account_id == bindparam("a"))
)
_MESSAGES = Statement(
    sa.select(
        *(
            messages.c[name]
            for name in (
                "id",
                "mailbox_id",
                "uid",
                "modseq",
                "create_seq",
                "expunged",
                "flags",
                "keywords",
                "size",
                "content_id",
                "thread_id",
            )
        ),
        sa.func.length(message_meta.c.prefix),
        contents.c.size,
        message_meta.c.thread_parents,
        contents.c.file,
        messages.c.trained,
    )
    .select_from(
        messages.outerjoin(message_meta, message_meta.c.id == messages.c.id).outerjoin(
            contents, contents.c.id == messages.c.content_id
        )
    )
    .where(messages.c.account_id == bindparam("a"), messages.c.id > bindparam("after"))
    .order_by(messages.c.id)
    .limit(1000)
)
_ANNOTATIONS = Statement(
    sa.select(
        annotation_table.c.mailbox_id,
        annotation_table.c.key,
        annotation_table.c.create_seq,
        annotation_table.c.modseq,
        annotation_table.c.expunged,
    ).where(annotation_table.c.account_id == bindparam("a"))
)
_CONTENTS = Statement(
    sa.select(
        contents.c.id,
        contents.c.size,
        contents.c.file,
        sa.func.length(content_data.c.data),
        sa.func.length(content_text.c.header),
        sa.func.coalesce(content_keys.c.content_id, keys_due.c.content_id),
    )
    .select_from(
        contents.outerjoin(content_data, content_data.c.content_id == contents.c.id)
        .outerjoin(content_text, content_text.c.content_id == contents.c.id)
        .outerjoin(content_keys, content_keys.c.content_id == contents.c.id)
        .outerjoin(keys_due, keys_due.c.content_id == contents.c.id)
    )
    .where(contents.c.id > bindparam("after"))
    .order_by(contents.c.id)
    .limit(1000)
)


class _Errors:
    def __init__(self) -> None:
        self.texts: list[str] = []
        self._counts: dict[str, int] = {}

    def add(self, kind: str, text: str) -> None:
        seen = self._counts[kind] = self._counts.get(kind, 0) + 1
        if seen <= MAX_PER_KIND:
            self.texts.append(text)
        elif seen == MAX_PER_KIND + 1:
            self.texts.append(f"further errors of this kind are left out: {kind}")


def _silent(text: str) -> None:
    """For who does not want to know how far a check is."""


async def verify_account(
    store: Store, name: str, *, progress: Callable[[str], object] = _silent
) -> list[str]:
    """Check an account's rows; returns what is wrong, empty if nothing is.

    Everything is read on one snapshot, so it may run while the server works. `progress` is told
    how far it is, from another thread.
    """
    return await store.read(lambda tx: _verify_account(tx, name, progress))


async def verify_contents(
    store: Store, *, digests: bool = True, progress: Callable[[str], object] = _silent
) -> list[str]:
    """Check all contents: rows, files, sizes and (unless left out) digests."""
    return await store.read(lambda tx: _verify_contents(tx, digests, progress))


async def verify_all(
    store: Store, *, digests: bool = True, progress: Callable[[str], object] = _silent
) -> list[str]:
    """Check the database as such, every account, the queue, and all contents."""
    found = await store.read(_verify_database)
    for name in await store.read(accounts.all_names):
        problems = await verify_account(store, name, progress=progress)
        found += [f"account {name}: {text}" for text in problems]
    found += await verify_queue(store)
    return found + await verify_contents(store, digests=digests, progress=progress)


def _verify_database(tx: Tx) -> list[str]:
    """Check what the database itself can tell, and the numbers given out next."""
    found = []
    if tx.store.backend.dialect.name == "sqlite":
        for row in tx.raw(f"PRAGMA quick_check({MAX_PER_KIND})").fetchall():
            if row[0] != "ok":
                found.append(f"database: {row[0]}")
        references = tx.raw("PRAGMA foreign_key_check").fetchmany(MAX_PER_KIND)
        found += [
            f"database: row {row[1]} of table {row[0]} refers to one in {row[2]} that is missing"
            for row in references
        ]
    following = tx.value(_NEXT_ID)
    row = tx.one(HIGHEST_ID)
    if following is None or row is None or following <= max(row):
        found.append(f"next id {following} is not above those in use, {max(row or (0,))}")
    return found


_NEXT_ID = Statement(sa.select(sequences.c.next).where(sequences.c.name == "ids"))


class _Chains:
    """The ancestors of messages, packed: of each list a number that stands for it.

    For 100,000 messages that takes 3 MB, however long the lists are.
    """

    def __init__(self) -> None:
        self._ids = array("q")
        self._parents = array("q")
        self._whole = array("q")
        self._rest = array("q")

    def add(self, message_id: int, chain: str, errors: _Errors) -> None:
        """Take a message with its ancestors, nearest first; by ascending ids."""
        if f" {message_id} " in f" {chain} ":
            errors.add("thread", f"message {message_id} is its own ancestor")
            return
        parent, _, rest = chain.partition(" ")
        self._ids.append(message_id)
        self._whole.append(hash(chain))
        # Of a list that was cut at its end, the parent's has more.
        cut = chain.count(" ") + 1 >= threads.MAX_PARENTS
        self._parents.append(int(parent) if parent and not cut else 0)
        self._rest.append(hash(rest))

    def check(self, errors: _Errors) -> None:
        """Compare each list with that of the parent, which may have been erased."""
        ids = self._ids
        for place, parent in enumerate(self._parents):
            if not parent:
                continue
            found = bisect_left(ids, parent)
            if found == len(ids) or ids[found] != parent:
                continue
            if self._whole[found] != self._rest[place]:
                errors.add("thread", f"message {ids[place]}: ancestors differ from its parent's")


def _verify_account(tx: Tx, name: str, progress: Callable[[str], object]) -> list[str]:
    errors = _Errors()
    account = accounts.get(tx, name)
    row = tx.one(_ACCOUNT, a=account.id)
    assert row is not None
    top_modseq, next_uidvalidity, disk_usage = row
    boxes: dict[int, dict[str, Any]] = {}
    live_names: dict[str, int] = {}
    for box_row in tx.all(_MAILBOXES, a=account.id):
        box = dict(
            zip(
                (
                    "id",
                    "name",
                    "parent_id",
                    "uidvalidity",
                    "uidnext",
                    "create_seq",
                    "modseq",
                    "expunged",
                    "total",
                    "deleted",
                    "unread",
                    "unseen",
                    "size",
                    "deleted_size",
                    "keywords",
                ),
                box_row,
                strict=True,
            )
        )
        box["counted"] = [0, 0, 0, 0, 0, 0]
        box["highest"] = 0
        boxes[box["id"]] = box
        label = f"mailbox {box['name']!r} ({box['id']})"
        if not 0 < box["create_seq"] <= box["modseq"] <= top_modseq:
            errors.add("mailbox modseq", f"{label}: bad create_seq or modseq")
        if box["uidvalidity"] >= next_uidvalidity:
            errors.add("uidvalidity", f"{label}: uidvalidity not below the next one")
        if not box["expunged"]:
            if box["name"] in live_names:
                errors.add("mailbox name", f"{label}: name is not unique")
            live_names[box["name"]] = box["id"]
    for box in boxes.values():
        if box["expunged"]:
            continue
        parent = box["name"].rpartition("/")[0]
        expected = live_names.get(parent, -1) if parent else 0
        if box["parent_id"] != expected:
            errors.add("parent", f"mailbox {box['name']!r}: parent does not fit the name")
    live_annotations: set[tuple[int, str]] = set()
    for row in tx.cursor(_ANNOTATIONS, {"a": account.id}):
        _verify_annotation(row, boxes, top_modseq, errors)
        if not row[4]:
            if row[:2] in live_annotations:
                errors.add("annotation", f"annotation {row[1]!r} of mailbox {row[0]}: twice")
            live_annotations.add(row[:2])
    counted_usage = 0
    chains = _Chains()
    after = seen = 0
    trained = {junkdb.NOTJUNK: 0, junkdb.JUNK: 0, 0: 0}
    while rows := tx.all(_MESSAGES, a=account.id, after=after):
        for row in rows:
            trained[row[15]] += 1
            counted_usage += _verify_message(row, boxes, top_modseq, chains, errors)
        after = rows[-1][0]
        seen += len(rows)
        progress(f"account {name}: {seen} messages")
    chains.check(errors)
    for box in boxes.values():
        if box["expunged"]:
            continue
        kept = [
            box[key] for key in ("total", "deleted", "unread", "unseen", "size", "deleted_size")
        ]
        if kept != box["counted"]:
            errors.add(
                "counts", f"mailbox {box['name']!r}: counts {kept}, counted {box['counted']}"
            )
        if box["highest"] > box["modseq"]:
            errors.add(
                "mailbox modseq", f"mailbox {box['name']!r}: modseq below that of what it holds"
            )
    junk = junkdb.trained(tx, account.id)
    if junk is not None and junk.state != State.RESET:
        kept = [junk.ham, junk.spam]
        found = [trained[junkdb.NOTJUNK], trained[junkdb.JUNK]]
        if kept != found:
            errors.add("junk filter", f"junk filter: trained with {kept}, counted {found}")
    if counted_usage != disk_usage:
        errors.add("disk usage", f"disk usage {disk_usage}, counted {counted_usage}")
    return errors.texts


def _verify_annotation(
    row: tuple[Any, ...], boxes: dict[int, dict[str, Any]], top_modseq: int, errors: _Errors
) -> None:
    box_id, key, create, modseq, expunged = row
    label = f"annotation {key!r} of mailbox {box_id}"
    if not 0 < create <= modseq <= top_modseq:
        errors.add("annotation modseq", f"{label}: bad create_seq or modseq")
    if not box_id:
        return
    box = boxes.get(box_id)
    if box is None or (box["expunged"] and not expunged):
        errors.add("mailbox of annotation", f"{label}: the mailbox is missing or deleted")
    elif not box["expunged"]:
        box["highest"] = max(box["highest"], modseq)


def _verify_message(
    row: tuple[Any, ...],
    boxes: dict[int, dict[str, Any]],
    top_modseq: int,
    chains: _Chains,
    errors: _Errors,
) -> int:
    """Check a message's row; returns what it adds to the disk usage."""
    message_id, box_id, uid, modseq, create, expunged, flags, keywords = row[:8]
    size: int = row[8]
    content_id, thread_id, prefix_size, content_size, chain = row[9:14]
    label = f"message {message_id}"
    box = boxes.get(box_id)
    if box is None:
        errors.add("mailbox of message", f"{label}: mailbox {box_id} is missing")
        return 0
    if not 0 < create <= modseq <= top_modseq:
        errors.add("message modseq", f"{label}: bad create_seq or modseq")
    if thread_id == 0:
        errors.add("thread", f"{label}: no thread")
    if uid >= box["uidnext"] or uid < 1:
        errors.add("uid", f"{label}: uid {uid} not below uidnext {box['uidnext']}")
    box["highest"] = max(box["highest"], modseq)
    if expunged:
        return size if content_id is not None and expunged == 1 else 0
    if box["expunged"]:
        errors.add("mailbox of message", f"{label}: live in a deleted mailbox")
    if content_size is None or prefix_size is None:
        errors.add("content", f"{label}: content or prefix is missing")
        return size
    if size != content_size + prefix_size:
        errors.add(
            "size", f"{label}: size {size}, prefix {prefix_size} and content {content_size}"
        )
    if not set(keywords.split()) <= set(box["keywords"].split()):
        errors.add("keywords", f"{label}: keywords are not in the mailbox's list")
    chains.add(message_id, chain or "", errors)
    counted = box["counted"]
    deleted, unseen = bool(flags & 64), not flags & 1
    counted[1 if deleted else 0] += 1
    counted[2] += unseen and not deleted
    counted[3] += unseen
    counted[4] += size
    counted[5] += size if deleted else 0
    return size


def _verify_contents(
    tx: Tx, digests: bool, progress: Callable[[str], object]
) -> list[str]:
    errors = _Errors()
    after = seen = 0
    while rows := tx.all(_CONTENTS, after=after):
        for content_id, size, file, data_size, text_size, keyed in rows:
            label = f"content {content_id}"
            if text_size is None:
                errors.add("text", f"{label}: search text is missing")
            if keyed is None:
                errors.add("keys", f"{label}: what it is sorted by is missing")
            if file is None:
                if data_size != size:
                    errors.add("size", f"{label}: {data_size} bytes, its row says {size}")
            else:
                try:
                    actual = os.stat(tx.store.contents.path(file)).st_size
                except OSError as exc:
                    errors.add("file", f"{label}: {exc}")
                    continue
                if actual != size:
                    errors.add("size", f"{label}: {actual} bytes, its row says {size}")
            if all(tx.value(statement, id=content_id) is None for statement in content.referrers):
                errors.add("unused", f"{label}: nothing refers to it")
            if digests:
                problem = content.verify(tx, content_id)
                if problem is not None:
                    errors.add("digest", problem)
        after = rows[-1][0]
        seen += len(rows)
        progress(f"{seen} contents")
    return errors.texts


def stray_files(tx: Tx) -> list[str]:
    """Names of content files that no row refers to (files being received among them)."""
    found = []
    known = {row[0] for row in tx.cursor(_FILES, {})}
    directory = tx.store.contents.directory
    for entry in sorted(os.listdir(directory)):
        path = os.path.join(directory, entry)
        if not os.path.isdir(path):
            found.append(entry)
            continue
        for file in sorted(os.listdir(path)):
            if f"{entry}/{file}" not in known:
                found.append(f"{entry}/{file}")
    return found


_FILES: Final = Statement(sa.select(contents.c.file).where(contents.c.file.is_not(None)))
