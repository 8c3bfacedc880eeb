"""What comes out of SPF checks, and what they cost."""

from __future__ import annotations

import time
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from moxtw import metrics
from moxtw.authn import spf
from moxtw.authn.spfrecord import parse_record
from moxtw.dns import resolver as dns
from moxtw.dns.fake import ZoneResolver
from moxtw.mail.address import IPDomain, Path, parse_ipdomain, parse_path
from moxtw.mail.domain import Domain, parse_domain
from moxtw.mail.received import received_spf

OWN = parse_domain("mx.receiver.example")
HELLO = parse_ipdomain("relay.sender.example")
Zone = dict[str, dict[str, list[Any]]]


class Case(SynchronousTestCase):
    """Checks over a dict of records."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(1_700_000_000)
        self.resolver = ZoneResolver()

    def start(
        self,
        ip: str = "192.0.2.1",
        sender: str = "joe@a.example",
        hello: IPDomain | str = HELLO,
        **options: Any,
    ) -> Deferred[spf.SPFResult]:
        return Deferred.fromCoroutine(
            spf.check(
                options.pop("resolver", self.resolver),
                clock=self.clock,
                remote_ip=ip,
                mail_from=options.pop("mail_from", None) or parse_path(sender),
                hello=parse_ipdomain(hello) if isinstance(hello, str) else hello,
                local_hostname=OWN,
                **options,
            )
        )

    def check(self, *args: Any, **options: Any) -> spf.SPFResult:
        work = self.start(*args, **options)
        for _ in range(50):
            if work.called:
                break
            self.clock.advance(0)
        result = self.successResultOf(work)
        assert isinstance(result, spf.SPFResult)
        self.assertEqual(self.clock.getDelayedCalls(), [])
        return result

    def record(self, text: str, domain: str = "a.example") -> None:
        """Make this the record of a domain."""
        self.resolver.zones.setdefault(domain + ".", {})["TXT"] = [text]

    def results(self, *rows: tuple[Any, ...]) -> None:
        """Rows of a record, its expected status, and maybe an address and a sender."""
        for record, expected, *rest in rows:
            with self.subTest(record):
                self.record(record)
                self.assertEqual(self.check(*rest).status, expected, (record, *rest))


class IdentityTests(Case):
    """What is checked, RFC 7208 2.3, 2.4, 4.3."""

    def test_mail_from(self) -> None:
        self.record("v=spf1 ip4:192.0.2.1 -all")
        result = self.check()
        self.assertEqual(
            (result.status, result.identity, result.domain, result.mechanism, result.problem),
            ("pass", "mailfrom", parse_domain("a.example"), "ip4:192.0.2.1", ""),
        )
        self.assertEqual(self.resolver.asked, [("a.example.", "TXT")])

    def test_helo_for_null_mail_from(self) -> None:
        self.record("v=spf1 exists:%{l}.%{o}.x.%{d} -all", "relay.sender.example")
        name = "postmaster.relay.sender.example.x.relay.sender.example"
        self.resolver.add(name, "A", "127.0.0.2")
        result = self.check(sender="")
        self.assertEqual((result.status, result.identity), ("pass", "helo"))
        self.assertEqual(result.sender.form(), "postmaster@relay.sender.example")

    def test_nothing_to_check(self) -> None:
        for sender, hello in (("", "[192.0.2.1]"), ("joe@[192.0.2.1]", HELLO), ("", IPDomain())):
            result = self.check(sender=sender, hello=hello)
            self.assertEqual((result.status, result.identity, result.mechanism), ("none", "", ""))
            self.assertTrue(result.problem)
        self.assertEqual(self.resolver.asked, [])

    def test_names_that_can_have_no_record(self) -> None:
        for name in ("localhost", "a" * 64 + ".example", "a..example", "x." * 130 + "example"):
            path = Path("joe", IPDomain(domain=Domain(name)))
            result = self.check(mail_from=path)
            self.assertEqual((result.status, result.identity), ("none", "mailfrom"), name)
        self.assertEqual(self.resolver.asked, [])
        self.assertEqual(self.check(sender="", hello="single").status, "none")

    def test_longest_label(self) -> None:
        domain = "a" * 63 + ".example"
        self.record("v=spf1 -all", domain)
        self.assertEqual(self.check(sender=f"joe@{domain}").status, "fail")

    def test_no_local_part_is_postmaster(self) -> None:
        self.record("v=spf1 exists:%{l}.example -all")
        self.resolver.add("postmaster.example", "A", "127.0.0.2")
        path = Path("", IPDomain(domain=parse_domain("a.example")))
        self.assertEqual(self.check(mail_from=path).status, "pass")

    def test_international_domains(self) -> None:
        """RFC 8616 4: names are A-labels, in macros too."""
        self.record("v=spf1 exists:x.%{o} exists:%{h} -all", "xn--bcher-kva.example")
        self.resolver.add("x.xn--bcher-kva.example", "A", "127.0.0.2")
        result = self.check(sender="joe@Bücher.example")
        self.assertEqual(result.status, "pass")
        self.assertEqual(result.domain.name, "bücher.example")

    def test_local_parts_in_utf8_match_nothing(self) -> None:
        """RFC 8616 4."""
        self.resolver.add("a.example", "A", "192.0.2.1")
        self.record("v=spf1 +all", "b.example")
        self.results(
            ("v=spf1 exists:%{l}.a.example -all", "fail", "192.0.2.1", "jö@a.example"),
            ("v=spf1 a:%{s}.a.example ~all", "softfail", "192.0.2.1", "jö@a.example"),
            ("v=spf1 include:%{L1r}.a.example a -all", "pass", "192.0.2.1", "jö@a.example"),
            ("v=spf1 redirect=%{l}.b.example", "permerror", "192.0.2.1", "jö@a.example"),
            ("v=spf1 include:%{o1}.b.example a -all", "permerror", "192.0.2.1", "jö@a.example"),
            ("v=spf1 a:%{o} -all", "pass", "192.0.2.1", "jö@a.example"),
        )


class SelectionTests(Case):
    """Which record is taken, RFC 7208 4.4, 4.5."""

    def txt(self, *texts: str) -> str:
        self.resolver.zones["a.example."] = {"TXT": list(texts)}
        return self.check().status

    def test_one_among_other_texts(self) -> None:
        self.assertEqual(self.txt("hello", "v=spf1 -all", "v=spf10 +all", "\\x96", "é"), "fail")
        self.assertEqual(self.txt("V=sPf1 ~All"), "softfail")
        self.assertEqual(self.txt("v=spf1"), "neutral")

    def test_none(self) -> None:
        self.assertEqual(self.txt("v=spf1-all", "v=spf2.0/pra +all", " v=spf1 -all"), "none")
        self.resolver.zones.clear()
        result = self.check()
        self.assertEqual((result.status, result.identity), ("none", "mailfrom"))
        self.resolver.add("a.example", "SPF", "v=spf1 -all")  # The type is no longer used.
        self.assertEqual(self.check().status, "none")

    def test_several(self) -> None:
        self.assertEqual(self.txt("v=spf1 -all", "v=spf1 +all"), "permerror")
        self.assertEqual(self.txt("v=spf1 -all", "V=SPF1"), "permerror")

    def test_errors(self) -> None:
        for failure, status in (("servfail", "temperror"), ("timeout", "temperror"),
                                ("badanswer", "temperror")):  # fmt: skip
            resolver = ZoneResolver(fail={"a.example": failure})
            result = self.check(resolver=resolver)
            self.assertEqual((result.status, result.authentic), (status, False))
            self.assertTrue(result.problem)

    def test_not_ascii(self) -> None:
        for text in ("v=spf1 a:\ufeffx.example -all", "v=spf1 é -all",
                     "v=spf1 a:x\\x96.example -all", "v=spf1 x=\\xe9 -all"):  # fmt: skip
            self.assertEqual(self.txt(text), "permerror", text)
        # A backslash as such is a visible character.
        self.assertEqual(self.txt("v=spf1 x=a\\xb -all"), "fail")

    def test_error_anywhere_in_the_record(self) -> None:
        self.assertEqual(self.txt("v=spf1 +all moo"), "permerror")
        self.assertEqual(self.resolver.asked, [("a.example.", "TXT")])


class MechanismTests(Case):
    def setUp(self) -> None:
        super().setUp()
        for name, types in {
            "a.example": {"A": ["192.0.2.1", "198.51.100.77"], "AAAA": ["2001:db8::1"]},
            "four.example": {"A": ["192.0.2.130"]},
            "six.example": {"AAAA": ["2001:db8:1::1"]},
            "alias.example": {"CNAME": ["a.example"]},
            "odd:name/x.example": {"A": ["192.0.2.1"], "MX": [(1, "a.example")]},
            "m%x  y%20z.example": {"A": ["192.0.2.1"]},
            "mx.example": {"MX": [(20, "four.example"), (10, "six.example"), (30, "no.example")]},
            "nullmx.example": {"MX": [(0, ".")]},
            "broken.example": {},
        }.items():
            for rtype, records in types.items():
                self.resolver.add(name, rtype, *records)
        self.resolver.fail[("broken.example.", "A")] = "servfail"
        self.resolver.fail[("broken.example.", "MX")] = "timeout"
        self.resolver.fail[("broken.example.", "TXT")] = "servfail"

    def test_all(self) -> None:
        self.results(
            ("v=spf1 +all", "pass"), ("v=spf1 -all", "fail"), ("v=spf1 ~all", "softfail"),
            ("v=spf1 ?all", "neutral"), ("v=spf1 all -all", "pass"),
            ("v=spf1 ~all redirect=nowhere.example", "softfail"),
            ("v=spf1 redirect=nowhere.example ~all", "softfail"),
        )  # fmt: skip

    def test_no_match(self) -> None:
        self.record("v=spf1 -ip4:198.51.100.1")
        result = self.check()
        self.assertEqual((result.status, result.mechanism), ("neutral", "default"))

    def test_ip4_and_ip6(self) -> None:
        self.results(
            ("v=spf1 ip4:192.0.2.0/24 -all", "pass"),
            ("v=spf1 ip4:192.0.2.77/24 -all", "pass"),
            ("v=spf1 ip4:0.0.0.0/0 -all", "pass"),
            ("v=spf1 ip4:192.0.2.2/31 -all", "fail"),
            ("v=spf1 ip4:0.0.0.0/0 -all", "fail", "2001:db8::1"),
            ("v=spf1 ip6:::/0 -all", "fail"),
            ("v=spf1 ip6:2001:DB8:8000::/33 -all", "fail", "2001:db8::1"),
            ("v=spf1 ip6:2001:DB8:8000::/33 -all", "pass", "2001:db8:ffff::1"),
            ("v=spf1 ip6:::192.0.2.1/0 -all", "pass", "2001:db8::1"),
        )

    def test_mapped_addresses_are_ipv4(self) -> None:
        """RFC 7208 5."""
        self.results(
            ("v=spf1 ip4:192.0.2.1 -all", "pass", "::ffff:192.0.2.1"),
            ("v=spf1 ip6:::ffff:192.0.2.1 -all", "fail", "::ffff:192.0.2.1"),
            ("v=spf1 a//0 -all", "pass", "::FFFF:192.0.2.1"),
            ("v=spf1 a:six.example//0 -all", "fail", "::ffff:192.0.2.1"),
            ("v=spf1 exists:%{i}.%{v}.x.example -all", "fail", "::ffff:192.0.2.1"),
        )
        self.assertIn(("192.0.2.1.in-addr.x.example.", "A"), self.resolver.asked)

    def test_a(self) -> None:
        self.results(
            ("v=spf1 a -all", "pass"),
            ("v=spf1 a -all", "pass", "198.51.100.77"),
            ("v=spf1 a -all", "pass", "2001:db8:0::1"),
            ("v=spf1 a -all", "fail", "192.0.2.2"),
            ("v=spf1 a/24 -all", "pass", "192.0.2.2"),
            ("v=spf1 a//64 -all", "fail", "192.0.2.2"),
            ("v=spf1 a/24 -all", "fail", "2001:db8::2"),
            ("v=spf1 a/24//64 -all", "pass", "2001:db8::2"),
            ("v=spf1 a//33 -all", "fail", "2001:db8:8000::1"),
            ("v=spf1 a/0 -all", "pass", "203.0.113.9"),
            ("v=spf1 a:six.example/0 -all", "fail", "203.0.113.9"),
            ("v=spf1 a:four.example//0 -all", "fail", "2001:db8::1"),
            ("v=spf1 a:nowhere.example/0 -all", "fail"),
            ("v=spf1 a:A.Example. -all", "pass"),
            ("v=spf1 a:alias.example -all", "pass"),
            ("v=spf1 a:odd:name/x.example -all", "pass"),
            ("v=spf1 a:m%%x%_%_y%-z.example -all", "pass"),
            ("v=spf1 a:%{d} -all", "pass"),
            ("v=spf1 a:broken.example -all", "temperror"),
        )

    def test_mx(self) -> None:
        self.results(
            ("v=spf1 mx:mx.example -all", "pass", "192.0.2.130"),
            ("v=spf1 mx:mx.example -all", "pass", "2001:db8:1::1"),
            ("v=spf1 mx:mx.example -all", "fail"),
            ("v=spf1 mx:mx.example/24 -all", "pass"),
            ("v=spf1 mx:mx.example//0 -all", "fail"),
            ("v=spf1 mx:mx.example//0 -all", "pass", "2001:db8::99"),
            ("v=spf1 mx:odd:name/x.example -all", "pass"),
            ("v=spf1 mx -all", "fail"),  # The domain is not its own exchanger.
            ("v=spf1 mx:nullmx.example/0 -all", "fail"),
            ("v=spf1 mx:broken.example -all", "temperror"),
        )
        self.resolver.add("broken-host.example", "MX", (1, "broken.example"))
        self.results(("v=spf1 mx:broken-host.example -all", "temperror"))

    def test_include(self) -> None:
        self.record("v=spf1 ip4:192.0.2.1 -all", "pass.example")
        self.record("v=spf1 -all", "fail.example")
        self.record("v=spf1 ~all", "softfail.example")
        self.record("v=spf1 ?all", "neutral.example")
        self.record("v=spf1 mx:", "permerror.example")
        self.record("v=spf1 a -all", "inner.example")
        self.resolver.add("inner.example", "A", "203.0.113.9")
        self.results(
            ("v=spf1 -include:pass.example +all", "fail"),
            ("v=spf1 include:fail.example ~all", "softfail"),
            ("v=spf1 include:softfail.example +all", "pass"),
            ("v=spf1 include:neutral.example -all", "fail"),
            ("v=spf1 include:permerror.example +all", "permerror"),
            ("v=spf1 include:broken.example +all", "temperror"),
            ("v=spf1 include:nowhere.example +all", "permerror"),
            ("v=spf1 include:four.example +all", "permerror"),
            ("v=spf1 include:two..dots.example +all", "permerror"),
            ("v=spf1 include:inner.example -all", "fail", "192.0.2.1"),  # its own a, not ours
            ("v=spf1 include:inner.example -all", "pass", "203.0.113.9"),
        )
        self.record("v=spf1 include:pass.example -all")
        self.assertEqual(self.check().mechanism, "include:pass.example")
        self.record("v=spf1 a:four.example include:permerror.example -all")
        result = self.check()
        self.assertEqual(result.mechanism, "include:permerror.example")
        self.assertIn("permerror.example", result.problem)

    def test_exists(self) -> None:
        self.results(
            ("v=spf1 exists:four.example -all", "pass", "2001:db8::1"),
            ("v=spf1 exists:six.example -all", "fail", "2001:db8:1::1"),
            ("v=spf1 exists:nowhere.example -all", "fail"),
            ("v=spf1 exists:broken.example -all", "temperror"),
            ("v=spf1 exists:%{d2} -all", "pass"),
        )

    def test_names_that_cannot_exist_match_nothing(self) -> None:
        label = "a" * 64
        for term in (f"a:{label}.example", "mx:a..example", f"exists:{label}.example",
                     "ptr:a..example", "a:%{l}.example"):  # fmt: skip
            self.record(f"v=spf1 {term} -all")
            result = self.check(mail_from=Path("\0\n", IPDomain(domain=parse_domain("a.example"))))
            self.assertEqual((result.status, result.mechanism), ("fail", "all"), term)

    def test_redirect(self) -> None:
        self.record("v=spf1 a -all", "target.example")
        self.resolver.add("target.example", "A", "203.0.113.9")
        self.record("v=spf1 redirect=target.example", "via.example")
        self.results(
            ("v=spf1 redirect=target.example", "pass", "203.0.113.9"),
            ("v=spf1 redirect=via.example", "fail", "192.0.2.1"),
            ("v=spf1 ip4:192.0.2.1 redirect=target.example", "pass"),
            ("v=spf1 redirect=nowhere.example", "permerror"),
            ("v=spf1 redirect=four.example", "permerror"),
            ("v=spf1 redirect=a..example", "permerror"),
            ("v=spf1 redirect=broken.example", "temperror"),
            ("v=spf1 include:via.example -all", "pass", "203.0.113.9"),
            ("v=spf1 redirect=%{l}.example", "fail", "192.0.2.1", "target@a.example"),
        )

    def test_a_given_record(self) -> None:
        result = self.check(record=parse_record("v=spf1 a ~all"))
        self.assertEqual((result.status, result.mechanism), ("pass", "a"))
        self.assertNotIn(("a.example.", "TXT"), self.resolver.asked)


class ReverseTests(Case):
    """``ptr`` and macro ``p``."""

    def reverse(self, ip: str, *names: str) -> None:
        self.resolver.add(dns.reverse_name(ip), "PTR", *names)

    def test_ptr(self) -> None:
        self.reverse("192.0.2.1", "other.net", "Mail.A.Example", "a.example.evil.net")
        self.resolver.add("mail.a.example", "A", "192.0.2.1")
        self.reverse("192.0.2.2", "mail.a.example")  # not confirmed
        self.reverse("192.0.2.3", "xa.example")
        self.resolver.add("xa.example", "A", "192.0.2.3")
        self.reverse("2001:db8::1", "mail.a.example")
        self.resolver.add("mail.a.example", "AAAA", "2001:db8::1")
        self.reverse("192.0.2.5", "a.example")
        self.resolver.add("a.example", "A", "192.0.2.5")
        self.results(
            ("v=spf1 ptr -all", "pass"),
            ("v=spf1 ptr:EXAMPLE.%{d1} -all", "fail", "192.0.2.9"),
            ("v=spf1 ptr:mail.a.example -all", "pass"),
            ("v=spf1 ptr:b.example -all", "fail"),
            ("v=spf1 ptr -all", "fail", "192.0.2.2"),
            ("v=spf1 ptr -all", "fail", "192.0.2.3"),
            ("v=spf1 ptr -all", "pass", "2001:db8::1"),
            ("v=spf1 ptr -all", "pass", "192.0.2.5"),
        )

    def test_only_names_that_matter_are_asked_for(self) -> None:
        self.reverse("192.0.2.1", "other.net", "mail.a.example")
        self.record("v=spf1 ptr ptr:b.example -all")
        self.assertEqual(self.check().status, "fail")
        self.assertEqual(
            self.resolver.asked,
            [("a.example.", "TXT"), ("1.2.0.192.in-addr.arpa.", "PTR"), ("mail.a.example.", "A")],
        )

    def test_failures_match_nothing(self) -> None:
        """RFC 7208 5.5."""
        self.record("v=spf1 ptr -all")
        self.resolver.fail["1.2.0.192.in-addr.arpa."] = "servfail"
        self.assertEqual(self.check().status, "fail")
        self.resolver.fail.clear()
        self.reverse("192.0.2.1", "bad.a.example", "good.a.example")
        self.resolver.fail["bad.a.example."] = "timeout"
        self.resolver.add("good.a.example", "A", "192.0.2.1")
        self.assertEqual(self.check().status, "pass")

    def test_ten_names(self) -> None:
        names = [f"h{number}.a.example" for number in range(11)]
        self.reverse("192.0.2.1", *names)
        self.record("v=spf1 ptr -all")
        self.resolver.add(names[10], "A", "192.0.2.1")
        self.assertEqual(self.check().status, "fail")
        self.resolver.add(names[9], "A", "192.0.2.1")
        self.assertEqual(self.check().status, "pass")

    def test_macro(self) -> None:
        """RFC 7208 7.3: the domain, else a name below it, else any, else unknown."""
        self.reverse("192.0.2.1", "other.net", "below.a.example", "a.example", "none.a.example")
        for name in ("other.net", "below.a.example", "a.example"):
            self.resolver.add(name, "A", "192.0.2.1")
        self.record("v=spf1 exists:%{p}.x -all")
        for name in ("a.example", "below.a.example", "other.net"):
            self.resolver.asked.clear()
            self.check()
            self.assertEqual(self.resolver.asked[-1], (name + ".x.", "A"))
            self.resolver.zones[name + "."]["A"] = ["192.0.2.7"]
        self.check()
        self.assertEqual(self.resolver.asked[-1], ("unknown.x.", "A"))
        self.resolver.fail["1.2.0.192.in-addr.arpa."] = "servfail"
        self.check()
        self.assertEqual(self.resolver.asked[-1], ("unknown.x.", "A"))


class ExplanationTests(Case):
    """RFC 7208 6.2."""

    def explain(self, *texts: str, record: str = "v=spf1 -all exp=why.%{d}", **options: Any) -> str:
        self.record(record)
        self.resolver.zones["why.a.example."] = {"TXT": list(texts)} if texts else {}
        result = self.check(**options)
        self.assertEqual(result.status, "fail")
        return result.explanation

    def test_macros(self) -> None:
        self.assertEqual(
            self.explain("%{s} from %{c} (%{i}, %{h}) refused by %{r} at %{t}%%. See %{S}."),
            "joe@a.example from 192.0.2.1 (192.0.2.1, relay.sender.example) refused by "
            "mx.receiver.example at 1700000000%. See joe%40a.example.",
        )
        self.assertEqual(
            self.explain("%{c} is %{ir}.%{v}.arpa, %{p}", ip="2001:db8::cb01"),
            "2001:db8::cb01 is 1.0.b.c." + "0." * 20 + "8.b.d.0.1.0.0.2.ip6.arpa, unknown",
        )
        path = Path("Macro Error", parse_ipdomain("a.example"))
        self.assertEqual(self.explain("%{l}", mail_from=path), "Macro Error")

    def test_only_for_fail(self) -> None:
        self.resolver.add("why.a.example", "TXT", "no")
        for qualifier in "+~?":
            self.record(f"v=spf1 {qualifier}all exp=why.a.example")
            self.assertEqual(self.check().explanation, "")
        self.assertNotIn(("why.a.example.", "TXT"), self.resolver.asked)

    def test_invalid_ones_are_as_good_as_none(self) -> None:
        for texts in ((), ("one", "two"), ("a %{x}",), ("100%",), ("é",), ("a\\xe9",), ("a\nb",),
                      ("x" * 2000,), ("",)):  # fmt: skip
            self.assertEqual(self.explain(*texts), "", texts)
        self.resolver.fail["why.a.example."] = "servfail"
        self.assertEqual(self.explain("text"), "")
        self.resolver.fail.clear()
        self.assertEqual(self.explain("text", record="v=spf1 -all exp=a..%{d}"), "")

    def test_utf8_local_parts(self) -> None:
        self.assertEqual(self.explain("%{L}", sender="jö@a.example"), "j%C3%B6")
        self.assertEqual(self.explain("%{l}", sender="jö@a.example"), "")
        self.assertEqual(
            self.explain("x", record="v=spf1 -all exp=%{l}.a.example", sender="jö@a.example"), ""
        )

    def test_cut(self) -> None:
        self.assertEqual(self.explain("%{s}" * 390), ("joe@a.example" * 100)[:800])

    def test_include_and_redirect(self) -> None:
        """The explanation is that of the record that failed, not of one included."""
        self.resolver.add("why.b.example", "TXT", "of b, for %{d}")
        self.record("v=spf1 -all exp=why.b.example", "b.example")
        self.assertEqual(self.explain("of a", record="v=spf1 include:b.example -all"), "")
        self.assertEqual(
            self.explain("of a", record="v=spf1 include:b.example -all exp=why.a.example"), "of a"
        )
        self.assertEqual(
            self.explain("of a", record="v=spf1 exp=why.a.example redirect=b.example"),
            "of b, for b.example",
        )
        self.record("v=spf1 -all", "b.example")
        self.assertEqual(
            self.explain("of a", record="v=spf1 exp=why.a.example redirect=b.example"), ""
        )

    def test_limits_do_not_touch_it(self) -> None:
        self.record("v=spf1", "b.example")
        self.assertEqual(
            self.explain("why", record="v=spf1 a:x1.example a:x2.example -all exp=why.a.example"),
            "why",
        )
        self.assertEqual(
            self.explain("%{p}", record=f"v=spf1{' include:b.example' * 10} -all exp=why.%{{d}}"),
            "unknown",
        )

    def test_not_wanted(self) -> None:
        self.assertEqual(self.explain("text", explain=False), "")

    def test_slow(self) -> None:
        self.record("v=spf1 -all exp=why.a.example")
        work = self.start(resolver=Silent(self.resolver, {"why.a.example."}))
        self.clock.advance(4.9)
        self.assertNoResult(work)
        self.clock.advance(0.2)
        result = self.successResultOf(work)
        self.assertEqual((result.status, result.explanation), ("fail", ""))


class Silent:
    """A resolver that never answers for some names."""

    def __init__(self, resolver: ZoneResolver, names: set[str]) -> None:
        self.resolver = resolver
        self.names = names
        self.cancelled: list[str] = []

    async def lookup(self, name: str, rtype: str) -> dns.Answer[Any]:
        if name in self.names:
            await Deferred(lambda _: self.cancelled.append(name))
        return await self.resolver.lookup(name, rtype)


class LimitTests(Case):
    """RFC 7208 4.6.4."""

    def setUp(self) -> None:
        super().setUp()
        self.resolver.add("a.example", "A", "203.0.113.1")
        self.resolver.add("a.example", "MX", (10, "a.example"))

    def test_ten_terms(self) -> None:
        self.record("v=spf1 a a a a a a a a", "inc.example")
        self.resolver.add("inc.example", "A", "203.0.113.2")
        self.results(
            ("v=spf1 a mx a mx a mx a mx a mx ip4:192.0.2.1 -all", "pass"),
            ("v=spf1 a mx a mx a mx a mx a mx a ip4:192.0.2.1 -all", "permerror"),
            ("v=spf1 a mx a mx a mx a mx a mx ip4:192.0.2.1 a -all", "pass"),
            ("v=spf1 a include:inc.example ip4:192.0.2.1 a -all", "pass"),
            ("v=spf1 a include:inc.example a ip4:192.0.2.1 -all", "permerror"),
            ("v=spf1" + " ip4:203.0.113.1 ip6:::1" * 150 + " a -all", "fail"),
        )

    def test_loops(self) -> None:
        self.record("v=spf1 include:a.example", "b.example")
        self.results(
            ("v=spf1 redirect=a.example", "permerror"),
            ("v=spf1 include:a.example -all", "permerror"),
            ("v=spf1 include:b.example -all", "permerror"),
            ("v=spf1 include:b.example redirect=b.example", "permerror"),
        )
        self.assertLess(len(self.resolver.asked), 50)

    def test_redirects_count(self) -> None:
        for number in range(20):
            self.record(f"v=spf1 redirect=r{number + 1}.example", f"r{number}.example")
        self.record("v=spf1 +all", "r20.example")
        self.assertEqual(self.check(sender="x@r10.example").status, "pass")
        self.assertEqual(self.check(sender="x@r9.example").status, "permerror")

    def test_void_lookups(self) -> None:
        self.resolver.add("a.example", "AAAA", "2001:db8::1")
        self.results(
            ("v=spf1 a:v1.example mx:v2.example ?all", "neutral"),
            ("v=spf1 a:v1.example mx:v2.example exists:v3.example ?all", "permerror"),
            # Two may be void: what comes next and finds something is no harm.
            ("v=spf1 a:v1.example mx:v2.example a ?all", "neutral"),
            ("v=spf1 ptr a:v2.example a ?all", "neutral"),
            ("v=spf1 ptr a:v2.example a:v3.example ?all", "permerror"),
            ("v=spf1 a:a..x a:b..x a:c..x ?all", "neutral"),  # nothing was asked
        )

    def test_hosts_of_an_mx_are_one_term(self) -> None:
        """Hosts without address of the client's family are common, and no void terms."""
        self.resolver.add("mx.example", "MX", *((n, f"h{n}.example") for n in range(6)))
        self.results(("v=spf1 mx:mx.example ?all", "neutral", "2001:db8::9"))

    def test_ten_mx_hosts(self) -> None:
        for number in range(11):
            self.resolver.add("a.example", "MX", (20 + number, f"h{number}.example"))
            self.resolver.add(f"h{number}.example", "A", f"192.0.2.{number}")
        self.results(
            ("v=spf1 mx -all", "pass", "192.0.2.8"),
            ("v=spf1 mx -all", "permerror", "192.0.2.9"),
            ("v=spf1 mx -all", "permerror", "192.0.2.99"),
        )

    def test_many_addresses(self) -> None:
        """There is no limit on addresses of a host, but one on the work."""
        many = [f"10.{n >> 8}.{n & 255}.1" for n in range(3000)]
        self.resolver.add("many.example", "A", *many)
        self.results(
            ("v=spf1 a:many.example -all", "pass", many[-1]),
            ("v=spf1 a:many.example/24 -all", "pass", many[-1][:-1] + "9"),
            ("v=spf1 a:many.example a:many.example/24 a:many.example/8 -all", "fail"),
            ("v=spf1" + " a:many.example/9" * 4 + " -all", "permerror"),
        )

    def test_macro_p_counts_when_it_asks(self) -> None:
        self.resolver.add("1.2.0.192.in-addr.arpa", "PTR", "a.example")
        self.resolver.add("unknown.a.example", "A", "203.0.113.1")
        self.results(
            ("v=spf1" + " a" * 8 + " -exists:%{p}.x.example +all", "pass"),
            ("v=spf1" + " a" * 9 + " -exists:%{p}.x.example +all", "permerror"),
            ("v=spf1" + " a" * 7 + " ptr exists:%{p}.x.example exists:%{p}.a.example -all", "pass"),
        )

    def test_time(self) -> None:
        self.record("v=spf1 a:slow.example +all")
        silent = Silent(self.resolver, {"slow.example."})
        work = self.start(resolver=silent)
        self.clock.advance(19.9)
        self.assertNoResult(work)
        self.clock.advance(0.2)
        result = self.successResultOf(work)
        self.assertEqual(
            (result.status, result.mechanism, result.authentic),
            ("temperror", "a:slow.example", False),
        )
        self.assertEqual(silent.cancelled, ["slow.example."])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_large_records(self) -> None:
        self.results(
            ("v=spf1" + " ip4:203.0.113.1" * 500 + " -all", "fail"),
            ("v=spf1" + " all" * 20000, "permerror"),
            ("v=spf1 " + "x" * 60000, "permerror"),
        )

    def test_worst_records_take_little(self) -> None:
        """Every lookup is answered at once by the largest records that are taken."""
        filler = " ip4:203.0.113.1" * 500
        for number in range(11):
            self.record(f"v=spf1{filler} include:b{number + 1}.example", f"b{number}.example")
        self.record(f"v=spf1{filler} include:b0.example")
        started = time.process_time()
        self.assertEqual(self.check().status, "permerror")
        self.assertLess(time.process_time() - started, 2)

    def test_cname_loop(self) -> None:
        self.resolver.add("l1.example", "CNAME", "l2.example")
        self.resolver.add("l2.example", "CNAME", "l1.example")
        self.results(
            ("v=spf1 a:l1.example -all", "temperror"),
            ("v=spf1 include:l1.example", "temperror"),
        )

    def test_unforeseen_errors(self) -> None:
        class Broken:
            async def lookup(self, name: str, rtype: str) -> dns.Answer[Any]:
                raise ZeroDivisionError

        self.assertEqual(self.check(resolver=Broken()).status, "temperror")

    @settings(max_examples=150, deadline=None)
    @given(st.data())
    def test_any_zone(self, data: st.DataObject) -> None:
        """Whatever records say of each other, there is a result, for a bounded price."""
        names = [f"n{number}.example" for number in range(4)]
        others = ["%{d}", "%{p}.example", "%{l1r-}.example", "a..b", "void.example"]
        name = st.sampled_from(names + others)
        mechanism = st.sampled_from(["a", "mx", "ptr", "include", "exists"])
        term = st.builds(
            "{}{}".format,
            st.sampled_from(["", "-", "~", "?"]),
            st.one_of(
                st.builds("{}:{}".format, mechanism, name),
                st.sampled_from(["a", "mx", "ptr", "all", "ip4:192.0.2.0/25", "ip6:::/1", "a/8"]),
            ),
        ) | st.builds("{}={}".format, st.sampled_from(["redirect", "exp", "x"]), name)
        failure = st.sampled_from([None] * 8 + ["servfail", "timeout"])
        self.setUp()
        for domain in names:
            self.record(" ".join(["v=spf1", *data.draw(st.lists(term, max_size=6))]), domain)
            self.resolver.add(domain, "A", data.draw(st.sampled_from(["192.0.2.1", "10.0.0.1"])))
            self.resolver.add(domain, "MX", (1, data.draw(st.sampled_from(names))))
            if (failing := data.draw(failure)) is not None:
                self.resolver.fail[domain + "."] = failing
        self.resolver.add("1.2.0.192.in-addr.arpa", "PTR", *names)
        result = self.check(sender="joe-x@n0.example")
        self.assertIn(result.status, ("none", "neutral", "pass", "fail", "softfail", "temperror",
                                      "permerror"))  # fmt: skip
        # 11 records, 10 terms with up to 10 hosts, 10 names of the client, an explanation.
        self.assertLess(len(self.resolver.asked), 60)


