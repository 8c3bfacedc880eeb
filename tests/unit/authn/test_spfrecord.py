"""SPF records and macros as text."""

from __future__ import annotations

import contextlib
import ipaddress
import time

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from moxtw.authn import spfmacro
from moxtw.authn.spfmacro import Macro, MacroError
from moxtw.authn.spfrecord import Modifier, RecordError, is_record, parse_record

VALUES = {
    "s": "strong-bad@email.example.com",
    "l": "strong-bad",
    "o": "email.example.com",
    "d": "email.example.com",
    "i": "192.0.2.3",
    "p": "mx.example.org",
    "v": "in-addr",
    "h": "relay.example.net",
    "c": "192.0.2.3",
    "r": "mail.example",
    "t": "1700000000",
}


def expand(text: str, **values: str) -> str:
    return spfmacro.expand_name(spfmacro.parse(text), {**VALUES, **values})


class RecordTests(SynchronousTestCase):
    """Which records are valid, and how they read in normal form."""

    def test_claims(self) -> None:
        for text in ("v=spf1", "V=SPF1 a", "v=spf1 "):
            self.assertTrue(is_record(text), text)
        for text in ("", "v=spf10", "v=spf1\ta", "v=spf2 a", " v=spf1", "v=spf1a", "spf1"):
            self.assertFalse(is_record(text), text)

    def test_valid(self) -> None:
        for text, normal in (
            ("v=spf1", "v=spf1"),
            ("v=spf1  ", "v=spf1"),
            ("V=SpF1  MX   -All ", "v=spf1 mx -all"),
            ("v=spf1 +a ~mx ?ptr -all", "v=spf1 a ~mx ?ptr -all"),
            ("v=spf1 a:mail.example/24//64", None),
            ("v=spf1 a/0 mx//0 a/32//128", None),
            ("v=spf1 a:with:colon/and-slash.example", None),
            ("v=spf1 a:h.xn--zckzah mx:h.a-1 ptr:h.1a", None),
            ("v=spf1 a:h.example. exists:%{d}", None),
            ("v=spf1 exists:%{ir}.%{v}._spf.%{d2}", None),
            ("v=spf1 exists:%{L3R+-}x%% exists:a%_ exists:a%-", None),
            ("v=spf1 a:%{d}/8 include:two..dots.example", None),
            ("v=spf1 ip4:192.0.2.1 ip4:0.0.0.0/0 ip4:192.0.2.255/9", None),
            ("v=spf1 ip6:2001:DB8::1 ip6:::/0 ip6:::192.0.2.1/128", None),
            ("v=spf1 redirect=a.example exp=b.b ?a", "v=spf1 ?a redirect=a.example exp=b.b"),
            ("v=spf1 ReDirect=a.example", "v=spf1 redirect=a.example"),
            ("v=spf1 x-y.z_1=man:dog/cat%{t} default=+ empty=", None),
        ):  # fmt: skip
            with self.subTest(text):
                self.assertEqual(str(parse_record(text)), normal or text)

    def test_invalid(self) -> None:
        for terms in (
            "moo", "-all moo", "all:x", "all/8", "all.", "-", "+-all", "++all", "a:=", "1up=x",
            "=x", "include", "include:", "include:a.example/24", "exists", "exists:",
            "exists:a.example/24", "a:", "a:/24", "a/33", "a//129", "a/24/64", "a/024", "a/",
            "a//", "a:a.example/", "a:x..", "a:museum", "a:museum.", "a:192.0.2.1", "a:x.123",
            "a:x.-com", "a:x.com-", "a:x.example:25", "a:x.example\0", "a:x\xe9.example",
            "a:\xff.example", "a:x.example\tptr", "a:x.ex\rptr", "a:x%%_", "a:x%", "a:%{d",
            "a:%{}", "a:%{d}x", "a:%{z}.example", "a:%{d0}.example", "a:%(d).example",
            "a:%{d1rr}.example", "a:%{dr1}.example", "a:%{d;}.example", "a:%d",
            "exists:%{c}.example", "exists:%{R}.example", "exp=%{t}.example", "redirect=%{r}",
            "ptr/8", "ptr:", "ptr:museum", "mx:", "mx/33", "mx:x/24/24", "ip4", "ip4:",
            "ip4:192.0.2", "ip4:192.0.2.256", "ip4:192.0.2.01", "ip4:192.0.2.1:25",
            "ip4:192.0.2.1/33", "ip4:192.0.2.1/", "ip4:192.0.2.1/08", "ip4:192.0.2.1//8",
            "ip4:::1", "ip6", "ip6:", "ip6:192.0.2.1", "ip6::1::2", "ip6:::1/129", "ip6:::1//64",
            "ip6:::1%eth0", "ip6:12345::", "ip6:1:2:3:4:5:6:7", "ip6:::1/0128", "redirect=",
            "exp=", "exp=-all", "redirect=-all", "redirect:a.example", "redirect",
            "redirect=a.example redirect=a.example", "exp=a.example -all EXP=b.example",
            "foo=%abc", "foo=%", "foo=\xe9", "a/x=y", "a:x=y",
        ):  # fmt: skip
            with self.subTest(terms):
                self.assertRaises(RecordError, parse_record, "v=spf1 " + terms)

    def test_not_a_record(self) -> None:
        for text in ("", "v=spf1a", "a -all"):
            self.assertRaises(RecordError, parse_record, text)

    def test_fields(self) -> None:
        record = parse_record(
            "v=spf1 -mx:%{d2}/24//64 ?IP6:2001:db8::ff/64 a exp=why.%{o} Foo=bar%{r}"
        )
        mx, ip6, a = record.directives
        self.assertEqual((mx.qualifier, mx.mechanism, mx.text), ("-", "mx", "mx:%{d2}/24//64"))
        self.assertEqual((mx.ip4_prefix, mx.ip6_prefix), (24, 64))
        assert mx.domain is not None and record.exp is not None
        self.assertEqual(mx.domain.parts, (Macro("d", digits=2),))
        self.assertEqual(ip6.network, ipaddress.ip_network("2001:db8::/64"))
        self.assertEqual((a.qualifier, a.domain, a.ip4_prefix), ("+", None, None))
        self.assertEqual(record.exp.parts, ("why.", Macro("o")))
        self.assertEqual(record.others, (Modifier("Foo", "bar%{r}"),))

    def test_long_ones_are_refused(self) -> None:
        self.assertEqual(len(parse_record("v=spf1" + " a" * 4000).directives), 4000)
        self.assertRaises(RecordError, parse_record, "v=spf1" + " a" * 5000)

    def test_linear(self) -> None:
        """None of these takes time that grows with the square."""
        for piece in "a", " all", "%{l}", ".a", "a/", "%", "%%", "/1", ":", "-a.", "%{l.", "a=":
            for start in ("v=spf1 a:", "v=spf1 exp=", "v=spf1 x=", "v=spf1 ip6:", "v=spf1 "):
                started = time.process_time()
                with contextlib.suppress(RecordError):
                    parse_record((start + piece * 8000)[:8192])
                self.assertLess(time.process_time() - started, 0.5, (start, piece))

    @settings(max_examples=200)
    @given(
        st.lists(
            st.sampled_from(
                ["a", "mx", "all", "include:", "exists:", "ip4:", "ip6:", "192.0.2.1", "2001:db8::",
                 "/24", "//64", "%{d}", "%{l1r-}", "%%", "%_", ".example", "-", "~", " ",
                 "redirect=", "exp=", "x=", "ptr", ":", "%{", "\xe9", "\0"]
            )
        ).map("".join)
        | st.text(max_size=60)
    )  # fmt: skip
    def test_any_text(self, terms: str) -> None:
        try:
            record = parse_record("v=spf1 " + terms)
        except RecordError:
            return
        self.assertEqual(parse_record(str(record)), record)
        self.assertTrue(str(record).isascii())


