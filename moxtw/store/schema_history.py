"""The tables of what is known of senders: messages that the user judged, by their senders.

Only messages with exactly one of the Junk and NotJunk flags have a row here, so that looking
somebody up costs the same however much else a mailbox holds. Triggers note which messages
to look at again, whatever changed them; `moxtw.store.history` brings the rows up to date.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import DDL, BigInteger, Column, Index, Table, Text, event

from moxtw.store.schema import Id, _bool, _text, metadata

# Messages whose row in `history` may have to change.
history_due: Final = Table(
    "history_due", metadata, Column("message_id", Id, primary_key=True, autoincrement=False)
)

history: Final = Table(
    "history",
    metadata,
    Column("message_id", Id, primary_key=True, autoincrement=False),
    Column("account_id", Id, nullable=False),
    Column("mailbox_id", Id, nullable=False),  # the one that it was first delivered to
    Column("received", BigInteger, nullable=False),
    _bool("junk"),
    _text("from_localpart"),
    _text("from_domain"),
    _text("from_org_domain"),
    _bool("from_validated"),
    _text("mail_from_localpart"),
    _text("mail_from_domain"),
    _text("ehlo_domain"),
    _text("ip1"),
    _text("ip2"),
    _text("ip3"),
)
# All that lookups ask for is in the indexes.
for _name, _columns in {
    "from": ("from_domain", "from_localpart", "from_validated"),
    "from_domain": ("from_domain", "from_validated"),
    "from_org_domain": ("from_org_domain", "from_validated"),
    "mail_from": ("mail_from_domain", "mail_from_localpart"),
    "mail_from_domain": ("mail_from_domain",),
    "ehlo_domain": ("ehlo_domain",),
    "ip1": ("ip1",),
    "ip2": ("ip2",),
    "ip3": ("ip3",),
}.items():
    Index(
        f"history_{_name}",
        *[
            history.c[name]
            for name in (
                "account_id",
                "mailbox_id",
                *_columns,
                "received",
                "junk",
                *(["from_localpart"] if _name in ("from_domain", "from_org_domain") else []),
            )
        ],
    )

# The domains with a good DKIM signature on these messages.
history_dkim: Final = Table(
    "history_dkim",
    metadata,
    Column("message_id", Id, primary_key=True, autoincrement=False),
    Column("domain", Text, primary_key=True),
    Column("account_id", Id, nullable=False),
    Column("mailbox_id", Id, nullable=False),
    Column("received", BigInteger, nullable=False),
    _bool("junk"),
    Index("history_dkim_domain", "account_id", "mailbox_id", "domain", "received", "junk"),
)

# Flag bits: Junk is 16, NotJunk 32. Of a message that was not judged, and is not, nothing is
# noted. For each trigger: when, on which condition, and a query for the messages.
_JUDGED: Final = (
    "SELECT id FROM messages WHERE id = new.id AND expunged = 0 AND (flags & 48) IN (16, 32)"
)
_TRIGGERS: Final = {
    "history_flags": (
        "AFTER UPDATE OF flags, expunged ON messages",
        "(old.flags & 48) <> (new.flags & 48)"
        " OR (old.expunged <> new.expunged AND (new.flags & 48) IN (16, 32))",
        "SELECT new.id",
    ),
    "history_added": (
        "AFTER INSERT ON message_meta",
        "new.remote_ip <> '' OR new.msg_from_domain <> ''",
        _JUDGED,
    ),
    "history_moved": (
        "AFTER UPDATE OF mailbox_orig_id ON message_meta",
        "old.mailbox_orig_id <> new.mailbox_orig_id",
        _JUDGED,
    ),
    "history_gone": (
        "AFTER DELETE ON message_meta",
        "old.remote_ip <> '' OR old.msg_from_domain <> ''",
        "SELECT message_id FROM history WHERE message_id = old.id",
    ),
}


def triggers(dialect: str) -> list[str]:
    """The statements that make the triggers, where they are not there yet."""
    made = []
    for name, (when, condition, select) in _TRIGGERS.items():
        if dialect == "sqlite":
            made.append(
                f"CREATE TRIGGER IF NOT EXISTS {name} {when} WHEN {condition} BEGIN"
                f" INSERT OR IGNORE INTO history_due (message_id) {select}; END"
            )
        else:
            made.append(
                f"CREATE OR REPLACE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
                f" INSERT INTO history_due (message_id) {select} ON CONFLICT DO NOTHING;"
                " RETURN NULL; END $$"
            )
            made.append(
                f"CREATE OR REPLACE TRIGGER {name} {when} FOR EACH ROW WHEN ({condition})"
                f" EXECUTE FUNCTION {name}()"
            )
    return made


for _dialect in ("sqlite", "postgresql"):
    for _statement in triggers(_dialect):
        event.listen(
            metadata,
            "after_create",
            DDL(_statement.replace("%", "%%")).execute_if(dialect=_dialect),  # type: ignore[no-untyped-call]
        )
