"""Composing delivery status notifications. The standard library's email package reads them."""

import email
import email.policy
from dataclasses import replace

from twisted.trial.unittest import SynchronousTestCase

from moxtw.mail.address import Path, parse_path
from moxtw.mail.dsn import (
    DELAYED,
    DSN,
    FAILED,
    DSNRecipient,
    compose_dsn,
    decode_utf8_address,
    encode_utf8_address,
)

WHEN = 1_700_000_000_000_000
RECIPIENT = DSNRecipient(
    parse_path("u@example.org"), FAILED, "5.1.1", "no such user", remote_mta="mx.example.org",
    diagnostic="550 5.1.1 no such user", last_attempt=WHEN,
)  # fmt: skip
NOTICE = DSN(
    "mail.example", (RECIPIENT,), arrival_date=WHEN - 60_000_000, text="It failed.\n",
    original=b"From: <a@b>\r\nSubject: x\r\n",
)  # fmt: skip


def compose(dsn=NOTICE, utf8=False, to="s@example.com", **options):
    return compose_dsn(
        dsn, mail_from=parse_path("postmaster@mail.example"), to=parse_path(to),
        subject="mail delivery failed", message_id="<i@mail.example>", when=WHEN, utf8=utf8,
        boundary=lambda: "limit", **options,
    )  # fmt: skip


def body(part):
    return part.as_bytes().partition(b"\n\n")[2].replace(b"\r\n", b"\n")


