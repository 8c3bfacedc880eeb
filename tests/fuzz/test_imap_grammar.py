"""Whole sessions of commands made from the grammar, by hypothesis, with every response read.

Each command gets exactly one tagged reply, or the connection ends with BYE; responses are in
the grammar; nothing unforeseen happens; and at the end the store is as it should be.
"""

from __future__ import annotations

import os
import random
import sys
import time

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from moxtw import metrics
from moxtw.imap.commands import COMMANDS
from moxtw.store import credentials, verify
from moxtw.store.auth import LoginAccount
from tests.fuzz import engine
from tests.support.imapcommands import Literal, Maker, Pieces
from tests.support.imapgrammar import Response
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


def _command(number: int) -> Pieces:
    return Maker(random.Random(number)).command(NAMES)


SESSIONS = st.lists(st.integers(0, 1 << 64).map(_command), min_size=1, max_size=30)
SPLITS = st.integers(0, 1 << 32)


class GrammarTests(IMAPTestCase):
    accounts = 0

    def play(self, commands: list[Pieces], splits: int) -> None:
        """A session of a fresh account."""
        self.accounts += 1
        name = f"me{self.accounts}"
        self.account = make_account(self.store, name)
        job(self.store, credentials.set_password, self.account.id, VERIFIERS)
        self.directory.names[ADDRESS] = LoginAccount(name, ADDRESS)
        self.deliver(MAIL, count=3)
        client = self.connect()
        client.output()
        client.login()
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

    def test_every_command_is_answered_in_the_grammar(self) -> None:
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
        @given(SESSIONS, SPLITS)
        def play(commands: list[Pieces], splits: int) -> None:
            self.play(commands, splits)

        panics = metrics.panic_total.labels("imapserver")._value
        before = panics.get()
        while not runs or time.monotonic() < end:
            seed(start + runs)(play)()
            runs += 1
        self.assertEqual(panics.get(), before)
        if "MOXTW_FUZZ_MINUTES" in os.environ:
            sys.stderr.write(f"{self.id()}: {runs * EXAMPLES} sessions, seed {start}\n")
