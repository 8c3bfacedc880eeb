"""A dialer whose servers do as they are told."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred

from moxtw.queue.delivery import (
    DeliveryError,
    Finding,
    RcptResult,
    Target,
    TLSMode,
    Transaction,
    Trouble,
)


def reply(code: int, secode: str = "", text: str = "said so", host: str = "mx") -> DeliveryError:
    """A refusal by a server."""
    enhanced = f" {code // 100}.{secode}" if secode else ""
    line = f"{code}{enhanced} {text}"
    return DeliveryError(
        Trouble.REPLY,
        f"{host} answered: {line}",
        permanent=code >= 500,
        code=code,
        secode=secode,
        lines=(line,),
        remote_mta=host,
    )


TAKEN = RcptResult(None, 250, "0.0", "250 2.0.0 taken")


def refused(error: DeliveryError) -> RcptResult:
    return RcptResult(error, error.code, error.secode, error.text)


class FakeSession:
    """A session; `server` answers each transaction."""

    def __init__(self, dialer: FakeDialer, target: Target) -> None:
        self.dialer = dialer
        self.target = target
        self.remote_ip = target.ips[0]
        self.tls_version = "" if target.tls is TLSMode.SKIP else "TLS1.3"
        self.local_ip = "127.0.0.1"
        self.tls_findings = dialer.findings.get(target.host, ())
        self.has_starttls = dialer.has_starttls
        self.has_requiretls = dialer.has_requiretls
        self.usable = True
        self.closed = False
        self.transactions: list[Transaction] = []

    async def deliver(self, transaction: Transaction) -> list[RcptResult]:
        self.transactions.append(transaction)
        self.dialer.delivered.append((self.target.host, transaction))
        content = await transaction.read(0, transaction.size)
        self.dialer.contents.append(content)
        answer = self.dialer.answer(self.target.host, transaction)
        if isinstance(answer, Deferred):
            answer = await answer
        if isinstance(answer, list):
            return answer
        return [answer] * len(transaction.recipients)

    async def close(self) -> None:
        self.closed = True
        self.usable = False

    def abort(self) -> None:
        self.usable = False
        self.closed = True


class FakeDialer:
    """Connects to nothing. `connects` maps hosts to what connecting raises."""

    def __init__(self) -> None:
        self.connects: dict[str, Any] = {}
        self.answers: dict[str, Any] = {}
        self.targets: list[Target] = []
        self.sessions: list[FakeSession] = []
        self.delivered: list[tuple[str, Transaction]] = []
        self.contents: list[bytes] = []
        self.has_starttls = True
        self.has_requiretls = False
        self.findings: dict[str, tuple[Finding, ...]] = {}

    def answer(self, host: str, transaction: Transaction) -> Any:
        answer = self.answers.get(host, TAKEN)
        return answer(transaction) if callable(answer) else answer

    async def connect(
        self, target: Target, *, dialed: Callable[[str], None] | None = None
    ) -> FakeSession:
        self.targets.append(target)
        failure = self.connects.get(target.host)
        if callable(failure):
            failure = failure(target)
        if isinstance(failure, Deferred):
            failure = await failure
        if isinstance(failure, DeliveryError) and failure.trouble is Trouble.DIAL:
            raise failure
        if dialed is not None:
            dialed(target.ips[0])
        if isinstance(failure, DeliveryError):
            raise failure
        session = FakeSession(self, target)
        self.sessions.append(session)
        return session
