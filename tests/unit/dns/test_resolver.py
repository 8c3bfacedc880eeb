"""The resolver interface, its helpers, and the resolver over a dict."""

from twisted.trial.unittest import SynchronousTestCase

from moxtw.dns import resolver as r
from moxtw.dns.fake import ZoneResolver


def zone(**options):
    return ZoneResolver(
        {
            "example.org": {
                "MX": [(20, "b.example.org"), (10, "A.example.org.")],
                "TXT": ["v=spf1 -all"],
            },
            "a.example.org": {"A": ["192.0.2.1"], "AAAA": ["2001:DB8::1"]},
            "b.example.org": {"A": ["192.0.2.2"]},
            "www.example.org": {"CNAME": ["web.example.org"]},
            "web.example.org": {"CNAME": ["a.example.org"]},
            "loop1.example": {"CNAME": ["loop2.example"]},
            "loop2.example": {"CNAME": ["loop1.example"]},
            "1.2.0.192.in-addr.arpa": {"PTR": ["a.example.org"]},
            "_25._tcp.a.example.org": {"TLSA": [(3, 1, 1, "ab" * 32)]},
            "_imaps._tcp.example.org": {"SRV": [(1, 5, 993, "b.example.org"), (0, 1, 993, ".")]},
            "null.example": {"MX": [(0, ".")]},
            "xn--bcher-kva.example": {"A": ["192.0.2.9"]},
        },
        **options,
    )


class Base(SynchronousTestCase):
    def get(self, coroutine):
        from twisted.internet.defer import Deferred

        return self.successResultOf(Deferred.fromCoroutine(coroutine))

    def fails(self, kind, coroutine):
        from twisted.internet.defer import Deferred

        return self.failureResultOf(Deferred.fromCoroutine(coroutine), kind).value


class HelperTests(Base):
    def test_mx_sorted_by_preference_with_absolute_lower_case_names(self):
        answer = self.get(r.mx(zone(), "Example.ORG"))
        self.assertEqual(list(answer), [(10, "a.example.org."), (20, "b.example.org.")])
        self.assertEqual(self.get(r.mx(zone(), "null.example."))[0].host, ".")

    def test_ips_of_both_families(self):
        self.assertEqual(
            list(self.get(r.ips(zone(), "a.example.org"))), ["192.0.2.1", "2001:db8::1"]
        )
        self.assertEqual(list(self.get(r.ips(zone(), "a.example.org", [6]))), ["2001:db8::1"])
        self.assertEqual(len(self.get(r.ips(zone(), "b.example.org"))), 1)

    def test_ips_not_found_kinds(self):
        self.fails(r.NoData, r.ips(zone(), "example.org"))
        self.fails(r.NXDomain, r.ips(zone(), "nowhere.example"))
        self.fails(r.NoData, r.ips(zone(), "b.example.org", [6]))
        self.fails(r.NoData, r.ips(zone(), "b.example.org", []))

    def test_ips_with_one_family_failing(self):
        z = zone(authentic=True, fail={("a.example.org", "AAAA"): "servfail"})
        answer = self.get(r.ips(z, "a.example.org"))
        self.assertEqual((list(answer), answer.authentic), (["192.0.2.1"], False))
        z = zone(fail={("nowhere.example", "AAAA"): "timeout"})
        self.fails(r.Timeout, r.ips(z, "nowhere.example"))

    def test_ips_authentic_needs_both(self):
        self.assertTrue(self.get(r.ips(zone(authentic=True), "b.example.org")).authentic)
        z = zone(authentic=[("b.example.org", "A")])
        self.assertFalse(self.get(r.ips(z, "b.example.org")).authentic)

    def test_other_types(self):
        z = zone()
        self.assertEqual(list(self.get(r.ptr(z, "192.0.2.1"))), ["a.example.org."])
        tlsa = self.get(r.tlsa(z, "_25._tcp.a.example.org"))[0]
        self.assertEqual(tlsa, r.TLSA(3, 1, 1, b"\xab" * 32))
        self.assertEqual(
            self.get(r.srv(z, "_imaps._tcp.example.org"))[0], r.SRV(0, 1, 993, ".")
        )
        self.assertEqual(list(self.get(r.txt(z, "example.org"))), ["v=spf1 -all"])
        self.assertEqual(list(self.get(r.cname(z, "www.example.org"))), ["web.example.org."])
        self.fails(r.NoData, r.cname(z, "example.org"))
        self.fails(r.NoData, r.ns(z, "example.org"))

    def test_reverse_names(self):
        self.assertEqual(r.reverse_name("192.0.2.1"), "1.2.0.192.in-addr.arpa.")
        self.assertTrue(r.reverse_name("fe80::1%eth0").endswith(".8.e.f.ip6.arpa."))


