"""Commands that ask the DNS."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, TypeVar

from moxtw.cli.command import CommandError, UsageError
from moxtw.cli.invocation import Invocation

if TYPE_CHECKING:
    from moxtw.config.static import Static
    from moxtw.dns.resolver import Answer, Resolver
    from moxtw.net.tlsclient import Roots

T = TypeVar("T")

TYPES = ("ptr", "mx", "cname", "ips", "a", "aaaa", "ns", "txt", "srv", "tlsa")


def run_async(fn: Callable[[Any], Awaitable[T]]) -> T:
    """Run a coroutine function with the reactor, and give its result."""
    from twisted.internet import reactor as global_reactor
    from twisted.internet.defer import Deferred
    from twisted.python.failure import Failure

    reactor: Any = global_reactor
    results: list[Any] = []

    async def call() -> None:
        try:
            results.append(await fn(reactor))
        except Exception:  # noqa: BLE001 - raised again behind the reactor's run
            results.append(Failure())
        reactor.callLater(0, reactor.stop)

    reactor.callWhenRunning(lambda: Deferred.fromCoroutine(call()))
    reactor.run()
    if not results:
        raise KeyboardInterrupt
    result = results[0]
    if isinstance(result, Failure):
        result.raiseException()
    found: T = result
    return found


def make_resolver(invocation: Invocation, reactor: Any) -> Resolver:
    """The resolver that flag ``-resolver`` names, else that of the configuration or the system.

    Raises UsageError.
    """
    from moxtw.dns.client import StubResolver

    servers = None
    if named := invocation.flags.get("resolver"):
        try:
            return StubResolver(reactor, [str(named)])
        except ValueError as exc:
            raise UsageError(f"flag -resolver: {exc}") from exc
    if os.path.exists(invocation.config_path):
        servers = [
            f"[{ip}]:{port}" if ":" in ip else f"{ip}:{port}"
            for ip, port in invocation.static().resolver_addresses
        ]
    return StubResolver(reactor, servers or None)


def configured_roots(static: Static) -> Roots:
    """The authorities that the configuration trusts. Blocks. Raises CommandError."""
    from moxtw.net.certs import CertError
    from moxtw.net.tlsclient import Roots

    ca = static.tls.ca
    try:
        pems = [static.directory.joinpath(name).read_bytes() for name in ca.cert_files]
        return Roots(system=ca.additional_to_system or not pems, pems=pems)
    except (OSError, CertError) as exc:
        raise CommandError(str(exc)) from exc


def lookup(invocation: Invocation) -> None:
    """``moxtw dns lookup``."""
    kind, name = invocation.args if len(invocation.args) == 2 else ("ips", invocation.args[0])
    kind = kind.lower()
    if kind not in TYPES:
        raise UsageError(f"unknown type {kind!r}: one of {', '.join(TYPES)}")
    run_async(
        lambda reactor: print_lookup(invocation, make_resolver(invocation, reactor), kind, name)
    )


async def print_lookup(invocation: Invocation, resolver: Resolver, kind: str, name: str) -> None:
    """Look up, and print the records. Raises CommandError."""
    import ipaddress

    from moxtw.dns import resolver as dns

    try:
        answer: Answer[Any]
        if kind == "ptr":
            try:
                ipaddress.ip_address(name)
            except ValueError as exc:
                raise UsageError(str(exc)) from exc
            answer = await dns.ptr(resolver, name)
        elif kind == "ips":
            answer = await dns.ips(resolver, name)
        else:
            lookup = {"mx": dns.mx, "srv": dns.srv}.get(kind)
            if lookup is not None:
                answer = await lookup(resolver, name)
            else:
                answer = await resolver.lookup(name, kind.upper())
    except dns.DNSError as exc:
        raise CommandError(f"{exc}{_authentic(getattr(exc, 'authentic', None))}") from exc
    count = len(answer)
    invocation.print(
        f"records ({count}, {'with' if answer.authentic else 'without'} DNSSEC):"
    )
    for record in answer:
        invocation.print("- " + format_record(kind, record))


def _authentic(authentic: bool | None) -> str:
    if authentic is None:
        return ""
    return f" ({'with' if authentic else 'without'} DNSSEC)"


def format_record(kind: str, record: Any) -> str:
    """A record as a line."""
    from moxtw.cli.output import clean

    if kind == "mx":
        return f"{record.host}, preference {record.preference}"
    if kind == "srv":
        return (
            f"{record.target}, port {record.port}, priority {record.priority}, "
            f"weight {record.weight}"
        )
    if kind == "tlsa":
        return f"{record.usage} {record.selector} {record.match} {record.data.hex()}"
    if kind == "txt":
        return '"' + clean(record) + '"'
    return clean(str(record))


def dkim_lookup(invocation: Invocation) -> None:
    """``moxtw dkim lookup``."""
    selector, domain = invocation.args
    name = f"{selector}._domainkey.{domain}"
    run_async(
        lambda reactor: print_lookup(invocation, make_resolver(invocation, reactor), "txt", name)
    )


def domain_age(invocation: Invocation) -> None:
    """``moxtw rdap domainage``."""
    from datetime import UTC, datetime

    from moxtw.admin import rdap
    from moxtw.mail.domain import DomainError, parse_domain
    from moxtw.net.tlsclient import Roots
    from moxtw.queue.hookcall import make_client

    try:
        domain = parse_domain(invocation.args[0])
    except DomainError as exc:
        raise UsageError(str(exc)) from exc
    bootstrap = invocation.text("list") or rdap.BOOTSTRAP

    async def ask(reactor: Any) -> datetime:
        client = make_client(make_resolver(invocation, reactor), reactor, Roots())
        return await rdap.registration(client, domain, reactor, bootstrap=bootstrap)

    try:
        registered = run_async(ask)
    except rdap.RDAPError as exc:
        raise CommandError(f"{domain.name}: {exc}") from exc
    days = (datetime.now(UTC) - registered).days
    name = rdap.registered_domain(domain).name
    years = f" ({days / 365.2425:.1f} years)" if days >= 365 else ""
    invocation.print(f"{name} was registered on {registered:%Y-%m-%d}, {days} days ago{years}.")
