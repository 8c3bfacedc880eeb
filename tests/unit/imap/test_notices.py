"""What a session is told of changes by others: NOOP, IDLE, QRESYNC, many sessions."""

from __future__ import annotations

import random
import re

from twisted.internet.defer import Deferred

from moxtw.imap import notices
from moxtw.store import changing, mailboxes, messages, verify
from tests.support.store import job, now
from tests.unit.imap.support import MAIL, Client, IMAPTestCase


class NoticeTests(IMAPTestCase):
    def test_noop(self) -> None:
        self.deliver(count=3)
        one, two = self.selected(), self.selected()
        one.ok("STORE 1 +FLAGS (\\Seen)")
        one.ok("STORE 2 +FLAGS.SILENT (\\Deleted)")
        one.ok("EXPUNGE")
        self.deliver(flags=4)
        self.assertEqual(
            two.ok("NOOP"),
            [
                "* 4 EXISTS",
                "* 4 FETCH (UID 4 FLAGS (\\Flagged))",
                "* 2 EXPUNGE",
                "* 1 FETCH (UID 1 FLAGS (\\Seen))",
            ],
        )
        self.assertEqual(two.ok("NOOP"), [])
        self.assertEqual(one.ok("NOOP"), ["* 3 EXISTS", "* 3 FETCH (UID 4 FLAGS (\\Flagged))"])

    def test_many_flags_are_told_in_pieces(self) -> None:
        self.patch(notices, "_PIECE", 2)
        self.deliver(count=5)
        one, two = self.selected(), self.selected()
        one.ok("STORE 1:* +FLAGS.SILENT (\\Seen)")
        two.send(b"t NOOP\r\n")
        first = two.lines()
        expected = [f"* {n} FETCH (UID {n} FLAGS (\\Seen))" for n in range(1, 6)]
        self.assertLess(len(first), 5)
        for _ in range(3):
            self.clock.advance(0)
        rest = two.lines()
        self.assertEqual(first + rest[:-1], expected)
        self.assertTrue(rest[-1].startswith("t OK "), rest)

    def test_sequence_commands_tell_nothing(self) -> None:
        self.deliver(count=2)
        one, two = self.selected(), self.selected()
        one.ok("STORE 1 +FLAGS.SILENT (\\Deleted)")
        one.ok("EXPUNGE")
        self.assertEqual(two.ok("FETCH 2 UID"), ["* 2 FETCH (UID 2)"])
        self.assertEqual(two.ok("SEARCH ALL"), ["* SEARCH 2"])
        self.assertEqual(
            two.ok("STORE 2 +FLAGS (\\Seen)"), ["* 2 FETCH (UID 2 FLAGS (\\Seen))"]
        )
        self.assertEqual(two.ok("UID FETCH 2 UID"), ["* 2 FETCH (UID 2)", "* 1 EXPUNGE"])

    def test_store_of_expunged_message(self) -> None:
        self.deliver(count=2)
        one, two = self.selected(), self.selected()
        one.ok("STORE 1 +FLAGS.SILENT (\\Deleted)")
        one.ok("EXPUNGE")
        lines = two.command("STORE 1:2 +FLAGS (\\Seen)")
        self.assertEqual(lines[0], "* 2 FETCH (UID 2 FLAGS (\\Seen))")
        self.assertTrue(lines[1].startswith("t OK [EXPUNGEISSUED]"))
        self.assertTrue(two.command("COPY 1 Trash")[-1].startswith("t NO no messages match"))

    def test_keywords(self) -> None:
        self.deliver()
        one, two = self.selected(), self.selected()
        one.ok("STORE 1 +FLAGS (zoo)")
        lines = two.ok("NOOP")
        self.assertTrue(lines[0].startswith("* FLAGS (\\Seen ") and lines[0].endswith(" zoo)"))
        self.assertEqual(lines[1:], ["* 1 FETCH (UID 1 FLAGS (zoo))"])
        self.assertEqual(one.ok("NOOP"), [])

    def test_condstore_and_qresync_forms(self) -> None:
        self.deliver(count=3)
        one, two = self.selected(), self.login()
        two.ok("ENABLE QRESYNC")
        two.ok("SELECT Inbox")
        one.ok("STORE 1:2 +FLAGS.SILENT (\\Deleted)")
        one.ok("EXPUNGE")
        one.ok("STORE 1 +FLAGS.SILENT (\\Seen)")
        lines = two.ok("NOOP")
        self.assertEqual(lines[0], "* VANISHED 1:2")
        self.assertRegex(lines[1], r"^\* 1 FETCH \(UID 3 FLAGS \(\\Seen\) MODSEQ \(\d+\)\)$")

    def test_idle(self) -> None:
        client = self.selected()
        client.send(b"a IDLE\r\n")
        self.assertEqual(client.lines(), ["+ idling"])
        self.deliver()
        self.assertEqual(client.lines(), ["* 1 EXISTS", "* 1 FETCH (UID 1 FLAGS ())"])
        other = self.selected()
        other.ok("STORE 1 +FLAGS (\\Deleted)")
        self.assertEqual(client.lines(), ["* 1 FETCH (UID 1 FLAGS (\\Deleted))"])
        other.ok("EXPUNGE")
        self.assertEqual(client.lines(), ["* 1 EXPUNGE"])
        other.ok("CREATE x")
        self.assertEqual(client.lines(), ['* LIST () "/" x'])
        self.deliver(mailbox="Sent")
        self.assertEqual(client.lines(), [])
        client.send(b"done\r\nb NOOP\r\n")
        self.assertEqual(client.lines(), ["a OK IDLE done", "b OK NOOP done"])

    def test_idle_tells_what_changed_while_it_asked(self) -> None:
        client = self.selected()
        client.send(b"a IDLE\r\n")
        client.output()
        read = self.store.read
        held: list[tuple[Deferred[object], object]] = []

        def hold(fn: object) -> Deferred[object]:
            # The snapshot is taken now, and its result comes later.
            result: object = now(read(fn))  # type: ignore[arg-type]
            deferred: Deferred[object] = Deferred()
            held.append((deferred, result))
            return deferred

        self.patch(self.store, "read", hold)
        self.deliver()
        self.deliver()
        self.patch(self.store, "read", read)
        for deferred, result in held:
            deferred.callback(result)
        self.assertEqual(
            client.lines(),
            [
                "* 1 EXISTS",
                "* 1 FETCH (UID 1 FLAGS ())",
                "* 2 EXISTS",
                "* 2 FETCH (UID 2 FLAGS ())",
            ],
        )

    def test_silent_store_tells_what_others_had_changed(self) -> None:
        # RFC 9051 6.4.6: SILENT keeps quiet about the client's own change only.
        self.deliver(count=2)
        one, two = self.selected(), self.selected()
        one.ok("STORE 1 +FLAGS (\\Flagged)")
        self.assertEqual(
            two.ok("STORE 1:2 +FLAGS.SILENT (\\Seen)"),
            ["* 1 FETCH (UID 1 FLAGS (\\Seen \\Flagged))"],
        )
        self.assertEqual(two.ok("STORE 1:2 -FLAGS.SILENT (\\Seen)"), [])
        self.assertEqual(two.ok("NOOP"), [])
        one.ok("NOOP")
        two.ok("ENABLE CONDSTORE")
        one.ok("STORE 1 -FLAGS (\\Flagged)")
        lines = two.ok("STORE 1:2 +FLAGS.SILENT (\\Seen)")
        self.assertRegex(lines[0], r"^\* 1 FETCH \(UID 1 FLAGS \(\\Seen\) MODSEQ \(\d+\)\)$")
        self.assertRegex(lines[1], r"^\* 2 FETCH \(UID 2 MODSEQ \(\d+\)\)$")
        self.assertEqual(two.ok("NOOP"), [])

    def test_sessions_share_the_names_of_mailboxes(self) -> None:
        clients = [self.login() for _ in range(3)]

        def directories() -> list[object]:
            sessions = [client.protocol.session for client in clients]
            return [session.directory for session in sessions if session is not None]

        for command in ("NOOP", "CREATE x/y", "RENAME x z", "DELETE z/y"):
            clients[0].ok(command)
            clients[1].ok("NOOP")
            clients[2].ok("NOOP")
            first, second, third = directories()
            self.assertIs(first, second)
            self.assertIs(first, third)
        self.assertIn("z", first.values())  # type: ignore[attr-defined]

    def test_idle_without_mailbox(self) -> None:
        client = self.login()
        client.send(b"a IDLE\r\n")
        self.deliver()
        self.login().ok("CREATE x")
        self.assertEqual(client.lines(), ["+ idling", '* LIST () "/" x'])
        client.send(b"DO")
        client.send(b"NE\r\n")
        self.assertEqual(client.lines(), ["a OK IDLE done"])

    def test_idle_ends_with_anything_but_done(self) -> None:
        for data in (b"b NOOP\r\n", b"x" * 100):
            client = self.login()
            client.send(b"a IDLE\r\n" + data)
            self.assertEqual(client.lines()[0], "+ idling")
            self.assertTrue(client.closed)

    def test_idle_times_out(self) -> None:
        client = self.selected()
        client.send(b"a IDLE\r\n")
        client.output()
        self.clock.advance(30 * 60)
        self.assertTrue(client.closed)

    def test_removals_are_acknowledged(self) -> None:
        self.deliver(count=2)
        one, two = self.selected(), self.selected()

        def kept() -> int:
            self.clock.advance(1)
            box = self.mailbox("Inbox").id
            rows = job(self.store, messages.rows, box, messages.ALL_UIDS, 0, expunged=True)
            return len(rows)

        one.ok("STORE 1 +FLAGS.SILENT (\\Deleted)")
        one.ok("EXPUNGE")
        self.assertEqual(kept(), 2)
        two.ok("NOOP")
        self.assertEqual(kept(), 1)
        one.ok("STORE 1 +FLAGS.SILENT (\\Deleted)")
        one.ok("EXPUNGE")
        self.assertEqual(kept(), 1)
        two.transport.loseConnection()
        self.assertEqual(kept(), 0)


