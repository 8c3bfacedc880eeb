"""The account API: each function over an in-memory HTTP client, on real files and a real store."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import urlencode

from hypothesis import strategies as st

from moxtw.net.certs import self_signed
from moxtw.queue.hookcall import Answer
from moxtw.store import websessions
from moxtw.web.accountapi import registry
from moxtw.web.storedsessions import LIFETIME, StoredSessions
from tests.support.accountapi import PASSWORD, AccountCase
from tests.support.store import job

NAMES = {
    "LoginPrep", "Login", "Logout", "Version", "SetPassword", "GeneratePassword", "Account",
    "AccountSaveFullName", "DestinationSave", "SuppressionList", "SuppressionAdd",
    "SuppressionRemove", "OutgoingWebhookSave", "OutgoingWebhookTest", "IncomingWebhookSave",
    "IncomingWebhookTest", "FromIDLoginAddressesSave", "KeepRetiredPeriodsSave",
    "AutomaticJunkFlagsSave", "JunkFilterSave", "RejectsSave", "IntroboxSave", "TLSPublicKeys",
    "TLSPublicKeyAdd", "TLSPublicKeyRemove", "TLSPublicKeyUpdate", "LoginAttempts", "IMAPSave",
    "ImportAbort", "Types",
}  # fmt: skip


class Hooks:
    """Stands for what makes webhook calls."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, Any, str]] = []

    async def call(self, url: str, payload: str, *, authorization: str = "") -> Answer:
        self.calls.append((url, json.loads(payload), authorization))
        return Answer(418, "http status 418", "tea")


class SessionTests(AccountCase):
    def test_functions_need_session_and_csrf_token(self) -> None:
        good = dict(self.headers)
        for name, fn in registry.functions.items():
            if fn.open:
                self.assertIn(name, ("LoginPrep", "Login"))
                continue
            params = [None] * len(fn.params)
            self.headers = {"Content-Type": "application/json"}
            self.assertEqual(self.error(name, *params), "user:noAuth", name)
        self.headers = {**good}
        del self.headers["x-mox-csrf"]
        self.assertEqual(self.error("Account"), "user:noAuth")
        self.headers["x-mox-csrf"] = "wrong"
        self.assertEqual(self.error("Account"), "user:badAuth")
        self.headers = good
        self.assertEqual(self.call("Account")[0]["Domain"], "example.org")

    def test_wrong_logins(self) -> None:
        self.headers = {"Content-Type": "application/json"}
        token = self.call("LoginPrep")
        self.headers["Cookie"] = f"webaccountlogin={token}"
        for username, password in [("me@example.org", "wrong"), ("x@example.org", PASSWORD)]:
            self.assertEqual(self.error("Login", token, username, password), "user:loginFailed")
        self.assertEqual(self.error("Login", "x", "me@example.org", PASSWORD), "user:error")
        self.login()
        found = self.call("LoginAttempts", 0)
        self.assertEqual(
            [(a["Result"], a["Protocol"], a["LoginAddress"], a["Count"]) for a in found],
            [
                ("ok", "webaccount", "me@example.org", 2),
                ("badpassword", "webaccount", "me@example.org", 1),
            ],
        )
        self.assertEqual(len(self.call("LoginAttempts", 1)), 1)

    def test_a_session_is_for_its_account(self) -> None:
        session = self.headers["Cookie"].partition('"')[2].split()[0]
        self.headers["Cookie"] = f'webaccountsession="{session} you"'
        self.assertEqual(self.error("Account"), "user:badAuth")

    def test_sessions_expire_unless_used(self) -> None:
        for _ in range(3):
            self.ctx.clock.advance(20 * 3600)  # type: ignore[attr-defined]
            self.call("Version")
        self.ctx.clock.advance(24 * 3600)  # type: ignore[attr-defined]
        self.assertEqual(self.error("Version"), "user:badAuth")

    def test_sessions_of_an_account_are_bounded(self) -> None:
        first = dict(self.headers)
        for _ in range(websessions.MAX_SESSIONS):
            self.ctx.clock.advance(1)  # type: ignore[attr-defined]
            self.login()
        self.call("Version")
        self.headers = first
        self.assertEqual(self.error("Version"), "user:badAuth")

    def test_disabled_accounts_have_no_sessions(self) -> None:
        from moxtw.admin import accounts
        from moxtw.admin.context import Caller

        caller = Caller("test", "")
        self.now(accounts.save_login_disabled(self.ctx, caller, "me", "closed"))
        self.assertEqual(self.error("Version"), "user:badAuth")
        self.now(accounts.save_login_disabled(self.ctx, caller, "me", ""))
        self.assertEqual(self.error("Version"), "user:badAuth")

    def test_logout(self) -> None:
        self.call("Logout")
        self.assertEqual(self.error("Version"), "user:badAuth")

    def test_another_password_ends_other_sessions(self) -> None:
        other = dict(self.headers)
        self.login()
        self.call("SetPassword", "another password")
        self.call("Version")
        mine, self.headers = self.headers, other
        self.assertEqual(self.error("Version"), "user:badAuth")
        self.headers = mine
        self.assertEqual(self.error("SetPassword", "short"), "user:error")
        self.login(password="another password")
        self.login(password=self.call("GeneratePassword"))

    def test_passwords_that_must_be_generated(self) -> None:
        from moxtw.admin import accounts
        from moxtw.admin.context import Caller

        self.now(accounts.save(self.ctx, Caller("test", ""), "me", no_custom_password=True))
        self.assertEqual(self.error("SetPassword", "another password"), "user:error")
        self.login(password=self.call("GeneratePassword"))


