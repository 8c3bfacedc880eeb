"""The DNS records that a domain should have."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import dns.rdatatype
import dns.zone
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from moxtw.admin import dnsrecords
from moxtw.admin.context import Caller, OperationError
from moxtw.authn.dkimkey import public_record
from moxtw.dns.fake import ZoneResolver
from moxtw.mail.domain import parse_domain
from tests.support.admin import make_admin_context
from tests.unit.admin.domainsetup import DYNAMIC, ECDSA, ED25519, RSA, STATIC, load

URI = "https://acme.example/acct/1"


def tlsa(key: object) -> str:
    spki = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return f"3 1 1 {hashlib.sha256(spki).hexdigest()}"


class RecordTests(SynchronousTestCase):
    def lines(self, static: str = STATIC, dynamic: str = DYNAMIC, **options: object) -> list[str]:
        loaded, domain = load(Path(self.mktemp()), static, dynamic)
        options = {"dnssec": True, "issuer": "ca.example", "account_uri": URI} | options
        return dnsrecords.zone_lines(loaded, domain, **options)

    def parsed(self, lines: list[str]) -> list[tuple[str, str, str]]:
        """Name, type and text of each record, as a name server reads them, in order."""
        found = []
        for record in dnsrecords.records_only(lines):
            zone = dns.zone.from_text(
                "$TTL 300\n" + record + "\n", origin=".", relativize=False, check_origin=False
            )
            for name, _, rdata in zone.iterate_rdatas():
                if rdata.rdtype == dns.rdatatype.TXT:
                    text = b"".join(rdata.strings).decode()
                    self.assertTrue(all(len(each) <= 100 for each in rdata.strings))
                else:
                    text = rdata.to_text()
                kind = dns.rdatatype.to_text(rdata.rdtype)
                found.append((name.to_text(), kind, text))
        return found

    def test_all_records_in_order(self) -> None:
        self.assertEqual(
            self.parsed(self.lines()),
            [
                ("_25._tcp.mail.example.org.", "TLSA", tlsa(ECDSA)),
                ("_25._tcp.mail.example.org.", "TLSA", tlsa(RSA)),
                ("mail.example.org.", "TXT", "v=spf1 a -all"),
                ("_smtp._tls.mail.example.org.", "TXT",
                 "v=TLSRPTv1; rua=mailto:tlsreports@mail.example.org"),
                ("example.org.", "MX", "10 mail.example.org."),
                ("a._domainkey.example.org.", "TXT", public_record(ED25519)),
                ("b._domainkey.example.org.", "TXT", public_record(RSA)),
                ("example.org.", "TXT", "v=spf1 ip4:192.0.2.1 ip6:2001:db8::1 mx ~all"),
                ("_dmarc.example.org.", "TXT",
                 "v=DMARC1;p=reject;rua=mailto:dmarc%21reports@example.org!10m"),
                ("mta-sts.example.org.", "CNAME", "mail.example.org."),
                ("_mta-sts.example.org.", "TXT", "v=STSv1; id=20260102T030405"),
                ("_smtp._tls.example.org.", "TXT",
                 "v=TLSRPTv1; rua=mailto:tlsreports@example.org"),
                ("imap.example.org.", "CNAME", "mail.example.org."),
                ("autoconfig.example.org.", "CNAME", "mail.example.org."),
                ("_autodiscover._tcp.example.org.", "SRV", "0 1 443 mail.example.org."),
                ("_imaps._tcp.example.org.", "SRV", "0 1 993 imap.example.org."),
                ("_submissions._tcp.example.org.", "SRV", "0 1 465 imap.example.org."),
                ("_imap._tcp.example.org.", "SRV", "0 0 0 ."),
                ("_submission._tcp.example.org.", "SRV", "0 0 0 ."),
                ("_pop3._tcp.example.org.", "SRV", "0 0 0 ."),
                ("_pop3s._tcp.example.org.", "SRV", "0 0 0 ."),
                ("example.org.", "CAA", '0 issue "ca.example"'),
            ],
        )  # fmt: skip

    def test_strict_caa_records_are_comments(self) -> None:
        value = (
            f'0 issue "ca.example; accounturi={URI}; validationmethods=tls-alpn-01,http-01"'
        )
        found = [
            line.split(" CAA ") for line in self.lines() if line.startswith(";; ")
        ]
        names = ["example.org.", "autoconfig.example.org.", "mta-sts.example.org.",
                 "imap.example.org.", "mail.example.org."]  # fmt: skip
        self.assertEqual([[f";; {n}", value] for n in names], [[a.strip(), b] for a, b in found])
        without = self.lines(account_uri="")
        self.assertFalse([line for line in without if line.startswith(";; ")])
        self.assertFalse([line for line in self.lines(issuer="") if "CAA" in line])

    def test_without_dnssec_dane_is_a_comment(self) -> None:
        lines = self.lines(dnssec=False)
        self.assertNotIn("TLSA", {kind for _, kind, _ in self.parsed(lines)})
        off = [line for line in lines if line.startswith(";; _25._tcp.mail.example.org.")]
        self.assertEqual([line.split(" TLSA ")[1] for line in off], [tlsa(ECDSA), tlsa(RSA)])

    def test_a_domain_that_is_the_host(self) -> None:
        static = STATIC.replace("Hostname: mail.example.org", "Hostname: example.org")
        found = self.parsed(self.lines(static))
        self.assertNotIn(("example.org.", "TXT", "v=spf1 a -all"), found)
        self.assertIn(("example.org.", "MX", "10 example.org."), found)

    def test_little_is_configured(self) -> None:
        dynamic = "Domains:\n\texample.org: nil\n" + DYNAMIC[DYNAMIC.index("Accounts:") :]
        found = self.parsed(self.lines(dynamic=dynamic))
        names = {name for name, _, _ in found}
        self.assertFalse({name for name in names if "_domainkey" in name or "mta-sts" in name})
        self.assertIn(("_dmarc.example.org.", "TXT", "v=DMARC1;p=reject"), found)
        self.assertIn(("_imaps._tcp.example.org.", "SRV", "0 1 993 mail.example.org."), found)

    def test_nat(self) -> None:
        nat = STATIC.replace("\t\tTLS:\n", "\t\tNATIPs:\n\t\t\t- 198.51.100.1\n\t\tTLS:\n", 1)
        found = self.parsed(self.lines(nat))
        self.assertIn(("example.org.", "TXT", "v=spf1 ip4:198.51.100.1 mx ~all"), found)

    def test_account_of_acme(self) -> None:
        loaded, _ = load(Path(self.mktemp()) / "config")
        self.assertEqual(dnsrecords.issuer_of(loaded), ("ca.example", ""))
        path = loaded.data_path / "acme" / "letsencrypt" / "account.json"
        path.parent.mkdir(parents=True)
        for text, uri in [
            (json.dumps({"uri": URI}), URI),
            (json.dumps({"uri": 'x" evil'}), ""),
            ("[]", ""),
            ("{", ""),
        ]:
            path.write_text(text)
            self.assertEqual(dnsrecords.issuer_of(loaded), ("ca.example", uri))

    def test_mailto(self) -> None:
        for localpart, expected in [
            ("a.b+c", "mailto:a.b+c@example.org"),
            ("a,b;c!d", "mailto:%22a%2Cb%3Bc%21d%22@example.org"),
            ("a b", "mailto:%22a%20b%22@example.org"),
            ("ü", "mailto:%C3%BC@example.org"),
        ]:
            found = dnsrecords.mailto(localpart, parse_domain("example.org"))
            self.assertEqual(found, expected)


class OperationTests(SynchronousTestCase):
    def test_operation(self) -> None:
        ctx = make_admin_context(self)
        caller = Caller("ctl", "uid 0")

        def records(name: str) -> Deferred[list[str]]:
            return Deferred.fromCoroutine(dnsrecords.domain_records(ctx, caller, name))

        lines = self.successResultOf(records("example.org"))
        self.assertIn("$TTL 300", lines)
        for resolver in (
            ZoneResolver({"example.org": {"TXT": ["v=spf1"]}}, authentic=True),
            ZoneResolver(fail={"example.org": "servfail"}),
        ):
            ctx.resolver = resolver
            self.assertEqual(self.successResultOf(records("example.org")), lines)
            self.assertEqual(resolver.asked, [("example.org.", "TXT")])
        failure = self.failureResultOf(records("other.example"), OperationError)
        self.assertEqual(failure.value.kind, "notFound")
