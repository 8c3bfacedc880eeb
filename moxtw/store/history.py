"""What is known of senders: messages from them that the user has judged.

`follow` brings the rows up to date with messages whose Junk or NotJunk flag changed, a moment
after the change; lookups find the newest messages of a sender through an index, so that their
cost does not grow with what a mailbox holds.
"""

from __future__ import annotations

from typing import Final, NamedTuple

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


class Judged(NamedTuple):
    """A judged message: whether as junk, and the localpart of its author."""

    junk: bool
    localpart: str


def _newest(*columns: sa.Column[int] | sa.Column[str]) -> Statement:
    """The newest messages with given values in `columns`."""
    table = columns[0].table
    localpart = history.c.from_localpart if table is history else sa.literal_column("''")
    return Statement(
        sa.select(table.c.junk, localpart)
        .where(
            table.c.account_id == bindparam("account"),
            table.c.mailbox_id == bindparam("mailbox"),
            *[column == bindparam(column.name) for column in columns],
            table.c.received >= bindparam("since"),
        )
        .order_by(table.c.received.desc())
        .limit(bindparam("most"))
    )


_H = history.c
_BY: Final = {
    "from": _newest(_H.from_domain, _H.from_localpart, _H.from_validated),
    "from_domain": _newest(_H.from_domain, _H.from_validated),
    "from_org_domain": _newest(_H.from_org_domain, _H.from_validated),
    "mail_from": _newest(_H.mail_from_domain, _H.mail_from_localpart),
    "mail_from_domain": _newest(_H.mail_from_domain),
    "ehlo_domain": _newest(_H.ehlo_domain),
    "ip1": _newest(_H.ip1),
    "ip2": _newest(_H.ip2),
    "ip3": _newest(_H.ip3),
    "dkim": _newest(history_dkim.c.domain),
}


class Mailbox(NamedTuple):
    """Whose history is asked for: of what was first delivered to this mailbox."""

    account_id: int
    mailbox_id: int

    def newest(
        self, tx: Tx, by: str, *, since: int, most: int, **values: str | int
    ) -> list[Judged]:
        """The newest judged messages with the values of the columns that `by` stands for.

        since: microseconds since the epoch.
        """
        rows = tx.all(
            _BY[by],
            account=self.account_id,
            mailbox=self.mailbox_id,
            since=since,
            most=most,
            **values,
        )
        return [Judged(bool(junk), localpart) for junk, localpart in rows]


def _sent(*columns: sa.Column[str]) -> Statement:
    return Statement(
        sa.select(recipients.c.id)
        .where(
            recipients.c.account_id == bindparam("account"),
            *[column == bindparam(column.name) for column in columns],
            recipients.c.sent >= bindparam("since"),
        )
        .limit(1)
    )


_SENT_TO: Final = {
    "address": _sent(recipients.c.domain, recipients.c.localpart),
    "domain": _sent(recipients.c.domain),
    "org_domain": _sent(recipients.c.org_domain),
}


def sent_to(tx: Tx, account_id: int, by: str, since: int, **values: str) -> bool:
    """Whether the user has sent to an ``address``, a ``domain`` or an ``org_domain``."""
    return tx.one(_SENT_TO[by], account=account_id, since=since, **values) is not None