class AccountTests(AccountCase):
    def config(self) -> dict[str, Any]:
        found: dict[str, Any] = self.call("Account")[0]
        return found

    def test_description(self) -> None:
        status, content = self.request("GET", "api/")
        self.assertEqual(status, 200)
        described = json.loads(content)
        self.assertEqual(NAMES, {fn["Name"] for fn in described["Functions"]})
        by_name = {fn["Name"]: fn for fn in described["Functions"]}
        self.assertEqual(
            by_name["Account"]["Returns"],
            [
                {"Name": "account", "Typewords": ["Account"]},
                {"Name": "storageUsed", "Typewords": ["int64"]},
                {"Name": "storageLimit", "Typewords": ["int64"]},
                {"Name": "suppressions", "Typewords": ["[]", "Suppression"]},
            ],
        )
        self.assertEqual(
            by_name["OutgoingWebhookTest"]["Returns"],
            [
                {"Name": "code", "Typewords": ["int32"]},
                {"Name": "response", "Typewords": ["string"]},
                {"Name": "errmsg", "Typewords": ["string"]},
            ],
        )
        self.assertEqual(
            by_name["JunkFilterSave"]["Params"],
            [{"Name": "junkFilter", "Typewords": ["nullable", "JunkFilter"]}],
        )
        status, content = self.request("GET", "")
        self.assertEqual((status, b"api/" in content), (200, True))
        self.assertEqual(self.request("GET", "nothing")[0], 404)
        kept = dict(self.headers)
        self.headers.clear()
        status, content = self.request("GET", "api/openapi.json")
        self.assertEqual((status, json.loads(content)["openapi"]), (200, "3.1.0"))
        self.headers.update(kept)
        self.assertEqual(len(self.call("Version")), 3)

    def test_account(self) -> None:
        config, used, limit, suppressions = self.call("Account")
        self.assertEqual((used, limit, suppressions), (0, 1_000_000, []))
        self.assertEqual(set(config["Destinations"]), {"me@example.org", "also@example.org"})
        members = {
            each["Alias"]["LocalpartStr"]: (
                each["MemberAddresses"],
                each["Alias"]["Addresses"],
                len(each["Alias"]["ParsedAddresses"]),
            )
            for each in config["Aliases"]
        }
        both = ["me@example.org", "you@other.example"]
        self.assertEqual(
            members,
            {"secret": ([], [], 0), "open": (both, both, 2)},
        )

    def test_settings(self) -> None:
        self.call("AccountSaveFullName", "Me Myself")
        self.call("KeepRetiredPeriodsSave", 3600 * 10**9, 7200 * 10**9)
        self.call("AutomaticJunkFlagsSave", True, "^junk", "^inbox", "")
        self.call("RejectsSave", "Rejects", True)
        self.call("IntroboxSave", "Introbox")
        self.call("IMAPSave", ["UIDONLY"])
        self.call("FromIDLoginAddressesSave", ["me@example.org"])
        junk = {
            "Threshold": 0.9, "Onegrams": True, "Twograms": False, "Threegrams": False,
            "MaxPower": 0.1, "TopWords": 10, "IgnoreWords": 0.1, "RareWords": 1,
        }  # fmt: skip
        self.call("JunkFilterSave", junk)
        config = self.config()
        self.assertEqual(config["FullName"], "Me Myself")
        self.assertEqual(config["KeepRetiredMessagePeriod"], 3600 * 10**9)
        self.assertEqual(config["AutomaticJunkFlags"]["NeutralMailboxRegexp"], "^inbox")
        self.assertEqual((config["RejectsMailbox"], config["KeepRejects"]), ("Rejects", True))
        self.assertEqual(config["Introbox"], "Introbox")
        self.assertEqual(config["IMAPCapabilitiesDisabled"], ["UIDONLY"])
        self.assertEqual(config["FromIDLoginAddresses"], ["me@example.org"])
        self.assertEqual(config["JunkFilter"], junk)
        self.call("JunkFilterSave", None)
        self.assertIsNone(self.config()["JunkFilter"])
        text = self.ctx.config.path.read_text()
        self.assertIn("# Ours.", text)
        for name, *params in [
            ("AccountSaveFullName", "a\nb"),
            ("KeepRetiredPeriodsSave", -1, 0),
            ("AutomaticJunkFlagsSave", True, "(", "", ""),
            ("RejectsSave", "Inbox", False),
            ("RejectsSave", "a//b", False),
            ("IntroboxSave", "Inbox"),
            ("FromIDLoginAddressesSave", ["you@other.example"]),
            ("JunkFilterSave", {**junk, "Threshold": 5}),
        ]:
            self.assertEqual(self.error(name, *params), "user:error", (name, params))
        self.assertEqual(self.ctx.config.path.read_text(), text)

    def test_destinations(self) -> None:
        old = self.config()["Destinations"]["me@example.org"]
        rule = {"MsgFromRegexp": "^a@b$", "Mailbox": "Other", "HeadersRegexp": {"x": "y"}}
        new = {**old, "FullName": "Me", "Rulesets": [rule]}
        self.call("DestinationSave", "me@example.org", old, new)
        saved = self.config()["Destinations"]["me@example.org"]
        self.assertEqual(saved["Rulesets"][0]["HeadersRegexp"], {"x": "y"})
        stale = self.error("DestinationSave", "me@example.org", old, new)
        self.assertEqual(stale, "user:error")
        unknown = self.error("DestinationSave", "you@other.example", old, new)
        self.assertEqual(unknown, "user:notFound")
        bad = {**saved, "SMTPError": "550 no"}
        # What the file alone can say stays; here it is no part of the types.
        text = self.ctx.config.path.with_name("domains.conf").read_text()
        self.assertIn("ForwardTo:\n\t\t\t\t\t- me@elsewhere.example\n", text)
        self.assertNotIn("ForwardTo", saved)
        self.assertEqual(self.error("DestinationSave", "me@example.org", saved, bad), "user:error")

    def test_suppressions(self) -> None:
        added = self.call("SuppressionAdd", "A.b+x@c.example", True, "asked to")
        self.assertEqual((added["BaseAddress"], added["Account"]), ("ab@c.example", "me"))
        self.assertEqual(self.call("SuppressionList"), [added])
        self.assertEqual(self.call("Account")[3], [added])
        self.assertEqual(self.error("SuppressionAdd", "ab@c.example", True, ""), "user:error")
        self.assertEqual(self.error("SuppressionAdd", "nobody", True, ""), "user:error")
        self.login("you@other.example")
        self.assertEqual(self.call("SuppressionList"), [])
        self.assertEqual(self.error("SuppressionRemove", "ab@c.example"), "user:notFound")
        self.login()
        self.call("SuppressionRemove", "ab@c.example")
        self.assertEqual(self.call("SuppressionList"), [])

    def test_webhooks(self) -> None:
        self.call("OutgoingWebhookSave", "https://h.example/", "Basic y", ["failed"])
        self.call("IncomingWebhookSave", "https://h.example/in", "")
        config = self.config()
        self.assertEqual(
            config["OutgoingWebhook"],
            {
                "URL": "https://h.example/",
                "Authorization": "Basic y",
                "Events": ["failed"],
                "SigningKey": "signed",
            },
        )
        self.assertEqual(config["IncomingWebhook"]["URL"], "https://h.example/in")
        for params in [("", "x", []), ("h.example", "", []), ("https://h/", "", ["no"])]:
            self.assertEqual(self.error("OutgoingWebhookSave", *params), "user:error")
        self.assertEqual(self.error("IncomingWebhookSave", "", "x"), "user:error")
        self.call("OutgoingWebhookSave", "", "", [])
        self.call("IncomingWebhookSave", "", "")
        self.assertIsNone(self.config()["OutgoingWebhook"])
        self.assertIsNone(self.config()["IncomingWebhook"])

    def test_webhook_tests(self) -> None:
        outgoing = {"Event": "failed", "QueueMsgID": 5, "Extra": {"a": "b"}}
        url = "https://h.example/x"
        self.assertEqual(self.error("OutgoingWebhookTest", url, "", outgoing), "server:error")
        hooks = Hooks()
        self.ctx.hook_caller = hooks  # type: ignore[assignment]
        answer = self.call("OutgoingWebhookTest", url, "Basic z", outgoing)
        self.assertEqual(answer, [418, "tea", "http status 418"])
        incoming = {"Subject": "s", "Date": None, "Meta": {"MsgID": 3}, "To": [{"Address": "a@b"}]}
        self.call("IncomingWebhookTest", url, "", incoming)
        (_, first, authorization), (_, second, _) = hooks.calls
        self.assertEqual((first["Event"], first["Extra"]), ("failed", {"a": "b"}))
        self.assertEqual(first["WebhookQueued"], "0001-01-01T00:00:00Z")
        self.assertEqual(authorization, "Basic z")
        self.assertEqual(second["Meta"]["MsgID"], 3)
        self.assertEqual(second["Structure"]["Parts"], [])
        bad = {"Event": "exploded"}
        self.assertEqual(self.error("OutgoingWebhookTest", url, "", bad), "sherpa:badParams")
        for wrong in ["", "ftp://h/", "http://"]:
            self.assertEqual(self.error("IncomingWebhookTest", wrong, "", incoming), "user:error")

    def test_tls_public_keys(self) -> None:
        pem = self_signed(["client"])[0].decode()
        key = self.call("TLSPublicKeyAdd", "me@example.org", "", False, pem)
        self.assertEqual((key["Account"], key["LoginAddress"]), ("me", "me@example.org"))
        self.assertEqual(self.call("TLSPublicKeys"), [key])
        self.assertEqual(
            self.error("TLSPublicKeyAdd", "me@example.org", "", False, pem), "user:error"
        )
        self.assertEqual(
            self.error("TLSPublicKeyAdd", "me@example.org", "", False, "x"), "user:error"
        )
        self.assertEqual(
            self.error("TLSPublicKeyAdd", "you@other.example", "", False, pem), "user:notFound"
        )
        changed = {
            **key, "Name": "phone", "NoIMAPPreauth": True, "LoginAddress": "also@example.org"
        }  # fmt: skip
        self.call("TLSPublicKeyUpdate", changed)
        self.assertEqual(self.call("TLSPublicKeys"), [changed])
        theirs = {**changed, "LoginAddress": "you@other.example"}
        self.assertEqual(self.error("TLSPublicKeyUpdate", theirs), "user:notFound")
        self.login("you@other.example")
        self.assertEqual(self.call("TLSPublicKeys"), [])
        self.assertEqual(self.error("TLSPublicKeyUpdate", changed), "user:notFound")
        self.assertEqual(self.error("TLSPublicKeyRemove", key["Fingerprint"]), "user:notFound")
        self.login()
        self.call("TLSPublicKeyRemove", key["Fingerprint"])
        self.assertEqual(self.call("TLSPublicKeys"), [])

    def test_wrong_types(self) -> None:
        for name, fn in registry.functions.items():
            if fn.params:
                self.assertEqual(
                    self.error(name, *[{"no": 1}] * len(fn.params)), "sherpa:badParams", name
                )
            if name != "LoginPrep":
                self.assertEqual(self.error(name, *[0] * 9), "sherpa:badParams", name)


