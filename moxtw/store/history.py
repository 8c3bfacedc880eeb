"""What is known of senders: messages from them that the user has judged.

`follow` brings the rows up to date with messages whose Junk or NotJunk flag changed, a moment
after the change; lookups find the newest messages of a sender through an index, so that their
cost does not grow with what a mailbox holds.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import sqlalchemy as sa
from sqlalchemy import bindparam

from moxtw.store.schema import message_meta, messages, recipients
from moxtw.store.schema_history import history, history_dkim, history_due
from moxtw.store.tx import Statement, Tx

STEP: Final = 200
"""Messages that are looked at in one job."""

_JUNK: Final = 16
_JUDGED: Final = (16, 32)

_DUE = Statement(
    sa.select(history_due.c.message_id).order_by(history_due.c.message_id).limit(bindparam("n"))
)
_DONE = Statement(history_due.delete().where(history_due.c.message_id == bindparam("i")))
_FORGET = Statement(history.delete().where(history.c.message_id == bindparam("i")))
_FORGET_DKIM = Statement(
    history_dkim.delete().where(history_dkim.c.message_id == bindparam("i"))
)
_META = message_meta.c
_LOOK = Statement(
    sa.select(
        messages.c.flags,
        _META.account_id,
        _META.mailbox_orig_id,
        _META.received,
        _META.msg_from_localpart,
        _META.msg_from_domain,
        _META.msg_from_org_domain,
        _META.msg_from_validated,
        _META.mail_from_localpart,
        _META.mail_from_domain,
        _META.ehlo_domain,
        _META.remote_ip_masked1,
        _META.remote_ip_masked2,
        _META.remote_ip_masked3,
        _META.dkim_domains,
    )
    .select_from(messages.join(message_meta, _META.id == messages.c.id))
    .where(messages.c.id == bindparam("i"), messages.c.expunged == 0)
)
_INSERT = Statement(
    history.insert().values({column.name: bindparam(column.name) for column in history.c})
)
_INSERT_DKIM = Statement(
    history_dkim.insert().values({c.name: bindparam(c.name) for c in history_dkim.c})
)


def follow(tx: Tx) -> bool:
    """Bring some rows up to date; returns whether there are more to do."""
    due = [row[0] for row in tx.all(_DUE, n=STEP)]
    for message_id in due:
        tx.run(_FORGET, i=message_id)
        tx.run(_FORGET_DKIM, i=message_id)
        row = tx.one(_LOOK, i=message_id)
        if row is not None and row[0] & 48 in _JUDGED:
            values = dict(zip((c.name for c in history.c), (message_id, *row[1:4]), strict=False))
            junk = 1 if row[0] & _JUNK else 0
            values.update(
                junk=junk,
                from_localpart=row[4],
                from_domain=row[5],
                from_org_domain=row[6],
                from_validated=row[7],
                mail_from_localpart=row[8],
                mail_from_domain=row[9],
                ehlo_domain=row[10],
                ip1=row[11],
                ip2=row[12],
                ip3=row[13],
            )
            tx.run(_INSERT, **values)
            tx.many(
                _INSERT_DKIM,
                [
                    {
                        "message_id": message_id,
                        "domain": domain,
                        "account_id": row[1],
                        "mailbox_id": row[2],
                        "received": row[3],
                        "junk": junk,
                    }
                    for domain in dict.fromkeys(row[14].split())
                ],
            )
        tx.run(_DONE, i=message_id)
    return len(due) == STEP


# -- Lookups ---------------------------------------------------------------------------------


class Question(NamedTuple):
    """What is asked for: the newest judged messages with some ties, or whom the user has sent to.

    by: which ties, a key of `_BY` or of `_SENT_TO`. age: microseconds that they are old at most.
    most: of the newest messages, how many count. validated: None as given when asking, or a
    value of its own for whether the author's address was real.
    """

    by: str
    age: int
    most: int = 1
    validated: int | None = None


class Found(NamedTuple):
    """Of the messages that were found: how many, and how many of them junk.

    localparts: by how many authors, where domains are asked for.
    """

    seen: int
    junk: int
    localparts: int

    @property
    def good(self) -> int:
        """How many were judged to be no junk."""
        return self.seen - self.junk

    @property
    def all_junk(self) -> bool:
        """Whether no message was good."""
        return self.junk == self.seen


_H = history.c
_BY: Final[dict[str, tuple[sa.Column[Any], ...]]] = {
    "from": (_H.from_domain, _H.from_localpart, _H.from_validated),
    "from_domain": (_H.from_domain, _H.from_validated),
    "from_org_domain": (_H.from_org_domain, _H.from_validated),
    "mail_from": (_H.mail_from_domain, _H.mail_from_localpart),
    "mail_from_domain": (_H.mail_from_domain,),
    "ehlo_domain": (_H.ehlo_domain,),
    "ip1": (_H.ip1,),
    "ip2": (_H.ip2,),
    "ip3": (_H.ip3,),
    "dkim": (history_dkim.c.domain,),
}
# The columns of `recipients` that are compared with those of the author.
_SENT_TO: Final[dict[str, dict[str, sa.Column[str]]]] = {
    "sent": {"from_domain": recipients.c.domain, "from_localpart": recipients.c.localpart},
    "sent_domain": {"from_domain": recipients.c.domain},
    "sent_org_domain": {"from_org_domain": recipients.c.org_domain},
}


class Questions:
    """Questions that are asked with one statement, and answered with one row.

    Each statement, and each row more, gives the interpreter away and has to wait for it again:
    that takes longer than to look into the indexes for what may not be needed.
    """

    def __init__(self, **questions: Question) -> None:
        self._ages = sorted({question.age for question in questions.values()})
        self._names = list(questions)
        parts = [self._part(name, question) for name, question in questions.items()]
        self.statement = Statement(
            sa.select(*[column for part in parts for column in part.c]).select_from(*parts)
        )

    def _part(self, name: str, question: Question) -> sa.Subquery:
        several = question.by in ("from_domain", "from_org_domain")
        since: sa.BindParameter[int] = bindparam(f"since{self._ages.index(question.age)}")
        if question.by in _SENT_TO:
            sent = (
                sa.select(sa.literal(0).label("junk"))
                .where(
                    recipients.c.account_id == bindparam("account"),
                    *[
                        column == bindparam(value)
                        for value, column in _SENT_TO[question.by].items()
                    ],
                    recipients.c.sent >= since,
                )
                .limit(sa.literal_column("1"))
            )
            rows = sent.subquery(f"{name}_rows")
        else:
            columns = _BY[question.by]
            table = columns[0].table
            values: dict[str, Any] = {
                column.name: bindparam("dkim_domain" if table is history_dkim else column.name)
                for column in columns
            }
            if question.validated is not None:
                values["from_validated"] = sa.literal(question.validated)
            newest = (
                sa.select(table.c.junk, *([_H.from_localpart] if several else []))
                .where(
                    table.c.account_id == bindparam("account"),
                    table.c.mailbox_id == bindparam("mailbox"),
                    *[column == values[column.name] for column in columns],
                    table.c.received >= since,
                )
                .order_by(table.c.received.desc())
                .limit(sa.literal_column(str(question.most)))
            )
            rows = newest.subquery(f"{name}_rows")
        return sa.select(
            sa.func.count().label(f"{name}_seen"),
            sa.func.coalesce(sa.func.sum(rows.c.junk), sa.literal(0)).label(f"{name}_junk"),
            (
                sa.func.count(rows.c.from_localpart.distinct()) if several else sa.literal(0)
            ).label(f"{name}_localparts"),
        ).subquery(name)

    def ask(
        self, tx: Tx, account_id: int, mailbox_id: int, **values: str | int
    ) -> dict[str, Found]:
        """The answers, about what was first delivered to a mailbox, with the values of columns."""
        for number, age in enumerate(self._ages):
            values[f"since{number}"] = tx.now - age
        row = tx.one(self.statement, account=account_id, mailbox=mailbox_id, **values)
        assert row is not None
        return {
            name: Found(*row[at : at + 3])
            for name, at in zip(self._names, range(0, len(row), 3), strict=True)
        }
