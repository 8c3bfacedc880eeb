"""The HTTP API over an in-memory HTTP client, on a real store and queue."""

from __future__ import annotations

import base64
import email
import email.policy
import json
from typing import Any
from urllib.parse import urlencode

from treq.testing import StubTreq
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from moxtw.admin import accounts as account_ops
from moxtw.admin.context import Caller
from moxtw.queue.submit import Submitter
from moxtw.ratelimit import failed_auth_limiter
from moxtw.service.policy import ConfigDirectory
from moxtw.store import queuedb, queuelists
from moxtw.store.auth import Authenticator
from moxtw.store.queuelists import Order, Query
from moxtw.web.visit import make_origin
from moxtw.web.webapi import make_webapi
from tests.support.admin import make_admin_context
from tests.support.store import job

DYNAMIC = """\
Domains:
	example.org:
		LocalpartCatchallSeparator: +
		Aliases:
			all:
				Addresses:
					- me@example.org
				AllowMsgFrom: true
			closed:
				Addresses:
					- me@example.org
	off.example:
		Disabled: true
Accounts:
	me:
		Domain: example.org
		FullName: Me Myself
		FromIDLoginAddresses:
			- id@example.org
		MaxOutgoingMessagesPerDay: 20
		MaxFirstTimeRecipientsPerDay: 10
		Destinations:
			me@example.org: nil
			id@example.org: nil
			mé@example.org: nil
			me@off.example: nil
	you:
		Domain: example.org
		LoginDisabled: closed by the admin
		Destinations:
			you@example.org: nil
"""

PASSWORD = "tuna sandwich"


class WebapiCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.ctx = make_admin_context(self, DYNAMIC)
        for name in ("me", "you"):
            operation = account_ops.set_password(self.ctx, Caller("cli", ""), name, PASSWORD)
            self.successResultOf(Deferred.fromCoroutine(operation))
        self.limiter = failed_auth_limiter()
        authenticator = Authenticator(
            self.ctx.store, ConfigDirectory(self.ctx.config), self.limiter, self.ctx.clock.seconds
        )
        resource = make_webapi(
            self.ctx,
            "/webapi/",
            origin=make_origin(self.ctx.ids),
            authenticator=authenticator,
            submit=Submitter(self.ctx.store, self.ctx.config),
            max_size=300_000,
        )
        self.stub = StubTreq(resource)

    def request(
        self,
        method: str,
        path: str,
        body: bytes = b"",
        *,
        user: str | None = "me@example.org",
        password: str = PASSWORD,
        content_type: str = "application/x-www-form-urlencoded",
        more: dict[str, str] | None = None,
    ) -> tuple[int, bytes]:
        headers = {"Content-Type": content_type, **(more or {})}
        if user is not None:
            token = base64.b64encode(f"{user}:{password}".encode()).decode()
            headers["Authorization"] = f"Basic {token}"
        deferred = self.stub.request(
            method, f"http://localhost/{path}", data=body, headers=headers, allow_redirects=False
        )
        answers: list[Any] = []
        deferred.addCallback(answers.append)
        self.stub.flush()
        if not answers:
            self.ctx.clock.advance(1)  # type: ignore[attr-defined]
            self.stub.flush()
        self.successResultOf(deferred)
        (self.response,) = answers
        return self.response.code, self.successResultOf(self.response.content())

    def post(self, request: Any, method: str = "Send", **kw: Any) -> tuple[int, Any]:
        text = request if isinstance(request, str) else json.dumps(request)
        status, content = self.request(
            "POST", f"v0/{method}", urlencode({"request": text}).encode(), **kw
        )
        (kind,) = self.response.headers.getRawHeaders("Content-Type")
        return status, json.loads(content) if kind.startswith("application/json") else content

    def call(self, method: str, request: Any, **kw: Any) -> Any:
        status, value = self.post(request, method, **kw)
        self.assertEqual(status, 200, value)
        return value

    def send(self, request: dict[str, Any], **kw: Any) -> Any:
        status, value = self.post(request, **kw)
        self.assertEqual(status, 200, value)
        return value

    def code(self, request: Any, **kw: Any) -> str:
        status, value = self.post(request, **kw)
        self.assertEqual((status, list(value)), (400, ["Code", "Message"]), value)
        code: str = value["Code"]
        return code

    def queued(self) -> list[Any]:
        def read(tx: Any) -> list[Any]:
            return queuelists.queued(tx, Query(), Order("queued", ascending=True))

        return [row for row, _, _ in job(self.ctx.store, read)]

    def parsed(self, message_id: int) -> Any:
        data = job(self.ctx.store, queuedb.read, message_id)
        return email.message_from_bytes(data, policy=email.policy.default)

    TO = {"To": [{"Name": "A, B", "Address": "a@c.example"}]}
