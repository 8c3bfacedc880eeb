"""The tree of services."""

from pathlib import Path

from twisted.application.service import MultiService
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from moxtw.config.load import load_static
from moxtw.service.tree import Server
from tests.support.server import free_port

STATIC = """\
DataDir: data
LogLevel: error
Hostname: mail.example
User: 0
Listeners:
	local:
		IPs:
			- 127.0.0.1
		SMTP:
			Enabled: true
			Port: {smtp}
			NoSTARTTLS: true
		IMAP:
			Enabled: true
			Port: {imap}
			NoRequireSTARTTLS: true
Postmaster:
	Account: me
	Mailbox: Inbox
"""
DYNAMIC = """\
Domains:
	example.org: nil
Accounts:
	me:
		Domain: example.org
		Destinations:
			me@example.org: nil
"""


class TreeTests(SynchronousTestCase):
    def test_children(self):
        directory = Path(self.mktemp())
        directory.mkdir()
        smtp, imap = free_port("127.0.0.1"), free_port("127.0.0.1")
        (directory / "mox.conf").write_text(STATIC.format(smtp=smtp, imap=imap))
        (directory / "domains.conf").write_text(DYNAMIC)
        server = Server(load_static(directory / "mox.conf"), Clock())
        self.assertIsInstance(server, MultiService)
        server.privilegedStartService()
        names = {service.name for service in server}
        self.assertEqual(
            names,
            {
                "store",
                "resolver",
                "queue",
                "ctl",
                f"smtp 127.0.0.1 {smtp}",
                f"imap 127.0.0.1 {imap}",
            },
        )
        # The addresses are ours already; nobody else gets them.
        other = Server(load_static(directory / "mox.conf"), Clock())
        error = self.assertRaises(OSError, other.privilegedStartService)
        self.assertIn(f"127.0.0.1:{smtp}", str(error))
        for service in server:
            if service.name.startswith(("smtp ", "imap ")):
                service.stopService()
