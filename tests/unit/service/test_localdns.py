"""A local test server can verify its own domains."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from moxtw.authn.dkimkey import public_record
from moxtw.dns.fake import ZoneResolver
from moxtw.dns.resolver import NotFound
from moxtw.service.localdns import LocalRecords
from tests.unit.authn.test_dkimsign import ED25519, selector


class LocalRecordsTests(SynchronousTestCase):
    def setUp(self) -> None:
        class Keys:
            selectors = {"a": selector(ED25519)}

        class Domain:
            dkim = Keys

        class Dynamic:
            domains = {"example.org": Domain, "bücher.example": Domain}

        class Config:
            dynamic = Dynamic

        zones = {"example.net.": {"TXT": ["other"]}, "example.org.": {"MX": [(1, "m.example.")]}}
        self.records = LocalRecords(ZoneResolver(zones), Config)  # type: ignore[arg-type]

    def lookup(self, name: str, rtype: str = "TXT") -> Any:
        return self.successResultOf(Deferred.fromCoroutine(self.records.lookup(name, rtype)))

    def test_own(self) -> None:
        for domain in ("example.org", "EXAMPLE.org.", "xn--bcher-kva.example."):
            self.assertIn("ip4:127.0.0.0/8", self.lookup(domain)[0])
            self.assertEqual(
                self.lookup(f"2026a._domainkey.{domain}")[0], public_record(ED25519)
            )
            work = Deferred.fromCoroutine(self.records.lookup(f"x._domainkey.{domain}", "TXT"))
            self.failureResultOf(work, NotFound)

    def test_others(self) -> None:
        self.assertEqual(self.lookup("example.net")[0], "other")
        self.assertEqual(self.lookup("example.org", "MX")[0].host, "m.example.")
