"""AUTH with each mechanism, and login by TLS client certificate."""

from __future__ import annotations

import base64
from typing import Any
from unittest.mock import patch

from moxtw.sasl import client
from moxtw.sasl.errors import SASLError
from moxtw.store import credentials
from moxtw.store.schema import login_attempts
from tests.support.smtp import PASSWORD, now_or_later
from tests.support.store import job
from tests.support.transcript import Peer
from tests.unit.smtp.test_transaction import TLS, Base


def b64(text: str | bytes) -> str:
    return base64.b64encode(text.encode() if isinstance(text, str) else text).decode()


def plain(username: str, password: str = PASSWORD, authzid: str = "") -> str:
    return b64(f"{authzid}\0{username}\0{password}")


def start_client(
    mechanism: str, username: str, password: str, **options: Any
) -> client.ClientMechanism:
    credentials = client.Credentials(username, password, **options)
    return client.start(client.Choice(mechanism), credentials)


class AuthBase(Base):
    def attempts(self) -> list[tuple[Any, ...]]:
        """(mechanism, result, account, address) of the login attempts on record."""
        rows = job(self.world.store, credentials.attempts)
        names = [column.name for column in login_attempts.c]
        wanted = [names.index(n) for n in ("auth_mech", "result", "account", "login_address")]
        return [tuple(row[i] for i in wanted) for row in rows]

    def scram(
        self,
        peer: Peer,
        mechanism: str,
        username: str = "me@example.org",
        password: str = PASSWORD,
        **options: Any,
    ) -> list[str]:
        """Run SCRAM; the last reply's lines."""
        machine = start_client(mechanism, username, password, **options)
        reply = peer.ask(f"AUTH {mechanism} {b64(machine.initial())}")
        while reply[-1].startswith("334 "):
            try:
                reply = peer.ask(b64(machine.step(base64.b64decode(reply[-1][4:]))))
            except SASLError:
                reply = peer.ask("*")
        return reply


