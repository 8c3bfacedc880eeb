"""Times of IMAP commands on a large mailbox, beside Dovecot."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, suppress
from pathlib import Path

from tests.bench import parties
from tests.bench.report import Row, Table, alternate, show
from tests.support.imapload import IMAPError, IMAPLoad, messages
from tests.support.peers import Dovecot, processes
from tests.support.server import PASSWORD, MailServer

SIZE = 4096
MESSAGES = 100_000
RARE = b"Xylophonist"

LIST = b"FETCH %s (UID FLAGS INTERNALDATE RFC822.SIZE ENVELOPE BODYSTRUCTURE)"

Measure = Callable[[IMAPLoad], float]


def run(times: int, quick: bool, count: int = 0) -> Table:
    """Measure, on so many messages."""
    count = count or (MESSAGES // 20 if quick else MESSAGES)
    table = Table(
        "imap",
        f"IMAP: a mailbox of {count:,} messages of 4 KiB",
        "Dovecot",
        "Read by a client that only looks for the end of the answer. Dovecot: sdbox, "
        "`mail_fsync = optimized`. Latency: in another session with another mailbox, NOOP (the "
        "slowest of each hundred) and APPEND (the slowest).",
    )
    with ExitStack() as stack:
        ours = stack.enter_context(parties.moxtw(start=False))
        ours.fill(_contents(count))
        ours.start()
        show(f"{count:,} messages stored")
        theirs = stack.enter_context(parties.dovecot())
        if theirs is not None:
            with _their_session(theirs) as session:
                session.multiappend(b"INBOX", _contents(count))
            show("and by Dovecot")
            theirs.stop(keep=True)
            theirs.start()
        _Bench(table, count, times, ours, theirs, stack).run()
    return table


def _contents(count: int) -> Iterator[bytes]:
    for number, data in enumerate(messages(count, SIZE)):
        if number == count // 2:
            data = data.replace(b"Dear all", b"Dear " + RARE, 1)
        yield data


def _our_session(server: MailServer) -> IMAPLoad:
    return IMAPLoad(server.ip, server.ports.imap, parties.USER, PASSWORD)


def _their_session(server: Dovecot) -> IMAPLoad:
    return IMAPLoad(server.ip, server.port, "u", server.password)


class _Bench:
    """The rows of the table."""

    def __init__(
        self,
        table: Table,
        count: int,
        times: int,
        ours: MailServer,
        theirs: Dovecot | None,
        stack: ExitStack,
    ) -> None:
        self.table = table
        self.count = count
        self.some = count // 10
        self.times = times
        self.openers: list[Callable[[], IMAPLoad]] = [lambda: _our_session(ours)]
        if theirs is not None:
            self.openers.append(lambda: _their_session(theirs))
        self.ours = ours
        self.theirs = theirs
        self._stack = stack
        self._names = 0
        self.sessions = [self.open(number) for number in range(len(self.openers))]
        # Limits are those for the full size.
        self.scale = count / MESSAGES

    def open(self, number: int) -> IMAPLoad:
        """One more session with a party; it ends with the benchmark."""
        session = self.openers[number]()
        self._stack.callback(session.close)
        return session

    def name(self) -> bytes:
        """The name of a mailbox that is not there yet."""
        self._names += 1
        return b"box%d" % self._names

    def measure(
        self,
        what: str,
        each: Measure,
        *,
        unit: str = "ms",
        more: bool = False,
        limit: float | None = None,
        repeat: int = 0,
        needs: bytes = b"",
        times: float | None = None,
    ) -> None:
        """Add a row; `needs` is the capability without which a party does not have it."""
        having = [
            session
            for session in self.sessions
            if not needs or needs in session.command(b"CAPABILITY", keep=True).data.split()
        ]
        found = dict(
            zip(
                map(id, having),
                alternate(
                    [lambda session=session: each(session) for session in having],
                    repeat or self.times,
                ),
                strict=True,
            )
        )
        ours, theirs = (
            found.get(id(session)) for session in (self.sessions[0], self.sessions[-1])
        )
        if len(self.sessions) == 1:
            theirs = None
        self.table.add(Row(what, unit, ours, theirs, more, limit, times))

    def run(self) -> None:
        """All rows."""
        times, some = self.times, self.some
        self.measure("SELECT, the first after a start", _select, limit=1000, repeat=1)
        self.memory()
        for session in self.sessions:
            session.command(b"CREATE small")
            session.command(b"CREATE new")
        self.measure("SELECT", _select, limit=50, repeat=times + 4)
        self.measure(
            "UID FETCH of one message (FLAGS ENVELOPE BODY.PEEK[])", self.one, limit=3, repeat=times
        )
        for what, command, limit in (
            ("FETCH 1:* (FLAGS)", b"FETCH 1:* (FLAGS)", 300),
            (f"FETCH 1:{some} for a list, with ENVELOPE BODYSTRUCTURE", LIST % b"1:%d" % some, 250),
            ("FETCH 1:1000 (BODY.PEEK[])", b"FETCH 1:1000 (BODY.PEEK[])", None),
            ("SEARCH UNSEEN SINCE", b"SEARCH UNSEEN SINCE 1-Jan-2024", None),
        ):
            self.measure(what, _command(command), limit=limit)
        for indexed in (False, True):
            if indexed:
                self.index()
            for what, command in (
                ("SEARCH TEXT, found in one", b"SEARCH TEXT " + RARE.lower()),
                ("SEARCH TEXT, found in 1 of 100", b"SEARCH TEXT needle"),
                ("SEARCH TEXT, not found", b"SEARCH TEXT haystack"),
                ("SEARCH SUBJECT, found in one", b'SEARCH SUBJECT "meeting 777,"'),
            ):
                self.measure(
                    what + (", indexed" if indexed else ", not indexed yet"),
                    _command(command),
                    limit=100 if indexed else 1000,
                )
        for what, command, needs, limit in (
            ("SORT (ARRIVAL)", b"SORT (ARRIVAL) UTF-8 ALL", b"SORT", 500),
            ("SORT (DATE)", b"SORT (DATE) UTF-8 ALL", b"SORT", 500),
            ("SORT (SUBJECT)", b"SORT (SUBJECT) UTF-8 ALL", b"SORT", None),
            ("SORT (DISPLAYFROM)", b"SORT (DISPLAYFROM) UTF-8 ALL", b"SORT=DISPLAY", None),
            (
                "THREAD REFERENCES",
                b"THREAD REFERENCES UTF-8 ALL",
                b"THREAD=REFERENCES",
                1000,
            ),
            ("THREAD REFS", b"THREAD REFS UTF-8 ALL", b"THREAD=REFS", 1000),
        ):
            self.measure(what, _command(command), limit=limit, needs=needs)
        self.measure(r"STORE 1:* +FLAGS (\Flagged), and back", _flags, limit=2000)
        self.measure("from a delivery to the notice in IDLE", self.idle, limit=20, repeat=9)
        self.measure(
            "APPEND, pipelined",
            lambda session: some / session.append(b"new", messages(some, SIZE, self.count)),
            unit="/s",
            more=True,
            limit=2000,
            repeat=1,
        )
        self.measure(f"COPY of {some:,}", self.copy)
        self.measure(f"MOVE of {some:,}", self.move)
        self.measure(f"STORE and EXPUNGE of {some:,}", self.expunge)
        for what, command in (
            ("FETCH 1:* (FLAGS)", b"FETCH 1:* (FLAGS)"),
            ("STORE 1:*", rb"STORE 1:* +FLAGS (\Answered)"),
            (f"COPY of {some:,}", b"COPY 1:%d %%s" % some),
            (f"MOVE of {some:,}", b"MOVE 1:%d %%s" % some),
            (f"EXPUNGE of {some:,}", b"EXPUNGE"),
            ("RENAME of Inbox", b"RENAME INBOX %s"),
        ):
            for name, probe in (("NOOP", _noop), ("APPEND", _append)):
                if (what[:6], name) not in (("FETCH ", "APPEND"), ("RENAME", "NOOP")):
                    self.measure(
                        f"latency of {name} during {what}",
                        lambda session, c=command, p=probe: self.latency(session, c, p),
                        limit=50,
                        repeat=1,
                    )

    def index(self) -> None:
        """Wait until the texts are indexed, and add a row about that."""
        begun = time.perf_counter()
        path = self.ours.data_dir / "moxtw.db"
        while True:
            with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
                [[done]] = database.execute(
                    "SELECT value FROM meta WHERE key = 'text_index_contents'"
                )
                [[last]] = database.execute("SELECT max(content_id) FROM content_text")
            if int(done) >= last:
                break
            time.sleep(1)
        took = time.perf_counter() - begun
        self.table.add(Row("until the texts are indexed", "s", took, None, more=False, limit=None))

    def one(self, session: IMAPLoad) -> float:
        """Milliseconds for a message by UID: the median of some."""
        step = max(1, self.count // 50)
        found = [
            session.command(b"UID FETCH %d (FLAGS ENVELOPE BODY.PEEK[])" % uid).seconds
            for uid in range(1, self.count, step)
        ]
        return sorted(found)[len(found) // 2] * 1000

    def idle(self, session: IMAPLoad) -> float:
        """Milliseconds from the end of a message's bytes to EXISTS in a session in IDLE."""
        number = self.sessions.index(session)
        with self.openers[number]() as watcher, self.openers[number]() as writer:
            watcher.command(b"SELECT INBOX")
            watcher.idle()
            begun = time.perf_counter()
            thread = threading.Thread(target=writer.append, args=(b"INBOX", messages(1, SIZE)))
            thread.start()
            watcher.read_until(b" EXISTS")
            took = time.perf_counter() - begun
            thread.join()
        return took * 1000

    def copy(self, session: IMAPLoad) -> float:
        """Milliseconds."""
        name = self.name()
        session.command(b"CREATE " + name)
        return session.command(b"COPY 1:%d %s" % (self.some, name)).seconds * 1000

    def move(self, session: IMAPLoad) -> float:
        """Milliseconds."""
        target = self.name()
        session.command(b"CREATE " + target)
        self._copies(session)
        seconds = session.command(b"MOVE 1:* " + target).seconds
        session.command(b"SELECT INBOX")
        return seconds * 1000

    def expunge(self, session: IMAPLoad) -> float:
        """Milliseconds."""
        self._copies(session)
        seconds = session.command(rb"STORE 1:* +FLAGS.SILENT (\Deleted)").seconds
        seconds += session.command(b"EXPUNGE").seconds
        session.command(b"SELECT INBOX")
        return seconds * 1000

    def _copies(self, session: IMAPLoad) -> None:
        source = self.name()
        session.command(b"CREATE " + source)
        session.command(b"COPY 1:%d %s" % (self.some, source))
        session.command(b"SELECT " + source)

    def latency(self, session: IMAPLoad, command: bytes, probe: Measure) -> float:
        """Milliseconds of a probe in another session while a command runs."""
        number = self.sessions.index(session)
        if command.startswith((b"COPY", b"MOVE")):
            name = self.name()
            session.command(b"CREATE " + name)
            command %= name
        elif command.startswith(b"RENAME"):
            command %= self.name()
        elif command == b"EXPUNGE":
            self._copies(session)
            session.command(rb"STORE 1:* +FLAGS.SILENT (\Deleted)")
        done = threading.Event()

        def work() -> None:
            try:
                session.command(command)
            finally:
                done.set()

        found: list[float] = []
        with self.openers[number]() as other:
            other.command(b"SELECT small")
            thread = threading.Thread(target=work)
            thread.start()
            while not done.is_set():
                found.append(probe(other))
            thread.join()
        session.command(b"SELECT INBOX")
        found.sort()
        return found[-1 if probe is _append else len(found) * 99 // 100]

    def memory(self) -> None:
        """A row: what a session costs while the mailbox is selected."""
        rows: list[float | None] = [None, None]
        for number in range(len(self.sessions)):
            before = self._resident(number)
            made = [self.openers[number]() for _ in range(5)]
            for session in made:
                session.command(b"SELECT INBOX")
                session.command(b"FETCH 1:* (FLAGS)")
            rows[number] = (self._resident(number) - before) / len(made) / 1e6
            for session in made:
                session.close()
        self.table.add(
            Row("memory of a session", "MB", rows[0], rows[1], more=False, limit=5)
        )

    def _resident(self, number: int) -> float:
        if number == 0:
            return self.ours.memory()
        assert self.theirs is not None
        return sum(_proportional(pid) for pid in processes(self.theirs.pid))


def _proportional(pid: int) -> int:
    with suppress(FileNotFoundError, ProcessLookupError):
        rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
        return int(rollup.partition("\nPss:")[2].split()[0]) * 1024
    return 0


def _command(text: bytes) -> Measure:
    def measure(session: IMAPLoad) -> float:
        return session.command(text).seconds * 1000

    return measure


_noop = _command(b"NOOP")


def _append(session: IMAPLoad) -> float:
    return session.append(b"small", messages(1, 500)) * 1000


def _select(session: IMAPLoad) -> float:
    with suppress(IMAPError):
        session.command(b"SELECT small")
    return session.command(b"SELECT INBOX").seconds * 1000


def _flags(session: IMAPLoad) -> float:
    there = session.command(rb"STORE 1:* +FLAGS (\Flagged)").seconds
    back = session.command(rb"STORE 1:* -FLAGS (\Flagged)").seconds
    return (there + back) / 2 * 1000

