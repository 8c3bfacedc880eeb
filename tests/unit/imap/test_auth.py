"""Logging in: every mechanism, failures, certificates, STARTTLS."""

from __future__ import annotations

import base64
from dataclasses import replace

from moxtw.imap import auth
from moxtw.imap.context import IMAPListener
from moxtw.sasl import client as sasl_client
from moxtw.store import credentials
from moxtw.store.credentials import TLSKey
from tests.support.store import job
from tests.unit.imap.support import ADDRESS, PASSWORD, Client, IMAPTestCase


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


PLAIN = b64(b"\0me@example.org\0" + PASSWORD.encode())


class AuthTestCase(IMAPTestCase):
    def fresh(self, listener: IMAPListener | None = None) -> Client:
        client = self.connect(listener=listener)
        client.output()
        return client

    def attempts(self) -> list[tuple[str, str]]:
        rows = job(self.store, credentials.attempts)
        return [(row[-2], row[-1]) for row in rows]

    def exchange(self, mechanism: str, password: str = PASSWORD, user: str = ADDRESS) -> list[str]:
        client = self.fresh()
        machine = sasl_client.start(
            sasl_client.Choice(mechanism, False), sasl_client.Credentials(user, password)
        )
        initial = machine.initial()
        client.send(
            f"a AUTHENTICATE {mechanism}{' ' + b64(initial) if initial else ''}\r\n".encode()
        )
        lines = client.lines()
        while lines and lines[-1].startswith("+"):
            response = machine.step(base64.b64decode(lines[-1][2:]))
            client.send(b64(response or b"").encode() + b"\r\n")
            lines = client.lines()
        return lines


class LoginTests(AuthTestCase):
    def test_wrong_password_and_user(self) -> None:
        self.transcript(
            self.fresh(),
            """
            C: a LOGIN me@example.org wrong
            S: a NO [AUTHENTICATIONFAILED] wrong user or password
            C: b LOGIN nobody@example.org x
            S: b NO [AUTHENTICATIONFAILED] wrong user or password
            C: c LOGIN me@example.org
            S: c BAD argument missing
            """,
        )
        self.assertIn(("login", "badpassword"), self.attempts())
        self.assertIn(("login", "baduser"), self.attempts())

    def test_password_forms(self) -> None:
        client = self.fresh()
        client.send(b"a LOGIN {14}\r\n")
        self.assertEqual(client.lines(), ["+ go on"])
        client.send(b"me@example.org {15}\r\n")
        self.assertEqual(client.lines(), ["+ go on"])
        client.send(PASSWORD.encode() + b"\r\n")
        self.assertTrue(client.lines()[0].startswith("a OK"))

    def test_disabled_account(self) -> None:
        self.transcript(
            self.fresh(),
            """
            C: a LOGIN gone@example.org "secret password"
            S: a NO [AUTHENTICATIONFAILED] account is on leave
            C: b LOGIN gone@example.org wrong
            S: b NO [AUTHENTICATIONFAILED] wrong user or password
            """,
        )
        self.assertIn(("login", "logindisabled"), self.attempts())

    def test_needs_tls(self) -> None:
        client = self.connect(listener=replace(self.listener, plain_allowed=False))
        greeting = client.lines()[0]
        self.assertIn(" LOGINDISABLED", greeting)
        self.assertNotIn("AUTH=PLAIN", greeting)
        self.transcript(
            client,
            f"""
            C: a LOGIN me@example.org "secret password"
            S: a NO [PRIVACYREQUIRED] …
            C: b AUTHENTICATE PLAIN {PLAIN}
            S: b NO [PRIVACYREQUIRED] …
            C: c STARTTLS
            S: c BAD TLS is not available here
            """,
        )

    def test_failures_make_the_connection_slow(self) -> None:
        client = self.fresh()
        for _ in range(2):
            client.command("LOGIN me@example.org wrong")
        client.send(b"a LOGIN me@example.org wrong\r\n")
        # From the third failure on, a byte a second.
        self.clock.advance(0)
        self.assertEqual(client.output(), b"a")
        self.clock.pump([1] * 3)
        self.assertEqual(client.output(), b" NO")
        self.clock.pump([1] * 30)
        client.output()
        # Reading waits a second; then writing is slow until the login succeeds.
        client.send(f'b LOGIN {ADDRESS} "{PASSWORD}"\r\n'.encode())
        self.assertEqual(client.output(), b"")
        self.clock.advance(1)
        self.assertTrue(client.output().startswith(b"b OK"))
        self.assertTrue(client.command("NOOP")[0].startswith("t OK"))

    def test_more_failures_wait_before_the_next(self) -> None:
        client = self.fresh()
        client.protocol.login.failures = 5
        client.send(f'b LOGIN {ADDRESS} "{PASSWORD}"\r\n'.encode())
        self.clock.advance(1)
        self.assertEqual(client.output(), b"")
        self.clock.advance(1)
        self.assertTrue(client.output().startswith(b"b OK"))

    def test_record_waits_for_the_name_of_the_client(self) -> None:
        client = self.login()
        self.assertEqual(self.attempts(), [])
        client.ok('ID ("name" "tester" "version" "7")')
        [row] = job(self.store, credentials.attempts)
        self.assertIn('name="tester" version="7"', row)
        client = self.login()
        self.clock.advance(1)
        self.assertEqual(len(self.attempts()), 2)
        client = self.login()
        client.transport.loseConnection()
        client = self.login()
        client.ok("NOOP")
        counts = [row[3] for row in job(self.store, credentials.attempts)]
        self.assertEqual(sorted(counts), [1, 3])


