"""The methods of the HTTP API for single messages, and for suppressions."""

from __future__ import annotations

import base64
import json
from typing import Any

from moxtw.store import accounts, mailboxes, messages
from moxtw.store.errors import NoSuchMessage
from moxtw.store.model import Delivery, Flag, NewMessage
from tests.support.store import job
from tests.support.webapi import WebapiCase

FORM = "application/x-www-form-urlencoded"

MESSAGE = (
    b"From: =?utf-8?q?Y=C3=B6u?= <you@xn--bcher-kva.example>\r\n"
    b"To: Group: a@c.example, B <b@c.example>;\r\nCc: <\"odd one\"@c.example>\r\n"
    b"Subject: =?utf-8?b?aGVsbG8g4pi6?=\r\nDate: Sun, 15 Jun 2025 14:30:00 +0200\r\n"
    b"Message-Id: <own@x>\r\nIn-Reply-To: <other@x>\r\nReferences: <one@x>\r\n <two@x>\r\n"
    b'MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary="m"\r\n\r\n'
    b'--m\r\nContent-Type: multipart/alternative; boundary="a"\r\n\r\n'
    b"--a\r\nContent-Type: text/plain; charset=iso-8859-1\r\n"
    b"Content-Transfer-Encoding: quoted-printable\r\n\r\nh=E9llo=\r\n there\r\nline\r\n"
    b"--a\r\nContent-Type: text/html\r\n\r\n<p>hello</p>\r\n--a--\r\n"
    b'--m\r\nContent-Type: application/PDF; name="f.pdf"\r\nContent-Id: <f@x>\r\n'
    b'Content-Disposition: attachment; filename="f.pdf"\r\n'
    b"Content-Transfer-Encoding: base64\r\n\r\n"
    + base64.encodebytes(b"%PDF-\x00\xff").replace(b"\n", b"\r\n")
    + b"--m\r\nContent-Type: message/rfc822\r\n\r\nSubject: inner\r\n\r\ntext\r\n--m--\r\n"
)
PREFIX = b"Return-Path: <bounce@c.example>\r\n"


class MessagesCase(WebapiCase):
    def add(self, data: bytes = MESSAGE, flags: int = 0, **delivery: Any) -> int:
        store = self.ctx.store
        content = self.successResultOf(store.contents.from_bytes(data))

        def add(tx: Any) -> int:
            account = accounts.get(tx, "me")
            inbox = mailboxes.ensure(tx, account.id, "Inbox")
            mailboxes.ensure(tx, account.id, "Archive")
            new = NewMessage(content, PREFIX, flags, delivery=Delivery(**delivery))
            return messages.add(tx, account.id, inbox.id, new).id

        number: int = job(store, add)
        content.discard()
        return number

    def fails(self, method: str, request: Any) -> str:
        status, value = self.post(request, method)
        self.assertEqual(status, 400, value)
        code: str = value["Code"]
        return code


