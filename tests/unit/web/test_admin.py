"""The admin API: each function over an in-memory HTTP client, on real files and a real store."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import strategies as st
from treq.testing import StubTreq

from moxtw import log as logs
from moxtw.admin import adminpassword
from moxtw.ratelimit import failed_auth_limiter
from moxtw.store import accounts as rows
from moxtw.store import hooksdb, queuedb
from moxtw.store.hooksdb import NewHook
from moxtw.store.queuerecord import NewQueued
from moxtw.web.admin import admin_sessions, make_admin
from moxtw.web.adminapi import registry
from moxtw.web.visit import make_origin
from tests.support.admin import make_admin_context
from tests.support.rpc import RPCCase
from tests.support.store import job, now

DYNAMIC = """\
Domains:
	example.org:
		LocalpartCatchallSeparator: +
		Routes:
			-
				ToDomain:
					- c.example
				Transport: no
	other.example: nil
Accounts:
	me:
		OutgoingWebhook:
			URL: http://127.0.0.1/hook
			Authorization: Basic x
		KeepRetiredMessagePeriod: 72h
		Domain: example.org
		Destinations:
			me@example.org:
				Rulesets:
					-
						SMTPMailFromRegexp: x@y
						HeadersRegexp:
							x-one: two
						Mailbox: Lists
		JunkFilter:
			Threshold: 0.95
			Params:
				Onegrams: true
				MaxPower: 0.01
				TopWords: 10
	you:
		Domain: other.example
		Destinations:
			you@other.example: nil
WebDomainRedirects:
	www.example.org: example.org
WebHandlers:
	-
		Domain: example.org
		PathRegexp: ^/x/
		WebStatic:
			StripPrefix: /x/
			Root: web
"""

STATIC = """\
DataDir: data
LogLevel: error
Hostname: mail.example.org
AdminPasswordFile: adminpasswd
Transports:
	no:
		Fail:
			SMTPCode: 554
			SMTPMessage: not there
Listeners:
	public:
		IPs:
			- 127.0.0.1
		Submission:
			Enabled: true
			NoRequireSTARTTLS: true
		IMAP:
			Enabled: true
			NoRequireSTARTTLS: true
Postmaster:
	Account: me
	Mailbox: Postmaster
