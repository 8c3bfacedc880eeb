"""DMARC in the store: reports of others, and evaluations that are to be reported to them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

import msgspec
import sqlalchemy as sa
from sqlalchemy import bindparam

from moxtw.authn.dmarcreport import Feedback, Published, Row, Summary
from moxtw.store.schema_reports import dmarc_evaluations, dmarc_reports
from moxtw.store.tx import Statement, Tx

_SECOND: Final = 1_000_000

# -- Reports of others -------------------------------------------------------------------

_R = dmarc_reports.c
_HAS: Final = Statement(
    sa.select(_R.id).where(
        _R.domain == bindparam("domain"),
        _R.from_domain == bindparam("from_domain"),
        _R.org_name == bindparam("org"),
        _R.report_id == bindparam("report"),
        _R.begin_time == bindparam("begin"),
    )
)
_ADD: Final = Statement(
    dmarc_reports.insert().values(
        domain=bindparam("domain"),
        from_domain=bindparam("from_domain"),
        received=bindparam("now"),
        begin_time=bindparam("begin"),
        end_time=bindparam("end"),
        org_name=bindparam("org"),
        report_id=bindparam("report"),
        summary=bindparam("summary"),
        feedback=bindparam("feedback"),
    )
)
_COLUMNS: Final = (_R.id, _R.domain, _R.from_domain, _R.received, _R.feedback)
_IN_TIME: Final = (_R.end_time >= bindparam("start"), _R.end_time < bindparam("end"))
_OF_DOMAIN: Final = _R.domain == bindparam("domain")
_LIST: Final = {
    False: Statement(sa.select(*_COLUMNS).where(*_IN_TIME).order_by(_R.end_time.desc(), _R.id)),
    True: Statement(
        sa.select(*_COLUMNS).where(_OF_DOMAIN, *_IN_TIME).order_by(_R.end_time.desc(), _R.id)
    ),
}
_GET: Final = Statement(
    sa.select(*_COLUMNS).where(_R.id == bindparam("i"), _R.domain == bindparam("domain"))
)
_SUMMARIES: Final = {
    False: Statement(sa.select(_R.domain, _R.summary).where(*_IN_TIME)),
    True: Statement(sa.select(_R.domain, _R.summary).where(_OF_DOMAIN, *_IN_TIME)),
}


@dataclass(frozen=True, slots=True)
class StoredFeedback:
    """A report about a domain of ours; received in microseconds since the epoch."""

    id: int
    domain: str
    from_domain: str
    received: int
    feedback: Feedback


def add_report(tx: Tx, feedback: Feedback, domain: str, from_domain: str) -> bool:
    """Keep a report about a domain; whether it was new."""
    key: dict[str, Any] = {
        "domain": domain,
        "from_domain": from_domain,
        "org": feedback.org_name,
        "report": feedback.report_id,
        "begin": feedback.begin * _SECOND,
    }
    if tx.one(_HAS, **key) is not None:
        return False
    tx.run(
        _ADD,
        **key,
        now=tx.now,
        end=feedback.end * _SECOND,
        summary=msgspec.json.encode(feedback.summary()).decode(),
        feedback=msgspec.json.encode(feedback).decode(),
    )
    return True


def _stored(row: tuple[Any, ...]) -> StoredFeedback:
    return StoredFeedback(
        row[0], row[1], row[2], row[3], msgspec.json.decode(row[4], type=Feedback)
    )


def reports(tx: Tx, start: int, end: int, domain: str = "") -> list[StoredFeedback]:
    """Reports that end in [start, end), the latest first; of one domain, or all."""
    more = {"domain": domain} if domain else {}
    return [_stored(row) for row in tx.all(_LIST[bool(domain)], start=start, end=end, **more)]


def report(tx: Tx, domain: str, report_id: int) -> StoredFeedback | None:
    """One report."""
    row = tx.one(_GET, i=report_id, domain=domain)
    return None if row is None else _stored(row)


def summaries(tx: Tx, start: int, end: int, domain: str = "") -> dict[str, Summary]:
    """Counts by domain, of reports that end in [start, end)."""
    more = {"domain": domain} if domain else {}
    found: dict[str, Summary] = {}
    for name, text in tx.all(_SUMMARIES[bool(domain)], start=start, end=end, **more):
        found.setdefault(name, Summary()).merge(msgspec.json.decode(text, type=Summary))
    return dict(sorted(found.items()))


# -- Evaluations -------------------------------------------------------------------------

_E = dmarc_evaluations.c
_NOTE: Final = Statement(
    dmarc_evaluations.insert().values(
        policy_domain=bindparam("domain"),
        evaluated=bindparam("now"),
        optional=bindparam("optional"),
        interval_hours=bindparam("hours"),
        addresses=bindparam("addresses"),
        published=bindparam("published"),
        evaluation=bindparam("evaluation"),
    )
)
_STATS: Final = Statement(
    sa.select(_E.policy_domain, _E.optional, _E.evaluation).order_by(_E.policy_domain)
)
_EVALUATIONS: Final = Statement(
    sa.select(
        _E.id,
        _E.policy_domain,
        _E.evaluated,
        _E.optional,
        _E.interval_hours,
        _E.addresses,
        _E.published,
        _E.evaluation,
    )
    .where(_E.policy_domain == bindparam("domain"), _E.evaluated < bindparam("end"))
    .order_by(_E.evaluated, _E.id)
)
_DUE: Final = Statement(
    sa.select(_E.policy_domain, _E.interval_hours, sa.func.min(_E.optional))
    .where(_E.evaluated < bindparam("end"))
    .group_by(_E.policy_domain, _E.interval_hours)
    .order_by(_E.policy_domain, _E.interval_hours)
)
_REMOVE: Final = Statement(
    dmarc_evaluations.delete().where(
        _E.policy_domain == bindparam("domain"), _E.evaluated < bindparam("end")
    )
)
_REMOVE_BEFORE: Final = Statement(
    dmarc_evaluations.delete().where(_E.evaluated < bindparam("end"))
)
FOREVER: Final = 1 << 62


@dataclass(frozen=True, slots=True)
class NewEvaluation:
    """What became of a message. addresses: the URIs for reports, as in the record."""

    policy_domain: str
    optional: bool
    interval_hours: int
    addresses: tuple[str, ...]
    published: Published
    row: Row


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The same as kept; evaluated in microseconds since the epoch."""

    id: int
    policy_domain: str
    evaluated: int
    optional: bool
    interval_hours: int
    addresses: tuple[str, ...]
    published: Published
    row: Row


