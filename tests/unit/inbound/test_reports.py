"""Reports that arrive by mail, and what is kept to be reported to others."""

from __future__ import annotations

import gzip
import json
from dataclasses import replace
from typing import Any

from moxtw import metrics
from moxtw.authn import NOTHING, AuthResults
from moxtw.authn.dkim import DKIMResult
from moxtw.authn.dmarc import DMARCResult
from moxtw.authn.dmarcrecord import DMARCRecord, parse_dmarc_record
from moxtw.authn.dmarcreport import feedback_xml
from moxtw.authn.iprev import IPRevResult
from moxtw.authn.results import dmarc_method
from moxtw.authn.spf import SPFResult
from moxtw.inbound.decide import Decider
from moxtw.inbound.deliver import Deliverer
from moxtw.inbound.evaluations import interval_hours
from moxtw.inbound.reports import ReportReader
from moxtw.mail.address import parse_address
from moxtw.mail.domain import parse_domain
from moxtw.store import accounts, dmarcdb, mailboxes, messages, tlsreportsdb
from moxtw.store.model import Flag
from tests.support.smtp import DYNAMIC
from tests.support.store import job
from tests.unit.authn.test_dmarcreport import REPORT
from tests.unit.inbound.test_deliver import MESSAGE, DeliverCase, FixedEvaluator
from tests.unit.tlspolicy.test_tlsreport import EXAMPLE

REPORTING = DYNAMIC.replace(
    "\t\tTLSRPT:\n",
    "\t\tDMARC:\n\t\t\tLocalpart: dmarc\n\t\t\tAccount: me\n\t\t\tMailbox: DMARC\n\t\tTLSRPT:\n",
).replace(
    "\tme:\n\t\tDomain: example.org\n",
    "\tme:\n\t\tDomain: example.org\n\t\tIntrobox: Introbox\n",
)
DOMAIN = parse_domain("example.net")
FOREVER = 1 << 62
RECORD = parse_dmarc_record("v=DMARC1; p=reject; rua=mailto:r@example.net!1m; ri=7200; fo=1")


def dmarc(status: str, record: DMARCRecord = RECORD, **fields: Any) -> DMARCResult:
    fields = {"policy": "reject", "use": True, **fields}
    return DMARCResult(status, DOMAIN, DOMAIN, record, DOMAIN, "v=DMARC1", **fields)  # type: ignore[arg-type]


def checked(policy: DMARCResult, *signatures: DKIMResult) -> AuthResults:
    return replace(
        NOTHING,
        evaluated=True,
        author=parse_address("boss@example.net"),
        iprev=IPRevResult("pass", "client.example"),
        spf=SPFResult("fail", "mailfrom", DOMAIN),
        mail_from_status="none",
        dkim=signatures,
        dmarc=policy,
        methods=(dmarc_method(policy, False),),
    )


PASS = checked(dmarc("pass", dkim_aligned=True))


def signature(domain: str = "example.net", **fields: Any) -> DKIMResult:
    return DKIMResult(
        "pass", domain=parse_domain(domain), **{"services": ("tlsrpt",), **fields}
    )


def mail(kind: str, content: bytes) -> bytes:
    head = MESSAGE.partition(b"\r\n\r\n")[0]
    return head + b"\r\nContent-Type: " + kind.encode() + b"\r\n\r\n" + content


def feedback(**published: Any) -> bytes:
    about = replace_struct(REPORT.published, domain="Example.ORG", **published)
    report = replace_struct(REPORT, published=about, begin=1_740_000_000, end=1_740_086_399)
    return mail("text/xml", feedback_xml(report))


def replace_struct(value: Any, **fields: Any) -> Any:
    return type(value)(**{name: getattr(value, name) for name in value.__struct_fields__} | fields)


TLS_REPORT = json.loads(EXAMPLE)
TLS_REPORT["policies"][0]["policy"]["policy-domain"] = "Example.org"
TLS_REPORT["policies"].append(
    {
        "policy": {"policy-type": "tlsa", "policy-domain": "other.example"},
        "summary": {"total-successful-session-count": 7},
    }
)


def tls_mail(report: Any = TLS_REPORT) -> bytes:
    return mail("application/tlsrpt+json", json.dumps(report).encode())


