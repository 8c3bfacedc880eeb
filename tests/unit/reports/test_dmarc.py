"""Aggregate reports of DMARC to others: when, to whom, with what."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from moxtw.authn.dmarcreport import Feedback, Published, Reason, parse_feedback
from moxtw.mail import attachedreport
from moxtw.mail.mime import parse_message
from moxtw.reports import service
from moxtw.reports.dmarc import DMARCReports
from moxtw.reports.service import ReportService
from moxtw.store import dmarcdb, reportsuppressions
from tests.support.store import job
from tests.unit.authn.test_dmarcreport import ROW
from tests.unit.reports.support import NOON, ReportCase

HOUR = 3600
PUBLISHED = Published("example.net", "r", "r", "reject")
FOREVER = 1 << 62


class Uniform:
    """In place of random: always the least."""

    def uniform(self, low: float, high: float) -> float:
        return low


class DMARCCase(ReportCase):
    def setUp(self) -> None:
        super().setUp()
        self.reports = DMARCReports(self.store, self.config, self.resolver, self.outbox)
        self.publish("mailto:reports@example.net")

    def publish(self, *uris: str, domain: str = "example.net", more: str = "") -> None:
        self.resolver.zones.pop(f"_dmarc.{domain}.", None)
        text = f"v=DMARC1; p=reject; rua={','.join(uris)}{more}"
        self.resolver.add(f"_dmarc.{domain}", "TXT", text)

    def evaluated(
        self,
        domain: str = "example.net",
        at: int = NOON - 10,
        hours: int = 24,
        optional: bool = False,
        **fields: Any,
    ) -> None:
        now, self.clock.rightNow = self.clock.rightNow, at
        made = dmarcdb.NewEvaluation(
            domain, optional, hours, ("mailto:x",), PUBLISHED, replace(ROW, **fields)
        )
        job(self.store, dmarcdb.add_evaluations, [made])
        self.clock.rightNow = now

    def left(self, domain: str = "example.net") -> int:
        return len(job(self.store, dmarcdb.evaluations, domain))

    def send(self, end: int = NOON, domain: str = "example.net") -> bool:
        return bool(self.run_now(self.reports.send(domain, end)))

    def feedback(self, data: bytes) -> Feedback:
        return parse_feedback(attachedreport.dmarc_report(data))


class DueTests(DMARCCase):
    def due(self, end: int) -> list[str]:
        return self.run_now(self.reports.due(end))

    def test_intervals(self) -> None:
        self.evaluated("day.example", hours=24)
        self.evaluated("half.example", hours=12)
        self.evaluated("hour.example", hours=1)
        self.evaluated("both.example", hours=24)
        self.evaluated("both.example", hours=4)
        midnight = NOON + 12 * HOUR
        self.assertEqual(self.due(NOON), ["both.example", "half.example", "hour.example"])
        self.assertEqual(self.due(NOON + HOUR), ["hour.example"])
        self.assertEqual(
            self.due(midnight), ["both.example", "day.example", "half.example", "hour.example"]
        )

    def test_what_comes_later_is_not_due(self) -> None:
        self.evaluated(at=NOON, hours=1)
        self.assertEqual(self.due(NOON), [])
        self.assertEqual(self.due(NOON + HOUR), ["example.net"])

    def test_optional_alone_is_dropped_when_due(self) -> None:
        self.evaluated(hours=2, optional=True)
        self.assertEqual(self.due(NOON + HOUR), [])
        self.assertEqual(self.left(), 1)
        self.assertEqual(self.due(NOON + 2 * HOUR), [])
        self.assertEqual(self.left(), 0)
        self.evaluated(hours=2, optional=True)
        self.evaluated(hours=2)
        self.assertEqual(self.due(NOON), ["example.net"])

    def test_old_ones_are_dropped(self) -> None:
        self.evaluated(at=NOON - 48 * HOUR - 1, hours=1)
        self.evaluated("kept.example", at=NOON - 48 * HOUR, hours=1)
        self.assertEqual(self.due(NOON), ["kept.example"])
        self.assertEqual(self.left(), 0)


class SendTests(DMARCCase):
    def test_report(self) -> None:
        self.evaluated(at=NOON - 30 * HOUR)
        self.evaluated()
        self.evaluated(disposition="none", reasons=(Reason("forwarded"),))
        self.evaluated(at=NOON + 1)
        self.assertTrue(self.send())
        self.assertEqual(self.left(), 1)
        [(row, data)] = self.queue()
        self.assertEqual(row.recipient, "reports@example.net")
        self.assertEqual(row.sender, "postmaster@mail.example.org")
        self.assertEqual((row.sender_account, row.max_attempts), ("me", 5))
        self.assertTrue(row.is_dmarc_report)
        head = data.partition(b"\r\n\r\n")[0].decode().replace("\r\n\t", " ")
        self.assertIn("To: <reports@example.net>", head)
        self.assertIn("From: <postmaster@mail.example.org>", head)
        feedback = self.feedback(data)
        self.assertIn(
            f"Subject: Report Domain: example.net Submitter: mail.example.org Report-ID:"
            f" <{feedback.report_id}>",
            head.replace("\r\n ", " "),
        )
        self.assertTrue(feedback.report_id.startswith("20261125.12."))
        self.assertEqual((feedback.begin, feedback.end), (NOON - 48 * HOUR, NOON - 1))
        self.assertEqual(feedback.email, "postmaster@mail.example.org")
        self.assertEqual(feedback.published, replace(PUBLISHED, subdomain_policy="reject"))
        self.assertEqual([each.count for each in feedback.records], [1, 2])
        [_, file] = parse_message(data).parts
        name = f"mail.example.org!example.net!{NOON - 48 * HOUR}!{NOON - 1}.xml.gz"
        self.assertEqual((file.content_type, file.filename), ("application/gzip", name))

    def test_no_record_any_more(self) -> None:
        self.resolver.zones.clear()
        self.evaluated()
        self.assertFalse(self.send())
        self.assertEqual(self.left(), 0)

    def test_unknown_for_now(self) -> None:
        self.resolver.fail = {"_dmarc.example.net.": "servfail"}
        self.evaluated()
        self.assertFalse(self.send())
        self.assertEqual((self.left(), self.queue()), (1, []))

    def test_only_mail(self) -> None:
        self.publish("https://example.net/", "ftp://example.net/")
        self.evaluated()
        self.assertFalse(self.send())
        self.assertEqual(self.left(), 0)

    def test_others_must_agree(self) -> None:
        self.publish(
            "mailto:a@sub.example.net", "mailto:b@taker.example", "mailto:c@other.example",
            "mailto:d@named.example", "mailto:e@loose.example",
        )  # fmt: skip
        for domain, text in (
            ("taker.example", "v=DMARC1;"),
            ("loose.example", "v=DMARC1"),
            ("named.example", "v=DMARC1; rua=mailto:z@named.example,mailto:y@evil.example"),
            ("other.example", "something else"),
        ):
            self.resolver.add(f"example.net._report._dmarc.{domain}", "TXT", text)
        self.evaluated()
        self.assertTrue(self.send())
        queued = self.queue()
        self.assertEqual(
            [row.recipient for row, _ in queued],
            ["a@sub.example.net", "b@taker.example", "e@loose.example", "z@named.example"],
        )
        [error] = self.feedback(queued[0][1]).errors
        self.assertIn("c@other.example does not take reports", error)

    def test_agreement_unknown_for_now(self) -> None:
        self.publish("mailto:b@taker.example")
        self.resolver.fail = {"example.net._report._dmarc.taker.example.": "timeout"}
        self.evaluated()
        self.assertFalse(self.send())
        self.assertEqual(self.left(), 1)

    def test_too_large(self) -> None:
        self.publish("mailto:small@example.net!1k", "mailto:large@example.net!1g")
        for number in range(20):
            self.evaluated(source_ip=f"192.0.2.{number}")
        self.assertTrue(self.send())
        self.assertEqual([row.recipient for row, _ in self.queue()], ["large@example.net"])

    def test_too_large_for_all(self) -> None:
        self.publish("mailto:small@example.net!1k")
        self.evaluated()
        self.assertTrue(self.send())
        [(row, data)] = self.queue()
        self.assertEqual(row.recipient, "small@example.net")
        body = data.partition(b"\r\n\r\n")[2].decode()
        for word in ("Report-Date: ", "Report-Domain: example.net", "Report-ID: 20261125.12.",
                     "Report-Size: ", "Submitter: mail.example.org",
                     "Submitting-URI: mailto:small@example.net"):  # fmt: skip
            self.assertIn(word, body)

    def test_suppressed(self) -> None:
        until = (NOON + 10) * 1_000_000
        job(self.store, reportsuppressions.add, "dmarc", "reports@example.net", until, "no")
        job(self.store, reportsuppressions.add, "tls", "other@example.net", until, "")
        self.publish("mailto:reports@example.net", "mailto:other@example.net")
        self.evaluated()
        self.assertTrue(self.send())
        self.assertEqual([row.recipient for row, _ in self.queue()], ["other@example.net"])


class ServiceTests(DMARCCase):
    def setUp(self) -> None:
        super().setUp()
        self.service = ReportService(
            self.store, self.config, self.resolver, self.clock, Uniform()
        )

    def test_rounds(self) -> None:
        self.service.startService()
        for number in range(12):
            domain = f"d{number}.example"
            self.publish(f"mailto:r@{domain}", domain=domain)
            self.evaluated(domain, hours=1, at=NOON + 5)
        self.publish("mailto:r@failing.example", domain="failing.example")
        self.resolver.fail = {"_dmarc.d3.example.": "a failure that nobody foresees"}
        self.clock.advance(HOUR + 29)
        self.assertEqual(self.queue(), [])
        self.clock.advance(1)
        self.assertEqual(len(self.queue()), 1)
        # 45 minutes among 12, in turn.
        for _ in range(11):
            self.clock.advance(225)
        self.assertEqual(len(self.queue()), 11)
        self.assertEqual(self.left("d3.example"), 1)
        self.service.stopService()
        # What failed was to be tried again with the next hour.
        self.resolver.fail = {}
        self.clock.advance(2 * HOUR)
        self.assertEqual(len(self.queue()), 11)

    def test_not_if_switched_off(self) -> None:
        object.__setattr__(self.config.static, "no_outgoing_dmarc_reports", True)
        self.evaluated(hours=1)
        self.run_now(self.service.dmarc_round(NOON))
        self.assertEqual((self.left(), self.queue()), (1, []))

    def test_pause(self) -> None:
        self.assertEqual(service.pause(0, 10.0), 0.0)
        self.assertEqual(service.pause(1, service.DMARC_SPREAD), 300.0)
        self.assertEqual(service.pause(27, service.DMARC_SPREAD), 100.0)
