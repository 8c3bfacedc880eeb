"""Reading delivery status notifications."""

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from moxtw.mail import mime
from moxtw.mail.address import parse_path
from moxtw.mail.dsn import DELAYED, DSN, DSNRecipient, compose_dsn
from moxtw.mail.dsnparse import DSNError, parse_delivery_status, parse_dsn

BOUNCE = b"""\
Return-Path: <>
Content-Type: multipart/report; report-type=delivery-status;
\tboundary="b/1"
MIME-Version: 1.0

A preamble.

--b/1
Content-Description: Notification
Content-Type: text/plain; charset=us-ascii

I'm sorry.

--b/1
Content-Description: Delivery report
Content-Type: message/delivery-status

Reporting-MTA: dns; mx.example.net
X-Other-Queue-ID: 4Zabc
Arrival-Date: Fri,  3 May 2024 10:00:00 +0200 (CEST)

Final-Recipient: rfc822; u@example.org
Original-Recipient: rfc822;U@example.org
Action: Failed
Status: 5.1.1
Remote-MTA: dns; mx.example.org
Diagnostic-Code: smtp; 550 5.1.1 <u@example.org>: unknown
    in table

--b/1
Content-Type: message/rfc822

From: <s@example.com>
Subject: x

Text.
--b/1--
"""

STATUS = b"""\
Reporting-MTA: dns;a.example

Final-Recipient: rfc822;u@example.org
Action: delayed
Status: 4.4.1 (no \\(answer\\))
"""


def parse(data):
    return parse_dsn(mime.parse_message(data), data)


