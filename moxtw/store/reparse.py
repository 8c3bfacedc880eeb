"""Parsing messages again: what lists, searches and threads ask for is made anew.

Bytes are parsed in the threads for content, some at a time; what has changed is then written in
one job, so that of each content all is new or all is old. What was damaged is told and left.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from typing import Any, Final, NamedTuple

import sqlalchemy as sa
from sqlalchemy import bindparam

from moxtw.mail.parsed import PARSE_VERSION, ParsedMessage, analyse
from moxtw.store import content
from moxtw.store.db import Store
from moxtw.store.errors import NoContent
from moxtw.store.schema import content_text, contents, message_meta, messages
from moxtw.store.schema_keys import content_keys, keys_due
from moxtw.store.tx import Statement, Tx

# Messages looked at in a job, contents and bytes parsed before what changed is written.
_LOOK: Final = 500
_CONTENTS: Final = 20
_BYTES: Final = 256 * 1024


class Reparsed(NamedTuple):
    """How many messages were looked at, how many contents parsed and changed, and what failed."""

    messages: int
    parsed: int
    changed: int
    problems: list[str]


class _Item(NamedTuple):
    content_id: int
    size: int
    path: str | None


_NEXT = Statement(
    sa.select(
        messages.c.id,
        contents.c.id,
        contents.c.size,
        contents.c.file,
        contents.c.parse_version,
        content_text.c.content_id,
        sa.func.coalesce(content_keys.c.content_id, keys_due.c.content_id),
    )
    .select_from(
        messages.join(contents, contents.c.id == messages.c.content_id)
        .outerjoin(content_text, content_text.c.content_id == contents.c.id)
        .outerjoin(content_keys, content_keys.c.content_id == contents.c.id)
        .outerjoin(keys_due, keys_due.c.content_id == contents.c.id)
    )
    .where(messages.c.account_id == bindparam("a"), messages.c.id > bindparam("after"))
    .order_by(messages.c.id)
    .limit(_LOOK)
)
_BY_ID = Statement(
    sa.select(contents.c.id, contents.c.size, contents.c.file).where(
        contents.c.id == bindparam("i")
    )
)


def _item(tx: Tx, content_id: int, size: int, file: str | None) -> _Item:
    return _Item(content_id, size, None if file is None else tx.store.contents.path(file))


async def reparse_account(
    store: Store,
    account_id: int,
    progress: Callable[[int], object] = lambda count: None,
    *,
    missing: bool = False,
) -> Reparsed:
    """Parse the messages of an account again; with `missing` only those that lack a parse.

    `progress` is told how many messages were looked at.
    """
    after = seen = parsed = changed = 0
    problems: list[str] = []
    done: set[int] = set()

    def look(tx: Tx) -> tuple[int, int, list[_Item]]:
        rows = tx.all(_NEXT, a=account_id, after=after)
        items = {
            row[1]: _item(tx, *row[1:4])
            for row in rows
            if not missing or row[4] < PARSE_VERSION or row[5] is None or row[6] is None
        }
        return len(rows), rows[-1][0] if rows else 0, list(items.values())

    while True:
        count, last, items = await store.read(look)
        if not count:
            return Reparsed(seen, parsed, changed, problems)
        after = last
        seen += count
        # Copies of a message share its content.
        fresh = [item for item in items if item.content_id not in done]
        done.update(item.content_id for item in fresh)
        result = await _reparse(store, fresh)
        parsed += result.parsed
        changed += result.changed
        problems += result.problems
        progress(seen)


async def reparse_contents(store: Store, ids: Collection[int]) -> Reparsed:
    """Parse some contents again."""

    def look(tx: Tx) -> list[_Item]:
        rows = [tx.one(_BY_ID, i=content_id) for content_id in ids]
        return [_item(tx, *row) for row in rows if row is not None]

    return await _reparse(store, await store.read(look))


def _groups(items: Iterable[_Item]) -> Iterable[list[_Item]]:
    """Contents that are parsed together: a bounded number, of a bounded size."""
    group: list[_Item] = []
    size = 0
    for item in items:
        if group and (len(group) == _CONTENTS or size + item.size > _BYTES):
            yield group
            group, size = [], 0
        group.append(item)
        size += item.size
    if group:
        yield group


async def _reparse(store: Store, items: Collection[_Item]) -> Reparsed:
    changed = parsed = 0
    problems: list[str] = []
    for group in _groups(items):
        small = [item.content_id for item in group if item.path is None]

        def read(tx: Tx, ids: list[int] = small) -> dict[int, bytes | None]:
            found: dict[int, bytes | None] = {}
            for content_id in ids:
                try:
                    found[content_id] = content.read(tx, content_id)
                except NoContent:
                    # Erased meanwhile, or damaged.
                    found[content_id] = None
            return found

        data = await store.read(read)

        def parse(
            group: list[_Item] = group, data: dict[int, bytes | None] = data
        ) -> tuple[dict[int, ParsedMessage], list[str]]:
            found = {}
            failed = []
            for item in group:
                given = data.get(item.content_id)
                try:
                    if item.path is not None:
                        with open(item.path, "rb") as file:
                            given = file.read()
                except OSError as exc:
                    failed.append(f"content {item.content_id}: {item.path}: {exc.strerror}")
                    continue
                if given is None or len(given) != item.size:
                    failed.append(f"content {item.content_id} is missing or cut off")
                    continue
                found[item.content_id] = analyse(given, content.TEXT_LIMIT)
            return found, failed

        if group[0].size > content.PARSE_TOGETHER:
            found, failed = await store.contents.parsing.run(store.disk, parse)
        else:
            found, failed = await store.disk(parse)

        def write(tx: Tx, found: dict[int, ParsedMessage] = found) -> int:
            return sum([renew(tx, content_id, each) for content_id, each in found.items()])

        changed += await store.write(write)
        parsed += len(found)
        problems += failed
    return Reparsed(0, parsed, changed, problems)


# -- Writing ---------------------------------------------------------------------------------

_PARSED: Final = (
    "parse_version",
    "envelope",
    "body",
    "bodystructure",
    "preview",
    "sent",
    "sent_zone",
    "tree",
)
_KEPT = Statement(
    sa.select(*(contents.c[name] for name in _PARSED)).where(contents.c.id == bindparam("i"))
)
_SET = Statement(
    contents.update()
    .where(contents.c.id == bindparam("i"))
    .values({name: bindparam(name) for name in _PARSED})
)
_TEXT = Statement(
    sa.select(content_text.c.header, content_text.c.body).where(
        content_text.c.content_id == bindparam("i")
    )
)
_DROP_TEXT = Statement(content_text.delete().where(content_text.c.content_id == bindparam("i")))
_ADD_TEXT = Statement(
    content_text.insert().values(
        content_id=bindparam("i"), header=bindparam("h"), body=bindparam("b")
    )
)
_KEYS: Final = (
    "subject",
    "from_",
    "to_",
    "cc",
    "display_from",
    "display_to",
    "thread",
)
_KEPT_KEYS = Statement(
    sa.select(content_keys.c.sent, *(content_keys.c[name] for name in _KEYS)).where(
        content_keys.c.content_id == bindparam("i")
    )
)
_DROP_KEYS = Statement(content_keys.delete().where(content_keys.c.content_id == bindparam("i")))
_DROP_DUE = Statement(keys_due.delete().where(keys_due.c.content_id == bindparam("i")))
_META = Statement(
    sa.select(
        message_meta.c.id,
        message_meta.c.message_id,
        message_meta.c.subject_base,
        message_meta.c.dsn,
    )
    .select_from(messages.join(message_meta, message_meta.c.id == messages.c.id))
    .where(messages.c.content_id == bindparam("i"))
)
_SET_META = Statement(
    message_meta.update()
    .where(message_meta.c.id == bindparam("i"))
    .values(message_id=bindparam("m"), subject_base=bindparam("s"), dsn=bindparam("d"))
)


def renew(tx: Tx, content_id: int, parsed: ParsedMessage) -> bool:
    """Write what was understood of a content, where it differs; whether it does."""
    row = tx.one(_KEPT, i=content_id)
    if row is None:
        return False  # erased meanwhile
    changed = False
    values: dict[str, Any] = {
        "parse_version": PARSE_VERSION,
        "envelope": parsed.envelope,
        "body": parsed.body,
        "bodystructure": parsed.bodystructure,
        "preview": parsed.preview,
        "sent": parsed.date,
        "sent_zone": parsed.date_zone,
        "tree": parsed.tree,
    }
    if _plain(row) != tuple(values.values()):
        changed = True
        tx.run(_SET, i=content_id, **values)
    header = parsed.header_text
    body = parsed.body_text if len(parsed.body_text) <= content.KEPT_TEXT else None
    text = tx.one(_TEXT, i=content_id)
    if text is None or _plain(text) != (header, body):
        changed = True
        index = tx.store.backend.text_index
        index.forget_content(tx, content_id)
        tx.run(_DROP_TEXT, i=content_id)
        tx.run(_ADD_TEXT, i=content_id, h=header, b=body)
        index.renew_content(tx, content_id)
    keys = parsed.keys
    wanted = (
        parsed.date,
        keys.subject,
        keys.from_,
        keys.to,
        keys.cc,
        keys.display_from,
        keys.display_to,
        keys.thread,
    )
    kept = tx.one(_KEPT_KEYS, i=content_id)
    if kept is None or _plain(kept) != wanted:
        changed = True
        tx.run(_DROP_DUE, i=content_id)
        tx.run(_DROP_KEYS, i=content_id)
        content.save_keys(tx, content_id, parsed.date, keys)
    meta = (parsed.message_id or None, parsed.subject_base, int(parsed.is_dsn))
    for message_id, *known in tx.all(_META, i=content_id):
        if tuple(known) != meta:
            changed = True
            tx.run(_SET_META, i=message_id, m=meta[0], s=meta[1], d=meta[2])
    return changed


def _plain(row: Iterable[Any]) -> tuple[Any, ...]:
    """Values to compare: drivers give bytes in other types, too."""
    return tuple(bytes(value) if isinstance(value, memoryview) else value for value in row)
