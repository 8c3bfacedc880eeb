"""What the checks found, as methods of Authentication-Results (RFC 8601 2.7, RFC 8617 10)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from moxtw.authn.arc import ARCResult
from moxtw.authn.dkim import DKIMResult
from moxtw.authn.dmarc import DMARCResult
from moxtw.authn.iprev import IPRevResult
from moxtw.authn.spf import SPFResult
from moxtw.mail.address import IPDomain, Path
from moxtw.mail.received import AuthMethod, AuthProp, domain_prop

_MAX_IDENTITY: Final = 200


def _dnssec(authentic: bool) -> str:
    return "with dnssec" if authentic else "without dnssec"


def iprev_method(result: IPRevResult, remote_ip: str) -> AuthMethod:
    """The check of the name of the client's address."""
    return AuthMethod(
        "iprev",
        result.status,
        comment=_dnssec(result.authentic),
        reason=result.problem,
        props=(AuthProp("policy", "iprev", remote_ip),),
    )


def dkim_methods(results: Sequence[DKIMResult], utf8: bool) -> list[AuthMethod]:
    """One for each signature, or ``dkim=none``."""
    if not results:
        return [AuthMethod("dkim", "none")]
    return [_dkim_method(result, utf8) for result in results]


def _dkim_method(result: DKIMResult, utf8: bool) -> AuthMethod:
    comment = _dnssec(result.authentic) if result.domain is not None else ""
    if result.bits and not result.algorithm.startswith("ed25519"):
        comment = f"{result.bits} bit rsa, {comment}"
    props: list[AuthProp] = []
    if result.domain is not None:
        props.append(domain_prop("header", "d", result.domain, utf8))
    if result.selector is not None:
        props.append(domain_prop("header", "s", result.selector, utf8))
    if result.algorithm:
        props.append(AuthProp("header", "a", result.algorithm))
    if result.short:
        props.append(AuthProp("header", "b", result.short))
    if result.identity and result.domain is not None:
        localpart, _, name = result.identity.rpartition("@")
        if not utf8 and name == result.domain.name:
            name = result.domain.ascii
        identity = f"{localpart}@{name}"
        # A local part in UTF-8 has no other form.
        if (utf8 or identity.isascii()) and len(identity) <= _MAX_IDENTITY:
            props.append(AuthProp("header", "i", identity, address_like=True))
    return AuthMethod("dkim", result.status, comment, result.reason, tuple(props))


def spf_method(result: SPFResult, mail_from: Path, hello: IPDomain, utf8: bool) -> AuthMethod:
    """The check whether the client may send for the domain in MAIL FROM or HELO."""
    props: tuple[AuthProp, ...] = ()
    if result.identity == "mailfrom":
        if mail_from.needs_utf8 and not utf8:
            assert mail_from.ipdomain.domain is not None
            props = (domain_prop("smtp", "mailfrom", mail_from.ipdomain.domain, utf8),)
        else:
            props = (AuthProp("smtp", "mailfrom", mail_from.form(utf8), address_like=True),)
    elif result.identity == "helo" and hello.domain is not None:
        props = (domain_prop("smtp", "helo", hello.domain, utf8),)
    return AuthMethod(
        "spf", result.status, _dnssec(result.authentic), result.problem, props
    )


def dmarc_method(
    result: DMARCResult | None, utf8: bool, overrides: Sequence[str] = ()
) -> AuthMethod:
    """The evaluation for the author's domain; None without such a domain.

    overrides: why the policy was not followed, such as ``mailing_list``.
    """
    if result is None:
        return AuthMethod("dmarc", "none", reason="no single author")
    words = [_dnssec(result.authentic)]
    if result.record is not None:
        words.append(f"policy {result.policy}")
    overrides = [*overrides, *(["sampled_out"] if result.sampled_out else [])]
    if overrides:
        words.append(f"override {','.join(overrides)}")
    return AuthMethod(
        "dmarc",
        result.status,
        comment=", ".join(words),
        reason=result.reason,
        props=(domain_prop("header", "from", result.author, utf8),),
    )


def arc_methods(result: ARCResult, remote_ip: str) -> list[AuthMethod]:
    """The state of the chain, if there is one."""
    if result.status == "none":
        return []
    comment = f"i={result.instances}"
    if result.sets:
        comment += f", sealed by {result.sets[-1].domain.ascii}"
    props = [AuthProp("smtp", "remote-ip", remote_ip)]
    if result.status == "pass":
        props.insert(0, AuthProp("header", "oldest-pass", str(result.oldest_pass)))
    return [AuthMethod("arc", result.status, comment, result.reason, tuple(props))]
