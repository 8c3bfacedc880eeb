"""Functions of the admin API on reports."""

from __future__ import annotations

from msgspec.structs import replace

from moxtw.authn.dmarcreport import Published
from moxtw.dns.fake import ZoneResolver
from moxtw.store import dmarcdb, mtastsdb, tlsreportsdb, tlsresults
from moxtw.tlspolicy.mtasts import Policy
from moxtw.tlspolicy.tlsreport import parse_report
from moxtw.tlspolicy.tlsrpt import Failure, Result
from tests.support.store import job
from tests.unit.authn.test_dmarcreport import REPORT, ROW
from tests.unit.tlspolicy.test_tlsreport import EXAMPLE
from tests.unit.web.test_admin import AdminCase

ALL = ("1970-01-01T00:00:00Z", "9999-12-31T23:59:59Z")
UNTIL = "2026-11-26T10:00:00Z"


class ReceivedTests(AdminCase):
    def test_dmarc(self) -> None:
        job(self.ctx.store, dmarcdb.add_report, REPORT, "example.org", "sender.example")
        other = replace(REPORT, report_id="2")
        job(self.ctx.store, dmarcdb.add_report, other, "other.example", "sender.example")
        [found] = self.call("DMARCReports", *ALL, "example.org")
        self.assertEqual(len(self.call("DMARCReports", *ALL, "")), 2)
        self.assertEqual(found["FromDomain"], "sender.example")
        self.assertEqual(found["ReportMetadata"]["DateRange"]["End"], REPORT.end)
        record = found["Records"][0]
        self.assertEqual(record["Row"]["PolicyEvaluated"]["Reasons"][0]["Type"], "forwarded")
        self.assertEqual(record["AuthResults"]["SPF"][0]["Scope"], "mfrom")
        self.assertEqual(self.call("DMARCReportID", "example.org", found["ID"]), found)
        missing = self.error("DMARCReportID", "other.example", found["ID"])
        self.assertEqual(missing, "user:notFound")
        [first, _] = self.call("DMARCSummaries", *ALL, "")
        self.assertEqual(first["Domain"], "example.org")
        self.assertEqual((first["Total"], first["DKIMFail"]), (3, 2))
        self.assertEqual(first["PolicyOverrides"], {"forwarded": 3})
        self.assertEqual(self.call("DMARCReports", ALL[0], ALL[0], ""), [])
        self.assertEqual(self.error("DMARCReports", *ALL, "not a domain"), "user:error")
        zoneless = self.error("DMARCReports", "2026-01-01T00:00:00", ALL[1], "")
        self.assertEqual(zoneless, "sherpa:badParams")

    def test_tls(self) -> None:
        report = parse_report(EXAMPLE)
        job(self.ctx.store, tlsreportsdb.add, report, "example.org", from_domain="x.example",
            mail_from="r@x.example", host=False)  # fmt: skip
        [found] = self.call("TLSReports", *ALL, "example.org")
        self.assertEqual(found["Report"]["DateRange"]["Start"], "2016-04-01T00:00:00Z")
        [policy] = found["Report"]["Policies"]
        self.assertEqual(policy["Summary"]["TotalFailureSessionCount"], 303)
        self.assertEqual(policy["FailureDetails"][1]["ReceivingIP"], "203.0.113.56")
        self.assertEqual(self.call("TLSReportID", "example.org", found["ID"]), found)
        self.assertEqual(self.error("TLSReportID", "example.org", 99), "user:notFound")
        [summary] = self.call("TLSRPTSummaries", *ALL, "")
        self.assertEqual(summary["PolicyDomain"]["ASCII"], "example.org")
        self.assertEqual(summary["ResultTypeCounts"]["certificate-expired"], 100)