class ParseTests(SynchronousTestCase):
    def test_bounce(self):
        for data in (BOUNCE, BOUNCE.replace(b"\n", b"\r\n")):
            dsn = parse(data)
            self.assertEqual(dsn.reporting_mta, "mx.example.net")
            self.assertEqual(dsn.arrival_date, 1714723200_000_000)
            self.assertEqual(
                dsn.recipients,
                (
                    DSNRecipient(
                        parse_path("u@example.org"), "failed", "5.1.1",
                        original_recipient="rfc822;U@example.org",
                        remote_mta="mx.example.org",
                        diagnostic="550 5.1.1 <u@example.org>: unknown in table",
                    ),
                ),
            )  # fmt: skip
            self.assertEqual(dsn.recipients[0].smtp_code, 550)
            self.assertIn("I'm sorry.", dsn.text)
            self.assertTrue(dsn.original.startswith(b"From: <s@example.com>"))

    def test_reads_what_is_composed(self):
        dsn = DSN(
            "mail.example",
            (
                DSNRecipient(
                    parse_path("é+x@bücher.example"), DELAYED, "4.2.2", "(full)", remote_mta="m",
                    diagnostic="452 4.2.2 box full", last_attempt=5_000_000,
                    will_retry_until=6_000_000, final_log_id="9",
                ),
                DSNRecipient(parse_path("v@example.org"), "failed", "5.0.0"),
            ),
            received_from_mta="client.example", arrival_date=0, future_release="for;60",
            text="Text.\r\n", original="Subject: é\r\n".encode(), original_utf8=True,
        )  # fmt: skip
        for utf8 in (True, False):
            data = compose_dsn(
                dsn, mail_from=parse_path("postmaster@mail.example"), to=parse_path("s@x"),
                subject="s", message_id="<i@x>", when=0, utf8=utf8,
            )  # fmt: skip
            got = parse(data)
            self.assertEqual(got.recipients, dsn.recipients)
            self.assertEqual(got.original, dsn.original)
            self.assertEqual((got.text, got.future_release), (dsn.text, "for;60"))
            self.assertEqual((got.arrival_date, got.received_from_mta), (0, "client.example"))
            self.assertEqual(got.original_utf8, utf8)

    def test_structure(self):
        for old, new in (
            (b"multipart/report", b"multipart/mixed"),
            (b"report-type=delivery-status", b"report-type=tlsrpt"),
            (b"text/plain", b"text/html"),
            (b"message/delivery-status", b"text/plain"),
            (b"--b/1--", b"--b/1\n\nfourth\n--b/1--"),
            (BOUNCE[BOUNCE.index(b"--b/1\nContent-Description: Del") :], b"--b/1--\n"),
        ):
            data = BOUNCE.replace(old, new)
            self.assertNotEqual(data, BOUNCE)
            with self.assertRaises(DSNError, msg=new):
                parse(data)
        two = BOUNCE[: BOUNCE.index(b"--b/1\nContent-Type: message/rfc822")] + b"--b/1--\n"
        self.assertEqual(parse(two).original, b"")
        global_type = BOUNCE.replace(b"message/delivery-status", b"message/global-delivery-status")
        self.assertEqual(len(parse(global_type).recipients), 1)

    def test_status(self):
        dsn = parse_delivery_status(STATUS + b"\n\n\n" + STATUS.split(b"\n\n")[1] + b"\n\n")
        self.assertEqual(len(dsn.recipients), 2)
        recipient = dsn.recipients[0]
        self.assertEqual((recipient.status, recipient.status_comment), ("4.4.1", "no (answer)"))
        self.assertEqual((recipient.smtp_code, recipient.secode), (400, "4.1"))

    def test_tolerated(self):
        for old, new in (
            (b"rfc822;u@example.org", b"RFC822 ; <u@example.org>"),
            (b"rfc822;u@example.org", rb"utf-8; \x{75}@example.org"),
            (b"Action", b"X-Unknown: \xff\nAction"),
            (b"Action", b"Original-Recipient: x; anything\nAction"),
            (b"Action", b"Diagnostic-Code: x-unix; exit 7\nAction"),
            (b"Action", b"Last-Attempt-Date: never\nAction"),
        ):
            recipient = parse_delivery_status(STATUS.replace(old, new)).recipients[0]
            self.assertEqual(str(recipient.final_recipient), "u@example.org")
            self.assertEqual(recipient.smtp_code, 400)

    def test_refused(self):
        for old, new in (
            (STATUS, b""),
            (STATUS, b"\n\n"),
            (STATUS, b"Reporting-MTA: dns;a.example\n"),
            (b"dns;a.example", b"x400;a.example"),
            (b"dns;a.example", b"dns;"),
            (b"dns;a.example", b"a.example"),
            (b"Reporting-MTA: dns;a.example", b"X: y"),
            (b"Action: delayed\n", b""),
            (b"Action: delayed\n", b"Action: delayed\nAction: failed\n"),
            (b"Action: delayed\n", b"Action: delayed\naction: delayed\n"),
            (b"Status: 4.4.1", b"X: 4.4.1"),
            (b"4.4.1", b"4.4"),
            (b"4.4.1", b"3.4.1"),
            (b"4.4.1", b"4.4.1234"),
            (b"Final-Recipient", b"X"),
            (b"rfc822;u@example.org", b"rfc822;"),
            (b"rfc822;u@example.org", b"rfc822;u"),
            (b"rfc822;u@example.org", b"x400;u@example.org"),
            (b"Reporting", b" Reporting"),
            (b"Action: delayed", b"no field"),
        ):
            self.assertIn(old, STATUS)
            with self.assertRaises(DSNError, msg=(old, new)):
                parse_delivery_status(STATUS.replace(old, new))

    def test_bounds(self):
        self.assertRaises(DSNError, parse_delivery_status, STATUS + b"X: y\n" * 10_001)
        self.assertRaises(DSNError, parse_delivery_status, STATUS + b" " * (1 << 20))

    @settings(max_examples=150, deadline=None)
    @given(st.lists(st.sampled_from([
        b"Reporting-MTA: dns;a", b"", b"Final-Recipient: rfc822;a@b", b"Action: failed",
        b"Status: 5.0.0", b" x", b":", b"\xff: \xff", b"X: y", b"\r", b"Diagnostic-Code: ;",
    ]), max_size=12))  # fmt: skip
    def test_junk_raises_only_its_own_error(self, lines):
        try:
            dsn = parse_delivery_status(b"\n".join(lines))
        except DSNError:
            return
        self.assertTrue(dsn.recipients)
