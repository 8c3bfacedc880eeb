"""TLS reports: the example of RFC 8460, what others write, what is written."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from moxtw.mail.attachedreport import ReportError
from moxtw.tlspolicy.tlsreport import Report, encode_report, parse_report
from moxtw.tlspolicy.tlsrpt import Failure, Result

# RFC 8460 appendix B.
EXAMPLE = b"""{
 "organization-name": "Company-X",
 "date-range": {"start-datetime": "2016-04-01T00:00:00Z", "end-datetime": "2016-04-01T23:59:59Z"},
 "contact-info": "sts-reporting@company-x.example",
 "report-id": "5065427c-23d3-47ca-b6e0-946ea0e8c4be",
 "policies": [{
  "policy": {"policy-type": "sts",
   "policy-string": ["version: STSv1", "mode: testing", "mx: *.mail.company-y.example",
    "max_age: 86400"],
   "policy-domain": "company-y.example", "mx-host": ["*.mail.company-y.example"]},
  "summary": {"total-successful-session-count": 5326, "total-failure-session-count": 303},
  "failure-details": [{"result-type": "certificate-expired",
   "sending-mta-ip": "2001:db8:abcd:0012::1",
   "receiving-mx-hostname": "mx1.mail.company-y.example", "failed-session-count": 100},
  {"result-type": "starttls-not-supported", "sending-mta-ip": "2001:db8:abcd:0013::1",
   "receiving-mx-hostname": "mx2.mail.company-y.example", "receiving-ip": "203.0.113.56",
   "failed-session-count": 200,
   "additional-information": "https://reports.company-x.example/report_info?id=5065427c-23d3"},
  {"result-type": "validation-failure", "sending-mta-ip": "198.51.100.62",
   "receiving-ip": "203.0.113.58",
   "receiving-mx-hostname": "mx-backup.mail.company-y.example", "failed-session-count": 3,
   "failure-reason-code": "X509_V_ERR_PROXY_PATH_LENGTH_EXCEEDED"}]}]}
"""
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(
        st.sampled_from(
            ("policy", "summary", "failure-details", "policy-type", "policy-string", "mx-host",
             "total-successful-session-count", "failed-session-count", "result-type")
        ),
        inner,
        max_size=4,
    ),
    max_leaves=12,
)  # fmt: skip


def changed(**fields: Any) -> bytes:
    value = json.loads(EXAMPLE)
    value.update({name.replace("_", "-"): each for name, each in fields.items()})
    return json.dumps(value).encode()


class ReportTests(SynchronousTestCase):
    def test_example(self) -> None:
        report = parse_report(EXAMPLE)
        self.assertEqual(report.organization, "Company-X")
        self.assertEqual((report.start, report.end), (1459468800, 1459555199))
        self.assertEqual((report.success, report.failure), (5326, 303))
        self.assertEqual(
            report.types(),
            {"certificate-expired": 100, "starttls-not-supported": 200, "validation-failure": 3},
        )
        self.assertEqual(parse_report(encode_report(report)), report)
        self.assertEqual(report.to_json(), json.loads(EXAMPLE))

    def test_times(self) -> None:
        for text, seconds in (
            ("2016-04-01T00:00:00", 1459468800),
            ("2016-04-01t02:00:00+02:00", 1459468800),
            ("2016-04-01T00:00:00.5z", 1459468800),
        ):
            dates = {"start-datetime": text, "end-datetime": text}
            self.assertEqual(parse_report(changed(date_range=dates)).start, seconds)

    def test_unknown_types_are_counted_together(self) -> None:
        result = Result("sts", "x", failures={Failure("a"): 1, Failure("b"): 2})
        self.assertEqual(Report("", 0, 0, "", "", (result,)).types(), {"other": 3})

    def test_refused(self) -> None:
        for data, why in (
            (b"", "json"),
            (b"\xff", "json"),
            (b"[" * 100_000, "json"),
            (b"[]", "no object"),
            (b"{}", "no policies"),
            (changed(policies=[]), "no policies"),
            (changed(policies=[{}] * 1001), "too many"),
            (changed(date_range={}), "bad time"),
            (changed(date_range={"start-datetime": "2016-99-99T0"}), "bad time"),
        ):
            error = self.assertRaises(ReportError, parse_report, data)
            self.assertIn(why, str(error))

    @settings(max_examples=150, deadline=None)
    @given(st.lists(JSON, min_size=1, max_size=3))
    def test_odd_policies(self, policies: list[Any]) -> None:
        report = parse_report(changed(policies=policies))
        self.assertGreaterEqual(min(report.success, report.failure), 0)
        self.assertEqual(parse_report(encode_report(report)), report)
