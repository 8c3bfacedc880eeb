"""Connecting to SMTP servers: from a target to a session that is ready for messages."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from typing import Any, Final

from cryptography import x509
from twisted.internet.defer import CancelledError
from twisted.internet.endpoints import TCP4ClientEndpoint, TCP6ClientEndpoint
from twisted.internet.error import ConnectError, ConnectingCancelledError
from twisted.internet.protocol import Factory

from moxtw.log import Logger
from moxtw.net.socks import SOCKSEndpoint
from moxtw.net.tlsclient import ClientTLS, Roots
from moxtw.queue.delivery import DeliveryError, Finding, Target, TLSMode, Trouble
from moxtw.smtp.client import DeliveryClient
from moxtw.tlspolicy.dane import DANEError, verify

_log: Final = Logger("smtpclient")


class Dialer:
    """Connects to servers (`moxtw.queue.delivery.SMTPDialer`).

    roots
        The certificate authorities that verified sessions trust.
    connected
        Called for each connection that was made.
    """

    def __init__(
        self, reactor: Any, roots: Roots, connected: Callable[[], object] = lambda: None
    ) -> None:
        self._reactor = reactor
        self._roots = roots
        self._connected = connected

    async def connect(
        self, target: Target, *, dialed: Callable[[str], None] | None = None
    ) -> DeliveryClient:
        """Connect, greet, set up TLS, log in. Raises DeliveryError.

        `dialed` is called with the address as soon as a connection is made, as that counts
        even if what follows fails.
        """
        client = await self._dial(target)
        self._connected()
        if dialed is not None:
            dialed(client.remote_ip)
        limit = target.timeouts.setup
        deadline = (
            None
            if limit is None
            else self._reactor.callLater(
                limit,
                lambda: client.fail(
                    DeliveryError(
                        Trouble.TIMEOUT,
                        f"{target.host}: no session in time",
                        remote_mta=target.host,
                    )
                ),
            )
        )
        try:
            await self._set_up(client, target)
        except DeliveryError as exc:
            exc.remote_mta = exc.remote_mta or target.host
            exc.local_ip = client.local_ip
            if exc.trouble in (Trouble.REPLY, Trouble.UNSUPPORTED):
                await client.close()
            else:
                client.abort()
            raise
        except BaseException:
            client.abort()
            raise
        finally:
            if deadline is not None and deadline.active():
                deadline.cancel()
        return client

    async def _set_up(self, client: DeliveryClient, target: Target) -> None:
        if target.tls is TLSMode.IMMEDIATE:
            await client.secure(self._tls(client, target), greeting=True)
        await client.greet()
        await client.hello()
        if target.tls is TLSMode.REQUIRED or (
            target.tls is TLSMode.OPPORTUNISTIC and client.extensions.starttls
        ):
            await client.starttls(self._tls(client, target))
            await client.hello()
        if target.login is not None:
            await client.log_in(target.login)

    def _tls(self, client: DeliveryClient, target: Target) -> Any:
        dane = target.dane
        check = None
        if dane is not None:

            def check(chain: list[x509.Certificate]) -> None:
                """See that a record fits the certificates."""
                try:
                    verify(dane.records, chain, dane.names, now=self._reactor.seconds())
                except DANEError as exc:
                    if dane.enforce:
                        raise
                    client.tls_findings += (Finding(exc.kind, exc.reason, str(exc)),)

        return ClientTLS(
            target.host,
            self._roots,
            verify=target.verify,
            check=check,
            server_name=target.server_name,
            pair=target.pair,
        )

    def _endpoint(self, target: Target, ip: str, timeout: float, local: dict[int, str]) -> Any:
        """The way to an address, of a server or of the proxy in between."""
        to, port = target.proxy or (ip, target.port)
        version = ipaddress.ip_address(to.partition("%")[0]).version
        make = TCP4ClientEndpoint if version == 4 else TCP6ClientEndpoint
        bind = (local[version], 0) if version in local and target.proxy is None else None
        endpoint = make(self._reactor, to, port, timeout=timeout, bindAddress=bind)
        if target.proxy is None:
            return endpoint
        return SOCKSEndpoint(self._reactor, endpoint, ip, target.port, timeout)

    async def _dial(self, target: Target) -> DeliveryClient:
        """A connection to the first address that takes one; each has its share of time."""
        if not target.ips:
            raise DeliveryError(
                Trouble.DIAL, f"{target.host}: no addresses", remote_mta=target.host
            )
        share = max(1.0, target.timeouts.dial / len(target.ips))
        local = dict(target.local_ips)
        errors: list[str] = []
        factory: Any = Factory.forProtocol(
            lambda: DeliveryClient(target.host, target.ehlo, self._reactor, target.timeouts)
        )
        factory.noisy = False
        for ip in target.ips:
            endpoint = self._endpoint(target, ip, share, local)
            try:
                client: DeliveryClient = await endpoint.connect(factory)
            except (CancelledError, ConnectingCancelledError) as exc:
                raise DeliveryError(
                    Trouble.CANCELED, f"{target.host}: delivery was stopped"
                ) from exc
            except (ConnectError, OSError) as exc:
                _log.debug("dial", host=target.host, ip=ip, port=target.port, err=exc)
                errors.append(f"{ip}: {exc}")
                continue
            client.remote_ip = ip
            client.local_ip = getattr(client.transport.getHost(), "host", "")
            return client
        raise DeliveryError(
            Trouble.DIAL,
            f"connecting to {target.host} port {target.port}: {'; '.join(errors)}",
            remote_mta=target.host,
        )
