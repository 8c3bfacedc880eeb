"""Verifying DKIM signatures (RFC 6376 6.1, RFC 8463, RFC 8301).

The canonical forms are our own (`moxtw.authn.dkimcanon`), and keys are those of the package
cryptography. Of dkimpy, whose code is meant for one signature at a time, only tests make use: it
takes each header list and each body anew for every signature, and some of its regular
expressions take time quadratic in runs of blanks. Here a message with thousands of fields and
signatures costs what its bytes cost.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from twisted.internet.defer import Deferred, DeferredSemaphore, gatherResults

from moxtw import metrics
from moxtw.authn.dkimcanon import SignedFields, header_data, without_signature
from moxtw.authn.dkimkey import MIN_RSA_BITS, KeyLookupError, KeyRecord, lookup_key
from moxtw.authn.signature import (
    ALGORITHMS,
    Signature,
    domain_tag,
    field_tags,
    is_good,
    parse_signature,
)
from moxtw.authn.signedmessage import BodyForm, Run, SignedMessage, Source, run_here
from moxtw.authn.tags import TagError, without_blanks
from moxtw.dns.publicsuffix import is_public_suffix
from moxtw.dns.resolver import Resolver
from moxtw.mail.domain import Domain

MAX_SIGNATURES: Final = 50
"""Signatures of a message that are verified."""

TIMEOUT: Final = 60.0
"""Seconds for all key lookups of a message."""

_LOOKUPS: Final = 8
_MAX_LENGTHS: Final = 4
# Signature checks that are done at once, on a message that is small.
_FEW: Final = 4


@dataclass(frozen=True, slots=True)
class DKIMPolicy:
    """What is asked of signatures beyond that they are right.

    length: signatures of only a part of the body are good (``l=``). subject: one must cover the
    Subject field. localhost: may sign, though it is no domain below a public suffix.
    """

    length: bool = False
    subject: bool = True
    localhost: bool = False
    min_rsa_bits: int = MIN_RSA_BITS
    max_signatures: int = MAX_SIGNATURES


@dataclass(frozen=True, slots=True)
class DKIMResult:
    """What became of one signature.

    status: of RFC 8601 2.7.1: ``pass``, ``fail``, ``policy``, ``neutral``, ``temperror``,
    ``permerror``, and ``none`` for failures of a domain that only tests.
    domain, selector: None if they cannot be read. short: the beginning of the signature, in base64.
    bits: size of the key, 0 without one. authentic: DNSSEC vouches for the key record, or
    for there being none. testing, strict: flags y and s of the key. services: what
    the key is for. reason: of a status other than pass.
    """

    status: str
    reason: str = ""
    domain: Domain | None = None
    selector: Domain | None = None
    algorithm: str = ""
    short: str = ""
    identity: str = ""
    bits: int = 0
    signed_at: int | None = None
    expires_at: int | None = None
    length: int | None = None
    authentic: bool = False
    testing: bool = False
    strict: bool = False
    services: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether the domain signed the message."""
        return self.status == "pass"

    def serves(self, service: str) -> bool:
        """Whether the key is for this service, such as ``tlsrpt`` (RFC 8460 3)."""
        return "*" in self.services or service in self.services


@dataclass(slots=True)
class _Work:
    """A signature on its way: parsed; then with a key; then with a result."""

    raw: bytes
    signature: Signature | None = None
    result: DKIMResult = field(default_factory=lambda: DKIMResult("neutral"))
    open: bool = False
    key: KeyRecord | None = None

    def end(self, status: str, reason: str = "") -> None:
        """Set the result; failures of domains that test are no failures (3.6.1, t=y)."""
        if self.key is not None and self.key.testing and status != "pass":
            status, reason = "none", f"{reason} (domain is testing)"
        self.result = replace(self.result, status=status, reason=reason)
        self.open = False


