"""Whole sessions of commands made from the grammar, by hypothesis, with every response read.

Each command gets exactly one tagged reply, or the connection ends with BYE; responses are in
the grammar; nothing unforeseen happens; and at the end the store is as it should be.
"""

from __future__ import annotations

import os
import random
import sys
import time
from collections.abc import Callable

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from moxtw import metrics
from moxtw.imap.commands import COMMANDS
from moxtw.store import credentials, verify
from moxtw.store.auth import LoginAccount
from tests.fuzz import engine
from tests.support.imapcommands import Literal, Maker, Pieces
from tests.support.imapgrammar import Response
from tests.support.imapmodel import STEADY
from tests.support.slowstore import SlowStore, make_slow_store
from tests.support.store import job, make_account
from tests.unit.imap.support import ADDRESS, MAIL, VERIFIERS, Client, IMAPTestCase

# Some come more often: what they do is what others work on. LOGIN and AUTHENTICATE would only
# slow the connection down.
OFTEN = ("SELECT", "SELECT", "FETCH", "UID FETCH", "STORE", "APPEND", "SEARCH", "CREATE", "ENABLE")
NAMES = (
    *(name.decode() for name in COMMANDS if name not in (b"LOGIN", b"AUTHENTICATE", b"LOGOUT")),
    *OFTEN,
)
# Sessions in one hypothesis run.
EXAMPLES = 25


class Driver:
    """Sends commands and looks at what comes back."""

    def __init__(self, case: GrammarTests, client: Client, rng: random.Random) -> None:
        self.case = case
        self.client = client
        self.rng = rng
        self.count = 0
        self.sent: list[bytes] = []

    def fail(self, text: str) -> None:
        self.case.fail(f"{text}\n" + "\n".join(repr(data[:2000]) for data in self.sent))

    def send(self, data: bytes) -> list[Response]:
        """Send, in one piece or several; what comes back at once."""
        self.sent.append(data)
        responses = []
        while data:
            size = len(data) if self.rng.random() < 0.8 else self.rng.randint(1, len(data))
            self.client.send(data[:size])
            data = data[size:]
            responses += self.pump()
        return responses

    def pump(self) -> list[Response]:
        """Let time pass until nothing comes any more."""
        responses = list(self.client.responses())
        for _ in range(30):
            self.case.clock.advance(0)
            more = self.client.responses()
            responses += more
            if responses and not more:
                break
        return responses

    def command(self, pieces: Pieces) -> bool:
        """Run a command to its end; False if the connection has ended."""
        self.count += 1
        tag = b"c%d" % self.count
        data = tag + b" "
        found: list[Response] = []
        for piece in pieces:
            if not isinstance(piece, Literal):
                data += piece
                continue
            data += piece.head()
            if piece.sync:
                found += self.send(data)
                data = b""
                if self.tagged(found, tag) or self.client.closed:
                    # Refused before the literal was sent.
                    return self.over(found, tag)
                if not found or found[-1].kind != "+":
                    # What looked like a literal was none for the server: a fault in front of it.
                    self.fail("neither continuation nor reply")
            data += piece.data
        found += self.send(data + b"\r\n")
        if not self.tagged(found, tag) and not self.client.closed:
            if found and found[-1].kind == "+":
                # A fault made it wait for something; IDLE, or a literal.
                found += self.send(b"DONE\r\n")
            else:
                found += self.send(b"\r\n")
        return self.over(found, tag)

    @staticmethod
    def tagged(found: list[Response], tag: bytes) -> list[Response]:
        return [r for r in found if r.kind == "tagged" and r.tag == tag]

    def over(self, found: list[Response], tag: bytes) -> bool:
        """Look at the replies of a command."""
        replies = self.tagged(found, tag)
        if len(replies) > 1:
            self.fail(f"{len(replies)} replies")
        if self.client.closed:
            if not any(r.name == "BYE" for r in found):
                self.fail("closed without BYE")
            return False
        if not replies:
            # A fault can make one line two commands, or half of one.
            return self.catch_up()
        if replies[0].code[:1] == ("SERVERBUG",):
            self.fail("SERVERBUG")
        return True

    def catch_up(self) -> bool:
        """Come to where the server reads commands again."""
        for line in (b"DONE\r\n", b"x" * 200 + b"\r\n", b"\r\n"):
            found = self.send(line + b"sync NOOP\r\n")
            if self.client.closed:
                return False
            if self.tagged(found, b"sync"):
                return True
        self.fail("the server does not answer any more")
        return False


def _commands(wrong: float) -> st.SearchStrategy[Pieces]:
    return st.integers(0, 1 << 64).map(
        lambda number: Maker(random.Random(number), wrong=wrong).command(NAMES)
    )


COMMAND = _commands(0.02)
RIGHT_COMMAND = _commands(0)


