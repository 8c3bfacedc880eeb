"""Rulesets: which message goes to which mailbox, by the conditions of its destination."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator, Sequence
from typing import Final, TypeVar

from moxtw.config.dynamic import Ruleset
from moxtw.mail.header import Headers, parse_headers, unfold
from moxtw.mail.words import header_text

T = TypeVar("T")

# Characters that expressions look at before others have a turn; and what any field counts for.
_PAUSE_AFTER: Final = 30_000
_FIELD_WORK: Final = 20


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
        # See `find_match`.
        self.work = 0
        self.found: dict[int, Ruleset | None] = {}

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
    return _finish(_first_match(rulesets, subject))


def matches(ruleset: Ruleset, subject: Subject) -> bool:
    """Whether all conditions of a ruleset hold; it needs to have one."""
    return _finish(_matches(ruleset, subject))


async def find_match(
    rulesets: Sequence[Ruleset], subject: Subject, pause: Callable[[], Awaitable[object]]
) -> Ruleset | None:
    """The same as `first_match`, with pauses in which others have their turn.

    The result is remembered, as many recipients can have the same rulesets.
    """
    key = id(rulesets)
    if key in subject.found:
        return subject.found[key]
    steps = _first_match(rulesets, subject)
    while True:
        try:
            next(steps)
        except StopIteration as stop:
            found: Ruleset | None = stop.value
            break
        await pause()
    subject.found[key] = found
    return found


def _finish(steps: Generator[None, None, T]) -> T:
    while True:
        try:
            next(steps)
        except StopIteration as stop:
            result: T = stop.value
            return result


# Each yields whenever it has worked for a while.


def _first_match(
    rulesets: Sequence[Ruleset], subject: Subject
) -> Generator[None, None, Ruleset | None]:
    for ruleset in rulesets:
        if (yield from _matches(ruleset, subject)):
            return ruleset
    return None


def _matches(ruleset: Ruleset, subject: Subject) -> Generator[None, None, bool]:
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
        for field_name, field_value in subject.fields():
            subject.work += _FIELD_WORK + len(field_name)
            if name.search(field_name):
                subject.work += len(field_value)
                if value.search(field_value):
                    break
            if subject.work > _PAUSE_AFTER:
                subject.work = 0
                yield
        else:
            return False
    return conditions
