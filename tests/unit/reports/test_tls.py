"""Reports on TLS to others: when, to whom, with what."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from moxtw.mail import attachedreport
from moxtw.mail.header import parse_headers
from moxtw.mail.mime import parse_message
from moxtw.reports.tls import Due, TLSReports
from moxtw.store import tlsresults
from moxtw.tlspolicy.tlsreport import Report, parse_report
from moxtw.tlspolicy.tlsrpt import Failure, Result
from tests.support.store import job
from tests.unit.reports.support import NOON, ReportCase

DAY = 86400
FAILURE = Failure("certificate-expired", receiving_mx_hostname="mx.example.net")
BAD = Result("sts", "example.net", success=3, failure=1, failures={FAILURE: 1})
GOOD = Result("no-policy-found", "example.net", success=2)
HOST = Result("tlsa", "mx.host.example", ("3 1 1 aa",), success=1, failure=1,
              failures={Failure("validation-failure"): 1})  # fmt: skip


class TLSTests(ReportCase):
    def setUp(self) -> None:
        super().setUp()
        self.reports = TLSReports(self.store, self.config, self.resolver, self.outbox)
        self.publish("example.net", "mailto:tls@example.net")

    def publish(self, domain: str, *uris: str) -> None:
        self.resolver.zones.pop(f"_smtp._tls.{domain}.", None)
        self.resolver.add(f"_smtp._tls.{domain}", "TXT", f"v=TLSRPTv1; rua={','.join(uris)}")

    def add(
        self,
        *results: tuple[Result, bool],
        domain: str = "example.net",
        at: int = NOON - DAY,
        send: bool = True,
    ) -> None:
        now, self.clock.rightNow = self.clock.rightNow, at
        job(self.store, tlsresults.add, domain, results, send_report=send)
        self.clock.rightNow = now

    def due(self) -> list[Due]:
        return self.run_now(self.reports.due(NOON))

    def send_all(self) -> list[bool]:
        return [self.run_now(self.reports.send(each)) for each in self.due()]

    def reported(self, data: bytes) -> Report:
        return parse_report(attachedreport.tls_report(data))

    def test_report(self) -> None:
        self.add((BAD, False), (HOST, True))
        self.add((BAD, False))
        self.add((GOOD, False), at=NOON)
        self.assertEqual(self.send_all(), [True, False])
        [(row, data)] = self.queue()
        self.assertEqual(row.recipient, "tls@example.net")
        self.assertEqual(row.sender, "postmaster@example.org")
        self.assertTrue(row.is_tls_report)
        self.assertEqual((row.require_tls, row.max_attempts), (False, 5))
        report = self.reported(data)
        self.assertEqual(report.report_id, "20261124.example.net@example.org")
        self.assertEqual(report.organization, "example.org")
        begin = NOON - NOON % DAY - DAY
        self.assertEqual((report.start, report.end), (begin, begin + DAY - 1))
        twice = replace(BAD, success=6, failure=2, failures={FAILURE: 2})
        self.assertEqual(report.policies, (twice, HOST))
        headers = parse_headers(data)
        self.assertEqual(headers.get("TLS-Report-Domain"), "example.net")
        self.assertEqual(headers.get("TLS-Report-Submitter"), "example.org")
        self.assertEqual(headers.get("TLS-Required"), "No")
        signed = (headers.get("DKIM-Signature") or "").replace(" ", "").lower()
        self.assertIn("tls-report-domain:tls-report-domain:", signed)
        self.assertIn("tls-report-submitter:", signed)
        root = parse_message(data)
        self.assertEqual(root.params["report-type"], "tlsrpt")
        name = f"example.org!example.net!{begin}!{begin + DAY - 1}.json.gz"
        self.assertEqual(root.parts[1].filename, name)
        # Told once.
        self.assertEqual(self.send_all(), [])

    def test_only_with_failures(self) -> None:
        self.add((GOOD, False))
        self.assertEqual(self.send_all(), [False])
        self.assertEqual(self.due(), [])

    def test_all_success_if_wanted(self) -> None:
        object.__setattr__(self.config.static, "outgoing_tls_reports_for_all_success", True)
        self.add((GOOD, False))
        self.assertEqual(self.send_all(), [True])

    def test_not_about_reports_alone(self) -> None:
        self.add((BAD, False), send=False)
        self.assertEqual(self.send_all(), [False])

    def test_hosts(self) -> None:
        self.publish("mx.host.example", "mailto:tls@host.example")
        self.publish("same.example", "mailto:tls@host.example")
        for domain in ("example.net", "same.example", "none.example"):
            self.add((HOST, True), domain=domain)
        self.assertEqual(
            sorted(each.domain for each in self.due()),
            ["example.net", "mx.host.example", "none.example", "same.example"],
        )
        self.send_all()
        queued = [(row.recipient, self.reported(data)) for row, data in self.queue()]
        self.assertEqual(
            sorted((to, report.report_id.partition("@")[0]) for to, report in queued),
            [
                ("tls@example.net", "20261124.example.net"),
                ("tls@host.example", "20261124.mx.host.example"),
                ("tls@host.example", "20261124.same.example"),
            ],
        )
        [report] = [each for _, each in queued if "mx.host" in each.report_id]
        self.assertEqual(
            [(policy.domain, policy.mx_hosts) for policy in report.policies],
            [("example.net", ("mx.host.example",)), ("none.example", ("mx.host.example",))],
        )

    def test_no_record(self) -> None:
        self.add((BAD, False), domain="quiet.example")
        self.assertEqual(self.send_all(), [False])
        self.assertEqual(self.due(), [])

    def test_bad_record_and_https(self) -> None:
        self.resolver.add("_smtp._tls.bad.example", "TXT", "v=TLSRPTv1; x")
        self.publish("web.example", "https://web.example/")
        self.add((BAD, False), domain="bad.example")
        self.add((BAD, False), domain="web.example")
        self.assertEqual(self.send_all(), [False, False])
        self.assertEqual(self.due(), [])

    def test_unknown_for_now(self) -> None:
        self.resolver.fail = {"_smtp._tls.example.net.": "servfail"}
        self.add((BAD, False))
        self.assertEqual(self.send_all(), [False])
        self.resolver.fail = {}
        self.clock.rightNow += DAY
        [due] = self.run_now(self.reports.due(NOON + DAY))
        self.assertTrue(self.run_now(self.reports.send(due)))
        [(_, data)] = self.queue()
        # About its own day.
        self.assertEqual(self.reported(data).report_id, "20261124.example.net@example.org")

    def test_old_results_are_dropped(self) -> None:
        self.add((BAD, False), at=NOON - 3 * DAY)
        self.assertEqual(self.due(), [])
        self.assertEqual(job(self.store, tlsresults.list_all), [])

    def test_nobody_signs(self) -> None:
        self.add((BAD, False))
        self.add((BAD, False), at=NOON)
        domain: Any = self.config.domains["example.org"]
        object.__setattr__(domain.dkim, "sign_selectors", ())
        self.assertEqual(self.due(), [])
        [left] = job(self.store, tlsresults.list_all)
        self.assertEqual(left.day, "20261125")
