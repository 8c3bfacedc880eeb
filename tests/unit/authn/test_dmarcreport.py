"""Aggregate reports: what is written can be read; what others write is read with bounds."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from twisted.trial.unittest import SynchronousTestCase

from moxtw.authn import dmarcreport
from moxtw.authn.dmarcreport import (
    DKIMAuth,
    Feedback,
    Published,
    Reason,
    Row,
    SPFAuth,
    feedback_xml,
    merged,
    parse_feedback,
)
from moxtw.mail.attachedreport import ReportError

ROW = Row(
    source_ip="192.0.2.1",
    disposition="reject",
    dkim="fail",
    spf="pass",
    reasons=(Reason("forwarded", "<by> a & b"),),
    envelope_to="example.org",
    envelope_from="example.net",
    header_from="example.net",
    dkim_results=(DKIMAuth("example.net", "sel", "pass", "fine"),),
    spf_results=(SPFAuth("example.net", "mfrom", "softfail"),),
)
REPORT = Feedback(
    org_name="mail.example.org",
    email="postmaster@mail.example.org",
    report_id="20261126.00.x",
    begin=1795564800,
    end=1795651199,
    published=Published("example.net", "r", "s", "quarantine", "none", 50, "0"),
    records=merged([ROW, replace(ROW, dkim="pass"), ROW]),
    extra_contact_info="https://example.org/",
    errors=("one", "two"),
    version="1.0",
)

# As others write: a namespace, no version, upper case, parts missing.
FOREIGN = b"""<?xml version="1.0" encoding="ISO-8859-1"?>
<d:feedback xmlns:d="http://dmarc.org/dmarc-xml/0.1">
 <d:report_metadata><d:org_name>B\xfcro</d:org_name>
  <d:date_range><d:begin> 1 </d:begin><d:end>x</d:end></d:date_range></d:report_metadata>
 <d:policy_published><d:domain>Example.NET</d:domain><d:p>NONE</d:p></d:policy_published>
 <d:record><d:row><d:source_ip>::1</d:source_ip><d:count>99999999999</d:count>
  <d:policy_evaluated><d:disposition>Quarantine</d:disposition><d:dkim>fail</d:dkim>
  <d:reason><d:type>other</d:type></d:reason></d:policy_evaluated></d:row></d:record>
 <d:record/>
</d:feedback>"""


class FeedbackTests(SynchronousTestCase):
    def test_written_and_read(self) -> None:
        self.assertEqual(parse_feedback(feedback_xml(REPORT)), REPORT)
        self.assertEqual([record.count for record in REPORT.records], [2, 1])

    def test_foreign(self) -> None:
        found = parse_feedback(FOREIGN)
        self.assertEqual((found.org_name, found.begin, found.end), ("B\xfcro", 1, 0))
        self.assertEqual(found.published, Published("Example.NET", policy="none"))
        first, second = found.records
        self.assertEqual((first.count, first.row.source_ip), ((1 << 31) - 1, "::1"))
        self.assertEqual((first.row.disposition, first.row.spf), ("quarantine", ""))
        self.assertEqual(second.count, 0)

    def test_summary(self) -> None:
        summary = REPORT.summary()
        self.assertEqual((summary.total, summary.reject, summary.none), (3, 3, 0))
        self.assertEqual((summary.dkim_fail, summary.spf_fail), (2, 0))
        self.assertEqual(summary.overrides, {"forwarded": 3})
        summary.merge(parse_feedback(FOREIGN).summary())
        self.assertEqual(summary.total, 3 + (1 << 31) - 1)
        self.assertEqual(set(summary.overrides), {"forwarded", "other"})

    def test_refused(self) -> None:
        doctype = b'<!DOCTYPE feedback [<!ENTITY a "aaaa">]>'
        for data, why in (
            (b"", "xml"),
            (b"no xml", "xml"),
            (b"<feedback>", "xml"),
            (b"<other/>", "no feedback"),
            (b"<feedback/>", "missing"),
            (b"<feedback><report_metadata/></feedback>", "missing"),
            (doctype + b"<feedback>&a;</feedback>", "document type"),
            (b"<feedback>" + b"<a>" * 50, "too many elements"),
            (b"<feedback><record>" + b"<a/>" * 10_001 + b"</record></feedback>", "too many"),
            (b"<?xml version='1.0' encoding='rot13'?><feedback/>", "encoding"),
            (b"<feedback>\xff</feedback>", "xml"),
        ):
            error = self.assertRaises(ReportError, parse_feedback, data)
            self.assertIn(why, str(error), data[:40])

    def test_too_many_records(self) -> None:
        self.patch(dmarcreport, "MAX_RECORDS", 2)
        data = b"<feedback>" + b"<record/>" * 3 + b"</feedback>"
        self.assertRaises(ReportError, parse_feedback, data)

    def test_strange_text_is_written_as_xml(self) -> None:
        report = replace(REPORT, org_name="a\x00\ud800\ufffeb<&>\"'")
        self.assertEqual(
            parse_feedback(feedback_xml(report)).org_name, "a\ufffd\ufffd\ufffdb<&>\"'"
        )

    @settings(max_examples=150, deadline=None)
    @given(st.binary(max_size=60), st.integers(0, 900), st.integers(0, 30))
    def test_damage(self, junk: bytes, at: int, cut: int) -> None:
        data = feedback_xml(REPORT)
        try:
            parse_feedback(data[:at] + junk + data[at + cut :])
        except ReportError as exc:
            self.assertTrue(str(exc))