async def verify(
    resolver: Resolver,
    message: SignedMessage | Source,
    now: int,
    *,
    policy: DKIMPolicy = DKIMPolicy(),  # noqa: B008 - frozen
    clock: Any = None,
    timeout: float = TIMEOUT,
    run: Run = run_here,
) -> list[DKIMResult]:
    """Verify the signatures of a message, from the top; at most so many as the policy says.

    If there are more, the last result is ``neutral`` and tells how many.

    now: seconds since the epoch. clock: for `timeout`, the time that key lookups get together;
    without it there is no such limit. run: for work that takes long, such as large bodies.
    Raises OSError if the message cannot be read.
    """
    start = time.monotonic()
    if not isinstance(message, SignedMessage):
        message = await SignedMessage.open(message, run)
    if message.too_large:
        return [DKIMResult("permerror", "header section is too large")]
    raw = message.fields.all(b"dkim-signature")
    if not raw:
        return []
    looked_at = raw[: policy.max_signatures]
    works: list[_Work] = await message.work(
        lambda: [_read(each, policy, now) for each in looked_at]
    )
    await _get_keys(resolver, works, clock, timeout)
    for work in works:
        if work.open:
            _check_key(work, policy)
    left = [work for work in works if work.open]
    if left:
        fields = message.fields
        await message.work(lambda: _check_headers(fields, left), costly=len(left) > _FEW)
    await _check_bodies(message, [work for work in left if work.open])
    results = [work.result for work in works]
    spent = time.monotonic() - start
    for result in results:
        algorithm = result.algorithm if result.algorithm in ALGORITHMS else "other"
        metrics.dkim_verify_duration_seconds.labels(algorithm, result.status).observe(spent)
    if len(raw) > len(looked_at):
        results.append(
            DKIMResult("neutral", f"{len(raw) - len(looked_at)} more signatures not looked at")
        )
    return results


def _read(raw: bytes, policy: DKIMPolicy, now: int) -> _Work:
    """Parse a signature, and do the checks that need nothing else."""
    work = _Work(raw)
    try:
        tags = field_tags(raw)
    except TagError as exc:
        work.end("permerror", str(exc))
        return work
    work.result = _known(tags)
    try:
        signature = parse_signature(tags)
    except TagError as exc:
        work.end("permerror", str(exc))
        return work
    work.signature = signature
    work.result = DKIMResult(
        "neutral",
        domain=signature.domain,
        selector=signature.selector,
        algorithm=signature.algorithm,
        short=signature.short,
        identity=signature.identity,
        signed_at=signature.signed_at,
        expires_at=signature.expires_at,
        length=signature.length,
    )
    problem = _problem(signature, policy, now)
    if problem is not None:
        work.end(*problem)
    else:
        work.open = True
    return work


def _known(tags: dict[str, str]) -> DKIMResult:
    """What can be told of a signature that is not right."""
    domain = selector = None
    try:
        domain = domain_tag(tags, "d")
        selector = domain_tag(tags, "s")
    except (TagError, KeyError):
        # The parse says which; this is only for those who look into it.
        pass
    return DKIMResult(
        "permerror",
        domain=domain,
        selector=selector,
        algorithm=tags.get("a", "")[:32].lower(),
        short=without_blanks(tags.get("b", ""))[:12],
    )


def _problem(signature: Signature, policy: DKIMPolicy, now: int) -> tuple[str, str] | None:
    if "from" not in signature.headers:
        return "permerror", "From field is not signed"
    if signature.expires_at is not None and signature.expires_at < now:
        return "permerror", "signature has expired"
    domain = signature.domain
    if is_public_suffix(domain.ascii) and not (policy.localhost and domain.ascii == "localhost"):
        return "permerror", "signing domain is a public suffix"
    if signature.hash_name == "sha1":  # RFC 8301 3.1
        return "permerror", "algorithm rsa-sha1 is no longer accepted"
    if "dns/txt" not in signature.queries:
        return "permerror", "no known way to get the key"
    if signature.length is not None and not policy.length:
        return "policy", "only a part of the body is signed"
    if policy.subject and "subject" not in signature.headers:
        return "policy", "Subject field is not signed"
    return None


async def _get_keys(
    resolver: Resolver, works: Sequence[_Work], clock: Any, timeout: float
) -> None:
    """Look up the keys, each once, some at a time, and in time."""
    wanted: dict[tuple[str, str], list[_Work]] = {}
    for work in works:
        if work.open and work.signature is not None:
            signature = work.signature
            key = (signature.selector.ascii, signature.domain.ascii)
            wanted.setdefault(key, []).append(work)
    deadline = clock.seconds() + timeout if clock is not None else 0.0
    if len(wanted) == 1:
        [(name, sharing)] = wanted.items()
        await _get_key(resolver, name, sharing, clock, deadline)
        return
    turns = DeferredSemaphore(_LOOKUPS)
    await gatherResults(
        [
            turns.run(_get_key, resolver, name, sharing, clock, deadline)
            for name, sharing in wanted.items()
        ]
    )