class PasswordTests(AuthBase):
    def test_plain(self) -> None:
        for username in ("me@example.org", "ME+anything@Example.org", "møx@bücher.example"):
            peer = self.hello("submission")
            self.check(peer, f"AUTH PLAIN {plain(username)}", "235 2.7.0 *")
            self.assertEqual(peer.protocol.login.account, "me")
        self.check(peer, "MAIL FROM:<me@example.org>", "250 *")

    def test_plain_in_two_steps(self) -> None:
        peer = self.hello("submission")
        self.check(peer, "AUTH plain", "334 ")
        self.check(peer, plain("me@example.org", authzid="me@example.org"), "235 *")

    def test_login(self) -> None:
        peer = self.hello("submission")
        peer.transcript(f"""
        C: AUTH LOGIN
        S: 334 {b64("Username:")}
        C: {b64("me@example.org")}
        S: 334 {b64("Password:")}
        C: {b64(PASSWORD)}
        S: 235 2.7.0 *
        """)

    def test_login_with_initial_response(self) -> None:
        peer = self.hello("submission")
        peer.transcript(f"""
        C: AUTH LOGIN {b64("me@example.org")}
        S: 334 {b64("Password:")}
        C: {b64(PASSWORD)}
        S: 235 *
        """)

    def test_refused(self) -> None:
        peer = self.hello("submission")
        for line, reply in (
            (f"AUTH PLAIN {plain('me@example.org', 'wrong')}", "535 5.7.8 *"),
            (f"AUTH PLAIN {plain('nobody@example.org')}", "535 5.7.8 *"),
            (f"AUTH PLAIN {plain('team@example.org')}", "535 5.7.8 *"),
            (f"AUTH PLAIN {plain('postmaster@example.org')}", "535 5.7.8 *"),
            (f"AUTH PLAIN {plain('me@example.org', authzid='you@example.org')}", "535 5.7.8 *"),
            (f"AUTH PLAIN {plain('locked@example.org')}", "525 5.7.13 *out of office (*)"),
            (f"AUTH PLAIN {plain('locked@example.org', 'wrong')}", "535 5.7.8 *"),
            (f"AUTH PLAIN {b64('me@example.org')}", "501 5.5.2 *"),
            ("AUTH PLAIN", "334 "),
            ("*", "501 5.5.0 *"),
            ("AUTH PLAIN *", "501 5.5.0 *"),
            ("AUTH PLAIN ", "501 5.5.2 *"),
            ("AUTH PLAIN !", "501 5.5.2 *"),
            ("AUTH PLAIN", "334 "),
            ("!", "501 5.5.2 *"),
            ("AUTH PLAIN =", "501 5.5.2 *"),
            ("AUTH NTLM", "504 5.5.4 *"),
            ("AUTH", "501 5.5.2 *"),
            ("AUTH EXTERNAL", "538 5.7.11 *"),
            ("AUTH SCRAM-SHA-256-PLUS", "538 5.7.11 *"),
        ):
            if not line.startswith("AUTH") and line in "*!":
                self.check(peer, line, reply)
                continue
            peer = self.hello("submission", ip="198.51.100.7")
            self.check(peer, line, reply)
            self.world.failed_auth.reset("198.51.100.7", self.world.clock.seconds())

    def test_disabled_domain_can_log_in(self) -> None:
        peer = self.hello("submission")
        self.check(peer, f"AUTH PLAIN {plain('off@disabled.example')}", "235 *")

    def test_extra_spaces_before_the_response(self) -> None:
        peer = self.hello("submission")
        self.check(peer, f"AUTH PLAIN   {plain('me@example.org')}", "235 *")

    def test_only_once_and_not_in_a_transaction(self) -> None:
        peer = self.hello("submission")
        line = f"AUTH PLAIN {plain('me@example.org')}"
        self.check(peer, line, "235 *")
        self.check(peer, line, "503 5.5.1 *")
        peer = self.user()
        self.check(peer, "MAIL FROM:<me@example.org>", "250 *")
        self.check(peer, line, "503 5.5.1 *")

    def test_tls_needed(self) -> None:
        peer = self.hello("submission", require_tls_to_send=True)
        self.check(peer, f"AUTH PLAIN {plain('me@example.org')}", "538 5.7.11 *")
        self.check(peer, "AUTH LOGIN", "538 5.7.11 *")
        self.assertTrue(self.scram(peer, "SCRAM-SHA-256")[0].startswith("235 "))

    def test_not_on_delivery_ports(self) -> None:
        self.check(self.hello(), f"AUTH PLAIN {plain('me@example.org')}", "503 5.5.1 *")

    def test_attempts_are_recorded(self) -> None:
        peer = self.hello("submission")
        for line in (
            f"AUTH PLAIN {plain('me@example.org', 'wrong')}",
            f"AUTH PLAIN {plain('nobody@example.org')}",
            "AUTH LOGIN *",
            f"AUTH PLAIN {plain('me@example.org')}",
        ):
            peer.ask(line)
        self.assertEqual(
            sorted(self.attempts()),
            sorted(
                [
                    ("plain", "badpassword", "me", "me@example.org"),
                    ("plain", "baduser", "-", "nobody@example.org"),
                    ("login", "aborted", "-", ""),
                    ("plain", "ok", "me", "me@example.org"),
                ]
            ),
        )

    def test_connection_lost_in_the_exchange(self) -> None:
        peer = self.hello("submission")
        self.check(peer, "AUTH PLAIN", "334 ")
        peer.disconnect()
        self.assertEqual([a[:2] for a in self.attempts()], [("plain", "aborted")])
        self.assertEqual(self.flushLoggedErrors(), [])

    def test_timeout_in_the_exchange(self) -> None:
        peer = self.hello("submission")
        peer.transcript("""
        C: AUTH PLAIN
        S: 334\x20
        T: 31
        S: 421 4.4.2 *
        S: <closed>
        """)

    def test_many_failures(self) -> None:
        peer = self.hello("submission")
        wrong = f"AUTH PLAIN {plain('me@example.org', 'wrong')}"
        self.check(peer, wrong, "535 *")
        self.check(peer, wrong, "535 *")
        self.assertFalse(peer.protocol.slow)
        # From the third on, everything is slow.
        peer.send(wrong.encode() + b"\r\n")
        self.assertEqual(peer.received(), b"5")
        self.assertTrue(peer.protocol.slow)
        self.world.clock.pump([1] * 30)
        peer.received()
        peer.send(f"AUTH PLAIN {plain('me@example.org')}\r\n".encode())
        self.world.clock.pump([1] * 3)
        self.assertTrue(peer.received().startswith(b"235 "))
        self.assertFalse(peer.protocol.slow)
        self.assertEqual(peer.transport.producerState, "producing")

    def test_waiting_before_the_check_after_more_than_three_failures(self) -> None:
        peer = self.hello("submission")
        peer.protocol.failed_auths = 5
        peer.transcript(f"""
        C: AUTH PLAIN {plain("me@example.org")}
        T: 1.9
        S: <open>
        T: 0.1
        S: 235 *
        """)

    def test_limit_reached_on_an_open_connection(self) -> None:
        peer = self.hello("submission")
        for _ in range(10):
            self.world.failed_auth.add("192.0.2.1", self.world.clock.seconds())
        peer.transcript(f"""
        C: AUTH PLAIN {plain("me@example.org")}
        S: 421 4.7.0 *
        S: <closed>
        """)