class ResyncTests(IMAPTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.deliver(count=6)
        self.other = self.login()
        self.other.ok("ENABLE CONDSTORE")
        self.other.ok("SELECT Inbox")
        box = self.mailbox("Inbox")
        self.validity, self.modseq = box.uidvalidity, box.modseq
        self.other.ok("STORE 2,5 +FLAGS.SILENT (\\Deleted)")
        self.other.ok("EXPUNGE")
        self.other.ok("UID STORE 4 +FLAGS.SILENT (\\Seen)")
        self.client = self.login()
        self.client.ok("ENABLE QRESYNC")

    def resync(self, parameter: str) -> list[str]:
        lines = self.client.ok(f"SELECT Inbox (QRESYNC ({parameter}))")
        last = [n for n, line in enumerate(lines) if "HIGHESTMODSEQ" in line][-1]
        return [re.sub(r"MODSEQ \(\d+\)", "MODSEQ (n)", line) for line in lines[last + 1 :]]

    def test_changes_since(self) -> None:
        changed = "* 3 FETCH (UID 4 FLAGS (\\Seen) MODSEQ (n))"
        self.assertEqual(
            self.resync(f"{self.validity} {self.modseq}"),
            ["* VANISHED (EARLIER) 2,5", changed],
        )
        self.assertEqual(
            self.resync(f"{self.validity} {self.modseq} 1:4"),
            ["* VANISHED (EARLIER) 2", changed],
        )
        self.assertEqual(self.resync(f"{self.validity} {self.modseq + 99}"), [])
        self.assertEqual(self.resync(f"{self.validity + 1} {self.modseq}"), [])

    def test_match_data(self) -> None:
        self.assertEqual(
            self.resync(f"{self.validity} {self.modseq} 1:6 (1,3 1,3)"),
            ["* VANISHED (EARLIER) 2,5", "* 3 FETCH (UID 4 FLAGS (\\Seen) MODSEQ (n))"],
        )

    def test_client_that_missed_an_expunge_is_told_again(self) -> None:
        modseq = self.mailbox("Inbox").modseq
        lines = self.resync(f"{self.validity} {modseq} 1:6 (1,2,5 1,2,5)")
        self.assertTrue(lines[0].startswith("* OK [ALERT] synchronisation trouble"))
        self.assertEqual(lines[1:], ["* VANISHED (EARLIER) 2,5"])

    def test_bad_parameters(self) -> None:
        for parameter in (
            "1", "0 1", "1 0", "1 x", "1 1 *", "1 1 1:*", "1 1 1 (1 1,2)", "1 1 1 (2,1 1,2)",
            "1 1 1 (1 *)", "1 1 (1)", "1 1 1 (1:4294967295 1:4294967295)",
        ):  # fmt: skip
            [line] = self.client.command(f"SELECT Inbox (QRESYNC ({parameter}))")
            self.assertTrue(line.startswith("t BAD"), (parameter, line))
        [line] = self.login().command(f"SELECT Inbox (QRESYNC ({self.validity} 1))")
        self.assertEqual(line, "t BAD QRESYNC must be enabled first")

    def test_fetch_vanished(self) -> None:
        self.client.ok("SELECT Inbox")
        self.assertEqual(
            [
                re.sub(r"MODSEQ \(\d+\)", "MODSEQ (n)", line)
                for line in self.client.ok(
                    f"UID FETCH 1:* (FLAGS) (CHANGEDSINCE {self.modseq} VANISHED)"
                )
            ],
            ["* VANISHED (EARLIER) 2,5", "* 3 FETCH (UID 4 FLAGS (\\Seen) MODSEQ (n))"],
        )
        [line] = self.client.command("FETCH 1 FLAGS (CHANGEDSINCE 1 VANISHED)")
        self.assertTrue(line.startswith("t BAD "))
        other = self.other.command("UID FETCH 1 FLAGS (CHANGEDSINCE 1 VANISHED)")
        self.assertTrue(other[0].startswith("t BAD VANISHED needs QRESYNC"))


SEEDS = range(10, 13)


class Watcher:
    """A client that keeps its own picture of the mailbox out of what it is told."""

    def __init__(self, test: IMAPTestCase, rng: random.Random, notify: bool) -> None:
        self.test = test
        self.rng = rng
        self.choices = 12 if notify else 10
        self.client = test.login()
        self.qresync = rng.random() < 0.5
        if self.qresync:
            self.client.ok("ENABLE QRESYNC")
        self.uids: list[int | None] = []
        self.flags: dict[int, str] = {}
        self.idling = False
        # After NOTIFY NONE and the like.
        self.silent = False
        for line in self.client.ok("SELECT Inbox"):
            self.take(line)
        self.learn(self.client.ok("FETCH 1:* (UID FLAGS)") if self.uids else [])

    def learn(self, lines: list[str]) -> None:
        for line in lines:
            self.take(line)

    def take(self, line: str) -> None:
        if match := re.fullmatch(r"\* (\d+) EXISTS", line):
            count = int(match[1])
            assert count >= len(self.uids), line
            self.uids += [None] * (count - len(self.uids))
        elif match := re.fullmatch(r"\* (\d+) EXPUNGE", line):
            assert not self.qresync
            uid = self.uids.pop(int(match[1]) - 1)
            assert uid is not None
            self.flags.pop(uid)
        elif match := re.fullmatch(r"\* VANISHED ([\d:,]+)", line):
            assert self.qresync
            for item in match[1].split(","):
                first, _, last = item.partition(":")
                for uid in range(int(first), int(last or first) + 1):
                    self.uids.remove(uid)
                    self.flags.pop(uid)
        elif match := re.match(r"\* (\d+) FETCH \(UID (\d+)(?: FLAGS \(([^)]*)\))?", line):
            number, uid = int(match[1]), int(match[2])
            known = self.uids[number - 1]
            assert known in (None, uid), (line, self.uids)
            self.uids[number - 1] = uid
            if match[3] is not None:
                self.flags[uid] = match[3]

    def act(self) -> None:
        rng = self.rng
        # After NOTIFY, changes come at any time.
        self.learn(self.client.lines())
        count = len(self.uids)
        if self.idling:
            self.learn(self.client.lines())
            self.client.send(b"DONE\r\n")
            self.idling = False
            self.learn(self.client.lines())
            return
        choice = rng.randrange(self.choices)
        flag = rng.choice(("\\Seen", "\\Flagged", "\\Deleted", "kw1", "kw2"))
        sign = rng.choice("+-")
        uid = rng.choice(self.uids) if count else 1
        if choice >= 10:
            self.notify(rng.choice((0, 0, 1, 1, 2, 3)))
        elif choice == 0 and not self.silent:
            self.client.send(b"t APPEND Inbox {%d+}\r\n%b\r\n" % (len(MAIL), MAIL))
            lines = self.client.lines()
            self.learn(lines)
            # Of its own message a client is told the UID by the tagged answer only.
            uid = int(lines[-1].split()[4].rstrip("]"))
            self.uids[self.uids.index(None)] = uid
            self.flags[uid] = ""
        elif choice == 1 and count:
            number = rng.randint(1, count)
            self.learn(self.client.ok(f"STORE {number} {sign}FLAGS ({flag})"))
        elif choice == 2 and count:
            silent = self.client.ok(f"UID STORE {uid} {sign}FLAGS.SILENT ({flag})")
            self.learn(silent)
            self.learn(self.client.ok(f"UID FETCH {uid} FLAGS"))
        elif choice == 3:
            self.learn(self.client.ok("EXPUNGE"))
        elif choice == 4 and count:
            self.learn(self.client.command(f"UID MOVE {uid} Trash"))
        elif choice == 5 and count:
            self.learn(self.client.ok(f"FETCH {rng.randint(1, count)}:* (UID FLAGS)"))
        elif choice == 6 and count:
            self.learn(self.client.ok(f"UID FETCH {uid} (FLAGS BODY[TEXT])"))
        elif choice == 7:
            self.client.send(b"t IDLE\r\n")
            self.idling = True
            self.learn(self.client.lines())
        elif choice == 8 and count:
            found = self.client.ok("SEARCH ALL")
            for number in found[0].split()[2:]:
                assert 1 <= int(number) <= count
        else:
            self.learn(self.client.ok("NOOP"))

    def notify(self, way: int) -> None:
        events = "(MessageNew MessageExpunge FlagChange)"
        text = (
            f"SET (SELECTED {events})", f"SET (SELECTED-DELAYED {events})", "NONE",
            f"SET (PERSONAL {events})",
        )[way]  # fmt: skip
        self.silent = way >= 2
        self.learn(self.client.ok("NOTIFY " + text))

    def settle(self) -> None:
        self.learn(self.client.lines())
        while self.idling:
            self.act()
        if self.silent:
            self.notify(0)
        self.learn(self.client.ok("NOOP"))


class ManySessionsTests(IMAPTestCase):
    """Random commands of several sessions on one mailbox; each must keep a true view."""

    def check(self, seed: int, steps: int, notify: bool = False) -> None:
        rng = random.Random(seed)
        self.deliver(count=4)
        watchers = [Watcher(self, rng, notify) for _ in range(4)]
        for _ in range(steps):
            rng.choice(watchers).act()
            if rng.random() < 0.1:
                self.deliver(flags=rng.choice((0, 1, 64)))
            if rng.random() < 0.05:
                self.clock.advance(1)
        box = self.mailbox("Inbox").id
        rows = {row.uid: row for row in job(self.store, messages.flags, box, messages.ALL_UIDS)}
        for watcher in watchers:
            watcher.settle()
            self.assertEqual(watcher.uids, sorted(rows))
            told = {uid: set(flags.split()) for uid, flags in watcher.flags.items()}
            for uid, row in rows.items():
                bits = {name for name, bit in (("\\Seen", 1), ("\\Flagged", 4), ("\\Deleted", 64))
                        if row.flags & bit}  # fmt: skip
                self.assertEqual(told[uid], bits | set(row.keywords.split()), (seed, uid))
        for watcher in watchers:
            watcher.client.transport.loseConnection()
        self.clock.advance(1)
        self.assertEqual(now(Deferred.fromCoroutine(verify.verify_account(self.store, "me"))), [])

    def test_views_stay_true(self) -> None:
        for seed in (1, 2, 3):
            self.check(seed, 150)
            job(self.store, _empty, self.account.id)

    def test_views_stay_true_with_notify(self) -> None:
        for seed in SEEDS:
            self.check(seed, 150, notify=True)
            job(self.store, _empty, self.account.id)


def _empty(tx: object, account_id: int) -> None:
    box = mailboxes.named(tx, account_id, "Inbox")  # type: ignore[arg-type]
    changing.expunge(tx, account_id, box.id, only_deleted=False)  # type: ignore[arg-type]


__all__ = ["Client"]
