"""The decision on a message for one account, step by step; the first step that knows decides.

What the user has said goes first (rulesets), then what the author's domain asks for (DMARC),
then what earlier messages of the sender were like, and only for strangers the signs: SPF, the
name of the client's address, the words of the message, block lists.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from random import Random, SystemRandom
from typing import Final, Protocol

from moxtw import metrics
from moxtw.authn import AuthResults
from moxtw.authn.dnsbl import Lookup
from moxtw.config.accounts import JunkParams
from moxtw.config.dynamic import Account, Destination, Ruleset
from moxtw.inbound import reports as incoming_reports
from moxtw.inbound import subjectpass
from moxtw.inbound.envelope import Envelope, Recipient
from moxtw.inbound.evaluations import wanted
from moxtw.inbound.rates import DeliveryRates
from moxtw.inbound.reports import ReportReader
from moxtw.inbound.reputation import (
    WEAK,
    Reputation,
    Sender,
    knows_organization,
    reputation,
)
from moxtw.inbound.rulesets import Subject, find_match
from moxtw.junk.score import Classification
from moxtw.log import Logger
from moxtw.mail.domain import Domain
from moxtw.ratelimit import ip_classes
from moxtw.store import accounts, mailboxes, subjectkeys
from moxtw.store.content import Spooled
from moxtw.store.db import Store
from moxtw.store.errors import StoreError
from moxtw.store.tx import Tx

log = Logger("smtpserver")

INBOX = "Inbox"

STRICT_THRESHOLD: Final = 0.25
"""Probability of junk above which a message with other bad signs is refused."""

_JITTER: Final = 0.05
_SUBJECTPASS_MARGIN: Final = 0.2


@dataclass(frozen=True, slots=True)
class Decision:
    """Whether a message is taken, and how.

    mailbox: where it goes, or would have gone. destined: where it was meant to go, if that is
    another one. reason: also a label in metrics. details: for the header. code, secode, text:
    the refusal. is_reject: taken although it was to be refused, for a mailbox of such messages.
    first_time: the sender is not known, after a look at what came earlier. keep_reject: a
    refused message may be kept in the rejects mailbox. overrides: why the policy of DMARC was
    not applied (RFC 7489 C, PolicyOverrideType). known_organization: of a message refused by
    DMARC, whether mail of the author's organization was ever wanted. reports: what the message
    holds of those, to be kept if it is accepted.
    """

    accept: bool
    mailbox: str
    reason: str
    details: tuple[str, ...] = ()
    code: int = 0
    secode: str = ""
    text: str = ""
    ruleset: Ruleset | None = None
    destined: str = ""
    is_forward: bool = False
    is_mailing_list: bool = False
    is_reject: bool = False
    first_time: bool = False
    keep_reject: bool = True
    overrides: tuple[str, ...] = ()
    known_organization: bool = True
    reports: incoming_reports.Found = incoming_reports.NONE


@dataclass(slots=True)
class Case:
    """A message for one account: what the decision is about.

    author: localpart, domain and organizational domain of the author, if there is one. size:
    includes what is added. pause: lets others have their turn.
    """

    account_name: str
    account: Account
    destination: Destination
    recipient: Recipient
    envelope: Envelope
    auth: AuthResults
    subject: Subject
    content: Spooled
    author: tuple[str, str, str] | None
    size: int
    pause: Callable[[], Awaitable[object]]


class Classify(Protocol):
    """The junk filters of accounts, as `moxtw.junk.classify`."""

    def __call__(
        self, account_id: int, params: JunkParams, content: Spooled
    ) -> Awaitable[Classification]:
        """How likely a message is junk for an account."""
        ...


class ClassifySmall(Protocol):
    """The same in a job that reads, as `moxtw.junk.classify_small`; None for large messages."""

    def __call__(
        self, tx: Tx, account_id: int, params: JunkParams, content: Spooled
    ) -> Classification | None:
        """How likely a message is junk for an account."""
        ...


class BlockLists(Protocol):
    """Block lists in the DNS, as `moxtw.authn.dnsbl.BlockLists`."""

    def check(
        self, zones: Sequence[Domain], ip: str, *, cid: int = 0
    ) -> Awaitable[tuple[Lookup, ...]]:
        """What zones say of an address."""
        ...


class Decider:
    """Takes the decisions.

    classify, blocklists, reports: None where there are none; classify_small: saves a look into
    the store for most messages. random: for what nobody should foresee.
    """

    def __init__(
        self,
        rates: DeliveryRates,
        store: Store,
        *,
        classify: Classify | None = None,
        classify_small: ClassifySmall | None = None,
        blocklists: BlockLists | None = None,
        reports: ReportReader | None = None,
        random: Random | None = None,
    ) -> None:
        self._rates = rates
        self._store = store
        self._classify = classify
        self._classify_small = classify_small
        self._blocklists = blocklists
        self._reports = reports
        self._random = random or SystemRandom()

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
        ruleset = None
        if destination.rulesets:
            ruleset = await find_match(destination.rulesets, case.subject, case.pause)
        if ruleset is not None:
            mailbox = ruleset.mailbox
            listed = ruleset.list_allow_dns_domain
            if not listed.is_zero and listed.name in _signers(case):
                return Decision(
                    True,
                    mailbox,
                    "list-allow",
                    ruleset=ruleset,
                    is_mailing_list=True,
                    overrides=("mailing_list",),
                )
        return await _Steps(self, case, mailbox, ruleset).decide()

    async def _rate_fits(self, case: Case) -> bool:
        envelope = case.envelope
        known = self._rates.fits(case.account_name, envelope.remote_ip, case.size)
        if known is not None:
            return known
        return await self._rates.ask(
            case.account_name, envelope.remote_ip, case.size, envelope.received
        )


@dataclass(slots=True)
class _Known:
    """What the store knows for a decision.

    key: for tokens in subjects, if the account has them. content: what the junk filter says, if
    it was asked at once, or what went wrong with that.
    """

    account_id: int
    reputation: Reputation
    key: bytes
    content: Classification | StoreError | OSError | None = None


@dataclass(slots=True)
class _Steps:
    """The steps for a message that no list lets in."""

    decider: Decider
    case: Case
    mailbox: str
    ruleset: Ruleset | None
    details: list[str] = field(default_factory=list)
    destined: str = ""
    reports: incoming_reports.Found = incoming_reports.NONE

    @property
    def is_forward(self) -> bool:
        return self.ruleset is not None and self.ruleset.is_forward

    def accept(self, reason: str, *, first_time: bool = False) -> Decision:
        return replace(self._decision(True, reason), first_time=first_time)

    def refuse(
        self, reason: str, code: int = 451, secode: str = "4.3.0", text: str = ""
    ) -> Decision:
        refused = replace(
            self._decision(False, reason),
            code=code,
            secode=secode,
            # Who sends junk need not know what gave it away.
            text=text or "error processing, try again later",
        )
        return accept_reject(refused)

    def _decision(self, accept: bool, reason: str) -> Decision:
        return Decision(
            accept,
            self.mailbox,
            reason,
            details=tuple(self.details),
            ruleset=self.ruleset,
            destined=self.destined,
            is_forward=self.is_forward,
            overrides=("forwarded",) if self.is_forward else (),
            reports=self.reports,
        )

    async def decide(self) -> Decision:
        case, auth = self.case, self.case.auth
        dmarc = auth.dmarc
        if dmarc is not None and dmarc.apply_reject and not self.is_forward:
            familiar = not wanted(dmarc) or await self._knows_organization()
            refused = self.refuse("dmarc-policy", 550, "5.7.26", "rejecting per dmarc policy")
            return replace(refused, known_organization=familiar)
        destination = case.recipient.destination
        if destination is not None and self.decider._reports is not None:
            self.reports = await self.decider._reports.find(destination, case.content, auth)
        required = case.destination.message_auth_required_smtp_error
        if required and auth.evaluated and not auth.from_validated:
            if dmarc is not None and dmarc.status == "temperror":
                return self.refuse("msg-auth-required", 451, "4.7.26", required)
            return self.refuse("msg-auth-required", 550, "5.7.26", required)
        try:
            known = await self.decider._store.read(self._look)
        except StoreError as exc:
            log.error("reputation of sender", cid=case.envelope.cid, err=exc)
            return self.refuse("reputation-error")
        if known is None:
            # The account is about to be made, or gone: storing the message tells.
            return self.accept("no-bad-signals")
        found = known.reputation
        log.debug(
            "reputation",
            cid=case.envelope.cid,
            method=found.method,
            junk=found.junk,
            conclusive=found.conclusive,
        )
        self.details.append(_described(found))
        introbox = case.account.introbox
        if (
            introbox
            and self.mailbox == INBOX
            and found.method not in ("msgfromfull", "msgtofull")
            and not self.is_forward
            and not self.reports.valid
        ):
            self.mailbox, self.destined = introbox, INBOX
        if found.conclusive:
            return self.refuse(found.method) if found.junk else self.accept(found.method)
        if self.reports.valid:
            return self.accept("reporting")
        return await self._judge_stranger(known)

    async def _knows_organization(self) -> bool:
        """Whether the account has had wanted mail of the author's organization, or sent there."""
        org_domain = self.case.author[2] if self.case.author is not None else ""

        def look(tx: Tx) -> bool:
            account = accounts.find(tx, self.case.account_name)
            mailbox = None
            if account is not None:
                mailbox = mailboxes.find(tx, account.id, self.mailbox)
            if account is None or mailbox is None:
                return False
            return knows_organization(tx, account.id, mailbox.id, org_domain)

        try:
            return await self.decider._store.read(look)
        except StoreError as exc:
            log.error("history of sender", cid=self.case.envelope.cid, err=exc)
            return False

    def _look(self, tx: Tx) -> _Known | None:
        case = self.case
        account = accounts.find(tx, case.account_name)
        if account is None:
            return None
        mailbox = mailboxes.find(tx, account.id, self.mailbox)
        sender = sender_of(case, self.ruleset if self.is_forward else None)
        found = reputation(tx, account.id, 0 if mailbox is None else mailbox.id, sender)
        key = b""
        destination = case.recipient.destination
        if case.account.subject_pass.period.seconds and destination is not None:
            key = subjectkeys.find(tx, account.id, destination.canonical)
        known = _Known(account.id, found, key)
        config, classify = case.account.junk_filter, self.decider._classify_small
        if (
            config is not None
            and classify is not None
            and not found.conclusive
            and not self.reports.valid
            and not self._hopeless(found)
        ):
            try:
                known.content = classify(tx, account.id, config.params, case.content)
            except (StoreError, OSError) as exc:
                known.content = exc
        return known

    def _suspicious(self, found: Reputation) -> bool:
        """Whether nothing but the client stands for the message, and that has no good name."""
        auth = self.case.auth
        return (
            found.method in WEAK
            and auth.evaluated
            and (auth.iprev is None or auth.iprev.status != "pass")
        )

    def _hopeless(self, found: Reputation) -> str:
        """The reason to refuse the message without a look at its content, empty for none."""
        if found.method in WEAK and self.case.auth.mail_from_status in ("fail", "softfail"):
            return "spf-policy"
        return "iprev" if found.junk and self._suspicious(found) else ""

    async def _judge_stranger(self, known: _Known) -> Decision:
        """For a sender of whom nothing certain is known."""
        auth, found = self.case.auth, known.reputation
        hopeless = self._hopeless(found)
        if hopeless:
            return self.refuse(hopeless)
        suspicious = self._suspicious(found)
        if self._has_token(known.key):
            return self.accept("subjectpass")
        reason, margin = await self._content(known, suspicious)
        listed = ""
        if not reason:
            listed = await self._listed()
            if not listed:
                return self.accept("no-bad-signals", first_time=True)
            reason = "dns-blocklisted"
        if reason.endswith("-error"):
            return self.refuse(reason)
        if (
            auth.dmarc is not None
            and auth.dmarc.status == "pass"
            and found.method == "none"
            and (listed or margin)
        ):
            token = await self._token()
            if token:
                return self.refuse(
                    "give-subjectpass", 550, "5.7.1", subjectpass.TEXT + token
                )
        return self.refuse(reason)

    async def _content(self, known: _Known, suspicious: bool) -> tuple[str, bool]:
        """The reason to refuse the message for its content, empty for none.

        Second: whether it came close enough to pass that its sender may try with a token.
        """
        case = self.case
        config = case.account.junk_filter
        if config is None or self.decider._classify is None:
            return "", False
        try:
            if known.content is None:
                known.content = await self.decider._classify(
                    known.account_id, config.params, case.content
                )
            elif isinstance(known.content, Exception):
                raise known.content
            result = known.content
        except (StoreError, OSError) as exc:
            log.error("junk filter", cid=case.envelope.cid, err=exc)
            return "junk-classify-error", False
        threshold = config.threshold + self.decider._random.uniform(-_JITTER, _JITTER)
        strict = suspicious or case.envelope.tls is None or not self._addressed()
        if strict:
            threshold = min(threshold, STRICT_THRESHOLD)
        self.details.append(_words(result, threshold, utf8=case.envelope.smtputf8))
        good = result.probability <= threshold or (not result.significant and not suspicious)
        if good:
            return "", False
        reason = "junk-content-strict" if strict else "junk-content"
        return reason, result.probability < threshold - _SUBJECTPASS_MARGIN

    def _addressed(self) -> bool:
        """Whether the recipient stands in the header, or cannot be expected to."""
        if self.is_forward:
            return True
        path = self.case.recipient.path
        wanted = (path.localpart.lower(), path.ipdomain.name.lower())
        parsed = self.case.content.parsed
        return any(
            (mailbox.localpart.lower(), _name(mailbox.domain)) == wanted
            for mailbox in (*parsed.to, *parsed.cc)
        )

    async def _listed(self) -> str:
        """The name of the first block list with the client's address, empty for none."""
        envelope = self.case.envelope
        lists = self.decider._blocklists
        if lists is None or not envelope.dnsbls or not envelope.remote_ip:
            return ""
        for result in await lists.check(envelope.dnsbls, envelope.remote_ip, cid=envelope.cid):
            if result.status == "fail":
                log.info(
                    "client is in a block list",
                    cid=envelope.cid,
                    zone=result.zone.name,
                    explanation=result.explanation,
                )
                self.details.append(f"listed in {result.zone.ascii}")
                return result.zone.ascii
        return ""

    # -- Tokens ------------------------------------------------------------------------

    def _address(self) -> str:
        author = self.case.author
        return "" if author is None else f"{author[0]}@{author[1]}"

    def _has_token(self, key: bytes) -> bool:
        address = self._address()
        if not key or not address:
            return False
        good = subjectpass.verify(
            self.case.content.parsed.subject,
            address,
            key,
            self.case.envelope.received // 1_000_000,
            int(self.case.account.subject_pass.period.seconds),
        )
        metrics.subjectpass_verify_total.labels("ok" if good else "fail").inc()
        return good

    async def _token(self) -> str:
        """A token for the author, empty if there is none to be had."""
        case = self.case
        address = self._address()
        destination = case.recipient.destination
        if not case.account.subject_pass.period.seconds or not address or destination is None:
            return ""
        canonical = destination.canonical

        def job(tx: Tx) -> bytes:
            account = accounts.get(tx, case.account_name)
            return subjectkeys.get(tx, account.id, canonical)

        try:
            key = await self.decider._store.write(job)
        except StoreError as exc:
            log.error("key for subject tokens", cid=case.envelope.cid, err=exc)
            return ""
        metrics.subjectpass_generate_total.inc()
        return subjectpass.generate(address, key, case.envelope.received // 1_000_000)


def sender_of(case: Case, forward: Ruleset | None = None) -> Sender:
    """What ties a message to earlier ones; of a forwarded one, nothing of the forwarder."""
    auth, envelope = case.auth, case.envelope
    localpart, domain, org_domain = case.author or ("", "", "")
    dkim = auth.dkim_domains
    if forward is not None:
        own = forward.verified_dns_domain.name
        return Sender(
            from_localpart=localpart,
            from_domain=domain,
            from_org_domain=org_domain,
            from_validated=auth.from_validated,
            dkim_domains=[d for d in dkim if d != own and not d.endswith("." + own)],
        )
    hello = envelope.hello.domain
    return Sender(
        from_localpart=localpart,
        from_domain=domain,
        from_org_domain=org_domain,
        from_validated=auth.from_validated,
        mail_from_localpart=envelope.mail_from.localpart,
        mail_from_domain=envelope.mail_from.ipdomain.name,
        mail_from_validated=auth.mail_from_validated,
        ehlo_domain="" if hello is None else hello.name,
        ehlo_validated=auth.ehlo_validated,
        dkim_domains=dkim,
        ip=ip_classes(envelope.remote_ip) if envelope.remote_ip else ("", "", ""),
    )


def _signers(case: Case) -> list[str]:
    """The domains that vouch for a message of a mailing list: of DKIM, and SPF of MAIL FROM."""
    domains = list(case.auth.dkim_domains)
    mail_from = case.envelope.mail_from
    if case.auth.mail_from_validated and not mail_from.is_zero:
        domains.append(mail_from.ipdomain.name)
    return domains


def accept_reject(refused: Decision) -> Decision:
    """The refusal, or where the ruleset wants it so, the acceptance into its other mailbox."""
    ruleset = refused.ruleset
    if ruleset is None or not ruleset.accept_rejects_to_mailbox:
        return refused
    return Decision(
        True,
        ruleset.accept_rejects_to_mailbox,
        refused.reason,
        details=(*refused.details, "accepted into mailbox for rejects by ruleset"),
        ruleset=ruleset,
        destined=refused.destined or refused.mailbox,
        is_forward=refused.is_forward,
        is_reject=True,
        overrides=(*refused.overrides, "local_policy"),
    )


def _name(domain: str) -> str:
    return domain.lower()


def _described(found: Reputation) -> str:
    said = {None: "unknown", True: "junk", False: "nonjunk"}[found.junk]
    certainty = "conclusive" if found.conclusive else "inconclusive"
    return f"reputation by {found.method}: {said}, {certainty}"


def _words(result: Classification, threshold: float, *, utf8: bool) -> str:
    """What the filter found, for the header."""

    def listed(words: Sequence[object]) -> str:
        return " ".join(
            f"{_shown(word.word, utf8)}:{word.score:.3f}"  # type: ignore[attr-defined]
            for word in words
        )

    text = f"content junk probability {result.probability:.2f}, threshold {threshold:.2f}"
    if not result.significant:
        text += ", little history"
    if result.ham:
        text += f", ham words {listed(result.ham)}"
    if result.spam:
        text += f", spam words {listed(result.spam)}"
    return text


def _shown(word: str, utf8: bool) -> str:
    """A word without what would end the detail, or needs UTF-8 where that cannot be."""
    if not word.isascii() and not utf8:
        return "(non-ascii)"
    return word.replace(" ", "_").replace(";", "").replace("\\", "")