class AuthenticTests(Case):
    """DNSSEC."""

    def test_all_answers_count(self) -> None:
        zone: Zone = {
            "a.example": {"TXT": ["v=spf1 a:x.example mx:b.example -all exp=why.example"]},
            "b.example": {"MX": [(1, "h.example")]},
            "h.example": {"A": ["192.0.2.1"]},
        }
        asked = ["a.example", "x.example", "b.example", "h.example"]
        self.assertTrue(self.check(resolver=ZoneResolver(zone, authentic=asked)).authentic)
        for name in asked:
            others = [other for other in asked if other != name]
            result = self.check(resolver=ZoneResolver(zone, authentic=others))
            self.assertEqual((result.status, result.authentic), ("pass", False), name)

    def test_the_explanation_does_not(self) -> None:
        zone: Zone = {
            "a.example": {"TXT": ["v=spf1 -all exp=why.example"]},
            "why.example": {"TXT": ["because"]},
        }
        result = self.check(resolver=ZoneResolver(zone, authentic=["a.example"]))
        self.assertEqual((result.explanation, result.authentic), ("because", True))

    def test_absence(self) -> None:
        self.assertTrue(self.check(resolver=ZoneResolver(authentic=True)).authentic)
        self.assertFalse(self.check().authentic)
        zone: Zone = {"a.example": {"TXT": ["other"]}}
        self.assertTrue(self.check(resolver=ZoneResolver(zone, authentic=True)).authentic)
        zone = {"a.example": {"TXT": ["v=spf1 moo"]}}
        result = self.check(resolver=ZoneResolver(zone, authentic=True))
        self.assertEqual((result.status, result.authentic), ("permerror", True))

    def test_nothing_asked(self) -> None:
        self.assertFalse(self.check(sender="", hello="[192.0.2.1]").authentic)


