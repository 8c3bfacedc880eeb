from twisted.trial.unittest import SynchronousTestCase

from moxtw.config.clientconfig import (
    TLS_NONE,
    client_config,
    client_config_entries,
)
from moxtw.config.lookup import (
    AddressNotFound,
    DomainDisabled,
    DomainNotFound,
    account_aliases,
    account_destinations,
    account_for_login,
    lookup_address,
    may_send_as,
)
from moxtw.config.testing import STATIC, FixedConfig
from moxtw.mail.address import parse_address
from moxtw.mail.domain import parse_domain

DYNAMIC = """\
Domains:
	example.org:
		LocalpartCatchallSeparators:
			- +
			- -
		DMARC:
			Localpart: dmarc-reports
			Account: me
			Mailbox: DMARC
		TLSRPT:
			Localpart: dmarc-reports
			Account: me
			Mailbox: DMARC
		Aliases:
			team:
				Addresses:
					- me@example.org
					- you@case.example
				AllowMsgFrom: true
			closed:
				Addresses:
					- me@example.org
	case.example:
		LocalpartCaseSensitive: true
	catch.example: nil
	off.example:
		Disabled: true
		LocalpartCatchallSeparator: +
	remote.example:
		DMARC:
			Localpart: remote
			Domain: example.org
			Account: you
			Mailbox: Remote
	bücher.example: nil
Accounts:
	me:
		Domain: example.org
		Destinations:
			me@example.org: nil
			Second@example.org:
				Mailbox: Second
			plain: nil
			me@off.example: nil
			josé@bücher.example: nil
	you:
		Domain: case.example
		Destinations:
			You@case.example: nil
			you@case.example: nil
			@catch.example: nil
			special@catch.example: nil
"""


class LookupTests(SynchronousTestCase):
    def setUp(self):
        self.cfg = FixedConfig(DYNAMIC, STATIC)

    def look(self, address, **options):
        localpart, _, domain = address.rpartition("@")
        allow = {"allow_postmaster": True, "allow_alias": True, "allow_disabled": False}
        return lookup_address(
            self.cfg,
            localpart or domain,
            parse_domain(domain) if localpart else None,
            **{**allow, **options},
        )

    def test_order_of_rules(self):
        for address, account, canonical in [
            ("me@example.org", "me", "me@example.org"),
            ("ME@EXAMPLE.ORG", "me", "me@example.org"),
            ("me+shop@example.org", "me", "me@example.org"),
            ("me-shop@example.org", "me", "me@example.org"),
            ("me+a-b@example.org", "me", "me@example.org"),
            ("SECOND@example.org", "me", "second@example.org"),
            ("plain@example.org", "me", "plain@example.org"),
            # Reports, also with a separator in the localpart, alone and followed by one.
            ("dmarc-reports@example.org", "me", "dmarc-reports@example.org"),
            ("DMARC-reports+x@example.org", "me", "dmarc-reports@example.org"),
            ("remote@example.org", "you", "remote@example.org"),
            # Case-sensitive domain.
            ("You@case.example", "you", "You@case.example"),
            ("you@case.example", "you", "you@case.example"),
            # Catchall comes after exact addresses, and before the domain's postmaster.
            ("special@catch.example", "you", "special@catch.example"),
            ("any@catch.example", "you", "@catch.example"),
            ("postmaster@catch.example", "you", "@catch.example"),
            # Postmaster: of the host, without domain, of hosted domains.
            ("postmaster", "me", "postmaster"),
            ("PostMaster@mail.example.org", "me", "postmaster"),
            ("Postmaster@example.org", "me", "postmaster"),
            # TLS reports about the host, exactly.
            ("tlsreports@mail.example.org", "me", "tlsreports@mail.example.org"),
            # Internationalised in both forms.
            ("josé@bücher.example", "me", "josé@bücher.example"),
            ("JOSÉ@xn--bcher-kva.example", "me", "josé@bücher.example"),
        ]:
            found = self.look(address)
            self.assertEqual((found.account, found.canonical), (account, canonical), address)

    def test_flags_and_mailboxes(self):
        reports = self.look("dmarc-reports@example.org")
        self.assertTrue(reports.dmarc_reports and reports.domain_tls_reports)
        self.assertTrue(reports.tls_reports)
        self.assertFalse(reports.host_tls_reports)
        self.assertEqual(reports.mailbox, "DMARC")
        remote = self.look("remote@example.org")
        self.assertEqual(
            (remote.dmarc_reports, remote.tls_reports, remote.mailbox), (True, False, "Remote")
        )
        host = self.look("tlsreports@mail.example.org")
        self.assertEqual((host.host_tls_reports, host.mailbox), (True, "TLSRPT"))
        self.assertEqual(self.look("postmaster").mailbox, "Postmaster")
        plain = self.look("me@example.org")
        self.assertEqual(
            (plain.mailbox, plain.tls_reports, plain.catchall), ("Inbox", False, False)
        )
        self.assertTrue(self.look("x@catch.example").catchall)

    def test_failures(self):
        for address, error in [
            ("nobody@example.org", AddressNotFound),
            ("YOU@case.example", AddressNotFound),
            ("x@other.example", DomainNotFound),
            ("remote@remote.example", DomainNotFound),  # Only here for reports.
            ("postmaster@remote.example", DomainNotFound),
            ("me@off.example", DomainDisabled),
            ("nobody@off.example", DomainDisabled),
            ("TLSreports@mail.example.org", DomainNotFound),
            ("other", DomainNotFound),
        ]:
            self.assertRaises(error, self.look, address)

    def test_aliases(self):
        found = self.look("TEAM+x@example.org")
        self.assertEqual(found.canonical, "team@example.org")
        self.assertEqual(
            [(str(m.address), m.account_name) for m in found.alias.parsed_addresses],
            [("me@example.org", "me"), ("you@case.example", "you")],
        )
        self.assertRaises(AddressNotFound, self.look, "team@example.org", allow_alias=False)
        self.assertEqual(
            [a.localpart_str for a in account_aliases(self.cfg, "me")], ["team", "closed"]
        )
        self.assertEqual(account_aliases(self.cfg, "nobody"), [])

    def test_options(self):
        found = self.look("me@off.example", allow_disabled=True)
        self.assertEqual(found.account, "me")
        for address in [
            "postmaster@example.org",
            "postmaster@mail.example.org",
            "tlsreports@mail.example.org",
            "postmaster",
        ]:
            self.assertRaises(
                (AddressNotFound, DomainNotFound), self.look, address, allow_postmaster=False
            )

    def test_logins(self):
        for name, account in [
            ("me@example.org", "me"),
            ("Me+phone@Example.org", "me"),
            ("me+x@off.example", "me"),
            ("anything@catch.example", "you"),
            ("team@example.org", None),
            ("postmaster@example.org", None),
            ("me", None),
            ("", None),
            ("me@", None),
            ("@catch.example", None),
            ("me@[127.0.0.1]", None),
        ]:
            found = account_for_login(self.cfg, name)
            self.assertEqual(found and found.account, account, name)

    def test_authors(self):
        for account, address, allowed in [
            ("me", "me@example.org", True),
            ("me", "Me+x@example.org", True),
            ("me", "team@example.org", True),
            ("you", "team@example.org", True),
            ("me", "closed@example.org", False),
            ("me", "you@case.example", False),
            ("you", "x@catch.example", True),
            ("me", "postmaster@example.org", False),
            ("me", "x@elsewhere.example", False),
        ]:
            self.assertEqual(
                may_send_as(self.cfg, account, parse_address(address)), allowed, address
            )
        self.assertRaises(
            DomainDisabled, may_send_as, self.cfg, "me", parse_address("me@off.example")
        )

    def test_addresses_of_an_account(self):
        self.assertEqual(
            [d.canonical for d in account_destinations(self.cfg, "you")],
            ["You@case.example", "you@case.example", "@catch.example", "special@catch.example"],
        )


