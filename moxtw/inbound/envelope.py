"""What is known of a message that arrives, besides its content."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from moxtw.config.index import AccountDestination, AliasMatch
from moxtw.mail.address import IPDomain, Path
from moxtw.mail.domain import Domain
from moxtw.mail.dsnrequest import NO_REQUEST, DSNRequest
from moxtw.mail.received import Trace, received
from moxtw.net.tlsinfo import TLSInfo


@dataclass(frozen=True, slots=True)
class Recipient:
    """A recipient and where it leads: to an account, to an alias, or nowhere here.

    local: its domain is hosted here. With neither destination nor alias the user is unknown.
    dsn: what the sender wants to be told (RFC 3461).
    """

    path: Path
    destination: AccountDestination | None = None
    alias: AliasMatch | None = None
    local: bool = False
    dsn: DSNRequest = NO_REQUEST


class TraceFields:
    """Received fields of one connection; the last one is remembered.

    Clients that send much send many messages to an address within a second, and those have
    the very same field.
    """

    __slots__ = ("_last", "_named", "trace")

    def __init__(self, trace: Trace) -> None:
        self.trace = trace
        self._last: tuple[int, Path | None, bytes] = (0, None, b"")
        self._named: TraceFields | None = None

    def with_name(self, name: str) -> TraceFields:
        """The same with the confirmed name of the client's address; the last is remembered."""
        if name == self.trace.reverse_name or self.trace.hello is None:
            return self
        named = self._named
        if named is None or named.trace.reverse_name != name:
            named = self._named = TraceFields(replace(self.trace, reverse_name=name))
        return named

    def field(self, when: int, recipient: Path | None) -> bytes:
        """The field for a recipient, or None for several; `when` in microseconds."""
        seconds, path, data = self._last
        now = when // 1_000_000
        if not data or seconds != now or path != recipient:
            data = received(self.trace, when, recipient)
            self._last = (now, recipient, data)
        return data


@dataclass(slots=True)
class Envelope:
    """A mail transaction that is complete.

    received: time of arrival, microseconds since the epoch.
    head: the message's header section, or as much of it as is kept in memory.
    trace: for the Received field; exempt: the client is on the list of those without limits.
    first_time_delay: seconds to wait for senders that are not known. dnsbls: block lists to ask.
    """

    cid: int
    remote_ip: str
    hello: IPDomain
    mail_from: Path
    recipients: list[Recipient]
    received: int
    head: bytes
    trace: TraceFields
    tls: TLSInfo | None = None
    smtputf8: bool = False
    requiretls: bool = False
    exempt: bool = False
    first_time_delay: float = 0.0
    localserve: bool = False
    dnsbls: Sequence[Domain] = ()


@dataclass(frozen=True, slots=True)
class RecipientResult:
    """What became of a recipient. A `code` of 0: delivered.

    reason: why, as in the metrics.
    """

    recipient: Recipient
    code: int = 0
    secode: str = ""
    text: str = ""
    reason: str = ""
