"""Mail domains of every kind of safety on loopback: signed zones, hosts, certificates, policies.

`World` is made once for all tests of a run, as its zones take a moment to sign. Hosts have
addresses of their own and share one port; see `HOSTS` and `RECORDS` for what there is.
"""

from __future__ import annotations

import atexit
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cache
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from moxtw.net import certs
from moxtw.tlspolicy import dane
from tests.support.ca import Authority, Issued
from tests.support.server import free_port
from tests.support.signedzones import SignedZones, Zone

SAFE = "safe.example"
"""A signed zone, whose key is known."""

OPEN = "open.safe.example"
"""A zone below that is not signed."""

LATE = "late.safe.example"
"""A zone below whose signatures are too old."""

_RECORDS = """\
; Hosts without a policy.
good.to MX 1 good
expired.to MX 1 expired
othername.to MX 1 othername
selfsigned.to MX 1 selfsigned
plain.to MX 1 plain
broken.to MX 1 broken
selfsigned.too MX 1 selfsigned
broken.too MX 1 broken

; DANE.
ee.to MX 1 ee
ee-expired.to MX 1 ee-expired
ta.to MX 1 ta
ta-full.to MX 1 ta-full
ta-expired.to MX 1 ta-expired
ta-othername.to MX 1 ta-othername
ta-domain.to MX 1 ta-domain
mismatch.to MX 1 mismatch
several.to MX 1 several
unusable.to MX 1 unusable
dane-plain.to MX 1 dane-plain
unusable-plain.to MX 1 unusable-plain
second.to MX 1 mismatch
second.to MX 2 ee
tlsa-forged.to MX 1 tlsa-forged
host-forged.to MX 1 host-forged
mx-forged.to MX 1 good
late.to MX 1 mx.late
open-host.to MX 1 mismatch.open

; Aliases.
alias.to CNAME ee.to
to-open.to CNAME mismatch.open
mx-alias.to MX 1 alias
alias CNAME ee
mx-alias-own.to MX 1 alias-own
alias-own CNAME good
mx-alias-open.to MX 1 alias-open
alias-open CNAME good.open
mx-alias-open-bad.to MX 1 alias-open-bad
alias-open-bad CNAME good.open
tlsa-alias.to MX 1 tlsa-alias
_25._tcp.tlsa-alias CNAME _25._tcp.ee
tlsa-alias-open.to MX 1 tlsa-alias-open
_25._tcp.tlsa-alias-open CNAME _25._tcp.mismatch.open
loop.to MX 1 loop
loop CNAME loop2
loop2 CNAME loop
ee.no-mx.to CNAME ee

; MTA-STS.
{policies}
sts-good.to MX 1 good
sts-expired.to MX 1 expired
sts-othername.to MX 1 othername
sts-selfsigned.to MX 1 selfsigned
sts-plain.to MX 1 plain
sts-wrong-mx.to MX 1 good
sts-second.to MX 1 plain
sts-second.to MX 2 good
sts-testing.to MX 1 plain
sts-testing-mx.to MX 1 selfsigned
sts-none.to MX 1 plain
sts-broken.to MX 1 plain
sts-missing.to MX 1 plain
sts-moved.to MX 1 plain
sts-no-host.to MX 1 plain
sts-refused.to MX 1 plain
sts-webpki.to MX 1 plain
sts-web-expired.to MX 1 plain
sts-two-records.to MX 1 plain
sts-forged.to MX 1 good
sts-dane.to MX 1 both
sts-dane-only.to MX 1 ee
sts-dane-mismatch.to MX 1 both-mismatch
sts-alias.to CNAME plain.to

; REQUIRETLS.
no-requiretls-ee.to MX 1 no-requiretls-ee
no-requiretls-sts.to MX 1 no-requiretls
sts-requiretls.to MX 1 good
"""


@dataclass
class Host:
    """A host: its certificate (None: no TLS), records for DANE, whether it has REQUIRETLS."""

    tls: Issued | str | None
    tlsa: list[dane.TLSA] = field(default_factory=list)
    requiretls: bool = True
    ip: str = ""


