"""The queries of searches (`moxtw.store.search`).

They give UIDs that are joined to one text, since rows that come to Python one by one cost more.
"""

from __future__ import annotations

from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy import bindparam
from sqlalchemy.sql import visitors

from moxtw.store.schema import content_text, contents, message_meta, messages
from moxtw.store.schema import mailboxes as mailbox_table
from moxtw.store.sqlfunctions import ascii_header, beyond_ascii, find_bytes, in_list, joined
from moxtw.store.tx import Statement

PLACE = (
    messages.c.mailbox_id == bindparam("mailbox"),
    messages.c.uid >= bindparam("first"),
    messages.c.uid <= bindparam("last"),
    messages.c.expunged == 0,
)
LIST = (
    messages.c.mailbox_id == bindparam("mailbox"),
    in_list(messages.c.uid, bindparam("uids", type_=sa.Text)),
    messages.c.expunged == 0,
)
COUNT = Statement(
    sa.select(mailbox_table.c.total + mailbox_table.c.deleted).where(
        mailbox_table.c.id == bindparam("mailbox")
    )
)
UIDS = Statement(sa.select(joined(messages.c.uid)).where(*PLACE))
NTH = Statement(
    sa.select(messages.c.uid)
    .where(*PLACE)
    .order_by(messages.c.uid)
    .limit(1)
    .offset(bindparam("n"))
)


def plain_statement(decides: Any, listed: bool) -> Statement:
    """What the database decides, in a range of UIDs or in a list of them."""
    source: Any = messages
    if any(getattr(each, "table", None) is contents for each in visitors.iterate(decides)):
        source = messages.outerjoin(contents, contents.c.id == messages.c.content_id)
    place = (*LIST, *PLACE[1:3]) if listed else PLACE
    return Statement(sa.select(joined(messages.c.uid)).select_from(source).where(*place, decides))


# From ids of contents or messages to UIDs. The mailbox stands there as an expression, so that
# the database does not take the index that leads to all of its messages.
WITHIN = (
    messages.c.mailbox_id + 0 == bindparam("mailbox"),
    messages.c.uid >= bindparam("first"),
    messages.c.uid <= bindparam("last"),
    messages.c.expunged == 0,
)
IDS = bindparam("ids", type_=sa.Text)
OF_CONTENTS = Statement(
    sa.select(joined(messages.c.uid)).where(in_list(messages.c.content_id, IDS), *WITHIN)
)
OF_MESSAGES = Statement(
    sa.select(joined(messages.c.uid)).where(in_list(messages.c.id, IDS), *WITHIN)
)
ABOVE = messages.c.content_id > bindparam("reached")
ABOVE_ID = messages.c.id > bindparam("reached")
CONTENTS_ABOVE = Statement(sa.select(joined(messages.c.uid)).where(ABOVE, *WITHIN))
CONTENTS_ABOVE_IN = Statement(
    sa.select(joined(messages.c.uid)).where(
        messages.c.content_id + 0 > bindparam("reached"), *PLACE
    )
)
MESSAGES_ABOVE = Statement(sa.select(joined(messages.c.uid)).where(ABOVE_ID, *WITHIN))
MESSAGES_ABOVE_IN = Statement(
    sa.select(joined(messages.c.uid)).where(messages.c.id + 0 > bindparam("reached"), *PLACE)
)
TAIL_CONTENTS = Statement(
    sa.select(sa.func.count()).select_from(
        sa.select(messages.c.content_id).where(ABOVE).limit(bindparam("limit")).subquery()
    )
)
TAIL_MESSAGES = Statement(
    sa.select(sa.func.count()).select_from(
        sa.select(messages.c.id).where(ABOVE_ID).limit(bindparam("limit")).subquery()
    )
)

