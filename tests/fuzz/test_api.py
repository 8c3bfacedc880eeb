"""Calls of the JSON APIs made from their own descriptions, to a server process over HTTP."""

from __future__ import annotations

import json
import os
import random
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode

from moxtw.admin import adminpassword
from tests.fuzz.engine import seconds
from tests.support.jsonapi import ADMIN_PASSWORD, ApiClient
from tests.support.server import ZONE, LiveCase, MailServer

SECONDS = 10.0
"""Seconds of a test, unless fuzzing takes longer."""

SESSION = {"LoginPrep", "Login", "Logout", "LogLevelSet", "SetPassword", "GeneratePassword"}
"""Functions that end what the others need, or the log; other tests call them."""

WORDS = [
    "", "me", "you", "a.example", "b.example", "c.example", "me@a.example", "you@b.example",
    "all", "no", "x", "r@c.example", "<1h", ">now", "NextAttempt", "rsa", "ed25519", "127.0.0.1",
    "^/x", "/x/", "http://127.0.0.1:1/", "delivered", "2026", "é.example", "INBOX", "a/b", "\0",
]  # fmt: skip
"""What texts are replaced by, so that calls speak of what there is."""


_DOMAINS = ["a.example", "b.example", "c.example", "é.example"]
_ACCOUNTS = ["you", "they", "me"]
_ADDRESSES = ["me@a.example", "you@b.example", "new@b.example", "they@c.example"]

PARAMETERS: dict[str, list[Any]] = {
    "domain": _DOMAINS,
    "domainName": _DOMAINS,
    "account": _ACCOUNTS,
    "accountName": _ACCOUNTS,
    "address": _ADDRESSES,
    "addresses": [[each] for each in _ADDRESSES],
    "alias": [{"Addresses": [each]} for each in _ADDRESSES],
    "aliaslp": ["all", "some"],
    "localpart": ["", "me", "new"],
    "mailbox": ["Reports", "", "/"],
    "selector": ["x", "y"],
    "algorithm": ["ed25519"],
    "hash": ["sha256", ""],
    "reportingAddress": ["r@c.example", "s@c.example"],
    "id": [1, 2],
    "maxAge": [10**14],
    "day": ["20261126"],
    "pkg": ["imap", "smtp"],
    "ip": ["127.0.0.1", "192.0.2.1", "::1"],
    "loginAddress": _ADDRESSES,
    "destName": _ADDRESSES,
}
"""What parameters of a name are set to, so that more than one of them fits."""


def spoken(rng: random.Random, value: Any) -> Any:
    """A value with some of its texts replaced by words."""
    if isinstance(value, str):
        return rng.choice(WORDS) if rng.random() < 0.7 else value
    if isinstance(value, list):
        return [spoken(rng, each) for each in value]
    if isinstance(value, dict):
        return {key: spoken(rng, each) for key, each in value.items()}
    return value


class ApiFuzzTests(LiveCase):
    def setUp(self) -> None:
        super().setUp()
        server = MailServer(
            self.mktemp(),
            accounts={"me": ["me@a.example"], "you": ["you@b.example"]},
            static={
                "AdminPasswordFile": "adminpasswd",
                "Transports": {"no": {"Fail": {"SMTPCode": 554, "SMTPMessage": "no"}}},
            },
            # Names are looked up on loopback only, and lead nowhere else.
            resolver=self.name_server(ZONE).address,
            log_level="error",
        )
        path = Path(server.config_path).parent / "adminpasswd"
        adminpassword.set_admin_password(path, ADMIN_PASSWORD)
        self.server = self.start(server)

    def dynamic(self) -> bytes:
        return (self.server.config_path.parent / "domains.conf").read_bytes()

    def fuzz(self, path: str, without: Iterable[str]) -> None:
        """Call functions until the time is over."""
        number = int(os.environ.get("MOXTW_FUZZ_SEED") or random.randrange(1 << 32))
        rng = random.Random(number)
        self.client = ApiClient(self.server, path).describe().log_in()
        schema = schemathesis.openapi.from_dict(self.client.document)
        names = sorted({name[1:] for name in self.client.document["paths"]} - set(without))
        long = "MOXTW_FUZZ_MINUTES" in os.environ
        end = time.monotonic() + max(SECONDS, seconds())
        self.count = 0
        while time.monotonic() < end:
            name = rng.choice(names)
            mode = rng.choice([GenerationMode.POSITIVE] * 3 + [GenerationMode.NEGATIVE])
            cases = schema[f"/{name}"]["POST"].as_strategy(generation_mode=mode)
            try:
                self.calls(name, cases, mode is GenerationMode.POSITIVE, rng.randrange(1 << 32))
            except Exception as exc:
                raise AssertionError(f"seed {number}, {name}: {exc}") from exc
        if long:
            sys.stderr.write(f"{self.id()}: {self.count} calls, seed {number}\n")

    def calls(self, name: str, cases: Any, good: bool, number: int) -> None:
        """Make some calls of a function."""

        @seed(number)
        @settings(
            max_examples=12,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            database=None,
            # The call that showed a fault is told; after it the server is another one.
            phases=[Phase.generate],
        )
        @given(cases, st.randoms(use_true_random=True))
        def run(case: Any, words: random.Random) -> None:
            self.count += 1
            self.call(name, case.body, words, good)

        run()

    def call(self, name: str, body: Any, words: random.Random, good: bool) -> None:
        """Make one call; `good`: its parameters are as described."""
        if words.random() < 0.4:
            body, good = spoken(words, body), False
        if words.random() < 0.5 and isinstance(body, dict):
            self.name_things(name, body, words)
        if name.endswith("WebhookTest") and isinstance(body, dict):
            self.keep_near(body)
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        before = self.dynamic()
        response, content = self.client.request("POST", f"api/{name}", data)
        said = f"{data[:2000]!r}: {response.status} {content[:500]!r}"
        if response.status != 200:
            raise AssertionError(said)
        answer = json.loads(content)
        self.client.check(name, 200, answer)
        if "error" in answer:
            if self.dynamic() != before:
                raise AssertionError(f"refused, but the configuration changed: {said}")
            code = answer["error"]["code"]
            if (good and code.startswith("sherpa:")) or code in ("user:noAuth", "user:badAuth"):
                raise AssertionError(said)

    def name_things(self, name: str, body: dict[str, Any], words: random.Random) -> None:
        """Let most parameters name what there is, by what they are called."""
        (content,) = self.client.document["paths"][f"/{name}"]["post"]["requestBody"][
            "content"
        ].values()
        schema = content["schema"]["properties"]["params"]
        described = schema.get("anyOf", [schema])[0].get("prefixItems", [])
        params = body.get("params")
        if isinstance(params, list) and len(params) == len(described):
            for at, title in enumerate(each["title"] for each in described):
                if title in PARAMETERS and words.random() < 0.9:
                    params[at] = words.choice(PARAMETERS[title])

    def keep_near(self, body: dict[str, Any]) -> None:
        """Let a call that would connect somewhere do so on loopback only."""
        params = body.get("params")
        if isinstance(params, list) and params and isinstance(params[0], str):
            params[0] = "http://127.0.0.1:1/" if "/" in params[0] else "no url"

    def test_admin(self) -> None:
        self.fuzz("/admin/", SESSION)
        self.finish(self.server)

    def test_account(self) -> None:
        self.fuzz("/account/", SESSION)
        self.finish(self.server)
