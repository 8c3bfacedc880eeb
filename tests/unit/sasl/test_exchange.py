"""Servers and clients, with each other and against the examples of the RFCs."""

from base64 import b64decode

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from moxtw.sasl import client, errors, precis, scram, server
from moxtw.sasl.client import Choice, Credentials
from moxtw.sasl.cram import CramSecret
from moxtw.sasl.scram import ScramSecret
from moxtw.sasl.server import (
    Challenge,
    NeedCram,
    NeedExternal,
    NeedPassword,
    NeedScram,
    Success,
)

BINDING = ("tls-exporter", b"\0channel data\xff")
SCRAMS = [name for name in server.MECHANISMS if name.startswith("SCRAM")]
TEXT = st.text(
    st.characters(min_codepoint=0x20, max_codepoint=0x2FF,
                  # U+00B7 is allowed between two "l" only (RFC 5892 A.3).
                  exclude_characters="\x7f\xb7",
                  exclude_categories=["Cc", "Cs", "Cf", "Zs"]),
    min_size=1, max_size=20,
)  # fmt: skip


def begin(mechanism, **options):
    return server.start(
        mechanism, **({"tls": True, "channel_binding": BINDING, "external": "key"} | options)
    )


def answer(machine, step, username, password):
    """Look up what the server needs, among one user."""
    match step:
        case NeedPassword():
            return machine.supply_password((step.username, step.password) == (username, password))
        case NeedScram():
            known = step.username == username
            secret = ScramSecret.derive(step.hash_name, password, iterations=2) if known else None
            return machine.supply_scram(secret)
        case NeedCram():
            known = step.username == username
            return machine.supply_cram(CramSecret.derive(password) if known else None)
        case NeedExternal():
            return machine.supply_external(username if step.authzid in ("", username) else None)
    return step


def converse(machine, peer, username, password, *, initial=True):
    """Let client and server talk to the end; return the server's success."""
    response = peer.initial() if initial else None
    for _ in range(8):
        step = machine.step(response)
        step = answer(machine, step, username, password)
        if isinstance(step, Success):
            if step.data is not None:
                assert peer.step(step.data) == b""
            peer.finish()
            return step
        response = peer.step(step.data)
    raise AssertionError("no end")


class ExchangeTests(SynchronousTestCase):
    def peers(self, mechanism, **credentials):
        given = {"username": "u@example.org", "password": "secret", "channel_binding": BINDING}
        return begin(mechanism), client.start(Choice(mechanism), Credentials(**given | credentials))

    def test_every_mechanism(self):
        for mechanism in server.MECHANISMS:
            for initial in (True, False):
                machine, peer = self.peers(mechanism)
                if mechanism == "CRAM-MD5":
                    self.assertIsNone(peer.initial())
                step = converse(machine, peer, "u@example.org", "secret", initial=initial)
                self.assertEqual(step.username, "u@example.org")
                self.assertEqual(machine.username, "u@example.org")
                self.assertEqual(machine.mechanism, mechanism)
                self.assertEqual(step.data is not None, mechanism.startswith("SCRAM"))

    def test_wrong_password(self):
        for mechanism in server.MECHANISMS:
            if mechanism != "EXTERNAL":
                machine, peer = self.peers(mechanism, password="other")
                exc = self.assertRaises(
                    errors.WrongCredentials, converse, machine, peer, "u@example.org", "secret"
                )
                self.assertEqual(exc.kind, "badcreds")
                self.assertEqual(exc.username, "u@example.org")

    def test_unknown_user_fails_like_a_wrong_password(self):
        for mechanism in [*SCRAMS, "CRAM-MD5"]:
            machine, peer = self.peers(mechanism, username="x@example.org")
            exc = self.assertRaises(
                errors.UnknownUser, converse, machine, peer, "u@example.org", "secret"
            )
            self.assertEqual((exc.kind, str(exc)), ("baduser", "wrong user or password"))
            if mechanism in SCRAMS:
                self.assertEqual(exc.data, b"e=invalid-proof")

    def test_missing_secret_is_told_apart_at_the_end(self):
        machine, peer = self.peers("SCRAM-SHA-256")
        machine.step(peer.initial())
        step = machine.supply_scram(None, missing=True)
        self.assertRaises(errors.MissingSecret, machine.step, peer.step(step.data))
        machine, peer = self.peers("CRAM-MD5")
        machine.step(peer.step(machine.step(None).data))
        self.assertRaises(errors.MissingSecret, machine.supply_cram, None, missing=True)

    @settings(max_examples=60, deadline=None)
    @given(TEXT, TEXT, st.sampled_from(server.MECHANISMS))
    def test_any_name_and_password(self, username, password, mechanism):
        machine = begin(mechanism)
        given = Credentials(username, password, channel_binding=BINDING)
        step = converse(machine, client.start(Choice(mechanism), given), machine_name(username),
                        password)  # fmt: skip
        self.assertEqual(step.username, machine_name(username))

    def test_authorization_as_oneself_or_not(self):
        for mechanism in ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-1-PLUS", "EXTERNAL"):
            machine, peer = self.peers(mechanism, authzid="u@example.org")
            self.assertEqual(
                converse(machine, peer, "u@example.org", "secret").username, "u@example.org"
            )
            machine, peer = self.peers(mechanism, authzid="o,=ther@example.org")
            self.assertRaises(
                errors.WrongCredentials, converse, machine, peer, "u@example.org", "secret"
            )
        machine, peer = self.peers("PLAIN", authzid="other@example.org")
        self.assertRaises(errors.AuthorizationDenied, machine.step, peer.initial())


