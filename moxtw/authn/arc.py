"""ARC: chains of what those who forwarded a message found, validated and sealed (RFC 8617).

Each who forwards adds a set of three fields with one instance number: what was found
(ARC-Authentication-Results), a signature of the message (ARC-Message-Signature), and a seal
over all sets so far (ARC-Seal).
"""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from twisted.internet.defer import DeferredSemaphore, gatherResults

from moxtw.authn.dkim import TIMEOUT, body_form, key_problem, lookup_in_time
from moxtw.authn.dkimcanon import header_data, relaxed_field, without_signature
from moxtw.authn.dkimkey import KeyLookupError, KeyRecord
from moxtw.authn.dkimsign import SignError, fold_signature, fold_value, sign_data
from moxtw.authn.signature import (
    Signature,
    algorithm_tag,
    domain_tag,
    field_tags,
    is_good,
    parse_signature,
)
from moxtw.authn.signedmessage import BodyForm, Digest, Run, SignedMessage, Source, run_here
from moxtw.authn.tags import TagError, base64_value, need
from moxtw.dns.publicsuffix import is_public_suffix
from moxtw.dns.resolver import Resolver
from moxtw.mail.domain import Domain
from moxtw.mail.received import AuthMethod, authentication_results

MAX_INSTANCES: Final = 50
"""RFC 8617 4.2.1."""

RESULTS: Final = b"arc-authentication-results"
MESSAGE: Final = b"arc-message-signature"
SEAL: Final = b"arc-seal"

SIGNED_HEADERS: Final = (
    "From", "To", "Cc", "Reply-To", "Subject", "Date", "Message-Id", "In-Reply-To",
    "References", "List-Id", "MIME-Version", "Content-Type", "Content-Transfer-Encoding",
    "DKIM-Signature",
)  # fmt: skip
"""What a message signature covers, as often as it occurs: no ARC fields, no trace (4.1.2)."""

_LOOKUPS: Final = 8
_INSTANCE: Final = re.compile(rb"[ \t\r\n]*i[ \t\r\n]*=[ \t\r\n]*([0-9]{1,4})[ \t\r\n]*;")
_MAX_RESULTS: Final = 4096


@dataclass(frozen=True, slots=True)
class ARCSet:
    """One set of a chain.

    cv: the chain's state that its sealer found. domain, selector, algorithm: of the seal.
    signer: domain of the message signature. results: what the sealer found, as text.
    message_valid: whether the message is still what was signed then.
    """

    instance: int
    cv: str
    domain: Domain
    selector: Domain
    algorithm: str
    signer: Domain
    results: str
    bits: int = 0
    message_valid: bool = False


@dataclass(frozen=True, slots=True)
class ARCResult:
    """The state of a chain: ``none``, ``pass`` or ``fail`` (4.4).

    instances: the highest number, whether or not the chain is valid. sets: of a chain that is
    well formed, from the first. oldest_pass: since that set the message is unchanged, 0: since
    the first. temporary: it failed for want of an answer. authentic: DNSSEC vouches for all
    keys. sealed_fail: the last sealer found it broken already; such a chain grows no more (5.1).
    """

    status: str
    reason: str = ""
    instances: int = 0
    sets: tuple[ARCSet, ...] = ()
    oldest_pass: int = 0
    temporary: bool = False
    authentic: bool = False
    sealed_fail: bool = False


NO_CHAIN: Final = ARCResult("none")


class _Broken(Exception):
    """The chain is not valid; the text says why."""

    def __init__(self, text: str, *, temporary: bool = False) -> None:
        super().__init__(text)
        self.temporary = temporary


@dataclass(slots=True)
class _Set:
    """A set on its way."""

    instance: int
    results: bytes
    message: bytes
    seal: bytes
    signature: Signature
    cv: str
    domain: Domain
    selector: Domain
    algorithm: str
    value: bytes
    keys: dict[tuple[str, str], KeyRecord | KeyLookupError] = field(default_factory=dict)
    message_problem: str = ""

    @property
    def seal_key(self) -> tuple[str, str]:
        return self.selector.ascii, self.domain.ascii

    @property
    def message_key(self) -> tuple[str, str]:
        return self.signature.selector.ascii, self.signature.domain.ascii


