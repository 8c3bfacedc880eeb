"""DKIM signatures for tests and load, made with our own code."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence

from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from moxtw.authn.dkimcanon import BodyHash, SignedFields, header_data
from moxtw.authn.dkimkey import public_record
from moxtw.authn.dkimsign import fold_signature, fold_value, sign_data

Key = rsa.RSAPrivateKey | Ed25519PrivateKey

_FORMS = {False: "simple", True: "relaxed"}


def rsa_key(bits: int = 2048) -> rsa.RSAPrivateKey:
    """A new key."""
    return rsa.generate_private_key(public_exponent=65537, key_size=bits)


def key_record(key: Key) -> str:
    """Its DNS record, in the text form of zone files."""
    text = public_record(key)
    return " ".join(f'"{text[at : at + 250]}"' for at in range(0, len(text), 250))


def body_hash(body: Iterable[bytes], *, relaxed: bool = True) -> str:
    """The hash of a body, in base64."""
    hasher = BodyHash("sha256", relaxed=relaxed)
    for piece in body:
        hasher.update(piece)
    return base64.b64encode(hasher.digest()).decode()


def signature(
    key: Key,
    domain: str,
    header: bytes,
    hashed: str,
    *,
    names: Sequence[str] = ("from", "to", "subject", "date", "message-id"),
    relaxed: bool = True,
    body_relaxed: bool = True,
    more: Sequence[str] = (),
) -> bytes:
    """The field for a message with this header section, by the key of selector ``s``.

    hashed: see `body_hash`. more: tags.
    """
    kind = "rsa" if isinstance(key, rsa.RSAPrivateKey) else "ed25519"
    unsigned = fold_signature(
        "DKIM-Signature",
        [
            "v=1",
            f"a={kind}-sha256",
            f"d={domain}",
            "s=s",
            f"c={_FORMS[relaxed]}/{_FORMS[body_relaxed]}",
            *more,
        ],
        list(names),
        hashed,
    )
    fields = SignedFields(header).select(names, relaxed=relaxed)
    return fold_value(unsigned, sign_data(key, header_data(fields, unsigned, relaxed=relaxed)))
