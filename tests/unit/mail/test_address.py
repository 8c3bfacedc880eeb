"""Addresses, paths, localparts."""

import unicodedata

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from moxtw.mail.address import (
    MAX_PATH,
    Address,
    AddressError,
    IPDomain,
    Path,
    base_address,
    canonical_localpart,
    check_localpart,
    format_localpart,
    localpart_suffix,
    pack_address,
    parse_address,
    parse_ipdomain,
    parse_localpart,
    parse_path,
    scan_path,
)
from moxtw.mail.domain import Domain, parse_domain

EXAMPLE = parse_domain("example.org")


class LocalpartTests(SynchronousTestCase):
    def test_decoded(self):
        for text, localpart in (
            ("user", "user"),
            ("a.b+c=d", "a.b+c=d"),
            ('"user"', "user"),
            ('"a b"', "a b"),
            (r'"a\"b\\c"', r'a"b\c'),
            (r'"\u\s\e\r"', "user"),
            ('""', ""),
            ("δοκιμή", "δοκιμή"),
            ("e\u0301", "é"),
            ('"é x"', "é x"),
        ):
            self.assertEqual(parse_localpart(text), localpart)

    def test_refused(self):
        for text in (
            "", ".", ".a", "a.", "a..b", "a b", '"a', '"a"b', 'a"b"', "a@b", "a\tb", "a\0", '"\r"',
            '"\\\n"', "a\r\nRCPT", "\x80", '"\x85"', "\ud800", "a\\b", "(a)", "<a>", "x" * 129,
            "é" * 65, '"' + "x" * 129 + '"',
        ):  # fmt: skip
            with self.assertRaises(AddressError, msg=repr(text)):
                parse_localpart(text)

    def test_strict_length(self):
        self.assertEqual(parse_localpart("x" * 64, strict=True), "x" * 64)
        self.assertRaises(AddressError, parse_localpart, "x" * 65, strict=True)
        self.assertEqual(parse_localpart("x" * 128), "x" * 128)

    def test_format(self):
        self.assertEqual(format_localpart(""), '""')
        self.assertEqual(format_localpart("a..b"), '"a..b"')
        self.assertEqual(format_localpart('a"\\'), r'"a\"\\"')
        self.assertEqual(pack_address("a b", "x.example"), '"a b"@x.example')
        self.assertEqual(pack_address("postmaster", ""), "postmaster")

    @settings(max_examples=200, deadline=None)
    @given(st.text(max_size=30))
    def test_roundtrip(self, text):
        try:
            localpart = check_localpart(text)
        except AddressError:
            return
        self.assertEqual(parse_localpart(format_localpart(localpart)), localpart)
        self.assertEqual(unicodedata.normalize("NFC", localpart), localpart)


class AddressTests(SynchronousTestCase):
    def test_parse(self):
        address = parse_address("User@Example.ORG")
        self.assertEqual(address, Address("User", EXAMPLE))
        self.assertEqual(str(address), "User@example.org")
        self.assertEqual(address.path, Path("User", IPDomain(domain=EXAMPLE)))
        self.assertEqual(parse_address('"a@b"@example.org').localpart, "a@b")

    def test_forms(self):
        address = parse_address("é@bücher.example")
        self.assertTrue(address.needs_utf8)
        self.assertEqual(address.pack(), "é@bücher.example")
        self.assertEqual(address.pack(False), "é@xn--bcher-kva.example")

    def test_refused(self):
        for text in (
            "", "a", "a@", "@b", "a@b@c", "a@[1.2.3.4]", "a@b.", "a@-b", "a@b c", " a@b", "a@b\r\n",
            "a@" + "x" * 64, "<a@b>", "a@b>", "a@@b",
        ):  # fmt: skip
            with self.assertRaises(AddressError, msg=repr(text)):
                parse_address(text)

    def test_strict_refuses_underscores(self):
        self.assertEqual(parse_address("a@b_c.example").domain, Domain("b_c.example"))
        self.assertRaises(AddressError, parse_address, "a@b_c.example", strict=True)

    @settings(max_examples=200, deadline=None)
    @given(st.text(max_size=12), st.text(max_size=12))
    def test_hostile_text_raises_only_its_own_error(self, left, right):
        for text in (f"{left}@{right}", f"{left}@{right}.example", left):
            try:
                address = parse_address(text)
            except AddressError:
                continue
            self.assertEqual(parse_address(str(address)), address)


