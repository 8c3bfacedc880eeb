"""Rulesets: which message goes to which mailbox, by the conditions of its destination."""

from __future__ import annotations

from collections.abc import Sequence

from moxtw.config.dynamic import Ruleset
from moxtw.mail.header import Headers, parse_headers, unfold
from moxtw.mail.words import header_text


class Subject:
    """What rulesets look at. The header is only parsed when one asks for it.

    mail_from: the envelope sender as text, empty for the null sender. msg_from: the author's
    address, None if there is none. verified: Unicode domains verified by SPF or DKIM. head:
    the header section.
    """

    def __init__(
        self, mail_from: str, msg_from: str | None, verified: Sequence[str], head: bytes
    ) -> None:
        self.mail_from = mail_from
        self.msg_from = msg_from
        self.verified = verified
        self._head = head
        self._fields: list[tuple[str, str]] | None = None

    def fields(self) -> list[tuple[str, str]]:
        """Lower-case names and values, those unfolded and trimmed."""
        if self._fields is None:
            headers: Headers = parse_headers(self._head)
            self._fields = [
                (
                    field.name.decode("ascii", "replace"),
                    header_text(unfold(self._head[field.value : field.end])).lower(),
                )
                for field in headers.fields
            ]
        return self._fields


def first_match(rulesets: Sequence[Ruleset], subject: Subject) -> Ruleset | None:
    """The first ruleset of which all conditions hold."""
    for ruleset in rulesets:
        if matches(ruleset, subject):
            return ruleset
    return None


def matches(ruleset: Ruleset, subject: Subject) -> bool:
    """Whether all conditions of a ruleset hold; it needs to have one."""
    conditions = False
    if ruleset.smtp_mail_from is not None:
        conditions = True
        if not ruleset.smtp_mail_from.search(subject.mail_from):
            return False
    if ruleset.msg_from is not None:
        conditions = True
        if subject.msg_from is None or not ruleset.msg_from.search(subject.msg_from):
            return False
    if not ruleset.verified_dns_domain.is_zero:
        conditions = True
        wanted = ruleset.verified_dns_domain.name
        if not any(name == wanted or name.endswith("." + wanted) for name in subject.verified):
            return False
    for name, value in ruleset.headers:
        conditions = True
        if not any(name.search(n) and value.search(v) for n, v in subject.fields()):
            return False
    return conditions
