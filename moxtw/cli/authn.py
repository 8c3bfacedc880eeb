"""Commands that check messages as their receiver does: DKIM, DMARC."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from moxtw.cli.command import CommandError, UsageError
from moxtw.cli.dns import make_resolver, run_async
from moxtw.cli.invocation import Invocation
from moxtw.cli.output import clean
from moxtw.cli.senders import _dnssec, _ip, _show, domain_argument

if TYPE_CHECKING:
    from moxtw.authn.dkim import DKIMResult
    from moxtw.authn.dmarc import Found
    from moxtw.authn.dmarcpermit import Permission
    from moxtw.dns.resolver import Resolver
    from moxtw.mail.domain import Domain
    from moxtw.mail.parsed import ParsedMessage


def _with_crlf(data: bytes) -> bytes:
    """A message as it is on the wire, whatever the line ends of its file are."""
    return data.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")


def dkim_verify(invocation: Invocation) -> None:
    """``moxtw dkim verify``."""
    from moxtw.authn.dkim import verify
    from moxtw.authn.signedmessage import BytesSource

    with open(invocation.args[0], "rb") as file:
        data = _with_crlf(file.read())
    results = run_async(
        lambda reactor: verify(
            make_resolver(invocation, reactor), BytesSource(data), int(time.time()), clock=reactor
        )
    )
    if not results:
        raise CommandError("the message has no DKIM signatures")
    for result in results:
        _show_signature(invocation, result)
    if not any(result.passed for result in results):
        raise CommandError("no signature is good")


def _show_signature(invocation: Invocation, result: DKIMResult) -> None:
    _show(
        invocation,
        dkim=result.status,
        reason=result.reason,
        domain="" if result.domain is None else result.domain.name,
        selector="" if result.selector is None else result.selector.name,
        algorithm=result.algorithm,
        bits=str(result.bits or ""),
        identity=result.identity,
        dnssec=_dnssec(result.authentic),
    )


def dmarc_lookup(invocation: Invocation) -> None:
    """``moxtw dmarc lookup``."""
    domain = domain_argument(invocation.args[0])
    walk = invocation.switch("treewalk")
    found = run_async(lambda reactor: _record(make_resolver(invocation, reactor), domain, walk))
    known = f"({_dnssec(found.authentic)} DNSSEC)"
    invocation.print(f"{found.domain.name}: {clean(found.text)} {known}")


async def _record(resolver: Resolver, domain: Domain, tree_walk: bool = False) -> Found:
    """The record of a domain. Raises CommandError without one."""
    from moxtw.authn.dmarc import lookup

    found = await lookup(resolver, domain, tree_walk=tree_walk)
    if found.record is None:
        raise CommandError(clean(found.reason or "no DMARC record"))
    return found


def dmarc_verify(invocation: Invocation) -> None:
    """``moxtw dmarc verify``."""
    from moxtw.authn.evaluate import Evaluation
    from moxtw.mail.address import AddressError, IPDomain, parse_path
    from moxtw.mail.domain import parse_domain
    from moxtw.mail.parsed import analyse

    ip = _ip(invocation.args[0])
    try:
        mail_from = parse_path(invocation.args[1])
    except AddressError as exc:
        raise UsageError(f"mail from address: {exc}") from exc
    hello = IPDomain(domain=domain_argument(invocation.args[2]))
    data = _with_crlf(invocation.read_bytes())

    message = _Message(data, analyse(data))
    result = run_async(
        lambda reactor: Evaluation(
            make_resolver(invocation, reactor),
            reactor,
            lambda: parse_domain("localhost"),
            # All messages are judged alike here, whatever the share of them that a policy is for.
            random=lambda below: 0,
            tree_walk=invocation.switch("treewalk"),
        ).authenticate(
            remote_ip=ip, hello=hello, mail_from=mail_from, message=message, cid=0, utf8=True
        )
    )
    assert result.spf is not None
    _show(
        invocation,
        spf=result.spf.status,
        mechanism=result.spf.mechanism,
        problem=result.spf.problem,
    )
    for signature in result.dkim:
        _show_signature(invocation, signature)
    dmarc = result.dmarc
    if dmarc is None:
        raise CommandError("the message has no single author, so there is no policy for it")
    _show(
        invocation,
        dmarc=dmarc.status,
        reason=dmarc.reason,
        domain="" if dmarc.record_domain is None else dmarc.record_domain.name,
        record=dmarc.record_text,
        policy=dmarc.policy if dmarc.record is not None else "",
        reject="yes" if dmarc.reject else "no",
        dnssec=_dnssec(dmarc.authentic),
    )


class _Message:
    """A message in memory, for the checks."""

    def __init__(self, data: bytes, parsed: ParsedMessage) -> None:
        self._data = data
        self.size = len(data)
        self.parsed = parsed

    def read(self, start: int, length: int) -> bytes:
        """A piece of it."""
        return self._data[start : start + length]


def dmarc_check_report_addrs(invocation: Invocation) -> None:
    """``moxtw dmarc checkreportaddrs``."""
    domain = domain_argument(invocation.args[0])

    async def check(reactor: object) -> list[tuple[str, Permission]]:
        resolver = make_resolver(invocation, reactor)
        found = await _record(resolver, domain)
        assert found.record is not None
        return [
            (f"{name} {each}", await _takes_reports(resolver, found.domain, each.uri))
            for name, uris in (("rua", found.record.rua), ("ruf", found.record.ruf))
            for each in uris
        ]

    answers = run_async(check)
    words = {"pass": "takes reports", "none": "takes no reports", "temperror": "not known"}
    for uri, said in answers:
        line = f"{uri}: {words[said.status]}"
        invocation.print(clean(f"{line}: {said.reason}" if said.reason else line))
    if not answers:
        raise CommandError("the record has no addresses for reports")
    if any(said.status != "pass" for _, said in answers):
        raise CommandError("reports to some addresses will not be sent")


async def _takes_reports(resolver: Resolver, about: Domain, uri: str) -> Permission:
    """Whether reports about a domain may go to an address."""
    from moxtw.authn.dmarc import organizational
    from moxtw.authn.dmarcpermit import Permission, permission
    from moxtw.mail.address import AddressError, parse_address

    scheme, _, rest = uri.partition(":")
    try:
        taker = parse_address(rest).domain if scheme.lower() == "mailto" else None
    except AddressError:
        taker = None
    if taker is None:
        return Permission("none", reason="not an address for mail")
    if organizational(taker) == organizational(about):
        return Permission("pass")
    return await permission(resolver, about, taker)