def machine_name(text):
    return precis.username(text)


class StartTests(SynchronousTestCase):
    def test_no_such_mechanism(self):
        for name in ("", "PLAIN ", "SCRAM-SHA-512", "NTLM", "é"):
            self.assertRaises(errors.NoSuchMechanism, begin, name)
        self.assertEqual(begin("plain").mechanism, "PLAIN")

    def test_tls_needed(self):
        for name in ("EXTERNAL", "SCRAM-SHA-1-PLUS", "SCRAM-SHA-256-PLUS"):
            self.assertRaises(errors.TLSNeeded, begin, name, tls=False)
        for name in ("SCRAM-SHA-1", "CRAM-MD5", "PLAIN"):
            begin(name, tls=False)

    def test_decode(self):
        self.assertEqual(server.decode(b""), b"")
        self.assertEqual(server.decode(b"AGE="), b"\0a")
        self.assertRaises(errors.Aborted, server.decode, b"*")
        for line in (b"=", b"AGE", b"AG E=", b"AGE=\r", b"AGE==", b"A", b"**", b"\xff\xff\xff\xff",
                     b"AGE=AGE="):  # fmt: skip
            with self.assertRaises(errors.BadBase64, msg=line):
                server.decode(line)
        self.assertEqual(server.decode_initial(b"="), b"")
        self.assertEqual(server.decode_initial(b"AGE="), b"\0a")
        self.assertRaises(errors.BadBase64, server.decode_initial, b"")
        self.assertRaises(errors.Aborted, server.decode_initial, b"*")


