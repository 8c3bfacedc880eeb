"""Host keys that listeners lack are made, once."""

from __future__ import annotations

import stat
from pathlib import Path

from cryptography.hazmat.primitives.serialization import load_pem_private_key
from twisted.trial.unittest import SynchronousTestCase

from moxtw.admin import hostkeys
from moxtw.config.testing import DYNAMIC, STATIC
from tests.unit.cli.calls import call

ACME = STATIC.replace(
    "\t\tSMTP:\n\t\t\tEnabled: true\n\t\t\tNoSTARTTLS: true\n",
    "\t\tTLS:\n\t\t\tACME: test\n%s\t\tSMTP:\n\t\t\tEnabled: true\n"
    "\tother:\n\t\tIPs:\n\t\t\t- 127.0.0.2\n\t\tTLS:\n\t\t\tACME: test\n%s",
) + "ACME:\n\ttest:\n\t\tDirectoryURL: https://acme.example/\n\t\tContactEmail: me@example.org\n"


class EnsureTests(SynchronousTestCase):
    def test_ensure(self) -> None:
        directory = Path(self.mktemp()).absolute()
        directory.mkdir(parents=True)
        path = directory / "mox.conf"
        path.write_text(ACME % ("", ""))
        (directory / "domains.conf").write_text(DYNAMIC)
        command = ("-config", path, "config", "ensureacmehostprivatekeys")
        result = call(*command)
        self.assertEqual((result.code, result.err), (0, ""), result.out)
        files = sorted((directory / "hostkeys").iterdir())
        self.assertEqual(len(files), 2)  # Both listeners have the same host.
        kinds = set()
        for file in files:
            self.assertEqual(stat.S_IMODE(file.stat().st_mode), 0o600)
            self.assertTrue(file.name.startswith("mail.example.org."))
            self.assertEqual(result.out.count(f"\t\t- hostkeys/{file.name}\n"), 2)
            key = load_pem_private_key(file.read_bytes(), None)
            kinds.add(hostkeys.kind_of(key))  # type: ignore[arg-type]
        self.assertEqual(kinds, set(hostkeys.KINDS))
        # As it says to.
        added = "\t\t\tHostPrivateKeyFiles:\n" + "".join(
            f"\t\t\t\t- hostkeys/{file.name}\n" for file in files
        )
        path.write_text(ACME % (added, added))
        result = call(*command)
        self.assertEqual(
            (result.code, result.out),
            (0, "No listener lacks a host key for certificates by ACME.\n"),
        )
        self.assertEqual(sorted((directory / "hostkeys").iterdir()), files)

    def test_without_configuration(self) -> None:
        result = call("-config", self.mktemp(), "config", "ensureacmehostprivatekeys")
        self.assertEqual((result.code, result.out), (1, ""))
