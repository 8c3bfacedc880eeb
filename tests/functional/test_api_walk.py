"""Every function of the admin API and of the account API of a server process, over sockets."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from moxtw.admin import adminpassword
from moxtw.net.certs import self_signed
from moxtw.store import dmarcdb, tlsreportsdb
from moxtw.store.tx import Tx
from moxtw.tlspolicy.tlsreport import parse_report
from moxtw.web import accountapi, adminapi
from moxtw.web.rpc import Function, Registry
from tests.support.jsonapi import ADMIN_PASSWORD, ApiClient
from tests.support.postgresql import start_postgresql
from tests.support.server import PASSWORD, ZONE, LiveCase, MailServer
from tests.unit.authn.test_dmarcreport import REPORT
from tests.unit.tlspolicy.test_tlsreport import EXAMPLE

ALL = ("1970-01-01T00:00:00Z", "9999-12-31T23:59:59Z")
UNTIL = "2036-11-26T10:00:00Z"
USER = "user:error"
NOT_FOUND = "user:notFound"
NOBODY = "nobody.example"

Params = list[Any] | Callable[[Mapping[str, Any]], list[Any]]


@dataclass(frozen=True)
class Row:
    """How a function is called: in a way that works, and about what does not exist.

    Parameters may be made of the results of the functions before; None if no parameters work
    here. unknown None: the function speaks of nothing that might not exist. code: what is
    answered to that.
    """

    params: Params | None = field(default_factory=list)
    unknown: list[Any] | None = None
    code: str = NOT_FOUND


_CERTIFICATE = self_signed(["client.example"])[0].decode()

ADMIN: dict[str, Row] = {
    # In the order in which they are called.
    "Version": Row(),
    "Domains": Row(),
    "Domain": Row(["a.example"], [NOBODY]),
    "ParseDomain": Row(["bücher.example"], ["a b"], USER),
    "DomainConfig": Row(["a.example"], [NOBODY]),
    "DomainLocalparts": Row(["a.example"], [NOBODY]),
    "DomainAdd": Row([False, "b.example", "me", ""], [False, "c.example", "nobody", ""], USER),
    "DomainDescriptionSave": Row(["b.example", "ours"], [NOBODY, "x"]),
    "DomainClientSettingsDomainSave": Row(["b.example", "mail.b.example"], [NOBODY, ""]),
    "DomainLocalpartConfigSave": Row(["b.example", ["+"], True], [NOBODY, [], True]),
    "DomainDMARCAddressSave": Row(
        ["b.example", "dmarc", "", "me", "DMARC"], [NOBODY, "dmarc", "", "me", "DMARC"]
    ),
    "DomainTLSRPTAddressSave": Row(
        ["b.example", "tls", "", "me", "TLS"], [NOBODY, "tls", "", "me", "TLS"]
    ),
    "DomainMTASTSSave": Row(
        ["b.example", "id1", "enforce", 10**14, ["mail.a.example"]],
        [NOBODY, "id1", "enforce", 10**14, []],
    ),
    "DomainDKIMAdd": Row(
        ["b.example", "x", "ed25519", "", True, True, True, [], 0],
        [NOBODY, "x", "ed25519", "", True, True, True, [], 0],
    ),
    "DomainDKIMSave": Row(
        lambda found: ["b.example", selectors_of(found), ["x"]], [NOBODY, {}, []]
    ),
    "DomainDKIMRemove": Row(["b.example", "x"], ["b.example", "none"]),
    "DomainRoutesSave": Row(["b.example", [{"Transport": "no"}]], [NOBODY, []]),
    "DomainDisabledSave": Row(["b.example", False], [NOBODY, False]),
    "ClientConfigsDomain": Row(["a.example"], [NOBODY]),
    "DomainRecords": Row(["a.example"], [NOBODY]),
    "CheckDomain": Row(["a.example"], [NOBODY]),
    "Accounts": Row(),
    "AccountAdd": Row(["you", "you@b.example"], ["they", f"they@{NOBODY}"]),
    "Account": Row(["you"], ["nobody"]),
    "AddressAdd": Row(["more@b.example", "you"], ["some@b.example", "nobody"]),
    "AliasAdd": Row(
        ["all", "b.example", {"Addresses": ["you@b.example"]}],
        ["all", NOBODY, {"Addresses": ["you@b.example"]}],
    ),
    "AliasUpdate": Row(
        ["all", "b.example", True, True, True], ["none", "b.example", True, True, True]
    ),
    "AliasAddressesAdd": Row(
        ["all", "b.example", ["me@a.example"]], ["none", "b.example", ["me@a.example"]]
    ),
    "AliasAddressesRemove": Row(
        ["all", "b.example", ["me@a.example"]], ["none", "b.example", ["me@a.example"]]
    ),
    "AliasRemove": Row(["all", "b.example"], ["none", "b.example"]),
    "AddressRemove": Row(["more@b.example"], ["nobody@b.example"]),
    "SetPassword": Row(["you", "a long password"], ["nobody", "a long password"]),
    "AccountSettingsSave": Row(
        ["you", 10, 5, 10**9, True, False], ["nobody", 10, 5, 10**9, True, False]
    ),
    "AccountLoginDisabledSave": Row(["you", "closed"], ["nobody", "closed"]),
    "AccountRoutesSave": Row(["you", [{"Transport": "no"}]], ["nobody", []]),
    "AccountRemove": Row(["you"], ["nobody"]),
    "DomainRemove": Row(["b.example"], [NOBODY]),
    "Config": Row(),
    "ConfigFiles": Row(),
    "MTASTSPolicies": Row(),
    "TLSReports": Row([*ALL, "a.example"], [*ALL, "a b"], USER),
    "TLSReportID": Row(lambda f: ["a.example", f["TLSReports"][0]["ID"]], ["a.example", 99]),
    "TLSRPTSummaries": Row([*ALL, ""], [*ALL, "a b"], USER),
    "DMARCReports": Row([*ALL, "a.example"], [*ALL, "a b"], USER),
    "DMARCReportID": Row(lambda f: ["a.example", f["DMARCReports"][0]["ID"]], ["a.example", 99]),
    "DMARCSummaries": Row([*ALL, ""], [*ALL, "a b"], USER),
    "DMARCEvaluationStats": Row(),
    "DMARCEvaluationsDomain": Row(["x.example"], ["a b"], USER),
    "DMARCRemoveEvaluations": Row(["x.example"], ["a b"], USER),
    "DMARCSuppressAdd": Row(["r@x.example", UNTIL, "why"], ["nobody", UNTIL, ""], USER),
    "DMARCSuppressList": Row(),
    "DMARCSuppressExtend": Row(lambda f: [f["DMARCSuppressList"][0]["ID"], ALL[1]], [99, UNTIL]),
    "DMARCSuppressRemove": Row(lambda f: [f["DMARCSuppressList"][0]["ID"]], [99]),
    "TLSRPTResults": Row(),
    "TLSRPTResultsDomain": Row([True, "x.example"], [True, "a b"], USER),
    "TLSRPTRemoveResults": Row([True, "x.example", "20261126"], [True, "a b", "20261126"], USER),
    "LookupTLSRPTRecord": Row(["a.example"], ["a b"], USER),
    "TLSRPTSuppressAdd": Row(["r@x.example", UNTIL, "why"], ["nobody", UNTIL, ""], USER),
    "TLSRPTSuppressList": Row(),
    "TLSRPTSuppressExtend": Row(lambda f: [f["TLSRPTSuppressList"][0]["ID"], UNTIL], [99, UNTIL]),
    "TLSRPTSuppressRemove": Row(lambda f: [f["TLSRPTSuppressList"][0]["ID"]], [99]),
    "QueueSize": Row(),
    "QueueHoldRuleAdd": Row([{"RecipientDomainStr": "x.example"}], [{"Account": "nobody"}]),
    "QueueHoldRuleList": Row(),
    "QueueHoldRuleRemove": Row(lambda f: [f["QueueHoldRuleAdd"]["ID"]], [99]),
    "QueueList": Row([{}, {}], [{}, {"Field": "none"}], USER),
    "QueueNextAttemptSet": Row([{}, 5], [{"Submitted": "soon"}, 5], USER),
    "QueueNextAttemptAdd": Row([{"IDs": [1]}, 5], [{"NextAttempt": "soon"}, 5], USER),
    "QueueHoldSet": Row([{"Account": "me"}, True], [{"Max": -1}, True], USER),
    "QueueRequireTLSSet": Row([{}, None], [{"Max": -1}, None], USER),
    "QueueTransportSet": Row([{}, "no"], [{"Max": -1}, "no"], USER),
    "QueueFail": Row([{"IDs": [99]}], [{"Max": -1}], USER),
    "QueueDrop": Row([{}], [{"Max": -1}], USER),
    "RetiredList": Row([{}, {}], [{}, {"Field": "none"}], USER),
    "HookQueueSize": Row(),
    "HookList": Row([{}, {}], [{"Event": "none"}, {}], USER),
    "HookNextAttemptSet": Row([{}, 5], [{"Event": "none"}, 5], USER),
    "HookNextAttemptAdd": Row([{}, 5], [{"Event": "none"}, 5], USER),
    "HookCancel": Row([{}], [{"Event": "none"}], USER),
    "HookRetiredList": Row([{}, {}], [{}, {"Field": "none"}], USER),
    "LogLevels": Row(),
    "LogLevelSet": Row(["imap", "info"], ["imap", "loud"], USER),
    "LogLevelRemove": Row(["imap"], ["none"]),
    "LookupCid": Row(None, ["x"], USER),
    "LookupIP": Row(["127.0.0.1"], ["none"], USER),
    "CheckUpdatesEnabled": Row(),
    "Transports": Row(),
    "RoutesSave": Row([[{"Transport": "no"}]], [[{"Transport": "none"}]], USER),
    "MonitorDNSBLsSave": Row(["bl.example"], ["a b"], USER),
    "WebserverConfig": Row(),
    "WebserverConfigSave": Row(
        lambda f: [f["WebserverConfig"], {"WebDomainRedirects": [["w.a.example", "a.example"]]}],
        [{"WebDomainRedirects": [["n.example", "a.example"]]}, {}],
        USER,
    ),
    "TLSPublicKeys": Row([""]),
    "LoginAttempts": Row(["(admin)", 10]),
    "DNSBLStatus": Row(),
    "AuditLog": Row([{"Max": 10, "Since": "-1h"}], [{"Since": "yesterday"}], USER),
    "Logout": Row(),
}

ACCOUNT: dict[str, Row] = {
    "Version": Row(),
    "Account": Row(),
    "AccountSaveFullName": Row(["Me"], ["\0"], USER),
    "DestinationSave": Row(
        ["me@a.example", {}, {"FullName": "I"}], [f"me@{NOBODY}", {}, {"FullName": "I"}]
    ),
    "SuppressionAdd": Row(["x@c.example", True, "why"], ["nobody", True, ""], USER),
    "SuppressionList": Row(),
    "SuppressionRemove": Row(["x@c.example"], ["y@c.example"]),
    "OutgoingWebhookSave": Row(
        ["http://127.0.0.1:1/x", "", ["delivered"]], ["http://127.0.0.1:1/x", "", ["none"]], USER
    ),
    "OutgoingWebhookTest": Row(
        ["http://127.0.0.1:1/x", "", {"Event": "failed"}], ["ftp://127.0.0.1/", "", {}], USER
    ),
    "IncomingWebhookSave": Row(["http://127.0.0.1:1/x", "y"], ["none", ""], USER),
    "IncomingWebhookTest": Row(
        ["http://127.0.0.1:1/x", "", {"Subject": "x"}], ["ftp://127.0.0.1/", "", {}], USER
    ),
    "FromIDLoginAddressesSave": Row([[]], [[f"me@{NOBODY}"]], USER),
    "KeepRetiredPeriodsSave": Row([10**12, 10**12], [-1, 0], USER),
    "AutomaticJunkFlagsSave": Row([True, "^junk", "", ""], [True, "(", "", ""], USER),
    "JunkFilterSave": Row(
        [{"Threshold": 0.9, "Onegrams": True, "MaxPower": 0.01, "TopWords": 10}],
        [{"Threshold": 7}],
        USER,
    ),
    "RejectsSave": Row(["Rejects", True], ["/", True], USER),
    "IntroboxSave": Row(["Intro"], ["/"], USER),
    "IMAPSave": Row([["IDLE"]], [["a\nb"]], USER),
    "TLSPublicKeyAdd": Row(
        ["me@a.example", "mine", False, _CERTIFICATE],
        [f"me@{NOBODY}", "mine", False, _CERTIFICATE],
    ),
    "TLSPublicKeys": Row(),
    "TLSPublicKeyUpdate": Row(
        lambda f: [{**f["TLSPublicKeys"][0], "Name": "new"}], [{"Fingerprint": "none"}]
    ),
    "TLSPublicKeyRemove": Row(lambda f: [f["TLSPublicKeyAdd"]["Fingerprint"]], ["none"]),
    "LoginAttempts": Row([10]),
    "ImportAbort": Row(None, ["none"]),
    "Types": Row(),
    "GeneratePassword": Row(),
    "SetPassword": Row(["another password"], ["short"], USER),
    "Logout": Row(),
}

OPEN = {"LoginPrep", "Login"}
"""What every session begins with."""


def selectors_of(found: Mapping[str, Any]) -> Any:
    """The DKIM selectors that the added domain has."""
    client: ApiClient = found["client"]
    return client.answer("DomainConfig", ["b.example"])["result"]["DKIM"]["Selectors"]


def takes(fn: Function, count: int) -> bool:
    """Whether a function takes so many parameters, in its form of today or of the past."""
    return any(form and len(form.params) == count for form in (fn, fn.older))


class WalkTests(LiveCase):
    def setUp(self) -> None:
        super().setUp()
        server = MailServer(
            self.mktemp(),
            accounts={"me": ["me@a.example"]},
            static={
                "AdminPasswordFile": "adminpasswd",
                "Transports": {"no": {"Fail": {"SMTPCode": 554, "SMTPMessage": "no"}}},
                **self.database(),
            },
            resolver=self.name_server(ZONE).address,
        )
        path = Path(server.config_path).parent / "adminpasswd"
        adminpassword.set_admin_password(path, ADMIN_PASSWORD)

        def reports(tx: Tx) -> None:
            dmarcdb.add_report(tx, REPORT, "a.example", "sender.example")
            tlsreportsdb.add(
                tx, parse_report(EXAMPLE), "a.example", from_domain="x.example",
                mail_from="r@x.example", host=False,
            )  # fmt: skip

        server.fill([])
        server.edit_store(reports)
        self.server = self.start(server)

    def database(self) -> dict[str, str]:
        return {}

    def walk(self, registry: Registry, path: str, rows: dict[str, Row]) -> None:
        self.assertEqual(OPEN | set(rows), set(registry.functions), "the table is out of date")
        self.without_session(registry, path)
        self.with_wrong_token(registry, path, rows)
        client = ApiClient(self.server, path).describe().log_in()
        for name, fn in registry.functions.items():
            self.with_wrong_form(client, name, fn)
        found: dict[str, Any] = {"client": client}
        wrong = []
        for name, row in rows.items():
            if row.unknown is not None:
                try:
                    self.refused(client, name, row.unknown, row.code)
                except AssertionError as exc:
                    wrong.append(str(exc))
            params = row.params(found) if callable(row.params) else row.params
            if params is None:
                # It takes what is not known here: see the tests of imports and of ids.
                continue
            answer = client.answer(name, list(params))
            self.assertIn("result", answer, (name, answer))
            found[name] = answer["result"]
        self.assertEqual(wrong, [])
        self.refused(client, "Version", [], "user:noAuth")

    def refused(self, client: ApiClient, name: str, params: list[Any], code: str) -> None:
        """A call is refused, and changes nothing in the file."""
        before = self.dynamic()
        answer = client.answer(name, params)
        self.assertEqual(answer.get("error", {}).get("code"), code, (name, params, answer))
        self.assertEqual(self.dynamic(), before, name)

    def dynamic(self) -> bytes:
        return (self.server.config_path.parent / "domains.conf").read_bytes()

    def without_session(self, registry: Registry, path: str) -> None:
        client = ApiClient(self.server, path).describe()
        half = ApiClient(self.server, path).log_in()
        half.csrf = ""
        for name, fn in registry.functions.items():
            if not fn.open:
                self.refused(client, name, [], "user:noAuth")
                self.refused(half, name, [], "user:noAuth")
        self.assertEqual(
            client.answer("LoginPrep", [1])["error"]["code"], "sherpa:badParams"
        )

    def with_wrong_token(self, registry: Registry, path: str, rows: dict[str, Row]) -> None:
        session = ApiClient(self.server, path).log_in()
        names = [name for name, fn in registry.functions.items() if not fn.open]
        before = self.dynamic()

        def call(number: int) -> Any:
            # Each from a network of its own, as failures are counted by those.
            client = ApiClient(self.server, path, f"127.{number % 250 + 1}.8.1")
            client.cookies, client.csrf = session.cookies, "wrong"
            params = rows[names[number]].unknown or []
            try:
                return client.answer(names[number], params)["error"]["code"]
            finally:
                client.connection.close()

        with ThreadPoolExecutor(len(names)) as pool:
            codes = dict(zip(names, pool.map(call, range(len(names))), strict=True))
        self.assertEqual(codes, dict.fromkeys(names, "user:badAuth"))
        self.assertEqual(self.dynamic(), before)

    def with_wrong_form(self, client: ApiClient, name: str, fn: Function) -> None:
        count = len(fn.params)
        # A fraction is of the wrong type for all that functions take.
        wrong: list[list[Any]] = [[0.5] * count] if count else []
        wrong += [[0.5] * n for n in (count - 1, count + 1) if n >= 0 and not takes(fn, n)]
        for params in wrong:
            self.refused(client, name, params, "sherpa:badParams")

    def test_admin(self) -> None:
        self.walk(adminapi.registry, "/admin/", ADMIN)
        self.finish(self.server)

    def test_account(self) -> None:
        self.walk(accountapi.registry, "/account/", ACCOUNT)
        # The password that was set last is the one that counts.
        client = ApiClient(self.server, "/account/")
        token = client.answer("LoginPrep", [])["result"]
        answer = client.answer("Login", [token, "me@a.example", PASSWORD])
        self.assertEqual(answer["error"]["code"], "user:loginFailed")
        answer = client.answer("Login", [token, "me@a.example", "another password"])
        self.assertIn("result", answer)
        self.finish(self.server)


class PostgreSQLTests(WalkTests):
    """The same with another database."""

    def database(self) -> dict[str, str]:
        return {"DatabaseURL": start_postgresql(self)}
