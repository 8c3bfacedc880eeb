"""What earlier messages say about a sender.

Messages that the user has judged (flagged as junk or as not junk), and that were first
delivered to the same mailbox, are looked for by ever weaker ties to the new one: the author's
address, its domain, domains that DKIM or SPF confirm, the address it came from and the networks
around it. The first tie that finds something decides. Whom the user has written to is known
too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from moxtw.store.history import Found, Question, Questions
from moxtw.store.tx import Tx

_DAY: Final = 86_400_000_000
_YEAR: Final = 365 * _DAY

# Ties that a stranger can have by chance, or buy.
WEAK: Final = frozenset({"dkimspf", "ip1", "ip2", "ip3", "none"})


@dataclass(frozen=True, slots=True)
class Sender:
    """What ties a message to earlier ones. Names are empty where they are not known.

    from_validated: the author's address is real. mail_from_validated, ehlo_validated: SPF
    passed for that name. dkim_domains: with a good signature. ip: the client's address in its
    three classes, from narrow to wide.
    """

    from_localpart: str = ""
    from_domain: str = ""
    from_org_domain: str = ""
    from_validated: bool = False
    mail_from_localpart: str = ""
    mail_from_domain: str = ""
    mail_from_validated: bool = False
    ehlo_domain: str = ""
    ehlo_validated: bool = False
    dkim_domains: Sequence[str] = ()
    ip: tuple[str, str, str] = ("", "", "")


@dataclass(frozen=True, slots=True)
class Reputation:
    """The result. junk: None when history is mixed or missing. method: the tie that decided."""

    junk: bool | None
    conclusive: bool
    method: str


_NONE: Final = Reputation(None, False, "none")


def _of_author(*, validated: bool) -> Questions:
    """What is asked about an author, from strong ties to weak ones."""
    questions = {
        "full": Question("from", 3 * _YEAR, 2),
        "sent": Question("sent", 3 * _YEAR),
        "domain": Question("from_domain", 2 * _YEAR, 20),
        "sent_domain": Question("sent_domain", 2 * _YEAR),
        "org_domain": Question("from_org_domain", 2 * _YEAR, 20),
        "sent_org_domain": Question("sent_org_domain", 2 * _YEAR),
    }
    if not validated:
        # Whether the real author has always been known to be real.
        questions["real"] = Question("from", 3 * _YEAR, 2, validated=1)
        questions["real_domain"] = Question("from_domain", 2 * _YEAR, 2, validated=1)
        questions["real_org_domain"] = Question("from_org_domain", 2 * _YEAR, 2, validated=1)
    return Questions(**questions)


QUESTIONS_BY_AUTHOR: Final = {
    validated: _of_author(validated=validated) for validated in (False, True)
}
QUESTIONS_BY_CLIENT: Final = Questions(
    dkim=Question("dkim", _YEAR // 2, 50),
    mail_from=Question("mail_from", _YEAR // 2, 50),
    mail_from_domain=Question("mail_from_domain", _YEAR // 2, 50),
    ehlo_domain=Question("ehlo_domain", _YEAR // 2, 50),
    ip1=Question("ip1", _YEAR // 4, 50),
    ip2=Question("ip2", _YEAR // 4, 50),
    ip3=Question("ip3", _YEAR // 4, 50),
)
QUESTIONS_BY_ORGANIZATION: Final = Questions(
    real=Question("from_org_domain", 2 * _YEAR, 20, validated=1),
    other=Question("from_org_domain", 2 * _YEAR, 20, validated=0),
    sent=Question("sent_org_domain", 2 * _YEAR),
)
QUESTIONS_BY_SIGNER: Final = Questions(dkim=Question("dkim", _YEAR // 2, 50))


def reputation(tx: Tx, account_id: int, mailbox_id: int, sender: Sender) -> Reputation:
    """The reputation of a sender with a mailbox; `mailbox_id` 0 for one that is not there yet."""
    found = _author(tx, account_id, mailbox_id, sender) if sender.from_domain else None
    return found or _client(tx, account_id, mailbox_id, sender)


def knows_organization(tx: Tx, account_id: int, mailbox_id: int, org_domain: str) -> bool:
    """Whether wanted messages of an organization came to a mailbox, or some were sent there."""
    found = QUESTIONS_BY_ORGANIZATION.ask(
        tx, account_id, mailbox_id, from_org_domain=org_domain
    )
    return bool(found["real"].good or found["other"].good or found["sent"].seen)


# -- The author ------------------------------------------------------------------------


def _author(tx: Tx, account_id: int, mailbox_id: int, sender: Sender) -> Reputation | None:
    """By the From address, then by its domain, then by its organization."""
    validated = sender.from_validated
    found = QUESTIONS_BY_AUTHOR[validated].ask(
        tx,
        account_id,
        mailbox_id,
        from_domain=sender.from_domain,
        from_localpart=sender.from_localpart,
        from_org_domain=sender.from_org_domain,
        from_validated=int(validated),
    )
    full = found["full"]
    if full.seen:
        # One message may have been judged by mistake.
        return Reputation(full.all_junk, validated, "msgfromfull")
    if not validated and found["real"].seen:
        return Reputation(True, found["real"].all_junk, "msgfromfull")
    if found["sent"].seen:
        return Reputation(False, True, "msgtofull")
    known = _domain(found, "domain", validated)
    if known is None and sender.from_org_domain:
        known = _domain(found, "org_domain", validated)
    return known


def _domain(found: Mapping[str, Found], kind: str, validated: bool) -> Reputation | None:
    method = kind.replace("_", "")
    newest = found[kind]
    if newest.seen:
        if 100 * newest.good > 80 * newest.seen:
            return Reputation(False, True, f"msgfrom{method}")
        if newest.all_junk:
            return Reputation(True, newest.localparts >= 3, f"msgfrom{method}")
        # Somebody new there is not to suffer for others.
        return Reputation(None, False, f"msgfrom{method}")
    if not validated and found[f"real_{kind}"].seen:
        return Reputation(True, found[f"real_{kind}"].all_junk, f"msgfrom{method}")
    if found[f"sent_{kind}"].seen:
        return Reputation(False, True, f"msgto{method}")
    return None


# -- Domains that are confirmed, and addresses -----------------------------------------


def _client(tx: Tx, account_id: int, mailbox_id: int, sender: Sender) -> Reputation:
    """By each domain with a good signature, by what SPF confirmed, and by the networks."""
    signers = list(sender.dkim_domains)
    found = QUESTIONS_BY_CLIENT.ask(
        tx,
        account_id,
        mailbox_id,
        dkim_domain=signers[0] if signers else "",
        mail_from_domain=sender.mail_from_domain,
        mail_from_localpart=sender.mail_from_localpart,
        ehlo_domain=sender.ehlo_domain,
        ip1=sender.ip[0],
        ip2=sender.ip[1],
        ip3=sender.ip[2],
    )
    groups = [found["dkim"]] if signers else []
    for domain in signers[1:]:
        more = QUESTIONS_BY_SIGNER.ask(tx, account_id, mailbox_id, dkim_domain=domain)
        groups.append(more["dkim"])
    confirmed = _spf(found, sender)
    if confirmed is not None:
        groups.append(confirmed)
    return _verified([group for group in groups if group.seen]) or _network(found, sender)


def _spf(found: Mapping[str, Found], sender: Sender) -> Found | None:
    """By what SPF passed for: the address, its domain, or the name of the client."""
    if sender.mail_from_validated and sender.mail_from_domain:
        for name in ("mail_from", "mail_from_domain"):
            if found[name].seen:
                return found[name]
    if sender.ehlo_validated and sender.ehlo_domain:
        return found["ehlo_domain"]
    return None


def _verified(groups: Sequence[Found]) -> Reputation | None:
    if not groups:
        return None
    shares = [group.junk / group.seen for group in groups]
    good = any(share < 0.1 for share in shares)
    bad = any(share > 0.9 for share in shares)
    if good and not bad:
        return Reputation(False, True, "dkimspf")
    if bad and not good:
        return Reputation(True, max(group.seen for group in groups) > 1, "dkimspf")
    return Reputation(None, False, "dkimspf")


def _network(found: Mapping[str, Found], sender: Sender) -> Reputation:
    """By the client's address, and the networks around it, which say ever less."""
    for name, ip, enough in zip(("ip1", "ip2", "ip3"), sender.ip, (2, 5, 10), strict=True):
        group = found[name]
        if not ip or not group.seen:
            continue
        share = group.junk / group.seen
        junk = False if share < 0.25 else True if share > 0.75 else None
        clear = share <= 0.1 or share >= 0.9
        return Reputation(junk, group.seen >= enough and clear, name)
    return _NONE