class MacroTests(SynchronousTestCase):
    def test_examples_of_the_rfc(self) -> None:
        """RFC 7208 7.4."""
        for text, expanded in (
            ("%{s}", "strong-bad@email.example.com"),
            ("%{o}", "email.example.com"),
            ("%{d}", "email.example.com"),
            ("%{d4}", "email.example.com"),
            ("%{d3}", "email.example.com"),
            ("%{d2}", "example.com"),
            ("%{d1}", "com"),
            ("%{dr}", "com.example.email"),
            ("%{d2r}", "example.email"),
            ("%{l}", "strong-bad"),
            ("%{l-}", "strong.bad"),
            ("%{lr}", "strong-bad"),
            ("%{lr-}", "bad.strong"),
            ("%{l1r-}", "strong"),
            ("%{ir}.%{v}._spf.%{d2}", "3.2.0.192.in-addr._spf.example.com"),
            ("%{lr-}.lp._spf.%{d2}", "bad.strong.lp._spf.example.com"),
            ("%{lr-}.lp.%{ir}.%{v}._spf.%{d2}",
             "bad.strong.lp.3.2.0.192.in-addr._spf.example.com"),
            ("%{ir}.%{v}.%{l1r-}.lp._spf.%{d2}", "3.2.0.192.in-addr.strong.lp._spf.example.com"),
            ("%{d2}.trusted-domains.example.net", "example.com.trusted-domains.example.net"),
        ):  # fmt: skip
            with self.subTest(text):
                self.assertEqual(expand(text), expanded)

    def test_escapes_and_case(self) -> None:
        self.assertEqual(expand("a%%b%_c%-d"), "a%b c%20d")
        self.assertEqual(
            expand("%{L}/%{l}", l="~jack&jill=up-a_b3.c/é"),
            "~jack%26jill%3Dup-a_b3.c%2F%C3%A9/~jack&jill=up-a_b3.c/é",
        )
        self.assertEqual(expand("%{L2R_}", l="a b_c_d"), "c.a%20b")

    def test_several_delimiters(self) -> None:
        self.assertEqual(expand("%{l2r+-}.user", l="foo-bar+zip+quux"), "bar.foo.user")
        self.assertEqual(expand("%{l+}", l="a.b+c"), "a.b.c")
        self.assertEqual(expand("%{l999999999999r=}", l="a=b="), ".b.a")
        self.assertEqual(expand("%{l00001}", l="a.b"), "b")

    def test_long_names_lose_labels_on_the_left(self) -> None:
        """RFC 7208 7.3."""
        label = "a" * 49
        name = expand("x.%{d}.%{d}", d=f"{label}.{label}.example")
        self.assertEqual(name, f"x.{label}.{label}.example.{label}.{label}.example")
        name = expand("x.%{d}.%{d}.%{d}", d=f"{label}.{label}.example")
        self.assertEqual(name, f"example.{label}.{label}.example.{label}.{label}.example")
        self.assertLessEqual(len(name), 253)
        self.assertEqual(expand("%{l}", l="a" * 300), "")
        exact = ".".join(["b" * 62] * 4) + "x"
        self.assertEqual(len(exact), 252)
        self.assertEqual(expand("c.%{d}", d=exact), exact)
        self.assertEqual(expand("%{d}.", d="c" + exact), "c" + exact)

    def test_final_dot(self) -> None:
        self.assertEqual(expand("%{d}."), "email.example.com")

    def test_expansion_is_bounded(self) -> None:
        parts = spfmacro.parse("%{l}" * 2000 + ".example")
        started = time.process_time()
        spfmacro.expand_name(parts, {"l": "a-b." * 60})
        spfmacro.expand_text(parts, {"l": "a-b." * 60}, 800)
        self.assertLess(time.process_time() - started, 0.2)

    def test_explanations_may_hold_blanks(self) -> None:
        parts = spfmacro.parse("See  %{c}.", blanks=True)
        self.assertEqual(spfmacro.expand_text(parts, VALUES, 800), "See  192.0.2.3.")
        self.assertEqual(spfmacro.expand_text(parts, VALUES, 6), "See  1")
        self.assertRaises(MacroError, spfmacro.parse, "a b")

    @settings(max_examples=200)
    @given(
        st.text(max_size=40) | st.lists(
            st.sampled_from(["%{d}", "%{L2r-}", "%{p}", "%%", "%-", ".", "x", "%{i99r.}"])
        ).map("".join),
        st.text(max_size=300),
    )  # fmt: skip
    def test_any_text(self, text: str, value: str) -> None:
        try:
            parts = spfmacro.parse(text)
        except MacroError:
            return
        values = dict.fromkeys(VALUES, value)
        name = spfmacro.expand_name(parts, values)
        self.assertLessEqual(len(name), 253)
        full = spfmacro.expand_text(parts, values, 1 << 20).removesuffix(".")
        if len(full) <= 253:
            self.assertEqual(name, full)
        else:
            self.assertTrue(full.endswith(name))