class SimpleServerTests(SynchronousTestCase):
    def test_plain(self):
        machine = begin("PLAIN")
        self.assertEqual(machine.step(None), Challenge(b""))
        step = machine.step("\0e\u0301@x\0pa ss".encode())
        self.assertEqual(step, NeedPassword("é@x", "é@x", "pa ss"))
        self.assertNotIn("pa ss", repr(step))
        self.assertEqual(machine.supply_password(True), Success("é@x"))

    def test_plain_refused(self):
        for response in (b"", b"a", b"\0a", b"\0a\0b\0c", b"\0\xff\0b", b"\0a\0\xff", b"x" * 9999,
                         b"\0" + b"x" * 9999 + b"\0b"):  # fmt: skip
            with self.assertRaises(errors.BadMessage, msg=response):
                begin("PLAIN").step(response)

    def test_login(self):
        machine = begin("LOGIN")
        self.assertEqual(machine.step(None), Challenge(b"Username:"))
        self.assertEqual(machine.step(b"u@x"), Challenge(b"Password:"))
        self.assertEqual(machine.step(b"p"), NeedPassword("u@x", "u@x", "p"))
        self.assertRaises(errors.WrongCredentials, machine.supply_password, False)
        self.assertEqual(begin("LOGIN").step(b"u@x"), Challenge(b"Password:"))

    def test_cram_md5_has_no_initial_response(self):
        self.assertRaises(errors.BadMessage, begin("CRAM-MD5").step, b"")
        self.assertIn(b"@mail.example>", begin("CRAM-MD5", hostname="mail.example").step(None).data)

    def test_external(self):
        self.assertEqual(begin("EXTERNAL").step(b""), NeedExternal("", "key"))
        machine = begin("EXTERNAL")
        self.assertEqual(machine.step(b"u@x"), NeedExternal("u@x", "key"))
        self.assertEqual(machine.supply_external("u@x"), Success("u@x"))
        machine = begin("EXTERNAL")
        machine.step(b"")
        self.assertRaises(errors.WrongCredentials, machine.supply_external, None)
        without = begin("EXTERNAL", external=None)
        self.assertRaises(errors.WrongCredentials, without.step, b"")
        self.assertRaises(errors.BadMessage, begin("EXTERNAL").step, b"a\0b")

    def test_out_of_turn_is_a_bug_of_the_caller(self):
        machine = begin("PLAIN")
        self.assertRaises(RuntimeError, machine.supply_password, True)
        machine = begin("PLAIN")
        machine.step(b"\0a\0b")
        self.assertRaises(RuntimeError, machine.step, b"\0a\0b")
        machine = begin("PLAIN")
        machine.step(None)
        self.assertRaises(RuntimeError, machine.step, None)
        machine = begin("PLAIN")
        machine.step(b"\0a\0b")
        machine.supply_password(True)
        self.assertRaises(RuntimeError, machine.supply_password, True)
        self.assertRaises(RuntimeError, machine.supply_scram, None)

    @settings(max_examples=150, deadline=None)
    @given(st.sampled_from(server.MECHANISMS), st.lists(st.binary(max_size=50), max_size=4))
    def test_junk_raises_only_sasl_errors(self, mechanism, responses):
        machine = begin(mechanism)
        try:
            machine.step(None)
            for response in responses:
                step = answer(machine, machine.step(response), "u", "p")
                if isinstance(step, Success):
                    self.assertEqual(mechanism, "EXTERNAL")
                    return
        except errors.SASLError:
            pass


class ScramVectorTests(SynchronousTestCase):
    """The examples of RFC 5802 5 and RFC 7677 3: user "user", password "pencil"."""

    VECTORS = {
        "SCRAM-SHA-1": (
            "fyko+d2lbbFgONRv9qkxdawL", "3rfcNHYJY1ZVvWVs7j", "QSXCR+Q6sek8bf92",
            "v0X8v3Bz2T0CJGbJQyF0X+HI4Ts=", "rmF9pqV8S7suAoZWja4dJRkFsKQ=",
        ),
        "SCRAM-SHA-256": (
            "rOprNGfwEbeRWgbNEkqO", "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0", "W22ZaJ0SNY7soEsUEjb6gQ==",
            "dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=",
            "6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=",
        ),
    }  # fmt: skip

    def test_server_and_client(self):
        for mechanism, (cnonce, snonce, salt, proof, signature) in self.VECTORS.items():
            hash_name = {"SCRAM-SHA-1": "sha1", "SCRAM-SHA-256": "sha256"}[mechanism]
            secret = ScramSecret.derive(
                hash_name, "pencil", salt=b64decode(salt), iterations=4096
            )
            self.patch(scram, "new_nonce", lambda snonce=snonce: snonce)
            machine_type = {"sha1": client.ScramSHA1, "sha256": client.ScramSHA256}[hash_name]
            credentials = Credentials("user", "pencil")
            peer = machine_type(Choice(mechanism), credentials, nonce=lambda n=cnonce: n)
            first = peer.initial()
            self.assertEqual(first, f"n,,n=user,r={cnonce}".encode())
            machine = begin(mechanism, channel_binding=None)
            self.assertEqual(machine.step(first), NeedScram("user", hash_name))
            step = machine.supply_scram(secret)
            self.assertEqual(step.data, f"r={cnonce}{snonce},s={salt},i=4096".encode())
            final = peer.step(step.data)
            self.assertEqual(final, f"c=biws,r={cnonce}{snonce},p={proof}".encode())
            step = machine.step(final)
            self.assertEqual(step, Success("user", f"v={signature}".encode()))
            self.assertEqual(peer.step(step.data), b"")
            peer.finish()


