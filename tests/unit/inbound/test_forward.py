"""Copies of messages that an address passes on."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from moxtw import metrics
from moxtw.authn import AuthResults
from moxtw.inbound.decide import Decision
from moxtw.inbound.deliver import Deliverer
from moxtw.inbound.forward import _Message
from moxtw.mail.received import AuthMethod
from moxtw.store import queuedb, queuelists
from moxtw.store.queuelists import Order, Query
from moxtw.store.queuerecord import Queued
from tests.support.smtp import DYNAMIC
from tests.support.store import job, make_store, now
from tests.unit.inbound.test_deliver import MESSAGE, NO, DeliverCase, FixedDecider

FORWARDING = DYNAMIC.replace(
    "\t\t\tme@example.org: nil\n",
    "\t\t\tme@example.org:\n\t\t\t\tForwardTo:\n\t\t\t\t\t- me@elsewhere.example\n"
    "\t\t\t\t\t- müller@bücher.example\n",
)
CHECKED = AuthResults(evaluated=True, methods=(AuthMethod("iprev", "pass"),))


class ForwardCase(DeliverCase):
    dynamic = FORWARDING

    def queued(self) -> list[Queued]:
        rows = job(self.store, queuelists.queued, Query(), Order("queued", True))
        return [message for message, _, _ in rows]

    def passed_on(self, result: str) -> float:
        value: float = metrics.smtpserver_forward_total.labels(result)._value.get()
        return value

    def decided(self, decision: Decision, results: AuthResults | None = None) -> None:
        self.deliverer = Deliverer(
            self.store, self.world.config, FixedDecider(me=decision), self.evaluator(results)
        )


class ForwardTests(ForwardCase):
    def test_copies(self) -> None:
        before = self.passed_on("queued")
        self.deliver("me@example.org")
        first, second = self.queued()
        self.assertEqual(first.recipient, "me@elsewhere.example")
        self.assertEqual(second.recipient, "müller@bücher.example")
        self.assertEqual((first.sender, first.sender_account), ("me@example.org", "me"))
        self.assertEqual((first.smtputf8, second.smtputf8), (False, True))
        self.assertTrue(first.dsn.on_failure and not first.dsn.on_delay)
        data = job(self.store, queuedb.read, first.id)
        self.assertTrue(data.startswith(b"Delivered-To: me@example.org\r\nReceived: "), data)
        self.assertTrue(data.endswith(MESSAGE))
        self.assertNotIn(b"Return-Path", data)
        self.assertNotIn(b"X-Mox", data)
        self.assertEqual(len(self.world.mailbox("me")), 1)
        self.assertEqual(self.passed_on("queued"), before + 1)

    def test_null_sender(self) -> None:
        self.deliver("me@example.org", mail_from="")
        self.assertEqual([each.sender for each in self.queued()], ["", ""])

    def test_no_key_no_seal(self) -> None:
        self.decided(Decision(True, "Inbox", "no-bad-signals"), CHECKED)
        self.deliver("me@example.org")
        data = job(self.store, queuedb.read, self.queued()[0].id)
        self.assertIn(b"Authentication-Results: mail.example.org;\r\n\tiprev=pass", data)
        self.assertNotIn(b"ARC-", data)

    def test_what_was_delivered_here_before(self) -> None:
        for field in (b"Delivered-To: me@example.org", b"delivered-to:\r\n ME@Example.ORG "):
            before = self.passed_on("loop")
            self.deliver("me@example.org", data=field + b"\r\n" + MESSAGE)
            self.assertEqual(self.passed_on("loop"), before + 1)
        self.assertEqual(self.queued(), [])
        self.assertEqual(len(self.world.mailbox("me")), 2)

    def test_what_is_not_passed_on(self) -> None:
        for decision in (NO, Decision(True, "Rejects", "junk-content", is_reject=True)):
            self.decided(decision)
            self.deliver("me@example.org")
        self.decided(Decision(True, "Inbox", "no-bad-signals"))
        self.deliver("you@example.org")
        self.assertEqual(self.queued(), [])


class LimitTests(ForwardCase):
    dynamic = FORWARDING.replace("\tme:\n", "\tme:\n\t\tMaxOutgoingMessagesPerDay: 3\n")

    def test_limits(self) -> None:
        before = self.passed_on("limit")
        for _ in range(2):
            (result,) = self.deliver("me@example.org")
            self.assertEqual(result.code, 0)
        self.assertEqual(len(self.queued()), 2)
        self.assertEqual(len(self.world.mailbox("me")), 2)
        self.assertEqual(self.passed_on("limit"), before + 1)


class MessageTests(SynchronousTestCase):
    @given(st.binary(max_size=40), st.binary(max_size=40), st.integers(0, 90), st.integers(0, 90))
    def test_read(self, prefix: bytes, data: bytes, start: int, length: int) -> None:
        content = now(self.store.contents.from_bytes(data))
        message = _Message(prefix, content)
        self.assertEqual(message.size, len(prefix + data))
        self.assertEqual(message.read(start, length), (prefix + data)[start : start + length])

    def setUp(self) -> None:
        self.store = make_store(self)
