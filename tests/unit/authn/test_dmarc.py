"""DMARC: records, whose policy counts, and what comes out for a message."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from moxtw.authn import dmarc
from moxtw.authn.dkim import DKIMResult
from moxtw.authn.dmarc import DMARCResult
from moxtw.authn.dmarcrecord import (
    DMARCFormatError,
    DMARCRecord,
    ReportURI,
    parse_dmarc_record,
)
from moxtw.dns.fake import ZoneResolver
from moxtw.mail.domain import parse_domain
from tests.support.store import now as value

REJECT = "v=DMARC1; p=reject"


def signed(domain: str, status: str = "pass") -> DKIMResult:
    return DKIMResult(status, domain=parse_domain(domain, strict=False))


def verify(
    author: str,
    zones: Any,
    *,
    spf: str = "none",
    spf_domain: str = "",
    dkim: tuple[DKIMResult, ...] = (),
    random: int = 0,
    **more: Any,
) -> DMARCResult:
    if not isinstance(zones, ZoneResolver):
        zones = ZoneResolver(
            {f"_dmarc.{name}.": {"TXT": [text]} for name, text in zones.items()}
        )
    found: DMARCResult = value(
        Deferred.fromCoroutine(
            dmarc.verify(
                zones,
                parse_domain(author),
                spf_status=spf,
                spf_domain=parse_domain(spf_domain) if spf_domain else None,
                dkim=dkim,
                random=lambda below: random,
                **more,
            )
        )
    )
    return found


class RecordTests(SynchronousTestCase):
    def test_defaults(self) -> None:
        self.assertEqual(parse_dmarc_record(REJECT), DMARCRecord(policy="reject"))
        self.assertEqual(parse_dmarc_record("v=DMARC1;p=none;"), DMARCRecord())

    def test_all_tags(self) -> None:
        record = parse_dmarc_record(
            "V = DMARC1 ; P=Quarantine; SP=none; np=reject; adkim=s; aspf=R; pct=25; ri=3600;"
            "rua=mailto:a@example.org!10m , https://example.org/x; ruf=mailto:B@example.org;"
            "fo=1:d:s; rf=afrf:iodef; psd=n; t=y; other=?"
        )
        self.assertEqual(
            record,
            DMARCRecord(
                policy="quarantine",
                subdomain_policy="none",
                nonexistent_policy="reject",
                adkim="s",
                aspf="r",
                percent=25,
                rua=(
                    ReportURI("mailto:a@example.org", 10 * 1024 * 1024),
                    ReportURI("https://example.org/x"),
                ),
                ruf=(ReportURI("mailto:B@example.org"),),
                interval=3600,
                failure_options=("1", "d", "s"),
                formats=("afrf", "iodef"),
                psd="n",
                testing=True,
            ),
        )

    def test_bad(self) -> None:
        for text, claimed in (
            ("", False),
            ("v=DMARC1", False),
            ("v=DMARC2; p=none", False),
            ("v=dmarc1; p=none", False),
            ("p=none; v=DMARC1;", False),
            ("v=spf1 -all", False),
            ("v=DMARC1;", True),
            ("v=DMARC1; p", True),
            ("v=DMARC1; p=bad", True),
            ("v=DMARC1; p=none; sp=bad", True),
            ("v=DMARC1; sp=none; p=none", True),
            ("v=DMARC1; p=none; p=none", True),
            ("v=DMARC1; p=none; pct=101", True),
            ("v=DMARC1; p=none; pct=x", True),
            ("v=DMARC1; p=none; ri=-1", True),
            ("v=DMARC1; p=none; adkim=x", True),
            ("v=DMARC1; p=none; fo=2", True),
            ("v=DMARC1; p=none; rua=a@example.org", True),
            ("v=DMARC1; p=none; rua=mailto:a@example.org!1x", True),
            ("v=DMARC1; p=none; rua=", True),
            ("v=DMARC1; p=none; " + "x" * 9000 + "=1", True),
            ("v=DMARC1; p=none; rua=" + ",".join(["mailto:a@b"] * 60), True),
        ):
            with self.assertRaises(DMARCFormatError, msg=text) as caught:
                parse_dmarc_record(text)
            self.assertEqual(caught.exception.claimed, claimed, text)

    def test_no_policy_but_reports(self) -> None:
        """RFC 7489 6.6.3: as if the policy were none."""
        for text in ("", "p=bad;", "p=reject;sp=bad;"):
            record = parse_dmarc_record(f"v=DMARC1;{text}rua=mailto:a@example.org")
            self.assertEqual((record.policy, record.subdomain_policy), ("none", ""), text)

    def test_permission_for_reports(self) -> None:
        self.assertEqual(parse_dmarc_record("v=DMARC1;", need_policy=False), DMARCRecord())

    @settings(max_examples=200, deadline=None)
    @given(st.one_of(st.text(max_size=100), st.lists(
        st.tuples(
            st.sampled_from(["p", "sp", "np", "pct", "rua", "ri", "fo", "rf", "adkim", "t", "x"]),
            st.text(alphabet="nonerjctqua019:,!@ mkil;=", max_size=15),
        ), max_size=6,
    ).map(lambda tags: "v=DMARC1;" + ";".join(f"{name}={text}" for name, text in tags))))
    def test_any_text(self, text: str) -> None:
        try:
            record = parse_dmarc_record(text)
        except DMARCFormatError:
            return
        self.assertIn(record.policy, ("none", "quarantine", "reject"))
        self.assertLessEqual(record.percent, 100)


class AppendixTests(SynchronousTestCase):
    """RFC 7489 appendix B."""

    def test_spf_alignment(self) -> None:
        # B.1.1: the same domain; a parent; another domain.
        for spf, author, relaxed, strict in (
            ("example.com", "example.com", True, True),
            ("example.com", "child.example.com", True, False),
            ("example.net", "child.example.com", False, False),
        ):
            for mode, good in (("r", relaxed), ("s", strict)):
                record = f"{REJECT}; aspf={mode}"
                result = verify(
                    author, {author: record}, spf="pass", spf_domain=spf
                )
                self.assertEqual(result.status, "pass" if good else "fail", (spf, author, mode))
                self.assertEqual(result.spf_aligned, good)

    def test_dkim_alignment(self) -> None:
        # B.1.2.
        for domain, author, relaxed, strict in (
            ("example.com", "example.com", True, True),
            ("example.com", "child.example.com", True, False),
            ("sample.net", "child.example.com", False, False),
        ):
            for mode, good in (("r", relaxed), ("s", strict)):
                record = f"{REJECT}; adkim={mode}"
                result = verify(author, {author: record}, dkim=(signed(domain),))
                self.assertEqual(result.status, "pass" if good else "fail")
                self.assertEqual(result.dkim_aligned, good)

    def test_records(self) -> None:
        # B.2.1, B.2.2, B.2.3, B.2.4.
        for text, rua, ruf in (
            ("v=DMARC1; p=none; rua=mailto:dmarc-feedback@example.com", 1, 0),
            ("v=DMARC1; p=none; rua=mailto:dmarc-feedback@example.com; "
             "ruf=mailto:auth-reports@example.com", 1, 1),
            ("v=DMARC1; p=none; rua=mailto:dmarc-feedback@example.com; "
             "ruf=mailto:auth-reports@thirdparty.example.net", 1, 1),
            ("v=DMARC1; p=quarantine; rua=mailto:dmarc-feedback@example.com,"
             "mailto:tld-test@thirdparty.example.net!10m; pct=25", 2, 0),
        ):  # fmt: skip
            record = parse_dmarc_record(text)
            self.assertEqual((len(record.rua), len(record.ruf)), (rua, ruf))
        self.assertEqual(record.percent, 25)
        self.assertEqual(record.rua[1].max_size, 10 << 20)

    def test_sampling(self) -> None:
        # B.2.4: a quarter of the messages of test.example.com.
        zones = {"test.example.com": "v=DMARC1; p=quarantine; pct=25"}
        for random, use in ((0, True), (24, True), (25, False), (99, False)):
            result = verify("test.example.com", zones, random=random)
            self.assertEqual((result.use, result.sampled_out), (use, not use))
            self.assertTrue(result.reject)
            self.assertEqual(result.apply_reject, use)
        self.assertTrue(verify("test.example.com", zones, random=99, sample=False).use)


    def test_time_of_smtp(self) -> None:
        # B.3: either identifier is enough; when neither is aligned the policy counts.
        zones = {
            "example.com": "v=DMARC1; p=reject; aspf=r; rua=mailto:dmarc-feedback@example.com"
        }
        for spf, dkim, good in (
            ("mail.example.com", "example.com", True),
            ("mail.example.com", "example.net", True),
            ("mail.example.net", "example.com", True),
            ("mail.example.net", "example.net", False),
        ):
            result = verify(
                "example.com", zones, spf="pass", spf_domain=spf, dkim=(signed(dkim),)
            )
            self.assertEqual(result.status, "pass" if good else "fail")
            self.assertEqual(result.apply_reject, not good)


class VerifyTests(SynchronousTestCase):
    def test_no_record(self) -> None:
        result = verify("example.com", {})
        self.assertEqual((result.status, result.use, result.reject), ("none", False, False))
        self.assertFalse(result.sampled_out)

    def test_organizational_domain(self) -> None:
        zones = {"example.com": "v=DMARC1; p=reject; sp=quarantine"}
        for author, policy, tag in (
            ("example.com", "reject", "p"),
            ("a.b.example.com", "quarantine", "sp"),
        ):
            result = verify(author, zones)
            self.assertEqual((result.policy, result.policy_tag), (policy, tag))
            self.assertTrue(result.apply_reject)
            self.assertEqual(result.record_domain, parse_domain("example.com"))
        result = verify("a.example.com", {"example.com": REJECT})
        self.assertEqual((result.policy, result.policy_tag), ("reject", "p"))
        # Above the organizational domain nothing counts.
        self.assertEqual(verify("example.co.uk", {"co.uk": REJECT}).status, "none")
        # A record of its own counts alone.
        zones["a.example.com"] = "v=DMARC1; p=none"
        self.assertEqual(verify("a.example.com", zones).policy, "none")

    def test_policy_for_names_that_do_not_exist(self) -> None:
        zones = {
            "_dmarc.example.com.": {"TXT": ["v=DMARC1; p=none; sp=quarantine; np=reject"]},
            "there.example.com.": {"A": ["192.0.2.1"]},
            "empty.example.com.": {"TXT": ["x"]},
            "broken.example.com.": {},
        }
        resolver = ZoneResolver(zones, fail={"broken.example.com.": "servfail"})
        for name, policy in (
            ("there", "quarantine"), ("none", "reject"), ("empty", "reject"),
            ("broken", "quarantine"),
        ):  # fmt: skip
            self.assertEqual(verify(f"{name}.example.com", resolver).policy, policy, name)

    def test_several_and_bad_records(self) -> None:
        zones = {
            "_dmarc.a.example.com.": {"TXT": [REJECT, REJECT + ";"]},
            "_dmarc.example.com.": {"TXT": ["x", "v=DMARC1; p=quarantine"]},
            "_dmarc.bad.example.com.": {"TXT": ["v=DMARC1; p=x"]},
        }
        resolver = ZoneResolver(zones, fail={"_dmarc.down.example.com.": "servfail"})
        self.assertEqual(verify("a.example.com", resolver).policy, "quarantine")
        result = verify("bad.example.com", resolver)
        self.assertEqual((result.status, result.use, result.reject), ("permerror", False, False))
        result = verify("down.example.com", resolver)
        self.assertEqual((result.status, result.use, result.reject), ("temperror", False, False))

    def test_temporary_errors(self) -> None:
        zones = {"example.com": REJECT}
        result = verify("example.com", zones, dkim=(signed("example.com", "temperror"),))
        self.assertEqual((result.status, result.reject), ("temperror", False))
        result = verify("example.com", zones, spf="temperror", spf_domain="mail.example.com")
        self.assertEqual((result.status, result.reject), ("temperror", False))
        # Of another domain they say nothing about this one.
        result = verify(
            "example.com", zones, spf="temperror", spf_domain="example.net",
            dkim=(signed("example.net", "temperror"),),
        )  # fmt: skip
        self.assertEqual((result.status, result.reject), ("fail", True))
        result = verify(
            "example.com",
            zones,
            dkim=(signed("example.com", "temperror"), signed("example.com")),
        )
        self.assertEqual(result.status, "pass")

    def test_authentic(self) -> None:
        resolver = ZoneResolver({"_dmarc.example.com.": {"TXT": [REJECT]}}, authentic=True)
        self.assertTrue(verify("example.com", resolver).authentic)
        self.assertFalse(verify("example.com", {"example.com": REJECT}).authentic)

    def test_international(self) -> None:
        result = verify("a.bücher.example", {"bücher.example": REJECT}, dkim=(
            signed("b.xn--bcher-kva.example"),
        ))
        self.assertEqual((result.status, result.record_domain), (
            "pass", parse_domain("bücher.example"),
        ))


class TreeWalkTests(SynchronousTestCase):
    def walk(self, author: str, zones: Any, **more: Any) -> DMARCResult:
        return verify(author, zones, tree_walk=True, **more)

    def test_nearest_the_root(self) -> None:
        zones = {"example.com": REJECT, "mail.example.com": "v=DMARC1; p=none"}
        result = self.walk("a.mail.example.com", zones)
        self.assertEqual(result.organizational.name, "example.com")
        self.assertEqual((result.policy, result.record_domain), (
            "reject", parse_domain("example.com"),
        ))
        result = self.walk("mail.example.com", zones, dkim=(signed("other.example.com"),))
        self.assertEqual((result.status, result.policy), ("pass", "none"))

    def test_psd(self) -> None:
        zones = {"bank": "v=DMARC1; p=reject; psd=y", "giant.bank": "v=DMARC1; p=none; psd=n"}
        result = self.walk("a.example.bank", zones, dkim=(signed("b.other.bank"),))
        self.assertEqual(result.organizational.name, "example.bank")
        self.assertEqual((result.status, result.policy), ("fail", "reject"))
        result = self.walk("a.example.bank", zones, dkim=(signed("b.example.bank"),))
        self.assertEqual(result.status, "pass")
        result = self.walk("a.giant.bank", zones)
        self.assertEqual((result.organizational.name, result.policy), ("giant.bank", "none"))

    def test_queries_are_bounded(self) -> None:
        resolver = ZoneResolver({})
        self.walk(".".join("abcdefghijklmnop") + ".example.com", resolver)
        asked = [name for name, _ in resolver.asked]
        self.assertEqual(len(asked), 8)
        self.assertEqual(asked[1], "_dmarc.l.m.n.o.p.example.com.")
        self.assertEqual(asked[-1], "_dmarc.com.")

    def test_testing(self) -> None:
        result = self.walk("example.com", {"example.com": "v=DMARC1; p=reject; t=y; pct=0"})
        self.assertEqual((result.policy, result.use), ("quarantine", True))

    def test_failure(self) -> None:
        resolver = ZoneResolver({}, fail={"_dmarc.example.com.": "servfail"})
        self.assertEqual(self.walk("a.example.com", resolver).status, "temperror")
