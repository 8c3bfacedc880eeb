"""MAIL and RCPT."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from moxtw.mail.address import parse_path
from moxtw.net.tlsinfo import TLSInfo
from moxtw.store.auth import Login
from tests.support.smtp import DYNAMIC, World
from tests.support.transcript import Peer

TLS = TLSInfo("TLS1.3", "TLS_AES_128_GCM_SHA256", 0x0304, 0x1301, "", False, "")

MOX = """\
	mox:
		Domain: example.org
		Destinations:
			mox@example.org: nil
"""


class Base(SynchronousTestCase):
    localserve = False
    dynamic = DYNAMIC

    def setUp(self) -> None:
        self.world = World(self, dynamic=self.dynamic, localserve=self.localserve)

    def hello(self, kind: str = "smtp", *, tls: bool = False, **options: Any) -> Peer:
        peer = self.world.peer(kind, **options)
        if tls:
            peer.protocol.tls = TLS
        peer.transcript("""
        S: 220 *
        C: EHLO client.example
        S: *
        """)
        return peer

    def user(self, account: str = "me", **options: Any) -> Peer:
        """A submission connection that is logged in."""
        peer = self.hello("submission", **options)
        peer.protocol.login = Login(account, 1, f"{account}@example.org")
        return peer

    def check(self, peer: Peer, line: str, reply: str) -> None:
        with self.subTest(line=line):
            peer.transcript(f"C: {line}\nS: {reply}")


class MailTests(Base):
    def test_sender_domains(self) -> None:
        for address, reply in (
            ("<>", "250 2.1.0 *"),
            ("<a@example.net>", "250 2.1.0 *"),
            ("<a@a-only.example>", "250 2.1.0 *"),
            ("<a@null.example>", "550 5.7.27 * (*)"),
            ("<a@nomail.example>", "550 5.7.27 *"),
            ("<a@dangling.example>", "550 5.7.27 *"),
            ("<a@mx-gone.example>", "250 2.1.0 *"),
            ("<a@unknown.example>", "550 5.7.27 *"),
            ("<a@broken.example>", "451 4.4.0 *"),
            ("<a@slow.example>", "451 4.4.0 *"),
            ("<a@[192.0.2.1]>", "550 5.7.0 *"),
        ):
            peer = self.hello()
            self.check(peer, f"MAIL FROM:{address}", reply)
            if reply[0] != "2":
                # The transaction has not begun.
                self.check(peer, "RCPT TO:<me@example.org>", "503 5.5.1 *")

    def test_results_for_domains_are_remembered(self) -> None:
        for _ in range(2):
            self.check(self.hello(), "MAIL FROM:<a@example.net>", "250 *")
            self.check(self.hello(), "MAIL FROM:<a@null.example>", "550 *")
            self.check(self.hello(), "MAIL FROM:<a@broken.example>", "451 *")
        asked = [name for name, rtype in self.world.resolver.asked if rtype == "MX"]
        self.assertEqual(
            asked, ["example.net.", "null.example.", "broken.example.", "broken.example."]
        )
        self.world.clock.advance(301)
        self.check(self.hello(), "MAIL FROM:<a@example.net>", "250 *")
        self.assertEqual(self.world.resolver.asked[-3][0], "example.net.")

    def test_second_mail(self) -> None:
        peer = self.hello()
        self.check(peer, "MAIL FROM:<>", "250 *")
        self.check(peer, "MAIL FROM:<>", "503 5.5.1 *")
        self.check(peer, "RCPT TO:<me@example.org>", "250 *")

    def test_parameters(self) -> None:
        for parameters, reply in (
            ("SIZE=104857600", "250 *"),
            ("SIZE=104857601", "552 5.3.4 *"),
            ("BODY=8BITMIME SMTPUTF8", "250 *"),
            ("BODY=BINARYMIME", "250 *"),
            ("BODY=BINARY", "555 5.5.4 *"),
            ("AUTH=<>", "250 *"),
            ("REQUIRETLS", "523 5.7.10 *"),
            ("SIZE=1 SIZE=2", "501 5.5.4 *"),
            ("ENVID=x RET=full", "250 *"),
            ("ENVID=x+2", "501 5.5.4 *"),
            ("ENVID=" + "x" * 101, "501 5.5.4 *"),
            ("RET=SOME", "501 5.5.4 *"),
            ("RET", "501 5.5.2 *"),
            ("HOLDFOR=5", "555 5.3.3 *"),
            ("SIZE=x", "501 5.5.2 *"),
        ):
            self.check(self.hello(), f"MAIL FROM:<a@example.net> {parameters}", reply)

    def test_size_below_100_mib(self) -> None:
        peer = self.hello(max_size=1000)
        self.check(peer, "MAIL FROM:<> SIZE=1001", "552 5.2.3 *")
        self.check(peer, "MAIL FROM:<> SIZE=104857600", "552 5.3.4 *")
        self.check(peer, "MAIL FROM:<> SIZE=1000", "250 *")

    def test_requiretls(self) -> None:
        self.check(self.hello(tls=True), "MAIL FROM:<> REQUIRETLS", "250 *")
        peer = self.hello(tls=True, requiretls=False)
        self.check(peer, "MAIL FROM:<> REQUIRETLS", "555 5.3.3 *")

    def test_utf8(self) -> None:
        peer = self.hello()
        self.check(peer, "MAIL FROM:<é@example.net>", "550 5.6.7 *")
        self.check(peer, "MAIL FROM:<é@example.net> SMTPUTF8", "250 *")

    def test_trailing_white_space_is_for_delivery_only(self) -> None:
        self.check(self.hello(), "MAIL FROM:<> \\x09", "250 *")
        self.check(self.user(), "MAIL FROM:<> ", "501 5.5.2 *")

    def test_too_many_failures(self) -> None:
        peer = self.hello()
        for _ in range(11):
            peer.transcript("""
            C+ MAIL FROM:<a@example.net>
            C+ RCPT TO:<me@example.org>
            C: DATA
            S: 250 *
            S: 250 *
            S: 354 *
            C: bare\\rcr\\r\\n.
            S: 500 5.5.2 *
            """)
        peer.transcript("""
        C: MAIL FROM:<a@example.net>
        S: 550 5.1.0 *
        S: <closed>
        """)

    def test_many_failures_are_let_pass_after_a_success(self) -> None:
        peer = self.hello()
        for content, reply in [("ok", "250"), *[("bare\\rcr", "500")] * 11]:
            peer.transcript(f"""
            C+ MAIL FROM:<a@example.net>
            C+ RCPT TO:<me@example.org>
            C: DATA
            S: 250 *
            S: 250 *
            S: 354 *
            C: {content}\\r\\n.
            S: {reply} *
            """)
        self.check(peer, "MAIL FROM:<a@example.net>", "250 *")

    # -- Submission ----------------------------------------------------------------

    def test_submission_needs_login(self) -> None:
        peer = self.hello("submission")
        for line in ("MAIL FROM:<me@example.org>", "RCPT TO:<me@example.org>", "DATA"):
            self.check(peer, line, "530 5.7.0 *")

    def test_submission_takes_own_addresses_only(self) -> None:
        for address, reply in (
            ("<>", "250 *"),
            ("<me@example.org>", "250 *"),
            ("<Me+x@example.org>", "250 *"),
            ("<team@example.org>", "250 *"),
            ("<closed@example.org>", "550 5.7.1 *"),
            ("<you@example.org>", "550 5.7.1 *"),
            ("<nobody@example.org>", "550 5.7.1 *"),
            ("<postmaster@example.org>", "550 5.7.1 *"),
            ("<me@example.net>", "550 5.7.1 *"),
            ("<me@[192.0.2.1]>", "550 5.7.1 *"),
            ("<off@disabled.example>", "451 4.3.0 *"),
        ):
            self.check(self.user(), f"MAIL FROM:{address}", reply)

    def test_future_release(self) -> None:
        for parameter, reply in (
            ("HOLDFOR=5184000", "250 *"),
            ("HOLDFOR=5184001", "554 5.5.4 *"),
            ("HOLDFOR=0", "554 5.5.4 *"),
            ("HOLDUNTIL=2025-06-15T15:06:41Z", "250 *"),
            ("HOLDUNTIL=2025-06-15T15:06:40Z", "554 5.5.4 *"),
            ("HOLDUNTIL=2025-08-14T15:06:40Z", "250 *"),
            ("HOLDUNTIL=2025-08-14T15:06:41Z", "554 5.5.4 *"),
            ("HOLDFOR=1 HOLDUNTIL=2025-06-16T00:00:00Z", "501 5.5.4 *"),
        ):
            self.check(self.user(), f"MAIL FROM:<me@example.org> {parameter}", reply)

    def test_authenticated_clients_are_told_what_was_not_understood(self) -> None:
        self.check(self.user(), "MAIL FROM:<me@example.org>rest", "501 5.5.2 *'rest'*")
        self.check(self.hello(), "MAIL FROM:<me@example.org>rest", "501 5.5.2 *parameter (*")


class RcptTests(Base):
    def begin(self, *, sender: str = "<a@example.net>", **options: Any) -> Peer:
        peer = self.hello(**options)
        self.check(peer, f"MAIL FROM:{sender} SMTPUTF8", "250 *")
        return peer

    def test_delivery(self) -> None:
        peer = self.begin()
        for address, reply in (
            ("<me@example.org>", "250 2.1.0 *"),
            ("<ME+lists@Example.Org>", "250 *"),
            ("<team@example.org>", "250 *"),
            ("<postmaster>", "250 *"),
            ("<Postmaster@mail.example.org>", "250 *"),
            ("<postmaster@example.org>", "250 *"),
            ("<møx@bücher.example>", "250 *"),
            ("<møx@xn--bcher-kva.example>", "250 *"),
            # Told only after DATA.
            ("<nobody@example.org>", "250 *"),
            ("<soon@example.org>", "451 4.3.0 come back later (*)"),
            ("<gone@example.org>", "550 5.1.1 no longer here (*)"),
            ("<off@disabled.example>", "450 4.2.1 *"),
            ("<me@example.net>", "550 5.1.1 *"),
            ("<me@[192.0.2.99]>", "550 5.1.1 *"),
            ("<me@mail.example.org>", "550 5.1.1 *"),
            ("<>", "501 5.5.2 *"),
            ("<me@example.org> NOTIFY=NEVER", "250 *"),
            ("<me@example.org> XNOTIFY=NEVER", "555 5.3.3 *"),
        ):
            self.check(peer, f"RCPT TO:{address}", reply)

    def test_submission(self) -> None:
        peer = self.user()
        self.check(peer, "MAIL FROM:<me@example.org>", "250 *")
        for address, reply in (
            ("<you@example.org>", "250 2.1.0 *"),
            ("<anybody@example.net>", "250 *"),
            ("<anybody@[192.0.2.1]>", "250 *"),
            ("<postmaster>", "250 *"),
            ("<nobody@example.org>", "550 5.1.1 *"),
            ("<soon@example.org>", "451 4.3.0 *"),
            ("<off@disabled.example>", "450 4.2.1 *"),
        ):
            self.check(peer, f"RCPT TO:{address}", reply)

    def test_without_mail(self) -> None:
        self.check(self.hello(), "RCPT TO:<me@example.org>", "503 5.5.1 *")

    def test_utf8_without_smtputf8(self) -> None:
        peer = self.hello()
        self.check(peer, "MAIL FROM:<>", "250 *")
        self.check(peer, "RCPT TO:<møx@bücher.example>", "553 5.6.7 *")

    def test_too_many_recipients(self) -> None:
        peer = self.begin()
        for _ in range(1000):
            peer.send(b"RCPT TO:<me@example.org>\r\n")
        self.assertEqual(peer.received().count(b"250 2.1.0"), 1000)
        self.check(peer, "RCPT TO:<me@example.org>", "452 4.5.3 *")

    def test_null_sender_has_one_recipient(self) -> None:
        peer = self.begin(sender="<>")
        self.check(peer, "RCPT TO:<me@example.org>", "250 *")
        self.check(peer, "RCPT TO:<you@example.org>", "452 4.5.3 *")

    def test_several_recipients_need_spf(self) -> None:
        for sender in ("<a@a-only.example>", "<a@mx.example.net>"):
            peer = self.begin(sender=sender)
            self.check(peer, "RCPT TO:<me@example.org>", "250 *")
            asked = len(self.world.resolver.asked)
            self.check(peer, "RCPT TO:<you@example.org>", "452 4.5.3 *")
            self.assertGreater(len(self.world.resolver.asked), asked)
            asked = len(self.world.resolver.asked)
            self.check(peer, "RCPT TO:<you@example.org>", "452 4.5.3 *")
            self.assertEqual(len(self.world.resolver.asked), asked)
            self.check(peer, "DATA", "354 *")
        peer = self.begin(sender="<a@example.net>")
        for _ in range(3):
            self.check(peer, "RCPT TO:<you@example.org>", "250 *")

    def test_tls_required(self) -> None:
        peer = self.begin(require_tls_to_send=True)
        self.check(peer, "RCPT TO:<me@example.org>", "530 5.7.0 *")
        self.check(peer, "RCPT TO:<tlsrpt@example.org>", "250 *")
        self.check(peer, "RCPT TO:<tlsreports@mail.example.org>", "250 *")
        peer = self.begin(require_tls_to_send=True, tls=True)
        self.check(peer, "RCPT TO:<me@example.org>", "250 *")

    def test_data_without_recipient(self) -> None:
        peer = self.begin()
        self.check(peer, "DATA", "503 5.5.1 *")
        self.check(peer, "RCPT TO:<me@example.org>", "250 *")
        self.check(peer, "DATA x", "501 5.5.2 *")
        self.check(peer, "DATA", "354 *")


class LocalserveTests(Base):
    localserve = True

    dynamic = DYNAMIC + MOX

    def test_senders_of_any_domain(self) -> None:
        self.check(self.hello(), "MAIL FROM:<root@no-such-host.example>", "250 *")
        self.check(self.hello(), "MAIL FROM:<root@null.example>", "550 5.7.27 *")

    def test_everything_is_for_the_one_account(self) -> None:
        peer = self.hello()
        peer.transcript("""
        C: MAIL FROM:<a@anywhere.example>
        S: 250 *
        C: RCPT TO:<someone@elsewhere.example>
        S: 250 *
        C: RCPT TO:<nobody@example.org>
        S: 250 *
        C: DATA
        S: 354 *
        C: x: y\\r\\n\\r\\n.
        S: 250 *
        """)
        self.assertEqual(len(self.world.mailbox("mox")), 2)

    def test_failures_as_asked_for(self) -> None:
        peer = self.hello()
        for line, reply in (
            ("MAIL FROM:<mailfromtemperror@example.net>", "451 *"),
            ("MAIL FROM:<mailfrompermerror@example.net>", "550 *"),
            ("MAIL FROM:<mailfrom453@example.net>", "453 4.3.0 *"),
            ("MAIL FROM:<a452@example.net>", "250 *"),
            ("RCPT TO:<rcpttotemperror@example.org>", "451 *"),
            ("RCPT TO:<rcptto557@example.org>", "557 5.3.0 *"),
            ("RCPT TO:<a557@example.org>", "250 *"),
            ("DATA", "354 *"),
            ("x: y\\r\\n\\r\\n.", "557 5.3.0 *"),
        ):
            self.check(peer, line, reply)

    def test_timeout_as_asked_for(self) -> None:
        peer = self.hello()
        peer.transcript("""
        C: MAIL FROM:<mailfromtimeout@example.net>
        T: 1800
        T: 1799
        S: <open>
        T: 1
        S: 451 *
        """)

    def test_submission_to_anybody(self) -> None:
        peer = self.hello("submission")
        peer.protocol.login = Login("mox", 1, "mox@example.org")
        for line, reply in (
            ("MAIL FROM:<mox@example.org>", "250 *"),
            ("RCPT TO:<nobody@example.org>", "250 *"),
            ("RCPT TO:<queuetemperror@example.net>", "250 *"),
            ("DATA", "354 *"),
            ("From: <me@example.org>\\r\\n\\r\\nx\\r\\n.", "250 2.2.0 *"),
        ):
            self.check(peer, line, reply)
        [request] = self.world.submitted
        self.assertEqual(
            request.recipients,
            [parse_path("nobody@example.org"), parse_path("queuetemperror@example.net")],
        )

    def test_faults_of_messages_are_told_when_pedantic(self) -> None:
        for content, reply in (
            ("Subject: x\\r\\nnonsense\\r\\n\\r\\nbody", "554 5.6.0 *malformed header line*"),
            ("Content-Type: multipart/mixed\\r\\n\\r\\nx", "554 5.6.0 *boundary*"),
            ("just text", "250 *"),
        ):
            peer = self.hello(pedantic=True)
            peer.transcript(f"""
            C: MAIL FROM:<a@example.net>
            S: 250 *
            C: RCPT TO:<anybody@example.com>
            S: 250 *
            C: DATA
            S: 354 *
            C: {content}
            C: .
            S: {reply}
            """)
        peer = self.hello()
        peer.transcript("""
        C: MAIL FROM:<a@example.net>
        S: 250 *
        C: RCPT TO:<anybody@example.com>
        S: 250 *
        C: DATA
        S: 354 *
        C: Subject: x\\r\\nnonsense\\r\\n
        C: .
        S: 250 *
        """)