class ScramServerTests(SynchronousTestCase):
    def first(self, mechanism, message, **options):
        return begin(mechanism, **options).step(message)

    def test_channel_binding_flags(self):
        mismatch = errors.ChannelBindingMismatch
        user = b",,n=u,r=12345678"
        for mechanism, flag, options, error in (
            ("SCRAM-SHA-1", b"y", {}, b"e=server-does-support-channel-binding"),
            ("SCRAM-SHA-1-PLUS", b"y", {}, b"e=server-does-support-channel-binding"),
            ("SCRAM-SHA-1-PLUS", b"n", {}, b"e=server-does-support-channel-binding"),
            ("SCRAM-SHA-1", b"p=tls-exporter", {}, b"e=channel-binding-not-supported"),
            ("SCRAM-SHA-1-PLUS", b"p=tls-unique", {}, b"e=unsupported-channel-binding-type"),
            (
                "SCRAM-SHA-1-PLUS", b"p=tls-exporter", {"channel_binding": None},
                b"e=channel-binding-not-supported",
            ),
        ):  # fmt: skip
            exc = self.assertRaises(mismatch, self.first, mechanism, flag + user, **options)
            self.assertEqual((exc.data, exc.kind, exc.username), (error, "badchanbind", "u"))
        step = self.first("SCRAM-SHA-1", b"y" + user, plus_offered=False)
        self.assertEqual(step, NeedScram("u", "sha1"))

    def converse(self, machine, peer):
        return converse(machine, peer, "u", "secret")

    def test_other_channel_is_found_out(self):
        given = Credentials("u", "secret", channel_binding=(BINDING[0], b"other"))
        peer = client.start(Choice("SCRAM-SHA-256-PLUS"), given)
        exc = self.assertRaises(
            errors.ChannelBindingMismatch, self.converse, begin("SCRAM-SHA-256-PLUS"), peer
        )
        self.assertEqual(exc.data, b"e=channel-bindings-dont-match")

    def test_client_that_missed_plus_finds_the_downgrade(self):
        peer = client.start(Choice("SCRAM-SHA-256", True), Credentials("u", "secret"))
        self.assertRaises(
            errors.ChannelBindingMismatch, self.converse, begin("SCRAM-SHA-256"), peer
        )
        peer = client.start(Choice("SCRAM-SHA-256", True), Credentials("u", "secret"))
        self.converse(begin("SCRAM-SHA-256", plus_offered=False), peer)

    def test_tampered_gs2_header(self):
        machine = begin("SCRAM-SHA-256", plus_offered=False)
        peer = client.start(Choice("SCRAM-SHA-256", True), Credentials("u", "secret"))
        step = machine.step(peer.initial().replace(b"y,,", b"n,,"))
        response = peer.step(answer(machine, step, "u", "secret").data)
        self.assertRaises(errors.ChannelBindingMismatch, machine.step, response)

    def test_wrong_nonce_and_short_proof(self):
        def second(change):
            machine = begin("SCRAM-SHA-1")
            peer = client.start(Choice("SCRAM-SHA-1"), Credentials("u", "secret"))
            step = answer(machine, machine.step(peer.initial()), "u", "secret")
            return machine.step(change(peer.step(step.data)))

        self.assertIsInstance(second(lambda m: m), Success)
        self.assertRaises(errors.BadMessage, second, lambda m: m.replace(b",r=", b",r=x"))
        short = b",p=AA=="
        self.assertRaises(errors.WrongCredentials, second, lambda m: m.split(b",p=")[0] + short)
        self.assertRaises(errors.BadMessage, second, lambda m: m.split(b",p=")[0])
        self.assertRaises(errors.BadMessage, second, lambda m: b"")

    def test_bad_first_message(self):
        exc = self.assertRaises(errors.BadFirstMessage, self.first, "SCRAM-SHA-1", b"n,,n=a,r=x")
        self.assertEqual(exc.data, b"e=other-error")


