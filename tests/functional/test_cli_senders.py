"""Commands about senders, with a name server on loopback."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from twisted.trial.unittest import SynchronousTestCase

from moxtw.tlspolicy import dane
from tests.support import signing
from tests.support.ca import Authority
from tests.support.nameserver import BackgroundNameServer
from tests.support.server import ROOT

MOXTW = [sys.executable, "-m", "moxtw.cli.main"]
SECONDS = 60

ZONE = {
    "a.example": {
        "TXT": ['"v=spf1 ip4:192.0.2.0/25 " "include:b.example -all exp=why.a.example"'],
    },
    "b.example": {"TXT": ['"v=spf1 ip6:2001:db8::/32 x=y"']},
    "c.example": {"TXT": ['"v=spf1 moo"']},
    "_mta-sts.a.example": {"TXT": ['"v=STSv1; id=20261126"']},
    "_smtp._tls.a.example": {"TXT": ['"v=TLSRPTv1; rua=mailto:tls@a.example"']},
    "_smtp._tls.b.example": {"TXT": ['"v=TLSRPTv1; rua=ftp://b.example"']},
    "why.a.example": {"TXT": ['"%{i} may not send for %{d}"']},
    "1.2.0.192.in-addr.arpa": {"PTR": ["mail.a.example."]},
    "mail.a.example": {"A": ["192.0.2.1"]},
    "2.2.0.192.in-addr.arpa": {"PTR": ["mail.a.example."]},
    "2.0.0.127.bl.example": {"A": ["127.0.0.2"]},
    "1.2.0.192.bl.example": {"A": ["127.0.0.4"], "TXT": ['"has sent spam"']},
    "1.0.0.127.sold.example": {"A": ["203.0.113.1"]},
    "2.0.0.127.sold.example": {"A": ["203.0.113.1"]},
}

KEY = signing.rsa_key()
ZONE.update(
    {
        "s._domainkey.a.example": {"TXT": [signing.key_record(KEY)]},
        "_dmarc.a.example": {
            "TXT": ['"v=DMARC1; p=reject; rua=mailto:r@x.a.example,mailto:r@b.example!10m"']
        },
        "_dmarc.d.example": {
            "TXT": ['"v=DMARC1; p=none; rua=mailto:r@c.example,https://d.example/"']
        },
        "a.example._report._dmarc.b.example": {"TXT": ['"v=DMARC1"']},
    }
)


class SenderCommandTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.server = BackgroundNameServer(ZONE).start()
        self.addCleanup(self.server.stop)

    def moxtw(self, *args: str, stdin: bytes = b"") -> tuple[int, str, str]:
        done = subprocess.run(
            [*MOXTW, *args],
            input=stdin,
            capture_output=True,
            env=os.environ
            | {"PYTHONPATH": str(ROOT), "MOXCONF": str(Path(self.mktemp()).absolute())},
            timeout=SECONDS,
            check=False,
        )
        return done.returncode, done.stdout.decode(), done.stderr.decode()

    def ask(self, *words: str) -> list[str]:
        """Lines that a command prints."""
        code, out, err = self.moxtw(*words, "-resolver", self.server.address)
        self.assertEqual((code, err), (0, ""), words)
        return out.splitlines()

    def fails(self, *words: str, code: int = 1) -> str:
        """The error of a command."""
        found, out, err = self.moxtw(*words)
        self.assertEqual((found, out), (code, ""), words)
        return err

    def message(self) -> bytes:
        head = b"From: <x@a.example>\r\nSubject: hi\r\n\r\n"
        body = b"hello\r\n"
        hashed = signing.body_hash([body])
        names = ["from", "subject"]
        return signing.signature(KEY, "a.example", head, hashed, names=names) + head + body

    def test_dkim_verify(self) -> None:
        path = Path(self.mktemp())
        path.write_bytes(self.message().replace(b"\r\n", b"\n"))
        self.assertEqual(
            self.ask("dkim", "verify", str(path)),
            ["dkim: pass", "domain: a.example", "selector: s", "algorithm: rsa-sha256",
             "bits: 2048", "dnssec: with"],
        )  # fmt: skip
        path.write_bytes(self.message() + b"more\r\n")
        code, out, err = self.moxtw("dkim", "verify", str(path), "-resolver", self.server.address)
        self.assertEqual(code, 1)
        self.assertIn("dkim: fail\nreason: body was changed", out)
        self.assertIn("no signature is good", err)
        path.write_bytes(b"From: <x@a.example>\r\n\r\n")
        self.assertIn("no DKIM signatures", self.fails("dkim", "verify", str(path)))

    def test_dmarc_lookup(self) -> None:
        text = ZONE["_dmarc.a.example"]["TXT"][0].strip('"')
        for domain in ("a.example", "x.a.example"):
            self.assertEqual(
                self.ask("dmarc", "lookup", domain), [f"a.example: {text} (with DNSSEC)"]
            )
        self.fails("dmarc", "lookup", "b.example", "-resolver", self.server.address)

    def test_dmarc_tree_walk(self) -> None:
        # A department that has said that it is an organization of its own (psd=n).
        zone = self.server.zone
        zone["_dmarc.dept.a.example."] = {"TXT": ['"v=DMARC1; p=none; psd=n"']}
        domain = "x.dept.a.example"
        [line] = self.ask("dmarc", "lookup", domain)
        self.assertTrue(line.startswith("a.example: v=DMARC1; p=reject;"), line)
        [line] = self.ask("dmarc", "lookup", "-treewalk", domain)
        self.assertTrue(line.startswith("dept.a.example: v=DMARC1; p=none;"), line)
        for flags, policy in (((), "policy: reject"), (("-treewalk",), "policy: none")):
            code, out, err = self.moxtw(
                *("dmarc", "verify", *flags, "192.0.2.1", f"x@{domain}", "mail.a.example"),
                *("-resolver", self.server.address),
                stdin=f"From: <x@{domain}>\n\nhi\n".encode(),
            )
            self.assertEqual((code, err), (0, ""))
            self.assertIn(policy, out.splitlines())

    def test_dmarc_verify(self) -> None:
        def verify(ip: str, message: bytes) -> list[str]:
            code, out, err = self.moxtw(
                *("dmarc", "verify", ip, "x@a.example", "mail.a.example"),
                *("-resolver", self.server.address),
                stdin=message,
            )
            self.assertEqual((code, err), (0, ""))
            return out.splitlines()

        lines = verify("192.0.2.1", self.message())
        for line in ("spf: pass", "dkim: pass", "dmarc: pass", "policy: reject", "reject: no"):
            self.assertIn(line, lines)
        lines = verify("198.51.100.1", b"From: <x@a.example>\n\nhi\n")
        for line in ("spf: fail", "dmarc: fail", "reject: yes"):
            self.assertIn(line, lines)
        self.fails("dmarc", "verify", "x", "x@a.example", "a.example", code=2)

    def test_dmarc_report_addresses(self) -> None:
        self.assertEqual(
            self.ask("dmarc", "checkreportaddrs", "a.example"),
            ["rua mailto:r@x.a.example: takes reports",
             "rua mailto:r@b.example!10485760: takes reports"],
        )  # fmt: skip
        code, out, _ = self.moxtw(
            "dmarc", "checkreportaddrs", "d.example", "-resolver", self.server.address
        )
        self.assertEqual(code, 1)
        self.assertIn("r@c.example: takes no reports: no record at d.example._report._dmarc", out)
        self.assertIn("https://d.example/: takes no reports: not an address", out)

    def test_spf(self) -> None:
        self.assertEqual(
            self.ask("spf", "check", "a.example", "192.0.2.1"),
            ["status: pass", "mechanism: ip4:192.0.2.0/25", "dnssec: with"],
        )
        self.assertEqual(
            self.ask("spf", "check", "a.example", "198.51.100.1"),
            ["status: fail", "mechanism: all",
             "explanation: 198.51.100.1 may not send for a.example", "dnssec: with"],
        )  # fmt: skip
        lines = self.ask("spf", "check", "c.example", "198.51.100.1")
        self.assertEqual(lines[0], "status: permerror")
        self.assertIn("moo", lines[1])
        self.assertEqual(
            self.ask("spf", "lookup", "b.example"),
            ["v=spf1 ip6:2001:db8::/32 x=y", "(with DNSSEC)", "", "pass: ip6:2001:db8::/32",
             "otherwise: neutral", "unknown modifier: x=y"],
        )  # fmt: skip
        resolver = ("-resolver", self.server.address)
        self.assertIn("no txt records", self.fails("spf", "lookup", "bl.example", *resolver))
        self.assertIn("moo", self.fails("spf", "lookup", "c.example", *resolver))

    def test_spf_parse(self) -> None:
        code, out, err = self.moxtw("spf", "parse", "v=spf1 mx ~all")
        self.assertEqual((code, out, err), (0, "pass: mx\nsoftfail: all\n", ""))
        self.assertIn("'mxx'", self.fails("spf", "parse", "v=spf1 mxx"))

    def test_iprev(self) -> None:
        self.assertEqual(
            self.ask("iprev", "192.0.2.1"),
            ["status: pass", "name: mail.a.example", "names: mail.a.example", "dnssec: with"],
        )
        self.assertEqual(self.ask("iprev", "192.0.2.2")[0], "status: fail")

    def test_dnsbl(self) -> None:
        self.assertEqual(
            self.ask("dnsbl", "check", "bl.example", "192.0.2.1"),
            ["status: fail (listed)", "codes: 127.0.0.4", "explanation: has sent spam"],
        )
        self.assertEqual(
            self.ask("dnsbl", "check", "bl.example", "192.0.2.2"), ["status: pass (not listed)"]
        )
        lines = self.ask("dnsbl", "checkhealth", "bl.example")
        self.assertEqual(lines[0], "healthy")
        self.assertIn("not for IPv6", lines[1])
        error = self.fails("dnsbl", "checkhealth", "sold.example", "-resolver", self.server.address)
        self.assertIn("203.0.113.1", error)

    def test_usage(self) -> None:
        for words in (
            ("spf", "check", "a.example", "a.example"),
            ("spf", "check", "a..example", "192.0.2.1"),
            ("iprev", "192.0.2.1", "-resolver", "nonsense"),
            ("dnsbl", "check", "bl.example"),
        ):
            self.assertIn("usage: moxtw", self.fails(*words, code=2))

    def test_tlsrpt(self) -> None:
        self.assertEqual(
            self.ask("tlsrpt", "lookup", "a.example"),
            ["record: v=TLSRPTv1; rua=mailto:tls@a.example;", "reports to: mailto:tls@a.example"],
        )
        for domain, text in (("b.example", "ftp:"), ("c.example", "no tlsrpt record")):
            error = self.fails("tlsrpt", "lookup", domain, "-resolver", self.server.address)
            self.assertIn(text, error)

    def test_mtasts(self) -> None:
        code, out, error = self.moxtw(
            "mtasts", "lookup", "a.example", "-resolver", self.server.address
        )
        # There is a record, but no host for the policy.
        self.assertEqual((code, out), (1, "record: v=STSv1; id=20261126;\n"))
        self.assertIn("mta-sts.a.example does not exist", error)
        error = self.fails("mtasts", "lookup", "b.example", "-resolver", self.server.address)
        self.assertIn("no mta-sts record", error)

    def test_dane_records(self) -> None:
        issued = Authority().issue("mail.a.example")
        path = Path(self.mktemp())
        path.write_bytes(issued.certificate.public_bytes(Encoding.PEM))
        wanted = dane.make_record(3, 1, 1, issued.certificate).data.hex()
        for words in (("dane-ee", "spki", "sha2-256"), ("3", "1", "1")):
            code, out, error = self.moxtw("dane", "makerecord", *words, str(path))
            self.assertEqual((code, out, error), (0, f"TLSA 3 1 1 {wanted}\n", ""))
        key = Path(self.mktemp())
        key.write_bytes(
            issued.key.private_bytes(
                Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
            )
        )
        code, out, error = self.moxtw("dane", "makerecord", "3", "1", "1", str(key))
        self.assertEqual((code, out, error), (0, f"TLSA 3 1 1 {wanted}\n", ""))
        error = self.fails("dane", "makerecord", "3", "0", "1", str(key))
        self.assertIn("needs a certificate", error)
        self.assertIn("need one of", self.fails("dane", "makerecord", "4", "0", "1", code=2))
        self.assertIn("No such file", self.fails("dane", "makerecord", "3", "0", "1", "/nope"))