async def _get_key(
    resolver: Resolver,
    name: tuple[str, str],
    works: Sequence[_Work],
    clock: Any,
    deadline: float,
) -> None:
    try:
        record, authentic = await lookup_in_time(resolver, *name, clock, deadline)
    except KeyLookupError as exc:
        for work in works:
            work.result = replace(work.result, authentic=exc.authentic)
            work.end("temperror" if exc.temporary else "permerror", str(exc))
        return
    for work in works:
        work.key = record
        work.result = replace(
            work.result,
            authentic=authentic,
            bits=record.bits,
            testing=record.testing,
            strict=record.strict,
            services=record.services,
        )


async def lookup_in_time(
    resolver: Resolver, selector: str, domain: str, clock: Any, deadline: float
) -> tuple[KeyRecord, bool]:
    """A key record, before a deadline on the clock, if there is one. Raises KeyLookupError."""
    if clock is None:
        return await lookup_key(resolver, selector, domain)
    left = deadline - clock.seconds()
    if left <= 0:
        raise KeyLookupError("no time left to look up key record", temporary=True)
    lookup = Deferred.fromCoroutine(lookup_key(resolver, selector, domain))
    if lookup.called:
        return await lookup
    timed_out = False

    def expire(result: object, seconds: float) -> object:
        nonlocal timed_out
        timed_out = True
        raise KeyLookupError("looking up key record: timeout", temporary=True)

    lookup.addTimeout(left, clock, onTimeoutCancel=expire)
    return await lookup


def key_problem(
    key: KeyRecord, algorithm: str, *, min_rsa_bits: int = MIN_RSA_BITS, service: str = "email"
) -> str:
    """Why a key cannot be used with an algorithm; empty if it can (6.1.2)."""
    kind, _, hash_name = algorithm.partition("-")
    if key.hashes is not None and hash_name not in key.hashes:
        return "key record does not allow the hash algorithm"
    if key.kind != kind:
        return "key is of another kind than the signature"
    if key.revoked:
        return "key was revoked"
    if kind == "rsa" and key.bits < min_rsa_bits:
        return f"RSA key of {key.bits} bits is too small"
    if not key.serves(service):
        return f"key is not for service {service}"
    return ""


def _check_key(work: _Work, policy: DKIMPolicy) -> None:
    assert work.key is not None and work.signature is not None
    problem = key_problem(
        work.key, work.signature.algorithm, min_rsa_bits=policy.min_rsa_bits
    )
    if problem:
        work.end("permerror", problem)
    elif work.key.strict and work.signature.identity_domain != work.signature.domain:
        work.end("permerror", "key wants the identity in the signing domain itself")


def _check_headers(fields: SignedFields, works: Sequence[_Work]) -> None:
    for work in works:
        _check_header(fields, work)


def _check_header(fields: SignedFields, work: _Work) -> None:
    signature, key = work.signature, work.key
    assert signature is not None and key is not None and key.public_key is not None
    relaxed = signature.header_relaxed
    data = header_data(
        fields.select(signature.headers, relaxed=relaxed),
        without_signature(work.raw),
        relaxed=relaxed,
    )
    if not is_good(key.public_key, signature.hash_name, signature.value, data):
        work.end("fail", "signature does not match the header fields")


async def _check_bodies(message: SignedMessage, works: Sequence[_Work]) -> None:
    """Compare the hashes of bodies, of the signatures that are otherwise good."""
    forms: dict[BodyForm, list[_Work]] = {}
    for work in works:
        assert work.signature is not None
        form = body_form(work.signature)
        if form not in forms and form.length is not None and len(forms) > _MAX_LENGTHS:
            work.end("policy", "too many signatures of parts of the body")
        else:
            forms.setdefault(form, []).append(work)
    if not forms:
        return
    digests = await message.body_hashes(forms)
    for form, sharing in forms.items():
        for work in sharing:
            assert work.signature is not None
            if digests[form].missing:
                work.end("permerror", "body is shorter than what was signed")
            elif digests[form].value != work.signature.body_hash:
                work.end("fail", "body was changed: its hash does not match")
            else:
                work.end("pass")


def body_form(signature: Signature) -> BodyForm:
    """What a signature's body hash is of."""
    return BodyForm(signature.hash_name, signature.body_relaxed, signature.length)
