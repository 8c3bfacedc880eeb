"""Many sessions with random commands on one mailbox, each holding the server to its own view.

The server works in memory, on a store whose commits, reads and results happen in an order that
a seed chooses, so that commands of sessions interleave in every way, and each failure can be
had again: it names its seed, for MOXTW_STRESS_SEED. Longer by ``bin/test --fuzz``.
"""

from __future__ import annotations

import os
import random
import sys
import time
from collections.abc import Callable
from typing import Any

from moxtw.store import mailboxes, verify
from moxtw.store import messages as store_messages
from tests.support.imapmodel import Known, Model
from tests.support.slowstore import SlowStore, make_slow_store
from tests.support.store import now
from tests.unit.imap.support import ADDRESS, PASSWORD, Client, IMAPTestCase

FLAGS = (
    rb"\Seen", rb"\Answered", rb"\Flagged", rb"\Deleted", rb"\Draft", b"$Junk", b"red", b"blue",
)  # fmt: skip
BITS = {rb"\seen": 1, rb"\answered": 2, rb"\flagged": 4, rb"\deleted": 64, rb"\draft": 128,
        b"$junk": 16}  # fmt: skip
# What sessions enable; several of each kind take part.
KINDS = ("", "IMAP4rev2", "CONDSTORE", "QRESYNC", "QRESYNC IMAP4rev2", "UIDONLY", "QRESYNC UIDONLY")
SYNC = 60
"""So many commands lie between two moments at which all views are looked at."""


def seconds() -> float:
    """The time of the test."""
    minutes = os.environ.get("MOXTW_FUZZ_MINUTES")
    return float(minutes) * 60 / 10 if minutes else 4.0


