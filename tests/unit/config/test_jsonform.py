import contextlib
import json

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from moxtw.config import JSONError, from_json, json_value
from moxtw.config.duration import Duration
from moxtw.config.dynamic import (
    Account,
    Alias,
    ConfigDomain,
    Destination,
    JunkFilter,
    JunkParams,
    Route,
    Ruleset,
    Selector,
    WebHandler,
    WebStatic,
)
from moxtw.config.static import Transport, TransportFail
from moxtw.config.testing import STATIC, dynamic_from, static_from

TEXT = """\
Domains:
	münchen.example:
		Disabled: true
		LocalpartCatchallSeparators:
			- +
			- -
		DKIM:
			Selectors:
				a:
					PrivateKeyFile: a.pem
			Sign:
				- a
		DMARC:
			Localpart: Reports
			Account: me
			Mailbox: DMARC
		MTASTS:
			PolicyID: 1
			Mode: enforce
			MaxAge: 24h0m0s
		Aliases:
			team:
				Addresses:
					- me@münchen.example
				ListMembers: true
Accounts:
	me:
		KeepRetiredMessagePeriod: 72h0m0s
		Domain: münchen.example
		Destinations:
			me@münchen.example:
				Rulesets:
					-
						VerifiedDomain: münchen.example
						Mailbox: X
		JunkFilter:
			Threshold: 0.950000
			Params:
				Onegrams: true
				MaxPower: 0.010000
				TopWords: 10
		Routes:
			-
				ToDomain:
					- .münchen.example
				Transport: no
WebHandlers:
	-
		Domain: example.org
		WebStatic:
			Root: x
MonitorDNSBLs:
	- bl.example
"""
NO_TRANSPORT = STATIC + "Transports:\n\tno:\n\t\tFail: nil\n"

# Names and order as the interfaces of admin and account give them.
NAMES = {
    ConfigDomain: "Disabled Description ClientSettingsDomain LocalpartCatchallSeparator "
    "LocalpartCatchallSeparators LocalpartCaseSensitive DKIM DMARC MTASTS TLSRPT Routes Aliases "
    "Domain LocalpartCatchallSeparatorsEffective",
    Selector: "Hash HashEffective Canonicalization Headers HeadersEffective DontSealHeaders "
    "Expiration PrivateKeyFile Algorithm",
    Account: "OutgoingWebhook IncomingWebhook FromIDLoginAddresses KeepRetiredMessagePeriod "
    "KeepRetiredWebhookPeriod LoginDisabled Domain Description FullName Destinations SubjectPass "
    "QuotaMessageSize RejectsMailbox KeepRejects Introbox AutomaticJunkFlags JunkFilter "
    "MaxOutgoingMessagesPerDay MaxFirstTimeRecipientsPerDay NoFirstTimeSenderDelay "
    "NoCustomPassword IMAPCapabilitiesDisabled Routes DNSDomain Aliases",
    Alias: "Addresses PostPublic ListMembers AllowMsgFrom LocalpartStr Domain ParsedAddresses",
    Ruleset: "SMTPMailFromRegexp MsgFromRegexp VerifiedDomain HeadersRegexp IsForward "
    "ListAllowDomain AcceptRejectsToMailbox Mailbox Comment VerifiedDNSDomain ListAllowDNSDomain",
    Destination: "Mailbox Rulesets SMTPError MessageAuthRequiredSMTPError FullName",
    JunkFilter: "Threshold Onegrams Twograms Threegrams MaxPower TopWords IgnoreWords RareWords",
    Route: "FromDomain ToDomain MinimumAttempts Transport FromDomainASCII ToDomainASCII",
    WebHandler: "LogName Domain PathRegexp DontRedirectPlainHTTP Compress WebStatic WebRedirect "
    "WebForward WebInternal Name DNSDomain",
    Transport: "Submissions Submission SMTP Socks Direct Fail",
    TransportFail: "SMTPCode SMTPMessage Code Message",
}


