"""Requests for notifications, RFC 3461."""

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from moxtw.mail import dsnrequest
from moxtw.mail.dsnrequest import DSNRequest, Notify


class XtextTests(SynchronousTestCase):
    @settings(max_examples=200)
    @given(st.text(st.characters(min_codepoint=32, max_codepoint=126)))
    def test_round_trip(self, text: str) -> None:
        encoded = dsnrequest.encode_xtext(text)
        self.assertEqual(dsnrequest.decode_xtext(encoded), text)
        self.assertNotIn(" ", encoded)
        self.assertNotIn("=", encoded)

    def test_bad(self) -> None:
        for text in ("a b", "a=b", "+2", "+2b", "é"):
            self.assertRaises(ValueError, dsnrequest.decode_xtext, text)


class ParameterTests(SynchronousTestCase):
    def test_notify(self) -> None:
        for text, want in (
            ("NEVER", Notify.NEVER),
            ("never", Notify.NEVER),
            ("SUCCESS", Notify.SUCCESS),
            ("Failure,delay", Notify.FAILURE | Notify.DELAY),
            ("SUCCESS,FAILURE,DELAY", Notify.SUCCESS | Notify.FAILURE | Notify.DELAY),
        ):
            self.assertEqual(dsnrequest.parse_notify(text), want)
            self.assertEqual(dsnrequest.parse_notify(dsnrequest.notify_text(want)), want)
        for bad in ("", "X", "NEVER,SUCCESS", "SUCCESS,NEVER", "DELAY,DELAY", "SUCCESS,", ","):
            self.assertRaises(ValueError, dsnrequest.parse_notify, bad)

    def test_original(self) -> None:
        for text, want in (
            ("rfc822;a+2Bb@example.org", "rfc822;a+b@example.org"),
            ("x400;/c=us".replace("=", "+3D"), "x400;/c=us"),
            ("utf-8;é@example.org", "utf-8;é@example.org"),
        ):
            self.assertEqual(dsnrequest.parse_original(text), want)
        for bad in ("rfc822", ";a", "rfc822;", "rfc822;é@example.org", "rfc822;+0A",
                    "rfc 822;x", "rfc822;" + "a" * 500):  # fmt: skip
            self.assertRaises(ValueError, dsnrequest.parse_original, bad)

    def test_wire_form(self) -> None:
        request = DSNRequest("FULL", "a=b", Notify.NEVER, "rfc822;a+b@example.org")
        self.assertEqual(request.mail_parameters(), " RET=FULL ENVID=a+3Db")
        self.assertEqual(
            request.rcpt_parameters(utf8=False), " NOTIFY=NEVER ORCPT=rfc822;a+2Bb@example.org"
        )
        self.assertEqual(DSNRequest().mail_parameters(), "")
        self.assertEqual(DSNRequest().rcpt_parameters(utf8=True), "")
        utf8 = DSNRequest(original="utf-8;é@x")
        self.assertEqual(utf8.rcpt_parameters(utf8=True), " ORCPT=utf-8;é@x")
        self.assertEqual(utf8.rcpt_parameters(utf8=False), " ORCPT=utf-8;\\x{E9}@x")
