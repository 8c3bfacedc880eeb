"""The queue with a real database, real sockets on loopback, and names from a dict."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred, DeferredList
from twisted.trial.unittest import TestCase

from moxtw.config.testing import FixedConfig
from moxtw.dns.fake import ZoneResolver
from moxtw.mail.address import parse_address, parse_path
from moxtw.net.tlsclient import Roots
from moxtw.queue.service import QueueService
from moxtw.queue.submit import SubmitRequest, Submitted, Submitter
from moxtw.smtp.dial import Dialer
from moxtw.store import accounts, mailboxes, messages, queuedb, queuelists
from moxtw.store.db import Store
from moxtw.store.model import Want
from moxtw.store.queuelists import Order, Query
from moxtw.store.verify import verify_all
from tests.functional.smtpsink import Sink, reactor, tls_context
from tests.unit.queue.support import DYNAMIC

HEADER = b"From: me@example.org\r\nTo: x@dst.example\r\nSubject: hi\r\n\r\n"
LIMITS = DYNAMIC.replace("PerDay: 10", "PerDay: 100000").replace("PerDay: 5", "PerDay: 100000")


class Case(TestCase):
    timeout = 60

    async def set_up(self, directory: str, port: int) -> None:
        self.store = Store(directory, reactor)
        self.store.open()
        self.store.startService()
        self.addCleanup(lambda: self.store.stopService())
        await self.store.write(lambda tx: accounts.ensure(tx, "me"))
        self.config = FixedConfig(LIMITS)
        self.submitter = Submitter(self.store, self.config)
        resolver = ZoneResolver(
            {
                "dst.example.": {"MX": [(1, "mx1.example."), (2, "mx2.example.")]},
                "mx1.example.": {"A": ["127.0.0.1"]},
                "mx2.example.": {"A": ["127.0.0.2"]},
            }
        )
        self.service = QueueService(
            self.store,
            self.config,
            resolver,
            Dialer(reactor, Roots(system=False)),
            reactor,
            port=port,
        )
        self.service.startService()
        self.addCleanup(self.service.stopService)

    def listen(self, sink: Sink, ip: str = "127.0.0.1", port: int = 0) -> int:
        listening = reactor.listenTCP(port, sink, interface=ip)
        self.addCleanup(listening.stopListening)
        return listening.getHost().port

    async def submit(self, body: bytes, *recipients: str) -> list[Submitted]:
        content = await self.store.contents.from_bytes(HEADER + body)
        return await self.submitter(
            SubmitRequest(
                account="me",
                login_address=parse_address("me@example.org"),
                mail_from=parse_path("me@example.org"),
                recipients=[parse_path(r) for r in recipients or ("x@dst.example",)],
                content=content,
            )
        )

    async def until(self, condition: Any) -> Any:
        """Wait until a read job says something true."""
        while not (found := await self.store.read(condition)):
            done: Deferred[None] = Deferred()
            reactor.callLater(0.01, done.callback, None)
            await done
        return found

    async def retired(self, count: int) -> list[Any]:
        def look(tx: Any) -> Any:
            rows = queuelists.retired(tx, Query(), Order("last_activity", True))
            return rows if len(rows) >= count else None

        return await self.until(look)

    def inbox(self, tx: Any) -> list[bytes]:
        account_id = accounts.get(tx, "me").id
        box = mailboxes.named(tx, account_id, "Inbox")
        rows = messages.rows(tx, box.id, [(1, 2**32 - 1)], Want.FLAGS)
        return [messages.read(tx, row.id) for row in rows]


class Delivery(Case):
    def test_messages_small_and_large(self) -> Any:
        async def run() -> None:
            sink = Sink()
            await self.set_up(self.mktemp(), self.listen(sink))
            bodies = [
                b"",
                b"hello\r\n",
                b".\r\n..\r\n.x\r\n",
                b"no line end",
                b"." * 70_000 + b"\r\n",
                b"0123456789\r\n.\r\n" * 200_000,
            ]
            for body in bodies:
                await self.submit(body)
            await self.retired(len(bodies))
            got = sorted(m[2].partition(b"Subject: hi\r\n\r\n")[2] for m in sink.messages)
            expected = [b if b.endswith(b"\r\n") or not b else b + b"\r\n" for b in bodies]
            self.assertEqual(got, sorted(expected))
            self.assertIn("MAIL FROM:<me@example.org> SIZE=", sink.messages[0][0])
            self.assertEqual(await verify_all(self.store), [])

        return Deferred.fromCoroutine(run())

    def test_many_recipients_in_one_transaction(self) -> Any:
        async def run() -> None:
            sink = Sink()
            await self.set_up(self.mktemp(), self.listen(sink))
            names = [f"u{n}@dst.example" for n in range(250)]
            await self.submit(b"hi\r\n", *names)
            await self.retired(250)
            self.assertEqual([len(m[1]) for m in sink.messages], [100, 100, 50])
            self.assertEqual(sink.connections, 1)

        return Deferred.fromCoroutine(run())

    def test_opportunistic_tls(self) -> Any:
        async def run() -> None:
            sink = Sink(tls=tls_context())
            await self.set_up(self.mktemp(), self.listen(sink))
            await self.submit(b"secret\r\n" * 100_000)
            await self.retired(1)
            self.assertTrue(sink.messages[0][3])
            self.assertTrue(sink.messages[0][2].endswith(b"secret\r\n"))

        return Deferred.fromCoroutine(run())

    def test_plain_text_when_tls_is_broken(self) -> Any:
        async def run() -> None:
            sink = Sink(tls="broken")
            await self.set_up(self.mktemp(), self.listen(sink))
            await self.submit(b"hi\r\n")
            await self.retired(1)
            self.assertFalse(sink.messages[0][3])
            self.assertEqual(sink.connections, 2)

        return Deferred.fromCoroutine(run())

    def test_next_host(self) -> Any:
        async def run() -> None:
            sink = Sink()
            # Nothing listens on the first host.
            await self.set_up(self.mktemp(), self.listen(sink, "127.0.0.2"))
            await self.submit(b"hi\r\n")
            (retired,) = await self.retired(1)
            self.assertEqual(retired.dialed_ips, {"mx2.example": ["127.0.0.2"]})

        return Deferred.fromCoroutine(run())

    def test_one_of_three_refused(self) -> Any:
        async def run() -> None:
            def rcpt(line: str) -> str | None:
                return "550 5.1.1 no such user" if "b@" in line else None

            sink = Sink({"RCPT": rcpt})
            await self.set_up(self.mktemp(), self.listen(sink))
            await self.submit(b"hi\r\n", "a@dst.example", "b@dst.example", "c@dst.example")
            retired = await self.retired(3)
            self.assertEqual(
                {r.recipient_localpart: r.success for r in retired},
                {"a": True, "b": False, "c": True},
            )
            (notice,) = await self.until(self.inbox)
            self.assertIn(b"550 5.1.1 no such user", notice)
            self.assertIn(b"Remote-MTA: dns;mx1.example", notice)

        return Deferred.fromCoroutine(run())

    def test_many_messages_over_one_connection(self) -> Any:
        async def run() -> None:
            sink = Sink()
            await self.set_up(self.mktemp(), self.listen(sink))
            await self.service.stopService()
            waits = [Deferred.fromCoroutine(self.submit(b"hi\r\n")) for _ in range(60)]
            await DeferredList(waits, fireOnOneErrback=True)
            self.service.startService()
            await self.retired(60)
            self.assertEqual(len(sink.messages), 60)
            self.assertEqual(sink.connections, 1)

        return Deferred.fromCoroutine(run())


class Restart(Case):
    def test_queue_survives(self) -> Any:
        async def run() -> None:
            directory = self.mktemp()
            sink = Sink({"MAIL": "451 4.3.0 later"})
            port = self.listen(sink)
            self.listen(sink, "127.0.0.2", port)
            await self.set_up(directory, port)
            (submitted,) = await self.submit(b"hi\r\n" * 50_000)
            await self.until(
                lambda tx: queuedb.get(tx, submitted.id).results
                and not queuedb.get(tx, submitted.id).delivering
            )
            await self.service.stopService()
            await self.store.stopService()
            sink.answers.clear()
            await self.set_up(directory, port)
            await self.store.write(
                lambda tx: queuelists.set_next_attempt(tx, [submitted.id], tx.now)
            )
            (retired,) = await self.retired(1)
            self.assertEqual([r.success for r in retired.results], [False, True])
            self.assertEqual(await verify_all(self.store), [])

        return Deferred.fromCoroutine(run())

    def test_interrupted_attempt_is_made_again(self) -> Any:
        async def run() -> None:
            directory = self.mktemp()
            # Answers nothing to MAIL: the attempt hangs.
            sink = Sink({"MAIL": "SILENT"})
            port = self.listen(sink)
            await self.set_up(directory, port)
            (submitted,) = await self.submit(b"hi\r\n")
            await self.until(lambda tx: queuedb.get(tx, submitted.id).delivering)
            await self.service.stopService()
            await self.store.stopService()
            sink.answers.clear()
            await self.set_up(directory, port)
            (retired,) = await self.retired(1)
            self.assertEqual([r.success for r in retired.results], [False, True])

        return Deferred.fromCoroutine(run())