class JSONTests(SynchronousTestCase):
    def setUp(self):
        self.dynamic = dynamic_from(TEXT, static_from(NO_TRANSPORT))

    def test_names(self):
        for cls, names in NAMES.items():
            self.assertEqual(sorted(json_value(cls())), sorted(names.split()), cls)

    def test_values(self):
        value = json.loads(json.dumps(json_value(self.dynamic)))
        self.assertEqual(
            sorted(value),
            sorted(
                [
                    "Domains",
                    "Accounts",
                    "WebDomainRedirects",
                    "WebHandlers",
                    "Routes",
                    "MonitorDNSBLs",
                    "MonitorDNSBLZones",
                ]
            ),
        )
        munich = {"ASCII": "xn--mnchen-3ya.example", "Unicode": "münchen.example"}
        domain = value["Domains"]["münchen.example"]
        self.assertEqual(domain["Domain"], munich)
        self.assertEqual(domain["LocalpartCatchallSeparatorsEffective"], ["+", "-"])
        self.assertIs(domain["Disabled"], True)
        self.assertIsNone(domain["TLSRPT"])
        self.assertEqual(domain["Routes"], [])
        self.assertEqual(
            domain["DMARC"],
            {
                "Localpart": "Reports",
                "Domain": "",
                "Account": "me",
                "Mailbox": "DMARC",
                "ParsedLocalpart": "Reports",
                "DNSDomain": munich,
            },
        )
        self.assertEqual(domain["MTASTS"]["MaxAge"], 86400 * 10**9)
        self.assertEqual(domain["DKIM"]["Selectors"]["a"]["HashEffective"], "sha256")
        self.assertIn("Subject", domain["DKIM"]["Selectors"]["a"]["HeadersEffective"])
        alias = domain["Aliases"]["team"]
        self.assertEqual((alias["LocalpartStr"], alias["Domain"]), ("team", munich))
        member = alias["ParsedAddresses"][0]
        self.assertEqual(member["AccountName"], "me")
        self.assertEqual(member["Address"], {"Localpart": "me", "Domain": munich})
        self.assertEqual(member["Destination"]["Rulesets"][0]["VerifiedDNSDomain"], munich)
        account = value["Accounts"]["me"]
        self.assertEqual(account["KeepRetiredMessagePeriod"], 72 * 3600 * 10**9)
        self.assertEqual(account["DNSDomain"], munich)
        self.assertEqual(account["JunkFilter"]["TopWords"], 10)
        self.assertEqual(account["SubjectPass"], {"Period": 0})
        self.assertEqual(account["Routes"][0]["ToDomainASCII"], [".xn--mnchen-3ya.example"])
        self.assertEqual(
            account["Aliases"],
            [
                {
                    "SubscriptionAddress": "me@münchen.example",
                    "Alias": alias,
                    "MemberAddresses": ["me@münchen.example"],
                }
            ],
        )
        self.assertEqual(value["WebHandlers"][0]["Name"], "0")
        self.assertEqual(value["WebHandlers"][0]["WebStatic"]["ResponseHeaders"], {})
        self.assertEqual(value["MonitorDNSBLZones"], [{"ASCII": "bl.example", "Unicode": ""}])

    def test_sections_survive_the_way_there_and_back(self):
        for value in [
            *self.dynamic.domains.values(),
            *self.dynamic.accounts.values(),
            *self.dynamic.web_handlers,
            self.dynamic,
        ]:
            self.assertEqual(from_json(type(value), json_value(value)), value)

    def test_from_json(self):
        self.assertEqual(
            from_json(JunkFilter, {"Threshold": 1, "TopWords": 3.0}),
            JunkFilter(threshold=1.0, params=JunkParams(top_words=3)),
        )
        self.assertIsNone(from_json(JunkFilter | None, None))
        self.assertEqual(
            from_json(tuple[Route, ...], [{"Transport": "x", "ToDomain": None}]),
            (Route(transport="x"),),
        )
        self.assertEqual(
            from_json(WebHandler, {"WebStatic": {"Root": "r"}}),
            WebHandler(web_static=WebStatic(root="r")),
        )
        self.assertEqual(from_json(Duration, 5), Duration(5))
        self.assertEqual(from_json(tuple[str, ...], None), ())

    def test_errors(self):
        for kind, value, text in [
            (Route, [], "value: need an object"),
            (Route, {"Nope": 1}, "value: unknown field 'Nope'"),
            (Route, {"Transport": 1}, "Transport: need a string"),
            (Route, {"MinimumAttempts": "1"}, "MinimumAttempts: need a number"),
            (Route, {"MinimumAttempts": True}, "MinimumAttempts: need a number"),
            (Route, {"MinimumAttempts": 1.5}, "MinimumAttempts: need a whole number"),
            (Route, {"MinimumAttempts": 1e300}, "MinimumAttempts: number out of range"),
            (Route, {"ToDomain": "x"}, "ToDomain: need a list"),
            (Route, {"ToDomain": ["x", 1]}, "ToDomain[1]: need a string"),
            (
                Destination,
                {"Rulesets": [{"HeadersRegexp": []}]},
                "Rulesets[0].HeadersRegexp: need an object",
            ),
            (Alias, {"PostPublic": 1}, "PostPublic: need true or false"),
            (JunkFilter, {"Threshold": float("nan")}, "Threshold: need a finite number"),
        ]:
            with self.assertRaises(JSONError) as raised:
                from_json(kind, value)
            self.assertEqual(str(raised.exception), text)

    @settings(max_examples=100, deadline=None)
    @given(
        st.recursive(
            st.none() | st.booleans() | st.floats() | st.text(max_size=3),
            lambda inner: (
                st.lists(inner, max_size=3)
                | st.dictionaries(st.sampled_from(["Mailbox", "Rulesets", "x"]), inner, max_size=3)
            ),
            max_leaves=6,
        )
    )
    def test_hostile_json(self, value):
        with contextlib.suppress(JSONError):
            from_json(Destination, value)
