import dataclasses

from twisted.internet.defer import ensureDeferred
from twisted.trial.unittest import SynchronousTestCase

from moxtw.config import edit
from moxtw.config.defaults import default_account, default_domain
from moxtw.config.dynamic import (
    DKIM,
    Account,
    Alias,
    ConfigDomain,
    Destination,
    Route,
    Selector,
    WebHandler,
    WebStatic,
)
from moxtw.config.load import ConfigError
from moxtw.config.testing import STATIC, FixedConfig
from moxtw.mail.address import parse_address
from moxtw.mail.domain import parse_domain

DYNAMIC = """\
Domains:
	example.org:
		LocalpartCatchallSeparator: +
		DKIM:
			Selectors:
				a:
					PrivateKeyFile: a.pem
				b:
					PrivateKeyFile: b.pem
			Sign:
				- a
		DMARC:
			Localpart: reports
			Account: me
			Mailbox: DMARC
		Aliases:
			team:
				Addresses:
					- me@example.org
					- You@example.org
			single:
				Addresses:
					- solo@example.org
	other.example: nil
	reports.example:
		TLSRPT:
			Localpart: x
			Domain: example.org
			Account: you
			Mailbox: TLS
Accounts:
	me:
		FromIDLoginAddresses:
			- me@example.org
			- second+x@example.org
		Domain: example.org
		Destinations:
			me@example.org: nil
			Second@example.org:
				Mailbox: Two
			third: nil
	you:
		Domain: other.example
		Destinations:
			you@example.org: nil
			solo@example.org: nil
			@example.org: nil
"""