class GetTests(MessagesCase):
    def test_message(self) -> None:
        number = self.add(
            flags=Flag.SEEN | Flag.NOTJUNK,
            remote_ip="192.0.2.1",
            mail_from="bounce@c.example",
            mail_from_validated=True,
            rcpt_to_localpart="me",
            rcpt_to_domain="example.org",
            msg_from_localpart="you",
            msg_from_domain="bücher.example",
            dkim_domains=("bücher.example",),
        )
        got = self.call("MessageGet", {"MsgID": number})
        self.assertEqual(
            got["Message"],
            {
                "From": [{"Name": "Yöu", "Address": "you@bücher.example"}],
                "To": [
                    {"Name": "", "Address": "a@c.example"},
                    {"Name": "B", "Address": "b@c.example"},
                ],
                "CC": [{"Name": "", "Address": '"odd one"@c.example'}],
                "BCC": [],
                "ReplyTo": [],
                "MessageID": "<own@x>",
                "References": ["<other@x>", "<one@x>", "<two@x>"],
                "Date": "2025-06-15T14:30:00+02:00",
                "Subject": "hello ☺",
                "Text": "héllo there\nline",
                "HTML": "<p>hello</p>",
            },
        )
        self.assertEqual(
            got["Meta"],
            {
                "Size": len(PREFIX) + len(MESSAGE),
                "DSN": False,
                "Flags": ["\\seen", "$notjunk"],
                "MailFrom": "bounce@c.example",
                "MailFromValidated": True,
                "RcptTo": "me@example.org",
                "MsgFrom": "you@bücher.example",
                "MsgFromValidated": False,
                "DKIMVerifiedDomains": ["bücher.example"],
                "RemoteIP": "192.0.2.1",
                "MailboxName": "Inbox",
            },
        )
        mixed = got["Structure"]
        self.assertEqual(mixed["ContentType"], "multipart/mixed")
        alternative, pdf, inner = mixed["Parts"]
        text, html = alternative["Parts"]
        self.assertEqual(text["ContentTypeParams"], {"charset": "iso-8859-1"})
        self.assertEqual((text["DecodedSize"], html["DecodedSize"]), (17, 12))
        self.assertEqual(
            pdf,
            {
                "ContentType": "application/pdf",
                "ContentTypeParams": {"name": "f.pdf"},
                "ContentID": "<f@x>",
                "ContentDisposition": "attachment",
                "Filename": "f.pdf",
                "DecodedSize": 7,
                "Parts": [],
            },
        )
        self.assertEqual((inner["ContentType"], inner["Parts"]), ("message/rfc822", []))

    def test_raw(self) -> None:
        for data in (MESSAGE, MESSAGE + b"x" * 300_000):
            number = self.add(data)
            self.assertEqual(self.call("MessageRawGet", {"MsgID": number}), PREFIX + data)
            headers = self.response.headers
            self.assertEqual(headers.getRawHeaders("Content-Type"), ["text/plain"])
            self.assertEqual(headers.getRawHeaders("X-Content-Type-Options"), ["nosniff"])

    def test_part(self) -> None:
        number = self.add()
        for path, kind, data in [
            ([1], "application/pdf", b"%PDF-\x00\xff"),
            ([0, 0], "text/plain; charset=iso-8859-1", b"h\xe9llo there\r\nline"),
            ([0, 1], "text/html", b"<p>hello</p>"),
            ([2], "message/rfc822", b"Subject: inner\r\n\r\ntext"),
        ]:
            got = self.call("MessagePartGet", {"MsgID": number, "PartPath": path})
            self.assertEqual(got, data)
            headers = self.response.headers
            self.assertEqual(headers.getRawHeaders("Content-Type"), [kind])
            self.assertIn("sandbox", headers.getRawHeaders("Content-Security-Policy", [])[0])
        body = self.call("MessagePartGet", {"MsgID": number})
        self.assertEqual(body, MESSAGE.partition(b"\r\n\r\n")[2])
        for path in ([3], [-1], [1, 0], [0, 0, 0], [0] * 2000):
            request = {"MsgID": number, "PartPath": path}
            self.assertEqual(self.fails("MessagePartGet", request), "partNotFound")

    def test_empty_part(self) -> None:
        number = self.add(b"Subject: x\r\n\r\n")
        self.assertEqual(self.call("MessagePartGet", {"MsgID": number}), b"")
        got = self.call("MessageGet", {"MsgID": number})
        self.assertEqual((got["Message"]["Text"], got["Message"]["Date"]), ("", None))

    def test_large_part(self) -> None:
        content = bytes(range(256)) * 4000
        data = b"Content-Transfer-Encoding: base64\r\n\r\n" + base64.encodebytes(content)
        number = self.add(data)
        self.assertEqual(self.call("MessagePartGet", {"MsgID": number}), content)
        got = self.call("MessageGet", {"MsgID": number})
        self.assertEqual(got["Structure"]["DecodedSize"], len(content))

    def test_long_text_is_cut(self) -> None:
        number = self.add(b"Content-Type: text/plain; charset=utf-8\r\n\r\n" + "é".encode() * 2**20)
        text = self.call("MessageGet", {"MsgID": number})["Message"]["Text"]
        self.assertEqual(text, "é" * 2**19)

    def test_attachment_is_not_the_text_if_there_is_another(self) -> None:
        number = self.add(
            b"Content-Type: multipart/mixed; boundary=m\r\n\r\n--m\r\n"
            b"Content-Disposition: attachment\r\n\r\nattached\r\n--m\r\n\r\ntext\r\n--m--\r\n"
        )
        got = self.call("MessageGet", {"MsgID": number})
        self.assertEqual(got["Message"]["Text"], "text")

    def test_damaged(self) -> None:
        for data in (
            b"",
            b"\xff\xfe\x00",
            b"From: @@@\r\nTo: <\xff@\xfe>, a@[192.0.2.1]\r\nDate: x\r\nReferences: \xff\r\n\r\n",
            b"Date: Fri, 31 Dec 9999 23:59:59 -2359\r\nContent-Type: multipart/x\r\n\r\nx",
            b"Content-Type: text/plain; charset=nonsense\r\n"
            b"Content-Transfer-Encoding: nonsense\r\n\r\nx\xff",
        ):
            number = self.add(data)
            self.call("MessageGet", {"MsgID": number})
            self.call("MessagePartGet", {"MsgID": number})

    def test_not_found(self) -> None:
        self.add()
        for method in (
            "MessageGet",
            "MessageRawGet",
            "MessagePartGet",
            "MessageDelete",
            "MessageFlagsAdd",
            "MessageFlagsRemove",
        ):
            for number in (0, -1, 999, 2**63 - 1):
                self.assertEqual(self.fails(method, {"MsgID": number}), "messageNotFound")
            self.assertEqual(self.fails(method, {"MsgID": 2**63}), "protocol")
        request = {"MsgID": 999, "DestMailboxName": "Archive"}
        self.assertEqual(self.fails("MessageMove", request), "messageNotFound")

    def test_messages_of_others_are_not_found(self) -> None:
        store = self.ctx.store
        content = self.successResultOf(store.contents.from_bytes(MESSAGE))

        def add(tx: Any) -> int:
            account = accounts.get(tx, "you")
            inbox = mailboxes.ensure(tx, account.id, "Inbox")
            return messages.add(tx, account.id, inbox.id, NewMessage(content)).id

        number = job(store, add)
        for method in ("MessageGet", "MessageRawGet", "MessageDelete", "MessageFlagsAdd"):
            self.assertEqual(self.fails(method, {"MsgID": number}), "messageNotFound")

    def test_files_are_refused(self) -> None:
        body = (
            b'--XX\r\nContent-Disposition: form-data; name="request"\r\n\r\n{}\r\n'
            b'--XX\r\nContent-Disposition: form-data; name="f"; filename="f"\r\n\r\nx\r\n--XX--\r\n'
        )
        kind = "multipart/form-data; boundary=XX"
        status, content = self.request("POST", "v0/SuppressionList", body, content_type=kind)
        self.assertEqual((status, json.loads(content)["Code"]), (400, "protocol"))


