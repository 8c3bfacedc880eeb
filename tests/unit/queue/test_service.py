"""The queue at work: schedule, hosts, outcomes; with a clock and without sockets."""

from __future__ import annotations

from dataclasses import replace
from random import Random
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from moxtw import metrics
from moxtw.dns.fake import ZoneResolver
from moxtw.mail.dsn import DSN
from moxtw.mail.dsnparse import parse_dsn
from moxtw.mail.dsnrequest import DSNRequest, Notify
from moxtw.mail.mime import parse_message
from moxtw.queue import outcome
from moxtw.queue.delivery import DeliveryError, RcptResult, TLSMode, Trouble
from moxtw.queue.schedule import MAX_BUSY
from moxtw.queue.service import QueueService
from moxtw.queue.sessions import IDLE, MAX_IDLE, MAX_USES
from moxtw.store import accounts, mailboxes, messages, queuedb, queuelists, suppressions
from moxtw.store.model import Want
from moxtw.store.queuelists import Order, Query
from moxtw.store.queuerecord import NewQueued, Queued, Retired
from moxtw.store.tx import Tx
from moxtw.store.verify import verify_all
from tests.support.store import job
from tests.unit.queue.fakes import TAKEN, FakeDialer, refused, reply
from tests.unit.queue.support import DYNAMIC, STATIC, FixedConfig, make_account, make_store, now

BODY = b"From: me@example.org\r\nSubject: hi\r\nMessage-Id: <1@x>\r\n\r\nbody\r\n"
ZONES = {
    "dst.example.": {"MX": [(10, "mx1.example."), (20, "mx2.example.")]},
    "mx1.example.": {"A": ["127.0.0.1"]},
    "mx2.example.": {"A": ["127.0.0.2"]},
    "dual.example.": {"A": ["127.0.0.3"], "AAAA": ["::1"]},
}
# Seconds after queueing at which the attempts are made, give or take.
ATTEMPTS = [0, 450, 1350, 3150, 6750, 13950, 28350, 57150]


def read_dsn(data: bytes) -> DSN:
    return parse_dsn(parse_message(data), data)