class ComposeTests(SynchronousTestCase):
    def read(self, data):
        for line in data.split(b"\r\n"):
            self.assertNotIn(b"\r", line)
            self.assertNotIn(b"\n", line)
            self.assertLessEqual(len(line), 998)
        message = email.message_from_bytes(data, policy=email.policy.compat32)
        self.assertEqual(message.get_content_type(), "multipart/report")
        self.assertEqual(message.get_param("report-type"), "delivery-status")
        return message

    def test_whole(self):
        expected = (
            "From: <postmaster@mail.example>\n"
            "To: <s@example.com>\n"
            "Subject: mail delivery failed\n"
            "Message-Id: <i@mail.example>\n"
            "References: <o@example.com>\n"
            "Date: Tue, 14 Nov 2023 22:13:20 +0000\n"
            "Auto-Submitted: auto-replied\n"
            "MIME-Version: 1.0\n"
            "Content-Type: multipart/report; report-type=delivery-status; boundary=limit\n"
            "\n"
            "--limit\n"
            "Content-Type: text/plain\n"
            "Content-Transfer-Encoding: 7bit\n"
            "\n"
            "It failed.\n"
            "\n--limit\n"
            "Content-Type: message/delivery-status\n"
            "Content-Transfer-Encoding: 7bit\n"
            "\n"
            "Reporting-MTA: dns; mail.example\n"
            "Arrival-Date: Tue, 14 Nov 2023 22:12:20 +0000\n"
            "\n"
            "Final-Recipient: rfc822; u@example.org\n"
            "Action: failed\n"
            "Status: 5.1.1 (no such user)\n"
            "Remote-MTA: dns;mx.example.org\n"
            "Diagnostic-Code: smtp; 550 5.1.1 no such user\n"
            "Last-Attempt-Date: Tue, 14 Nov 2023 22:13:20 +0000\n"
            "\n--limit\n"
            "Content-Type: text/rfc822-headers\n"
            "Content-Transfer-Encoding: 7bit\n"
            "\n"
            "From: <a@b>\n"
            "Subject: x\n"
            "\n--limit--\n"
        )
        got = compose(references=["<o@example.com>"]).decode().replace("\r\n", "\n")
        self.assertEqual(got, expected)

    def test_all_fields(self):
        dsn = replace(
            NOTICE, received_from_mta="[10.0.0.1]", future_release="for;60", envelope_id="e1",
            recipients=(
                RECIPIENT,
                replace(RECIPIENT, action=DELAYED, status="4.4.1", will_retry_until=WHEN,
                        final_log_id="7", original_recipient="rfc822;o@example.org"),
            ),
        )  # fmt: skip
        status = self.read(compose(dsn)).get_payload()[1].get_payload()
        self.assertEqual(
            [part.keys() for part in status],
            [
                ["Original-Envelope-Id", "Reporting-MTA", "Received-From-MTA", "Arrival-Date",
                 "Future-Release-Request"],
                ["Final-Recipient", "Action", "Status", "Remote-MTA", "Diagnostic-Code",
                 "Last-Attempt-Date"],
                ["Original-Recipient", "Final-Recipient", "Action", "Status", "Remote-MTA",
                 "Diagnostic-Code", "Last-Attempt-Date", "Final-Log-ID", "Will-Retry-Until"],
            ],
        )  # fmt: skip

    def test_ascii_form_of_international_message(self):
        recipient = replace(RECIPIENT, final_recipient=parse_path("é+x@bücher.example"),
                            diagnostic="550 ünknown")  # fmt: skip
        dsn = replace(NOTICE, recipients=(recipient,), text="Für é failed.",
                      original="Subject: é\r\n".encode(), original_utf8=True)  # fmt: skip
        data = compose(dsn, to="ö@example.com")
        self.assertTrue(data.isascii())
        message = self.read(data)
        self.assertEqual(message["To"], "=?utf-8?b?w7ZAZXhhbXBsZS5jb20=?=:;")
        text, status, original = message.get_payload()
        self.assertEqual(text.get_payload(), "F\\x{FC}r \\x{E9} failed.\r\n")
        fields = status.get_payload()[1]
        self.assertEqual(
            fields["Final-Recipient"], r"utf-8; \x{E9}\x{2B}x@xn--bcher-kva.example"
        )
        self.assertEqual(fields["Diagnostic-Code"], r"smtp; 550 \x{FC}nknown")
        self.assertEqual(original.get_content_type(), "text/rfc822-headers")
        self.assertEqual(original.get_content_charset(), "utf-8")
        self.assertEqual(original["Content-Transfer-Encoding"], "base64")
        self.assertEqual(original.get_payload(decode=True), "Subject: é\r\n".encode())

    def test_utf8_form(self):
        recipient = replace(RECIPIENT, final_recipient=parse_path("é@bücher.example"))
        dsn = replace(NOTICE, recipients=(recipient,), text="Für é.",
                      original="Subject: é\r\n".encode(), original_utf8=True)  # fmt: skip
        data = compose(dsn, utf8=True, to="ö@example.com")
        message = self.read(data)
        types = [(p.get_content_type(), p["Content-Transfer-Encoding"])
                 for p in message.get_payload()]  # fmt: skip
        self.assertEqual(types, [
            ("text/plain", "8bit"), ("message/global-delivery-status", "8bit"),
            ("message/global-headers", "8bit"),
        ])  # fmt: skip
        self.assertIn("To: <ö@example.com>\r\n".encode(), data)
        self.assertIn("Final-Recipient: utf-8; é@bücher.example\r\n".encode(), data)
        self.assertIn("\r\n\r\nFür é.\r\n".encode(), data)
        self.assertIn("\r\n\r\nSubject: é\r\n".encode(), data)

    def test_hostile_replies_stay_in_their_field(self):
        recipient = replace(
            RECIPIENT, diagnostic="550 a\r\nAction: delivered\r\n\r\n--limit\0" + "x" * 3000,
            status_comment="(\r\n\r\n", remote_mta="a\nb",
        )  # fmt: skip
        for utf8 in (False, True):
            message = self.read(compose(replace(NOTICE, recipients=(recipient,)), utf8=utf8))
            self.assertEqual(len(message.get_payload()), 3)
            part = message.get_payload()[1].as_bytes()
            self.assertEqual(part.count(b"\nAction:"), 1)

    def test_long_lines_of_text_and_original(self):
        dsn = replace(NOTICE, text="word " * 1000 + "x" * 2000, original=b"A: " + b"x" * 2000)
        for utf8 in (False, True):
            message = self.read(compose(dsn, utf8=utf8))
            text, _, original = message.get_payload()
            self.assertEqual(
                text.get_payload(decode=True).replace(b"\r\n", b"").decode(), dsn.text
            )
            self.assertEqual(original["Content-Transfer-Encoding"], "base64")
            if not utf8:
                self.assertEqual(original.get_payload(decode=True), dsn.original + b"\r\n")

    def test_null_sender_and_no_original(self):
        message = self.read(compose(replace(NOTICE, original=b""), to=""))
        self.assertEqual(message["To"], "<>")
        self.assertEqual(len(message.get_payload()), 2)

    def test_address_escapes(self):
        for text in ("é+=\\@x", "a b@x", "😀@x"):
            for utf8 in (False, True):
                encoded = encode_utf8_address(text, utf8=utf8)
                self.assertEqual(encoded.isascii(), not utf8 or text.isascii())
                self.assertEqual(decode_utf8_address(encoded), text)
        self.assertEqual(decode_utf8_address(r"\x{D800}\x{110000}\x{}"), r"\x{D800}\x{110000}\x{}")

    def test_codes(self):
        self.assertEqual((RECIPIENT.smtp_code, RECIPIENT.secode), (550, "1.1"))
        for diagnostic, kind, code in (
            ("550-a 550 b", "smtp", 550), ("", "smtp", 500), ("5501 x", "smtp", 500),
            ("421", "smtp", 421), ("452 x", "x-unix", 500),
        ):  # fmt: skip
            recipient = replace(RECIPIENT, diagnostic=diagnostic, diagnostic_type=kind)
            self.assertEqual(recipient.smtp_code, code)
        self.assertTrue(Path().is_zero)