class OwnTests(AdminCase):
    def test_evaluations(self) -> None:
        made = dmarcdb.NewEvaluation(
            "bücher.example", False, 24, ("mailto:r@x",), Published("x.example", "r"), ROW
        )
        job(self.ctx.store, dmarcdb.add_evaluations, [made, made])
        self.assertEqual(
            self.call("DMARCEvaluationStats"),
            {
                "bücher.example": {
                    "Domain": {"ASCII": "xn--bcher-kva.example", "Unicode": "bücher.example"},
                    "Dispositions": ["reject"],
                    "Count": 2,
                    "SendReport": True,
                }
            },
        )
        domain, found = self.call("DMARCEvaluationsDomain", "xn--bcher-kva.example")
        self.assertEqual(domain["Unicode"], "bücher.example")
        self.assertEqual([each["AlignedSPFPass"] for each in found], [True, True])
        self.call("DMARCRemoveEvaluations", "bücher.example")
        self.assertEqual(self.call("DMARCEvaluationStats"), {})

    def test_tls_results(self) -> None:
        failure = Failure("validation-failure", reason="x")
        result = Result("sts", "example.net", ("version: STSv1",), ("*.x",), 2, 1, {failure: 1})
        job(self.ctx.store, tlsresults.add, "example.net", [(result, False)], send_report=True)
        [found] = self.call("TLSRPTResults")
        self.assertEqual(found["Results"][0]["FailureDetails"][0]["FailureReasonCode"], "x")
        domain, of_domain = self.call("TLSRPTResultsDomain", True, "example.net")
        self.assertEqual((domain["ASCII"], of_domain), ("example.net", [found]))
        self.assertEqual(self.error("TLSRPTRemoveResults", True, "example.net", "x"), "user:error")
        self.call("TLSRPTRemoveResults", True, "example.net", found["DayUTC"])
        self.assertEqual(self.call("TLSRPTResults"), [])

    def test_suppressions(self) -> None:
        for kind in ("DMARC", "TLSRPT"):
            self.call(f"{kind}SuppressAdd", "r@bücher.example", UNTIL, "why")
            again = self.error(f"{kind}SuppressAdd", "r@bücher.example", UNTIL, "")
            self.assertEqual(again, "user:error")
            [found] = self.call(f"{kind}SuppressList")
            self.assertEqual(found["ReportingAddress"], "r@bücher.example")
            self.assertEqual((found["Until"], found["Comment"]), (UNTIL, "why"))
            self.call(f"{kind}SuppressExtend", found["ID"], ALL[1])
            self.assertEqual(self.call(f"{kind}SuppressList")[0]["Until"], ALL[1])
            self.assertEqual(self.error(f"{kind}SuppressExtend", 99, UNTIL), "user:notFound")
            bad = self.error(f"{kind}SuppressAdd", "no address", UNTIL, "")
            self.assertEqual(bad, "user:error")
            self.call(f"{kind}SuppressRemove", found["ID"])
            self.assertEqual(self.error(f"{kind}SuppressRemove", found["ID"]), "user:notFound")
            self.assertEqual(self.call(f"{kind}SuppressList"), [])

    def test_lookups(self) -> None:
        self.ctx.resolver = ZoneResolver(
            {
                "_smtp._tls.a.example": {"TXT": ["v=TLSRPTv1; rua=mailto:r@a.example; x=y"]},
                "_smtp._tls.b.example": {"TXT": ["v=TLSRPTv1; nothing"]},
                "1.2.0.192.in-addr.arpa": {"PTR": ["mail.a.example."]},
            },
            fail={"_smtp._tls.c.example.": "servfail"},
        )
        record, text, error = self.call("LookupTLSRPTRecord", "a.example")
        self.assertEqual(record["RUAs"], [["mailto:r@a.example"]])
        self.assertEqual((text, error), ("v=TLSRPTv1; rua=mailto:r@a.example; x=y", ""))
        for name, why in (("b", "bad field"), ("c", "server"), ("d", "no tlsrpt record")):
            record, _, error = self.call("LookupTLSRPTRecord", f"{name}.example")
            self.assertIsNone(record)
            self.assertIn(why, error)
        self.assertEqual(self.call("LookupIP", "192.0.2.1"), {"Hostnames": ["mail.a.example"]})
        self.assertEqual(self.call("LookupIP", "192.0.2.2"), {"Hostnames": []})
        self.assertEqual(self.error("LookupIP", "x"), "user:error")

    def test_policies(self) -> None:
        policy = Policy("enforce", 86400, ("*.mx.example", "mail.example"))
        job(self.ctx.store, mtastsdb.keep, "example.net", "id1", policy, str(policy))
        [found] = self.call("MTASTSPolicies")
        self.assertEqual((found["Domain"], found["Mode"]), ("example.net", "enforce"))
        self.assertEqual([each["Wildcard"] for each in found["MX"]], [True, False])
        self.assertEqual(found["PolicyText"], str(policy))

