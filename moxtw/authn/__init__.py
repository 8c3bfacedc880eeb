"""Who sent this: the checks that tie a message to domains, and what they found.

`Evaluator` is what delivery asks. `NotEvaluated` answers that nothing was checked; callers
then neither trust nor reject for want of a result, and nothing about it is written into the
message.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from moxtw.mail.address import Address, IPDomain, Path
from moxtw.mail.parsed import ParsedMessage
from moxtw.mail.received import AuthMethod, ReceivedSPF

if TYPE_CHECKING:
    from moxtw.authn.arc import ARCResult
    from moxtw.authn.dkim import DKIMResult
    from moxtw.authn.dmarc import DMARCResult
    from moxtw.authn.iprev import IPRevResult
    from moxtw.authn.spf import SPFResult


class MessageSource(Protocol):
    """The content of a message: its size, its parse, and its bytes."""

    @property
    def size(self) -> int:
        """Bytes."""

    @property
    def parsed(self) -> ParsedMessage:
        """What is known of its header and parts."""

    def read(self, start: int, length: int) -> bytes:
        """A piece of it. May read a file: not for the reactor's thread unless small."""


@dataclass(frozen=True, slots=True)
class AuthResults:
    """What the checks found.

    evaluated: whether there were any. Otherwise all else says nothing.
    reverse_name: confirmed name of the client's address (iprev), or empty.
    ehlo_validated, mail_from_validated: SPF passed for that identity.
    mail_from_status, ehlo_status: SPF result of MAIL FROM, or where that is null of EHLO, such
        as ``pass``; empty without.
    dkim_domains: domains (Unicode) with a good signature, each once.
    from_validation: how the From address was validated: ``strict``, ``relaxed``, ``dmarc``,
        ``none``, or empty.
    author: the address in the From field, None unless there is exactly one such field with
        exactly one address at a domain name.
    methods: for the Authentication-Results field. received_spf: for that field.
    iprev, spf, dkim, dmarc, arc: all that the checks say, DNSSEC included; dkim has one result
        for each signature, dmarc is None without author.
    temporary: some check could not be done for now.
    """

    evaluated: bool = False
    reverse_name: str = ""
    ehlo_validated: bool = False
    mail_from_validated: bool = False
    mail_from_status: str = ""
    ehlo_status: str = ""
    dkim_domains: tuple[str, ...] = ()
    from_validation: str = ""
    methods: tuple[AuthMethod, ...] = ()
    received_spf: ReceivedSPF | None = None
    author: Address | None = None
    iprev: IPRevResult | None = None
    spf: SPFResult | None = None
    dkim: tuple[DKIMResult, ...] = ()
    dmarc: DMARCResult | None = None
    arc: ARCResult | None = None
    temporary: bool = False

    @property
    def from_validated(self) -> bool:
        """Whether the author's address is known to be real."""
        return self.from_validation in ("strict", "relaxed", "dmarc")


NOTHING = AuthResults()


class Evaluator(Protocol):
    """Runs the checks on a message that has just come in."""

    async def authenticate(
        self,
        *,
        remote_ip: str,
        hello: IPDomain,
        mail_from: Path,
        message: MessageSource,
        cid: int,
        utf8: bool = False,
    ) -> AuthResults:
        """All checks. Raises nothing: what goes wrong is a result.

        utf8: whether `methods` may have names in UTF-8 (RFC 6531).
        """
        ...


class NotEvaluated:
    """An evaluator that checks nothing, and says so."""

    async def authenticate(
        self,
        *,
        remote_ip: str,
        hello: IPDomain,
        mail_from: Path,
        message: MessageSource,
        cid: int,
        utf8: bool = False,
    ) -> AuthResults:
        """Nothing."""
        return NOTHING
