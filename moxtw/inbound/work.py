"""One message on its way to its recipients: what is decided for each, and how it is stored."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from moxtw import metrics
from moxtw.authn import AuthResults
from moxtw.authn.results import dmarc_method
from moxtw.config.dynamic import Account, Alias, Destination
from moxtw.config.lookup import ConfigView
from moxtw.dns.publicsuffix import organizational_domain
from moxtw.inbound import forward, hooks
from moxtw.inbound.decide import Case, Decider, Decision
from moxtw.inbound.envelope import Envelope, Recipient, RecipientResult
from moxtw.inbound.evaluations import evaluation, wanted
from moxtw.inbound.rulesets import Subject
from moxtw.log import INFO, Logger
from moxtw.mail.address import Address, Path, pack_address
from moxtw.mail.domain import DomainError, parse_domain
from moxtw.mail.received import (
    authentication_results,
    delivered_to,
    reason_header,
    received_spf,
    return_path,
)
from moxtw.store import accounts, dmarcdb, mailboxes, messages, rejects
from moxtw.store.content import Spooled
from moxtw.store.db import Store
from moxtw.store.dmarcdb import NewEvaluation
from moxtw.store.model import Delivery, Flag, NewMessage, Validation
from moxtw.store.tx import Tx

log = Logger("smtpserver")

Sleep = Callable[[float], Awaitable[None]]

# Recipients that are decided on in a row; then others have their turn.
_TURN: Final = 200

_VALIDATIONS: Final = {
    "strict": Validation.STRICT,
    "dmarc": Validation.DMARC,
    "relaxed": Validation.RELAXED,
    "pass": Validation.PASS,
    "neutral": Validation.NEUTRAL,
    "temperror": Validation.TEMPERROR,
    "permerror": Validation.PERMERROR,
    "fail": Validation.FAIL,
    "softfail": Validation.SOFTFAIL,
    "none": Validation.NONE,
}

# Errors of single recipients, from the job to its caller.
QUOTA: Final = (452, "4.2.2", "account storage full", "delivererror")
FULL: Final = (452, "4.3.1", "disk full, try again later", "delivererror")
STORAGE: Final = (451, "4.3.0", "error while delivering, try again later", "delivererror")
_ACCOUNT: Final = (451, "4.3.0", "account not available, try again later", "accounterror")


@dataclass(slots=True)
class _Plan:
    """A message to be added to an account.

    index: of the recipient. rejected: into the rejects mailbox, beside a refusal.
    """

    index: int
    account_name: str
    account: Account
    quota: int
    decision: Decision
    mailbox: str
    prefix: bytes
    delivery: Delivery
    flags: int
    rejected: bool = False
    forward: forward.Forward | None = None


@dataclass(frozen=True, slots=True)
class _Evaluated:
    """What is to be reported about a recipient; `accepted` counts only once it is stored."""

    index: int
    accepted: bool
    evaluation: NewEvaluation


@dataclass(slots=True)
class _Target:
    """A destination that a recipient leads to; for aliases one of several."""

    account: str
    destination: Destination
    final: Path


class Work:
    """One message on its way to its recipients."""

    def __init__(
        self,
        config: ConfigView,
        decider: Decider,
        envelope: Envelope,
        content: Spooled,
        auth: AuthResults,
        sleep: Sleep,
    ) -> None:
        self.config = config
        self.hooks = hooks.NOTHING
        self.dynamic = config.dynamic
        self.static = config.static
        self.decider = decider
        self.envelope = envelope
        self.content = content
        self.auth = auth
        self.sleep = sleep
        self.plans: list[_Plan] = []
        self._forwarded: list[str] = []
        self.first_time = False
        self.refused: dict[int, tuple[int, str, str, str]] = {}
        self.outcomes: dict[int, list[tuple[int, str, str, str] | None]] = {}
        self.reasons: dict[int, str] = {}
        self.evaluations: list[_Evaluated] = []
        self._kept: list[Callable[[], None]] = []
        self.author = _author(content)
        if auth.evaluated:
            found = auth.author
            self.author = None
            if found is not None:
                self.author = _with_organization(found.localpart, found.domain.name)
        verified = list(auth.dkim_domains)
        if auth.mail_from_validated:
            verified.append(envelope.mail_from.ipdomain.name)
        if auth.ehlo_validated:
            verified.append(envelope.hello.name)
        self.subject = Subject(
            envelope.mail_from.form(),
            None if self.author is None else pack_address(*self.author[:2]),
            verified,
            envelope.head,
        )

    # -- Decisions -----------------------------------------------------------------

    async def decide_all(self) -> None:
        """Decide for accounts first, then for aliases; refuse unknown users."""
        recipients = list(enumerate(self.envelope.recipients))
        for index, recipient in recipients:
            found = recipient.destination
            if found is None:
                continue
            target = _Target(found.account, found.destination, recipient.path)
            await self._decide(index, recipient, [target])
            if index % _TURN == _TURN - 1:
                await self.sleep(0)
        explicit: set[str] | None = None
        for index, recipient in recipients:
            if recipient.alias is not None:
                if explicit is None:
                    explicit = {
                        r.destination.canonical
                        for r in self.envelope.recipients
                        if r.destination is not None
                    }
                await self._alias(index, recipient, explicit)
            elif recipient.destination is None:
                self.refused[index] = (550, "5.1.1", "no such user", "unknownuser")

    async def _alias(self, index: int, recipient: Recipient, explicit: set[str]) -> None:
        assert recipient.alias is not None
        alias: Alias = recipient.alias.alias
        author = self._author_address()
        members = alias.parsed_addresses
        if not (
            alias.post_public
            or (author is not None and any(m.address == author for m in members))
            or (alias.allow_msg_from and author == alias.address)
        ):
            self.refused[index] = (
                550, "5.7.2", "not allowed to send to this list of addresses", "reject",
            )  # fmt: skip
            return
        targets = [
            _Target(member.account_name, member.destination, member.address.path)
            for member in members
        ]
        wanted = {
            target.final
            for member, target in zip(members, targets, strict=True)
            if member.address.pack() not in explicit and member.address != author
        }
        await self._decide(index, recipient, targets, wanted)

    async def _decide(
        self,
        index: int,
        recipient: Recipient,
        targets: list[_Target],
        wanted: set[Path] | None = None,
    ) -> None:
        """Decide for each target; the recipient is accepted if any of them accepts.

        wanted: which of the targets get the message; None for all.
        """
        decisions: list[tuple[_Target, Account, Decision]] = []
        for target in targets:
            account = self.dynamic.accounts.get(target.account)
            if account is None:
                continue
            case = Case(
                account_name=target.account,
                account=account,
                destination=target.destination,
                recipient=recipient,
                envelope=self.envelope,
                auth=self.auth,
                subject=self.subject,
                content=self.content,
                author=self.author,
                size=self.content.size,
                pause=lambda: self.sleep(0),
            )
            decisions.append((target, account, await self.decider.decide(case)))
        if not decisions:
            self.refused[index] = _ACCOUNT
            return
        chosen = next((d for _, _, d in decisions if d.accept), decisions[0][2])
        self.reasons[index] = chosen.reason
        if not chosen.accept:
            reason = "highrate" if chosen.reason == "high-rate" else "reject"
            code, secode = (chosen.code, chosen.secode) if chosen.code else (451, "4.3.0")
            self.refused[index] = (code, secode, chosen.text or "rejected", reason)
            log.info(
                "rejecting message",
                cid=self.envelope.cid,
                reason=chosen.reason,
                rcptto=recipient.path.log_name,
                code=code,
            )
        self._evaluate(index, recipient, chosen)
        self.outcomes[index] = []
        for target, account, decision in decisions:
            if wanted is not None and target.final not in wanted:
                continue
            if chosen.accept:
                # A member of an alias whose own decision is no gets it like the others: the
                # alias has accepted.
                self._plan(index, recipient, target, account, decision)
            elif decision.keep_reject and account.rejects_mailbox:
                self._plan(index, recipient, target, account, decision, rejected=True)

    def _evaluate(self, index: int, recipient: Recipient, decision: Decision) -> None:
        """Note what the domain of the DMARC policy wants to be told."""
        if (
            self.envelope.localserve
            or self.static.no_outgoing_dmarc_reports
            or not wanted(self.auth.dmarc)
            or decision.is_reject
            or not (decision.accept or decision.reason == "dmarc-policy")
        ):
            return
        found = recipient.destination
        made = evaluation(
            self.auth,
            self.envelope,
            recipient.path,
            accepted=decision.accept,
            overrides=decision.overrides,
            # Reports about reports would go on for ever.
            optional=(found is not None and (found.dmarc_reports or found.tls_reports))
            or not (decision.accept or decision.known_organization),
        )
        # Recipients in one domain are one message to it.
        if not any(each.evaluation == made for each in self.evaluations):
            self.evaluations.append(_Evaluated(index, decision.accept, made))

    def _plan(
        self,
        index: int,
        recipient: Recipient,
        target: _Target,
        account: Account,
        decision: Decision,
        rejected: bool = False,
    ) -> None:
        seen = rejected or decision.is_reject or decision.reports.valid
        flags = int(Flag.SEEN) if seen else 0
        if decision.first_time and not (
            decision.is_forward or decision.is_mailing_list or account.no_first_time_sender_delay
        ):
            self.first_time = True
        quota = account.quota_message_size or self.static.quota_message_size
        passed_on = None
        if target.destination.forward_to and not (
            rejected or decision.is_reject or self.envelope.localserve
        ):
            trace = self._checks(decision) + self._received(recipient)
            passed_on = forward.Forward(
                target.account, account, target.destination, target.final, trace
            )
        self.plans.append(
            _Plan(
                forward=passed_on,
                index=index,
                account_name=target.account,
                account=account,
                quota=max(quota, 0),
                decision=decision,
                mailbox=account.rejects_mailbox if rejected else decision.mailbox,
                prefix=self._prefix(recipient, target, decision),
                delivery=self._delivery(recipient, decision, rejected),
                flags=flags,
                rejected=rejected,
            )
        )

    def _author_address(self) -> Address | None:
        if self.author is None:
            return None
        try:
            return Address(self.author[0], parse_domain(self.author[1], strict=False))
        except DomainError:
            return None

    def _prefix(self, recipient: Recipient, target: _Target, decision: Decision) -> bytes:
        """The fields on top of the stored message."""
        top = _top_fields(
            decision.reason,
            decision.details,
            decision.reports.errors,
            target.final,
            self.envelope.mail_from,
            self.envelope.smtputf8,
        )
        return top + self._checks(decision) + self._received(recipient)

    def _checks(self, decision: Decision) -> bytes:
        """Fields about who sent it."""
        auth = self.auth
        if not auth.evaluated:
            return b""
        # Which messages need UTF-8 to be read is for the sender to say.
        utf8 = self.envelope.smtputf8
        hostname = self.static.dns_hostname.form(utf8)
        methods = auth.methods
        if decision.overrides and auth.dmarc is not None and auth.dmarc.record is not None:
            told = dmarc_method(auth.dmarc, utf8, decision.overrides)
            methods = tuple(told if m.method == "dmarc" else m for m in methods)
        checks = authentication_results(hostname, methods)
        if auth.received_spf is not None:
            checks += received_spf(auth.received_spf, utf8)
        return checks

    def _received(self, recipient: Recipient) -> bytes:
        return self.envelope.trace.field(self.envelope.received, recipient.path)

    def _delivery(self, recipient: Recipient, decision: Decision, rejected: bool) -> Delivery:
        envelope, auth = self.envelope, self.auth
        tls = envelope.tls
        hello = envelope.hello.domain
        mail_from = envelope.mail_from
        rcpt = recipient.path
        forward = decision.is_forward
        ehlo_domain = "" if hello is None else hello.name
        localpart, domain, org_domain = self.author or ("", "", "")
        delivery = Delivery(
            # A forwarder's address and names say nothing about the author.
            remote_ip="" if forward else envelope.remote_ip,
            ehlo_domain="" if forward else ehlo_domain,
            mail_from=self.subject.mail_from,
            mail_from_localpart=mail_from.localpart,
            mail_from_domain="" if forward else mail_from.ipdomain.name,
            rcpt_to_localpart=rcpt.localpart,
            rcpt_to_domain=rcpt.ipdomain.name,
            msg_from_localpart=localpart,
            msg_from_domain=domain,
            msg_from_org_domain=org_domain,
            is_reject=rejected or decision.is_reject,
            is_forward=forward,
            is_mailing_list=decision.is_mailing_list or self.content.parsed.is_mailing_list,
            received_tls_version=1 if tls is None else tls.version_number,
            received_tls_cipher_suite=0 if tls is None else tls.cipher_number,
            received_requiretls=envelope.requiretls,
        )
        if auth.evaluated:
            delivery.ehlo_validated = auth.ehlo_validated
            delivery.mail_from_validated = auth.mail_from_validated
            delivery.msg_from_validated = auth.from_validated
            delivery.ehlo_validation = _VALIDATIONS.get(auth.ehlo_status, 0)
            delivery.mail_from_validation = _VALIDATIONS.get(auth.mail_from_status, 0)
            delivery.msg_from_validation = _VALIDATIONS.get(auth.from_validation, 0)
            delivery.dkim_domains = auth.dkim_domains
            if forward and decision.ruleset is not None:
                delivery.orig_ehlo_domain = ehlo_domain
                delivery.orig_dkim_domains = auth.dkim_domains
                own = decision.ruleset.verified_dns_domain.name
                delivery.dkim_domains = tuple(
                    d for d in auth.dkim_domains if d != own and not d.endswith("." + own)
                )
        if rejected:
            delivery.message_hash = self.content.digest.hex()
        return delivery

    # -- Storing -------------------------------------------------------------------

    async def prepare_hooks(self, store: Store) -> None:
        """Work out what webhooks are to be told, before the writer has to wait for it."""
        plans = [p for p in self.plans if not (p.rejected or p.decision.is_reject)]
        recipients = self.envelope.recipients
        self.hooks = await hooks.prepare(
            store,
            self.content,
            self.envelope,
            ids=any(hooks.from_id(self.config, recipients[p.index]) for p in plans),
            incoming=any(p.account.incoming_webhook is not None for p in plans),
        )

    async def prepare_forwards(self, store: Store) -> None:
        """Make and seal the copies that go elsewhere, likewise."""
        found = [plan.forward for plan in self.plans if plan.forward is not None]
        if found:
            await forward.prepare(
                store, self.config, found, self.envelope, self.content, self.auth
            )

    def job(self, tx: Tx) -> list[tuple[int, str, str, str] | None]:
        """Add the message where it goes; runs in the writer. None for each success.

        What can fail for one recipient alone is checked before anything is changed for it.
        """
        saved: dict[int, int] = {}
        self._kept = []
        self._forwarded = []
        outcomes = [self._add(tx, plan, saved) for plan in self.plans]
        delivered = {
            plan.index
            for plan, outcome in zip(self.plans, outcomes, strict=True)
            if outcome is None and not plan.rejected
        }
        dmarcdb.add_evaluations(
            tx,
            [
                each.evaluation
                for each in self.evaluations
                if not each.accepted or each.index in delivered
            ],
        )
        return outcomes

    def _add(
        self, tx: Tx, plan: _Plan, saved: dict[int, int]
    ) -> tuple[int, str, str, str] | None:
        account = accounts.find(tx, plan.account_name)
        if account is None:
            return _ACCOUNT
        size = len(plan.prefix) + self.content.size
        if plan.quota and account.disk_usage + size > plan.quota:
            return QUOTA
        if plan.rejected:
            return self._add_reject(tx, plan, account.id, saved)
        mailbox = mailboxes.ensure(tx, account.id, plan.mailbox)
        if plan.decision.destined:
            destined = mailboxes.ensure(tx, account.id, plan.decision.destined)
            plan.delivery.mailbox_destined_id = destined.id
        added = messages.add(
            tx, account.id, mailbox.id, self._message(plan, plan.delivery), saved=saved
        )
        message_id = self.content.parsed.message_id
        if plan.account.rejects_mailbox and message_id and plan.decision.accept:
            rejects.remove(
                tx, account.id, plan.account.rejects_mailbox, message_id, keep=added.id
            )
        if plan.forward is not None:
            result = forward.queue(tx, plan.forward, account.id, saved, self.envelope.cid)
            self._forwarded.append(result)
        if plan.decision.reports.valid and not plan.decision.is_reject:
            self._kept += plan.decision.reports.keep(tx, self.subject.mail_from)
        if not plan.decision.is_reject:
            hooks.delivered(
                tx,
                self.config,
                self.hooks,
                account_name=plan.account_name,
                account=plan.account,
                recipient=self.envelope.recipients[plan.index],
                envelope=self.envelope,
                delivery=plan.delivery,
                message_id=added.id,
                mailbox=mailbox.name,
            )
        return None

    def _add_reject(
        self, tx: Tx, plan: _Plan, account_id: int, saved: dict[int, int]
    ) -> tuple[int, str, str, str] | None:
        """Keep a copy of a refused message; the reply stays that of the refusal."""
        mailbox = mailboxes.ensure(tx, account_id, plan.mailbox)
        room = rejects.tidy(tx, account_id, mailbox, keep=plan.account.keep_rejects)
        parsed = self.content.parsed
        if not room or rejects.has(
            tx, account_id, mailbox.id, parsed.message_id, plan.delivery.message_hash
        ):
            return None
        destined = mailboxes.ensure(
            tx, account_id, plan.decision.destined or plan.decision.mailbox
        )
        plan.delivery.mailbox_destined_id = destined.id
        messages.add(tx, account_id, mailbox.id, self._message(plan, plan.delivery), saved=saved)
        return None

    def _message(self, plan: _Plan, delivery: Delivery) -> NewMessage:
        return NewMessage(
            self.content,
            prefix=plan.prefix,
            flags=plan.flags,
            received=self.envelope.received,
            delivery=delivery,
        )

    def take(self, outcomes: Sequence[tuple[int, str, str, str] | None]) -> None:
        """Take the results of the job."""
        for count in self._kept:
            count()
        for result in filter(None, self._forwarded if None in outcomes else ()):
            metrics.smtpserver_forward_total.labels(result).inc()
        for plan, outcome in zip(self.plans, outcomes, strict=True):
            if not plan.rejected:
                self.outcomes[plan.index].append(outcome)
            elif outcome is not None:
                log.info("rejected message not kept", cid=self.envelope.cid, err=outcome[2])

    def finish(self) -> list[RecipientResult]:
        """One result for each recipient, logged and counted."""
        envelope = self.envelope
        results = []
        for index, recipient in enumerate(envelope.recipients):
            failure = self.refused.get(index)
            if failure is None:
                outcomes = self.outcomes[index]
                # An alias is served if any member got it, or none was to get it.
                if outcomes and None not in outcomes:
                    failure = outcomes[0]
            if failure is None:
                reason = self.reasons[index]
                metrics.smtpserver_delivery_total.labels("delivered", reason).inc()
                results.append(RecipientResult(recipient, reason=reason))
            else:
                code, secode, text, result = failure
                reason = self.reasons.get(index, "")
                metrics.smtpserver_delivery_total.labels(result, reason).inc()
                results.append(RecipientResult(recipient, code, secode, text, result))
            if log.enabled(INFO):
                log.info(
                    "incoming message",
                    cid=envelope.cid,
                    result="delivered" if failure is None else failure[3],
                    reason=self.reasons.get(index),
                    mailfrom=envelope.mail_from.log_name,
                    rcptto=recipient.path.log_name,
                    size=self.content.size,
                    remote=envelope.remote_ip,
                )
        return results


@lru_cache(maxsize=1024)
def _top_fields(
    reason: str,
    details: tuple[str, ...],
    errors: tuple[tuple[str, str], ...],
    final: Path,
    mail_from: Path,
    utf8: bool,
) -> bytes:
    """X-Mox-Reason, Delivered-To and Return-Path: the same for many messages.

    errors: names and texts of fields about reports that were not taken.
    """
    return b"".join(
        (
            reason_header(reason, details),
            *(_plain_field(name, text) for name, text in errors),
            delivered_to(final, utf8 or final.needs_utf8),
            return_path(mail_from, utf8 or mail_from.needs_utf8),
        )
    )


def _plain_field(name: str, text: str) -> bytes:
    """A field with a text that may be partly a stranger's."""
    shown = "".join(c if " " <= c <= "~" else "?" for c in text)[:500]
    return f"{name}: {shown}\r\n".encode("ascii")


def _author(content: Spooled) -> tuple[str, str, str] | None:
    """The single From address, if it is one; see `_with_organization`."""
    found = content.parsed.from_
    if len(found) != 1 or not found[0].domain:
        return None
    try:
        domain = parse_domain(found[0].domain, strict=False)
    except DomainError:
        return None
    return _with_organization(found[0].localpart, domain.name)


def _with_organization(localpart: str, domain: str) -> tuple[str, str, str]:
    """Localpart, domain and organizational domain, both Unicode, of an author."""
    return localpart, domain, organizational_domain(domain)