class MechanismTests(AuthTestCase):
    def test_all(self) -> None:
        for mechanism in ("PLAIN", "CRAM-MD5", "SCRAM-SHA-1", "SCRAM-SHA-256"):
            lines = self.exchange(mechanism)
            self.assertTrue(lines[-1].startswith("a OK [CAPABILITY "), (mechanism, lines))
        self.clock.advance(2)
        self.assertEqual(
            {result for _, result in self.attempts()}, {"ok"}
        )

    def test_wrong_password(self) -> None:
        for mechanism in ("PLAIN", "CRAM-MD5", "SCRAM-SHA-1", "SCRAM-SHA-256"):
            for user in (ADDRESS, "nobody@example.org"):
                lines = self.exchange(mechanism, "another one", user)
                self.assertEqual(
                    lines[-1], "a NO [AUTHENTICATIONFAILED] wrong user or password", mechanism
                )

    def test_plain(self) -> None:
        other = b64(b"other@example.org\0me@example.org\0" + PASSWORD.encode())
        self.transcript(
            self.fresh(),
            """
            C: a AUTHENTICATE PLAIN
            S: +…
            C: *
            S: a BAD authentication given up
            C: b AUTHENTICATE PLAIN
            S: +…
            C: !!!
            S: b BAD response is not base64
            """,
        )
        self.transcript(
            self.fresh(),
            f"""
            C: c AUTHENTICATE PLAIN {b64(b"x")}
            S: c BAD PLAIN needs three fields
            C: d AUTHENTICATE PLAIN {other}
            S: d NO [AUTHORIZATIONFAILED] cannot act as another user
            C: e AUTHENTICATE plain
            S: +…
            C: {PLAIN}
            S: e OK [CAPABILITY …] welcome
            """,
        )
        self.assertIn(("plain", "aborted"), self.attempts())
        self.assertIn(("plain", "badprotocol"), self.attempts())

    def test_unknown_mechanisms(self) -> None:
        self.transcript(
            self.fresh(),
            """
            C: a AUTHENTICATE NOPE
            S: a NO this mechanism is not available
            C: b AUTHENTICATE LOGIN
            S: b NO this mechanism is not available
            C: c AUTHENTICATE EXTERNAL =
            S: c NO [PRIVACYREQUIRED] …
            C: d AUTHENTICATE SCRAM-SHA-256-PLUS
            S: d NO [PRIVACYREQUIRED] …
            """,
        )
        self.transcript(
            self.fresh(),
            """
            C: e AUTHENTICATE CRAM-MD5 abcd
            S: e BAD …
            C: f AUTHENTICATE
            S: f BAD argument missing
            """,
        )

    def test_missing_secret_is_not_counted(self) -> None:
        verifiers = job(self.store, credentials.verifiers, self.account.id)
        job(self.store, credentials.set_password, self.account.id,
            replace(verifiers, cram_md5=None))  # fmt: skip
        lines = self.exchange("CRAM-MD5")
        self.assertIn("[AUTHENTICATIONFAILED] no secret", lines[-1])
        self.assertTrue(self.failed_auth.can_add("192.0.2.7", self.clock.seconds(), 10))

    def test_failures_of_all_kinds_count(self) -> None:
        client = self.fresh()
        for response in (b"*", b"!", b64(b"no fields").encode()):
            client.send(b"a AUTHENTICATE PLAIN\r\n")
            client.send(response + b"\r\n")
        self.assertEqual(client.protocol.login.failures, 3)
        self.assertTrue(client.protocol.slow)
        now = self.clock.seconds()
        self.assertTrue(self.failed_auth.can_add("192.0.2.7", now, 7))
        self.assertFalse(self.failed_auth.can_add("192.0.2.7", now, 8))
        # A success takes them back.
        self.login()
        self.clock.advance(2)
        self.assertTrue(self.failed_auth.can_add("192.0.2.7", now, 10))

    def test_channel_binding_that_differs_counts(self) -> None:
        client = self.fresh()
        first = b64(b"p=tls-exporter,,n=me@example.org,r=abcdefgh")
        client.send(f"a AUTHENTICATE SCRAM-SHA-256 {first}\r\n".encode())
        self.assertTrue(client.lines()[-1].startswith("a NO [AUTHENTICATIONFAILED]"))
        self.assertIn(("scram-sha-256", "badchanbind"), self.attempts())
        self.assertFalse(self.failed_auth.can_add("192.0.2.7", self.clock.seconds(), 10))

    def test_scram_ends_with_an_empty_line(self) -> None:
        for last, reply in ((b"", "a OK"), (b"*", "a BAD"), (b"eA==", "a BAD"), (b"=", "a BAD")):
            client = self.fresh()
            machine = sasl_client.start(
                sasl_client.Choice("SCRAM-SHA-256", False),
                sasl_client.Credentials(ADDRESS, PASSWORD),
            )
            client.send(b"a AUTHENTICATE SCRAM-SHA-256\r\n")
            self.assertEqual(client.lines(), ["+ "])
            client.send(b64(machine.initial() or b"").encode() + b"\r\n")
            challenge = base64.b64decode(client.lines()[0][2:])
            client.send(b64(machine.step(challenge) or b"").encode() + b"\r\n")
            [line] = client.lines()
            self.assertTrue(base64.b64decode(line[2:]).startswith(b"v="))
            client.send(last + b"\r\n")
            [line] = client.lines()
            self.assertTrue(line.startswith(reply), (last, line))

    def test_pipelined_responses(self) -> None:
        client = self.fresh()
        client.send(f"a AUTHENTICATE PLAIN\r\n{PLAIN}\r\nb NOOP\r\n".encode())
        lines = client.lines()
        self.assertEqual(lines[0], "+ ")
        self.assertTrue(lines[1].startswith("a OK [CAPABILITY "))
        self.assertEqual(lines[2:], ["b OK NOOP done"])

    def test_only_before_login(self) -> None:
        client = self.login()
        for command in ("LOGIN a b", "STARTTLS", f"AUTHENTICATE PLAIN {PLAIN}"):
            self.assertTrue(client.command(command)[-1].startswith("t NO "), command)

    def test_long_response(self) -> None:
        client = self.fresh()
        client.send(b"a AUTHENTICATE PLAIN\r\n" + b"A" * 20_000)
        self.assertTrue(client.closed)

    def test_disabled_account_with_scram(self) -> None:
        lines = self.exchange("SCRAM-SHA-256", user="gone@example.org")
        self.assertEqual(lines[-1], "a NO [AUTHENTICATIONFAILED] account is on leave")


