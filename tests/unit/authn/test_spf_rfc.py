"""The examples of RFC 7208 appendix A."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from moxtw.authn import spf
from moxtw.dns.fake import ZoneResolver
from moxtw.mail.address import parse_ipdomain, parse_path

ZONE: dict[str, dict[str, list[Any]]] = {
    "example.com": {
        "MX": [(10, "mail-a.example.com"), (20, "mail-b.example.com")],
        "A": ["192.0.2.10", "192.0.2.11"],
    },
    "amy.example.com": {"A": ["192.0.2.65"]},
    "bob.example.com": {"A": ["192.0.2.66"]},
    "mail-a.example.com": {"A": ["192.0.2.129"]},
    "mail-b.example.com": {"A": ["192.0.2.130"]},
    "www.example.com": {"CNAME": ["example.com"]},
    "example.org": {"MX": [(10, "mail-c.example.org")]},
    "mail-c.example.org": {"A": ["192.0.2.140"]},
    **{
        f"{last}.2.0.192.in-addr.arpa": {"PTR": [name]}
        for last, name in (
            (10, "example.com"),
            (11, "example.com"),
            (65, "amy.example.com"),
            (66, "bob.example.com"),
            (129, "mail-a.example.com"),
            (130, "mail-b.example.com"),
            (140, "mail-c.example.org"),
        )
    },
    # Claims to be what it is not.
    "4.0.0.10.in-addr.arpa": {"PTR": ["bob.example.com"]},
}
ADDRESSES = [f"192.0.2.{last}" for last in (10, 11, 65, 66, 129, 130, 131, 140, 142)] + ["10.0.0.4"]


class AppendixTests(SynchronousTestCase):
    def check(
        self,
        records: dict[str, str],
        ip: str,
        sender: str = "joe@example.com",
        listed: Iterable[str] = (),
    ) -> str:
        resolver = ZoneResolver(ZONE)
        for name in listed:
            resolver.add(name, "A", "127.0.0.2")
        for domain, record in records.items():
            resolver.add(domain, "TXT", record)
        result = self.successResultOf(
            Deferred.fromCoroutine(
                spf.check(
                    resolver,
                    clock=Clock(),
                    remote_ip=ip,
                    mail_from=parse_path(sender),
                    hello=parse_ipdomain("mail.example.com"),
                )
            )
        )
        assert isinstance(result, spf.SPFResult)
        return result.status

    def passing(self, record: str) -> list[str]:
        """Last octets of those addresses that pass; all others fail."""
        results = {ip: self.check({"example.com": record}, ip) for ip in ADDRESSES}
        self.assertLessEqual(set(results.values()), {"pass", "fail"})
        return [ip.rpartition(".")[2] for ip, result in results.items() if result == "pass"]

    def test_simple(self) -> None:
        """A.1."""
        for record, passing in (
            ("v=spf1 +all", [ip.rpartition(".")[2] for ip in ADDRESSES]),
            ("v=spf1 a -all", ["10", "11"]),
            ("v=spf1 a:example.org -all", []),
            ("v=spf1 mx -all", ["129", "130"]),
            ("v=spf1 mx:example.org -all", ["140"]),
            ("v=spf1 mx mx:example.org -all", ["129", "130", "140"]),
            ("v=spf1 mx/30 mx:example.org/30 -all", ["129", "130", "131", "140", "142"]),
            ("v=spf1 ptr -all", ["10", "11", "65", "66", "129", "130"]),
            ("v=spf1 ip4:192.0.2.128/28 -all", ["129", "130", "131", "140", "142"]),
        ):
            with self.subTest(record):
                self.assertEqual(self.passing(record), passing)

    def test_several_domains(self) -> None:
        """A.2."""
        records = {
            "example.org": "v=spf1 include:example.com include:example.net -all",
            "la.example.org": "v=spf1 redirect=example.org",
            "ny.example.org": "v=spf1 redirect=example.org",
            "sf.example.org": "v=spf1 redirect=example.org",
            "example.com": "v=spf1 mx -all",
            "example.net": "v=spf1 ip4:192.0.2.65 -all",
        }
        for domain in ("example.org", "la.example.org", "ny.example.org", "sf.example.org"):
            for last, result in ((129, "pass"), (65, "pass"), (66, "fail")):
                self.assertEqual(self.check(records, f"192.0.2.{last}", f"joe@{domain}"), result)

    def test_like_a_block_list(self) -> None:
        """A.3."""
        records = {
            "example.com": (
                "v=spf1 mx include:mobile-users._spf.%{d} include:remote-users._spf.%{d} -all"
            ),
            "mobile-users._spf.example.com": "v=spf1 exists:%{l1r+}.%{d}",
            "remote-users._spf.example.com": "v=spf1 exists:%{ir}.%{l1r+}.%{d}",
        }
        listed = [
            name + "._spf.example.com"
            for name in (
                "mary.mobile-users",
                "fred.mobile-users",
                "15.15.168.192.joel.remote-users",
                "16.15.168.192.joel.remote-users",
            )
        ]
        for sender, ip, result in (
            ("mary", "10.1.1.1", "pass"),
            ("mary+list", "10.1.1.1", "pass"),
            ("fred", "2001:db8::1", "pass"),
            ("joel", "192.168.15.15", "pass"),
            ("joel+x+y", "192.168.15.16", "pass"),
            ("joel", "192.168.15.17", "fail"),
            ("anna", "192.168.15.15", "fail"),
            ("anna", "192.0.2.129", "pass"),
        ):
            with self.subTest((sender, ip)):
                self.assertEqual(self.check(records, ip, f"{sender}@example.com", listed), result)

    def test_several_requirements(self) -> None:
        """A.4."""
        records = {
            "example.com": "v=spf1 -include:ip4._spf.%{d} -include:ptr._spf.%{d} +all",
            "ip4._spf.example.com": "v=spf1 -ip4:192.0.2.0/24 +all",
            "ptr._spf.example.com": "v=spf1 -ptr:example.com +all",
        }
        for ip, result in (("192.0.2.65", "pass"), ("192.0.2.140", "fail"), ("10.0.0.4", "fail")):
            self.assertEqual(self.check(records, ip), result)