async def validate(
    resolver: Resolver,
    message: SignedMessage | Source,
    now: int,
    *,
    clock: Any = None,
    timeout: float = TIMEOUT,
    run: Run = run_here,
) -> ARCResult:
    """Validate the chain of a message (5.2).

    now: seconds since the epoch. clock: for `timeout`, the time for all key lookups together.
    Raises OSError if the message cannot be read.
    """
    if not isinstance(message, SignedMessage):
        message = await SignedMessage.open(message, run)
    fields = message.fields
    raw = {name: fields.all(name) for name in (RESULTS, MESSAGE, SEAL)}
    if not any(raw.values()):
        return NO_CHAIN
    highest = 0
    sets: list[_Set] = []
    try:
        if max(len(each) for each in raw.values()) > MAX_INSTANCES:
            raise _Broken("more than 50 instances")
        highest = _highest(raw[SEAL])
        sets = await message.work(lambda: _collect(raw))
        if sets[-1].cv == "fail":
            raise _Broken("the last sealer found the chain broken")
        for each in sets:
            if each.cv != ("none" if each.instance == 1 else "pass"):
                raise _Broken(f"seal {each.instance} has cv={each.cv}")
        authentic = await _get_keys(resolver, sets, clock, timeout)
        digests = await message.body_hashes(
            {body_form(s.signature) for s in sets if s.signature.length is None}
        )
        found: SignedMessage = message
        await found.work(lambda: _check(found, sets, digests, now), costly=len(sets) > 2)
    except _Broken as exc:
        return ARCResult(
            "fail",
            str(exc),
            highest,
            tuple(map(_public, sets)),
            temporary=exc.temporary,
            sealed_fail=bool(sets) and sets[-1].cv == "fail",
        )
    oldest = len(sets)
    while oldest > 1 and not sets[oldest - 2].message_problem:
        oldest -= 1
    return ARCResult(
        "pass",
        "",
        highest,
        tuple(map(_public, sets)),
        oldest_pass=0 if oldest == 1 else oldest,
        authentic=authentic,
    )


def _public(each: _Set) -> ARCSet:
    key = each.keys.get(each.seal_key)
    return ARCSet(
        instance=each.instance,
        cv=each.cv,
        domain=each.domain,
        selector=each.selector,
        algorithm=each.algorithm,
        signer=each.signature.domain,
        results=each.results[:_MAX_RESULTS].decode("utf-8", "replace"),
        bits=key.bits if isinstance(key, KeyRecord) else 0,
        message_valid=bool(each.keys) and not each.message_problem,
    )


def _instance(raw: bytes) -> int:
    """The instance number of an ARC-Authentication-Results field (4.1.1). Raises _Broken."""
    match = _INSTANCE.match(raw.partition(b":")[2])
    if match is None:
        raise _Broken("field without instance number")
    return int(match[1])


def _tag_instance(tags: dict[str, str]) -> int:
    """The instance number among the tags. Raises _Broken."""
    text = tags.get("i", "")
    if not re.fullmatch("[0-9]{1,4}", text):
        raise _Broken("field without instance number")
    return int(text)


def _highest(seals: Sequence[bytes]) -> int:
    """The highest instance number of seals, as far as it can be read."""
    highest = 0
    for raw in seals:
        match = re.search(rb"[:;][ \t\r\n]*i[ \t\r\n]*=[ \t\r\n]*([0-9]{1,4})[ \t\r\n]*;", raw)
        if match is not None:
            highest = max(highest, int(match[1]))
    return highest


