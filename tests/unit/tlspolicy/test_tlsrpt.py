"""Records and results of TLS reports."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from moxtw import metrics
from moxtw.dns.fake import ZoneResolver
from moxtw.dns.resolver import TemporaryError
from moxtw.tlspolicy import tlsrpt
from moxtw.tlspolicy.tlsrpt import (
    MAX_DETAILS,
    Failure,
    RecordError,
    Result,
    find_record,
    merged,
    parse_record,
    tls_reason,
)


class RecordTests(SynchronousTestCase):
    def test_examples(self) -> None:
        # RFC 8460 3.1.1, 3.1.2.
        record = parse_record("v=TLSRPTv1;rua=mailto:reports@example.com")
        self.assertEqual(record.uris, (("mailto:reports@example.com",),))
        record = parse_record("v=TLSRPTv1; rua=https://reporting.example.com/v1/tlsrpt")
        self.assertEqual(record.uris, (("https://reporting.example.com/v1/tlsrpt",),))

    def test_several(self) -> None:
        record = parse_record("v=TLSRPTv1; rua=mailto:a@x, mailto:b@x; rua=https://y/z; e=f;")
        self.assertEqual(record.uris, (("mailto:a@x", "mailto:b@x"), ("https://y/z",)))
        self.assertEqual(record.extensions, (("e", "f"),))
        self.assertEqual(parse_record(str(record)), record)

    def test_bad(self) -> None:
        for text in (
            "",
            "v=TLSRPTv1",
            "v=TLSRPTv2; rua=mailto:a@x",
            "v=TLSRPTv1; rua=",
            "v=TLSRPTv1; rua=mailto:a",
            "v=TLSRPTv1; rua=http://x/",
            "v=TLSRPTv1; rua=https:///x",
            "v=TLSRPTv1; rua=mailto:a@x!10m",
            "v=TLSRPTv1; rua=https://[::1/x",
            "v=TLSRPTv1; rua=" + ",".join(["mailto:a@x"] * 21),
        ):
            with self.assertRaises(RecordError, msg=text):
                parse_record(text)
        with self.assertRaises(RecordError):
            find_record(["v=TLSRPTv1; rua=mailto:a@x"] * 2)

    @given(st.text())
    def test_anything(self, text: str) -> None:
        for each in (text, "v=TLSRPTv1; rua=" + text):
            try:
                record = parse_record(each)
            except RecordError:
                continue
            self.assertTrue(record.uris)


class LookupTests(SynchronousTestCase):
    def _look(self, *texts: str, fail: dict[str, str] | None = None) -> Any:
        zone = {"_smtp._tls.example.org": {"TXT": list(texts)}} if texts else {}
        resolver = ZoneResolver(zone)
        resolver.fail = fail or {}
        return Deferred.fromCoroutine(tlsrpt.lookup(resolver, "example.org"))

    def _count(self, result: str) -> float:
        return (
            metrics.REGISTRY.get_sample_value(
                "mox_tlsrpt_lookup_duration_seconds_count", {"result": result}
            )
            or 0
        )

    def test_results_are_counted(self) -> None:
        good = "v=TLSRPTv1; rua=mailto:a@example.org;"
        record, text = self.successResultOf(self._look("v=spf1 -all", good))
        self.assertEqual((record.uris, text), ((("mailto:a@example.org",),), good))
        for result, texts, fail, error, told in (
            ("notfound", (), {}, RecordError, ""),
            ("notfound", ("v=spf1 -all",), {}, RecordError, ""),
            ("malformed", (good, good), {}, RecordError, good),
            ("malformed", ("v=TLSRPTv1; rua",), {}, RecordError, "v=TLSRPTv1; rua"),
            ("temporary", (), {"_smtp._tls.example.org.": "timeout"}, TemporaryError, ""),
        ):
            before = self._count(result)
            failure = self.failureResultOf(self._look(*texts, fail=fail), error)
            if error is RecordError:
                self.assertEqual(failure.value.text, told)
            self.assertEqual(self._count(result), before + 1)


class ResultTests(SynchronousTestCase):
    def test_json_and_back(self) -> None:
        failure = Failure("certificate-expired", "192.0.2.1", "mx.example", "", "192.0.2.2")
        result = Result(tlsrpt.STS, "example.org", ("version: STSv1",), ("mx.example",), 3, 1)
        result.note(failure)
        data = json.loads(json.dumps(result.to_json()))
        self.assertEqual(
            data,
            {
                "policy": {
                    "policy-type": "sts",
                    "policy-domain": "example.org",
                    "policy-string": ["version: STSv1"],
                    "mx-host": ["mx.example"],
                },
                "summary": {
                    "total-successful-session-count": 3,
                    "total-failure-session-count": 1,
                },
                "failure-details": [
                    {
                        "result-type": "certificate-expired",
                        "sending-mta-ip": "192.0.2.1",
                        "receiving-mx-hostname": "mx.example",
                        "receiving-ip": "192.0.2.2",
                        "failed-session-count": 1,
                    }
                ],
            },
        )
        self.assertEqual(Result.from_json(data), result)

    def test_merging(self) -> None:
        one = Result(tlsrpt.STS, "example.org", success=1, failure=1)
        one.note(Failure("a"))
        two = Result(tlsrpt.STS, "example.org", success=2, failure=2)
        two.note(Failure("a"))
        two.note(Failure("b"))
        other = Result(tlsrpt.TLSA, "example.org")
        found = merged([one, two, other])
        self.assertEqual(len(found), 2)
        self.assertEqual((found[0].success, found[0].failure), (3, 3))
        self.assertEqual(found[0].failures, {Failure("a"): 2, Failure("b"): 1})
        self.assertEqual(one.failures, {Failure("a"): 1})

    def test_bounds(self) -> None:
        result = Result(tlsrpt.STS, "example.org")
        for number in range(MAX_DETAILS + 50):
            result.note(Failure("a", reason=f"{number}" * 300))
        self.assertEqual(len(result.failures), MAX_DETAILS)
        self.assertTrue(all(len(failure.reason) <= 255 for failure in result.failures))


class ReasonTests(SynchronousTestCase):
    def test_alerts(self) -> None:
        for texts, reason in (
            (["tlsv1 alert unknown ca"], "tls-remote-alert-48-unknown-ca"),
            (["sslv3 alert handshake failure"], "tls-remote-alert-40-handshake-failure"),
            (["tlsv13 alert certificate required"], "tls-remote-alert-116-certificate-required"),
            (["reason(1114)"], "tls-remote-alert-114"),
            (["wrong version number"], "tls-local-error-wrong-version-number"),
            ([], ""),
        ):
            self.assertEqual(tls_reason(texts), reason)