class Session:
    """A client that does random things."""

    def __init__(self, case: StressTests, number: int, kind: str) -> None:
        self.case = case
        self.rng = case.rng
        self.kind = kind
        self.number = number
        self.connect()

    def connect(self) -> None:
        self.client: Client = self.case.connect(f"192.0.2.{self.number + 1}")
        self.client.output()
        self.model = Model(self.client.send, f"s{self.number}")
        self.run(b'LOGIN %b "%b"' % (ADDRESS.encode(), PASSWORD.encode()))
        self.silent: Callable[[], None] | None = None
        if self.kind:
            self.run(b"ENABLE " + self.kind.encode())
            self.model.qresync = "QRESYNC" in self.kind
            self.model.condstore = self.model.qresync or "CONDSTORE" in self.kind
            self.model.uidonly = "UIDONLY" in self.kind
            self.model.reader.utf8 = "rev2" in self.kind

    def pump(self) -> None:
        self.model.receive(self.client.output())
        if self.client.closed:
            self.model.fail("connection closed")

    def run(self, command: bytes, **more: Any) -> None:
        """A command, to its end; others go on meanwhile."""
        self.model.send(command, **more)
        while self.model.busy:
            self.case.step()
            self.pump()
        assert self.model.last is not None
        if self.model.last.name != "OK":
            self.model.fail(f"refused: {command!r}")

    def select(self, resync: bool = False) -> None:
        """Select the mailbox; with `resync` by what is known of it, and look whether it fits."""
        model = self.model
        old = model.box
        if not resync or old is None or not old.modseq:
            word, readonly = (b"EXAMINE", True) if self.rng.random() < 0.1 else (b"SELECT", False)
            self.run(word + b" " + self.case.box, box="box", readonly=readonly)
            return
        known = {message.uid: message.flags for message in old.messages if message.uid}
        more = b""
        if known and self.rng.random() < 0.5:
            more = b" 1:%d" % max(known)
        if known and not model.uidonly and self.rng.random() < 0.5:
            some = sorted(self.rng.sample(range(1, len(old.messages) + 1), min(3, len(known))))
            pairs = [(n, old.messages[n - 1].uid) for n in some if old.messages[n - 1].uid]
            if pairs:
                more = more or b" 1:%d" % max(known)
                more += b" (%b %b)" % (
                    b",".join(b"%d" % n for n, _ in pairs),
                    b",".join(b"%d" % uid for _, uid in pairs),
                )
        if self.rng.random() < 0.5:
            self.run(b"UNSELECT")
        elif self.rng.random() < 0.3:
            self.client.transport.loseConnection()
            self.connect()
        model = self.model
        self.run(
            b"SELECT %b (QRESYNC (%d %d%b))" % (self.case.box, old.uidvalidity, old.modseq, more),
            box="box",
        )
        box = model.box
        assert box is not None
        said = {message.uid: message.flags for message in box.messages if message.uid}
        now_known = {uid: flags for uid, flags in known.items() if uid not in model.gone_earlier}
        for uid, flags in said.items():
            # With a set of UIDs, only those in it are told of.
            if flags is not None:
                now_known[uid] = flags
        self.run(b"UID FETCH 1:* (FLAGS)" if box.messages else b"NOOP")
        fresh = {message.uid: message.flags for message in model.box.messages}  # type: ignore[union-attr]
        for uid, flags in now_known.items():
            if uid not in fresh:
                model.fail(f"QRESYNC left UID {uid}, which is not there")
            if flags is not None and flags != fresh[uid]:
                model.fail(f"QRESYNC left UID {uid} with {flags}, which has {fresh[uid]}")

    # -- Random commands --------------------------------------------------------------------

    def numbers(self, uid: bool) -> tuple[bytes, list[Known]]:
        """A set of messages in view, and what it names; empty if there is none."""
        box = self.model.box
        assert box is not None
        places = [n for n, message in enumerate(box.messages) if message.uid or not uid]
        if not places:
            return b"", []
        count = min(len(places), self.rng.choice((1, 1, 2, 5, 30)))
        chosen = sorted(self.rng.sample(places, count))
        if self.rng.random() < 0.1:
            chosen = places
            if len(places) == len(box.messages):
                return b"1:*", [box.messages[n] for n in places]
        named = [box.messages[n] for n in chosen]
        values = [message.uid if uid else n + 1 for n, message in zip(chosen, named, strict=True)]
        self.rng.shuffle(values)
        return b",".join(b"%d" % value for value in values), named

    def act(self) -> None:
        """Begin something at random."""
        model, rng = self.model, self.rng
        if model.idling:
            if rng.random() < 0.3:
                model.done()
            return
        if model.box is None or not model.box.ready:
            self.begin_select()
            return
        uid = model.uidonly or rng.random() < 0.5
        prefix = b"UID " if uid else b""
        which, named = self.numbers(uid)
        roll = rng.random()
        if roll < 0.12:
            model.send(rng.choice((b"NOOP", b"CHECK", b"NOOP")))
        elif roll < 0.17:
            model.send(b"IDLE")
        elif roll < 0.30:
            flags = b" ".join(rng.sample(FLAGS, rng.randint(0, 2)))
            text = b"Subject: %d\r\n\r\nbody %d\r\n" % (rng.randrange(100), rng.randrange(10**9))
            where = rng.choice((self.case.box, self.case.box, self.case.other))
            model.send(b"APPEND %b (%b) {%d+}\r\n%b" % (where, flags, len(text), text))
        elif roll < 0.34:
            keys = (b"ALL", b"SEEN", b"KEYWORD red", b"NOT DELETED", b"SUBJECT 7", b"BODY 1")
            how = (b"", b"RETURN (MIN MAX COUNT) ", b"RETURN (SAVE) ", b"RETURN (UPDATE) ")
            command = rng.choice((b"SEARCH ", b"SORT ", b"THREAD REFS UTF-8 "))
            if command != b"THREAD REFS UTF-8 ":
                command += rng.choice(how)
            if command.startswith(b"SORT"):
                command += b"(SUBJECT REVERSE ARRIVAL) UTF-8 "
            model.send(prefix + command + rng.choice(keys))
        elif roll < 0.36:
            self.begin_select()
        elif not which:
            model.send(b"NOOP")
        elif roll < 0.52:
            self.fetch(prefix, which, uid)
        elif roll < 0.76:
            self.store(prefix, which, named)
        elif roll < 0.82:
            if model.box.readonly:
                model.send(b"UNSELECT")
            elif uid:
                model.send(b"UID EXPUNGE " + which)
            else:
                model.send(b"EXPUNGE")
        elif roll < 0.84 and not model.box.readonly and named[0].uid in (*model.box.uids[-1:], 0):
            text = b"Subject: 7\r\n\r\nreplaced %d\r\n" % rng.randrange(10**9)
            where = self.case.box if rng.random() < 0.7 else self.case.other
            model.send(prefix + b"REPLACE * %b {%d+}\r\n%b" % (where, len(text), text))
        elif roll < 0.87:
            model.send(prefix + b"COPY " + which + b" " + self.case.other)
        elif roll < 0.92 and not model.box.readonly:
            where = self.case.box if rng.random() < 0.3 else self.case.other
            model.send(prefix + b"MOVE " + which + b" " + where)
        else:
            model.send(b"NOOP")

    def begin_select(self) -> None:
        word, readonly = (b"EXAMINE", True) if self.rng.random() < 0.1 else (b"SELECT", False)
        more = b""
        if self.kind == "" and self.rng.random() < 0.05:
            more = b" (CONDSTORE)"
            self.model.condstore = True
        self.model.send(word + b" " + self.case.box + more, box="box", readonly=readonly)

    def fetch(self, prefix: bytes, which: bytes, uid: bool) -> None:
        model, rng = self.model, self.rng
        items = [b"(FLAGS)", b"(UID FLAGS INTERNALDATE)", b"(UID BODY.PEEK[])", b"(BODY[TEXT])"]
        items += [b"(ENVELOPE RFC822.SIZE)", b"(FLAGS BODYSTRUCTURE)"]
        more = b""
        if model.condstore:
            items.append(b"(FLAGS MODSEQ)")
            if rng.random() < 0.3:
                since = max(1, model.box.modseq - rng.randint(0, 20))  # type: ignore[union-attr]
                vanished = b" VANISHED" if uid and model.qresync and rng.random() < 0.5 else b""
                more = b" (CHANGEDSINCE %d%b)" % (since, vanished)
        model.send(prefix + b"FETCH " + which + b" " + rng.choice(items) + more)

    def store(self, prefix: bytes, which: bytes, named: list[Known]) -> None:
        model, rng = self.model, self.rng
        if model.box is None or model.box.readonly:
            model.send(b"NOOP")
            return
        op = rng.choice((b"+", b"+", b"-", b""))
        flags = rng.sample(FLAGS, rng.randint(1, 3))
        silent = rng.random() < 0.4
        more = b""
        if model.condstore and rng.random() < 0.3:
            more = b"(UNCHANGEDSINCE %d) " % max(1, model.box.modseq - rng.randint(0, 5))
        tag = model.send(
            prefix + b"STORE " + which + b" " + more + op + b"FLAGS"
            + (b".SILENT" if silent else b"") + b" (" + b" ".join(flags) + b")"
        )
        if not silent:
            return
        lower = frozenset(flag.lower() for flag in flags)
        before = [(message, message.flags) for message in named]

        def after() -> None:
            """A client knows what it has done itself, if nothing else is told."""
            last = model.last
            if last is None or last.tag != tag or last.name != "OK":
                return
            failed = set(last.code[1]) if last.code[:1] == ("MODIFIED",) else set()
            told = set()
            for answer in model.answers:
                if answer.name in ("FETCH", "UIDFETCH") and "FLAGS" in answer.data:
                    told.add(answer.data.get("UID", answer.number))
            box = model.box
            for message, old in before:
                place = message.uid
                if not prefix and box is not None and message in box.messages:
                    place = box.messages.index(message) + 1
                if place in failed or old is None or message.uid in told or message.flags != old:
                    continue
                if op == b"+":
                    message.flags = old | lower
                elif op == b"-":
                    message.flags = old - lower
                else:
                    message.flags = lower

        self.silent = after

    def tick(self) -> None:
        """After things happened: what came, and what follows of it."""
        self.pump()
        if self.silent is not None and not self.model.busy:
            self.silent()
            self.silent = None