def _collect(raw: dict[bytes, list[bytes]]) -> list[_Set]:
    """The sets in order, well formed and complete (4.2). Raises _Broken."""
    try:
        results = _by_instance([(_instance(each), each) for each in raw[RESULTS]])
        tagged = [(field_tags(each), each) for each in raw[MESSAGE]]
        messages = _by_instance([(_tag_instance(tags), (tags, each)) for tags, each in tagged])
        tagged = [(field_tags(each), each) for each in raw[SEAL]]
        seals = _by_instance([(_tag_instance(tags), (tags, each)) for tags, each in tagged])
        count = len(seals)
        if not results.keys() == messages.keys() == seals.keys() == set(range(1, count + 1)):
            raise _Broken("sets are not complete")
        found = []
        for number in range(1, count + 1):
            message_tags, message = messages[number]
            seal_tags, seal = seals[number]
            signature = parse_signature(message_tags, arc=True)
            if "arc-seal" in signature.headers:
                raise TagError("a message signature covers seals")
            need(seal_tags, "a", "b", "cv", "d", "s")
            if "h" in seal_tags:  # 4.1.3
                raise TagError("a seal has a list of fields")
            cv = seal_tags["cv"].lower()
            if cv not in ("none", "pass", "fail"):
                raise TagError("unknown chain state")
            found.append(
                _Set(
                    instance=number,
                    results=results[number],
                    message=message,
                    seal=seal,
                    signature=signature,
                    cv=cv,
                    domain=domain_tag(seal_tags, "d"),
                    selector=domain_tag(seal_tags, "s"),
                    algorithm=algorithm_tag(seal_tags),
                    value=base64_value(seal_tags["b"], "b"),
                )
            )
    except TagError as exc:
        raise _Broken(str(exc)) from exc
    return found