class ClientTests(SynchronousTestCase):
    def test_choose(self):
        def choose(offered, tls=True, preferred=client.DEFAULT_PREFERENCE):
            return client.choose(preferred, offered.split(), tls)

        everything = " ".join(server.MECHANISMS)
        self.assertEqual(choose(everything), Choice("SCRAM-SHA-256-PLUS"))
        self.assertEqual(choose(everything, False), Choice("SCRAM-SHA-256"))
        self.assertEqual(choose("plain scram-sha-256"), Choice("SCRAM-SHA-256", True))
        self.assertEqual(choose("SCRAM-SHA-256", False), Choice("SCRAM-SHA-256", False))
        self.assertEqual(choose("SCRAM-SHA-1-PLUS SCRAM-SHA-256"), Choice("SCRAM-SHA-256", True))
        self.assertEqual(choose("SCRAM-SHA-1 CRAM-MD5"), Choice("SCRAM-SHA-1", True))
        self.assertIsNone(choose("PLAIN LOGIN NTLM"))
        self.assertIsNone(choose("NTLM", preferred=["NTLM"]))
        self.assertEqual(choose("PLAIN", preferred=["plain"]), Choice("PLAIN"))
        self.assertEqual(choose("SCRAM-SHA-1", preferred=["SCRAM-SHA-1"]), Choice("SCRAM-SHA-1"))

    def peer(self, mechanism="SCRAM-SHA-256", **given):
        return client.start(Choice(mechanism), Credentials("u", "secret", **given))

    def test_server_must_prove_itself(self):
        peer = self.peer()
        self.assertRaises(errors.ServerNotVerified, peer.finish)
        machine = begin("SCRAM-SHA-256")
        step = answer(machine, machine.step(peer.initial()), "u", "secret")
        peer.step(step.data)
        self.assertRaises(errors.ServerNotVerified, peer.finish)
        self.assertRaises(errors.ServerNotVerified, peer.step, b"v=AAAA")
        self.assertRaises(errors.ServerNotVerified, peer.finish)

    def test_server_refuses(self):
        peer = self.peer()
        peer.initial()
        self.assertRaises(errors.ServerRefused, peer.step, b"e=invalid-proof")

    def test_hostile_server(self):
        nonce = self.peer().initial().rpartition(b"r=")[2]
        for message in (
            b"r=otherother,s=AAAA,i=4096", b"r=" + nonce + b",s=AAAA,i=4096", b"x", b"v=AAAA",
            b"r=" + nonce + b"x,s=AAAA,i=999999999",
        ):  # fmt: skip
            with self.assertRaises(errors.BadMessage, msg=message):
                self.peer().step(message)
        peer = client.ScramSHA256(Choice("SCRAM-SHA-256"), Credentials("u", "secret"),
                                  nonce=lambda: "12345678")  # fmt: skip
        peer.step(b"r=12345678x,s=AAAA,i=1")
        for message in (b"", b"x", b"v=!", b"V=AAAA"):
            with self.assertRaises(errors.BadMessage, msg=message):
                peer.step(message)
        for mechanism in ("PLAIN", "EXTERNAL"):
            self.assertRaises(errors.BadMessage, self.peer(mechanism).step, b"x")
        peer = self.peer("LOGIN")
        self.assertEqual((peer.step(b"any"), peer.step(b"thing")), (b"u", b"secret"))
        self.assertRaises(errors.BadMessage, peer.step, b"more")

    def test_no_channel_binding(self):
        self.assertRaises(errors.ChannelBindingMismatch, self.peer, "SCRAM-SHA-1-PLUS")
        self.assertRaises(errors.NoSuchMechanism, self.peer, "NTLM")

    def test_plain_refuses_nul(self):
        peer = client.start(Choice("PLAIN"), Credentials("u", "a\0b"))
        self.assertRaises(errors.BadMessage, peer.initial)
