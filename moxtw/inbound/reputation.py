"""What earlier messages say about a sender.

Messages that the user has judged (flagged as junk or as not junk), and that were first
delivered to the same mailbox, are looked for by ever weaker ties to the new one: the author's
address, its domain, domains that DKIM or SPF confirm, the address it came from and the networks
around it. The first tie that finds something decides. Whom the user has written to is known
too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from moxtw.store import history
from moxtw.store.history import Judged, Mailbox
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


def reputation(tx: Tx, account_id: int, mailbox_id: int, sender: Sender) -> Reputation:
    """The reputation of a sender with a mailbox; `mailbox_id` 0 for one that is not there yet."""
    look = _Look(tx, Mailbox(account_id, mailbox_id), sender)
    return look.author() or look.verified() or look.network() or _NONE


def knows_organization(tx: Tx, account_id: int, mailbox_id: int, org_domain: str) -> bool:
    """Whether wanted messages of an organization came to a mailbox, or some were sent there."""
    look = _Look(tx, Mailbox(account_id, mailbox_id), Sender())
    return any(
        not judged.junk
        for validated in (1, 0)
        for judged in look._newest(
            "from_org_domain",
            2 * _YEAR,
            20,
            from_org_domain=org_domain,
            from_validated=validated,
        )
    ) or look._sent_to("org_domain", 2 * _YEAR, org_domain=org_domain)


class _Look:
    def __init__(self, tx: Tx, mailbox: Mailbox, sender: Sender) -> None:
        self._tx = tx
        self._mailbox = mailbox
        self._sender = sender

    def _newest(self, by: str, age: int, most: int, **values: str | int) -> list[Judged]:
        return self._mailbox.newest(
            self._tx, by, since=self._tx.now - age, most=most, **values
        )

    def _sent_to(self, by: str, age: int, **values: str) -> bool:
        return history.sent_to(
            self._tx, self._mailbox.account_id, by, self._tx.now - age, **values
        )

    # -- The author --------------------------------------------------------------------

    def author(self) -> Reputation | None:
        """By the From address, then by its domain, then by its organization."""
        sender = self._sender
        if not sender.from_domain:
            return None
        address = {"from_domain": sender.from_domain, "from_localpart": sender.from_localpart}
        found = self._newest(
            "from", 3 * _YEAR, 2, **address, from_validated=int(sender.from_validated)
        )
        if found:
            # One message may have been judged by mistake.
            return Reputation(_all_junk(found), sender.from_validated, "msgfromfull")
        if not sender.from_validated:
            found = self._newest("from", 3 * _YEAR, 2, **address, from_validated=1)
            if found:
                # The real author has always been known to be real.
                return Reputation(True, _all_junk(found), "msgfromfull")
        if self._sent_to(
            "address", 3 * _YEAR, domain=sender.from_domain, localpart=sender.from_localpart
        ):
            return Reputation(False, True, "msgtofull")
        return self._domain("domain", sender.from_domain) or self._domain(
            "org_domain", sender.from_org_domain
        )

    def _domain(self, kind: str, name: str) -> Reputation | None:
        if not name:
            return None
        method = kind.replace("_", "")
        by = f"from_{kind}"
        validated = self._sender.from_validated
        found = self._newest(by, 2 * _YEAR, 20, **{by: name}, from_validated=int(validated))
        if found:
            good = sum(not judged.junk for judged in found)
            if 100 * good > 80 * len(found):
                return Reputation(False, True, f"msgfrom{method}")
            if not good:
                localparts = {judged.localpart for judged in found}
                return Reputation(True, len(localparts) >= 3, f"msgfrom{method}")
            # Somebody new there is not to suffer for others.
            return Reputation(None, False, f"msgfrom{method}")
        if not validated:
            found = self._newest(by, 2 * _YEAR, 2, **{by: name}, from_validated=1)
            if found:
                return Reputation(True, _all_junk(found), f"msgfrom{method}")
        if self._sent_to(kind, 2 * _YEAR, **{kind: name}):
            return Reputation(False, True, f"msgto{method}")
        return None

    # -- Confirmed domains -------------------------------------------------------------

    def verified(self) -> Reputation | None:
        """By each domain with a good signature, and by what SPF confirmed."""
        groups = [
            self._newest("dkim", _YEAR // 2, 50, domain=domain)
            for domain in self._sender.dkim_domains
        ]
        groups.append(self._spf())
        groups = [group for group in groups if group]
        if not groups:
            return None
        shares = [_share(group) for group in groups]
        good = any(share < 0.1 for share in shares)
        bad = any(share > 0.9 for share in shares)
        if good and not bad:
            return Reputation(False, True, "dkimspf")
        if bad and not good:
            return Reputation(True, max(map(len, groups)) > 1, "dkimspf")
        return Reputation(None, False, "dkimspf")

    def _spf(self) -> list[Judged]:
        sender = self._sender
        found: list[Judged] = []
        if sender.mail_from_validated and sender.mail_from_domain:
            domain = sender.mail_from_domain
            found = self._newest(
                "mail_from",
                _YEAR // 2,
                50,
                mail_from_domain=domain,
                mail_from_localpart=sender.mail_from_localpart,
            ) or self._newest("mail_from_domain", _YEAR // 2, 50, mail_from_domain=domain)
        if not found and sender.ehlo_validated and sender.ehlo_domain:
            found = self._newest("ehlo_domain", _YEAR // 2, 50, ehlo_domain=sender.ehlo_domain)
        return found

    # -- Addresses ---------------------------------------------------------------------

    def network(self) -> Reputation | None:
        """By the client's address, and the networks around it, which say ever less."""
        for name, ip, enough in zip(
            ("ip1", "ip2", "ip3"), self._sender.ip, (2, 5, 10), strict=True
        ):
            found = self._newest(name, _YEAR // 4, 50, **{name: ip}) if ip else []
            if not found:
                continue
            share = _share(found)
            junk = False if share < 0.25 else True if share > 0.75 else None
            clear = share <= 0.1 or share >= 0.9
            return Reputation(junk, len(found) >= enough and clear, name)
        return None


def _all_junk(found: Sequence[Judged]) -> bool:
    return all(judged.junk for judged in found)


def _share(found: Sequence[Judged]) -> float:
    """The share of junk."""
    return sum(judged.junk for judged in found) / len(found)
