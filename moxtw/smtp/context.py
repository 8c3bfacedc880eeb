"""What SMTP connections work with: the services of the whole, and settings of a listener."""

from __future__ import annotations

from collections.abc import Awaitable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, Protocol

from moxtw.mail.domain import Domain

if TYPE_CHECKING:
    from moxtw.config.live import LiveConfig
    from moxtw.config.static import Listener, Static
    from moxtw.dns.resolver import Resolver
    from moxtw.inbound.deliver import Deliverer
    from moxtw.net.cid import ConnectionIds
    from moxtw.net.tls import ServerTLS
    from moxtw.queue.submit import SubmitRequest
    from moxtw.ratelimit import Limiter
    from moxtw.smtp.sendercheck import SenderDomains
    from moxtw.store.auth import Authenticator
    from moxtw.store.content import Contents

Kind = Literal["smtp", "submission", "submissions"]

DEFAULT_MAX_SIZE: Final = 100 << 20


class Submit(Protocol):
    """The way into the queue, as `moxtw.queue.submit.Submitter`: refuses with SubmitError."""

    def __call__(self, request: SubmitRequest) -> Awaitable[object]:
        """Check, complete, sign and queue a message; done once it is durable."""
        ...


@dataclass(frozen=True, slots=True)
class SMTPContext:
    """The services that connections use. `reactor` is their clock too."""

    reactor: Any
    config: LiveConfig
    contents: Contents
    authenticator: Authenticator
    senders: SenderDomains
    deliverer: Deliverer
    submit: Submit
    cids: ConnectionIds
    connection_rate: Limiter
    open_connections: Limiter
    failed_auth: Limiter
    refusals: Limiter
    resolver: Resolver
    localserve: bool = False


@dataclass(frozen=True, slots=True)
class Settings:
    """What holds for the connections of one listening socket.

    listener: its name, for metrics. hostname: for greeting and EHLO. max_size: bytes of a
    message. require_tls_to_send: no mail, and for submission no AUTH with passwords, without
    TLS. requiretls: offer REQUIRETLS. client_certificates: log in by TLS client certificate.
    first_time_sender_delay: seconds. greeting_delay: seconds; None: only for addresses from
    which much was refused lately. dnsbls: block lists to ask about clients that nobody knows.
    """

    kind: Kind
    listener: str
    hostname: Domain
    max_size: int = DEFAULT_MAX_SIZE
    tls: ServerTLS | None = None
    require_tls_to_send: bool = False
    requiretls: bool = True
    client_certificates: bool = False
    first_time_sender_delay: float = 15.0
    greeting_delay: float | None = None
    pedantic: bool = False
    dnsbls: tuple[Domain, ...] = ()

    @property
    def submission(self) -> bool:
        """Whether users send here, rather than other servers."""
        return self.kind != "smtp"

    @property
    def implicit_tls(self) -> bool:
        """Whether TLS begins at once."""
        return self.kind == "submissions"


def settings_for(
    kind: Kind, name: str, listener: Listener, static: Static, tls: ServerTLS | None
) -> Settings:
    """The settings of a listener's SMTP service."""
    client_certificates = (
        kind != "smtp"
        and tls is not None
        and listener.tls is not None
        and not listener.tls.client_auth_disabled
    )
    if kind == "smtp":
        require = listener.smtp.require_starttls
        requiretls = not listener.smtp.no_require_tls
        if listener.smtp.no_starttls:
            tls = None
    else:
        require = kind == "submissions" or not listener.submission.no_require_starttls
        requiretls = True
    delay = listener.smtp.greeting_delay
    return Settings(
        kind=kind,
        listener=name,
        hostname=listener.effective_hostname,
        max_size=listener.effective_max_message_size,
        tls=tls,
        require_tls_to_send=require,
        requiretls=requiretls,
        client_certificates=client_certificates,
        first_time_sender_delay=listener.smtp.effective_first_time_sender_delay.seconds,
        greeting_delay=None if delay is None else delay.seconds,
        pedantic=static.pedantic,
        dnsbls=listener.smtp.dnsbl_zones,
    )