# As an expression, so that the database does not take the index that leads to all messages of
# the mailbox.
IN_MAILBOX = (messages.c.mailbox_id + 0 == bindparam("mailbox"), messages.c.expunged == 0)
EMAIL_UIDS = Statement(
    sa.union_all(
        sa.select(messages.c.uid).where(messages.c.id == bindparam("i"), *IN_MAILBOX),
        sa.select(messages.c.uid)
        .select_from(message_meta.join(messages, messages.c.id == message_meta.c.id))
        .where(
            message_meta.c.email_id == bindparam("i"),
            message_meta.c.email_id != 0,
            *IN_MAILBOX,
        ),
    )
)
# Of those that changed last; one more than is of use.
MODSEQ_UIDS = Statement(
    sa.select(messages.c.uid)
    .where(
        messages.c.mailbox_id == bindparam("mailbox"),
        messages.c.modseq >= bindparam("m"),
        messages.c.expunged == 0,
    )
    .limit(bindparam("n"))
)
THREAD_UIDS = Statement(
    sa.select(messages.c.uid).where(messages.c.thread_id == bindparam("i"), *IN_MAILBOX)
)

MESSAGE = Statement(
    sa.select(
        messages.c.content_id, content_text.c.header, content_text.c.body, message_meta.c.prefix
    )
    .select_from(
        messages.join(
            content_text, content_text.c.content_id == messages.c.content_id
        ).join(message_meta, message_meta.c.id == messages.c.id)
    )
    .where(
        messages.c.mailbox_id == bindparam("mailbox"),
        messages.c.uid == bindparam("uid"),
        messages.c.expunged == 0,
    )
)


def _scans() -> dict[tuple[str, bool], Statement]:
    """Queries that look into texts, over a range of UIDs or (True) a list of them.

    They give the UIDs of messages that have the text; negative where a message has to be
    looked into.
    """
    needle = bindparam("needle", type_=sa.LargeBinary)
    name = bindparam("name", type_=sa.LargeBinary)
    uid = messages.c.uid
    header, body = content_text.c.header, content_text.c.body
    prefix = message_meta.c.prefix

    def has(where: Any, what: Any) -> Any:
        return find_bytes(where, what) > 0

    def of_prefix(found: Any, *otherwise: Any) -> Any:
        """As an expression of its own: the row is read only when the content has not the text."""
        return (
            sa.select(
                sa.case(
                    (beyond_ascii(prefix), -uid),
                    (has(ascii_header(prefix), needle), found),
                    *otherwise,
                )
            )
            .where(message_meta.c.id == messages.c.id)
            .correlate(messages, content_text)
            .scalar_subquery()
        )

    # The first field of that name, from behind its colon to the end of the line.
    start = find_bytes(
        sa.cast(sa.literal(b"\n", sa.LargeBinary).op("||")(header), sa.LargeBinary),
        bindparam("line", type_=sa.LargeBinary),
    )
    line = sa.func.substr(header, start + bindparam("skip", type_=sa.Integer))
    field = sa.func.substr(line, 1, find_bytes(line, sa.literal(b"\n", sa.LargeBinary)))
    has_name = has(ascii_header(prefix), name)
    cases = {
        "body": sa.case((has(body, needle), uid), (body.is_(None), -uid)),
        "content": sa.case(
            (has(header, needle), uid), (has(body, needle), uid), (body.is_(None), -uid)
        ),
        "text": sa.case(
            (has(header, needle), uid),
            (has(body, needle), uid),
            else_=of_prefix(uid, (body.is_(None), -uid)),
        ),
        "prefix": of_prefix(uid),
        "header": sa.case(
            (
                sa.and_(has(header, needle), has(header, name)),
                sa.case((sa.and_(start > 0, has(field, needle)), uid), else_=-uid),
            ),
            else_=of_prefix(sa.case((has_name, -uid))),
        ),
    }
    source = messages.join(content_text, content_text.c.content_id == messages.c.content_id)
    return {
        (kind, listed): Statement(
            sa.select(joined(case))
            .select_from(source)
            .where(*(LIST if listed else PLACE))
        )
        for kind, case in cases.items()
        for listed in (False, True)
    }


SCANS: Final = _scans()