class Side:
    """One of several sessions that run at the same time."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.tag = b""
        self.name = ""
        self.count = 0
        self.replies = 0
        self.lines: list[bytes] = []

    @property
    def busy(self) -> bool:
        return bool(self.tag) and not self.replies and not self.client.closed

    def begin(self, pieces: Pieces) -> None:
        """Send a command; its literals come without being asked for."""
        self.count += 1
        self.replies = 0
        self.tag = b"c%d" % self.count
        data = self.tag + b" "
        for piece in pieces:
            if isinstance(piece, Literal):
                data += piece._replace(sync=False).head() + piece.data
            else:
                data += piece
        self.name = data.split(b" ", 1)[1].partition(b" ")[0].strip().decode("latin-1")
        data += b"\r\nDONE\r\n" if self.name == "IDLE" else b"\r\n"
        self.lines.append(data)
        self.client.send(data)

    def hear(self) -> None:
        """Look at what has come."""
        for response in self.client.responses():
            self.lines.append(b"    " + response.raw[:300])
            if response.kind == "tagged" and response.tag == self.tag:
                self.replies += 1
                assert self.replies == 1, "two replies"
                assert response.code[:1] != ("SERVERBUG",), response.raw
            elif response.name in ("EXPUNGE", "VANISHED") and not (
                response.name == "VANISHED" and response.data["earlier"]
            ):
                assert self.busy, "removal while no command runs"
                assert self.name not in STEADY, f"removal during {self.name}"


class GrammarTests(IMAPTestCase):
    accounts = 0

    def make_store(self) -> SlowStore:
        return make_slow_store(self, self.clock)

    def fresh(self) -> str:
        """Have another account with some messages; its name."""
        self.accounts += 1
        name = f"me{self.accounts}"
        self.account = make_account(self.store, name)
        job(self.store, credentials.set_password, self.account.id, VERIFIERS)
        self.directory.names[ADDRESS] = LoginAccount(name, ADDRESS)
        self.deliver(MAIL, count=3)
        return name

    def play(self, commands: list[Pieces], splits: int) -> None:
        """A session."""
        name = self.fresh()
        client = self.login()
        driver = Driver(self, client, random.Random(splits))
        going = driver.command([b"SELECT Inbox"])
        for pieces in commands:
            going = going and driver.command(pieces)
        if going:
            found = driver.send(b"end NOOP\r\n")
            if not driver.tagged(found, b"end") and not driver.catch_up():
                driver.fail("no answer at the end")
        client.transport.loseConnection()
        self.clock.advance(1)
        if self.flushLoggedErrors():
            driver.fail("unforeseen exception")
        wrong = self.successResultOf(verify.verify_account(self.store, name))
        if wrong:
            driver.fail(f"the store is wrong: {wrong}")

    def beside(self, commands: list[Pieces], order: int) -> None:
        """Sessions of one account, whose commands interleave."""
        name = self.fresh()
        rng = random.Random(order)
        sides = [Side(self.login()) for _ in range(3)]
        for side in sides:
            side.client.ok("SELECT Inbox")
        left = list(commands)
        self.store.slow = True
        try:
            while left or any(side.busy for side in sides) or self.store.busy:
                side = rng.choice(sides)
                if left and not side.busy and not side.client.closed:
                    side.begin(left.pop())
                elif all(side.client.closed for side in sides):
                    left.clear()
                if not self.store.step(rng):
                    self.clock.advance(0.01)
                for side in sides:
                    side.hear()
            for side in sides:
                if not side.client.closed:
                    side.begin([b"NOOP"])
                    self.store.settle(rng)
                    self.clock.advance(0.01)
                    side.hear()
                    assert side.replies == 1, "no answer at the end"
        except AssertionError as exc:
            shown = "\n\n".join("\n".join(map(repr, side.lines)) for side in sides)
            raise AssertionError(f"{exc}\n{shown}") from exc
        finally:
            self.store.slow = False
        for side in sides:
            side.client.transport.loseConnection()
        self.clock.advance(1)
        self.assertEqual(self.flushLoggedErrors(), [])
        self.assertEqual(self.successResultOf(verify.verify_account(self.store, name)), [])

    def repeat(
        self, check: Callable[[list[Pieces], int], None], sessions: st.SearchStrategy[list[Pieces]]
    ) -> None:
        """Have `check` tried with one session after the other, until the time is over."""
        start = int(os.environ.get("MOXTW_FUZZ_SEED") or random.randrange(1 << 32))
        end = time.monotonic() + max(engine.seconds(), 2.0)
        runs = 0

        @settings(
            max_examples=EXAMPLES,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
            phases=[Phase.generate, Phase.shrink],
        )
        @given(sessions, st.integers(0, 1 << 32))
        def run(commands: list[Pieces], order: int) -> None:
            check(commands, order)

        panics = metrics.panic_total.labels("imapserver")._value
        before = panics.get()
        while not runs or time.monotonic() < end:
            seed(start + runs)(run)()
            runs += 1
        self.assertEqual(panics.get(), before)
        if "MOXTW_FUZZ_MINUTES" in os.environ:
            sys.stderr.write(f"{self.id()}: {runs * EXAMPLES} sessions, seed {start}\n")

    def test_every_command_is_answered_in_the_grammar(self) -> None:
        self.repeat(self.play, st.lists(COMMAND, min_size=1, max_size=30))

    def test_sessions_beside_each_other(self) -> None:
        self.repeat(self.beside, st.lists(RIGHT_COMMAND, min_size=1, max_size=90))
