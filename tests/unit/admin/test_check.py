"""Checks of a domain, with the DNS in memory. Connections are tried by functional tests."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
from twisted.internet.defer import Deferred
from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase

from moxtw.admin import dnsrecords
from moxtw.admin.check import run, types
from moxtw.admin.context import Caller, OperationError
from moxtw.authn.dkimkey import public_record
from moxtw.authn.spfrecord import parse_record
from moxtw.dns.fake import ZoneResolver
from moxtw.net.tlsclient import Roots
from moxtw.queue.api import Domain
from tests.support.admin import make_admin_context
from tests.unit.admin.checkzone import good_resolver
from tests.unit.admin.domainsetup import DYNAMIC, ED25519, STATIC, load

IPS = {"A": ["192.0.2.1"], "AAAA": ["2001:db8::1"]}
CONNECTING = {"TLS", "MTASTS", "Autoconf", "Autodiscover"}


class CheckTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.resolver: ZoneResolver | None = None

    def check(
        self,
        change: Callable[[ZoneResolver], object] = lambda resolver: None,
        *,
        static: str = STATIC,
        dynamic: str = DYNAMIC,
        ips: dict[str, list[str]] = IPS,
    ) -> types.CheckResult:
        """Check a domain with all records as suggested but for a change. Nobody answers."""
        loaded, domain = load(Path(self.mktemp()), static, dynamic)
        lines = dnsrecords.zone_lines(loaded, domain, dnssec=True)
        self.resolver = good_resolver(lines, **ips)
        change(self.resolver)
        reactor = MemoryReactorClock()
        prepared = run.prepare(
            loaded, domain, resolver=self.resolver, reactor=reactor, roots=Roots(system=False)
        )
        done = Deferred.fromCoroutine(run.run(prepared))
        if not done.called:
            reactor.pump([1.0] * 31)
        result: types.CheckResult = self.successResultOf(done)
        return result

    def found(self, result: types.CheckResult) -> dict[str, list[str]]:
        """Errors and warnings of sections, but for those that connect."""
        return {
            name: [f"e {text}" for text in section.Errors]
            + [f"w {text}" for text in section.Warnings]
            for name in run.SECTIONS
            if name not in CONNECTING
            for section in [getattr(result, name)]
            if section.Errors or section.Warnings
        }

    def one(self, result: types.CheckResult, section: str, pattern: str) -> None:
        """Of the sections that do not connect, one has something to say, and what."""
        found = self.found(result)
        self.assertEqual(list(found), [section], found)
        (text,) = found[section]
        self.assertRegex(text, pattern)

    def drop(self, name: str, rtype: str) -> Callable[[ZoneResolver], None]:
        def change(resolver: ZoneResolver) -> None:
            del resolver.zones[name][rtype]

        return change

    def put(self, name: str, rtype: str, *records: Any) -> Callable[[ZoneResolver], None]:
        def change(resolver: ZoneResolver) -> None:
            resolver.zones.setdefault(name, {}).pop(rtype, None)
            resolver.add(name, rtype, *records)

        return change

    def broken(self, name: str, rtype: str) -> Callable[[ZoneResolver], None]:
        def change(resolver: ZoneResolver) -> None:
            resolver.fail[name, rtype] = "servfail"

        return change

    def test_all_as_suggested(self) -> None:
        result = self.check()
        self.assertEqual(self.found(result), {})
        self.assertEqual(result.Domain, "example.org")
        self.assertEqual(result.IPRev.Hostname, Domain("mail.example.org", ""))
        self.assertEqual(
            result.IPRev.IPNames,
            {"192.0.2.1": ["mail.example.org"], "2001:db8::1": ["mail.example.org"]},
        )
        self.assertEqual(
            result.MX.Records, [types.MX("mail.example.org.", 10, ["192.0.2.1", "2001:db8::1"])]
        )
        self.assertEqual(result.SPF.HostTXT, "v=spf1 a -all")
        assert result.SPF.DomainRecord is not None
        self.assertEqual(
            [(d.Qualifier, d.Mechanism, d.IPstr) for d in result.SPF.DomainRecord.Directives],
            [("", "ip4", "192.0.2.1"), ("", "ip6", "2001:db8::1"), ("", "mx", ""),
             ("~", "all", "")],
        )  # fmt: skip
        self.assertEqual([r.Selector for r in result.DKIM.Records], ["a", "b"])
        self.assertEqual(result.DKIM.Records[0].TXT, public_record(ED25519))
        assert result.DKIM.Records[0].Record is not None
        self.assertEqual(result.DKIM.Records[0].Record.Key, "ed25519")
        assert result.DMARC.Record is not None
        self.assertEqual(
            result.DMARC.Record.AggregateReportAddresses,
            [types.URI("mailto:dmarc%21reports@example.org", 10, "m")],
        )
        assert result.DomainTLSRPT.Record is not None
        self.assertEqual(
            result.DomainTLSRPT.Record.RUAs, [["mailto:tlsreports@example.org"]]
        )
        assert result.MTASTS.Record is not None
        self.assertEqual(result.MTASTS.Record.ID, "20260102T030405")
        self.assertEqual(
            result.SRVConf.SRVs["_imaps"], [types.SRV("imap.example.org.", 993, 0, 1)]
        )
        self.assertEqual(result.Autoconf.IPs, ["192.0.2.1", "2001:db8::1"])
        self.assertEqual(result.Autodiscover.Records[0].IPs, ["192.0.2.1", "2001:db8::1"])
        msgspec.json.encode(result)

    def test_instructions_have_the_records(self) -> None:
        result = self.check()
        loaded, domain = load(Path(self.mktemp()))
        lines = dnsrecords.zone_lines(loaded, domain, dnssec=True)
        instructions = " ".join(
            " ".join(" ".join(getattr(result, name).Instructions).split())
            for name in run.SECTIONS
        )
        for record in dnsrecords.records_only(lines):
            if "_domainkey" not in record and "imap.example.org. " not in record:
                self.assertIn(" ".join(record.split()), instructions)
        missing = self.check(self.drop("b._domainkey.example.org.", "TXT"))
        self.one(missing, "DKIM", "^e No DKIM record for selector 'b'")
        self.assertIn("\tb._domainkey.example.org. TXT (\n", missing.DKIM.Instructions[0])
        self.assertNotIn("\ta._domainkey", missing.DKIM.Instructions[0])

    def test_nobody_answers(self) -> None:
        result = self.check()
        self.assertEqual(len(result.TLS.Errors), 2)
        self.assertRegex(result.TLS.Errors[0], "^SMTP with STARTTLS to mail host mail.example.org")
        self.assertRegex(result.MTASTS.Errors[0], "^Fetching MTA-STS policy: ")
        self.assertEqual(len(result.Autoconf.Errors), 2)
        self.assertEqual(len(result.Autodiscover.Errors), 2)

    def test_dnssec(self) -> None:
        for change, pattern in [
            (self.broken("com.", "NS"), "^e Looking up name servers"),
            (lambda r: setattr(r, "all_authentic", False), "^w .* does not verify"),
        ]:
            found = self.found(self.check(change))
            self.assertRegex(found["DNSSEC"][0], pattern)

        def unsigned(resolver: ZoneResolver) -> None:
            resolver.all_authentic = False
            resolver.authentic.add("com.")

        found = self.found(self.check(unsigned))
        self.assertRegex(found["DNSSEC"][0], "^w The zone of example.org is not signed")
        self.assertRegex(found["DANE"][0], "^e The TLSA records .* not signed")
        self.assertRegex(found["DANE"][1], "^w The MX records are not signed")

    def test_reverse_names(self) -> None:
        name = "1.2.0.192.in-addr.arpa."
        self.one(self.check(self.drop(name, "PTR")), "IPRev", "^e Looking up the reverse name")
        self.one(self.check(self.broken(name, "PTR")), "IPRev", "^e Looking up the reverse name")
        self.one(
            self.check(self.put(name, "PTR", "host.isp.example.")),
            "IPRev",
            "^w Address 192.0.2.1 has reverse name host.isp.example, not hostname",
        )
        found = self.found(self.check(self.put(name, "PTR", "mail.example.org.", "a b.")))
        self.assertRegex(found["IPRev"][0], "^e Reverse name 'a b'")
        found = self.found(self.check(ips={"A": ["127.0.0.1"]}))
        self.assertTrue([text for text in found["IPRev"] if "loopback" in text], found)

    def test_hostname_without_addresses(self) -> None:
        found = self.found(self.check(self.broken("mail.example.org.", "A"), ips={}))
        self.assertRegex(found["IPRev"][0], "^e Looking up addresses of hostname")
        self.assertRegex(found["MX"][0], "^e Looking up addresses of mail host")

    def test_mx(self) -> None:
        found = self.found(self.check(self.drop("example.org.", "MX")))
        self.assertRegex(found["MX"][0], "^e Looking up MX records")
        self.assertRegex(found["DANE"][0], "^e Looking up MX records")
        found = self.found(self.check(self.put("example.org.", "MX", (0, "."))))
        self.assertRegex(found["MX"][0], "^e The MX record is")
        both = {"A": ["192.0.2.1", "198.51.100.7"], "AAAA": ["2001:db8::1"]}
        self.one(self.check(ips=both), "MX", r"^e .* not ours, too: 198\.51\.100\.7")
        found = self.found(self.check(ips={"A": ["198.51.100.7"]}))
        self.assertRegex(found["MX"][0], r"^e .* does not lead to an address of ours: 198\.")

    def test_nat(self) -> None:
        nat = STATIC.replace("\t\tTLS:\n", "\t\tIPsNATed: true\n\t\tTLS:\n", 1)
        found = self.found(self.check(static=nat, ips={"A": ["198.51.100.7"]}))
        self.assertEqual(list(found), ["SPF"])
        self.assertRegex(found["SPF"][0], "^w No addresses are configured")
        known = STATIC.replace("\t\tTLS:\n", "\t\tNATIPs:\n\t\t\t- 198.51.100.7\n\t\tTLS:\n", 1)
        self.assertEqual(self.found(self.check(static=known, ips={"A": ["198.51.100.7"]})), {})

    def test_dane(self) -> None:
        name = "_25._tcp.mail.example.org."
        self.one(self.check(self.drop(name, "TLSA")), "DANE", "^e Missing TLSA records .*; 3 1 1")
        extra = (3, 1, 1, b"x" * 32)

        def add(resolver: ZoneResolver) -> None:
            resolver.add(name, "TLSA", extra)

        self.one(self.check(add), "DANE", "^e Unexpected TLSA records .* 3 1 1 7878")
        self.one(self.check(self.broken(name, "TLSA")), "DANE", "^e Looking up TLSA")

        def lose(resolver: ZoneResolver) -> None:
            del resolver.zones[name]["TLSA"][0]

        self.one(self.check(lose), "DANE", "^e Missing TLSA records of _25._tcp.mail")
        keyless = re.sub(r"\t+HostPrivateKeyFiles:\n.*\n.*\n", "", STATIC)
        self.one(self.check(static=keyless), "DANE", "^w DANE is not configured")

    def test_spf(self) -> None:
        self.one(
            self.check(self.put("example.org.", "TXT", "v=spf1 moo")),
            "SPF",
            "^e SPF record of domain example.org: .*moo",
        )
        self.one(
            self.check(self.drop("mail.example.org.", "TXT")), "SPF", "^e Looking up SPF record"
        )
        self.one(
            self.check(self.put("example.org.", "TXT", "v=spf1 ip4:192.0.2.1 -all")),
            "SPF",
            "^e Address 2001:db8::1 does not pass SPF of domain example.org: fail",
        )
        result = self.check(self.put("example.org.", "TXT", "v=spf1 moo"))
        self.assertEqual((result.SPF.DomainTXT, result.SPF.DomainRecord), ("v=spf1 moo", None))

    def test_spf_record_in_json(self) -> None:
        record = types.SPFRecord
        found = parse_record("v=spf1 ip4:192.0.2.0/24 a:x.example/24//64 exp=e.example k=v")
        from moxtw.admin.check.senders import spf_json

        self.assertEqual(
            spf_json(found),
            record(
                "spf1",
                [
                    types.Directive("", "ip4", IPstr="192.0.2.0", IP4CIDRLen=24),
                    types.Directive("", "a", "x.example", IP4CIDRLen=24, IP6CIDRLen=64),
                ],
                "",
                "e.example",
                [types.Modifier("k", "v")],
            ),
        )

    def test_dkim(self) -> None:
        name = "a._domainkey.example.org."
        self.one(self.check(self.broken(name, "TXT")), "DKIM", "^e Looking up DKIM record")
        self.one(
            self.check(self.put(name, "TXT", "v=DKIM1;p=!!")), "DKIM", "^e DKIM record of selector"
        )

        def other(resolver: ZoneResolver) -> None:
            resolver.zones[name]["TXT"] = resolver.zones["b._domainkey.example.org."]["TXT"]

        self.one(self.check(other), "DKIM", "^e .* about another key")
        none = "Domains:\n\texample.org: nil\n" + DYNAMIC[DYNAMIC.index("Accounts:") :]
        found = self.found(self.check(dynamic=none))
        self.assertRegex(found["DKIM"][0], "^e No DKIM selectors are configured")
        self.assertRegex(found["DomainTLSRPT"][0], "^e No address for reports")

    def test_dmarc(self) -> None:
        name = "_dmarc.example.org."
        rua = "rua=mailto:dmarc%21reports@example.org"
        for text, pattern in [
            (f"v=DMARC1;p=none;{rua}", "^w .*p=none"),
            (f"v=DMARC1;p=reject;sp=none;{rua}", "^w .*sp=none"),
            ("v=DMARC1;p=reject;rua=mailto:x@example.org", "^e The configured address"),
            ("v=DMARC1;p=moo", "^e DMARC record of example.org: bad record"),
        ]:
            self.one(self.check(self.put(name, "TXT", text)), "DMARC", pattern)
        found = self.found(self.check(self.put(name, "TXT", "v=DMARC1;p=reject")))
        self.assertEqual(len(found["DMARC"]), 2)
        self.assertRegex(found["DMARC"][1], "^w .* does not ask for reports")
        self.one(self.check(self.drop(name, "TXT")), "DMARC", "^e There is no DMARC record")
        self.one(self.check(self.broken(name, "TXT")), "DMARC", "^e DMARC record of example.org: ")

    def test_dmarc_reports_to_others(self) -> None:
        dynamic = DYNAMIC.replace(
            "\t\t\tLocalpart: dmarc!reports\n",
            "\t\t\tLocalpart: dmarc!reports\n\t\t\tDomain: reports.example\n",
        ).replace("Accounts:", "\treports.example: nil\nAccounts:")
        result = self.check(dynamic=dynamic)
        self.one(result, "DMARC", "^e reports.example does not take reports about example.org")
        name = "example.org._report._dmarc.reports.example."
        self.assertIn(f'{name} TXT "v=DMARC1;"', result.DMARC.Instructions[-1])
        self.one(
            self.check(self.broken(name, "TXT"), dynamic=dynamic), "DMARC", "^e Whether .* not"
        )
        allowed = self.check(self.put(name, "TXT", "v=DMARC1;"), dynamic=dynamic)
        self.assertEqual(self.found(allowed), {})

    def test_tlsrpt(self) -> None:
        for host, section in (("mail.example.org", "Host"), ("example.org", "Domain")):
            name, section = f"_smtp._tls.{host}.", f"{section}TLSRPT"
            gone = self.check(self.drop(name, "TXT"))
            self.one(gone, section, "^e TLSRPT record of .*: no tlsrpt record")
            self.one(
                self.check(self.put(name, "TXT", "v=TLSRPTv1; rua=ftp:x")), section, "^e TLSRPT rec"
            )
            self.one(
                self.check(self.put(name, "TXT", "v=TLSRPTv1; rua=mailto:x@example.org")),
                section,
                "^e The configured address",
            )
        static = STATIC[: STATIC.index("HostTLSRPT:")]
        found = self.found(self.check(static=static))
        self.assertRegex(found["HostTLSRPT"][0], "^e No address for reports about TLS")

    def test_srv(self) -> None:
        self.one(
            self.check(self.drop("_imaps._tcp.example.org.", "SRV")),
            "SRVConf",
            "^e Missing SRV record _imaps",
        )
        self.one(
            self.check(self.drop("_pop3._tcp.example.org.", "SRV")),
            "SRVConf",
            "^w Missing optional SRV record _pop3",
        )
        self.one(
            self.check(self.put("_pop3._tcp.example.org.", "SRV", (0, 1, 110, "x.example."))),
            "SRVConf",
            "^w Unexpected SRV records _pop3.*0 1 110 x.example.",
        )
        self.one(
            self.check(self.put("_imaps._tcp.example.org.", "SRV", (0, 1, 994, "x.example"))),
            "SRVConf",
            "^e Unexpected SRV records _imaps",
        )
        self.one(
            self.check(self.broken("_submissions._tcp.example.org.", "SRV")),
            "SRVConf",
            "^e Looking up SRV record _submissions",
        )
        host = self.put("_imaps._tcp.example.org.", "SRV", (0, 1, 993, "mail.example.org"))
        self.assertEqual(self.found(self.check(host)), {})

    def test_names_for_clients(self) -> None:
        def elsewhere(resolver: ZoneResolver) -> None:
            for name in ("imap", "autoconfig"):
                resolver.zones[f"{name}.example.org."] = {"A": ["198.51.100.7"]}
            resolver.zones["_autodiscover._tcp.example.org."]["SRV"] = []

        result = self.check(elsewhere)
        errors = "\n".join(sorted(result.Autoconf.Errors))
        self.assertIn("Autoconfig host autoconfig.example.org does not lead to an address", errors)
        self.assertIn("Client settings host imap.example.org does not lead to an addr", errors)
        self.assertRegex(result.Autodiscover.Errors[0], "is missing")
        result = self.check(
            self.put("_autodiscover._tcp.example.org.", "SRV", (0, 1, 444, "mail.example.org."))
        )
        self.assertRegex(result.Autodiscover.Errors[0], "another port")
        result = self.check(self.drop("autoconfig.example.org.", "CNAME"))
        self.assertRegex(result.Autoconf.Errors[0], "^Looking up autoconfig host")

    def test_no_mtasts(self) -> None:
        start, end = DYNAMIC.index("\t\tMTASTS:"), DYNAMIC.index("\t\tTLSRPT:")
        result = self.check(dynamic=DYNAMIC[:start] + DYNAMIC[end:])
        self.assertEqual(result.MTASTS.Errors, [])
        self.assertEqual(result.MTASTS.Warnings, ["MTA-STS is not configured for the domain."])

    def test_slow_lookups_end(self) -> None:
        never: Deferred[None] = Deferred()

        def hang(resolver: ZoneResolver) -> None:
            lookup = resolver.lookup

            async def slow(name: str, rtype: str) -> Any:
                if name.startswith("_dmarc"):
                    await never
                return await lookup(name, rtype)

            self.patch(resolver, "lookup", slow)

        result = self.check(hang)
        self.one(result, "DMARC", "^e The check was not done within 30 seconds")

    def test_a_failing_section_is_an_error_of_it(self) -> None:
        async def fail(check: Any, result: Any) -> None:
            raise ZeroDivisionError

        sections = run.SECTIONS | {"SPF": fail}
        self.patch(run, "SECTIONS", sections)
        self.one(self.check(), "SPF", "^e The check failed for an internal reason")


class OperationTests(SynchronousTestCase):
    def test_operation(self) -> None:
        ctx = make_admin_context(self)
        caller = Caller("ctl", "uid 0")

        def check(name: str) -> Deferred[types.CheckResult]:
            return Deferred.fromCoroutine(run.check_domain(ctx, caller, name))

        self.assertEqual(
            self.failureResultOf(check("other.example"), OperationError).value.kind, "notFound"
        )
        self.failureResultOf(check("example.org"), OperationError)
        ctx.resolver, ctx.roots = ZoneResolver(), Roots(system=False)
        result = self.successResultOf(check("example.org"))
        self.assertRegex(result.MX.Errors[0], "^Looking up MX records")
