"""What was acknowledged is there after kill -9, once, and the store is consistent.

Each round puts load on a server, kills it at some moment, and looks. MOXTW_KILL_ROUNDS says how
many rounds, for longer runs than the few of every day.
"""

import collections
import hashlib
import os
import random
import re
import smtplib

from tests.support.imapload import IMAPError, IMAPLoad
from tests.support.server import PASSWORD, ZONE, LiveCase, expect_ok
from tests.support.smtpload import SMTPLoad, Workers

ROUNDS = int(os.environ.get("MOXTW_KILL_ROUNDS", "4"))
USER = "mjl@a.example"
NAME = re.compile(rb"^Message-ID: <([a-z0-9.]+)@load\.example>\r$", re.M)

# One size below and one above the bound for contents in files, and what most mail is like.
SIZES = (1000, 4096, 4096, 60_000, 200_000)


def message(name: str, size: int, sender: str = "load@load.example") -> bytes:
    """A message whose last line is a digest of its text."""
    line = hashlib.sha256(name.encode()).hexdigest().encode() + b"\r\n"
    text = line * (size // len(line) + 1)
    return (
        b"From: <%s>\r\nTo: <mjl@a.example>\r\nSubject: load\r\n"
        b"Message-ID: <%s@load.example>\r\n\r\n%s%s\r\n"
        % (sender.encode(), name.encode(), text, hashlib.sha256(text).hexdigest().encode())
    )


def whole(content: bytes) -> bool:
    """Whether a message's text is the one that was sent."""
    text, _, digest = content.partition(b"\r\n\r\n")[2].rstrip(b"\r\n").rpartition(b"\r\n")
    return hashlib.sha256(text + b"\r\n").hexdigest().encode() == digest


class DurabilityTests(LiveCase):
    def setUp(self):
        super().setUp()
        self.random = random.Random(os.environ.get("MOXTW_SEED") or "a seed")
        zone = {**ZONE, "away.example": {"MX": ["10 mx.away.example."]}}
        zone["mx.away.example"] = {"A": ["127.0.0.1"]}
        self.server = self.mail_server(resolver=self.name_server(zone).address, log_level="info")

    def smtp(self, label):
        """Deliver messages over one connection, as fast as they are taken."""

        def run(workers):
            with SMTPLoad((self.server.ip, self.server.ports.smtp)) as session:
                number = 0
                while not workers.ending:
                    name = f"{label}.{number}"
                    session.send(
                        "load@load.example", USER, message(name, SIZES[number % len(SIZES)])
                    )
                    workers.done(name)
                    number += 1

        return run

    def append(self, label):
        """APPEND messages, several without waiting for the answers."""

        def run(workers):
            try:
                with IMAPLoad(self.server.ip, self.server.ports.imap, USER, PASSWORD) as session:
                    number = 0
                    while not workers.ending:
                        names = [f"{label}.{number + i}" for i in range(5)]
                        session.append(
                            b"INBOX",
                            (message(name, SIZES[i]) for i, name in enumerate(names)),
                            on_ok=lambda i, names=names: workers.done(names[i]),
                        )
                        number += 5
            except IMAPError as exc:
                raise ConnectionError(exc) from exc

        return run

    def submit(self, label):
        """Submit messages for a domain that cannot be reached."""

        def run(workers):
            try:
                with smtplib.SMTP(self.server.ip, self.server.ports.submission) as client:
                    client.login(USER, PASSWORD)
                    number = 0
                    while not workers.ending:
                        name = f"{label}.{number}"
                        content = message(name, 1000, sender=USER)
                        client.sendmail(USER, [f"{name}@away.example"], content)
                        workers.done(name)
                        number += 1
            except smtplib.SMTPException as exc:
                raise ConnectionError(exc) from exc

        return run

    def test_nothing_acknowledged_is_lost(self):
        delivered, submitted = set(), set()
        for turn in range(ROUNDS):
            workers, submitters = Workers(), Workers()
            for i in range(4):
                workers.add(self.smtp(f"r{turn}.smtp{i}"))
            for i in range(2):
                workers.add(self.append(f"r{turn}.append{i}"))
            submitters.add(self.submit(f"r{turn}.submit"))
            workers.wait(self.random.randrange(60, 300))
            self.server.kill()
            workers.finish()
            submitters.finish()
            delivered.update(workers.acknowledged)
            submitted.update(submitters.acknowledged)
            if turn % 2:
                self.server.check()
            self.server.start()
            self.assertEqual(self.server.errors(), [])
            self.look(delivered, submitted)
        self.assertTrue(any(".append" in name for name in delivered))
        self.assertTrue(submitted)
        self.finish(self.server)

    def look(self, delivered, submitted):
        """All that was acknowledged is there, and nothing twice."""
        found = collections.Counter()
        client = self.server.imap()
        (count,) = expect_ok(client.select("INBOX", readonly=True))
        for start in range(1, int(count) + 1, 200):
            end = min(int(count), start + 199)
            for item in expect_ok(client.fetch(f"{start}:{end}", "(BODY.PEEK[])")):
                if isinstance(item, tuple):
                    name = NAME.search(item[1])
                    self.assertIsNotNone(name, item[1][:1000])
                    found[name[1].decode()] += 1
                    self.assertTrue(whole(item[1]), name)
        client.logout()
        self.assertEqual(sorted(delivered - set(found)), [], "lost")
        self.assertEqual([name for name, times in found.items() if times > 1], [], "twice")
        queued = collections.Counter(
            address.partition("@")[0]
            for address in re.findall(r"\S+@away\.example", self.server.moxtw("queue", "list"))
        )
        self.assertEqual(sorted(submitted - set(queued)), [], "lost from the queue")
        self.assertEqual([name for name, times in queued.items() if times > 1], [], "twice")