def _by_instance(pairs: Sequence[tuple[int, Any]]) -> dict[int, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise _Broken("two fields with one instance number")
    return found


async def _get_keys(
    resolver: Resolver, sets: Sequence[_Set], clock: Any, timeout: float
) -> bool:
    """Look up all keys, each once. Tells whether DNSSEC vouches for all."""
    deadline = clock.seconds() + timeout if clock is not None else 0.0
    keys: dict[tuple[str, str], KeyRecord | KeyLookupError] = {}
    authentic = True

    async def get(name: tuple[str, str]) -> None:
        nonlocal authentic
        try:
            keys[name], good = await lookup_in_time(resolver, *name, clock, deadline)
        except KeyLookupError as exc:
            keys[name] = exc
            good = exc.authentic
        authentic = authentic and good

    names = {each.seal_key for each in sets} | {each.message_key for each in sets}
    turns = DeferredSemaphore(_LOOKUPS)
    await gatherResults([turns.run(get, name) for name in sorted(names)])
    for each in sets:
        each.keys = keys
    return authentic


def _check(
    message: SignedMessage, sets: Sequence[_Set], digests: dict[BodyForm, Digest], now: int
) -> None:
    """Check the newest message signature and all seals; note what else is valid (5.2)."""
    for each in sets:
        each.message_problem = _message_problem(message, each, digests, now)
    newest = sets[-1]
    if newest.message_problem:
        key = newest.keys[newest.message_key]
        temporary = isinstance(key, KeyLookupError) and key.temporary
        raise _Broken(
            f"message signature {newest.instance}: {newest.message_problem}", temporary=temporary
        )
    before = b""
    for each in sets:
        key = each.keys[each.seal_key]
        problem, temporary = _key_problem(key, each.algorithm, each.domain)
        if problem:
            raise _Broken(f"seal {each.instance}: {problem}", temporary=temporary)
        assert isinstance(key, KeyRecord) and key.public_key is not None
        before += relaxed_field(each.results) + relaxed_field(each.message)
        data = before + relaxed_field(without_signature(each.seal)).removesuffix(b"\r\n")
        if not is_good(key.public_key, "sha256", each.value, data):
            raise _Broken(f"seal {each.instance} does not match")
        before += relaxed_field(each.seal)


def _key_problem(
    key: KeyRecord | KeyLookupError, algorithm: str, domain: Domain
) -> tuple[str, bool]:
    """Why a key is no good, and whether it may be later."""
    if isinstance(key, KeyLookupError):
        return str(key), key.temporary
    if algorithm == "rsa-sha1":
        return "algorithm rsa-sha1 is no longer accepted", False
    if is_public_suffix(domain.ascii):
        return "signing domain is a public suffix", False
    return key_problem(key, algorithm), False


def _message_problem(
    message: SignedMessage, each: _Set, digests: dict[BodyForm, Digest], now: int
) -> str:
    signature = each.signature
    key = each.keys[each.message_key]
    problem, _ = _key_problem(key, signature.algorithm, signature.domain)
    if problem:
        return problem
    assert isinstance(key, KeyRecord) and key.public_key is not None
    if "from" not in signature.headers:
        return "From field is not signed"
    if signature.length is not None:
        return "only a part of the body is signed"
    if signature.expires_at is not None and signature.expires_at < now:
        return "signature has expired"
    data = header_data(
        message.fields.select(signature.headers, relaxed=signature.header_relaxed),
        without_signature(each.message),
        relaxed=signature.header_relaxed,
    )
    if not is_good(key.public_key, signature.hash_name, signature.value, data):
        return "signature does not match the header fields"
    if digests[body_form(signature)].value != signature.body_hash:
        return "body was changed: its hash does not match"
    return ""


@dataclass(frozen=True, slots=True)
class Sealer:
    """Who seals: the key, and the domain and selector (in ASCII) where its record stands.

    hostname: our name, for the results. headers: what message signatures cover.
    """

    key: RSAPrivateKey | Ed25519PrivateKey
    domain: str
    selector: str
    hostname: str
    headers: tuple[str, ...] = SIGNED_HEADERS


async def seal(
    message: SignedMessage | Source,
    chain: ARCResult,
    sealer: Sealer,
    methods: Sequence[AuthMethod],
    now: int,
    *,
    run: Run = run_here,
) -> bytes:
    """The fields of a new set, to be put in front of a message that is passed on (5.1).

    message: as it is sent, after all changes. chain: what `validate` found when it came in.
    methods: what was found, as in Authentication-Results. now: seconds since the epoch.

    Raises SignError if no set may be added, or the message cannot be signed.
    """
    if chain.sealed_fail:
        raise SignError("the chain was broken before")
    if chain.temporary:
        raise SignError("the state of the chain is not known for now")
    if chain.instances >= MAX_INSTANCES:
        raise SignError("the chain has 50 instances")
    if not isinstance(message, SignedMessage):
        message = await SignedMessage.open(message, run)
    if message.too_large:
        raise SignError("header is too large")
    form = BodyForm("sha256", relaxed=True)
    body_hash = (await message.body_hashes([form]))[form].value
    found: SignedMessage = message
    return await found.work(
        lambda: _seal(found, chain, sealer, methods, now, body_hash),
        costly=isinstance(sealer.key, RSAPrivateKey),
    )


def _seal(
    message: SignedMessage,
    chain: ARCResult,
    sealer: Sealer,
    methods: Sequence[AuthMethod],
    now: int,
    body_hash: bytes,
) -> bytes:
    key, instance = sealer.key, chain.instances + 1
    fields = message.fields
    if fields.count("From") != 1:
        raise SignError("message needs exactly one From field")
    algorithm = "rsa-sha256" if isinstance(key, RSAPrivateKey) else "ed25519-sha256"
    results = authentication_results(sealer.hostname, methods, instance=instance)
    names = [name for name in sealer.headers for _ in range(fields.count(name))]
    own = [f"d={sealer.domain}", f"s={sealer.selector}", f"t={now}"]
    unsigned = fold_signature(
        "ARC-Message-Signature",
        [f"i={instance}", f"a={algorithm}", "c=relaxed/relaxed", *own],
        names,
        base64.b64encode(body_hash).decode("ascii"),
    )
    data = header_data(fields.select(names, relaxed=True), unsigned, relaxed=True)
    signature = fold_value(unsigned, sign_data(key, data))
    cv = {"none": "none", "pass": "pass"}.get(chain.status, "fail")
    unsigned = fold_signature(
        "ARC-Seal", [f"i={instance}", f"a={algorithm}", f"cv={cv}", *own], None, None
    )
    before = b""
    if cv == "pass":
        raw = {name: fields.all(name) for name in (RESULTS, MESSAGE, SEAL)}
        try:
            sets = _collect(raw)
        except _Broken as exc:
            raise SignError(f"message has another chain than was validated: {exc}") from exc
        if len(sets) != chain.instances:
            raise SignError("message has another chain than was validated")
        for each in sets:
            for part in (each.results, each.message, each.seal):
                before += relaxed_field(part)
    # The seal of a chain that is broken covers the new set alone (5.1.2).
    before += relaxed_field(results) + relaxed_field(signature)
    data = before + relaxed_field(unsigned).removesuffix(b"\r\n")
    return fold_value(unsigned, sign_data(key, data)) + signature + results