_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(min_value=-(2**40), max_value=2**63)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.sampled_from(["", "me@example.org", "https://h/", "Inbox", "é", "\x00", "a//b", "("])
    | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(
        st.sampled_from(["Threshold", "Mailbox", "Rulesets", "Event", "Fingerprint", "Name"]),
        inner,
        max_size=3,
    ),
    max_leaves=6,
)


class FuzzTests(AccountCase):
    def test_any_input_gets_an_answer(self) -> None:
        skipped = {"LoginPrep", "Login", "Logout", "SetPassword", "GeneratePassword"}
        names = set(registry.functions) - skipped
        self.ctx.hook_caller = Hooks()  # type: ignore[assignment]
        self.fuzz(names, self.call_of, max_examples=150)

    def call_of(self, name: str) -> Any:
        of_type = {
            str: st.text(max_size=6) | st.sampled_from(["Inbox", "me@example.org", "https://h/"]),
            bool: st.booleans(),
            list[str]: st.lists(st.text(max_size=6), max_size=2),
        }
        params = registry.functions[name].params
        values = [_VALUES | of_type.get(hint, _VALUES) for _, hint in params]
        return st.tuples(st.just(name), st.tuples(*values).map(list))


class TransferTests(AccountCase):
    def upload(self, name: str, data: bytes, **headers: str) -> tuple[int, bytes]:
        body = (
            b'--B\r\nContent-Disposition: form-data; name="%s"; filename="a.mbox"\r\n\r\n%s\r\n'
            b"--B--\r\n" % (name.encode(), data)
        )
        form = {"Content-Type": "multipart/form-data; boundary=B"}
        return self.request("POST", "import", body, **{**form, **headers})

    def export(self, **form: str) -> int:
        body = urlencode(form).encode()
        return self.request(
            "POST", "export", body, **{"Content-Type": "application/x-www-form-urlencoded"}
        )[0]

    def test_uploads(self) -> None:
        mbox = b"From x\n\nhi\n"
        status, content = self.upload("file", mbox)
        self.assertEqual(status, 200)
        token = json.loads(content)["Token"]
        status, content = self.request("GET", f"importprogress?token={token}")
        self.assertEqual(status, 200)
        self.assertIn(b'event: count\ndata: {"Mailbox":"a","Count":1}\n\n', content)
        self.assertTrue(content.endswith(b"event: done\ndata: {}\n\n"), content)
        self.assertEqual(self.error("ImportAbort", token), "user:notFound")
        self.assertEqual(self.call("Types"), {"Token": ""})
        self.assertEqual(self.upload("other", mbox)[0], 400)
        self.assertEqual(self.upload("file", b"nothing")[0], 400)
        self.assertEqual(self.upload("file", b"")[0], 400)
        self.assertEqual(self.upload("file", mbox, **{"x-mox-csrf": "x"})[0], 403)
        self.assertEqual(self.upload("file", mbox, **{"x-mox-csrf": ""})[0], 403)
        self.assertEqual(self.upload("file", mbox, Cookie="")[0], 403)
        self.assertEqual(self.request("POST", "import", b"{}")[0], 400)
        self.assertEqual(self.request("GET", "import")[0], 405)
        self.assertEqual(self.request("POST", "importprogress")[0], 405)
        for query in ["", "?token=", "?token=x", "?token=%ff"]:
            self.assertEqual(self.request("GET", f"importprogress{query}")[0], 400, query)

    def test_exports(self) -> None:
        csrf = self.headers.pop("x-mox-csrf")
        form = {"csrf": csrf, "format": "mbox", "archive": "none", "mailbox": "Inbox"}
        self.assertEqual(self.export(**form), 200)
        self.assertEqual(
            self.response.headers.getRawHeaders("Content-Disposition"),
            ['attachment; filename="mailexport-Inbox-mbox-20250615-150640.mbox"'],
        )
        for change, status in [
            ({"archive": "zip", "mailbox": ""}, 200),
            ({"archive": "tgz", "format": "maildir", "recursive": "1"}, 200),
            ({"messageids": "5,6", "mailbox": "", "archive": "tar"}, 200),
            ({"csrf": "x"}, 403),
            ({"csrf": ""}, 403),
            ({"format": "x"}, 400),
            ({"archive": "x"}, 400),
            ({"mailbox": "none"}, 404),
            ({"mailbox": ""}, 400),
            ({"recursive": "1"}, 400),
            ({"format": "maildir"}, 400),
            ({"messageids": "1"}, 400),
            ({"messageids": "1;2", "mailbox": ""}, 400),
        ]:
            self.assertEqual(self.export(**{**form, **change}), status, change)
        self.assertEqual(self.request("GET", "export")[0], 405)
        self.assertEqual(self.request("POST", "export", b"{}")[0], 400)
        self.headers.pop("Cookie")
        self.assertEqual(self.export(**form), 403)

    def test_an_import_of_another(self) -> None:
        from moxtw.store import accounts, importsdb

        account = job(self.ctx.store, accounts.get, "you")
        job(self.ctx.store, importsdb.begin, account.id, "source", "theirs")
        self.assertEqual(self.error("ImportAbort", "theirs"), "user:notFound")
        self.login("you@other.example")
        self.call("ImportAbort", "theirs")
        self.assertIsNone(job(self.ctx.store, importsdb.find, "theirs"))


class LoadTests(AccountCase):
    def test_what_is_kept_of_sessions_is_no_token(self) -> None:
        token = self.headers["Cookie"].partition('"')[2].split()[0]
        self.assertIsNone(job(self.ctx.store, websessions.find, token.encode()))
        self.assertTrue(self.sessions.known(token))
        self.assertFalse(self.sessions.known(token + "x"))
        # Known in another process, too, for as long as it lasts.
        other = StoredSessions(self.ctx.store, self.ctx.config)
        self.assertFalse(other.known(token))
        self.now(other.load())
        self.assertTrue(other.known(token))
        self.assertFalse(other.known(token + "x"))
        self.ctx.clock.advance(LIFETIME // 1_000_000 + 1)  # type: ignore[attr-defined]
        self.assertFalse(other.known(token))
