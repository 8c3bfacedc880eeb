"""Trace fields."""

from dataclasses import replace

from twisted.trial.unittest import SynchronousTestCase

from moxtw.mail.address import Path, parse_ipdomain, parse_path
from moxtw.mail.domain import parse_domain
from moxtw.mail.received import (
    AuthMethod,
    AuthProp,
    ReceivedSPF,
    Trace,
    authentication_results,
    delivered_to,
    domain_prop,
    reason_header,
    received,
    received_spf,
    return_path,
    with_protocol,
)

WHEN = 1_700_000_000_000_000
TRACE = Trace(
    parse_domain("mail.bücher.example"), "10.0.0.1", "ESMTPS", "c1d",
    hello=parse_ipdomain("client.example"), remote_ip="10.9.9.9",
    tls="TLS1.3 TLS_AES_128_GCM_SHA256",
)  # fmt: skip
RCPT = parse_path("u@example.org")


def unfold(data):
    return data.decode().replace("\r\n\t", " ").removesuffix("\r\n")


class ReceivedTests(SynchronousTestCase):
    def test_delivery(self):
        self.assertEqual(
            unfold(received(TRACE, WHEN, RCPT)),
            "Received: from client.example ([10.9.9.9]) by mail.xn--bcher-kva.example"
            " ([10.0.0.1]) via tcp with ESMTPS id c1d (TLS1.3 TLS_AES_128_GCM_SHA256)"
            " for <u@example.org>; Tue, 14 Nov 2023 22:13:20 +0000",
        )

    def test_reverse_name_only_if_it_differs(self):
        same = replace(TRACE, reverse_name="Client.Example.")
        self.assertEqual(received(same, WHEN), received(TRACE, WHEN))
        other = unfold(received(replace(TRACE, reverse_name="other.example."), WHEN))
        self.assertIn("from client.example (other.example [10.9.9.9]) by", other)

    def test_semicolon_without_recipient(self):
        text = unfold(received(replace(TRACE, tls=""), WHEN))
        self.assertTrue(text.endswith("with ESMTPS id c1d; Tue, 14 Nov 2023 22:13:20 +0000"), text)
        self.assertIn("SHA256); Tue", unfold(received(TRACE, WHEN)))

    def test_submission_hides_the_client(self):
        text = unfold(received(replace(TRACE, hello=None, require_tls=True), WHEN, RCPT))
        self.assertIn("from mail.xn--bcher-kva.example by mail.xn--bcher-kva.example (", text)
        self.assertIn("with ESMTPS (requiretls) id", text)
        self.assertNotIn("10.9.9.9", text)

    def test_utf8(self):
        trace = replace(TRACE, hello=parse_ipdomain("é.example"), utf8=True)
        text = unfold(received(trace, WHEN, parse_path("é@bücher.example")))
        self.assertIn("from é.example ([10.9.9.9]) (xn--9ca.example) by", text)
        self.assertIn("by mail.bücher.example ([10.0.0.1]) (mail.xn--bcher-kva.example) via", text)
        self.assertIn("for <é@bücher.example>;", text)

    def test_literals(self):
        trace = replace(TRACE, hello=parse_ipdomain("[IPv6:::1]"), remote_ip="::1")
        self.assertIn("from [IPv6:::1] ([IPv6:::1]) by", unfold(received(trace, WHEN)))

    def test_folded(self):
        for line in received(TRACE, WHEN, RCPT).split(b"\r\n"):
            self.assertLessEqual(len(line), 78)

    def test_protocols(self):
        def name(**true):
            flags = dict.fromkeys(("esmtp", "utf8", "tls", "authenticated"), False)
            return with_protocol(**(flags | true))

        self.assertEqual(name(), "SMTP")
        self.assertEqual(name(esmtp=True, tls=True, authenticated=True), "ESMTPSA")
        self.assertEqual(name(esmtp=True, utf8=True, authenticated=True), "UTF8SMTPA")

    def test_hostile_names_stay_in_the_field(self):
        data = received(replace(TRACE, reverse_name="a\r\nBcc: x"), WHEN)
        self.assertNotIn(b"\nBcc", data)


class OtherTests(SynchronousTestCase):
    def test_paths(self):
        self.assertEqual(return_path(Path()), b"Return-Path: <>\r\n")
        self.assertEqual(return_path(RCPT), b"Return-Path: <u@example.org>\r\n")
        self.assertEqual(delivered_to(RCPT), b"Delivered-To: u@example.org\r\n")

    def test_reason(self):
        self.assertEqual(
            reason_header("no-bad-signals", ["a", "b\r\nc"]),
            b"X-Mox-Reason: no-bad-signals; a;\r\n\tb??c;\r\n",
        )
        self.assertEqual(reason_header("x"), b"X-Mox-Reason: x;\r\n")

    def test_received_spf(self):
        spf = ReceivedSPF(
            "pass", "2001:db8::1", RCPT, parse_ipdomain("c.example"), "mail.example", "mailfrom",
            comment="domain example.org", mechanism="ip6",
        )  # fmt: skip
        self.assertEqual(
            unfold(received_spf(spf)),
            'Received-SPF: pass (domain example.org) client-ip="2001:db8::1";'
            ' envelope-from="u@example.org"; helo=c.example; mechanism=ip6;'
            " receiver=mail.example; identity=mailfrom",
        )
        problem = received_spf(replace(spf, problem='x"(' * 100, envelope_from=Path()))
        self.assertIn(b'envelope-from=""', problem)
        for line in problem.split(b"\r\n"):
            self.assertLessEqual(len(line), 120)

    def test_authentication_results(self):
        methods = [
            AuthMethod("iprev", "pass", "ignored", props=()),
            AuthMethod(
                "dkim", "fail", "2048 bit rsa, without dnssec", "bad (hash)",
                (
                    domain_prop("header", "d", parse_domain("é.example"), True),
                    AuthProp("header", "b", "abc/de="),
                    AuthProp("header", "i", "@é.example", address_like=True),
                ),
            ),
            AuthMethod("spf", "none", props=(AuthProp("smtp", "mailfrom", ""),)),
        ]  # fmt: skip
        self.assertEqual(
            authentication_results("mail.example", methods).decode(),
            "Authentication-Results: mail.example;\r\n"
            "\tiprev=pass;\r\n"
            "\tdkim=fail (2048 bit rsa, without dnssec) reason=\"bad (hash)\"\r\n"
            "\theader.d=é.example (xn--9ca.example) header.b=\"abc/de=\"\r\n"
            "\theader.i=@é.example;\r\n"
            '\tspf=none smtp.mailfrom=""\r\n',
        )
        self.assertEqual(
            authentication_results("m.example", [], note="x"),
            b"Authentication-Results: (x) m.example; none\r\n",
        )
