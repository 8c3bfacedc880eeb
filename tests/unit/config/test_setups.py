from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from moxtw.config import document
from moxtw.config.setups import (
    Quickstart,
    localserve_dynamic,
    localserve_static,
    quickstart_dynamic,
    quickstart_static,
)
from moxtw.mail.address import parse_address
from moxtw.mail.domain import parse_domain

DATA = Path(__file__).parent / "data"
TIME = "20261121T002718"


class SetupTests(SynchronousTestCase):
    def check(self, name, static, dynamic):
        for file, value in [("mox.conf", static), ("domains.conf", dynamic)]:
            self.assertEqual(document.write(value), (DATA / name / file).read_text())

    def test_quickstart(self):
        for name, existing in [("quickstart", False), ("quickstart-existing-webserver", True)]:
            selectors = [
                (s, f"dkim/{s}._domainkey.example.org.{TIME}.rsa2048.privatekey.pkcs8.pem")
                for s in ("2026a", "2026b")
            ]
            q = Quickstart(
                address=parse_address("you@example.org"),
                account="you",
                hostname=parse_domain("mail.example.org"),
                user="root",
                public_ips=["192.0.2.2", "fd00::2"],
                host_private_key_files=[
                    f"hostkeys/mail.example.org.{TIME}.{kind}.privatekey.pkcs8.pem"
                    for kind in ("rsa2048", "ecdsap256")
                ],
                selectors=selectors,
                sign=["2026a"],
                policy_id=TIME,
                existing_webserver=existing,
            )
            self.check(name, quickstart_static(q), quickstart_dynamic(q))

    def test_localserve(self):
        self.check("localserve", localserve_static(user="0"), localserve_dynamic())
