"""The decision on a message for one account, step by step.

Each step may end it. The steps here are those that need neither DNS nor history: the rate,
the mailbox and its ruleset, mailing lists and forwards known by ruleset, and a verified author
where the destination demands one. What the sender checks found is used where they were made.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from moxtw.authn import AuthResults
from moxtw.config.dynamic import Account, Destination, Ruleset
from moxtw.inbound.envelope import Envelope
from moxtw.inbound.rates import DeliveryRates
from moxtw.inbound.rulesets import Subject, find_match

INBOX = "Inbox"


@dataclass(frozen=True, slots=True)
class Decision:
    """Whether a message is taken, and how.

    mailbox: where it goes, or would have gone. reason: also a label in metrics. details: for
    the header. code, secode, text: the refusal. is_reject: taken although it was to be
    refused, for a mailbox of such messages; `seen` then too.
    first_time: the sender is not known, after a look at what came earlier.
    keep_reject: a refused message may be kept in the rejects mailbox.
    """

    accept: bool
    mailbox: str
    reason: str
    details: tuple[str, ...] = ()
    code: int = 0
    secode: str = ""
    text: str = ""
    ruleset: Ruleset | None = None
    is_forward: bool = False
    is_mailing_list: bool = False
    is_reject: bool = False
    first_time: bool = False
    keep_reject: bool = True


@dataclass(slots=True)
class Case:
    """A message for one account: what the decision is about.

    size: includes what is added. pause: lets others have their turn.
    """

    account_name: str
    account: Account
    destination: Destination
    envelope: Envelope
    auth: AuthResults
    subject: Subject
    size: int
    pause: Callable[[], Awaitable[object]]


class Decider:
    """Takes the decisions."""

    def __init__(self, rates: DeliveryRates) -> None:
        self._rates = rates

    async def decide(self, case: Case) -> Decision:
        """Decide on one message for one account."""
        destination = case.destination
        mailbox = destination.mailbox or INBOX
        if not case.envelope.exempt and not await self._rate_fits(case):
            return Decision(
                False,
                mailbox,
                "high-rate",
                code=452,
                secode="4.2.2",
                text="accepting mail at a too high rate from your ip or network, try again later",
                keep_reject=False,
            )
        auth = case.auth
        ruleset = None
        if destination.rulesets:
            ruleset = await find_match(destination.rulesets, case.subject, case.pause)
        if ruleset is not None:
            mailbox = ruleset.mailbox
            listed = ruleset.list_allow_dns_domain
            if not listed.is_zero and listed.name in case.subject.verified:
                return Decision(
                    True, mailbox, "list-allow", ruleset=ruleset, is_mailing_list=True
                )
        is_forward = ruleset is not None and ruleset.is_forward
        required = destination.message_auth_required_smtp_error
        if required and auth.evaluated and not auth.from_validated:
            refused = Decision(
                False,
                mailbox,
                "msg-auth-required",
                code=550,
                secode="5.7.26",
                text=required,
                ruleset=ruleset,
                is_forward=is_forward,
            )
            return accept_reject(refused)
        return Decision(True, mailbox, "no-bad-signals", ruleset=ruleset, is_forward=is_forward)

    async def _rate_fits(self, case: Case) -> bool:
        envelope = case.envelope
        known = self._rates.fits(case.account_name, envelope.remote_ip, case.size)
        if known is not None:
            return known
        return await self._rates.ask(
            case.account_name, envelope.remote_ip, case.size, envelope.received
        )


def accept_reject(refused: Decision) -> Decision:
    """The refusal, or where the ruleset wants it so, the acceptance into its other mailbox."""
    ruleset = refused.ruleset
    if ruleset is None or not ruleset.accept_rejects_to_mailbox:
        return refused
    return Decision(
        True,
        ruleset.accept_rejects_to_mailbox,
        refused.reason,
        details=("accepted into mailbox for rejects by ruleset",),
        ruleset=ruleset,
        is_forward=refused.is_forward,
        is_reject=True,
    )