class ChangeTests(MessagesCase):
    def flags(self, number: int) -> list[str]:
        flags: list[str] = self.call("MessageGet", {"MsgID": number})["Meta"]["Flags"]
        return flags

    def test_flags(self) -> None:
        number = self.add()
        some = ["\\Answered", "$Forwarded", "Custom", "\\SEEN", "$junk"]
        self.assertEqual(self.call("MessageFlagsAdd", {"MsgID": number, "Flags": some}), {})
        expected = ["\\seen", "\\answered", "$forwarded", "$junk", "custom"]
        self.assertEqual(self.flags(number), expected)
        self.call("MessageFlagsAdd", {"MsgID": number, "Flags": some[:2]})
        self.call("MessageFlagsRemove", {"MsgID": number, "Flags": ["\\seen", "CUSTOM", "none"]})
        self.assertEqual(self.flags(number), ["\\answered", "$forwarded", "$junk"])
        self.call("MessageFlagsAdd", {"MsgID": number, "Flags": None})

    def test_bad_flags(self) -> None:
        number = self.add()
        for flag in ("\\recent", "\\", "", "a b", "(", "é", "\0", "x" * 300):
            request = {"MsgID": number, "Flags": [flag]}
            self.assertEqual(self.fails("MessageFlagsAdd", request), "user")
        many = {"MsgID": number, "Flags": [f"k{i}" for i in range(101)]}
        self.assertEqual(self.fails("MessageFlagsAdd", many), "user")
        self.assertEqual(self.flags(number), [])

    def test_move(self) -> None:
        number = self.add()
        request = {"MsgID": number, "DestMailboxName": "Archive"}
        self.assertEqual(self.call("MessageMove", request), {})
        meta = self.call("MessageGet", {"MsgID": number})["Meta"]
        self.assertEqual(meta["MailboxName"], "Archive")
        self.assertEqual(self.fails("MessageMove", request), "user")
        for name in ("Bogus", "", "a//b", "\0", "#x", "e\u0301"):
            request = {"MsgID": number, "DestMailboxName": name}
            self.assertEqual(self.fails("MessageMove", request), "user")
        self.call("MessageMove", {"MsgID": number, "DestMailboxName": "INBOX"})
        meta = self.call("MessageGet", {"MsgID": number})["Meta"]
        self.assertEqual(meta["MailboxName"], "Inbox")

    def test_delete(self) -> None:
        number = self.add()
        self.assertEqual(self.call("MessageDelete", {"MsgID": number}), {})
        self.assertEqual(self.fails("MessageDelete", {"MsgID": number}), "messageNotFound")
        self.assertEqual(self.fails("MessageGet", {"MsgID": number}), "messageNotFound")
        with self.assertRaises(NoSuchMessage):
            job(self.ctx.store, messages.place_of, 1, number)


