"""Domain names."""

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from moxtw.mail.domain import Domain, DomainError, parse_domain


class DomainTests(SynchronousTestCase):
    def test_ascii(self):
        self.assertEqual(parse_domain("Mail.Example.ORG"), Domain("mail.example.org"))
        self.assertEqual(parse_domain("localhost").name, "localhost")
        self.assertEqual(parse_domain("r3---sn-x.example").ascii, "r3---sn-x.example")

    def test_international_in_both_forms(self):
        self.assertRaises(DomainError, parse_domain, "☺.example")  # IDNA2008 has no emoji
        self.assertEqual(parse_domain("Straße.Εχαμπλ.Example").unicode, "straße.εχαμπλ.example")
        self.assertEqual(parse_domain("xn--strae-oqa.example").unicode, "straße.example")
        mapped = parse_domain("BÜCHER。example")
        self.assertEqual(mapped, Domain("xn--bcher-kva.example", "bücher.example"))
        self.assertEqual(mapped.name, "bücher.example")
        self.assertEqual(mapped.form(False), "xn--bcher-kva.example")
        self.assertEqual(mapped.log_name, "bücher.example/xn--bcher-kva.example")

    def test_full_width_maps_to_ascii(self):
        self.assertEqual(parse_domain("ｅｘａｍｐｌｅ.org"), Domain("example.org"))

    def test_refused(self):
        for text in (
            "", ".", "a..b", ".a", "a.", "a b", "a/b", "-a.example", "a-.example", "a_b.example",
            "x" * 64 + ".example", "[1.2.3.4]", "a\0b", "a\r\nb", "xn--a-\x00", "xn--.example",
            "xn--zzzzzzz99999999.example", "a\ud800b", "a\u2028b", "\u200d.example", "é" * 63,
            "@", "a:b", "a,b", "１／２.example", "." * 255, "a." * 130,
        ):  # fmt: skip
            with self.assertRaises(DomainError, msg=repr(text)):
                parse_domain(text)

    def test_lax(self):
        self.assertEqual(parse_domain("_dmarc.Example", strict=False).ascii, "_dmarc.example")
        self.assertEqual(parse_domain("my_host", False).ascii, "my_host")
        fake = parse_domain("xn--zzzzzzz99999999.example", strict=False)
        self.assertEqual((fake.ascii, fake.unicode), ("xn--zzzzzzz99999999.example", ""))
        self.assertRaises(DomainError, parse_domain, "a b", False)

    def test_trailing_dot_only_when_absolute(self):
        self.assertEqual(parse_domain("a.example.", absolute=True), Domain("a.example"))
        self.assertRaises(DomainError, parse_domain, "a.example..", absolute=True)
        self.assertRaises(DomainError, parse_domain, ".", absolute=True)
        self.assertRaises(DomainError, parse_domain, "é.example.")

    def test_lengths(self):
        longest = ".".join(["a" * 63] * 4)
        self.assertEqual(len(parse_domain(longest).ascii), 255)
        self.assertRaises(DomainError, parse_domain, longest + "a")
        self.assertRaises(DomainError, parse_domain, ".".join(["é" * 50] * 5))

    def test_within(self):
        parent = parse_domain("example.org")
        self.assertTrue(parse_domain("a.example.org").is_within(parent))
        self.assertTrue(parent.is_within(parent))
        self.assertFalse(parse_domain("aexample.org").is_within(parent))

    @settings(max_examples=200, deadline=None)
    @given(st.text(max_size=40), st.booleans())
    def test_result_parses_to_itself(self, text, strict):
        try:
            domain = parse_domain(text, strict)
        except DomainError:
            return
        self.assertTrue(domain.ascii.isascii())
        self.assertEqual(domain.ascii, domain.ascii.lower())
        self.assertEqual(parse_domain(domain.ascii, strict), domain)
        self.assertEqual(parse_domain(domain.name, strict), domain)
