"""After kill -9 while the queue delivers, nothing is lost, and hardly anything comes twice.

A message may come twice when the crash fell between the other side's 250 and our commit: the
last one on each connection, and no other. How many did is printed.
"""

from __future__ import annotations

import contextlib
import os
import random
import re
import smtplib
import socketserver
import threading
from typing import Any

from tests.support.server import PASSWORD, LiveCase, poll, smarthost
from tests.support.smtpload import Workers

ROUNDS = int(os.environ.get("MOXTW_KILL_ROUNDS", "2"))
USER = "mjl@a.example"
NAME = re.compile(rb"^Message-ID: <([a-z0-9.]+)@load\.example>\r$", re.M)


class _Session(socketserver.StreamRequestHandler):
    """Takes messages; notes each before the 250."""

    server: Sink

    def handle(self) -> None:
        taken: list[str] = []
        self.server.connections.append(taken)
        with contextlib.suppress(OSError):  # The server was killed.
            self._serve(taken)

    def _serve(self, taken: list[str]) -> None:
        self.wfile.write(b"220 sink ESMTP\r\n")
        while line := self.rfile.readline():
            verb = line[:4].upper()
            if verb == b"EHLO":
                self.wfile.write(b"250-sink\r\n250-PIPELINING\r\n250 8BITMIME\r\n")
            elif verb == b"DATA":
                self.wfile.write(b"354 go\r\n")
                content = b""
                while (line := self.rfile.readline()) != b".\r\n":
                    if not line:
                        return
                    content += line
                found = NAME.search(content)
                taken.append("" if found is None else found[1].decode())
                self.wfile.write(b"250 2.0.0 taken\r\n")
            elif verb == b"QUIT":
                self.wfile.write(b"221 bye\r\n")
                return
            else:
                self.wfile.write(b"250 ok\r\n")


class Sink(socketserver.ThreadingTCPServer):
    """An SMTP server in threads; connections: the names of messages that each brought."""

    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 100

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Session)
        self.connections: list[list[str]] = []
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()

    def taken(self) -> set[str]:
        return {name for names in list(self.connections) for name in list(names)}


class QueueKillTests(LiveCase):
    def setUp(self) -> None:
        super().setUp()
        self.random = random.Random(os.environ.get("MOXTW_SEED") or "a seed")
        self.sink = Sink()
        self.addCleanup(self.sink.server_close)
        self.addCleanup(self.sink.shutdown)
        limits = {"MaxOutgoingMessagesPerDay": 10**6, "MaxFirstTimeRecipientsPerDay": 10**6}
        self.server = self.mail_server(
            log_level="info",
            account_options=limits,
            **smarthost(self.sink.server_address[1], starttls=False),
        )

    def submit(self, label: str) -> Any:
        def run(workers: Workers) -> None:
            try:
                with smtplib.SMTP(self.server.ip, self.server.ports.submission) as client:
                    client.login(USER, PASSWORD)
                    number = 0
                    while not workers.ending:
                        name = f"{label}.{number}"
                        head = f"From: <{USER}>\r\nMessage-ID: <{name}@load.example>\r\n"
                        content = f"{head}\r\nx\r\n"
                        client.sendmail(USER, [f"u@d{number % 15}.example"], content)
                        workers.done(name)
                        number += 1
            except smtplib.SMTPException as exc:
                raise ConnectionError(exc) from exc

        return run

    def test_nothing_is_lost_and_little_comes_twice(self) -> None:
        accepted: set[str] = set()
        for turn in range(ROUNDS):
            workers = Workers()
            for number in range(3):
                workers.add(self.submit(f"r{turn}.s{number}"))
            workers.wait(self.random.randrange(80, 250))
            self.server.kill()
            workers.finish()
            accepted.update(workers.acknowledged)
            self.server.start()
        poll(lambda: accepted <= self.sink.taken(), 60, "delivery of all that was accepted")
        poll(lambda: "(none)" in self.server.moxtw("queue", "list"), 60, "an empty queue", 0.2)
        self.assertNotIn("", self.sink.taken())
        seen: dict[str, list[str]] = {}
        twice = []
        for names in self.sink.connections:
            self.assertEqual(len(set(names)), len(names), "twice over one connection")
            for name in names:
                if name in seen:
                    twice.append(name)
                    self.assertEqual(seen[name][-1], name, "not the last of its connection")
                seen[name] = names
        print(  # noqa: T201 - asked for
            f"\n{len(accepted)} accepted, {ROUNDS} crashes, {len(self.sink.connections)} "
            f"connections; {len(twice)} came twice"
        )
        self.assertEqual(self.server.errors(), [])
        self.finish(self.server)
