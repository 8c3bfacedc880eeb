"""Commands that connect to servers, and those that read reports, as processes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from cryptography import x509
from twisted.trial.unittest import SkipTest

from moxtw.tlspolicy import dane
from tests.functional.test_cli_commands import Case
from tests.support.server import ZONE, may_bind
from tests.unit.authn.test_dmarcreport import REPORT
from tests.unit.authn.test_dmarcreport import feedback_xml as xml
from tests.unit.tlspolicy.test_tlsreport import EXAMPLE

IP = "127.0.0.44"


class DialTests(Case):
    def dial(self, *args: Any, stdin: bytes = b"QUIT\n", code: int = 0) -> tuple[str, str]:
        """Output and errors of a command."""
        done, out, err = self.moxtw(*args, stdin=stdin)
        self.assertEqual(done, code, (args, out, err))
        return out, err

    def test_dial(self) -> None:
        if not may_bind(IP, 25):
            raise SkipTest(f"may not listen on {IP}, port 25")
        zone = {name: dict(types) for name, types in ZONE.items()}
        zone["mail.a.example"] = {"A": [IP]}
        zone["mail.b.example"] = {"A": [IP]}
        names = self.name_server(zone)
        server = self.make(smtp_port=25, ip=IP, resolver=names.address)
        server.start()
        certificate = x509.load_pem_x509_certificate(server.certificate.read_bytes())

        def publish(name: str, usage: int, port: int = 25, good: bool = True) -> None:
            record = dane.make_record(usage, 1, 1, certificate)
            text = dane.presentation(record)
            if not good:
                text = text[:-4] + ("0000" if text[-4:] != "0000" else "1111")
            names.zone[f"_{port}._tcp.{name}."] = {"TLSA": [text]}

        # SMTP.
        out, err = self.dial("smtp", "dial", "-ehlohostname", "client.example", IP,
                             stdin=b"NOOP\nQUIT\n")  # fmt: skip
        self.assertIn("250 2.0.0", out)
        self.assertIn("221 2.0.0", out)
        self.assertIn("tls: TLS1.3", err)
        self.assertIn("certificate is not verified", err)
        self.assertIn("250-SIZE", err)
        _, err = self.dial("smtp", "dial", "-notls", f"{IP}:25")
        self.assertIn("no tls", err)
        _, err = self.dial(
            "smtp", "dial", "-tlsverify", "-tlscerts", server.certificate, "-remotehostname",
            "localhost", "-tlsversionmax", "tls12", "-tlsciphersuites",
            "ECDHE-ECDSA-AES256-GCM-SHA384", "-tlscurves", "P-256", IP,
        )  # fmt: skip
        self.assertIn("tls: TLS1.2, TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384", err)
        self.assertNotIn("not verified", err)
        for args, why, code in (
            (("-tlsverify", IP), "certificate-not-trusted", 1),
            (("-tlsciphersuites", "nope", IP), "cipher", 2),
            (("-tlscurves", "nope", IP), "curves", 2),
            (("-tlsversionmin", "ssl3", IP), "tls10", 2),
            (("-forcetls", "-notls", IP), "not both", 2),
            ((f"{IP}:1",), "connecting", 1),
            (("nothing.example",), "nothing.example", 1),
            ((f"{IP}:x",), "host:port", 2),
        ):
            _, err = self.dial("smtp", "dial", *args, code=code)
            self.assertIn(why, err)

        # TLS from the first byte on, with DANE.
        imaps = server.ports.imaps
        _, err = self.dial("dane", "dial", f"mail.a.example:{imaps}", code=1)
        self.assertIn("no TLSA records", err)
        publish("mail.a.example", 3, imaps)
        out, err = self.dial("dane", "dial", f"mail.a.example:{imaps}", stdin=b"a LOGOUT\n")
        self.assertIn("* OK ", out)
        self.assertIn("a OK ", out)
        self.assertIn("verified with DANE", err)
        _, err = self.dial("dane", "dial", "-usages", "dane-ta", f"mail.a.example:{imaps}", code=1)
        self.assertIn("no TLSA records", err)
        publish("mail.b.example", 3, imaps, good=False)
        _, err = self.dial("dane", "dial", f"mail.b.example:{imaps}", code=1)
        self.assertIn("no tlsa record matches", err)
        self.assertNotIn("verified with DANE", err)
        self.dial("dane", "dial", "-usages", "moo", f"mail.b.example:{imaps}", code=2)

        # As the queue does.
        _, err = self.dial("dane", "dialmx", "a.example", code=1)
        self.assertIn("no usable TLSA records", err)
        publish("mail.a.example", 3)
        publish("mail.b.example", 3, good=False)
        out, err = self.dial("dane", "dialmx", "-ehlohostname", "client.example", "a.example")
        self.assertIn("221 2.0.0", out)
        self.assertIn("verified with DANE", err)
        _, err = self.dial("dane", "dialmx", "b.example", code=1)
        self.assertIn("no tlsa record matches", err)
        self.dial("dane", "dialmx", "b.example", "mail.a.example")
        self.dial("dane", "dialmx", "nothing.example", code=1)


class ReportTests(Case):
    def test_reports(self) -> None:
        self.make()  # for its configuration
        folder = Path(self.mktemp())
        folder.mkdir()
        (folder / "dmarc").write_bytes(b"Content-Type: text/xml\r\n\r\n" + xml(REPORT))
        (folder / "tls").write_bytes(b"Content-Type: application/tlsrpt+json\n\n" + EXAMPLE)
        found = json.loads(self.good("dmarc", "parsereportmsg", folder / "dmarc"))
        self.assertEqual(found["published"]["domain"], "example.net")
        self.assertEqual(len(found["records"]), 2)
        found = json.loads(self.good("tlsrpt", "parsereportmsg", folder / "tls"))
        self.assertEqual(found, json.loads(EXAMPLE))
        code, out, err = self.moxtw(
            "dmarc", "parsereportmsg", folder / "tls", folder / "none", folder / "dmarc"
        )
        self.assertEqual(code, 1)
        self.assertIn("example.net", out)
        self.assertIn("no report", err)
        self.assertIn("No such file", err)
        self.assertEqual(self.moxtw("tlsrpt", "parsereportmsg", folder / "dmarc")[0], 1)