class CertificateTests(AuthTestCase):
    """With TLS made up: the transport says what the certificate's key is."""

    def setUp(self) -> None:
        super().setUp()
        self.fingerprint: str | None = "fp"
        self.patch(auth, "tls_connection", lambda transport: object())
        self.patch(auth, "tls_info", lambda connection: _Info)
        self.patch(auth, "peer_fingerprint", lambda connection: self.fingerprint)
        self.patch(auth, "channel_binding", lambda connection: None)
        self.listener = replace(self.listener, client_auth=True)
        self.add_key("fp", "me", ADDRESS)

    def add_key(self, fingerprint: str, account: str, address: str, preauth: bool = True) -> None:
        key = TLSKey(fingerprint, 1, "ed25519", "k", not preauth, b"", account, address)
        job(self.store, credentials.add_tls_key, key)
        from twisted.internet.defer import Deferred

        Deferred.fromCoroutine(self.authenticator.reload_keys())

    def connect_secure(self) -> Client:
        client = self.connect(listener=self.listener)
        type(client.protocol).secure  # noqa: B018 - the property is there
        return client

    def test_preauth(self) -> None:
        client = self.connect_secure()
        [line] = client.lines()
        self.assertTrue(line.startswith("* PREAUTH [CAPABILITY "), line)
        self.assertIn("AUTH=EXTERNAL", line)
        client.ok("SELECT Inbox")
        self.assertIn(("tlsclientauth", "ok"), self.attempts())

    def test_without_preauth(self) -> None:
        self.add_key("fp2", "me", "alias@example.org", preauth=False)
        self.fingerprint = "fp2"
        client = self.connect_secure()
        self.assertTrue(client.lines()[0].startswith("* OK "))
        self.patch(type(client.protocol), "secure", True)
        self.transcript(
            client,
            f"""
            C: a AUTHENTICATE EXTERNAL {b64(b"other@example.org")}
            S: a NO [AUTHENTICATIONFAILED] …
            C: b LOGIN other@example.org "secret password"
            S: b NO [AUTHENTICATIONFAILED] the TLS client certificate is of another account
            C: c AUTHENTICATE EXTERNAL =
            S: c OK [CAPABILITY …] welcome
            """,
        )
        assert client.protocol.session is not None
        self.assertEqual(client.protocol.session.login_address, "alias@example.org")

    def test_external_for_another_address_of_the_account(self) -> None:
        self.add_key("fp2", "me", "alias@example.org", preauth=False)
        self.fingerprint = "fp2"
        client = self.connect_secure()
        client.output()
        self.patch(type(client.protocol), "secure", True)
        client.send(f"a AUTHENTICATE EXTERNAL {b64(ADDRESS.encode())}\r\n".encode())
        self.assertTrue(client.lines()[0].startswith("a OK "))
        assert client.protocol.session is not None
        self.assertEqual(client.protocol.session.login_address, ADDRESS)

    def test_unknown_key_of_a_resumed_session(self) -> None:
        self.fingerprint = "unknown"
        client = self.connect_secure()
        self.assertEqual(
            client.lines(), ["* BYE [ALERT] your TLS client certificate is not known"]
        )
        self.assertTrue(client.closed)

    def test_certificate_is_not_looked_at_after_too_many_failures(self) -> None:
        client = self.fresh()
        self.failed_auth.add("192.0.2.7", self.clock.seconds(), 10)
        client.protocol.login.fingerprint = None
        client.protocol.listener = self.listener
        from twisted.internet.defer import Deferred

        Deferred.fromCoroutine(auth.look_at_certificate(client.protocol, preauth=False))
        self.assertIsNone(client.protocol.login.fingerprint)
        self.failed_auth.reset("192.0.2.7", self.clock.seconds())
        Deferred.fromCoroutine(auth.look_at_certificate(client.protocol, preauth=False))
        self.assertEqual(client.protocol.login.fingerprint, "fp")

    def test_no_certificate(self) -> None:
        self.fingerprint = None
        [line] = self.connect_secure().lines()
        self.assertTrue(line.startswith("* OK "))
        self.assertNotIn("AUTH=EXTERNAL", line)

    def test_not_looked_at_when_disabled(self) -> None:
        listener = replace(self.listener, client_auth=False)
        self.assertTrue(self.connect(listener=listener).lines()[0].startswith("* OK "))


class _Info:
    text = "version=TLS1.3"
