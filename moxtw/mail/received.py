"""Header fields that a server puts on top of a message: where it came from, how it was checked.

All functions return whole header fields, folded, in UTF-8, ending in CRLF.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from moxtw.mail.address import IPDomain, Path, address_literal
from moxtw.mail.dates import format_date
from moxtw.mail.domain import Domain
from moxtw.mail.headerwriter import (
    WIDTH,
    HeaderWriter,
    comment,
    dot_atom_or_quoted,
    token_or_quoted,
)


@dataclass(frozen=True, slots=True)
class Trace:
    """What a Received field tells about the transaction (RFC 5321 4.4), but for the recipient.

    hostname: our name.
    local_ip: our address on the connection.
    protocol: from `with_protocol`.
    id: of the connection, as in replies and logs.
    hello: what the client called itself. None hides the client, as for submission: then only
        our own name is given.
    remote_ip: the client's address; needed with `hello`.
    reverse_name: name of the client's address in DNS, if known.
    require_tls: whether the message was sent with REQUIRETLS (RFC 8689).
    tls: version and cipher suite, e.g. `TLS1.3 TLS_AES_128_GCM_SHA256`; empty without TLS.
    utf8: whether names may be in UTF-8; their ASCII form then follows as a comment.
    """

    hostname: Domain
    local_ip: str
    protocol: str
    id: str
    hello: IPDomain | None = None
    remote_ip: str = ""
    reverse_name: str = ""
    require_tls: bool = False
    tls: str = ""
    utf8: bool = False


def with_protocol(*, esmtp: bool, utf8: bool, tls: bool, authenticated: bool) -> str:
    """The name of the protocol in the `with` clause, RFC 3848 and RFC 6531 4.3."""
    name = "UTF8SMTP" if utf8 else "ESMTP" if esmtp else "SMTP"
    return f"{name}{'S' if tls else ''}{'A' if authenticated else ''}"


def received(trace: Trace, when: int, recipient: Path | None = None, zone: int = 0) -> bytes:
    """The Received field for one recipient, or for several: then without `for` clause.

    when: time of arrival, microseconds since the epoch.
    zone: offset from UTC in minutes in which that time is written.
    """
    writer = HeaderWriter("Received")
    utf8 = trace.utf8
    if trace.hello is None:
        writer.add("from", trace.hostname.form(utf8), *_ascii_comment(trace.hostname, utf8))
    else:
        hello = trace.hello.form(utf8)
        literal = address_literal(trace.remote_ip)
        reverse = trace.reverse_name.removesuffix(".")
        if reverse and reverse.lower() not in (hello, trace.hello.form(False)):
            literal = f"{reverse} {literal}"
        writer.add("from", hello, f"({literal})")
        if trace.hello.domain is not None:
            writer.add(*_ascii_comment(trace.hello.domain, utf8))
    writer.add("by", trace.hostname.form(utf8), f"({address_literal(trace.local_ip)})")
    writer.add(*_ascii_comment(trace.hostname, utf8), "via", "tcp", "with", trace.protocol)
    if trace.require_tls:
        writer.add("(requiretls)")
    clauses = ["id", trace.id]
    if trace.tls:
        clauses.append(f"({trace.tls})")
    if recipient is not None:
        clauses += ["for", recipient.wire(utf8)]
    clauses[-1] += ";"
    writer.add(*clauses, format_date(when, zone))
    return writer.data()


def _ascii_comment(domain: Domain, utf8: bool) -> Iterable[str]:
    """For a name that is written in Unicode, its ASCII form as a comment."""
    return (f"({domain.ascii})",) if utf8 and domain.unicode else ()


def return_path(mail_from: Path, utf8: bool = True) -> bytes:
    """The Return-Path field of final delivery, RFC 5321 4.4."""
    return f"Return-Path: {mail_from.wire(utf8)}\r\n".encode()


def delivered_to(recipient: Path, utf8: bool = True) -> bytes:
    """The Delivered-To field (RFC 9228): the final address, against loops."""
    return f"Delivered-To: {recipient.form(utf8)}\r\n".encode()


def reason_header(reason: str, details: Sequence[str] = ()) -> bytes:
    """The X-Mox-Reason field: why a message was accepted, or not, each detail on its line."""
    writer = HeaderWriter("X-Mox-Reason", width=10_000)
    writer.add(reason + ";")
    for index, detail in enumerate(details):
        if index:
            writer.newline()
        writer.add(detail[:900] + ";")
    return writer.data()


@dataclass(frozen=True, slots=True)
class ReceivedSPF:
    """The result of an SPF check, RFC 7208 9.1.

    identity: `mailfrom` or `helo`, the one that was checked; empty for neither.
    """

    result: str
    client_ip: str
    envelope_from: Path
    helo: IPDomain
    receiver: str
    identity: str
    comment: str = ""
    problem: str = ""
    mechanism: str = ""


def received_spf(spf: ReceivedSPF, utf8: bool = True) -> bytes:
    """The Received-SPF field."""
    writer = HeaderWriter("Received-SPF")
    writer.add(spf.result)
    if spf.comment:
        writer.add(*comment(spf.comment).split(" "))
    helo = spf.helo.ip if spf.helo.ip is not None else spf.helo.form(utf8)
    pairs = [
        ("client-ip", spf.client_ip),
        ("envelope-from", spf.envelope_from.form(utf8)),
        ("helo", helo),
    ]
    if spf.problem:  # On one line.
        pairs.append(("problem", spf.problem[: WIDTH - len("\tproblem=\"\";")]))
    if spf.mechanism:
        pairs.append(("mechanism", spf.mechanism))
    pairs.append(("receiver", spf.receiver))
    if spf.identity:
        pairs.append(("identity", spf.identity))
    for key, value in pairs[:-1]:
        writer.add(f"{key}={dot_atom_or_quoted(value)};")
    key, value = pairs[-1]
    writer.add(f"{key}={dot_atom_or_quoted(value)}")
    return writer.data()


@dataclass(frozen=True, slots=True)
class AuthProp:
    """A property of a result, RFC 8601 2.2: `ptype.property=value`.

    address_like: the value is an address or domain, in which "@" needs no quotes.
    """

    ptype: str
    property: str
    value: str
    comment: str = ""
    address_like: bool = False


@dataclass(frozen=True, slots=True)
class AuthMethod:
    """The result of one authentication method, RFC 8601 2.7."""

    method: str
    result: str
    comment: str = ""
    reason: str = ""
    props: tuple[AuthProp, ...] = ()


def domain_prop(ptype: str, name: str, domain: Domain, utf8: bool) -> AuthProp:
    """A property that is a domain: in Unicode with ASCII as a comment, or in ASCII."""
    ascii_comment = domain.ascii if utf8 and domain.unicode else ""
    return AuthProp(ptype, name, domain.form(utf8), ascii_comment, address_like=True)


_MAX_REASON: Final = 500


def authentication_results(
    hostname: str, methods: Sequence[AuthMethod], *, note: str = "", instance: int = 0
) -> bytes:
    """The Authentication-Results field (RFC 8601), each method on a line of its own.

    hostname: the authserv-id, our name.
    note: a comment before it.
    instance: makes it the field ARC-Authentication-Results of that number (RFC 8617 4.1.1).
    """
    if instance:
        writer = HeaderWriter("ARC-Authentication-Results")
        writer.add(f"i={instance};")
    else:
        writer = HeaderWriter("Authentication-Results")
    if note:
        writer.add(comment(note))
    writer.add(f"{token_or_quoted(hostname)};")
    if not methods:
        writer.add("none")
    for index, method in enumerate(methods):
        tokens = [f"{method.method}={method.result}"]
        # A comment that ends the method would be taken for one on the next.
        if method.comment and (method.reason or method.props):
            tokens += comment(method.comment).split(" ")
        if method.reason:
            tokens += ("reason=" + token_or_quoted(method.reason[:_MAX_REASON])).split(" ")
        for prop in method.props:
            value = token_or_quoted(prop.value, address_like=prop.address_like)
            tokens.append(f"{prop.ptype}.{prop.property}={value}")
            if prop.comment:
                tokens += comment(prop.comment).split(" ")
        if index < len(methods) - 1:
            tokens[-1] += ";"
        writer.newline()
        writer.add(*tokens)
    return writer.data()
