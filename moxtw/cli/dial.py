"""Commands that connect to a server and leave the conversation to the user."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

from moxtw.cli.command import CommandError, UsageError
from moxtw.cli.dns import make_resolver, run_async
from moxtw.cli.invocation import Invocation
from moxtw.cli.output import clean
from moxtw.cli.senders import domain_argument

if TYPE_CHECKING:
    from moxtw.dns.resolver import TLSA, Resolver
    from moxtw.queue.hosts import Destination, HostFinder
    from moxtw.queue.mtasts import Known

_VERSIONS: Final = ("tls10", "tls11", "tls12", "tls13")
_TIMEOUT: Final = 30


def host_port(text: str, default: int = 0) -> tuple[str, int]:
    """Name or address (in brackets if IPv6) and port of an argument. Raises UsageError."""
    host, colon, port = text.rpartition(":")
    if not colon or (":" in host and not host.startswith("[")) or text.endswith("]"):
        host, port = text, ""
        if not default:
            raise UsageError(f"{text!r}: need host:port")
    host = host.strip("[]")
    number = int(port) if port.isascii() and port.isdigit() else 0 if port else default
    if not 0 < number < 65536 or not host:
        raise UsageError(f"{text!r}: need host:port")
    return host, number


async def _addresses(resolver: Resolver, host: str) -> tuple[str, ...]:
    import ipaddress

    from moxtw.dns.resolver import ips

    try:
        return (str(ipaddress.ip_address(host)),)
    except ValueError:
        return tuple((await ips(resolver, host)).records)


# -- Between the terminal and the server ---------------------------------------------------


class _Terminal:
    """Copies between standard streams and a connection until one of them ends."""

    def __init__(self, invocation: Invocation, transport: Any) -> None:
        from twisted.internet.defer import Deferred

        self._invocation = invocation
        self._transport = transport
        self.ended: Deferred[None] = Deferred()

    def received(self, data: bytes) -> None:
        """Bytes of the server."""
        self._invocation.write_bytes(data)
        self._invocation.stdout.flush()

    def lost(self, reason: Any) -> None:
        """The connection is gone."""
        if not self.ended.called:
            self.ended.callback(None)

    def read_input(self, reactor: Any) -> None:
        """Begin to copy standard input, in a thread, as that works for files, too."""
        stdin = getattr(self._invocation.stdin, "buffer", self._invocation.stdin)

        def copy() -> None:
            while True:
                try:
                    data = stdin.read1(65536) if hasattr(stdin, "read1") else stdin.read(65536)
                except (OSError, ValueError):
                    data = b""
                data = data.encode() if isinstance(data, str) else data
                reactor.callFromThread(self._typed, data)
                if not data:
                    return

        import threading

        # Not one of the pool's: those are waited for at the end, and this may wait for ever.
        threading.Thread(target=copy, daemon=True).start()

    def _typed(self, data: bytes) -> None:
        if data:
            # A terminal sends LF, the protocols want CRLF.
            self._transport.write(data.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n"))
        else:
            self._transport.loseConnection()


async def _converse(invocation: Invocation, reactor: Any, session: Any) -> None:
    terminal = _Terminal(invocation, session.transport)
    session.hand_over(terminal.received, terminal.lost)
    terminal.read_input(reactor)
    await terminal.ended


def _run(work: Callable[[Any], Any]) -> None:
    """Run, and tell of what goes wrong with servers and names. Raises CommandError."""
    from moxtw.dns.resolver import DNSError
    from moxtw.queue.delivery import DeliveryError

    try:
        run_async(work)
    except DeliveryError as exc:
        raise CommandError(clean(exc.text)) from exc
    except DNSError as exc:
        raise CommandError(clean(str(exc))) from exc


def _tell_tls(invocation: Invocation, session: Any) -> None:
    from moxtw.net.tlsinfo import tls_connection, tls_info

    connection = tls_connection(session.transport)
    if connection is None:
        invocation.warn("no tls")
        return
    info = tls_info(connection)
    invocation.warn(f"tls: {info.version}, {info.cipher}, server name {info.server_name or '-'}")
    for certificate in (connection.get_peer_cert_chain() or [])[:10]:
        found = certificate.to_cryptography()
        invocation.warn(
            clean(
                f"certificate: {found.subject.rfc4514_string()}, by "
                f"{found.issuer.rfc4514_string()}, until {found.not_valid_after_utc:%Y-%m-%d}"
            )
        )
    for finding in session.tls_findings:
        invocation.warn(clean(f"certificate is not verified: {finding.text}"))


# -- SMTP ----------------------------------------------------------------------------------


def smtp_dial(invocation: Invocation) -> None:
    """``moxtw smtp dial``."""
    import socket

    from moxtw.net.tlsclient import Options, Roots
    from moxtw.queue.delivery import Target, Timeouts, TLSMode
    from moxtw.smtp.dial import Dialer

    host, port = host_port(invocation.args[0], 25)
    if invocation.switch("forcetls") and invocation.switch("notls"):
        raise UsageError("not both -forcetls and -notls")
    mode = TLSMode.OPPORTUNISTIC
    if invocation.switch("notls"):
        mode = TLSMode.SKIP
    elif invocation.switch("forcetls"):
        mode = TLSMode.REQUIRED
    files = invocation.text("tlscerts")
    pems = [_read(path) for path in files.split(",")] if files else []
    try:
        options = Options(
            least=_version(invocation, "tlsversionmin"),
            most=_version(invocation, "tlsversionmax"),
            ciphers=invocation.text("tlsciphersuites").replace(",", ":"),
            curves=invocation.text("tlscurves").replace(",", ":"),
            tickets=not invocation.switch("tlsnosessiontickets"),
        )
        roots = Roots(system=not pems, pems=pems, options=options)
    except ValueError as exc:
        raise UsageError(str(exc)) from exc

    async def work(reactor: Any) -> None:
        ips = await _addresses(make_resolver(invocation, reactor), host)
        target = Target(
            host=invocation.text("remotehostname") or host,
            ips=ips,
            port=port,
            ehlo=invocation.text("ehlohostname") or socket.getfqdn(),
            tls=mode,
            verify=invocation.switch("tlsverify"),
            timeouts=Timeouts(dial=_TIMEOUT, greeting=_TIMEOUT, command=_TIMEOUT),
        )
        session = await Dialer(reactor, roots).connect(target)
        invocation.warn(f"connected to {session.remote_ip}, from {session.local_ip}")
        _tell_tls(invocation, session)
        for line in session.announced:
            invocation.warn(clean(line))
        await _converse(invocation, reactor, session)

    _run(work)


def _version(invocation: Invocation, flag: str) -> int:
    from OpenSSL import SSL

    text = invocation.text(flag).lower().replace("v", "").replace(".", "")
    if not text:
        return 0
    if text not in _VERSIONS:
        raise UsageError(f"flag -{flag}: need one of {', '.join(_VERSIONS)}")
    return int(getattr(SSL, f"TLS1_{text[-1]}_VERSION"))


def _read(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read(1 << 20)
    except OSError as exc:
        raise CommandError(f"{path}: {exc.strerror}") from exc


# -- DANE ----------------------------------------------------------------------------------


def dane_dial(invocation: Invocation) -> None:
    """``moxtw dane dial``."""
    host, port = host_port(invocation.args[0])
    name = domain_argument(host).ascii
    usages = _usages(invocation.text("usages"))

    async def work(reactor: Any) -> None:
        from moxtw.tlspolicy import dane

        resolver = make_resolver(invocation, reactor)
        found = await dane.find(resolver, [name], port=port)
        records = () if found is None else found.records
        chosen = tuple(each for each in records if each.usage in usages)
        if not chosen:
            raise CommandError(
                f"no TLSA records that DNSSEC vouches for at _{port}._tcp.{name}, of usages "
                f"{', '.join(map(str, sorted(usages)))}"
            )
        _tell_records(invocation, chosen)
        session = await _dial_tls(invocation, reactor, resolver, name, port, chosen)
        await _converse(invocation, reactor, session)

    _run(work)


def _usages(text: str) -> set[int]:
    known = {"pkix-ta": 0, "pkix-ee": 1, "dane-ta": 2, "dane-ee": 3}
    if not text:
        return set(known.values())
    found = set()
    for word in text.lower().split(","):
        if word.strip() not in known:
            raise UsageError(f"flag -usages: need some of {', '.join(known)}")
        found.add(known[word.strip()])
    return found


def _tell_records(invocation: Invocation, records: Sequence[TLSA]) -> None:
    from moxtw.tlspolicy.dane import presentation

    for record in records:
        invocation.warn(f"TLSA {presentation(record)}")


async def _dial_tls(
    invocation: Invocation,
    reactor: Any,
    resolver: Resolver,
    host: str,
    port: int,
    records: Sequence[TLSA],
) -> Any:
    """A connection with TLS from the first byte on, which fits one of the records."""
    from twisted.internet.endpoints import TCP4ClientEndpoint, TCP6ClientEndpoint
    from twisted.internet.error import ConnectError
    from twisted.internet.protocol import Factory

    from moxtw.net.tlsclient import ClientTLS, Roots
    from moxtw.queue.delivery import Timeouts
    from moxtw.smtp.client import DeliveryClient
    from moxtw.tlspolicy import dane

    def make() -> Any:
        return DeliveryClient(host, host, reactor, Timeouts(handshake=_TIMEOUT))

    errors = []
    client: Any = None
    for ip in await _addresses(resolver, host):
        factory: Any = Factory.forProtocol(make)
        factory.noisy = False
        endpoint = TCP6ClientEndpoint if ":" in ip else TCP4ClientEndpoint
        try:
            client = await endpoint(reactor, ip, port, timeout=_TIMEOUT).connect(factory)
        except (ConnectError, OSError) as exc:
            errors.append(f"{ip}: {exc}")
            continue
        invocation.warn(f"connected to {ip} port {port}")
        break
    if client is None:
        raise CommandError(f"connecting to {host} port {port}: {'; '.join(errors)}")

    def check(chain: Any) -> None:
        problem = None if tls.problem is None else str(tls.problem)
        dane.verify_any(records, chain, (host,), now=reactor.seconds(), problem=problem)

    tls = ClientTLS(host, Roots(), verify=False, check=check)
    await client.secure(tls, greeting=True)
    invocation.warn("verified with DANE")
    client.tls_findings = ()
    _tell_tls(invocation, client)
    return client


def dane_dialmx(invocation: Invocation) -> None:
    """``moxtw dane dialmx``."""
    domain = domain_argument(invocation.args[0]).ascii
    only = domain_argument(invocation.args[1]).ascii if len(invocation.args) > 1 else ""

    async def work(reactor: Any) -> None:
        from random import SystemRandom

        from moxtw.queue.hosts import HostFinder

        resolver = make_resolver(invocation, reactor)
        finder = HostFinder(resolver, reactor, SystemRandom())
        destination = await finder.destination(domain)
        if not destination.authentic:
            raise CommandError(f"DNSSEC does not vouch for the hosts of {domain}: no DANE")
        hosts = (only,) if only else destination.hosts
        invocation.warn(f"hosts: {', '.join(hosts)}")
        for host in hosts:
            session = await _dial_host(
                invocation, reactor, resolver, finder, destination, host
            )
            if session is not None:
                await _converse(invocation, reactor, session)
                return
        raise CommandError("no session that is verified with DANE")

    _run(work)


class _NoPolicies:
    """In place of MTA-STS policies: this is about DANE."""

    async def get(self, domain: str) -> Known:
        """None."""
        from moxtw.queue.mtasts import Known

        return Known(None)


async def _dial_host(
    invocation: Invocation,
    reactor: Any,
    resolver: Resolver,
    finder: HostFinder,
    destination: Destination,
    host: str,
) -> Any:
    """A session with a host as for a delivery, verified with DANE; None if there is none."""
    import socket

    from moxtw.dns.resolver import DNSError
    from moxtw.net.tlsclient import Roots
    from moxtw.queue.delivery import DeliveryError, Target, Timeouts
    from moxtw.queue.tlsreport import TLSReport
    from moxtw.queue.tlsrules import Safety
    from moxtw.smtp.dial import Dialer

    policies: Any = _NoPolicies()
    try:
        addresses = await finder.addresses(host, ())
        rules = Safety(policies, resolver, reactor)
        rule = await rules.domain(destination.name, None, TLSReport(destination.name))
        demanded = await rule.host(destination, addresses)
        if demanded.dane is None:
            invocation.warn(f"{host}: no usable TLSA records that DNSSEC vouches for")
            return None
        _tell_records(invocation, demanded.dane.records)
        session = await Dialer(reactor, Roots()).connect(
            Target(
                host=host,
                ips=addresses.ips,
                port=25,
                ehlo=invocation.text("ehlohostname") or socket.getfqdn(),
                tls=demanded.mode,
                dane=demanded.dane,
                server_name=demanded.server_name,
                timeouts=Timeouts(dial=_TIMEOUT, greeting=_TIMEOUT, command=_TIMEOUT),
            )
        )
    except (DeliveryError, DNSError) as exc:
        invocation.warn(clean(f"{host}: {exc}"))
        return None
    invocation.warn(f"connected to {session.remote_ip}, verified with DANE")
    session.tls_findings = ()
    _tell_tls(invocation, session)
    return session