class FieldTests(Case):
    def field(self, result: spf.SPFResult, hello: IPDomain = HELLO) -> str:
        data = received_spf(
            spf.received_field(result, remote_ip="192.0.2.1", hello=hello, local_hostname=OWN)
        )
        return data.decode().replace("\r\n\t", " ").removesuffix("\r\n")

    def test_mail_from(self) -> None:
        self.record("v=spf1 ip4:192.0.2.0/24 -all")
        self.assertEqual(
            self.field(self.check()),
            "Received-SPF: pass (domain a.example designates 192.0.2.1 as permitted sender)"
            ' client-ip=192.0.2.1; envelope-from="joe@a.example"; helo=relay.sender.example;'
            ' mechanism="ip4:192.0.2.0/24"; receiver=mx.receiver.example; identity=mailfrom',
        )

    def test_helo(self) -> None:
        self.record("v=spf1 moo", "relay.sender.example")
        field = self.field(self.check(sender=""))
        self.assertTrue(field.startswith("Received-SPF: permerror (broken sender policy of domain"))
        self.assertIn('envelope-from="postmaster@relay.sender.example"', field)
        self.assertIn("problem=\"spf record of relay.sender.example: unknown term 'moo", field)
        self.assertTrue(field.endswith("identity=helo"))

    def test_nothing_checked(self) -> None:
        hello = parse_ipdomain("[192.0.2.1]")
        field = self.field(self.check(sender="", hello=hello), hello)
        self.assertTrue(field.startswith("Received-SPF: none (nothing to check, mail from is null"))
        self.assertTrue(field.endswith("receiver=mx.receiver.example"))
        self.assertNotIn("identity", field)

    def test_strangers_text_stays_in_its_place(self) -> None:
        self.record('v=spf1 -exists:%{i}";identity=x(y).example')
        self.resolver.add('192.0.2.1";identity=x(y).example', "A", "127.0.0.2")
        field = self.field(self.check())
        self.assertIn('mechanism="exists:%{i}\\";identity=x(y).example";', field)


class LookupTests(Case):
    def test_lookup(self) -> None:
        self.record("v=spf1 MX -all")
        text, record, authentic = self.successResultOf(
            Deferred.fromCoroutine(spf.lookup(self.resolver, parse_domain("a.example")))
        )
        self.assertEqual((text, str(record)), ("v=spf1 MX -all", "v=spf1 mx -all"))
        self.assertFalse(authentic)
        for domain, error in (("b.example", spf.NoRecord), ("a", spf.NoRecord)):
            self.failureResultOf(
                Deferred.fromCoroutine(spf.lookup(self.resolver, parse_domain(domain))), error
            )
        self.record("v=spf1 moo")
        self.failureResultOf(
            Deferred.fromCoroutine(spf.lookup(self.resolver, parse_domain("a.example"))),
            spf.RecordError,
        )

    def test_metric(self) -> None:
        def count() -> float:
            found = metrics.REGISTRY.get_sample_value(
                "mox_spf_verify_duration_seconds_count", {"status": "softfail"}
            )
            return found or 0

        before = count()
        self.record("v=spf1 ~all")
        self.check()
        self.assertEqual(count(), before + 1)
