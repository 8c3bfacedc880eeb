"""Searches with UPDATE: the client is told how their results change."""

# ruff: noqa: E501

from __future__ import annotations

import random
import re

from tests.unit.imap.support import Client, IMAPTestCase
from tests.unit.imap.test_sort import mail


class ContextTests(IMAPTestCase):
    def test_search(self) -> None:
        self.deliver(count=3)
        client, other = self.selected(), self.selected()
        self.transcript(
            client,
            r"""
            C: B01 UID SEARCH RETURN (UPDATE COUNT) UNSEEN
            S: * ESEARCH (TAG "B01") UID COUNT 3
            S: B01 OK …
            C: B02 SEARCH RETURN (UPDATE) SEEN
            S: * ESEARCH (TAG "B02")
            S: B02 OK …
            C: B01 UID SEARCH RETURN (UPDATE) DELETED
            S: B01 BAD …
            C: a STORE 2 +FLAGS.SILENT (\Seen)
            S: * ESEARCH (TAG "B01") UID REMOVEFROM (0 2)
            S: * ESEARCH (TAG "B02") ADDTO (0 2)
            S: a OK …
            C: b NOOP
            S: b OK …
            C: c UID STORE 2 -FLAGS (\Seen)
            S: * 2 FETCH (UID 2 FLAGS ())
            S: * ESEARCH (TAG "B01") UID ADDTO (0 2)
            S: * ESEARCH (TAG "B02") REMOVEFROM (0 2)
            S: c OK …
            """,
        )
        self.deliver(count=2)
        other.ok("STORE 1 +FLAGS (\\Seen \\Deleted)")
        other.ok("STORE 3 +FLAGS (\\Deleted)")
        other.ok("EXPUNGE")
        self.transcript(
            client,
            r"""
            C: d NOOP
            S: * 5 EXISTS
            S: * 4 FETCH (UID 4 FLAGS ())
            S: * 5 FETCH (UID 5 FLAGS ())
            S: * ESEARCH (TAG "B01") UID ADDTO (0 4:5)
            S: * ESEARCH (TAG "B01") UID REMOVEFROM (0 1,3)
            S: * 3 EXPUNGE
            S: * 1 EXPUNGE
            S: d OK …
            C: e CANCELUPDATE "B01"
            S: e OK …
            C: f STORE 1:* +FLAGS.SILENT (\Seen)
            S: * ESEARCH (TAG "B02") ADDTO (0 1:3)
            S: f OK …
            C: g NOOP
            S: g OK …
            C: h CANCELUPDATE "B01"
            S: h NO …
            C: i CANCELUPDATE "B02" "B01"
            S: i NO …
            C: j CANCELUPDATE B02
            S: j BAD …
            C: k CANCELUPDATE "B02"
            S: k OK …
            C: l STORE 1:* -FLAGS.SILENT (\Seen)
            S: l OK …
            C: m NOOP
            S: m OK …
            """,
        )

    def test_commands_that_tell_of_no_other_change(self) -> None:
        for second in range(1, 5):
            self.deliver(received=second * 1_000_000)
        client, other = self.selected(), self.selected()
        client.ok("SORT RETURN (UPDATE COUNT) (REVERSE ARRIVAL) UTF-8 FLAGGED")
        other.ok(r"UID STORE 2,4 +FLAGS (\Flagged)")
        other.ok(r"UID STORE 1 +FLAGS (\Deleted)")
        other.ok("UID EXPUNGE 1")
        self.deliver(flags=4, received=5_000_000)
        self.transcript(
            client,
            r"""
            C: a FETCH 1 (FLAGS)
            S: * 1 FETCH …
            S: * ESEARCH (TAG "t") ADDTO (1 4,2)
            S: a OK …
            C: b SEARCH FLAGGED
            S: * SEARCH 2 4
            S: b OK …
            C: c NOOP
            S: * 5 EXISTS
            S: * 5 FETCH …
            S: * ESEARCH (TAG "t") ADDTO (1 5)
            S: * 1 EXPUNGE
            S: * 1 FETCH …
            S: * 3 FETCH …
            S: c OK …
            """,
        )

    def test_own_expunge(self) -> None:
        self.deliver(count=4)
        self.transcript(
            self.selected(),
            r"""
            C: a SEARCH RETURN (UPDATE COUNT) ALL
            S: * ESEARCH (TAG "a") COUNT 4
            S: a OK …
            C: b UID MOVE 2:3 Sent
            S: * OK [COPYUID …] …
            S: * ESEARCH (TAG "a") REMOVEFROM (0 2:3)
            S: * 3 EXPUNGE
            S: * 2 EXPUNGE
            S: b OK …
            C: c UNSELECT
            S: c OK …
            C: d SELECT Sent
            S: …
            S: …
            S: …
            S: …
            S: …
            S: …
            S: …
            S: …
            S: d OK …
            C: a SEARCH RETURN (UPDATE COUNT) ALL
            S: * ESEARCH (TAG "a") COUNT 2
            S: a OK …
            """,
        )

    def test_sort(self) -> None:
        for subject in ("b", "d", "f"):
            self.deliver(mail(subject))
        client = self.selected()
        self.transcript(
            client,
            r"""
            C: s SORT RETURN (UPDATE) (REVERSE SUBJECT) UTF-8 UNSEEN
            S: * ESEARCH (TAG "s") ALL 3,2,1
            S: s OK …
            C: u UID SORT RETURN (UPDATE COUNT) (SUBJECT) UTF-8 UNSEEN
            S: * ESEARCH (TAG "u") UID COUNT 3
            S: u OK …
            """,
        )
        for subject in ("g", "c", "e", "c2"):
            self.deliver(mail(subject))
        self.transcript(
            client,
            r"""
            C: a NOOP
            S: * 7 EXISTS
            S: * 4 FETCH …
            S: * 5 FETCH …
            S: * 6 FETCH …
            S: * 7 FETCH …
            S: * ESEARCH (TAG "s") ADDTO (1 4 3 6 5 7,5)
            S: * ESEARCH (TAG "u") UID ADDTO (2 5,7 5 6 7 4)
            S: a OK …
            C: b UID STORE 2,5:6 +FLAGS.SILENT (\Seen)
            S: * ESEARCH (TAG "s") REMOVEFROM (6 5 3 6,2)
            S: * ESEARCH (TAG "u") UID REMOVEFROM (4 2 5 6 2 5)
            S: b OK …
            """.replace("(4 2 5 6 2 5)", "(4 2,6 2 5)"),
        )

    def test_ages(self) -> None:
        now = self.store.now()
        for age in (10, 100, 1000):
            self.deliver(received=now - age * 1_000_000)
        client = self.selected()
        self.transcript(
            client,
            r"""
            C: a SEARCH RETURN (UPDATE ALL) YOUNGER 120
            S: * ESEARCH (TAG "a") ALL 1:2
            S: a OK …
            C: b SEARCH RETURN (UPDATE ALL) OR NOT (OLDER 100 UID 1:*) ANSWERED
            S: * ESEARCH (TAG "b") ALL 1
            S: b OK …
            C: c NOOP
            S: c OK …
            """,
        )
        self.patch(self.store, "now", lambda: now + 60_000_000)
        self.transcript(
            client,
            r"""
            C: d NOOP
            S: * ESEARCH (TAG "a") REMOVEFROM (0 2)
            S: d OK …
            C: e NOOP
            S: e OK …
            """,
        )
        self.patch(self.store, "now", lambda: now + 120_000_000)
        self.deliver(received=now + 120_000_000)
        self.transcript(
            client,
            r"""
            C: f NOOP
            S: * 4 EXISTS
            S: * 4 FETCH …
            S: * ESEARCH (TAG "a") REMOVEFROM (0 1) ADDTO (0 4)
            S: * ESEARCH (TAG "b") REMOVEFROM (0 1) ADDTO (0 4)
            S: f OK …
            """,
        )

    def test_ages_in_idle(self) -> None:
        now = self.store.now()
        self.deliver(received=now - 10_000_000)
        client = self.selected()
        client.ok("UID SEARCH RETURN (UPDATE ALL) YOUNGER 60")
        client.send(b"i IDLE\r\n")
        client.lines()
        self.clock.advance(59)
        self.assertEqual(client.lines(), [])
        self.patch(self.store, "now", lambda: now + 60_000_000)
        self.clock.advance(1)
        self.assertEqual(client.lines(), ['* ESEARCH (TAG "t") UID REMOVEFROM (0 1)'])
        self.clock.advance(60)
        self.assertEqual(client.lines(), [])

    def test_numbers_up_to_the_last(self) -> None:
        self.deliver(count=3)
        client = self.selected()
        self.transcript(
            client,
            r"""
            C: a SEARCH RETURN (UPDATE ALL) 3:*
            S: * ESEARCH (TAG "a") ALL 3
            S: a OK …
            C: b SEARCH RETURN (UPDATE ALL) 1,*
            S: * ESEARCH (TAG "b") ALL 1,3
            S: b OK …
            C: c SEARCH RETURN (UPDATE ALL) 9:*
            S: * ESEARCH (TAG "c") ALL 3
            S: c OK …
            """,
        )
        self.deliver()
        self.transcript(
            client,
            r"""
            C: d NOOP
            S: * 4 EXISTS
            S: * 4 FETCH …
            S: * ESEARCH (TAG "a") ADDTO (0 4)
            S: * ESEARCH (TAG "c") ADDTO (0 4)
            S: d OK …
            """,
        )

    def test_without_numbers(self) -> None:
        self.deliver(count=3)
        client, other = self.selected(), self.selected()
        other.ok(r"UID STORE 1 +FLAGS (\Deleted)")
        other.ok("EXPUNGE")
        self.transcript(
            client,
            r"""
            C: a NOOP
            S: * 1 EXPUNGE
            S: a OK …
            C: b SEARCH RETURN (UPDATE COUNT) UNSEEN
            S: * ESEARCH (TAG "b") COUNT 2
            S: b OK …
            C: c UID SORT RETURN (UPDATE ALL) (ARRIVAL) UTF-8 UNSEEN
            S: * ESEARCH (TAG "c") UID ALL 2:3
            S: c OK …
            C: d ENABLE UIDONLY
            S: * ENABLED UIDONLY
            S: d OK …
            C: e UID STORE 3 +FLAGS.SILENT (\Seen)
            S: * ESEARCH (TAG "b") UID REMOVEFROM (0 3)
            S: * ESEARCH (TAG "c") UID REMOVEFROM (2 3)
            S: e OK …
            C: f SORT (ARRIVAL) UTF-8 ALL
            S: f BAD [UIDREQUIRED] …
            C: g THREAD REFS UTF-8 ALL
            S: g BAD [UIDREQUIRED] …
            C: h UID SORT (ARRIVAL) UTF-8 1:2
            S: h BAD [UIDREQUIRED] …
            C: i UID THREAD REFERENCES UTF-8 UID 1:2
            S: * THREAD (2)
            S: i OK …
            """,
        )

    def test_limit(self) -> None:
        self.deliver()
        client = self.selected()
        for n in range(10):
            client.send(b"t%d SEARCH RETURN (UPDATE COUNT) ALL\r\n" % n)
        client.output()
        self.transcript(
            client,
            r"""
            C: x SEARCH RETURN (UPDATE COUNT) ALL
            S: * NO [NOUPDATE "x"] …
            S: * ESEARCH (TAG "x") COUNT 1
            S: x OK …
            C: y CANCELUPDATE "t1"
            S: y OK …
            C: x SEARCH RETURN (UPDATE COUNT) ALL
            S: * ESEARCH (TAG "x") COUNT 1
            S: x OK …
            """,
        )

    def test_idle(self) -> None:
        client = self.selected()
        client.ok("SEARCH RETURN (UPDATE COUNT) UID 1:*")
        client.send(b"i IDLE\r\n")
        client.output()
        self.deliver()
        self.assertEqual(
            client.lines(),
            ["* 1 EXISTS", "* 1 FETCH (UID 1 FLAGS ())", '* ESEARCH (TAG "t") ADDTO (0 1)'],
        )