class NameTests(Base):
    def test_unicode_names_are_asked_as_a_labels(self):
        self.assertEqual(r.absolute("Bücher.example"), "xn--bcher-kva.example.")
        self.assertEqual(list(self.get(r.ips(zone(), "bücher.example", [4]))), ["192.0.2.9"])

    def test_names_that_the_dns_cannot_hold(self):
        for name in ("a..b", "", "." * 3, "x" * 64 + ".org", "a." * 128, "ü" * 64, "\ud800.org"):
            with self.subTest(name=name):
                if name:
                    self.assertRaises(r.InvalidName, r.absolute, name)
        self.assertEqual(len(r.absolute("a." * 127)), 254)
        self.assertEqual(r.absolute("."), ".")

    def test_invalid_name_is_a_name_that_does_not_exist(self):
        self.fails(r.NXDomain, zone().lookup("a..b", "A"))

    def test_localhost_needs_no_zone(self):
        z = ZoneResolver()
        self.assertEqual(
            list(self.get(r.ips(z, "smtp.localhost"))), ["127.0.0.1", "::1"]
        )
        self.fails(r.NoData, z.lookup("localhost", "MX"))
        self.fails(r.NXDomain, z.lookup("x.invalid", "A"))
        self.fails(r.NXDomain, z.lookup("notlocalhost", "A"))
        self.assertEqual(list(self.get(r.ptr(z, "127.0.0.1"))), ["localhost."])
        self.assertEqual(list(self.get(r.ptr(z, "::1"))), ["localhost."])

    def test_zone_records_win_over_localhost(self):
        z = ZoneResolver({"localhost": {"MX": [(10, "mail.localhost")]}})
        self.assertEqual(self.get(r.mx(z, "localhost"))[0].host, "mail.localhost.")


class ZoneTests(Base):
    def test_cname_is_followed_and_tracked(self):
        z = zone(authentic=[("www.example.org", "A"), ("web.example.org", "A")])
        answer = self.get(z.lookup("www.example.org", "A"))
        self.assertEqual((list(answer), answer.authentic), (["192.0.2.1"], False))
        z.authentic.add("a.example.org.")
        self.assertTrue(self.get(z.lookup("www.example.org", "A")).authentic)

    def test_loop_is_temporary(self):
        self.fails(r.CNAMEError, zone().lookup("loop1.example", "A"))

    def test_failures_by_name_and_type(self):
        own = r.ServFail("x", "A", extended=(6, "bogus"))
        z = zone(fail={"b.example.org": "servfail", ("example.org", "MX"): "timeout", "x": own})
        self.fails(r.ServFail, z.lookup("b.example.org", "A"))
        self.fails(r.Timeout, z.lookup("example.org", "MX"))
        self.get(z.lookup("example.org", "TXT"))
        self.assertTrue(self.fails(r.ServFail, z.lookup("x", "A")).dnssec)

    def test_empty_non_terminal_is_nodata_and_authentic_denial(self):
        exc = self.fails(r.NoData, zone().lookup("_tcp.a.example.org", "A"))
        self.assertFalse(exc.authentic)
        exc = self.fails(r.NXDomain, zone(authentic=True).lookup("no.example.org", "A"))
        self.assertTrue(exc.authentic)

    def test_remembers_what_was_asked(self):
        z = zone()
        self.get(z.lookup("Example.org", "mx"))
        self.assertEqual(z.asked, [("example.org.", "MX")])

    def test_extended_error_of_another_kind_is_not_dnssec(self):
        self.assertFalse(r.ServFail("x", "A", extended=(22, "no reachable authority")).dnssec)
        self.assertFalse(r.ServFail("x", "A").dnssec)


class ChainTests(Base):
    def test_chain_with_dnssec_status_of_each_part(self):
        z = zone(authentic=[("www.example.org", "CNAME")])
        chain = self.get(r.follow_cnames(z, "WWW.example.org"))
        self.assertEqual(chain.names, ("www.example.org.", "web.example.org.", "a.example.org."))
        self.assertEqual(
            (chain.name, chain.first_authentic, chain.authentic), ("a.example.org.", True, False)
        )
        z.all_authentic = True
        self.assertTrue(self.get(r.follow_cnames(z, "www.example.org")).authentic)

    def test_no_cname(self):
        chain = self.get(r.follow_cnames(zone(authentic=True), "nowhere.example"))
        self.assertEqual(chain, r.Chain(("nowhere.example.",), True, True))

    def test_loops(self):
        z = zone()
        self.fails(r.CNAMEError, r.follow_cnames(z, "loop1.example"))
        z.add("self.example", "CNAME", "self.example")
        self.fails(r.CNAMEError, r.follow_cnames(z, "self.example"))

    def test_limits(self):
        z = ZoneResolver({f"c{i}.example": {"CNAME": [f"c{i + 1}.example"]} for i in range(15)})
        self.assertEqual(self.get(r.follow_cnames(z, "c0.example")).name, "c15.example.")
        self.fails(r.CNAMEError, r.follow_cnames(z, "c0.example", r.MAX_CNAMES_HOST))
        self.get(r.follow_cnames(z, "c4.example", r.MAX_CNAMES_HOST))
        z.add("c15.example", "CNAME", "c16.example")
        self.fails(r.CNAMEError, r.follow_cnames(z, "c0.example"))

    def test_temporary_error_passes(self):
        z = zone(fail={("web.example.org", "CNAME"): "servfail"})
        self.fails(r.ServFail, r.follow_cnames(z, "www.example.org"))


class OfflineTests(Base):
    def test_what_cannot_be_resolved_has_no_records(self):
        off = r.OfflineResolver(zone(fail={"broken.example": "servfail"}))
        self.fails(r.NoData, off.lookup("broken.example", "A"))
        self.fails(r.NXDomain, off.lookup("nowhere.example", "A"))
        self.assertEqual(list(self.get(off.lookup("b.example.org", "A"))), ["192.0.2.2"])

    def test_without_resolver(self):
        off = r.for_pkg(r.OfflineResolver(), "spf")
        self.fails(r.NXDomain, off.lookup("example.org", "A"))
        self.assertEqual(list(self.get(r.ips(off, "localhost"))), ["127.0.0.1", "::1"])
