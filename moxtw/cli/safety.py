"""Commands on how safe the way to other servers is: MTA-STS, TLS reports, DANE."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from moxtw.cli.command import CommandError, UsageError
from moxtw.cli.dns import make_resolver, run_async
from moxtw.cli.invocation import Invocation
from moxtw.cli.output import clean
from moxtw.cli.senders import domain_argument

if TYPE_CHECKING:
    from moxtw.tlspolicy.mtasts import Policy, Record

_USAGES = {"pkix-ta": 0, "pkix-ee": 1, "dane-ta": 2, "dane-ee": 3}
_SELECTORS = {"cert": 0, "spki": 1}
_MATCHES = {"full": 0, "sha2-256": 1, "sha2-512": 2}


def mtasts_lookup(invocation: Invocation) -> None:
    """``moxtw mtasts lookup``."""
    from moxtw.dns.resolver import DNSError
    from moxtw.net.tlsclient import Roots
    from moxtw.tlspolicy.mtasts import RecordError
    from moxtw.tlspolicy.mtastsfetch import Fetcher, FetchError
    from moxtw.version import VERSION

    domain = domain_argument(invocation.args[0]).ascii

    async def look(reactor: Any) -> tuple[Record, Policy | FetchError, str]:
        fetcher = Fetcher(
            make_resolver(invocation, reactor), reactor, Roots(), user_agent=f"moxtw/{VERSION}"
        )
        record = await fetcher.record(domain)
        try:
            policy, text = await fetcher.policy(domain)
        except FetchError as exc:
            return record, exc, ""
        return record, policy, text

    try:
        record, policy, text = run_async(look)
    except (RecordError, DNSError) as exc:
        raise CommandError(clean(str(exc))) from exc
    invocation.print(f"record: {record}")
    if isinstance(policy, FetchError):
        raise CommandError(clean(f"policy: {policy}"))
    for line in text.splitlines():
        invocation.print(clean(line))


def tlsrpt_lookup(invocation: Invocation) -> None:
    """``moxtw tlsrpt lookup``."""
    from moxtw.dns.resolver import DNSError
    from moxtw.tlspolicy import tlsrpt

    domain = domain_argument(invocation.args[0]).ascii

    async def look(reactor: Any) -> tlsrpt.Record:
        record, _ = await tlsrpt.lookup(make_resolver(invocation, reactor), domain)
        return record

    try:
        record = run_async(look)
    except (tlsrpt.RecordError, DNSError) as exc:
        raise CommandError(clean(str(exc))) from exc
    invocation.print(f"record: {clean(str(record))}")
    for uris in record.uris:
        for uri in uris:
            invocation.print(f"reports to: {clean(uri)}")


def _choice(name: str, text: str, words: dict[str, int]) -> int:
    if text.isascii() and text.isdigit() and int(text) in words.values():
        return int(text)
    if text.lower() not in words:
        known = ", ".join(f"{word} ({number})" for word, number in words.items())
        raise UsageError(f"{name} {text!r}: need one of {known}")
    return words[text.lower()]


def dane_make_record(invocation: Invocation) -> None:
    """``moxtw dane makerecord``."""
    from cryptography import x509
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives import serialization

    from moxtw.tlspolicy import dane

    usage = _choice("usage", invocation.args[0], _USAGES)
    selector = _choice("selector", invocation.args[1], _SELECTORS)
    match = _choice("match type", invocation.args[2], _MATCHES)
    if len(invocation.args) == 4:
        try:
            pem = Path(invocation.args[3]).read_bytes()
        except OSError as exc:
            raise CommandError(f"{invocation.args[3]}: {exc.strerror}") from exc
    else:
        pem = invocation.read_bytes()
    try:
        if b"BEGIN CERTIFICATE" in pem:
            certificate = x509.load_pem_x509_certificate(pem)
            record = dane.make_record(usage, selector, match, certificate)
        else:
            if b"PRIVATE KEY" in pem:
                key: Any = serialization.load_pem_private_key(pem, None).public_key()
            else:
                key = serialization.load_pem_public_key(pem)
            if selector == 0:
                raise CommandError("selector cert needs a certificate")
            record = dane.key_record(usage, match, key)
    except (ValueError, TypeError, UnsupportedAlgorithm) as exc:
        raise CommandError(f"neither a certificate nor a key in PEM: {exc}") from exc
    invocation.print(f"TLSA {dane.presentation(record)}")
