"""The HTTP API, over an in-memory HTTP client, on a real store and queue."""

from __future__ import annotations

import base64
import email
import json
from typing import Any

import sqlalchemy as sa
from twisted.internet.defer import Deferred

from moxtw.admin import accounts as account_ops
from moxtw.admin.context import Caller
from moxtw.store import accounts as rows
from moxtw.store import credentials, mailboxes, messages, queuedb, sentrequests
from moxtw.store.model import Flag
from moxtw.store.schema_requests import sent_requests
from moxtw.store.tx import Statement
from moxtw.web.webapi.examples import EXAMPLES
from tests.support.admin import START
from tests.support.store import job
from tests.support.webapi import PASSWORD, WebapiCase

KEYS = Statement(sa.select(sent_requests.c.key))


class WebapiTests(WebapiCase):
    def test_send(self) -> None:
        result = self.send(
            {
                **self.TO,
                "CC": [{"Address": "b@bücher.example"}],
                "BCC": [{"Address": "c@c.example"}],
                "Subject": "héllo",
                "Text": "body ☺\n",
                "Extra": {"orderid": "1"},
                "Headers": [["X-Custom", "one"], ["X-Custom", "two"]],
                "References": ["<one@x>", "<two@x>"],
            }
        )
        self.assertEqual(list(result), ["MessageID", "Submissions"])
        self.assertRegex(result["MessageID"], r"^<[\w-]{22}@mail\.example\.org>$")
        addresses = [s["Address"] for s in result["Submissions"]]
        self.assertEqual(addresses, ["a@c.example", "b@bücher.example", "c@c.example"])
        self.assertEqual({s["FromID"] for s in result["Submissions"]}, {""})
        queued = self.queued()
        self.assertEqual([q.id for q in queued], [s["QueueMsgID"] for s in result["Submissions"]])
        self.assertEqual(queued[0].sender, "me@example.org")
        self.assertEqual(queued[0].extra, {"orderid": "1"})
        message = self.parsed(queued[0].id)
        self.assertEqual(message["From"], "Me Myself <me@example.org>")
        self.assertEqual(message["To"], '"A, B" <a@c.example>')
        self.assertIn("xn--bcher-kva.example", message["Cc"])
        self.assertIsNone(message["Bcc"])
        self.assertEqual(message["Subject"], "héllo")
        self.assertEqual(message["Message-Id"], result["MessageID"])
        self.assertEqual(message.get_all("X-Custom"), ["one", "two"])
        self.assertEqual(message["In-Reply-To"], "<two@x>")
        self.assertRegex(message["User-Agent"], "^moxtw/")
        self.assertNotIn(" for ", message["Received"])
        self.assertEqual(message.get_content().strip(), "body ☺")

    def test_single_recipient_is_named_in_received(self) -> None:
        (one,) = self.send({**self.TO, "Text": "x"})["Submissions"]
        self.assertIn("for <a@c.example>;", self.parsed(one["QueueMsgID"])["Received"])

    def test_alternatives_and_files(self) -> None:
        data = base64.b64encode(b"\x89PNG\r\n\x1a\n" + b"x" * 100).decode()
        result = self.send(
            {
                **self.TO,
                "Text": "text",
                "HTML": "<p>html</p>",
                "AlternativeFiles": [{"Name": "a.txt", "ContentType": "text/calendar", "Data": ""}],
                "InlineFiles": [{"Name": "i.png", "ContentID": "<i@x>", "Data": data}],
                "AttachedFiles": [
                    {"Name": "ä.bin", "Data": base64.b64encode(b"\x00\x01").decode()}
                ],
                "From": [{"Name": "All", "Address": "all@example.org"}],
            }
        )
        message = self.parsed(result["Submissions"][0]["QueueMsgID"])
        kinds = [part.get_content_type() for part in message.walk()]
        self.assertEqual(
            kinds,
            [
                "multipart/mixed",
                "multipart/related",
                "multipart/alternative",
                "text/plain",
                "text/html",
                "text/calendar",
                "image/png",
                "application/octet-stream",
            ],
        )
        attachment = list(message.walk())[-1]
        self.assertEqual(attachment.get_filename(), "ä.bin")
        self.assertEqual(attachment.get_content(), b"\x00\x01")
        inline = list(message.walk())[-2]
        self.assertEqual(
            (inline["Content-ID"], inline.get_content_disposition()), ("<i@x>", "inline")
        )
        self.assertEqual(message["From"], "All <all@example.org>")

    def test_uploads(self) -> None:
        def part(name: str, content: bytes, more: str = "") -> bytes:
            return (
                f'--XX\r\nContent-Disposition: form-data; name="{name}"{more}\r\n\r\n'.encode()
                + content
                + b"\r\n"
            )

        request = json.dumps({**self.TO, "Text": "x"}).encode()
        file = '; filename="f.pdf"\r\nContent-Type: application/x-own\r\nContent-ID: <f@x>'
        body = (
            part("request", request)
            + part("attachedfile", b"%PDF-1", file)
            + part("attachedfile", b"plain\n", '; filename="p"')
            + b"--XX--\r\n"
        )
        kind = "multipart/form-data; boundary=XX"
        status, content = self.request("POST", "v0/Send", body, content_type=kind)
        self.assertEqual(status, 200, content)
        message = self.parsed(json.loads(content)["Submissions"][0]["QueueMsgID"])
        first, second = list(message.iter_attachments())
        self.assertEqual(first.get_content_type(), "application/x-own")
        self.assertEqual((first.get_filename(), first["Content-ID"]), ("f.pdf", "<f@x>"))
        self.assertEqual(second.get_content_type(), "text/plain")
        empty = b"--XX\r\n" + part("inlinefile", b"", '; filename=""').removeprefix(b"--XX\r\n")
        status, _ = self.request("POST", "v0/Send", empty + body, content_type=kind)
        self.assertEqual(status, 200)  # as browsers send it for no file
        self.assertEqual(self.parsed(self.queued()[-1].id).get_content_type(), "multipart/mixed")
        bad = body.replace(b"attachedfile", b"attachment")
        status, content = self.request("POST", "v0/Send", bad, content_type=kind)
        self.assertEqual((status, json.loads(content)["Code"]), (400, "protocol"))

    def test_error_codes(self) -> None:
        text = {"Text": "x"}
        mailbox = {"Address": "me@example.org"}
        file = {"ContentType": "bad type", "Data": ""}
        for code, request in [
            ("missingBody", self.TO),
            ("multipleFrom", {**self.TO, **text, "From": [mailbox, mailbox]}),
            ("badAddress", {**self.TO, **text, "From": [{"Address": "me"}]}),
            ("badAddress", {**text, "To": [{"Address": "a b@c.example"}]}),
            ("badAddress", {**self.TO, **text, "ReplyTo": [{"Address": ""}]}),
            ("badFrom", {**self.TO, **text, "From": [{"Address": "you@example.org"}]}),
            ("badFrom", {**self.TO, **text, "From": [{"Address": "closed@example.org"}]}),
            ("badFrom", {**self.TO, **text, "From": [{"Address": "x@elsewhere.example"}]}),
            ("domainDisabled", {**self.TO, **text, "From": [{"Address": "me@off.example"}]}),
            ("noRecipients", text),
            ("malformedMessageID", {**self.TO, **text, "MessageID": "no-brackets@x"}),
            ("malformedMessageID", {**self.TO, **text, "References": ["a@b"]}),
            ("user", {**self.TO, **text, "Subject": "a\nb"}),
            ("user", {**self.TO, **text, "Headers": [["X-A", "a\r\nBcc: x@y"]]}),
            ("user", {**self.TO, **text, "Headers": [["Bad Name", "a"]]}),
            ("user", {**self.TO, **text, "Headers": [["from", "x@y"]]}),
            ("user", {**text, "To": [{"Name": "a\nb", "Address": "a@c.example"}]}),
            ("user", {**self.TO, **text, "AttachedFiles": [file]}),
            ("user", {**self.TO, **text, "FutureRelease": "2099-01-01T00:00:00Z"}),
            ("messageTooLarge", {**self.TO, "Text": "x" * 300_001}),
            ("user", {**self.TO, **text, "Extra": {"a": "x" * 65_536}}),
            ("user", {**self.TO, **text, "Headers": [["X-A", "x" * 1000]] * 300}),
            ("user", {**self.TO, **text, "References": ["<a@b>"] * 50_000}),
            ("protocol", '{"Text": "\\ud800"}'),
            ("protocol", {**self.TO, **text, "Unknown": 1}),
            ("protocol", {**self.TO, "Text": 5}),
            ("protocol", {**self.TO, **text, "Date": "2025-01-01T00:00:00"}),
            ("protocol", {**self.TO, **text, "AttachedFiles": [{"Data": "?"}]}),
            ("protocol", {**self.TO, **text, "Headers": [["X-A"]]}),
            ("protocol", "not json"),
            ("protocol", "[" * 100_000),
            ("protocol", "[]"),
        ]:
            self.assertEqual(self.code(request), code, request)
        self.assertEqual(self.queued(), [])

    def test_bad_forms(self) -> None:
        for body, kind in [
            (b"", "application/x-www-form-urlencoded"),
            (b"req=1", "application/x-www-form-urlencoded"),
            (b"{}", "application/json"),
        ]:
            status, content = self.request("POST", "v0/Send", body, content_type=kind)
            self.assertEqual((status, json.loads(content)["Code"]), (400, "protocol"))

    def test_daily_limits(self) -> None:
        many = [{"Address": f"r{i}@c.example"} for i in range(11)]
        self.assertEqual(self.code({"To": many, "Text": "x"}), "recipientLimitReached")
        many = [{"Address": f"r{i}@c.example"} for i in range(21)]
        self.assertEqual(self.code({"To": many, "Text": "x"}), "messageLimitReached")

    def test_from_id(self) -> None:
        two = {"To": [{"Address": "a@c.example"}, {"Address": "b@c.example"}], "Text": "x"}
        result = self.send(two, user="id@example.org")
        ids = [s["FromID"] for s in result["Submissions"]]
        self.assertEqual(len(set(ids)), 2)
        for queued, from_id in zip(self.queued(), ids, strict=True):
            self.assertRegex(from_id, r"^[\w-]{22}$")
            self.assertEqual(queued.sender, f"id+{from_id}@example.org")

    def test_internationalised_localpart(self) -> None:
        sender = [{"Address": "mé@example.org"}]
        (one,) = self.send({**self.TO, "Text": "x", "From": sender})["Submissions"]
        self.assertTrue(self.queued()[0].smtputf8)
        self.assertIn("mé@example.org", str(self.parsed(one["QueueMsgID"])["From"]))

    def test_release_at_the_beginning_of_the_calendar(self) -> None:
        """It goes at once; the date has no place in UTC."""
        self.send({**self.TO, "Text": "x", "FutureRelease": "0001-01-01T00:00:00+23:59"})

    def test_options(self) -> None:
        release = "2025-06-16T00:00:00+02:00"
        self.send({**self.TO, "Text": "x", "RequireTLS": True, "FutureRelease": release})
        self.send({**self.TO, "Text": "x", "RequireTLS": False, "Date": "2024-01-02T03:04:05Z"})
        first, second = self.queued()
        self.assertIs(first.require_tls, True)
        self.assertEqual(first.future_release, "until;2025-06-15T22:00:00Z")
        self.assertEqual(first.next_attempt, 1_750_024_800_000_000)
        self.assertIs(second.require_tls, False)
        message = self.parsed(second.id)
        self.assertEqual(message["TLS-Required"], "No")
        self.assertEqual(message["Date"], "Tue, 02 Jan 2024 03:04:05 +0000")

    def sent(self) -> list[bytes]:
        def read(tx: Any) -> list[bytes]:
            account = rows.get(tx, "me")
            mailbox = mailboxes.named(tx, account.id, "Sent")
            _, uids = messages.view(tx, mailbox.id)
            want = messages.Want.FLAGS
            found = messages.rows(tx, mailbox.id, [(1, 1000)], want) if len(uids) else []
            for row in found:
                self.assertEqual(row.flags, Flag.SEEN | Flag.NOTJUNK)
            return [messages.read(tx, row.id) for row in found]

        return job(self.ctx.store, read)

    def test_save_sent(self) -> None:
        self.send({**self.TO, "Text": "x", "BCC": [{"Address": "b@c.example"}], "SaveSent": True})
        (data,) = self.sent()
        message = email.message_from_bytes(data)
        self.assertEqual(message["Bcc"], "<b@c.example>")
        self.assertEqual(data.count(b"Bcc:"), 1)

    def test_large_copy_outlives_the_queued_message(self) -> None:
        text = "line of text\n" * 15_000
        (one,) = self.send({**self.TO, "Text": text, "SaveSent": True})["Submissions"]
        before = self.sent()
        job(
            self.ctx.store,
            lambda tx: queuedb.retire(tx, queuedb.get(tx, one["QueueMsgID"]), True, 0),
        )
        self.assertEqual(self.queued(), [])
        self.assertEqual(self.sent(), before)
        self.assertGreater(len(before[0]), 190_000)

    def test_sent_over_quota(self) -> None:
        save = account_ops.save(self.ctx, Caller("cli", ""), "me", quota_message_size=100)
        self.successResultOf(Deferred.fromCoroutine(save))
        self.assertEqual(self.code({**self.TO, "Text": "x", "SaveSent": True}), "sentOverQuota")
        self.assertEqual(len(self.queued()), 1)
        self.assertEqual(self.sent(), [])

    def test_repeated_with_a_key(self) -> None:
        request = {**self.TO, "Text": "x", "SaveSent": True}
        key = {"Idempotency-Key": "order 1"}
        first = self.send(request, more=key)
        again = dict(reversed(request.items()))
        self.assertEqual(self.send(again, more=key), first)
        self.assertEqual((len(self.queued()), len(self.sent())), (1, 1))
        other = {**request, "Text": "y"}
        self.assertEqual(self.code(other, more=key), "idempotencyKeyReused")
        code = self.code(request, more=key, user="id@example.org")
        self.assertEqual(code, "idempotencyKeyReused")
        self.send(other, more={"Idempotency-Key": "order 2"})
        self.assertEqual(len(self.queued()), 2)
        self.ctx.clock.advance(86_401)  # type: ignore[attr-defined]
        self.assertNotEqual(self.send(request, more=key), first)
        (left,) = job(self.ctx.store, lambda tx: tx.all(KEYS))
        self.assertEqual(left, ("order 1",))

    def test_keys_go_with_the_account(self) -> None:
        self.send({**self.TO, "Text": "x"}, more={"Idempotency-Key": "k"})
        self.successResultOf(Deferred.fromCoroutine(rows.remove(self.ctx.store, "me")))
        self.assertEqual(job(self.ctx.store, lambda tx: tx.all(KEYS)), [])

    def test_failures_do_not_use_a_key(self) -> None:
        key = {"Idempotency-Key": "k"}
        self.assertEqual(self.code(self.TO, more=key), "missingBody")
        self.send({**self.TO, "Text": "x"}, more=key)
        for bad in ("x" * 256, "é"):
            more = {"Idempotency-Key": bad}
            self.assertEqual(self.code({**self.TO, "Text": "x"}, more=more), "protocol")

    def test_repeated_over_quota(self) -> None:
        save = account_ops.save(self.ctx, Caller("cli", ""), "me", quota_message_size=100)
        self.successResultOf(Deferred.fromCoroutine(save))
        request = {**self.TO, "Text": "x", "SaveSent": True}
        for _ in range(2):
            code = self.code(request, more={"Idempotency-Key": "k"})
            self.assertEqual(code, "sentOverQuota")
        self.assertEqual(len(self.queued()), 1)

    def test_same_key_at_once(self) -> None:
        # As if the other request were carried out just when this one is queued.
        request = {**self.TO, "Text": "x"}
        key = {"Idempotency-Key": "k"}
        first = self.send(request, more=key)
        find, calls = sentrequests.find, []

        def late(tx: Any, *args: Any) -> Any:
            calls.append(args)
            return None if len(calls) == 1 else find(tx, *args)

        self.patch(sentrequests, "find", late)
        self.assertEqual(self.send(request, more=key), first)
        self.assertEqual(len(self.queued()), 1)

    def test_authentication(self) -> None:
        good = {**self.TO, "Text": "x"}
        for user, password in [
            (None, ""),
            ("me@example.org", "wrong"),
            ("nobody@example.org", PASSWORD),
            ("", ""),
            ("all@example.org", PASSWORD),
        ]:
            status, _ = self.post(good, user=user, password=password)
            self.assertEqual(status, 401)
            challenge = self.response.headers.getRawHeaders("WWW-Authenticate")
            self.assertEqual(challenge, ["Basic realm=webapi"])
        status, content = self.post(good, user="you@example.org")
        self.assertEqual(status, 401)
        self.assertIn(b"closed by the admin", content)
        self.assertEqual(self.post(good)[0], 200)
        attempts = job(self.ctx.store, credentials.attempts, "me", 0)
        self.assertEqual(
            [(a[10], a[12], a[13], a[3]) for a in attempts],
            [("webapi", "httpbasic", "ok", 1), ("webapi", "httpbasic", "badpassword", 1)],
        )

    def test_pages_of_other_sites_cannot_call(self) -> None:
        good = {**self.TO, "Text": "x"}
        for site, status in [("cross-site", 403), ("same-origin", 200), ("none", 200)]:
            self.assertEqual(self.post(good, more={"Sec-Fetch-Site": site})[0], status)

    def test_malformed_credentials(self) -> None:
        for value in ["Basic", "Basic !", "Basic bm9jb2xvbg==", "Bearer x", "Basic /w=="]:
            deferred = self.stub.post(
                "http://localhost/v0/Send", data=b"", headers={"Authorization": value}
            )
            self.stub.flush()
            self.assertEqual(self.successResultOf(deferred).code, 401, value)

    def test_failed_logins_are_limited(self) -> None:
        good = {**self.TO, "Text": "x"}
        for _ in range(10):
            self.assertEqual(self.post(good, password="wrong")[0], 401)
        self.assertEqual(self.post(good)[0], 429)
        self.ctx.clock.advance(60 - (self.ctx.clock.seconds() - START) % 60)  # type: ignore[attr-defined]
        self.ctx.clock.advance(60)  # type: ignore[attr-defined]
        self.assertEqual(self.post(good)[0], 200)

    def test_pages(self) -> None:
        status, _ = self.request("GET", "", user=None)
        self.assertEqual(status, 303)
        self.assertEqual(self.response.headers.getRawHeaders("Location"), ["/webapi/v0/"])
        status, content = self.request("GET", "v0/", user=None)
        self.assertEqual(status, 200)
        self.assertIn(b'href="Send"', content)
        status, content = self.request("GET", "v0/Send", user=None)
        self.assertEqual(status, 200)
        self.assertIn(b"QueueMsgID", content)
        for name in EXAMPLES:
            status, content = self.request("GET", f"v0/{name}", user=None)
            self.assertEqual(status, 200)
            self.assertIn(b'<textarea name="request"', content)
        self.assertEqual(self.response.headers.getRawHeaders("X-Content-Type-Options"), ["nosniff"])
        for method, path, expected in [
            ("GET", "v0/Nope", 404),
            ("POST", "v0/Nope", 404),
            ("PUT", "v0/Send", 405),
            ("DELETE", "v0/Send", 405),
            ("POST", "v0/", 405),
            ("POST", "", 405),
            ("GET", "v1/", 404),
        ]:
            self.assertEqual(self.request(method, path)[0], expected, (method, path))
