"""All that is known of one message, and its bytes, for programs that handle single messages."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import BinaryIO, Final

import sqlalchemy as sa
from sqlalchemy import bindparam

from moxtw.store import content
from moxtw.store.errors import NoContent, NoSuchMessage
from moxtw.store.messages import LIVE
from moxtw.store.schema import mailboxes, message_meta, messages
from moxtw.store.tx import Statement, Tx


@dataclass(frozen=True, slots=True)
class Details:
    """A live message: its row, and what is known of how it came in."""

    id: int
    mailbox: str
    flags: int
    keywords: str
    size: int
    received: int
    content_id: int
    prefix: bytes
    dsn: bool
    mail_from: str
    mail_from_validated: bool
    rcpt_to_localpart: str
    rcpt_to_domain: str
    msg_from_localpart: str
    msg_from_domain: str
    msg_from_validated: bool
    dkim_domains: str
    remote_ip: str


_COLUMNS: Final = (
    messages.c.id,
    mailboxes.c.name,
    messages.c.flags,
    messages.c.keywords,
    messages.c.size,
    messages.c.received,
    messages.c.content_id,
    *(
        message_meta.c[name]
        for name in (
            "prefix",
            "dsn",
            "mail_from",
            "mail_from_validated",
            "rcpt_to_localpart",
            "rcpt_to_domain",
            "msg_from_localpart",
            "msg_from_domain",
            "msg_from_validated",
            "dkim_domains",
            "remote_ip",
        )
    ),
)
_DETAILS: Final = Statement(
    sa.select(*_COLUMNS)
    .select_from(
        messages.join(message_meta, message_meta.c.id == messages.c.id).join(
            mailboxes, mailboxes.c.id == messages.c.mailbox_id
        )
    )
    .where(messages.c.id == bindparam("i"), messages.c.account_id == bindparam("a"), LIVE)
)


def details(tx: Tx, account_id: int, message_id: int) -> Details:
    """A live message of an account. Raises NoSuchMessage."""
    row = tx.one(_DETAILS, i=message_id, a=account_id)
    if row is None:
        raise NoSuchMessage(str(message_id))
    values = list(row)
    for index, column in enumerate(_COLUMNS):
        if column.name in ("dsn", "mail_from_validated", "msg_from_validated"):
            values[index] = bool(values[index])
    return Details(*values)


@dataclass(frozen=True, slots=True)
class Source:
    """Where the bytes of a content are: here, or in a file."""

    size: int
    data: bytes | None
    path: str | None

    def open(self) -> Opened:
        """For reading in a thread. Raises NoContent, when it has been erased meanwhile."""
        if self.data is not None:
            return Opened(self.size, self.data, None)
        assert self.path is not None
        try:
            return Opened(self.size, None, open(self.path, "rb"))  # noqa: SIM115
        except OSError as exc:
            raise NoContent(str(exc)) from exc


class Opened:
    """The bytes of a content; a file stays readable when the content is erased. Blocks."""

    def __init__(self, size: int, data: bytes | None, file: BinaryIO | None) -> None:
        self.size = size
        self._data = data
        self._file = file

    def read(self, start: int, end: int) -> bytes:
        """Bytes from a start to an end. Raises NoContent when they are not there."""
        if self._data is not None:
            return self._data[start:end]
        assert self._file is not None
        wanted = max(min(end, self.size) - start, 0)
        data = os.pread(self._file.fileno(), wanted, start)
        if len(data) != wanted:
            raise NoContent("content is cut off")
        return data

    def close(self) -> None:
        """Done with it."""
        if self._file is not None:
            self._file.close()


def source(tx: Tx, content_id: int) -> Source:
    """Where a content is. Raises NoContent."""
    size, path = content.info(tx, content_id)
    return Source(size, content.read(tx, content_id) if path is None else None, path)