class ChallengeTests(AuthBase):
    def test_cram_md5(self) -> None:
        for username, password, reply in (
            ("me@example.org", PASSWORD, "235 "),
            ("me@example.org", "wrong", "535 5.7.8"),
            ("nobody@example.org", PASSWORD, "535 5.7.8"),
            ("locked@example.org", PASSWORD, "525 5.7.13"),
        ):
            peer = self.hello("submission")
            [challenge] = peer.ask("AUTH CRAM-MD5")
            machine = start_client("CRAM-MD5", username, password)
            [got] = peer.ask(b64(machine.step(base64.b64decode(challenge[4:]))))
            self.assertTrue(got.startswith(reply), got)

    def test_scram(self) -> None:
        for mechanism in ("SCRAM-SHA-1", "SCRAM-SHA-256"):
            for username, password, reply in (
                ("me@example.org", PASSWORD, "235 "),
                ("me@example.org", "wrong", "535 5.7.8"),
                ("nobody@example.org", PASSWORD, "454 4.3.0"),
                ("locked@example.org", PASSWORD, "525 5.7.13"),
            ):
                with self.subTest(mechanism=mechanism, username=username, password=password):
                    peer = self.hello("submission")
                    got = self.scram(peer, mechanism, username, password)
                    self.assertTrue(got[-1].startswith(reply), got)

    def test_scram_plus(self) -> None:
        for name in ("tls-exporter", "tls-unique"):
            peer = self.hello("submission", tls=True)
            with (
                patch("moxtw.smtp.auth.tls_connection", return_value=object()),
                patch("moxtw.smtp.auth.channel_binding", return_value=(name, b"data")),
            ):
                got = self.scram(peer, "SCRAM-SHA-256-PLUS", channel_binding=(name, b"data"))
                self.assertTrue(got[-1].startswith("235 "), got)
                peer = self.hello("submission", tls=True)
                got = self.scram(peer, "SCRAM-SHA-256-PLUS", channel_binding=(name, b"other"))
                self.assertTrue(got[-1].startswith("535 5.7.7"), got)

    def test_scram_errors(self) -> None:
        for line, reply in (
            ("n,,n=me@example.org,r=12345678", "334 *"),
            ("garbage", "455 4.7.0 *"),
            ("n,,n=me@example.org,r=1234567", "455 4.7.0 *"),
            ("y,,n=me@example.org,r=12345678", "535 5.7.7 *"),
            ("n,a=you@example.org,n=me@example.org,r=12345678", "535 5.7.8 *"),
        ):
            peer = self.hello("submission", ip="198.51.100.8")
            self.check(peer, f"AUTH SCRAM-SHA-256 {b64(line)}", reply)

    def test_scram_of_unknown_users_ends_at_once(self) -> None:
        first = b64("n,,n=nobody@example.org,r=12345678")
        for mechanism in ("SCRAM-SHA-1", "SCRAM-SHA-256"):
            peer = self.hello("submission", ip="198.51.100.8")
            self.check(peer, f"AUTH {mechanism} {first}", "454 4.3.0 *")
            self.check(peer, "NOOP", "250 *")
        with patch("moxtw.store.credentials.verifiers", return_value=None):
            first = b64("n,,n=me@example.org,r=12345678")
            peer = self.hello("submission", ip="198.51.100.8")
            self.check(peer, f"AUTH SCRAM-SHA-256 {first}", "454 4.3.0 *")

    def test_scram_bad_last_message(self) -> None:
        peer = self.hello("submission")
        self.check(peer, f"AUTH SCRAM-SHA-256 {b64('n,,n=me@example.org,r=12345678')}", "334 *")
        self.check(peer, b64("garbage"), "334 *")
        self.check(peer, "*", "535 5.7.0 *")

    def test_missing_verifier_is_no_failure_of_the_client(self) -> None:
        with patch("moxtw.store.credentials.verifiers", return_value=None):
            peer = self.hello("submission")
            got = self.scram(peer, "SCRAM-SHA-256")
        self.assertTrue(got[-1].startswith("454 4.3.0"), got)
        self.assertEqual(peer.protocol.failed_auths, 0)