"""


class AdminCase(RPCCase):
    def setUp(self) -> None:
        self.ctx = make_admin_context(self, DYNAMIC, STATIC)
        path = self.ctx.config.static.admin_password_path
        assert path is not None
        adminpassword.set_admin_password(path, "moxadmin")
        self.limiter = failed_auth_limiter()
        resource = make_admin(
            self.ctx,
            "/admin/",
            origin=make_origin(self.ctx.ids),
            sessions=admin_sessions(self.ctx),
            limiter=self.limiter,
        )
        self.stub = StubTreq(resource)
        self.log_in("webadmin", "moxadmin")

    def queue_message(self, recipient: str = "a@c.example", **fields: Any) -> int:
        localpart, _, domain = recipient.partition("@")
        message = NewQueued(
            sender_account="me",
            sender_localpart="me",
            sender_domain="example.org",
            recipient_localpart=localpart,
            recipient_domain=domain,
            content=now(self.ctx.store.contents.from_bytes(b"Subject: x\r\n\r\nbody\r\n")),
            prefix=b"Received: x\r\n",
            **fields,
        )
        (message_id,) = job(self.ctx.store, queuedb.add, [message])
        return message_id


class AdminTests(AdminCase):
    def test_login_attempts_are_recorded(self) -> None:
        self.headers = {"Content-Type": "application/json"}
        token = self.call("LoginPrep")
        cookie = f"webadminlogin={token}"
        self.headers["Cookie"] = cookie
        self.assertEqual(self.error("Login", token, "wrong"), "user:loginFailed")
        csrf = self.call("Login", token, "moxadmin")
        session = self.response.headers.getRawHeaders("Set-Cookie")[1].partition(";")[0]
        self.headers.update({"Cookie": session, "x-mox-csrf": csrf})
        attempts = self.call("LoginAttempts", "(admin)", 0)
        self.assertEqual(
            [(a["Result"], a["Protocol"], a["AuthMech"], a["Count"]) for a in attempts],
            [("ok", "webadmin", "weblogin", 2), ("badcreds", "webadmin", "weblogin", 1)],
        )
        self.assertEqual(self.call("LoginAttempts", "me", 10), [])

    def test_functions_need_a_session(self) -> None:
        self.headers = {"Content-Type": "application/json"}
        for name, fn in registry.functions.items():
            if name not in ("LoginPrep", "Login"):
                self.assertFalse(fn.open)
                self.assertEqual(self.error(name), "user:noAuth")

    def test_unknown_functions(self) -> None:
        for name in ["NoSuchFunction", "dmarcreports"]:
            status, content = self.request("POST", f"api/{name}", b'{"params":[]}')
            self.assertEqual(status, 404)
            self.assertEqual(json.loads(content)["error"]["code"], "sherpa:badFunction")

    def test_pages(self) -> None:
        status, content = self.request("GET", "")
        self.assertEqual(status, 200)
        self.assertIn(b"api/", content)
        self.assertEqual(self.request("POST", "")[0], 405)
        self.assertEqual(self.request("GET", "nothing")[0], 404)
        kept = dict(self.headers)
        self.headers.clear()
        status, content = self.request("GET", "api/openapi.json")
        self.assertEqual((status, json.loads(content)["openapi"]), (200, "3.1.0"))
        self.headers.update(kept)
        status, content = self.request("GET", "api/")
        names = {fn["Name"] for fn in json.loads(content)["Functions"]}
        self.assertLessEqual({"Domains", "AccountAdd", "QueueList", "LogLevels"}, names)

    def test_configuration_in_full(self) -> None:
        config = self.call("Config")
        domain = config["Domains"]["example.org"]
        self.assertEqual(domain["Domain"], {"ASCII": "example.org", "Unicode": ""})
        self.assertEqual(domain["LocalpartCatchallSeparatorsEffective"], ["+"])
        self.assertEqual(domain["Routes"][0]["ToDomainASCII"], ["c.example"])
        account = config["Accounts"]["me"]
        self.assertEqual(account["KeepRetiredMessagePeriod"], 72 * 3600 * 10**9)
        self.assertEqual(account["JunkFilter"]["TopWords"], 10)
        self.assertIsNone(account["IncomingWebhook"])
        rules = account["Destinations"]["me@example.org"]["Rulesets"]
        self.assertEqual(rules[0]["HeadersRegexp"], {"x-one": "two"})
        self.assertEqual(self.call("Domains"), [domain, config["Domains"]["other.example"]])
        self.assertEqual(self.call("DomainConfig", "EXAMPLE.org"), domain)
        self.assertEqual(self.call("Account", "me"), [account, 0])
        self.assertEqual(self.call("Transports")["no"]["Fail"]["Code"], 554)
        self.assertEqual(self.call("ConfigFiles")[2:], [STATIC, DYNAMIC])

    def test_domains(self) -> None:
        self.assertEqual(
            self.call("ParseDomain", "BÜCHER.example"),
            {"ASCII": "xn--bcher-kva.example", "Unicode": "bücher.example"},
        )
        self.assertEqual(self.error("ParseDomain", "a b"), "user:error")
        self.assertEqual(self.error("Domain", "c.example"), "user:notFound")
        self.assertIsNone(self.call("DomainAdd", False, "b.example", "me", ""))
        self.assertEqual(self.error("DomainAdd", False, "b.example", "me", ""), "user:error")
        self.assertEqual(self.call("Domain", "b.example")["ASCII"], "b.example")
        selectors = self.call("DomainConfig", "b.example")["DKIM"]["Selectors"]
        self.assertEqual(self.call("DomainDKIMSave", "b.example", selectors, ["2025b"]), None)
        args = ["", True, True, True, ["From"], 0]
        self.call("DomainDKIMAdd", "b.example", "x", "ed25519", *args)
        self.call("DomainDKIMRemove", "b.example", "x")
        self.call("DomainDescriptionSave", "b.example", "ours")
        self.call("DomainClientSettingsDomainSave", "b.example", "mail.b.example")
        self.call("DomainLocalpartConfigSave", "b.example", ["+", "-"], False)
        self.call("DomainDMARCAddressSave", "b.example", "dmarc", "", "me", "DMARC")
        self.call("DomainTLSRPTAddressSave", "b.example", "", "", "", "")
        self.call("DomainMTASTSSave", "b.example", "id1", "enforce", 10**14, ["mx.b.example"])
        bad = ["id1", "sometimes", 1, []]
        self.assertEqual(self.error("DomainMTASTSSave", "b.example", *bad), "sherpa:badParams")
        self.call("DomainDisabledSave", "b.example", True)
        self.call("DomainRoutesSave", "b.example", [{"Transport": "no"}])
        bad_route = [{"Transport": "nowhere"}]
        self.assertEqual(self.error("DomainRoutesSave", "b.example", bad_route), "user:error")
        config = self.call("DomainConfig", "b.example")
        self.assertEqual(config["MTASTS"]["MX"], ["mx.b.example"])
        self.assertEqual(config["LocalpartCatchallSeparators"], ["+", "-"])
        self.assertTrue(config["Disabled"])
        self.assertIsNone(config["TLSRPT"])
        self.assertEqual(self.call("DomainLocalparts", "example.org"), [{"me": "me"}, {}])
        entries = self.call("ClientConfigsDomain", "example.org")["Entries"]
        self.assertEqual({e["Port"] for e in entries}, {143, 587})
        self.call("DomainRemove", "b.example")
        self.assertEqual(self.error("DomainRemove", "b.example"), "user:notFound")

    def test_accounts(self) -> None:
        self.assertEqual(self.call("Accounts"), [["me", "you"], []])
        self.call("AccountAdd", "new", "new@example.org")
        self.call("AddressAdd", "extra@example.org", "new")
        self.call("AddressRemove", "extra@example.org")
        self.call("SetPassword", "new", "a good password")
        self.assertEqual(self.error("SetPassword", "new", "short"), "user:error")
        self.call("AccountSettingsSave", "new", 10, 5, 10**10, True, False)
        self.call("AccountLoginDisabledSave", "new", "closed")
        self.assertEqual(self.call("Accounts"), [["me", "new", "you"], ["new"]])
        self.call("AccountRoutesSave", "new", [{"Transport": "no", "MinimumAttempts": 3}])
        config, usage = self.call("Account", "new")
        self.assertEqual((config["QuotaMessageSize"], usage), (10**10, 0))
        self.assertEqual(config["Routes"][0]["MinimumAttempts"], 3)
        self.call("AccountRemove", "new")
        self.assertEqual(self.error("Account", "new"), "user:notFound")
        self.assertIsNone(job(self.ctx.store, rows.find, "new"))

    def test_aliases(self) -> None:
        members = {"Addresses": ["me@example.org"]}
        self.call("AliasAdd", "all", "example.org", members)
        self.assertEqual(self.error("AliasAdd", "all", "example.org", members), "user:error")
        self.call("AliasUpdate", "all", "example.org", True, True, True)
        self.call("AliasAddressesAdd", "all", "example.org", ["you@other.example"])
        alias = self.call("DomainLocalparts", "example.org")[1]["all"]
        self.assertTrue(alias["PostPublic"] and alias["ListMembers"] and alias["AllowMsgFrom"])
        self.assertEqual([a["AccountName"] for a in alias["ParsedAddresses"]], ["me", "you"])
        self.assertEqual(self.call("Account", "you")[0]["Aliases"][0]["Alias"], alias)
        self.call("AliasAddressesRemove", "all", "example.org", ["me@example.org"])
        self.call("AliasRemove", "all", "example.org")
        self.assertEqual(self.error("AliasRemove", "all", "example.org"), "user:notFound")

    def test_webhooks(self) -> None:
        for event in ("delivered", "failed"):
            new = NewHook("me", "http://x/", "{}", authorization="secret", event=event)
            job(self.ctx.store, hooksdb.add, new, 0)
        job(self.ctx.store, hooksdb.add, NewHook("me", "http://x/", "{}", is_incoming=True), 0)
        self.assertEqual(self.call("HookQueueSize"), 3)
        (hook,) = self.call("HookList", {"Event": "failed"}, {})
        self.assertEqual((hook["URL"], hook["Authorization"]), ("http://x/", "secret"))
        self.assertEqual(hook["NextAttempt"], "2025-06-15T15:06:40Z")
        self.assertEqual(self.call("HookNextAttemptSet", {"Event": "incoming"}, 10), 1)
        self.assertEqual(self.call("HookNextAttemptAdd", {"IDs": [hook["ID"]]}, 5), 1)
        sort = {"Field": "NextAttempt", "Asc": True}
        times = [h["NextAttempt"][11:16] for h in self.call("HookList", {}, sort)]
        self.assertEqual(times, ["15:06", "15:11", "15:16"])
        self.assertEqual(self.call("HookCancel", {"IDs": [hook["ID"]]}), 1)
        self.assertEqual(self.call("HookQueueSize"), 2)
        self.assertEqual(self.call("HookRetiredList", {}, {}), [])
        many = {"IDs": [1] * 10001}
        for filter, sort in (({"Event": "x"}, {}), ({}, {"Field": "x"}), (many, {})):
            self.assertEqual(self.error("HookList", filter, sort), "user:error")
            self.assertEqual(self.error("HookRetiredList", filter, sort), "user:error")

    def test_queue(self) -> None:
        first = self.queue_message()
        second = self.queue_message("b@d.example", require_tls=True, extra={"k": "v"})
        self.assertEqual(self.call("QueueSize"), 2)
        filter = {"IDs": [second]}
        (message,) = self.call("QueueList", filter, {})
        self.assertEqual(message["ID"], second)
        self.assertEqual(message["RecipientDomain"]["Domain"]["ASCII"], "d.example")
        self.assertEqual((message["RequireTLS"], message["Extra"]), (True, {"k": "v"}))
        self.assertEqual(message["MsgPrefix"], "UmVjZWl2ZWQ6IHgNCg==")
        self.assertEqual(message["Queued"], "2025-06-15T15:06:40Z")
        self.assertEqual(self.call("QueueHoldSet", filter, True), 1)
        self.assertEqual(
            [m["ID"] for m in self.call("QueueList", {"Hold": True}, {})], [second]
        )
        self.assertEqual(self.call("QueueNextAttemptSet", {"Account": "me"}, 10), 2)
        self.assertEqual(self.call("QueueNextAttemptAdd", {"To": "@c.example"}, -5), 1)
        listed = self.call("QueueList", {}, {"Field": "NextAttempt", "Asc": True})
        self.assertEqual([m["ID"] for m in listed], [first, second])
        times = [m["NextAttempt"] for m in listed]
        self.assertEqual(times, ["2025-06-15T15:11:40Z", "2025-06-15T15:16:40Z"])
        paging = {"Field": "NextAttempt", "Asc": True, "LastID": first, "Last": times[0]}
        self.assertEqual([m["ID"] for m in self.call("QueueList", {}, paging)], [second])
        self.assertEqual(self.call("QueueTransportSet", {}, "no"), 2)
        self.assertEqual(self.call("QueueRequireTLSSet", filter, None), 1)
        (message,) = self.call("QueueList", {"Transport": "no", "IDs": [second]}, {})
        self.assertIsNone(message["RequireTLS"])
        self.assertEqual(self.call("QueueList", {"Transport": ""}, {}), [])
        self.assertEqual(self.call("QueueDrop", {"Submitted": "<-1h30m"}), 0)
        self.assertEqual(self.call("QueueDrop", {"To": "@c.example"}), 1)
        self.assertEqual(self.call("QueueFail", {"From": "me@"}), 1)
        self.assertEqual(self.call("QueueSize"), 0)
        self.assertEqual(self.call("RetiredList", {"Success": True}, {}), [])
        retired = self.call("RetiredList", {"Success": False}, {"Asc": True})
        self.assertEqual([m["ID"] for m in retired], [first, second])
        self.assertEqual(retired[0]["RecipientAddress"], "a@c.example")
        for filter, sort in [
            ({"Submitted": "1h"}, {}),
            ({"Submitted": "<soon"}, {}),
            ({"NextAttempt": ">"}, {}),
            ({"Max": -1}, {}),
            ({}, {"Field": "Size"}),
            ({}, {"LastID": 1, "Last": 5}),
            ({}, {"LastID": 1, "Last": "yesterday"}),
        ]:
            self.assertEqual(self.error("QueueList", filter, sort), "user:error", (filter, sort))
        self.assertEqual(self.error("QueueNextAttemptSet", {}, 2**31 - 1), "user:error")

    def test_hold_rules(self) -> None:
        queued = self.queue_message("x@bücher.example")
        rule = self.call(
            "QueueHoldRuleAdd", {"Account": "me", "RecipientDomainStr": "xn--bcher-kva.example"}
        )
        self.assertEqual(rule["RecipientDomainStr"], "bücher.example")
        self.assertEqual(rule["RecipientDomain"]["ASCII"], "xn--bcher-kva.example")
        self.assertEqual(self.call("QueueHoldRuleList"), [rule])
        later = self.queue_message("y@bücher.example")
        self.queue_message("y@c.example")
        held = self.call("QueueList", {"Hold": True}, {"Asc": True})
        self.assertEqual([m["ID"] for m in held], [queued, later])
        self.assertEqual(
            self.error("QueueHoldRuleAdd", {"SenderDomainStr": "a b"}), "user:error"
        )
        self.assertEqual(self.error("QueueHoldRuleAdd", {"Account": "x"}), "user:notFound")
        self.call("QueueHoldRuleRemove", rule["ID"])
        self.assertEqual(self.error("QueueHoldRuleRemove", rule["ID"]), "user:notFound")

    def test_system(self) -> None:
        self.addCleanup(lambda: logs.levels.configure("info", {}))
        self.call("LogLevelSet", "queue", "trace")
        self.assertEqual(self.call("LogLevels")["queue"], "trace")
        self.call("LogLevelRemove", "queue")
        self.assertEqual(self.error("LogLevelRemove", "queue"), "user:notFound")
        self.assertEqual(self.error("LogLevelSet", "queue", "loud"), "user:error")
        self.assertEqual(len(self.call("Version")), 3)
        self.assertIs(self.call("CheckUpdatesEnabled"), False)
        self.assertEqual(self.call("LookupCid", self.ctx.ids.encrypt(255)), "ff")
        self.assertEqual(self.error("LookupCid", "x"), "user:error")
        self.call("RoutesSave", [{"FromDomain": ["example.org"], "Transport": "no"}])
        self.assertEqual(self.call("Config")["Routes"][0]["FromDomainASCII"], ["example.org"])
        self.call("MonitorDNSBLsSave", "sbl.example\n")
        self.assertEqual(self.call("Config")["MonitorDNSBLs"], ["sbl.example"])
        self.assertEqual(self.call("TLSPublicKeys", ""), [])

    def test_webserver(self) -> None:
        config = self.call("WebserverConfig")
        self.assertEqual(config["WebDomainRedirects"], [["www.example.org", "example.org"]])
        self.assertEqual(config["WebHandlers"][0]["WebStatic"]["Root"], "web")
        new = {**config, "WebDomainRedirects": [["w.example.org", "example.org"]]}
        saved = self.call("WebserverConfigSave", config, new)
        self.assertEqual(saved["WebDomainRedirects"], [["w.example.org", "example.org"]])
        self.assertEqual(self.error("WebserverConfigSave", config, new), "user:error")
        bad = {"WebDomainRedirects": [["a.example"]]}
        self.assertEqual(self.error("WebserverConfigSave", saved, bad), "user:error")

    def test_parameters_of_the_past(self) -> None:
        self.call("DomainAdd", "b.example", "me", "")
        self.assertIs(self.call("DomainConfig", "b.example")["Disabled"], False)
        self.call("DomainLocalpartConfigSave", "b.example", "-", True)
        config = self.call("DomainConfig", "b.example")
        self.assertEqual(config["LocalpartCatchallSeparatorsEffective"], ["-"])
        self.call("DomainLocalpartConfigSave", "b.example", "", True)
        config = self.call("DomainConfig", "b.example")
        self.assertEqual(config["LocalpartCatchallSeparatorsEffective"], [])
        self.call("AccountSettingsSave", "you", 10, 5, 10**10, True, True)
        self.call("AccountSettingsSave", "you", 11, 5, 10**10, False)
        config, _ = self.call("Account", "you")
        self.assertEqual(config["MaxOutgoingMessagesPerDay"], 11)
        self.assertTrue(config["NoCustomPassword"] and config["NoFirstTimeSenderDelay"])
        first, second = self.queue_message(), self.queue_message()
        self.assertEqual({m["ID"] for m in self.call("QueueList")}, {first, second})
        self.assertEqual(self.call("QueueDrop", first), 1)
        self.assertEqual([m["ID"] for m in self.call("QueueList")], [second])
        # What fits neither is told of the form of today.
        answer = self.answer("DomainAdd", "b.example", "me")["error"]
        self.assertEqual(answer["code"], "sherpa:badParams")
        self.assertIn("takes 4 parameters, got 2", answer["message"])
        for params in (["b.example", 1, True], ["b.example", [1], True]):
            answer = self.answer("DomainLocalpartConfigSave", *params)["error"]
            self.assertEqual(answer["code"], "sherpa:badParams")

    def test_logout(self) -> None:
        self.call("Logout")
        self.assertEqual(self.error("Domains"), "user:badAuth")


_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(min_value=-(2**40), max_value=2**40)
    | st.sampled_from(["", "me", "example.org", "me@example.org", "no", "<1h", "é", "\x00", "a/b"])
    | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(
        st.sampled_from(["Addresses", "IDs", "Max", "To", "Transport", "Field", "LastID"]),
        inner,
        max_size=3,
    ),
    max_leaves=6,
)


class FuzzTests(AdminCase):
    def test_any_input_gets_an_answer(self) -> None:
        names = set(registry.functions) - {"LoginPrep", "Login", "Logout", "LogLevelSet"}
        self.fuzz(names, self.call_of, max_examples=200)

    def call_of(self, name: str) -> Any:
        count = len(registry.functions[name].params)
        values = st.lists(_VALUES, min_size=count, max_size=count)
        return st.tuples(st.just(name), values)