class EditTests(SynchronousTestCase):
    def setUp(self):
        self.cfg = FixedConfig(DYNAMIC, STATIC)

    def do(self, function, *args, **kwargs):
        return self.successResultOf(
            ensureDeferred(self.cfg.change(lambda d: function(d, *args, **kwargs)))
        )

    def refused(self, text, function, *args, error=edit.EditError, **kwargs):
        before = self.cfg.dynamic
        failure = self.failureResultOf(
            ensureDeferred(self.cfg.change(lambda d: function(d, *args, **kwargs))), error
        )
        self.assertIn(text, str(failure.value))
        self.assertIs(self.cfg.dynamic, before)

    def addresses(self, account):
        return [found.canonical for found in self.cfg.dynamic.index.account_destinations[account]]

    # Domains

    def test_domain_add(self):
        new = default_domain(
            parse_domain("new.example"),
            parse_domain("mail.example.org"),
            account="fresh",
            dkim=DKIM(),
            policy_id="20260101T000000",
        )
        dynamic = self.do(edit.domain_add, "NEW.example", new, account="fresh", localpart="hi")
        self.assertEqual(self.addresses("fresh"), ["hi@new.example"])
        domain = dynamic.domains["new.example"]
        self.assertEqual(domain.client_settings_domain, "mail.new.example")
        self.assertEqual(domain.mtasts.mx, ("mail.example.org",))
        self.assertEqual(domain.dmarc.account, "fresh")
        self.refused("configured already", edit.domain_add, "new.example", new, account="me")
        self.refused(
            "exists already", edit.domain_add, "x.example", new, account="me", localpart="x"
        )
        self.refused("a new one needs a localpart", edit.domain_add, "x.example", new, account="no")
        self.refused(
            "bad account name", edit.domain_add, "x.example", new, account="a/b", localpart="x"
        )
        self.refused("bad domain", edit.domain_add, "x y", new, account="me")

    def test_domain_remove(self):
        self.refused(
            "example.org has addresses: me@example.org, second@example.org, third@example.org "
            "and 3 more",
            edit.domain_remove,
            "example.org",
        )
        dynamic = self.do(edit.domain_remove, "other.example")
        self.assertNotIn("other.example", dynamic.domains)
        # Its default domain is gone, one of an address takes its place.
        self.assertEqual(dynamic.accounts["you"].domain, "example.org")
        self.refused("no domain", edit.domain_remove, "other.example", error=edit.NotFound)

    def test_domain_with_reports_of_others_stays(self):
        dynamic = self.do(
            edit.domain_tlsrpt_address, "reports.example", "x", "other.example", "you", "TLS"
        )
        self.assertEqual(dynamic.domains["reports.example"].tlsrpt.dns_domain.name, "other.example")
        self.refused(
            "domain reports.example has its reports sent to other.example",
            edit.domain_remove,
            "other.example",
        )

    def test_domain_settings(self):
        self.do(edit.domain_save, "example.org", description="d", disabled=True)
        self.do(edit.domain_dmarc_address, "example.org", "", "", "", "")
        self.do(edit.domain_mtasts, "example.org", "1", "testing", 86400 * 10**9, ["mx.example"])
        dynamic = self.do(edit.domain_localparts, "example.org", ["+", "-"], False)
        domain = dynamic.domains["example.org"]
        self.assertEqual((domain.description, domain.disabled, domain.dmarc), ("d", True, None))
        self.assertEqual(domain.mtasts.max_age.seconds, 86400)
        self.assertEqual(domain.effective_separators, ("+", "-"))
        self.assertEqual(domain.localpart_catchall_separator, "")
        dynamic = self.do(edit.domain_localparts, "example.org", ["+"], False)
        domain = dynamic.domains["example.org"]
        self.assertEqual(domain.localpart_catchall_separator, "+")
        self.assertEqual(domain.localpart_catchall_separators, ())
        dynamic = self.do(edit.domain_mtasts, "example.org", "", "", 0, [])
        self.assertIsNone(dynamic.domains["example.org"].mtasts)
        self.refused("no domain", edit.domain_save, "no.example", error=edit.NotFound)
        self.refused(
            "no account 'no'",
            edit.domain_dmarc_address,
            "example.org",
            "a",
            "",
            "no",
            "M",
            error=ConfigError,
        )

    def test_dkim(self):
        dynamic = self.do(
            edit.domain_dkim_add, "example.org", "c", Selector(private_key_file="c.pem")
        )
        dkim = dynamic.domains["example.org"].dkim
        self.assertEqual((list(dkim.selectors), dkim.sign), (["a", "b", "c"], ("a",)))
        self.refused("exists already", edit.domain_dkim_add, "example.org", "c", Selector())
        selectors = dict(dkim.selectors)
        selectors["b"] = dataclasses.replace(selectors["b"], expiration="1h")
        dynamic = self.do(edit.domain_dkim_save, "example.org", selectors, ["b", "c"])
        dkim = dynamic.domains["example.org"].dkim
        self.assertEqual([name for name, _ in dkim.sign_selectors], ["b", "c"])
        self.assertEqual(dkim.selectors["b"].expiration_seconds, 3600)
        dynamic = self.do(edit.domain_dkim_remove, "example.org", "b")
        dkim = dynamic.domains["example.org"].dkim
        self.assertEqual((list(dkim.selectors), dkim.sign), (["a", "c"], ("c",)))
        self.refused(
            "no selector 'b'", edit.domain_dkim_remove, "example.org", "b", error=edit.NotFound
        )
        self.refused("cannot be added", edit.domain_dkim_save, "example.org", {}, [])
        selectors = {key: Selector(private_key_file="z.pem") for key in dkim.selectors}
        self.refused("cannot be changed", edit.domain_dkim_save, "example.org", selectors, [])

    # Accounts

    def test_account_add(self):
        dynamic = self.do(edit.account_add, "third", "It@other.example")
        self.assertEqual(
            dynamic.accounts["third"], default_account(parse_address("It@other.example"))
        )
        self.assertEqual(self.addresses("third"), ["it@other.example"])
        self.refused("exists already", edit.account_add, "third", "x@other.example")
        self.refused(
            "me@example.org is an address of account 'me' already",
            edit.account_add,
            "x",
            "ME@example.org",
        )
        self.refused("is an alias", edit.account_add, "x", "team@example.org")
        self.refused("separator '+'", edit.account_add, "x", "a+b@example.org")
        self.refused("bad address", edit.account_add, "x", "x")
        self.refused("bad account name", edit.account_add, "", "x@example.org")
        self.refused("no domain", edit.account_add, "x", "x@no.example", error=edit.NotFound)
        # Where reports of another account arrive.
        self.refused(
            "belongs to account",
            edit.account_add,
            "x",
            "reports@example.org",
            error=ConfigError,
        )

    def test_account_remove(self):
        self.refused("DMARC reports about domain example.org", edit.account_remove, "me")
        self.refused("TLS reports about domain reports.example", edit.account_remove, "you")
        self.do(edit.domain_tlsrpt_address, "reports.example", "", "", "", "")
        self.refused("last member of alias single@example.org", edit.account_remove, "you")
        self.do(edit.alias_remove, "single", "example.org")
        dynamic = self.do(edit.account_remove, "you")
        self.assertEqual(list(dynamic.accounts), ["me"])
        self.assertEqual(
            dynamic.domains["example.org"].aliases["team"].addresses, ("me@example.org",)
        )
        self.do(edit.domain_dmarc_address, "example.org", "", "", "", "")
        self.refused("that of the postmaster", edit.account_remove, "me")
        self.refused("no account 'no'", edit.account_remove, "no", error=edit.NotFound)

    def test_account_settings(self):
        dynamic = self.do(
            edit.account_settings,
            "me",
            max_outgoing_messages_per_day=5,
            max_first_time_recipients_per_day=0,
            quota_message_size=7,
            first_time_sender_delay=False,
            no_custom_password=True,
        )
        account = dynamic.accounts["me"]
        self.assertEqual(
            (account.effective_max_outgoing, account.effective_max_first_time), (5, 200)
        )
        self.assertTrue(account.no_first_time_sender_delay and account.no_custom_password)
        dynamic = self.do(edit.account_save, "me", full_name="Me", introbox="Intro")
        self.assertEqual(dynamic.accounts["me"].full_name, "Me")
        self.refused("Introbox", edit.account_save, "me", introbox="Inbox", error=ConfigError)

    def test_destination_save(self):
        old = Destination(mailbox="Two")
        new = Destination(mailbox="Three")
        name = "Second@example.org"
        self.do(edit.destination_save, "me", name, old, new)
        self.assertEqual(self.cfg.dynamic.accounts["me"].destinations[name], new)
        self.refused("changed meanwhile", edit.destination_save, "me", name, old, new)
        self.refused(
            "not an address", edit.destination_save, "me", "x", old, new, error=edit.NotFound
        )

    # Addresses

    def test_address_add(self):
        self.do(edit.address_add, "New@example.org", "me")
        self.do(edit.address_add, "@OTHER.example", "me")
        self.assertEqual(self.addresses("me")[-2:], ["new@example.org", "@other.example"])
        self.assertIn("New@example.org", self.cfg.dynamic.accounts["me"].destinations)
        self.refused("already", edit.address_add, "new@example.org", "you")
        self.refused("has the catchall", edit.address_add, "@example.org", "me")
        self.refused("no account", edit.address_add, "x@example.org", "no", error=edit.NotFound)
        # A report address may become an ordinary one of its account, once.
        self.do(edit.address_add, "reports@example.org", "me")
        self.refused("already", edit.address_add, "reports@example.org", "me")

    def test_address_remove(self):
        dynamic = self.do(edit.address_remove, "ME+x@example.org")
        self.assertEqual(self.addresses("me"), ["second@example.org", "third@example.org"])
        self.assertEqual(dynamic.accounts["me"].from_id_login_addresses, ("second+x@example.org",))
        self.assertEqual(
            dynamic.domains["example.org"].aliases["team"].addresses, ("You@example.org",)
        )
        dynamic = self.do(edit.address_remove, "second@example.org")
        self.assertEqual(dynamic.accounts["me"].from_id_login_addresses, ())
        self.do(edit.address_remove, "third@example.org")
        self.assertEqual(self.addresses("me"), [])
        self.do(edit.address_remove, "@example.org")
        self.assertEqual(self.addresses("you"), ["you@example.org", "solo@example.org"])
        self.refused("last member", edit.address_remove, "solo@example.org")
        for address, text in [
            ("nobody@example.org", "no address nobody@example.org"),
            ("@example.org", "no address @example.org"),
            ("team@example.org", "is an alias"),
            ("reports@example.org", "is not among the addresses"),
            ("x@no.example", "no domain"),
        ]:
            self.refused(text, edit.address_remove, address, error=edit.NotFound)

    # Aliases

    def test_aliases(self):
        alias = Alias(addresses=("me@example.org",), list_members=True)
        self.do(edit.alias_add, "New", "example.org", alias)
        found = edit.find_alias(self.cfg.dynamic, "new", "example.org")
        self.assertEqual(found, alias)
        self.assertEqual(str(found.address), "new@example.org")
        self.do(edit.alias_update, "NEW", "example.org", post_public=True)
        self.do(edit.alias_addresses_add, "new", "example.org", ["you@example.org"])
        found = edit.find_alias(self.cfg.dynamic, "new", "example.org")
        self.assertEqual(
            (found.addresses, found.post_public, found.list_members),
            (("me@example.org", "you@example.org"), True, True),
        )
        self.assertEqual(
            [a.alias.localpart_str for a in self.cfg.dynamic.accounts["me"].aliases],
            ["team", "new"],
        )
        self.do(edit.alias_addresses_remove, "new", "example.org", ["YOU+x@example.org"])
        self.refused(
            "at least one", edit.alias_addresses_remove, "new", "example.org", ["me@example.org"]
        )
        self.refused(
            "not a member",
            edit.alias_addresses_remove,
            "new",
            "example.org",
            ["solo@example.org"],
            error=edit.NotFound,
        )
        self.refused("already", edit.alias_add, "me", "example.org", alias)
        self.refused("already", edit.alias_add, "team", "example.org", alias)
        self.refused("separator", edit.alias_add, "a+b", "example.org", alias)
        self.refused("at least one", edit.alias_add, "y", "example.org", Alias())
        self.refused("empty", edit.alias_add, "", "example.org", alias)
        self.refused(
            "not an address of an account",
            edit.alias_addresses_add,
            "new",
            "example.org",
            ["no@other.example"],
            error=ConfigError,
        )
        self.do(edit.alias_remove, "new", "example.org")
        self.refused("no alias", edit.alias_remove, "new", "example.org", error=edit.NotFound)
        self.assertEqual(edit.split_alias("A@Example.org"), ("A", "example.org"))

    def test_localparts_of_aliases_are_quoted_where_needed(self):
        self.do(edit.alias_add, "a b", "example.org", Alias(addresses=("me@example.org",)))
        self.assertIn('"a b"', self.cfg.dynamic.domains["example.org"].aliases)
        self.assertEqual(
            edit.find_alias(self.cfg.dynamic, "A B", "example.org").localpart_str, "a b"
        )

    # Global settings

    def test_global_settings(self):
        dynamic = self.do(edit.monitor_dnsbls_save, " bl.example \n\nZEN.example\n")
        self.assertEqual(dynamic.monitor_dnsbls, ("bl.example", "zen.example"))
        self.refused("duplicate zone", edit.monitor_dnsbls_save, "a.example\nA.example")
        self.refused("bad domain", edit.monitor_dnsbls_save, "a b")
        self.refused("no transport", edit.routes_save, [Route(transport="no")], error=ConfigError)
        handler = WebHandler(domain="example.org", web_static=WebStatic(root="web"))
        new = ({"a.example": "b.example"}, [handler])
        dynamic = self.do(edit.webserver_save, ({}, []), new)
        self.assertEqual(dynamic.web_handlers, (handler,))
        self.assertEqual(dynamic.web_dns_domain_redirects["a.example"].name, "b.example")
        self.refused("changed meanwhile", edit.webserver_save, ({}, []), new)

    def test_edits_start_from_a_configuration_in_use(self):
        self.assertRaises(
            TypeError,
            edit.account_add,
            dataclasses.replace(self.cfg.dynamic),
            "x",
            "x@example.org",
        )

    def test_rejected_edits_leave_no_trace_in_shared_parts(self):
        team = edit.find_alias(self.cfg.dynamic, "team", "example.org")

        def broken(dynamic):
            dynamic = edit.address_remove(dynamic, "me@example.org")
            domains = {**dynamic.domains, "bad domain": ConfigDomain()}
            accounts = {**dynamic.accounts, "x": Account(domain="example.org")}
            return dataclasses.replace(dynamic, domains=domains, accounts=accounts)

        members = team.parsed_addresses
        known = self.cfg.dynamic.accounts["you"].aliases
        self.refused("bad domain", broken, error=ConfigError)
        self.assertEqual(team.parsed_addresses, members)
        self.assertIs(self.cfg.dynamic.accounts["you"].aliases, known)
