"""Verifiers of passwords, and what they are computed by."""

import hmac

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from moxtw.sasl import cram, password, precis, scram
from moxtw.sasl.cram import CramSecret
from moxtw.sasl.errors import BadMessage
from moxtw.sasl.scram import ScramSecret


class OpaqueStringTests(SynchronousTestCase):
    """Examples of RFC 8265 4.3."""

    def test_examples(self):
        for text, prepared in (
            ("correct horse battery staple", "correct horse battery staple"),
            ("Correct Horse Battery Staple", "Correct Horse Battery Staple"),
            ("πßå", "πßå"),
            ("Jack of ♦s", "Jack of ♦s"),
            ("foo\u1680bar", "foo bar"),
            ("a\u030a", "å"),
        ):
            self.assertEqual(precis.opaque_string(text), prepared)

    def test_refused(self):
        for text in ("", "my cat is a \x09by", "a\0", "\ud800", "x" * 1025):
            with self.assertRaises(precis.PreparationError, msg=ascii(text)):
                precis.opaque_string(text)

    @settings(max_examples=200, deadline=None)
    @given(st.text(max_size=20))
    def test_stable(self, text):
        try:
            prepared = precis.opaque_string(text)
        except precis.PreparationError:
            return
        self.assertEqual(precis.opaque_string(prepared), prepared)


class PasswordTests(SynchronousTestCase):
    def test_minimum_length_in_octets(self):
        self.assertEqual(password.prepare_new("12345678"), "12345678")
        self.assertEqual(password.prepare_new("éééé"), "éééé")
        for text in ("1234567", "ééé", "", "12345678\n"):
            with self.assertRaises(password.PasswordError, msg=text):
                password.prepare_new(text)

    def test_bcrypt(self):
        hashed = password.hash_password("passe\u0301", cost=4)
        self.assertTrue(hashed.startswith("$2b$04$"))
        self.assertTrue(password.verify("passe\u0301", hashed) is False)  # Was not prepared.
        hashed = password.hash_password("passé", cost=4)
        self.assertTrue(password.verify("passe\u0301", hashed))
        for wrong in ("passe", "", "passé\0", "\ud800", "x" * 5000):
            self.assertFalse(password.verify(wrong, hashed))

    def test_long_passwords_count_in_full(self):
        long = "x" * 100
        hashed = password.hash_password(long, cost=4)
        self.assertTrue(password.verify(long, hashed))
        self.assertFalse(password.verify("x" * 99, hashed))
        self.assertFalse(password.verify("x" * 72, hashed))

    def test_no_password_matches_the_fake(self):
        self.assertFalse(password.verify("password", password.FAKE_HASH))

    def test_derived(self):
        verifiers = password.derive("pässword", cost=4)
        self.assertTrue(password.verify("pa\u0308ssword", verifiers.bcrypt))
        sha1, sha256 = verifiers.scram("sha1"), verifiers.scram("sha256")
        self.assertEqual((sha1.iterations, len(sha1.salt)), (8192, 12))
        self.assertEqual((sha256.iterations, len(sha256.salt)), (4096, 12))
        self.assertIsNone(verifiers.scram("md5"))
        self.assertNotIn("bcrypt", repr(verifiers))
        digest = hmac.new("pässword".encode(), b"<x>", "md5").hexdigest().encode()
        self.assertTrue(verifiers.cram_md5.verify(b"<x>", digest))

    def test_generated(self):
        generated = password.generate()
        self.assertEqual(len(generated), 16)
        self.assertEqual(password.prepare_new(generated), generated)
        self.assertNotEqual(generated, password.generate())


class CramTests(SynchronousTestCase):
    def test_rfc_2195_example(self):
        challenge = b"<1896.697170952@postoffice.reston.mci.net>"
        digest = b"b913a602c7eda7a495b4e6e7334d3890"
        self.assertEqual(CramSecret.derive("tanstaaftanstaaf").digest(challenge), digest)
        response = cram.respond("tim", "tanstaaftanstaaf", challenge)
        self.assertEqual(response, b"tim " + digest)

    @settings(max_examples=100, deadline=None)
    @given(
        st.text(st.characters(exclude_categories=["Cs"]), max_size=100), st.binary(max_size=200)
    )
    def test_equals_hmac_of_the_library(self, text, challenge):
        secret = CramSecret.unpack(CramSecret.derive(text).pack())
        expected = hmac.new(text.encode(), challenge, "md5").hexdigest()
        self.assertEqual(secret.digest(challenge).decode(), expected)

    def test_at_block_limits(self):
        secret = CramSecret.derive("x" * 65)
        for size in (0, 54, 55, 56, 63, 64, 65, 118, 119, 120):
            challenge = b"c" * size
            expected = hmac.new(b"x" * 65, challenge, "md5").hexdigest()
            self.assertEqual(secret.digest(challenge).decode(), expected)

    def test_response(self):
        digest = b"b913a602c7eda7a495b4e6e7334d3890"
        self.assertEqual(cram.parse_response(b"a b@x " + digest.upper()), ("a b@x", digest))
        for response in (b"", b"x", digest, b" " + digest, b"x " + digest[1:], b"\xff " + digest):
            with self.assertRaises(BadMessage, msg=response):
                cram.parse_response(response)

    def test_challenge(self):
        challenge = cram.new_challenge("mail.example")
        self.assertRegex(challenge, rb"\A<[A-Za-z0-9_-]{22}\.[0-9]{15,}@mail\.example>\Z")
        self.assertNotEqual(challenge, cram.new_challenge("mail.example"))

    def test_unpack_checks_length(self):
        self.assertRaises(ValueError, CramSecret.unpack, b"x" * 31)


