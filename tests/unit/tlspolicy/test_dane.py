"""Certificates by way of TLSA records."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from moxtw.dns.fake import ZoneResolver
from moxtw.dns.resolver import TLSA, CNAMEError, ServFail
from moxtw.tlspolicy import dane
from moxtw.tlspolicy.dane import DANE_EE, DANE_TA, DANEError, Found, make_record, usable, verify
from tests.support.ca import Authority

ROOT = Authority("root")
MIDDLE = Authority("middle", ROOT)
LEAF = MIDDLE.issue("mx.example", "*.wild.example")
OLD = MIDDLE.issue("mx.example", end=timedelta(hours=-1))
OTHER = Authority("other").issue("mx.example")
PLAIN = MIDDLE.issue(common_name="mx.example")


def run(records: list[TLSA], chain: list[x509.Certificate], *names: str) -> TLSA:
    return verify(records, chain, names or ("mx.example",), now=time.time())


class VerifyTests(SynchronousTestCase):
    def fails(self, records: list[TLSA], chain: list[x509.Certificate], *names: str) -> str:
        with self.assertRaises(DANEError) as caught:
            run(records, chain, *names)
        self.assertEqual(caught.exception.kind, "validation-failure")
        return caught.exception.reason

    def test_end_entity(self) -> None:
        for selector in (0, 1):
            for match in (0, 1, 2):
                record = make_record(DANE_EE, selector, match, LEAF.certificate)
                self.assertEqual(run([record], LEAF.chain), record)
                # RFC 7672 3.1.1: neither name nor chain matter.
                self.assertEqual(run([record], LEAF.chain[:1], "other.example"), record)
                self.assertEqual(self.fails([record], OTHER.chain), "dane-no-match")

    def test_end_entity_that_expired(self) -> None:
        record = make_record(DANE_EE, 1, 1, OLD.certificate)
        self.assertEqual(run([record], OLD.chain), record)

    def test_end_entity_is_no_other_of_the_chain(self) -> None:
        record = make_record(DANE_EE, 1, 1, MIDDLE.certificate)
        self.assertEqual(self.fails([record], LEAF.chain), "dane-no-match")

    def test_trust_anchor(self) -> None:
        for authority in (ROOT, MIDDLE):
            for selector in (0, 1):
                for match in (0, 1, 2):
                    record = make_record(DANE_TA, selector, match, authority.certificate)
                    self.assertEqual(run([record], LEAF.chain), record)
                    self.assertEqual(self.fails([record], OTHER.chain), (
                        "dane-no-match+errors" if (selector, match) == (0, 0) else "dane-no-match"
                    ))

    def test_trust_anchor_that_is_not_in_the_chain(self) -> None:
        full = make_record(DANE_TA, 0, 0, ROOT.certificate)
        self.assertEqual(run([full], LEAF.chain[:2]), full)
        digest = make_record(DANE_TA, 0, 1, ROOT.certificate)
        self.assertEqual(self.fails([digest], LEAF.chain[:2]), "dane-no-match")

    def test_trust_anchor_names(self) -> None:
        record = make_record(DANE_TA, 1, 1, ROOT.certificate)
        self.assertEqual(run([record], LEAF.chain, "no.example", "mx.example"), record)
        self.assertEqual(run([record], LEAF.chain, "a.wild.example"), record)
        for name in ("no.example", "wild.example", "a.b.wild.example"):
            self.assertEqual(self.fails([record], LEAF.chain, name), "dane-no-match+errors")

    def test_common_name_counts_without_others(self) -> None:
        record = make_record(DANE_TA, 1, 1, ROOT.certificate)
        self.assertEqual(run([record], PLAIN.chain), record)
        self.assertEqual(self.fails([record], PLAIN.chain, "x.example"), "dane-no-match+errors")

    def test_trust_anchor_expiry(self) -> None:
        record = make_record(DANE_TA, 1, 1, ROOT.certificate)
        self.assertEqual(self.fails([record], OLD.chain), "dane-no-match+errors")

    def test_signature_counts(self) -> None:
        # A chain that is only shown: the leaf is signed by somebody else.
        record = make_record(DANE_TA, 1, 1, ROOT.certificate)
        chain = [OTHER.certificate, *LEAF.above]
        self.assertEqual(self.fails([record], chain), "dane-no-match+errors")

    def test_any_record_will_do(self) -> None:
        bad = make_record(DANE_EE, 1, 1, OTHER.certificate)
        worse = make_record(DANE_TA, 1, 1, ROOT.certificate)
        good = make_record(DANE_EE, 1, 2, LEAF.certificate)
        self.assertEqual(run([bad, worse, good], LEAF.chain, "x.example"), good)

    def test_usages_of_others_do_not_count(self) -> None:
        for usage in (0, 1, 4):
            record = make_record(usage, 1, 1, LEAF.certificate)
            self.assertFalse(usable(record))
            self.assertEqual(self.fails([record], LEAF.chain), "dane-no-match")

    def test_broken_records(self) -> None:
        for record in (
            TLSA(3, 2, 1, b"x" * 32),
            TLSA(3, 1, 3, b"x" * 32),
            TLSA(3, 1, 1, b"x" * 31),
            TLSA(3, 1, 2, b"x" * 32),
            TLSA(3, 1, 0, b"x"),
            TLSA(2, 0, 0, b""),
        ):
            self.assertFalse(usable(record), record)

    def test_no_certificate(self) -> None:
        record = make_record(DANE_EE, 1, 1, LEAF.certificate)
        self.assertEqual(self.fails([record], []), "dane-no-match+errors")

    def test_presentation(self) -> None:
        self.assertEqual(dane.presentation(TLSA(3, 1, 1, b"\x01\xff")), "3 1 1 01ff")
        data = LEAF.certificate.public_bytes(Encoding.DER)
        self.assertEqual(make_record(3, 0, 0, LEAF.certificate), TLSA(3, 0, 0, data))


RECORD = (3, 1, 1, "00" * 32)


class FindTests(SynchronousTestCase):
    def find(self, zones: dict[str, Any], *bases: str, **more: Any) -> Found | None:
        resolver = ZoneResolver(zones, **{"authentic": True, **more})
        return self.successResultOf(
            Deferred.fromCoroutine(dane.find(resolver, bases or ("mx.example",)))
        )

    def test_found(self) -> None:
        found = self.find({"_25._tcp.mx.example": {"TLSA": [RECORD]}})
        self.assertEqual(found, Found("mx.example", (TLSA(3, 1, 1, b"\0" * 32),)))

    def test_expanded_name_first(self) -> None:
        zones = {
            "_25._tcp.mx.example": {"TLSA": [RECORD]},
            "_25._tcp.real.example": {"TLSA": [RECORD]},
        }
        found = self.find(zones, "real.example", "mx.example")
        assert found is not None
        self.assertEqual(found.base, "real.example")
        found = self.find(zones, "none.example", "mx.example")
        assert found is not None
        self.assertEqual(found.base, "mx.example")

    def test_not_authentic(self) -> None:
        self.assertIsNone(
            self.find({"_25._tcp.mx.example": {"TLSA": [RECORD]}}, authentic=False)
        )
        self.assertIsNone(
            self.find(
                {
                    "_25._tcp.mx.example": {"CNAME": ["tlsa.example."]},
                    "tlsa.example": {"TLSA": [RECORD]},
                },
                authentic=["tlsa.example."],
            )
        )

    def test_none(self) -> None:
        self.assertIsNone(self.find({}))

    def test_aliases(self) -> None:
        found = self.find(
            {
                "_25._tcp.mx.example": {"CNAME": ["tlsa.example."]},
                "tlsa.example": {"TLSA": [RECORD]},
            }
        )
        assert found is not None
        self.assertEqual(found.base, "mx.example")

    def test_loop(self) -> None:
        resolver = ZoneResolver(
            {"_25._tcp.mx.example": {"CNAME": ["_25._tcp.mx.example."]}}, authentic=True
        )
        self.failureResultOf(
            Deferred.fromCoroutine(dane.find(resolver, ["mx.example"])), CNAMEError
        )

    def test_unknown(self) -> None:
        resolver = ZoneResolver(
            {}, authentic=True, fail={("_25._tcp.mx.example", "TLSA"): "servfail"}
        )
        self.failureResultOf(
            Deferred.fromCoroutine(dane.find(resolver, ["mx.example"])), ServFail
        )