class ReportTests(DeliverCase):
    dynamic = REPORTING

    def setUp(self) -> None:
        super().setUp()
        self.evaluator = FixedEvaluator(PASS)
        config = self.world.config
        self.deliverer = Deliverer(
            self.store,
            config,
            Decider(self.world.rates, self.store, reports=ReportReader(self.store, config)),
            self.evaluator,
        )

    def take(self, address: str, data: bytes, auth: AuthResults = PASS) -> str:
        """Deliver; the reason for the decision."""
        self.evaluator.results = auth
        [result] = self.deliver(address, data=data)
        return result.reason

    def flags(self, account: str, mailbox: str) -> list[int]:
        def read(tx: Any) -> list[int]:
            found = mailboxes.named(tx, accounts.get(tx, account).id, mailbox)
            return [row.flags for row in messages.flags(tx, found.id, messages.ALL_UIDS)]

        return job(self.store, read)

    # -- Of DMARC ----------------------------------------------------------------------

    def test_dmarc_report(self) -> None:
        counter = metrics.dmarcdb_dkim_result_total.labels("pass")
        before = counter._value.get()
        self.assertEqual(self.take("dmarc@example.org", feedback()), "reporting")
        [stored] = job(self.store, dmarcdb.reports, 0, FOREVER)
        self.assertEqual((stored.domain, stored.from_domain), ("example.org", "example.net"))
        self.assertEqual(stored.feedback.records, REPORT.records)
        self.assertEqual(counter._value.get() - before, 3)
        self.assertEqual(self.flags("me", "DMARC"), [Flag.SEEN])
        [raw] = self.world.mailbox("me", "DMARC")
        self.assertNotIn(b"Report-Error", raw)
        # The same again is a message, but no second report.
        self.take("dmarc@example.org", feedback())
        self.assertEqual(len(job(self.store, dmarcdb.reports, 0, FOREVER)), 1)
        self.assertEqual(counter._value.get() - before, 3)
        summaries = job(self.store, dmarcdb.summaries, 0, FOREVER)
        self.assertEqual(summaries["example.org"].total, 3)

    def test_dmarc_report_that_does_not_count(self) -> None:
        for data, auth, why in (
            (feedback(), checked(dmarc("fail", policy="none")), b"no dmarc pass"),
            (MESSAGE, PASS, b"no report in message"),
            (mail("text/xml", b"<"), PASS, b"xml: "),
            (mail("text/xml", feedback_xml(REPORT)), PASS, b"not one of this server"),
            (mail("text/xml", feedback_xml(replace_struct(
                REPORT, published=replace_struct(REPORT.published, domain="example.org")))),
             PASS, b"in the future"),
        ):  # fmt: skip
            self.assertNotEqual(self.take("dmarc@example.org", data, auth), "reporting")
            raw = self.world.mailbox("me", "DMARC")[-1]
            [line] = [x for x in raw.split(b"\r\n") if x.startswith(b"X-Mox-DMARCReport-Error:")]
            self.assertIn(why, line)
        self.assertEqual(job(self.store, dmarcdb.reports, 0, FOREVER), [])

    def test_only_at_addresses_for_reports(self) -> None:
        self.assertEqual(self.take("me@example.org", feedback()), "no-bad-signals")
        self.assertEqual(job(self.store, dmarcdb.reports, 0, FOREVER), [])

    # -- Of TLS ------------------------------------------------------------------------

    def test_tls_report(self) -> None:
        auth = checked(dmarc("none"), signature())
        self.assertEqual(self.take("tlsrpt@example.org", tls_mail(), auth), "reporting")
        [stored] = job(self.store, tlsreportsdb.reports, 0, FOREVER)
        self.assertEqual((stored.domain, stored.host_report), ("example.org", False))
        self.assertEqual(stored.mail_from, "news@example.net")
        self.assertEqual((stored.report.success, stored.report.failure), (5326, 303))
        [summary] = job(self.store, tlsreportsdb.summaries, 0, FOREVER, "example.org")
        self.assertEqual((summary.success, summary.types["certificate-expired"]), (5326, 100))
        self.assertEqual(
            job(self.store, tlsreportsdb.report, "example.org", stored.id), stored
        )

    def test_packed_tls_report(self) -> None:
        auth = checked(dmarc("none"), signature())
        data = mail("application/tlsrpt+gzip\r\nContent-Transfer-Encoding: binary",
                    gzip.compress(json.dumps(TLS_REPORT).encode()))  # fmt: skip
        self.assertEqual(self.take("tlsrpt@example.org", data, auth), "reporting")

    def test_tls_report_that_does_not_count(self) -> None:
        other = {**TLS_REPORT, "policies": TLS_REPORT["policies"][1:]}
        for data, signatures in (
            (tls_mail(), ()),
            (tls_mail(), (signature("example.com"),)),
            (tls_mail(), (signature("sub.example.net"),)),
            (tls_mail(), (signature("net"),)),
            (tls_mail(), (signature(length=10),)),
            (tls_mail(), (signature(services=("email",)),)),
            (tls_mail(), (replace(signature(), status="fail"),)),
            (tls_mail(other), (signature(),)),
            (MESSAGE, (signature(),)),
        ):
            auth = checked(dmarc("none"), *signatures)
            self.assertNotEqual(self.take("tlsrpt@example.org", data, auth), "reporting")
            self.assertIn(b"X-Mox-TLSReport-Error: ", self.world.mailbox("me", "TLSRPT")[-1])
        self.assertEqual(job(self.store, tlsreportsdb.reports, 0, FOREVER), [])

    # -- To be reported ----------------------------------------------------------------

    def evaluations(self) -> list[dmarcdb.Evaluation]:
        return job(self.store, dmarcdb.evaluations, "example.net")

    def test_evaluation(self) -> None:
        auth = checked(
            dmarc("pass", dkim_aligned=True),
            signature("mail.example.net", reason="x"),
            signature("esp.example"),
        )
        self.take("me@example.org", MESSAGE, auth)
        [found] = self.evaluations()
        row = found.row
        self.assertEqual((found.interval_hours, found.optional), (2, False))
        self.assertEqual(found.addresses, ("mailto:r@example.net!1048576",))
        self.assertEqual((row.disposition, row.dkim, row.spf), ("none", "pass", "fail"))
        self.assertEqual(row.source_ip, "192.0.2.1")
        self.assertEqual(
            (row.envelope_to, row.envelope_from, row.header_from),
            ("example.org", "example.net", "example.net"),
        )
        self.assertEqual([each.domain for each in row.dkim_results], ["mail.example.net"])
        self.assertEqual([each.result for each in row.spf_results], ["fail"])
        self.assertEqual(row.reasons, ())
        self.assertEqual(found.published.policy, "reject")
        self.assertEqual(
            job(self.store, dmarcdb.stats),
            [dmarcdb.EvaluationStat("example.net", ("none",), 1, True)],
        )
        [pending] = job(self.store, dmarcdb.pending, FOREVER)
        self.assertEqual(pending, dmarcdb.Pending("example.net", (2,), True))

    def test_one_for_recipients_in_a_domain(self) -> None:
        self.evaluator.results = PASS
        self.deliver("me@example.org", "you@example.org", "team@example.org")
        self.assertEqual(len(self.evaluations()), 1)

    def test_refused_by_policy(self) -> None:
        auth = checked(dmarc("fail"))
        self.assertEqual(self.codes_of("me@example.org", auth), [550])
        [first] = self.evaluations()
        # Nothing is known of the domain: somebody forges it, and it may well know.
        self.assertEqual((first.row.disposition, first.optional), ("reject", True))
        [pending] = job(self.store, dmarcdb.pending, FOREVER)
        self.assertEqual(pending, dmarcdb.Pending("example.net", (2,), False))

    def codes_of(self, address: str, auth: AuthResults) -> list[int]:
        self.evaluator.results = auth
        return self.codes(address)

    def test_sampled_out_and_told(self) -> None:
        self.take("me@example.org", MESSAGE, checked(dmarc("fail", use=False)))
        [found] = self.evaluations()
        self.assertEqual([each.type for each in found.row.reasons], ["sampled_out"])

    def test_not_wanted(self) -> None:
        silent = parse_dmarc_record("v=DMARC1; p=none")
        self.take("me@example.org", MESSAGE, checked(dmarc("pass", silent)))
        self.take("me@example.org", MESSAGE, NOTHING)
        self.assertEqual(self.evaluations(), [])

    def test_about_reports_is_optional(self) -> None:
        self.take("dmarc@example.org", feedback())
        [found] = self.evaluations()
        self.assertTrue(found.optional)

    def test_intervals(self) -> None:
        hours = [interval_hours(s) for s in (0, 1, 3600, 3601, 5 * 3600, 86400, 1 << 31)]
        self.assertEqual(hours, [1, 1, 1, 2, 4, 24, 24])

    def test_removed(self) -> None:
        self.take("me@example.org", MESSAGE)
        self.assertEqual(job(self.store, dmarcdb.remove_before, 0), 0)
        self.assertEqual(job(self.store, dmarcdb.remove_evaluations, "example.net"), 1)
        self.assertEqual(self.evaluations(), [])