class ScramTests(SynchronousTestCase):
    def test_names(self):
        for name in ("user", "a,b", "a=b", "=2C", "=,=3D", "é"):
            self.assertEqual(scram.decode_name(scram.encode_name(name)), name)
        for text in ("=", "a=2c", "=3", "=4D"):
            with self.assertRaises(scram.SyntaxProblem, msg=text):
                scram.decode_name(text)

    def test_secret_from_salted_password(self):
        secret = ScramSecret.derive("sha256", "pencil", salt=b"0123", iterations=10)
        salted = scram.salt_password("sha256", "pencil", b"0123", 10)
        self.assertEqual(ScramSecret.from_salted("sha256", b"0123", 10, salted), secret)
        self.assertNotIn("key", repr(secret))

    def test_fake_secrets_keep_their_salt(self):
        fake = scram.fake_secret("sha1", "a@b", b"k")
        self.assertEqual(fake.salt, scram.fake_secret("sha1", "a@b", b"k").salt)
        self.assertEqual((len(fake.salt), fake.iterations), (12, 8192))
        self.assertNotEqual(fake.salt, scram.fake_secret("sha1", "c@b", b"k").salt)
        self.assertNotEqual(fake.salt, scram.fake_secret("sha256", "a@b", b"k").salt)
        self.assertNotEqual(fake.salt, scram.fake_secret("sha1", "a@b", b"j").salt)

    def test_bad_messages(self):
        for message in (
            b"", b"n", b"n,", b"n,,", b"n,,n=a", b"n,,r=12345678", b"n,,n=,r=12345678",
            b"n,,n=a,r=1234567", b"n,,n=a,r=1234 5678", b"x,,n=a,r=12345678", b"p=,,n=a,r=12345678",
            b"p=a b,,n=a,r=12345678", b"n,x,n=a,r=12345678", b"n,a=,n=a,r=12345678",
            b"n,,m=x,n=a,r=12345678", b"n,,n=a=2,r=12345678", b"n,,n=\xff,r=12345678",
            b"n,,n=a\0,r=12345678", b"n,,n=a,r=12345678,", b"n,,n=a,r=12345678,x",
            b"n,,n=" + b"a" * 9000 + b",r=12345678", b"n,,n=a,r=1234567\xc3\xa9",
        ):  # fmt: skip
            with self.assertRaises(scram.SyntaxProblem, msg=message):
                scram.parse_client_first(message)
        for message in (
            b"", b"c=biws,r=12345678", b"c=biws,p=AAAA", b"c=!,r=12345678,p=AAAA",
            b"c=biws,r=12345678,p=A", b"r=12345678,c=biws,p=AAAA", b"c=biws,r=12345678,p=AAAA,x=y",
            b"c=biws,r=12345678,p=\xc3\xa9", b"c=biws,r=12345678,,p=AAAA",
        ):  # fmt: skip
            with self.assertRaises(scram.SyntaxProblem, msg=message):
                scram.parse_client_final(message)
        for message in (
            b"", b"r=12345678", b"r=12345678,s=AAAA", b"r=12345678,s=,i=1", b"r=12345678,s=A,i=1",
            b"r=12345678,s=AAAA,i=0", b"r=12345678,s=AAAA,i=-1", b"r=12345678,s=AAAA,i=1e5",
            b"r=12345678,s=AAAA,i=99999999999", b"m=x,r=12345678,s=AAAA,i=1",
            "r=12345678,s=AAAA,i=१".encode(),
        ):  # fmt: skip
            with self.assertRaises(scram.SyntaxProblem, msg=message):
                scram.parse_server_first(message)

    @settings(max_examples=200, deadline=None)
    @given(st.binary(max_size=60))
    def test_junk_raises_only_its_own_error(self, junk):
        for parse in (
            scram.parse_client_first, scram.parse_server_first, scram.parse_client_final
        ):  # fmt: skip
            for message in (junk, b"n,," + junk, b"n,,n=a,r=" + junk, b"c=biws,r=" + junk):
                try:
                    parse(message)
                except scram.SyntaxProblem as exc:
                    self.assertRegex(exc.error, r"\A[a-z-]+\Z")