class World:
    """The zones being served, and what listens there by name."""

    def __init__(self) -> None:
        self.ca = Authority()
        self.stranger = Authority("stranger")
        self.port = free_port("127.0.0.1")
        self.https_port = free_port("127.0.0.1")
        self.hosts = self._make_hosts()
        for number, host in enumerate(self.hosts.values()):
            host.ip = f"127.0.5.{number + 1}"
        self.policies = self._make_policies()
        # Addresses of policy servers, with the certificate that each shows.
        self.web: dict[str, Issued] = {}
        self.names = SignedZones(self._zones())

    def _make_hosts(self) -> dict[str, Host]:
        ca, stranger = self.ca, self.stranger
        old = timedelta(hours=-1)

        def name(label: str) -> str:
            return f"{label}.{SAFE}"

        def own(issued: Issued, usage: int = 3, **more: Any) -> Host:
            about = issued.certificate if usage == 3 else stranger.certificate
            return Host(issued, [dane.make_record(usage, 1, 1, about)], **more)

        def of(certificate: x509.Certificate, usage: int = 3, selector: int = 1, match: int = 1):
            return dane.make_record(usage, selector, match, certificate)

        some = ca.issue(name("some")).certificate
        ee = stranger.issue(name("ee"))
        public = ca.issue(name("good"))
        full = Issued((leaf := stranger.issue(name("ta-full"))).certificate, leaf.key)
        hosts = {
            "good": Host(public),
            "expired": Host(ca.issue(name("expired"), end=old)),
            "othername": Host(ca.issue(name("some"))),
            "selfsigned": Host(self_signed(name("selfsigned"))),
            "plain": Host(None),
            "broken": Host("broken"),
            "ee": own(ee),
            # RFC 7672 3.1.1: neither the name nor the dates count.
            "ee-expired": own(stranger.issue("other.example", end=old)),
            "ta": own(stranger.issue(name("ta")), 2),
            # The record holds the whole certificate, and the chain does not.
            "ta-full": Host(full, [of(stranger.certificate, 2, 0, 0)]),
            "ta-expired": own(stranger.issue(name("ta-expired"), end=old), 2),
            "ta-othername": own(stranger.issue(name("some")), 2),
            # RFC 7672 3.2.3: the name of the recipient domain will do.
            "ta-domain": own(stranger.issue(name("ta-domain.to")), 2),
            "mismatch": Host(ca.issue(name("mismatch")), [of(some)]),
            "unusable": Host(
                stranger.issue("other.example"),
                [of(some, 1), of(some, 0), dane.TLSA(3, 1, 1, b"short")],
            ),
            "dane-plain": Host(None, [of(some)]),
            "unusable-plain": Host(None, [of(some, 1)]),
            "tlsa-forged": Host(ca.issue(name("tlsa-forged")), [of(some)]),
            "host-forged": Host(ca.issue(name("host-forged"))),
            "tlsa-alias": Host(ee),
            "tlsa-alias-open": Host(None),
            "mismatch.open": Host(None, [of(some)]),
            "good.open": Host(good := ca.issue(name("good.open"))),
            "both": own(ca.issue(name("both"))),
            "both-mismatch": Host(ca.issue(name("both-mismatch")), [of(some)]),
            "no-requiretls": Host(ca.issue(name("no-requiretls")), requiretls=False),
            "no-requiretls-ee": own(stranger.issue(name("no-requiretls-ee")), requiretls=False),
        }
        several = stranger.issue(name("several"))
        hosts["several"] = Host(
            several, [of(some), of(some, 1), of(several.certificate, 3, 0, 2), of(some, 2, 0)]
        )
        # Records of names that lead to other hosts.
        self._extra = {
            "alias-own": [of(public.certificate)],
            "alias-open": [of(good.certificate)],
            "alias-open-bad": [of(some)],
        }
        return hosts

    def _make_policies(self) -> dict[str, bytes | int]:
        """What is served for each domain under ``to``: a policy, or a status."""

        def policy(mode: str, *hosts: str) -> bytes:
            lines = [f"mx: {host}.{SAFE}\n" for host in hosts]
            return f"version: STSv1\nmode: {mode}\n{''.join(lines)}max_age: 86400\n".encode()

        return {
            "sts-good": policy("enforce", "good"),
            "sts-requiretls": policy("enforce", "*"),
            "no-requiretls-sts": policy("enforce", "no-requiretls"),
            "sts-expired": policy("enforce", "expired"),
            "sts-othername": policy("enforce", "othername"),
            "sts-selfsigned": policy("enforce", "selfsigned"),
            "sts-plain": policy("enforce", "plain"),
            "sts-wrong-mx": policy("enforce", "some"),
            "sts-second": policy("enforce", "good"),
            "sts-testing": policy("testing", "plain"),
            "sts-testing-mx": policy("testing", "good"),
            "sts-none": policy("none"),
            "sts-broken": b"version: STSv1\nmode: sometimes\nmax_age: 86400\n",
            "sts-missing": 404,
            "sts-moved": 301,
            "sts-no-host": 404,
            "sts-refused": 404,
            "sts-webpki": policy("enforce", "good"),
            "sts-web-expired": policy("enforce", "good"),
            "sts-two-records": policy("enforce", "good"),
            "sts-forged": policy("enforce", "good"),
            "sts-dane": policy("enforce", "both"),
            "sts-dane-only": policy("enforce", "ee"),
            "sts-dane-mismatch": policy("enforce", "both-mismatch"),
        }

    def _zones(self) -> list[Zone]:
        lines = []
        webs = {"sts-webpki": "127.0.6.2", "sts-web-expired": "127.0.6.3",
                "sts-refused": "127.0.6.4"}  # fmt: skip
        for label in self.policies:
            lines.append(f'_mta-sts.{label}.to TXT "v=STSv1; id=1;"')
            if label == "sts-two-records":
                lines.append(f'_mta-sts.{label}.to TXT "v=STSv1; id=2;"')
            if label != "sts-no-host":
                lines.append(f"mta-sts.{label}.to A {webs.get(label, '127.0.6.1')}")
        served = [f"mta-sts.{label}.to.{SAFE}" for label in self.policies]
        self.web = {
            "127.0.6.1": self.ca.issue(*served),
            "127.0.6.2": self.stranger.issue(*served),
            "127.0.6.3": self.ca.issue(*served, end=timedelta(hours=-1)),
        }
        safe = [_RECORDS.format(policies="\n".join(lines))]
        unsafe = ["@ MX 1 mismatch"]
        for name, host in self.hosts.items():
            label, _, below = name.partition(".")
            zone = unsafe if below else safe
            zone.append(f"{label} A {host.ip}")
            zone += _tlsa(label, host.tlsa)
        for label, records in self._extra.items():
            safe += _tlsa(label, records)
        # A domain whose answer about exchangers is not vouched for, with a host that is.
        unsafe.append(f"safe-host MX 1 mismatch.{SAFE}.")
        return [
            Zone(
                SAFE,
                "\n".join(safe),
                forged=(
                    "_25._tcp.tlsa-forged", "host-forged", "mx-forged.to", "_mta-sts.sts-forged.to",
                ),
            ),
            Zone(OPEN, "\n".join(unsafe), signed=False),
            Zone(LATE, f"mx A 127.0.5.1\n@ MX 1 good.{SAFE}.", expired=True),
        ]  # fmt: skip


def _tlsa(label: str, records: list[dane.TLSA]) -> list[str]:
    return [f"_25._tcp.{label} TLSA {dane.presentation(record)}" for record in records]


def self_signed(name: str) -> Issued:
    """A certificate that vouches for itself."""
    certificate, key = certs.self_signed([name])
    return Issued(
        x509.load_pem_x509_certificate(certificate), load_pem_private_key(key, None)
    )


@cache
def world() -> World:
    """The world, served until this process ends. Skips the test where it cannot be."""
    SignedZones.need()
    made = World()
    made.names.start()
    atexit.register(made.names.stop)
    return made
