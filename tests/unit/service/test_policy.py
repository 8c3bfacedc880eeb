"""What the store asks of the configuration."""

from twisted.trial.unittest import SynchronousTestCase

from moxtw.config.testing import FixedConfig
from moxtw.service.policy import ConfigDirectory, JunkFlags, first_mailboxes
from moxtw.store.model import Flag, SpecialUse

STATIC = """\
DataDir: data
LogLevel: info
Hostname: mail.example
Listeners:
	local:
		IPs:
			- 127.0.0.1
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
		LoginDisabled: moved away
		Destinations:
			me@example.org: nil
		AutomaticJunkFlags:
			Enabled: true
			JunkMailboxRegexp: ^(junk|spam)
			NeutralMailboxRegexp: ^inbox
"""


class PolicyTests(SynchronousTestCase):
    def setUp(self):
        self.config = FixedConfig(DYNAMIC, STATIC)

    def test_login_names(self):
        directory = ConfigDirectory(self.config)
        found = directory.login_account("ME@example.org")
        self.assertEqual(
            (found.account, found.address, found.login_disabled),
            ("me", "me@example.org", "moved away"),
        )
        self.assertIsNone(directory.login_account("you@example.org"))

    def test_junk_flags_by_name(self):
        adapt = JunkFlags(self.config)
        self.assertEqual(adapt("me", "Spam/old", 0, Flag.NOTJUNK), Flag.JUNK)
        self.assertEqual(adapt("me", "Inbox", 0, Flag.JUNK | Flag.SEEN), Flag.SEEN)
        self.assertEqual(adapt("me", "Archive", 0, Flag.JUNK), Flag.NOTJUNK)
        self.assertEqual(adapt("me", "Archive", SpecialUse.JUNK, 0), Flag.JUNK)
        self.assertEqual(adapt("other", "Spam", 0, Flag.SEEN), Flag.SEEN)

    def test_usual_first_mailboxes(self):
        self.assertEqual(first_mailboxes(self.config.static), (None, ()))