class FollowTests(IMAPTestCase):
    """What a client makes of the updates is what a new search says."""

    def apply(self, results: list[int], line: str, exists: list[int]) -> None:
        """One ESEARCH line of updates."""
        for kind, pairs in re.findall(r"(ADDTO|REMOVEFROM) \(([^)]*)\)", line):
            words = pairs.split()
            for place, text in zip(words[::2], words[1::2], strict=True):
                numbers = []
                for piece in text.split(","):
                    first, _, last = piece.partition(":")
                    numbers += range(int(first), int(last or first) + 1)
                uids = numbers if " UID " in line else [exists[number - 1] for number in numbers]
                position = int(place)
                if kind == "ADDTO":
                    if position:
                        results[position - 1 : position - 1] = uids
                    else:
                        results[:] = sorted(results + uids)
                elif position:
                    self.assertEqual(results[position - 1 : position - 1 + len(uids)], uids)
                    del results[position - 1 : position - 1 + len(uids)]
                else:
                    for uid in uids:
                        results.remove(uid)

    def check(self, seed: int) -> None:
        rng = random.Random(seed)
        name = f"Box{seed}"
        self.mailbox(name)
        for _ in range(rng.choice((3, 30, 200))):
            self.deliver(mail(rng.choice("abcdef"), date=rng.randrange(9)), name)
        client, other = self.selected(name), self.selected(name)
        exists = list(range(1, len(client.protocol.session.view.uids) + 1))
        commands = {
            "A1": "UID SEARCH RETURN (UPDATE ALL) UNSEEN",
            "A2": "SEARCH RETURN (UPDATE ALL) OR FLAGGED UID 3:4000",
            "A3": "UID SORT RETURN (UPDATE ALL) (SUBJECT REVERSE DATE) UTF-8 UNSEEN",
            "A4": "SORT RETURN (UPDATE ALL) (REVERSE SUBJECT) UTF-8 ALL",
        }

        def ask(tag: str, text: str) -> list[int]:
            lines = client.command(text, tag)
            results: list[int] = []
            line = lines[0]
            found = re.search(r" ALL (\S+)", line)
            if found:
                self.apply(results, f'{" UID " if " UID " in line else ""}ADDTO (1 {found[1]})', exists)
            return results

        results = {tag: ask(tag, text) for tag, text in commands.items()}
        for round_ in range(12):
            actor: Client = rng.choice((client, other))
            what = rng.randrange(4)
            span = sorted(rng.randrange(1, 210) for _ in range(2))
            uids = f"{span[0]}:{span[1]}" if rng.random() < 0.3 else f"{span[0]}"
            lines = []
            if what == 0:
                for _ in range(rng.choice((1, 5))):
                    self.deliver(mail(rng.choice("abcdef"), date=rng.randrange(9)), name)
            elif what in (1, 2):
                sign, flag = rng.choice("+-"), rng.choice(("\\Seen", "\\Flagged"))
                lines = actor.command(f"UID STORE {uids} {sign}FLAGS ({flag})")
            else:
                lines = actor.command(f"UID STORE {uids} +FLAGS (\\Deleted)")
                lines += actor.command(f"UID EXPUNGE {uids}")
            lines = (lines if actor is client else []) + client.command("NOOP")
            for line in lines:
                if match := re.match(r"\* (\d+) EXISTS", line):
                    uidnext = client.protocol.session.view.uids[-1]
                    exists += range(
                        uidnext - (int(match[1]) - len(exists)) + 1, uidnext + 1
                    )
                elif match := re.match(r"\* (\d+) EXPUNGE", line):
                    del exists[int(match[1]) - 1]
                elif match := re.match(r'\* ESEARCH \(TAG "(A\d)"\)', line):
                    self.apply(results[match[1]], line, exists)
            for tag, text in commands.items():
                self.assertEqual(
                    results[tag], ask(f"{tag}.{round_}", text.replace("UPDATE ", "")), (seed, text)
                )

    def test_random_changes(self) -> None:
        for seed in range(12):
            self.check(seed)