class Case(SynchronousTestCase):
    dynamic = DYNAMIC
    static = STATIC

    def setUp(self) -> None:
        self.clock = Clock()
        self.store = make_store(self, self.clock)
        for name in ("me", "other"):
            make_account(self.store, name)
        self.dialer = FakeDialer()
        self.config = FixedConfig(self.dynamic, self.static)
        self.resolver = ZoneResolver(ZONES)
        for number in range(30):
            self.resolver.add(f"d{number}.example.", "MX", (1, f"mx{number}.example."))
            self.resolver.add(f"mx{number}.example.", "A", "127.0.0.9")
        self.service = self.make_service()

    def make_service(self, **more: Any) -> QueueService:
        service = QueueService(
            self.store,
            self.config,
            self.resolver,
            self.dialer,
            self.clock,
            random=Random(5),
            **more,
        )
        service.startService()
        self.addCleanup(service.stopService)
        return service

    def add(self, *recipients: str, **fields: Any) -> list[int]:
        content = now(self.store.contents.from_bytes(fields.pop("body", BODY)))
        values: dict[str, Any] = {
            "sender_account": "me",
            "sender_localpart": "me",
            "sender_domain": "example.org",
            "message_id": "<1@x>",
            **fields,
        }
        news = [
            NewQueued(
                recipient_localpart=r.partition("@")[0],
                recipient_domain=r.partition("@")[2],
                content=content,
                **values,
            )
            for r in recipients
        ]
        return job(self.store, queuedb.add, news)

    def get(self, message_id: int) -> Queued:
        return job(self.store, queuedb.get, message_id)

    def queued(self) -> list[Queued]:
        rows = job(self.store, queuelists.queued, Query(), Order("queued", True))
        return [row[0] for row in rows]

    def retired(self) -> list[Retired]:
        return job(self.store, queuelists.retired, Query(), Order("last_activity", True))

    def inbox(self, account: str = "me", mailbox: str = "Inbox") -> list[bytes]:
        def run(tx: Tx) -> list[bytes]:
            account_id = accounts.get(tx, account).id
            box = mailboxes.find(tx, account_id, mailbox)
            if box is None:
                return []
            rows = messages.rows(tx, box.id, [(1, 2**32 - 1)], Want.FLAGS)
            return [messages.read(tx, row.id) for row in rows]

        return job(self.store, run)

    def settle(self, seconds: float) -> None:
        """Let time pass, in steps, so that timers fire near their time."""
        for _ in range(int(seconds // 50)):
            self.clock.advance(50)
        self.clock.advance(seconds % 50)


class Delivery(Case):
    def test_delivered_at_once(self) -> None:
        (message_id,) = self.add("x@dst.example", prefix=b"A: b\r\n")
        ((host, transaction),) = self.dialer.delivered
        self.assertEqual(host, "mx1.example")
        self.assertEqual(transaction.mail_from, "me@example.org")
        self.assertEqual(transaction.recipients, ("x@dst.example",))
        self.assertEqual(self.dialer.contents, [b"A: b\r\n" + BODY])
        self.assertEqual(self.queued(), [])
        (retired,) = self.retired()
        self.assertEqual((retired.id, retired.success), (message_id, True))
        (result,) = retired.results
        self.assertEqual((result.success, result.code, result.secode), (True, 250, "0.0"))
        self.assertEqual(retired.dialed_ips, {"mx1.example": ["127.0.0.1"]})
        target = self.dialer.targets[0]
        self.assertEqual((target.port, target.ehlo), (25, "mail.example.org"))
        self.assertEqual((target.tls, target.verify), (TLSMode.OPPORTUNISTIC, False))
        self.clock.advance(IDLE)
        self.assertTrue(self.dialer.sessions[0].closed)
        self.assertEqual(self.inbox(), [])

    def test_retired_messages_go_after_their_time(self) -> None:
        self.add("x@dst.example")
        self.settle(71 * 3600)
        self.assertEqual(len(self.retired()), 1)
        self.settle(2 * 3600)
        self.assertEqual(self.retired(), [])

    def test_account_that_keeps_nothing(self) -> None:
        self.add("x@dst.example", sender_account="other")
        self.assertEqual((self.queued(), self.retired()), ([], []))

    def test_address_literals_and_internationalised_domains(self) -> None:
        self.resolver.add("xn--bcher-kva.example.", "A", "127.0.0.4")
        self.add("x@[127.0.0.7]")
        self.add("x@[::1]")
        self.add("x@bücher.example")
        self.assertEqual(
            [t.recipients for _, t in self.dialer.delivered],
            [("x@[127.0.0.7]",), ("x@[IPv6:::1]",), ("x@xn--bcher-kva.example",)],
        )
        self.assertEqual(
            [t.ips for t in self.dialer.targets], [("127.0.0.7",), ("::1",), ("127.0.0.4",)]
        )

    def test_recipients_of_a_submission_go_together(self) -> None:
        self.add("a@dst.example", "b@dst.example", "c@d1.example", "d@dst.example")
        recipients = sorted(t.recipients for _, t in self.dialer.delivered)
        self.assertEqual(
            recipients,
            [("a@dst.example", "b@dst.example", "d@dst.example"), ("c@d1.example",)],
        )
        self.assertEqual(len(self.retired()), 4)

    def test_recipients_that_need_smtputf8_go_by_themselves(self) -> None:
        """A server without it can still have the message for the others."""
        content = now(self.store.contents.from_bytes(BODY))
        rows = [
            NewQueued(
                sender_account="me",
                sender_localpart="me",
                sender_domain="example.org",
                recipient_localpart=localpart,
                recipient_domain="dst.example",
                content=content,
                smtputf8=not localpart.isascii(),
            )
            for localpart in ("a", "é", "b")
        ]
        job(self.store, queuedb.add, rows)
        self.assertEqual(
            [(t.recipients, t.smtputf8) for _, t in self.dialer.delivered],
            [(("a@dst.example", "b@dst.example"), False), (("é@dst.example",), True)],
        )

    def test_results_by_recipient(self) -> None:
        self.dialer.answers["mx1.example"] = [
            TAKEN,
            refused(reply(550, "1.1")),
            refused(reply(450, "2.1")),
        ]
        self.dialer.answers["mx2.example"] = refused(reply(451, "3.0"))
        self.add("a@dst.example", "b@dst.example", "c@dst.example")
        self.assertEqual(
            [(host, t.recipients) for host, t in self.dialer.delivered][1:],
            [("mx2.example", ("c@dst.example",))],
        )
        (left,) = self.queued()
        self.assertEqual((left.recipient, left.results[0].code), ("c@dst.example", 451))
        results = {r.recipient_localpart: r.success for r in self.retired()}
        self.assertEqual(results, {"a": True, "b": False})
        (notice,) = self.inbox()
        self.assertIn(b"b@dst.example", notice)

    def test_untried_recipients_get_another_session(self) -> None:
        first = [TAKEN, RcptResult(reply(421), untried=True)]
        answers = [first, TAKEN]
        self.dialer.answers["mx1.example"] = lambda t: answers.pop(0)
        self.add("a@dst.example", "b@dst.example")
        self.assertEqual([r.success for r in self.retired()], [True, True])

    def test_one_connection_for_several_messages(self) -> None:
        done: Deferred[Any] = Deferred()
        self.dialer.connects["mx1.example"] = done
        for number in range(5):
            self.add(f"x{number}@dst.example")
        done.callback(None)
        self.assertEqual(len(self.dialer.delivered), 5)
        self.assertEqual(len(self.dialer.sessions), 1)
        self.clock.advance(IDLE)
        self.assertTrue(self.dialer.sessions[0].closed)

    def test_kept_session_that_was_lost_is_replaced(self) -> None:
        done: Deferred[Any] = Deferred()
        self.dialer.connects["mx1.example"] = done
        lost = DeliveryError(Trouble.IO, "gone")

        def answer(transaction: Any) -> Any:
            session = self.dialer.sessions[-1]
            if len(session.transactions) == 2:
                session.usable = False
                return refused(lost)
            return TAKEN

        self.dialer.answers["mx1.example"] = answer
        self.add("a@dst.example")
        self.add("b@dst.example")
        done.callback(None)
        self.assertEqual([r.success for r in self.retired()], [True, True])
        self.assertEqual(len(self.dialer.sessions), 2)

    def same_host(self, count: int = 1) -> None:
        """Let all test domains have mail on the same hosts."""
        for number in range(30):
            self.resolver.add(f"s{number}.example.", "MX", (1, f"mx{number % count}.example."))

    def test_one_connection_for_domains_with_the_same_host(self) -> None:
        self.same_host()
        for number in range(3):
            self.add(f"x@s{number}.example")
            self.clock.advance(IDLE - 1)
        self.assertEqual(len(self.dialer.delivered), 3)
        (session,) = self.dialer.sessions
        self.assertFalse(session.closed)
        self.clock.advance(1)
        self.assertTrue(session.closed)
        self.add("x@s4.example")
        self.assertEqual(len(self.dialer.sessions), 2)

    def test_idle_connections_are_few(self) -> None:
        for number in range(MAX_IDLE + 5):
            self.add(f"x@d{number}.example")
        closed = [session.closed for session in self.dialer.sessions]
        self.assertEqual(closed, [True] * 5 + [False] * MAX_IDLE)

    def test_connection_is_used_for_so_many_messages(self) -> None:
        self.same_host()
        for number in range(MAX_USES + 1):
            self.add(f"x@s{number % 30}.example")
        first, second = self.dialer.sessions
        self.assertEqual(len(first.transactions), MAX_USES)
        self.assertTrue(first.closed)
        self.assertFalse(second.closed)

    def test_idle_connection_that_was_lost(self) -> None:
        self.same_host()
        self.add("x@s0.example")
        self.dialer.sessions[0].usable = False
        self.add("x@s1.example")
        self.assertEqual(len(self.dialer.sessions), 2)
        lost = DeliveryError(Trouble.IO, "gone")
        self.dialer.answers["mx0.example"] = lambda transaction: (
            refused(lost) if len(self.dialer.sessions) == 2 else TAKEN
        )
        self.add("x@s2.example")
        self.assertEqual(len(self.dialer.sessions), 3)
        self.assertEqual([r.success for r in self.retired()], [True] * 3)

    def test_a_further_attempt_takes_no_idle_connection_to_the_same_address(self) -> None:
        self.dialer.answers["dual.example"] = lambda transaction: (
            TAKEN if self.dialer.delivered[1:] else refused(reply(451))
        )
        self.add("x@dual.example")
        self.settle(444)
        self.add("y@dual.example")
        self.settle(15)
        first, second, third = self.dialer.targets
        self.assertEqual(first.ips, second.ips)
        self.assertEqual(third.ips, first.ips[::-1])
        self.assertEqual(len(self.dialer.delivered), 3)

    def test_idle_connections_end_with_the_service(self) -> None:
        self.add("x@d0.example")
        now(self.service.stopService())
        self.assertTrue(self.dialer.sessions[0].closed)
        self.service.startService()
        self.add("x@d0.example")
        self.assertFalse(self.dialer.sessions[1].closed)

    def test_tls_seen_is_noted(self) -> None:
        self.add("x@dst.example")
        rows = job(
            self.store,
            lambda tx: tx.raw("SELECT domain, starttls FROM recipient_domain_tls").fetchall(),
        )
        self.assertEqual(rows, [("dst.example", 1)])


class Hosts(Case):
    def test_next_host_after_temporary_failure(self) -> None:
        for failure in (
            reply(421),
            DeliveryError(Trouble.DIAL, "refused"),
            DeliveryError(Trouble.TIMEOUT, "slow"),
            reply(554, "7.1"),
        ):
            self.dialer.connects["mx1.example"] = failure
            self.add("x@dst.example")
            self.assertEqual(self.dialer.delivered[-1][0], "mx2.example")
            self.assertEqual(self.queued(), [])

    def test_permanent_reply_ends_the_attempt(self) -> None:
        self.dialer.answers["mx1.example"] = refused(reply(550, "1.1"))
        self.add("x@dst.example")
        self.assertEqual([host for host, _ in self.dialer.delivered], ["mx1.example"])
        self.assertEqual([r.success for r in self.retired()], [False])

    def test_greeting_that_refuses_counts_when_all_do(self) -> None:
        self.dialer.connects = {"mx1.example": reply(554), "mx2.example": reply(554)}
        self.add("x@dst.example")
        self.assertEqual([r.success for r in self.retired()], [False])
        self.dialer.connects["mx2.example"] = DeliveryError(Trouble.DIAL, "refused")
        self.add("x@dst.example")
        (left,) = self.queued()
        self.assertIn("554", left.results[0].error)

    def test_what_a_server_says_outweighs_unreachable_ones(self) -> None:
        self.dialer.answers["mx1.example"] = refused(reply(450, "7.1", "greylisted"))
        self.dialer.connects["mx2.example"] = DeliveryError(Trouble.DIAL, "refused")
        (message_id,) = self.add("x@dst.example")
        result = self.get(message_id).results[0]
        self.assertEqual((result.code, result.secode), (450, "7.1"))

    def test_null_mx(self) -> None:
        self.resolver.add("null.example.", "MX", (0, "."))
        self.add("x@null.example")
        (retired,) = self.retired()
        self.assertFalse(retired.success)
        self.assertEqual(self.dialer.targets, [])

    def test_dns_trouble_is_temporary(self) -> None:
        self.resolver.fail["dst.example."] = "servfail"
        (message_id,) = self.add("x@dst.example")
        self.assertEqual(self.get(message_id).attempts, 1)
        (other,) = self.add("x@nothing.example")
        self.assertIn("no addresses", self.get(other).results[0].error)

    def test_policy_rejection_on_dual_stack_tries_the_other_family(self) -> None:
        self.dialer.answers["dual.example"] = refused(reply(550, "7.1"))
        (message_id,) = self.add("x@dual.example")
        message = self.get(message_id)
        self.assertEqual(message.dialed_ips, {"dual.example": ["127.0.0.3"]})
        self.settle(460)
        self.assertEqual(self.dialer.targets[1].ips, ("::1", "127.0.0.3"))
        self.assertEqual([r.success for r in self.retired()], [False])

    def test_plaintext_after_tls_trouble(self) -> None:
        before = metrics.queue_plaintext_fallback_total._value.get()
        self.dialer.connects["mx1.example"] = lambda target: (
            None if target.tls is TLSMode.SKIP else DeliveryError(Trouble.TLS, "bad")
        )
        self.add("x@dst.example")
        self.assertEqual(self.dialer.delivered[0][0], "mx1.example")
        self.assertEqual(metrics.queue_plaintext_fallback_total._value.get(), before + 1)
        self.add("x@dst.example", is_dmarc_report=True)
        self.assertEqual(self.dialer.delivered[1][0], "mx2.example")

    def test_requiretls_without_policy_fails_at_once(self) -> None:
        self.add("x@dst.example", require_tls=True)
        (retired,) = self.retired()
        result = retired.results[0]
        self.assertEqual((result.success, result.code, result.secode), (False, 554, "7.30"))
        self.assertEqual(self.dialer.targets, [])


class Retries(Case):
    def setUp(self) -> None:
        super().setUp()
        self.times: list[float] = []

        def answer(transaction: Any) -> Any:
            self.times.append(self.clock.seconds())
            return refused(reply(451, "3.0", "later"))

        self.dialer.answers = {"mx1.example": answer, "mx2.example": refused(reply(451, "3.0"))}

    def test_schedule_and_giving_up(self) -> None:
        self.add("x@dst.example")
        self.settle(60_000)
        self.assertEqual(len(self.times), 8)
        for time, expected in zip(self.times, ATTEMPTS, strict=True):
            self.assertLess(abs(time - expected), expected * 0.012 + 120)
        (retired,) = self.retired()
        self.assertEqual((retired.success, retired.attempts), (False, 8))
        self.assertEqual([r.code for r in retired.results], [451] * 8)
        delayed, failed = self.inbox()
        self.check_delayed(delayed)
        dsn = read_dsn(failed)
        (recipient,) = dsn.recipients
        self.assertEqual((recipient.action, recipient.status), ("failed", "5.3.0"))
        self.assertIsNone(recipient.will_retry_until)
        self.assertIn("451 4.3.0", recipient.diagnostic)
        self.assertEqual(job(self.store, suppressions.suppressions), [])

    def check_delayed(self, data: bytes) -> None:
        self.assertTrue(data.startswith(b"Return-Path: <>\r\nDelivered-To: me@example.org\r\n"))
        dsn = read_dsn(data)
        (recipient,) = dsn.recipients
        self.assertEqual((recipient.action, recipient.status), ("delayed", "4.3.0"))
        base = 1_750_000_000
        until = (recipient.will_retry_until or 0) // 1_000_000 - base
        self.assertLess(abs(until - self.times[7]), 0.01 * until + 120)
        self.assertIn(b"in 2 hours, in 6 hours, in 14 hours", data)
        self.assertIn(b"References: <1@x>", data)
        self.assertEqual(dsn.reporting_mta, "mail.example.org")
        self.assertIn(b"Subject: hi", data)
        self.assertNotIn(b"\r\nbody\r\n", data)

    def test_fewer_attempts_allowed(self) -> None:
        self.add("x@dst.example", max_attempts=2)
        self.settle(1000)
        self.assertEqual(len(self.times), 2)
        self.assertEqual(len(self.inbox()), 1)

    def test_success_in_the_end(self) -> None:
        self.add("x@dst.example")
        self.settle(500)
        self.dialer.answers.clear()
        self.settle(1000)
        (retired,) = self.retired()
        self.assertEqual((retired.success, retired.attempts), (True, 3))
        self.assertEqual(self.inbox(), [])

    def test_dmarc_report(self) -> None:
        self.add("x@dst.example", is_dmarc_report=True, max_attempts=5)
        self.settle(8000)
        self.assertEqual(self.inbox(), [])
        self.assertEqual(len(self.inbox("me", "Postmaster/dmarc")), 1)

    def test_store_stays_consistent(self) -> None:
        self.add("x@dst.example", "y@dst.example")
        self.settle(60_000)
        self.assertEqual(len(self.inbox()), 4)
        self.assertEqual(now(Deferred.fromCoroutine(verify_all(self.store))), [])


class Failures(Case):
    def test_failure_notification(self) -> None:
        self.dialer.answers["mx1.example"] = refused(reply(550, "1.1", "unknown", "mx1.example"))
        self.add("x@dst.example", future_release="for;5")
        (notice,) = self.inbox()
        dsn = read_dsn(notice)
        (recipient,) = dsn.recipients
        self.assertEqual(str(recipient.final_recipient), "x@dst.example")
        self.assertEqual((recipient.action, recipient.status), ("failed", "5.1.1"))
        self.assertEqual(recipient.remote_mta, "mx1.example")
        self.assertEqual(recipient.diagnostic, "550 5.1.1 unknown")
        self.assertEqual(dsn.future_release, "for;5")
        self.assertIn(b"Full reply", notice)

    def test_many_failures_are_stored_in_parts_behind_what_was_delivered(self) -> None:
        good = [f"good{n}@dst.example" for n in range(3)]
        bad = [f"bad{n}@dst.example" for n in range(120)]
        self.dialer.answers["mx1.example"] = lambda transaction: [
            refused(reply(550, "1.1")) if recipient.startswith("bad") else TAKEN
            for recipient in transaction.recipients
        ]
        parts: list[tuple[int, int]] = []
        finished = outcome._store_all

        async def store_all(*args: Any, **more: Any) -> Any:
            due = await finished(*args, **more)
            parts.append((len(self.inbox()), sum(r.success for r in self.retired())))
            return due

        self.patch(outcome, "_store_all", store_all)
        self.add(*bad[:60], *good, *bad[60:])
        self.assertEqual(parts, [(0, 3), (50, 3), (100, 3), (120, 3)])
        self.assertEqual(len(self.retired()), 123)
        self.assertEqual(self.queued(), [])

    def test_suppression_at_once(self) -> None:
        self.dialer.answers["mx1.example"] = refused(reply(550, "1.1"))
        self.add("x.Y+z@dst.example")
        (entry,) = job(self.store, suppressions.suppressions, "me")
        self.assertEqual(entry.base_address, "xy@dst.example")
        self.assertIn("550 5.1.1", entry.reason)
        self.dialer.answers.clear()
        self.add("xy@dst.example", "z@dst.example")
        recipients = [t.recipients for _, t in self.dialer.delivered]
        self.assertEqual(recipients[1:], [("z@dst.example",)])
        results = {r.recipient_localpart: r.success for r in self.retired()}
        self.assertEqual(results, {"x.Y+z": False, "xy": False, "z": True})
        self.add("xy@dst.example", sender_account="other")
        self.assertEqual(len(self.dialer.delivered), 3)

    def test_suppression_after_three_failures(self) -> None:
        self.dialer.answers["mx1.example"] = refused(reply(554, "3.0"))
        for number in range(1, 4):
            self.add("x@dst.example")
            self.clock.advance(1)
            entries = job(self.store, suppressions.suppressions)
            self.assertEqual(len(entries), 1 if number == 3 else 0)

    def test_null_sender(self) -> None:
        self.dialer.answers["mx1.example"] = refused(reply(550, "1.1"))
        self.add("x@dst.example", sender_localpart="", sender_domain="")
        self.assertEqual(self.dialer.delivered[0][1].mail_from, "")
        (notice,) = self.inbox()
        self.assertIn(b"To: <>", notice)

    def test_account_that_is_gone(self) -> None:
        self.dialer.answers["mx1.example"] = refused(reply(550, "1.1"))
        self.add("x@dst.example", sender_account="gone")
        self.assertEqual(len(self.inbox("me", "Postmaster")), 1)
        (retired,) = self.retired()
        self.assertEqual(retired.keep_until - retired.last_activity, 7 * 86400 * 1_000_000)

    def test_smtputf8_notification(self) -> None:
        self.dialer.answers["mx1.example"] = refused(reply(550, "1.1"))
        self.add("é@dst.example", smtputf8=True)
        (notice,) = self.inbox()
        self.assertIn(b"message/global-delivery-status", notice)

    def test_failure_that_nobody_wants_to_hear_of(self) -> None:
        self.dialer.answers["mx1.example"] = refused(reply(550, "1.1"))
        for notify in (Notify.NEVER, Notify.SUCCESS | Notify.DELAY):
            self.add("x@dst.example", dsn=DSNRequest(notify=notify))
        self.assertEqual(self.inbox(), [])
        self.assertEqual([r.success for r in self.retired()], [False, False])

    def test_what_the_sender_called_things(self) -> None:
        self.dialer.answers["mx1.example"] = refused(reply(550, "3.0"))
        request = DSNRequest("FULL", "e 1", Notify.FAILURE, "rfc822;X@dst.example")
        self.add("x@dst.example", dsn=request)
        (notice,) = self.inbox()
        dsn = read_dsn(notice)
        self.assertEqual(dsn.envelope_id, "e 1")
        self.assertEqual(dsn.recipients[0].original_recipient, "rfc822;X@dst.example")
        self.assertIn(b"Content-Type: message/rfc822\r\n", notice)
        self.assertIn(BODY, notice)
        self.assertEqual(self.retired()[0].dsn, request)

    def test_success_is_told_where_the_next_host_does_not_do_it(self) -> None:
        wanted = DSNRequest(notify=Notify.SUCCESS)
        self.add("x@dst.example", dsn=wanted)
        (notice,) = self.inbox()
        (recipient,) = read_dsn(notice).recipients
        self.assertEqual((recipient.action, recipient.status), ("relayed", "2.0.0"))
        self.assertNotIn(b"body", notice)
        self.dialer.answers["mx1.example"] = replace(TAKEN, dsn=True)
        self.add("x@dst.example", dsn=wanted)
        self.add("y@dst.example")
        self.assertEqual(len(self.inbox()), 1)
        self.assertEqual(self.dialer.delivered[0][1].dsn, (wanted,))

    def test_delay_that_nobody_wants_to_hear_of(self) -> None:
        self.dialer.answers["mx1.example"] = refused(reply(451))
        self.dialer.answers["mx2.example"] = refused(reply(451))
        self.add("x@dst.example", dsn=DSNRequest(notify=Notify.FAILURE))
        self.settle(60_000)
        (notice,) = self.inbox()
        self.assertEqual(read_dsn(notice).recipients[0].action, "failed")

    def test_domain_of_sender_disabled(self) -> None:
        (message_id,) = self.add("x@dst.example", sender_domain="off.example")
        self.assertIn("disabled", self.get(message_id).results[0].error)
        self.assertEqual(self.dialer.targets, [])

    def test_message_removed_during_its_delivery(self) -> None:
        done: Deferred[Any] = Deferred()
        self.dialer.connects["mx1.example"] = done
        (message_id,) = self.add("x@dst.example")
        job(self.store, lambda tx: queuedb.retire(tx, queuedb.get(tx, message_id), False, 0))
        self.dialer.answers["mx1.example"] = refused(reply(550))
        done.callback(DeliveryError(Trouble.DIAL, "no"))
        self.assertEqual((self.queued(), self.retired(), self.inbox()), ([], [], []))

    def test_unforeseen_exception_is_a_temporary_failure(self) -> None:
        def answer(transaction: Any) -> Any:
            raise KeyError("bug")

        self.dialer.answers["mx1.example"] = answer
        before = metrics.panic_total.labels("queue")._value.get()
        (message_id,) = self.add("x@dst.example")
        self.assertIn("internal error", self.get(message_id).results[0].error)
        self.assertEqual(metrics.panic_total.labels("queue")._value.get(), before + 1)
        self.flushLoggedErrors(KeyError)
        self.add("x@d2.example")
        self.assertEqual(len(self.retired()), 1)


class Scheduling(Case):
    def hold_all(self) -> dict[str, Deferred[Any]]:
        waiting: dict[str, Deferred[Any]] = {}

        def connect(target: Any) -> Any:
            waiting[target.host] = Deferred()
            return waiting[target.host]

        for number in range(30):
            self.dialer.connects[f"mx{number}.example"] = connect
        return waiting

    def test_so_many_domains_at_once(self) -> None:
        waiting = self.hold_all()
        for number in range(15):
            self.add(f"x@d{number}.example")
        self.assertEqual(len(waiting), MAX_BUSY)
        first = next(iter(waiting))
        waiting[first].callback(None)
        self.assertEqual(len(waiting), MAX_BUSY + 1)

    def test_one_delivery_at_a_time_to_a_domain(self) -> None:
        waiting = self.hold_all()
        self.add("x@d1.example")
        self.add("y@d1.example")
        self.assertEqual(len(self.dialer.targets), 1)
        waiting["mx1.example"].callback(None)
        self.assertEqual(len(self.dialer.delivered), 2)

    def test_messages_due_later(self) -> None:
        self.add("x@dst.example", next_attempt=self.store.now() + 3_600_000_000)
        self.assertEqual(self.dialer.delivered, [])
        self.settle(3590)
        self.assertEqual(self.dialer.delivered, [])
        self.settle(60)
        self.assertEqual(len(self.dialer.delivered), 1)

    def test_held_messages_wait(self) -> None:
        job(self.store, queuedb.hold_rule_add, "", "", "dst.example")
        (message_id,) = self.add("x@dst.example")
        self.settle(100)
        self.assertEqual(self.dialer.delivered, [])
        self.assertEqual(metrics.queue_hold._value.get(), 1)
        job(self.store, queuelists.set_hold, [message_id], False)
        self.assertEqual(len(self.dialer.delivered), 1)
        self.assertEqual(metrics.queue_hold._value.get(), 0)

    def test_a_long_line_for_one_domain_does_not_stop_others(self) -> None:
        waiting = self.hold_all()
        for _ in range(60):
            self.add("x@d0.example")
        for number in range(1, 12):
            self.add(f"x@d{number}.example")
        del self.dialer.connects["mx11.example"]
        del self.dialer.connects["mx10.example"]
        waiting["mx0.example"].callback(None)
        hosts = [host for host, _ in self.dialer.delivered]
        self.assertEqual(hosts[:22], ["mx0.example"] * 20 + ["mx10.example", "mx11.example"])
        self.assertEqual(len(self.dialer.delivered), 62)

    def test_error_of_the_database(self) -> None:
        def broken(*_: Any) -> Any:
            raise OSError("disk")

        self.patch(queuedb, "gather", broken)
        self.add("x@dst.example")
        self.flushLoggedErrors(OSError)
        self.patch(queuedb, "gather", lambda *_: [])
        self.settle(55)
        self.assertEqual(self.dialer.delivered, [])
        self.settle(10)
        self.assertEqual(len(self.dialer.delivered), 1)

    def test_nothing_runs_when_stopped(self) -> None:
        self.successResultOf(self.service.stopService())
        self.add("x@dst.example")
        self.settle(1000)
        self.assertEqual(self.dialer.delivered, [])


class Stopping(Case):
    def begin(self) -> tuple[int, Deferred[Any]]:
        done: Deferred[Any] = Deferred()
        self.dialer.answers["mx1.example"] = done
        (message_id,) = self.add("x@dst.example")
        return message_id, done

    def test_stop_waits_for_an_attempt(self) -> None:
        _, done = self.begin()
        stopped = self.service.stopService()
        self.clock.advance(2)
        self.assertNoResult(stopped)
        done.callback(TAKEN)
        self.successResultOf(stopped)
        self.assertEqual([r.success for r in self.retired()], [True])

    def test_stop_does_not_wait_for_ever(self) -> None:
        message_id, _ = self.begin()
        stopped = self.service.stopService()
        self.clock.advance(3)
        self.successResultOf(stopped)
        message = self.get(message_id)
        self.assertTrue(message.delivering)
        self.dialer.answers.clear()
        self.make_service()
        (retired,) = self.retired()
        self.assertEqual([r.success for r in retired.results], [False, True])
        self.assertIn("interrupted", retired.results[0].error)

    def test_what_was_decided_is_kept_when_stopped(self) -> None:
        done: Deferred[Any] = Deferred()
        self.dialer.answers["mx1.example"] = [TAKEN, refused(reply(450, "2.1"))]
        self.dialer.answers["mx2.example"] = done
        self.add("a@dst.example", "b@dst.example")
        stopped = self.service.stopService()
        self.clock.advance(3)
        self.successResultOf(stopped)
        self.assertEqual([r.recipient_localpart for r in self.retired()], ["a"])
        (left,) = self.queued()
        self.assertTrue(left.delivering)

    def test_message_that_ends_every_attempt_is_given_up(self) -> None:
        self.begin()
        restarts = 0
        while self.queued():
            restarts += 1
            stopped = self.service.stopService()
            self.clock.advance(3)
            self.successResultOf(stopped)
            self.dialer.answers["mx1.example"] = Deferred()
            self.service = self.make_service()
        self.assertEqual(restarts, 9)
        (retired,) = self.retired()
        self.assertIn("interrupted", retired.results[-1].error)
        self.assertEqual(len(self.inbox()), 1)

    def test_no_timers_are_left(self) -> None:
        self.add("x@dst.example", next_attempt=self.store.now() + 3_600_000_000)
        self.successResultOf(self.service.stopService())
        left = [c for c in self.clock.getDelayedCalls() if "moxtw.queue" in repr(c.func)]
        self.assertEqual(left, [])


class Transports(Case):
    static = STATIC + """\
Transports:
	hard:
		Fail:
			SMTPMessage: not from here
	soft:
		Fail:
			SMTPCode: 421
	four:
		Direct:
			DisableIPv6: true
	smart:
		Submission:
			Host: smart.example
			Auth:
				Username: u
				Password: p
	plain:
		SMTP:
			Host: smart.example
			Port: 2525
			NoSTARTTLS: true
	sure:
		Submissions:
			Host: smart.example
	socks:
		Socks:
			Address: localhost:9050
			RemoteIPs:
				- 127.0.0.1
			RemoteHostname: x.example
"""

    def setUp(self) -> None:
        super().setUp()
        self.resolver.add("smart.example.", "A", "127.0.0.5")

    def test_fail(self) -> None:
        self.add("x@dst.example", transport="hard")
        (retired,) = self.retired()
        self.assertEqual((retired.results[0].code, retired.results[0].secode), (554, "7.0"))
        (message_id,) = self.add("x@dst.example", transport="soft")
        self.assertEqual(self.get(message_id).results[0].code, 421)
        self.assertEqual(self.dialer.targets, [])

    def test_unknown(self) -> None:
        (message_id,) = self.add("x@dst.example", transport="gone")
        self.assertIn("not configured", self.get(message_id).results[0].error)

    def test_direct_with_one_family(self) -> None:
        self.add("x@dual.example", transport="four")
        self.assertEqual(self.dialer.targets[0].ips, ("127.0.0.3",))

    def test_smarthosts(self) -> None:
        for name, port, mode, verify in (
            ("smart", 587, TLSMode.REQUIRED, True),
            ("plain", 2525, TLSMode.SKIP, False),
            ("sure", 465, TLSMode.IMMEDIATE, True),
        ):
            self.add("x@dst.example", transport=name)
            target = self.dialer.targets[-1]
            self.assertEqual(
                (target.host, target.ips, target.port, target.tls, target.verify),
                ("smart.example", ("127.0.0.5",), port, mode, verify),
            )
            self.assertEqual(target.login is not None, name == "smart")
            self.assertTrue(self.dialer.delivered[-1][1].require_8bitmime)
        self.assertEqual(len(self.retired()), 3)

    def test_time_for_a_transaction_goes_by_the_size_of_its_message(self) -> None:
        job(self.store, queuedb.hold_rule_add, "", "", "")
        large = BODY + b"x" * (3 << 20) + b"\r\n"
        ids = [
            *self.add("x@dst.example", transport="smart"),
            *self.add("x@dst.example", transport="smart"),
            *self.add("x@dst.example", transport="smart", body=large),
        ]
        job(self.store, queuelists.set_hold, ids, False)
        self.assertEqual(len(self.dialer.delivered), 3)
        times = [target.timeouts.transaction for target in self.dialer.targets]
        self.assertEqual([int(t or 0) for t in times], [61, 64])

    def test_requiretls_needs_verified_smarthost(self) -> None:
        self.add("x@dst.example", transport="plain", require_tls=True)
        (retired,) = self.retired()
        self.assertEqual((retired.results[0].code, retired.results[0].secode), (554, "7.30"))

    def test_socks(self) -> None:
        self.add("x@dst.example", transport="socks")
        [target] = self.dialer.targets
        socks = self.config.static.transports["socks"].socks
        assert socks is not None
        self.assertEqual(target.proxy, ("127.0.0.1", socks.port))
        self.assertEqual(target.ehlo, socks.remote_hostname)
        self.assertEqual((target.host, target.ips[0]), ("mx1.example", "127.0.0.1"))
        self.assertEqual(len(self.retired()), 1)

    def test_gathered_recipients_share_the_transport(self) -> None:
        job(self.store, queuedb.hold_rule_add, "", "", "")
        first, second = self.add("a@dst.example", "b@dst.example")
        job(self.store, queuelists.set_transport, [second], "four")
        job(self.store, queuelists.set_hold, [first, second], False)
        self.assertEqual([len(t.recipients) for _, t in self.dialer.delivered], [1, 1])


class LocalServer(Case):
    def setUp(self) -> None:
        super().setUp()
        self.successResultOf(self.service.stopService())
        from moxtw.queue.service import local_target

        self.service = self.make_service(local=local_target(self.config))

    def test_all_goes_to_itself(self) -> None:
        self.add("x@whatever.invalid")
        (target,) = self.dialer.targets
        self.assertEqual((target.ips, target.port), (("127.0.0.1",), 1025))
        self.assertEqual(target.ehlo, "localhost")
        self.assertEqual(self.dialer.delivered[0][1].recipients, ("x@whatever.invalid",))

    def test_asked_failures(self) -> None:
        (temporary,) = self.add("queuetemperror@a.example")
        self.assertEqual(self.get(temporary).results[0].code, 451)
        self.add("queuepermerror@b.example")
        self.add("queue-550@c.example")
        self.assertEqual([r.results[0].code for r in self.retired()], [550, 550])
        self.assertEqual(self.dialer.targets, [])
        self.add("queue@d.example")
        self.assertEqual(len(self.dialer.targets), 1)

    def test_asked_timeout(self) -> None:
        (message_id,) = self.add("queuetimeout@a.example")
        self.settle(3550)
        self.assertTrue(self.get(message_id).delivering)
        self.settle(100)
        self.assertEqual(self.get(message_id).results[0].code, 451)
