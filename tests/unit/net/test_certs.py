"""Keys and certificates, connection ids."""

import base64
import contextlib
import hashlib
import os
import stat

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from moxtw.net import certs, cid


class CertTests(SynchronousTestCase):
    def test_self_signed_pair_loads_with_its_names(self):
        cert, key = certs.self_signed(["localhost", "*.Example.org"], ["127.0.0.1", "::1"])
        pair = certs.load_key_pair(cert, key)
        self.assertEqual(pair.names, ("localhost", "*.example.org"))
        self.assertEqual(pair.ips, ("127.0.0.1", "::1"))
        self.assertEqual(pair.key_type, "ecdsa")
        parsed = x509.load_pem_x509_certificate(cert)
        days = (parsed.not_valid_after_utc - parsed.not_valid_before_utc).days
        self.assertEqual(days, 4 * 365 + 1)
        self.assertIn(b"BEGIN PRIVATE KEY", key)

    def test_rsa(self):
        pair = certs.load_key_pair(*certs.self_signed(["a.example"], ecdsa=False, years=1))
        self.assertEqual((pair.key_type, pair.key.key_size), ("rsa", 2048))

    def test_key_of_another_certificate_and_junk_are_refused(self):
        cert, _ = certs.self_signed(["a.example"])
        _, key = certs.self_signed(["a.example"])
        with self.assertRaisesRegex(certs.CertError, "mail: key does not belong"):
            certs.load_key_pair(cert, key, "mail")
        for bad in (b"", b"junk", cert):
            self.assertRaises(certs.CertError, certs.load_key_pair, cert, bad)
            self.assertRaises(certs.CertError, certs.load_key_pair, key, key)
        self.assertRaises(certs.CertError, certs.read_key_pair, self.mktemp(), "nowhere")

    def test_fingerprint_is_that_of_the_key(self):
        for ecdsa in (True, False):
            cert, key = certs.self_signed(["a.example"], ecdsa=ecdsa)
            pair = certs.load_key_pair(cert, key)
            spki = pair.key.public_key().public_bytes(
                serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
            )
            expected = base64.urlsafe_b64encode(hashlib.sha256(spki).digest()).decode()
            self.assertEqual(certs.fingerprint(pair.chain[0]), expected.rstrip("="))

    def test_truncated_certificates_raise_cert_error_only(self):
        cert, _ = certs.self_signed(["a.example"])
        der = x509.load_pem_x509_certificate(cert).public_bytes(serialization.Encoding.DER)
        spki = certs.subject_public_key_info(der)
        for size in range(len(der)):
            self.assertRaises(certs.CertError, certs.subject_public_key_info, der[:size])
        self.assertIn(spki, der)

    @given(st.binary(max_size=60))
    def test_junk_for_a_certificate(self, data):
        with contextlib.suppress(certs.CertError):
            certs.subject_public_key_info(data)


class ConnectionIdTests(SynchronousTestCase):
    def test_ids_count_up_from_the_start(self):
        ids = cid.ConnectionIds(bytes(24), 1_700_000_000_000)
        first = ids.next()
        self.assertEqual([ids.next(), ids.next()], [first + 1, first + 2])
        self.assertIn(first, (1_700_000_000_000, 1_700_000_000_001))

    def test_known_value(self):
        # AES-128 of the FIPS 197 example key over the prefix and number of its plaintext.
        key = bytes(range(16)) + bytes.fromhex("0011223344556677")
        ids = cid.ConnectionIds(key, 0)
        text = ids.encrypt(0x8899AABBCCDDEEFF)
        expected = bytes.fromhex("69c4e0d86a7b0430d8cdb78070b4c55a")
        self.assertEqual(text, base64.urlsafe_b64encode(expected).decode().rstrip("="))
        self.assertEqual(ids.decrypt(text), 0x8899AABBCCDDEEFF)

    @given(st.integers(0, 2**64 - 1))
    def test_round_trip(self, number):
        ids = cid.ConnectionIds(b"k" * 24, 0)
        text = ids.encrypt(number)
        self.assertEqual((len(text), ids.decrypt(text)), (22, number))

    def test_foreign_texts_are_refused(self):
        ids = cid.ConnectionIds(b"k" * 24, 0)
        other = cid.ConnectionIds(b"j" * 24, 0).encrypt(1)
        for text in (other, "", "x", "ü", "A" * 23, "A" * 21, "A" * 1000, "+" * 22):
            self.assertRaises(ValueError, ids.decrypt, text)

    def test_key_file_is_made_once(self):
        data = self.mktemp()
        os.mkdir(data)
        key = cid.load_or_create_key(data)
        path = os.path.join(data, "receivedid.key")
        self.assertEqual((len(key), cid.load_or_create_key(data)), (24, key))
        self.assertEqual(stat.S_IMODE(os.stat(path).st_mode), 0o640)
        self.assertEqual(os.listdir(data), ["receivedid.key"])

    def test_key_of_wrong_length_is_refused(self):
        data = self.mktemp()
        os.mkdir(data)
        with open(os.path.join(data, "receivedid.key"), "wb") as file:
            file.write(b"short")
        self.assertRaises(ValueError, cid.load_or_create_key, data)
        self.assertRaises(ValueError, cid.ConnectionIds, b"short", 0)
