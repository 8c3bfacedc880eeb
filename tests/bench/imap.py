"""Times of IMAP commands on a mailbox of 10,000 messages, beside Dovecot."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack

from tests.bench import parties
from tests.bench.report import Row, Table, alternate
from tests.support.imapload import IMAPLoad, messages
from tests.support.server import PASSWORD

SIZE = 4096
MESSAGES = 10_000
SOME = 1000

FLAGS = b"FETCH 1:* (UID FLAGS)"
LIST = b"FETCH 1:* (UID FLAGS INTERNALDATE RFC822.SIZE ENVELOPE BODYSTRUCTURE)"

Measure = Callable[[IMAPLoad], float]


def run(times: int, quick: bool) -> Table:
    """Measure."""
    count = MESSAGES // 10 if quick else MESSAGES
    some = SOME // 10 if quick else SOME
    table = Table(
        "imap",
        f"IMAP: a mailbox of {count:,} messages of 4 KiB",
        "Dovecot",
        "Read by a client that only looks for the end of the answer. Dovecot: sdbox, "
        "`mail_fsync = optimized`.",
    )
    fresh = Names()
    content = list(messages(count, SIZE))
    with ExitStack() as stack:
        ours = stack.enter_context(parties.moxtw())
        user, password = parties.USER, PASSWORD
        sessions = [IMAPLoad(ours.ip, ours.ports.imap, user, password)]
        theirs = stack.enter_context(parties.dovecot())
        if theirs is not None:
            sessions.append(IMAPLoad(theirs.ip, theirs.port, "u", theirs.password))
        for session in sessions:
            stack.callback(session.close)
            session.command(b"CREATE small")

        def measure(
            what: str,
            each: Measure,
            *,
            unit: str = "ms",
            more: bool = False,
            limit: float | None = None,
            repeat: int = times,
        ) -> None:
            measures = [lambda session=session: each(session) for session in sessions]
            first, *others = alternate(measures, repeat)
            table.add(Row(what, unit, first, others[0] if others else None, more, limit))

        measure(
            "APPEND, pipelined",
            lambda session: count / session.append(b"INBOX", content),
            unit="/s",
            more=True,
            limit=2000,
            repeat=1,
        )
        measure("SELECT", _select, limit=10, repeat=times + 4)
        for what, command, limit in (
            ("FETCH 1:* (UID FLAGS)", FLAGS, 30),
            ("FETCH 1:* for a list, with ENVELOPE BODYSTRUCTURE", LIST, 250),
            (f"FETCH 1:{some} (BODY.PEEK[])", b"FETCH 1:%d (BODY.PEEK[])" % some, None),
            ("SEARCH TEXT, found in 1 of 100", b"SEARCH TEXT needle", 60),
            ("SEARCH TEXT, not found", b"SEARCH TEXT haystack", 60),
            ("SEARCH SUBJECT, found in one", b'SEARCH SUBJECT "meeting 777,"', None),
            ("SEARCH UNSEEN SINCE", b"SEARCH UNSEEN SINCE 1-Jan-2024", None),
        ):
            measure(what, _command(command), limit=limit, repeat=times + 2)
        measure(r"STORE 1:* +FLAGS (\Flagged), and back", _flags)
        measure(f"COPY of {some:,}", lambda session: _copy(session, some, fresh))
        measure(f"MOVE of {some:,}", lambda session: _move(session, some, fresh))
        measure(
            f"STORE and EXPUNGE of {some:,}", lambda session: _expunge(session, some, fresh)
        )
    return table


class Names:
    """Names of mailboxes that are not there yet."""

    def __init__(self) -> None:
        self._last = 0

    def next(self) -> bytes:
        """One more."""
        self._last += 1
        return b"box%d" % self._last


def _command(text: bytes) -> Measure:
    def measure(session: IMAPLoad) -> float:
        return session.command(text).seconds * 1000

    return measure


def _select(session: IMAPLoad) -> float:
    session.command(b"SELECT small")
    return session.command(b"SELECT INBOX").seconds * 1000


def _flags(session: IMAPLoad) -> float:
    there = session.command(rb"STORE 1:* +FLAGS (\Flagged)").seconds
    back = session.command(rb"STORE 1:* -FLAGS (\Flagged)").seconds
    return (there + back) / 2 * 1000


def _copy(session: IMAPLoad, some: int, names: Names) -> float:
    name = names.next()
    session.command(b"CREATE " + name)
    return session.command(b"COPY 1:%d %s" % (some, name)).seconds * 1000


def _move(session: IMAPLoad, some: int, names: Names) -> float:
    source, target = names.next(), names.next()
    session.command(b"CREATE " + source)
    session.command(b"CREATE " + target)
    session.command(b"COPY 1:%d %s" % (some, source))
    session.command(b"SELECT " + source)
    seconds = session.command(b"MOVE 1:* " + target).seconds
    session.command(b"SELECT INBOX")
    return seconds * 1000


def _expunge(session: IMAPLoad, some: int, names: Names) -> float:
    source = names.next()
    session.command(b"CREATE " + source)
    session.command(b"COPY 1:%d %s" % (some, source))
    session.command(b"SELECT " + source)
    seconds = session.command(rb"STORE 1:* +FLAGS.SILENT (\Deleted)").seconds
    seconds += session.command(b"EXPUNGE").seconds
    session.command(b"SELECT INBOX")
    return seconds * 1000