LISTENERS = """\
DataDir: data
LogLevel: error
Hostname: mail.example.org
ACME:
	a:
		DirectoryURL: https://ca.example/directory
		ContactEmail: me@example.org
Listeners:
	public:
		IPs:
			- 192.0.2.1
		TLS:
			ACME: a
		Submissions:
			Enabled: true
			EnabledOnHTTPS: true
		Submission:
			Enabled: true
		IMAP:
			Enabled: true
			Port: 1143
		IMAPS:
			Enabled: true
		AdminHTTPS:
			Enabled: true
	inside:
		IPs:
			- 127.0.0.1
		Hostname: inside.example.org
		IMAP:
			Enabled: true
			NoRequireSTARTTLS: true
Postmaster:
	Account: me
	Mailbox: Inbox
"""


class ClientConfigTests(SynchronousTestCase):
    def test_table(self):
        cfg = FixedConfig(DYNAMIC, LISTENERS)
        entries = client_config_entries(cfg, parse_domain("example.org"))
        self.assertEqual(
            [(e.protocol, str(e.host), e.port, e.listener, e.note) for e in entries],
            [
                ("IMAP", "inside.example.org", 143, "inside", "plain text, no STARTTLS"),
                (
                    "Submission (SMTP)",
                    "mail.example.org",
                    465,
                    "public",
                    "TLS from the start; also on port 443 with ALPN smtp",
                ),
                ("IMAP", "mail.example.org", 993, "public", "TLS from the start"),
                ("Submission (SMTP)", "mail.example.org", 587, "public", "STARTTLS required"),
                ("IMAP", "mail.example.org", 1143, "public", "STARTTLS required"),
            ],
        )
        self.assertEqual(entries[0].tls, TLS_NONE)
        self.assertEqual(entries[0].json()["Host"]["ASCII"], "inside.example.org")

    def test_single_choice(self):
        dynamic = DYNAMIC.replace(
            "	case.example:\n",
            "	case.example:\n\t\tClientSettingsDomain: mail.case.example\n",
        )
        choice = client_config(FixedConfig(dynamic, LISTENERS), parse_domain("case.example"))
        self.assertEqual((choice.imap.port, choice.submission.port), (993, 465))
        self.assertEqual(str(choice.imap.host), "mail.case.example")
        choice = client_config(FixedConfig(DYNAMIC, STATIC), parse_domain("example.org"))
        self.assertEqual((choice.imap, choice.submission), (None, None))
        self.assertRaises(KeyError, client_config, FixedConfig(), parse_domain("other.example"))
