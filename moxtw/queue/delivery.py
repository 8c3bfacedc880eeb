"""What the queue asks of an SMTP client: the seam between deciding and speaking.

The queue decides where a message goes and how safe the way must be; an `SMTPDialer`, which
the service plugs in, connects and speaks. Nothing here knows of sockets.
"""

from __future__ import annotations

import enum
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from moxtw.dns.resolver import TLSA
from moxtw.mail.dsnrequest import DSNRequest
from moxtw.net.certs import KeyPair


class TLSMode(enum.Enum):
    """When a session becomes TLS. The values are metric labels."""

    SKIP = "skip"
    """Never."""
    OPPORTUNISTIC = "opportunistic"
    """With STARTTLS, if the server offers it."""
    REQUIRED = "requiredstarttls"
    """With STARTTLS, which is sent even if the server does not offer it."""
    IMMEDIATE = "immediate"
    """From the first byte on."""


class Trouble(enum.Enum):
    """Kinds of failure of a delivery."""

    DIAL = "dial"
    """No connection to any of the addresses."""
    IO = "io"
    """The connection was lost."""
    TIMEOUT = "timeout"
    """The server was too slow."""
    CANCELED = "canceled"
    """We stopped it."""
    TLS = "tls"
    """STARTTLS was refused, the handshake failed, or the certificate is not good enough."""
    PROTOCOL = "protocol"
    """What the server says is no SMTP."""
    REPLY = "reply"
    """A reply with a code that means failure."""
    UNSUPPORTED = "unsupported"
    """The server lacks an extension that the message needs, or the message exceeds a limit."""
    LOCAL = "local"
    """Our side: DNS, configuration, content."""
    SUPPRESSED = "suppressed"
    """The account sends nothing to this address."""


class DeliveryError(Exception):
    """Why a session or a recipient failed.

    code
        SMTP reply code, 0 if there was none.
    secode
        Enhanced status code without its class (``7.1``), empty if there was none.
    lines
        The reply's lines in full, each with its code.
    permanent
        Whether trying again makes no sense.
    problem
        For TLS troubles, the result type for reports (RFC 8460 4.3).
    reason
        A code that says more, for the same.
    """

    def __init__(
        self,
        trouble: Trouble,
        text: str,
        *,
        permanent: bool = False,
        code: int = 0,
        secode: str = "",
        lines: Sequence[str] = (),
        remote_mta: str = "",
        problem: str = "",
        reason: str = "",
    ) -> None:
        super().__init__(text)
        self.trouble = trouble
        self.text = text
        self.permanent = permanent
        self.code = code
        self.secode = secode
        self.lines = tuple(lines)
        self.remote_mta = remote_mta
        self.problem = problem
        self.reason = reason
        # Our end of the connection, where there was one.
        self.local_ip = ""

    def copy(self, **changes: object) -> DeliveryError:
        """The same with some attributes changed."""
        other = DeliveryError(
            self.trouble,
            self.text,
            permanent=self.permanent,
            code=self.code,
            secode=self.secode,
            lines=self.lines,
            remote_mta=self.remote_mta,
            problem=self.problem,
            reason=self.reason,
        )
        other.local_ip = self.local_ip
        for name, value in changes.items():
            setattr(other, name, value)
        return other


@dataclass(frozen=True, slots=True)
class Transaction:
    """A message to hand over.

    mail_from
        Reverse-path without brackets, ASCII domain; empty for the null path.
    recipients
        Forward-paths without brackets.
    size
        Bytes of the message, prefix included.
    read
        ``await read(start, length)`` gives that part of the message, shorter only at its end.
    has8bit
        Whether bytes above 127 occur.
    smtputf8
        Whether the message or its addresses need SMTPUTF8 (RFC 6531).
    requiretls
        Whether to demand REQUIRETLS (RFC 8689).
    require_8bitmime
        Whether 8-bit content may only go to a server with 8BITMIME (RFC 6152).
    utf8_content
        The message in a form for servers with both 8BITMIME and SMTPUTF8 (RFC 6533).
    dsn
        What the sender wants to be told, for each recipient (RFC 3461); empty for nothing
        special.
    """

    mail_from: str
    recipients: tuple[str, ...]
    size: int
    read: Callable[[int, int], Awaitable[bytes]]
    has8bit: bool = False
    smtputf8: bool = False
    requiretls: bool = False
    require_8bitmime: bool = False
    utf8_content: bytes | None = None
    dsn: tuple[DSNRequest, ...] = ()