class CertificateTests(AuthBase):
    def setUp(self) -> None:
        super().setUp()
        job(
            self.world.store,
            credentials.add_tls_key,
            credentials.TLSKey(
                fingerprint="f1",
                created=0,
                type="ed25519",
                name="test",
                no_imap_preauth=False,
                cert_der=b"",
                account="me",
                login_address="me@example.org",
            ),
        )
        now_or_later(self.world.authenticator.reload_keys())

    def secure(self, fingerprint: str | None = "f1") -> Peer:
        """A connection with TLS from the start and this client certificate."""
        self.patch_tls(fingerprint)
        peer = self.world.peer("submissions", client_certificates=True, require_tls_to_send=True)
        self.assertEqual(peer.received(), b"")
        peer.protocol.handshakeCompleted()
        return peer

    def patch_tls(self, fingerprint: str | None) -> None:
        for name, value in (
            ("moxtw.smtp.auth.tls_connection", object()),
            ("moxtw.smtp.server.tls_connection", object()),
            ("moxtw.smtp.server.tls_info", TLS),
            ("moxtw.smtp.auth.peer_fingerprint", fingerprint),
        ):
            patcher = patch(name, return_value=value)
            patcher.start()
            self.addCleanup(patcher.stop)

    def test_known_key_logs_in_at_once(self) -> None:
        peer = self.secure()
        peer.transcript("""
        S: 220 *
        C: EHLO x
        S: 250-mail.example.org
        S: 250-PIPELINING
        S: 250-SIZE *
        S: 250-REQUIRETLS
        S: 250-AUTH EXTERNAL SCRAM-SHA-256-PLUS *
        S: *
        C: MAIL FROM:<me@example.org>
        S: 250 *
        """)
        self.assertEqual([a[:3] for a in self.attempts()], [("tlsclientauth", "ok", "me")])

    def test_external(self) -> None:
        for response, reply in (
            ("=", "235 *"),
            (b64("me@example.org"), "235 *"),
            (b64("møx@bücher.example"), "235 *"),
            (b64("you@example.org"), "535 5.7.8 *"),
            (b64("nobody@example.org"), "535 5.7.8 *"),
        ):
            peer = self.secure()
            peer.transcript("S: 220 *\nC: EHLO x\nS: *")
            self.check(peer, f"AUTH EXTERNAL {response}", reply)

    def test_external_without_certificate(self) -> None:
        peer = self.secure(None)
        peer.transcript("S: 220 *\nC: EHLO x\nS: *")
        self.check(peer, "AUTH EXTERNAL =", "535 5.7.8 *")
        self.check(peer, "MAIL FROM:<me@example.org>", "530 *")

    def test_other_login_of_the_same_account_only(self) -> None:
        peer = self.secure()
        peer.transcript("S: 220 *\nC: EHLO x\nS: *")
        self.check(peer, f"AUTH PLAIN {plain('you@example.org')}", "535 5.7.8 *")
        self.check(peer, f"AUTH PLAIN {plain('møx@bücher.example')}", "235 *")

    def test_unknown_key_ends_the_connection(self) -> None:
        peer = self.secure("unknown")
        self.assertTrue(peer.transport.aborted)
        self.assertEqual([a[:2] for a in self.attempts()], [("tlsclientauth", "badcreds")])

    def test_certificate_is_ignored_after_many_failures(self) -> None:
        for _ in range(9):
            self.world.failed_auth.add("192.0.2.1", self.world.clock.seconds())
        peer = self.secure()
        self.assertIsNotNone(peer.protocol.login)
        for _ in range(10):
            self.world.failed_auth.add("192.0.2.1", self.world.clock.seconds())
        peer = self.secure()
        self.assertIsNone(peer.protocol.login)
        peer.transcript("""
        S: 421 4.7.0 *
        S: <closed>
        """)

    def test_handshake_timeout(self) -> None:
        peer = self.world.peer("submissions")
        self.world.clock.advance(59)
        self.assertFalse(peer.transport.aborted)
        self.world.clock.advance(1)
        self.assertTrue(peer.transport.aborted)

