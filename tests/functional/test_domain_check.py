"""Checks of a domain that connect, with servers on loopback; the commands about DNS."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import dns.rdatatype
import dns.zone
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Factory, Protocol
from twisted.mail.smtp import ESMTP
from twisted.trial.unittest import SynchronousTestCase, TestCase
from twisted.web.resource import Resource
from twisted.web.server import Site
from twisted.web.static import Data

from moxtw.admin import dnsrecords
from moxtw.admin.check import run
from moxtw.admin.check.types import CheckResult
from moxtw.net.tlsclient import Roots
from tests.support.ca import Authority, Issued
from tests.support.nameserver import BackgroundNameServer
from tests.support.server import ROOT
from tests.unit.admin.checkzone import good_resolver
from tests.unit.admin.domainsetup import STATIC, load, write

LOCAL = STATIC.replace("192.0.2.1", "127.0.0.1").replace("\t\t\t- 2001:db8::1\n", "")
POLICY = "version: STSv1\nmode: enforce\nmx: mail.example.org\nmax_age: 1209600\n"
NAMES = ("mail.example.org", "mta-sts.example.org", "autoconfig.example.org")


class Deaf(Protocol):
    """Takes connections and says something that is no SMTP."""

    greeting = b"HTTP/1.0 400 no\r\n"

    def connectionMade(self) -> None:
        assert self.transport is not None
        self.transport.write(self.greeting)


class Endless(Deaf):
    """A greeting that does not end."""

    greeting = b"220-more\r\n" * 200


class ConnectingTests(TestCase):
    def setUp(self) -> None:
        self.authority = Authority()
        loaded, domain = load(Path(self.mktemp()), LOCAL)
        resolver = good_resolver(
            dnsrecords.zone_lines(loaded, domain, dnssec=True), A=["127.0.0.1"]
        )
        self.options: dict[str, Any] = {
            "static": loaded,
            "domain": domain,
            "resolver": resolver,
            "reactor": reactor,
            "roots": Roots(system=False, pems=[self.authority.pem]),
        }

    def listen(self, factory: Any, issued: Issued | None = None) -> int:
        if issued is None:
            port = reactor.listenTCP(0, factory, interface="127.0.0.1")
        else:
            context = issued.context_factory()
            port = reactor.listenSSL(0, factory, context, interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        return int(port.getHost().port)

    def smtp(self, issued: Issued | None) -> int:
        context = None if issued is None else issued.context_factory()
        factory: Any = Factory.forProtocol(lambda: ESMTP({}, context))
        factory.noisy = False
        return self.listen(factory)

    def https(self, issued: Issued, policy: str = POLICY) -> int:
        root, known = Resource(), Resource()
        root.putChild(b".well-known", known)
        known.putChild(b"mta-sts.txt", Data(policy.encode(), "text/plain"))
        site = Site(root)
        site.noisy = False
        return self.listen(site, issued)

    def check(self, smtp_port: int, https_port: int) -> Deferred[CheckResult]:
        prepared = run.prepare(**self.options, smtp_port=smtp_port, https_port=https_port)
        return Deferred.fromCoroutine(run.run(prepared))

    async def test_all_is_well(self) -> None:
        good = self.authority.issue(*NAMES)
        result = await self.check(self.smtp(good), self.https(good))
        for name in run.SECTIONS:
            section = getattr(result, name)
            expected = 1 if name == "IPRev" else 0  # that the address is a loopback address
            self.assertEqual(len(section.Errors), expected, section)
            self.assertEqual(section.Warnings, [], section)
        self.assertEqual(result.MTASTS.PolicyText, POLICY)
        assert result.MTASTS.Policy is not None
        self.assertEqual(result.MTASTS.Policy.MaxAgeSeconds, 1209600)
        self.assertEqual(result.MTASTS.Policy.MX[0].Domain.ASCII, "mail.example.org")

    async def test_certificates_for_other_names(self) -> None:
        other = self.authority.issue("other.example.org")
        result = await self.check(self.smtp(other), self.https(other))
        (error,) = result.TLS.Errors
        self.assertRegex(error, "certificate-host-mismatch: .*mail.example.org")
        for section in (result.MTASTS, result.Autoconf, result.Autodiscover):
            self.assertRegex("".join(section.Errors), "certificate-host-mismatch")

    async def test_certificates_of_somebody_else(self) -> None:
        strange = Authority().issue(*NAMES)
        result = await self.check(self.smtp(strange), self.https(strange))
        for section in (result.TLS, result.MTASTS, result.Autoconf, result.Autodiscover):
            self.assertRegex("".join(section.Errors), "certificate-not-trusted")

    async def test_no_starttls_or_no_smtp(self) -> None:
        https = self.https(self.authority.issue(*NAMES))
        for port, pattern in [
            (self.smtp(None), "does not offer STARTTLS"),
            (self.listen(Factory.forProtocol(Deaf)), "unexpected answer to greeting"),
            (self.listen(Factory.forProtocol(Endless)), "endless"),
            (1, "refused"),
        ]:
            result = await self.check(port, https)
            self.assertEqual(len(result.TLS.Errors), 1)
            self.assertRegex(result.TLS.Errors[0], pattern)

    async def test_policies(self) -> None:
        good = self.authority.issue(*NAMES)
        smtp = self.smtp(good)
        for policy, patterns in [
            (POLICY.replace("enforce", "testing"), ["mode testing"]),
            (POLICY.replace("enforce", "none"), ["mode none"]),
            (POLICY.replace("1209600", "86400"), ["a day or less"]),
            (
                POLICY.replace("mail.example.org", "x.example.org"),
                ["Hostname mail.example.org is not", "Mail host mail.example.org is not",
                 "Host x.example.org of the MTA-STS policy is not"],
            ),
        ]:  # fmt: skip
            result = await self.check(smtp, self.https(good, policy))
            self.assertEqual(result.MTASTS.Errors, [])
            self.assertEqual(len(result.MTASTS.Warnings), len(patterns), result.MTASTS.Warnings)
            for text, pattern in zip(result.MTASTS.Warnings, patterns, strict=True):
                self.assertRegex(text, pattern)
        result = await self.check(smtp, self.https(good, "moo"))
        self.assertRegex(result.MTASTS.Errors[0], "^Fetching MTA-STS policy: ")


class CommandTests(SynchronousTestCase):
    """With a name server that has what ``config dnsrecords`` prints."""

    def moxtw(self, *args: str) -> tuple[int, str, str]:
        done = subprocess.run(
            [sys.executable, "-m", "moxtw.cli.main", "-config", str(self.config), *args],
            capture_output=True,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            timeout=60,
            check=False,
        )
        return done.returncode, done.stdout.decode(), done.stderr.decode()

    def test_records_and_check(self) -> None:
        # Nobody listens at this address, so that connections fail at once.
        self.config = write(Path(self.mktemp()), LOCAL.replace("127.0.0.1", "127.0.0.211"))
        zone: dict[str, dict[str, list[str]]] = {
            "com": {"NS": ["a.gtld-servers.net."]},
            "mail.example.org": {"A": ["127.0.0.211"]},
            "example.org": {"TXT": ['"x"']},
        }
        server = BackgroundNameServer(zone).start()
        self.addCleanup(server.stop)
        resolver = ("-resolver", server.address)
        code, out, err = self.moxtw("config", "dnsrecords", *resolver, "example.org")
        self.assertEqual((code, err), (0, ""))
        parsed = dns.zone.from_text(out, origin=".", relativize=False, check_origin=False)
        self.assertGreater(len(list(parsed.iterate_rdatas())), 20)
        code, listed, err = self.moxtw("config", "dnsrecords", "-json", *resolver, "example.org")
        self.assertEqual((code, err), (0, ""))
        self.assertEqual(len(json.loads(listed)["records"]), 21 + 1)
        zone["example.org"].clear()
        for name, _, rdata in parsed.iterate_rdatas():
            types = server.zone.setdefault(name.to_text(), {})
            types.setdefault(dns.rdatatype.to_text(rdata.rdtype), []).append(rdata.to_text())
        code, out, err = self.moxtw("config", "dnscheck", *resolver, "example.org")
        self.assertEqual((code, err), (1, ""))
        sections = [line[2:] for line in out.splitlines() if line.startswith("# ")]
        # Those that connect; the reverse name; aliases, which this name server does not follow.
        self.assertEqual(
            sections, ["IPRev", "TLS", "MTASTS", "Autoconf", "Autodiscover"], out
        )
        self.assertIn("\nerror: SMTP with STARTTLS to mail host mail.example.org at 127.", out)
        code, out, err = self.moxtw("config", "dnscheck", "-json", *resolver, "example.org")
        self.assertEqual((code, err), (1, ""))
        found = json.loads(out)
        self.assertEqual(found["MX"]["Records"][0]["Host"], "mail.example.org.")
        self.assertEqual(found["SPF"]["Errors"], [])
        self.assertEqual(
            list(found), ["Domain", *run.SECTIONS]
        )
        code, out, err = self.moxtw("config", "dnscheck", *resolver, "other.example")
        self.assertEqual((code, out), (1, ""))
        self.assertEqual(err, "moxtw: domain other.example is not configured\n")