class PathTests(SynchronousTestCase):
    def test_null(self):
        self.assertEqual(scan_path("<> SIZE=1", null=True), (Path(), 2))
        self.assertRaises(AddressError, scan_path, "<>")
        self.assertTrue(Path().is_zero)
        self.assertEqual(Path().wire(), "<>")
        self.assertTrue(parse_path("").is_zero)
        self.assertTrue(parse_path("<>").is_zero)
        self.assertFalse(parse_path('""@example.org').is_zero)

    def test_postmaster(self):
        path, end = scan_path("<PostMaster>", postmaster=True)
        self.assertEqual((path, end), (Path("PostMaster"), 12))
        self.assertFalse(path.is_zero)
        self.assertEqual(path.wire(), "<PostMaster>")
        self.assertIsNone(path.address)
        self.assertRaises(AddressError, scan_path, "<postmaster>")

    def test_source_route_is_dropped(self):
        path, end = scan_path("<@a.example,@[10.0.0.1]:u@example.org> X")
        self.assertEqual((str(path), end), ("u@example.org", 38))
        for text in ("<@a.example>", "<@a.example,:u@b>", "<@a.example,@b u@c>", "<@:u@b>", "<@a"):
            with self.assertRaises(AddressError, msg=text):
                scan_path(text)

    def test_literals(self):
        for text, ip, literal in (
            ("[10.1.2.3]", "10.1.2.3", "[10.1.2.3]"),
            ("[IPv6:2001:DB8:0::1]", "2001:db8::1", "[IPv6:2001:db8::1]"),
            ("[ipv6:::1]", "::1", "[IPv6:::1]"),
            ("[::1]", "::1", "[IPv6:::1]"),
        ):
            ipdomain = parse_ipdomain(text)
            self.assertEqual((ipdomain.ip, ipdomain.form()), (ip, literal))
            self.assertEqual(ipdomain.name, f"[{ip}]")
            self.assertEqual(str(scan_path(f"<u@{text}>")[0]), f"u@{literal}")
        self.assertRaises(AddressError, parse_ipdomain, "[::1]", strict=True)
        for text in (
            "[]", "[1.2.3]", "[1.2.3.4", "[1.2.3.256]", "[01.2.3.4]", "[x]", "[IPv6:1.2.3.4]",
            "[IPv6:fe80::1%eth0]", "[IPv6:]", "[1.2.3.4]x", "[X-tag:abc]", "[" + "1" * 1000 + "]",
        ):  # fmt: skip
            with self.assertRaises(AddressError, msg=text):
                parse_ipdomain(text)

    def test_limit_counts_octets_with_brackets(self):
        def path(length):
            domain = ".".join(["d" * 60] * 3)
            fill = length - len(domain) - 3
            return f"<{'l' * fill}@{domain}>"

        self.assertEqual(scan_path(path(256), limit=MAX_PATH)[1], 256)
        self.assertRaises(AddressError, scan_path, path(257), limit=MAX_PATH)
        self.assertEqual(scan_path(path(257))[1], 257)

    def test_refused(self):
        for text in ("", "<", "u@b", "<u@b", "<u>", "<u@b >", "< u@b>", "<u@b\r>", "<<u@b>>"):
            with self.assertRaises(AddressError, msg=text):
                scan_path(text, null=True)

    def test_log_name(self):
        self.assertEqual(
            parse_path("a@bücher.example").log_name, "a@bücher.example/xn--bcher-kva.example"
        )


class DerivedTests(SynchronousTestCase):
    def test_base_address(self):
        for localpart, base in (
            ("User", "user"),
            ("u.s.er+tag-x", "user"),
            ("user-a+b", "user"),
            ("user", "user"),
            ("+x", '""'),
        ):
            self.assertEqual(base_address(localpart, "example.org"), base + "@example.org")

    def test_canonical(self):
        self.assertEqual(canonical_localpart("User"), "user")
        self.assertEqual(canonical_localpart("User", case_sensitive=True), "User")
        self.assertEqual(canonical_localpart("User+a-b", separators=["+", "-"]), "user")
        self.assertEqual(canonical_localpart("User-a+b", separators=["+"]), "user-a")
        self.assertEqual(canonical_localpart("+a", separators=["+"]), "+a")
        self.assertEqual(canonical_localpart("a+", separators=["+", ""]), "a")

    def test_reserved_localparts_keep_their_separators(self):
        def canonical(text):
            return canonical_localpart(text, separators=["-"], reserved=["tls-reports"])

        self.assertEqual(canonical("TLS-Reports"), "tls-reports")
        self.assertEqual(canonical("tls-reports-x"), "tls-reports")
        self.assertEqual(canonical("tls-reportsx"), "tls")

    def test_suffix(self):
        self.assertEqual(localpart_suffix("a+b+c", ["+", "-"]), "b+c")
        self.assertEqual(localpart_suffix("a-b", ["+", "-"]), "")
        self.assertEqual(localpart_suffix("a-b", []), "")