class StressTests(IMAPTestCase):
    box = b""
    other = b""

    def make_store(self) -> SlowStore:
        return make_slow_store(self, self.clock)

    def setUp(self) -> None:
        super().setUp()
        self.rng = random.Random(0)
        self.sessions: list[Session] = []

    def step(self) -> None:
        """Let one thing happen somewhere."""
        if not self.store.step(self.rng):
            self.clock.advance(0.01)
        for session in self.sessions:
            session.tick()

    def content(self) -> dict[int, tuple[frozenset[bytes], int]]:
        """What is in the mailbox: UID -> flags, modseq."""

        def job(tx: Any) -> dict[int, tuple[frozenset[bytes], int]]:
            box = mailboxes.find(tx, self.account.id, self.box.decode())
            assert box is not None
            rows = store_messages.flags(tx, box.id, [(1, 0xFFFFFFFF)])
            return {
                row.uid: (
                    frozenset(name for name, bit in BITS.items() if row.flags & bit)
                    | frozenset(word.encode() for word in row.keywords.split()),
                    row.modseq,
                )
                for row in rows
            }

        self.store.slow = False
        try:
            return now(self.store.read(job))
        finally:
            self.store.slow = True

    def compare(self, session: Session, truth: dict[int, tuple[frozenset[bytes], int]]) -> None:
        model, box = session.model, session.model.box
        if box is None:
            return
        uids = sorted(truth)
        if len(uids) != len(box.messages):
            model.fail(f"view has {len(box.messages)} messages, {box.uids}, mailbox {uids}")
        places = list(zip(uids, box.messages, strict=True))
        if model.uidonly:
            # Without sequence numbers, it is not known where those without a UID stand.
            places = [(message.uid, message) for message in box.messages if message.uid]
        for uid, message in places:
            if uid not in truth or message.uid not in (0, uid):
                model.fail(f"view has {box.uids}, mailbox {uids}")
            flags, modseq = truth[uid]
            if message.uid and message.flags is not None and message.flags != flags:
                model.fail(f"UID {uid} has {set(flags)}, the view {set(message.flags)}")
            if message.modseq > modseq:
                model.fail(f"UID {uid} has modseq {modseq}, the view {message.modseq}")

    def quiet(self) -> None:
        """Let all commands end, and have nobody in IDLE."""
        while True:
            for session in self.sessions:
                if session.model.idling:
                    session.model.done()
            self.step()
            if not self.store.busy and not any(s.model.busy for s in self.sessions):
                break

    def synchronise(self) -> None:
        """All views must be what is in the mailbox, whichever way a client gets there."""
        self.quiet()
        for session in self.sessions:
            if session.model.box is not None:
                session.run(b"NOOP")
        self.quiet()
        truth = self.content()
        for session in self.sessions:
            self.compare(session, truth)
        for session in self.sessions:
            if session.model.box is None or not truth:
                continue
            session.run(b"UID FETCH 1:* (FLAGS)")
            self.compare(session, truth)
            if any(not message.uid for message in session.model.box.messages):
                session.model.fail("UIDs are missing after UID FETCH 1:*")
            session.run(b"UID SEARCH ALL")

    def resynchronise(self) -> None:
        """Sessions that know QRESYNC come back by it to what has changed meanwhile."""
        back = [s for s in self.sessions if s.model.qresync and s.model.box is not None]
        others = [s for s in self.sessions if s not in back]
        for _ in range(self.rng.randrange(20)):
            session = self.rng.choice(others)
            if not session.model.busy:
                session.act()
            self.step()
        self.quiet()
        for session in back:
            session.select(resync=True)
        self.quiet()
        truth = self.content()
        for session in back:
            self.compare(session, truth)

    def play(self, seed: int, commands: int) -> None:
        """One game."""
        self.rng = rng = random.Random(seed)
        self.box, self.other = b"box%d" % seed, b"other%d" % seed
        self.mailbox(self.box.decode())
        self.mailbox(self.other.decode())
        self.store.slow = True
        self.sessions = []
        # At least one that changes things while those with QRESYNC are away.
        kinds = [rng.choice(KINDS[:3]), *(rng.choice(KINDS) for _ in range(rng.randint(2, 6)))]
        for number, kind in enumerate(kinds):
            self.sessions.append(Session(self, number, kind))
        for count in range(commands):
            session = rng.choice(self.sessions)
            if not session.model.busy or session.model.idling:
                session.act()
            for _ in range(rng.choice((0, 1, 1, 2, 5))):
                self.step()
            if count % SYNC == SYNC - 1:
                self.synchronise()
                self.resynchronise()
        self.quiet()
        for session in self.sessions:
            session.run(b"NOOP")
        ended, self.sessions = self.sessions, []
        for session in ended:
            session.client.transport.loseConnection()
        self.store.settle(rng)
        self.store.slow = False
        self.assertEqual(self.successResultOf(verify.verify_account(self.store, "me")), [])
        self.assertEqual(self.flushLoggedErrors(), [])

    def test_views_stay_right(self) -> None:
        first = os.environ.get("MOXTW_STRESS_SEED")
        seed = int(first) if first else random.SystemRandom().randrange(1 << 32)
        end = time.monotonic() + seconds()
        games = 0
        while not games or (time.monotonic() < end and not first):
            try:
                self.play(seed + games, 240)
            except AssertionError as exc:
                raise AssertionError(f"seed {seed + games}: {exc}") from exc
            games += 1
        if "MOXTW_FUZZ_MINUTES" in os.environ:
            sys.stderr.write(f"{self.id()}: {games} games, seed {seed}\n")