class SuppressionTests(MessagesCase):
    def test_list(self) -> None:
        self.assertEqual(self.call("SuppressionList", {}), {"Suppressions": []})
        entry = {"EmailAddress": "Us.Er-x+y@XN--bcher-kva.example", "Manual": True, "Reason": "r"}
        self.assertEqual(self.call("SuppressionAdd", entry), {})
        self.assertEqual(self.fails("SuppressionAdd", entry), "error")
        (found,) = self.call("SuppressionList", {})["Suppressions"]
        self.assertRegex(found.pop("Created"), r"^2025-06-15T\d\d:\d\d:\d\dZ$")
        self.assertEqual(
            found,
            {
                "ID": 1,
                "Account": "me",
                "BaseAddress": "user@bücher.example",
                "OriginalAddress": "Us.Er-x+y@bücher.example",
                "Manual": True,
                "Reason": "r",
            },
        )
        for address, present in [
            ("user@bücher.example", True),
            ("USER+other@xn--bcher-kva.example", True),
            ("user@c.example", False),
        ]:
            got = self.call("SuppressionPresent", {"EmailAddress": address})
            self.assertEqual(got, {"Present": present})
        remove = {"EmailAddress": "u.ser@bücher.example"}
        self.assertEqual(self.call("SuppressionRemove", remove), {})
        self.assertEqual(self.fails("SuppressionRemove", remove), "error")
        self.assertEqual(self.call("SuppressionList", {}), {"Suppressions": []})

    def test_bad(self) -> None:
        for method in ("SuppressionAdd", "SuppressionRemove", "SuppressionPresent"):
            for address in ("", "no address", "a@[192.0.2.1]", "a@b\0", "\0@b.example"):
                self.assertEqual(self.fails(method, {"EmailAddress": address}), "badAddress")
        for reason in ("x" * 1001, "a\0b"):
            request = {"EmailAddress": "a@c.example", "Reason": reason}
            self.assertEqual(self.fails("SuppressionAdd", request), "user")