@dataclass(frozen=True, slots=True)
class RcptResult:
    """What became of one recipient of a transaction.

    Without `error` the server took the message. `untried`: the session could take no further
    transaction before this recipient's turn came; another session may be tried at once.
    dsn: the server was told what the sender wants to be told, and cares for it.
    """

    error: DeliveryError | None
    code: int = 0
    secode: str = ""
    text: str = ""
    untried: bool = False
    dsn: bool = False

    @property
    def success(self) -> bool:
        """Whether the server took the message for this recipient."""
        return self.error is None


@dataclass(frozen=True, slots=True)
class Login:
    """Credentials for a smarthost. `mechanisms` in order of preference; empty: the default."""

    username: str
    password: str
    mechanisms: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds to wait, RFC 5321 4.5.3.2 where it says something.

    `setup` bounds everything from the connection to the end of EHLO, STARTTLS and AUTH;
    `transaction` all transactions of one `deliver` call. None: no such bound.
    """

    dial: float = 30
    greeting: float = 300
    command: float = 300
    handshake: float = 60
    data: float = 120
    block: float = 180
    final: float = 600
    quit: float = 5
    setup: float | None = None
    transaction: float | None = 1800


@dataclass(frozen=True, slots=True)
class Associations:
    """What DANE says of a server's certificate (RFC 7672).

    records: usable TLSA records. names: what the certificate may be for (A-labels). enforce:
    the session fails if no record fits; otherwise that is only noted.
    """

    records: tuple[TLSA, ...]
    names: tuple[str, ...]
    enforce: bool = True


class Finding(NamedTuple):
    """What was found wrong with TLS that was let pass: result type and reason as in reports."""

    problem: str
    reason: str
    text: str


@dataclass(frozen=True, slots=True)
class Target:
    """A server to connect to.

    host
        Name (A-labels) or address as text: for the log, DSNs, and the server name in TLS.
    ips
        Its addresses, to be tried in this order.
    verify
        Whether the certificate must be good for `host`.
    dane
        What DANE demands of it.
    server_name
        For TLS, where it is not `host` (RFC 7672 3.2.2).
    ehlo
        Our own name.
    proxy
        Address and port of a SOCKS5 proxy to go through.
    local_ips
        Local address to connect from, by family (4, 6); none: the system chooses.
    pair
        Key and certificate to show if the server asks for one.
    """

    host: str
    ips: tuple[str, ...]
    port: int
    ehlo: str
    tls: TLSMode = TLSMode.OPPORTUNISTIC
    verify: bool = False
    dane: Associations | None = None
    server_name: str = ""
    login: Login | None = None
    local_ips: tuple[tuple[int, str], ...] = ()
    proxy: tuple[str, int] | None = None
    pair: KeyPair | None = None
    timeouts: Timeouts = Timeouts()


class SMTPSession(Protocol):
    """A connection to a server that is ready for transactions."""

    @property
    def remote_ip(self) -> str:
        """The address connected to."""
        ...

    @property
    def local_ip(self) -> str:
        """The address connected from."""
        ...

    @property
    def tls_version(self) -> str:
        """Like ``TLS1.3``; empty without TLS."""
        ...

    @property
    def tls_findings(self) -> tuple[Finding, ...]:
        """What is wrong with the server's certificate though it was let pass."""
        ...

    @property
    def has_starttls(self) -> bool:
        """Whether the server offers STARTTLS, or the session is TLS already."""
        ...

    @property
    def has_requiretls(self) -> bool:
        """Whether the server has REQUIRETLS (announced within TLS)."""
        ...

    @property
    def usable(self) -> bool:
        """Whether the session can take a further transaction."""
        ...

    async def deliver(self, transaction: Transaction) -> list[RcptResult]:
        """Hand a message over; one result for each recipient, in order. Raises nothing."""
        ...

    async def close(self) -> None:
        """Say QUIT, wait shortly, disconnect."""
        ...

    def abort(self) -> None:
        """Disconnect at once."""
        ...


class SMTPDialer(Protocol):
    """Connects to servers."""

    async def connect(
        self, target: Target, *, dialed: Callable[[str], None] | None = None
    ) -> SMTPSession:
        """Connect, greet, set up TLS, log in. Raises DeliveryError.

        `dialed` is called with the address as soon as a connection is made, as that counts
        even if what follows fails.
        """
        ...