@dataclass(frozen=True, slots=True)
class EvaluationStat:
    """Evaluations of a domain: the different dispositions, how many, whether to be reported."""

    domain: str
    dispositions: tuple[str, ...]
    count: int
    send_report: bool


def add_evaluations(tx: Tx, evaluations: Iterable[NewEvaluation]) -> None:
    """Keep evaluations until they are reported."""
    for each in evaluations:
        tx.run(
            _NOTE,
            domain=each.policy_domain,
            now=tx.now,
            optional=int(each.optional),
            hours=each.interval_hours,
            addresses=msgspec.json.encode(each.addresses).decode(),
            published=msgspec.json.encode(each.published).decode(),
            evaluation=msgspec.json.encode(each.row).decode(),
        )


def evaluations(tx: Tx, domain: str, end: int = FOREVER) -> list[Evaluation]:
    """Those of a policy domain from before a time, the oldest first."""
    return [
        Evaluation(
            row[0],
            row[1],
            row[2],
            bool(row[3]),
            row[4],
            tuple(msgspec.json.decode(row[5], type=list[str])),
            msgspec.json.decode(row[6], type=Published),
            msgspec.json.decode(row[7], type=Row),
        )
        for row in tx.all(_EVALUATIONS, domain=domain, end=end)
    ]


def stats(tx: Tx) -> list[EvaluationStat]:
    """What is kept, by policy domain."""
    counts: dict[str, list[Any]] = {}
    for domain, optional, text in tx.all(_STATS):
        entry = counts.setdefault(domain, [set(), 0, False])
        entry[0].add(msgspec.json.decode(text, type=Row).disposition)
        entry[1] += 1
        entry[2] = entry[2] or not optional
    return [
        EvaluationStat(domain, tuple(sorted(dispositions)), count, send)
        for domain, (dispositions, count, send) in counts.items()
    ]


@dataclass(frozen=True, slots=True)
class Pending:
    """A domain that waits for a report: its intervals in hours, and whether it is to be sent."""

    domain: str
    hours: tuple[int, ...]
    send: bool


def pending(tx: Tx, end: int) -> list[Pending]:
    """Policy domains with evaluations from before a time."""
    found: dict[str, Pending] = {}
    for domain, hours, optional in tx.all(_DUE, end=end):
        known = found.get(domain, Pending(domain, (), False))
        found[domain] = Pending(domain, (*known.hours, hours), known.send or not optional)
    return list(found.values())


def remove_evaluations(tx: Tx, domain: str, end: int = FOREVER) -> int:
    """Remove those of a domain from before a time; how many."""
    return tx.run(_REMOVE, domain=domain, end=end)


def remove_before(tx: Tx, end: int) -> int:
    """Remove all from before a time; how many."""
    return tx.run(_REMOVE_BEFORE, end=end)
