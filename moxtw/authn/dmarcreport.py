"""Aggregate reports of DMARC (RFC 7489 7.2 and appendix C): reading and writing their XML.

Reports of others are read leniently: a field that is missing is empty. Text is cut to a
length, what is counted to a range, so that a report cannot grow what keeps it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, Final
from xml.etree.ElementTree import Element, SubElement, indent, tostring
from xml.parsers import expat

import msgspec

from moxtw.mail.attachedreport import ReportError

MAX_RECORDS: Final = 100_000
"""Records of a report that is read."""

_MAX_TEXT: Final = 1000
_MAX_RESULTS: Final = 100
_MAX_COUNT: Final = (1 << 31) - 1
_MAX_TIME: Final = 1 << 40
_MAX_DEPTH: Final = 20
# Within a child of the root.
_MAX_ELEMENTS: Final = 10_000
# Not allowed in XML 1.0 (2.2).
_NOT_XML: Final = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


class Reason(msgspec.Struct, frozen=True, order=True):
    """Why the policy was not applied: ``forwarded``, ``sampled_out``, ``mailing_list``, …."""

    type: str
    comment: str = ""


class DKIMAuth(msgspec.Struct, frozen=True, order=True):
    """A signature, and its result."""

    domain: str
    selector: str = ""
    result: str = ""
    human_result: str = ""


class SPFAuth(msgspec.Struct, frozen=True, order=True):
    """An SPF result. scope: ``mfrom`` or ``helo``."""

    domain: str
    scope: str = ""
    result: str = ""


class Published(msgspec.Struct, frozen=True, order=True):
    """The policy as found in the DNS. Policies: none, quarantine, reject. aligned: r, s."""

    domain: str = ""
    adkim: str = ""
    aspf: str = ""
    policy: str = ""
    subdomain_policy: str = ""
    percentage: int = 100
    reporting_options: str = ""


class Row(msgspec.Struct, frozen=True, order=True):
    """Messages that have all of this in common.

    disposition: what was done: none, quarantine, reject. dkim, spf: pass or fail, aligned.
    """

    source_ip: str
    disposition: str
    dkim: str
    spf: str
    reasons: tuple[Reason, ...] = ()
    envelope_to: str = ""
    envelope_from: str = ""
    header_from: str = ""
    dkim_results: tuple[DKIMAuth, ...] = ()
    spf_results: tuple[SPFAuth, ...] = ()


class Record(msgspec.Struct, frozen=True):
    """A row, and how many messages there were."""

    row: Row
    count: int = 1


class Feedback(msgspec.Struct, frozen=True):
    """A report. begin, end: seconds since the epoch, UTC; the end belongs to it."""

    org_name: str
    email: str
    report_id: str
    begin: int
    end: int
    published: Published
    records: tuple[Record, ...] = ()
    extra_contact_info: str = ""
    errors: tuple[str, ...] = ()
    version: str = ""

    def summary(self) -> Summary:
        """Its messages, counted."""
        found = Summary()
        for record in self.records:
            found.add(record)
        return found


class Summary(msgspec.Struct):
    """Counts of messages, by what was done with them and why."""

    total: int = 0
    none: int = 0
    quarantine: int = 0
    reject: int = 0
    dkim_fail: int = 0
    spf_fail: int = 0
    overrides: dict[str, int] = {}

    def add(self, record: Record) -> None:
        """Count the messages of a record."""
        row, count = record.row, record.count
        self.total += count
        self.quarantine += count * (row.disposition == "quarantine")
        self.reject += count * (row.disposition == "reject")
        self.none += count * (row.disposition not in ("quarantine", "reject"))
        self.dkim_fail += count * (row.dkim == "fail")
        self.spf_fail += count * (row.spf == "fail")
        for reason in row.reasons:
            self.override(reason.type, count)

    def override(self, kind: str, count: int) -> None:
        """Count a reason; only so many different ones."""
        if kind in self.overrides or len(self.overrides) < _MAX_RESULTS:
            self.overrides[kind] = self.overrides.get(kind, 0) + count

    def merge(self, other: Summary) -> None:
        """Add the counts of another."""
        self.total += other.total
        self.none += other.none
        self.quarantine += other.quarantine
        self.reject += other.reject
        self.dkim_fail += other.dkim_fail
        self.spf_fail += other.spf_fail
        for kind, count in other.overrides.items():
            self.override(kind, count)


# -- Reading -----------------------------------------------------------------------------


def parse_feedback(data: bytes) -> Feedback:
    """Read a report. Raises ReportError.

    Memory stays in proportion to what is kept: records leave the tree as soon as they are read.
    """
    return _Reader().read(data)


class _Reader:
    def __init__(self) -> None:
        self._records: list[Record] = []
        self._fields: dict[str, Any] = {}
        self._path: list[Any] = []
        self._pieces: list[str] = []
        self._elements = 0

    def read(self, data: bytes) -> Feedback:
        parser = expat.ParserCreate()
        parser.buffer_text = True
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._pieces.append
        # Entities, with which little text becomes much, come from document types; reports have
        # none.
        parser.StartDoctypeDeclHandler = _refuse_doctype
        try:
            parser.Parse(data, True)
        except expat.ExpatError as exc:
            raise ReportError(f"xml: {exc}") from None
        except (LookupError, UnicodeError) as exc:
            raise ReportError(f"xml: encoding: {str(exc)[:100]}") from None
        return self._feedback()

    def _start(self, tag: str, attributes: object) -> None:
        # Namespaces say nothing here that names do not.
        element = Element(tag.rpartition(":")[2])
        self._elements += 1
        if len(self._path) >= _MAX_DEPTH or self._elements > _MAX_ELEMENTS:
            raise ReportError("xml: too many elements in each other")
        if self._path:
            self._path[-1].append(element)
        elif element.tag != "feedback":
            raise ReportError("xml: no feedback element")
        self._path.append(element)
        self._pieces.clear()

    def _end(self, tag: str) -> None:
        element = self._path.pop()
        element.text = "".join(self._pieces)
        self._pieces.clear()
        if len(self._path) == 1:
            self._take(element.tag, element)
            self._path[0].clear()
            self._elements = 0

    def _take(self, name: str, element: Any) -> None:
        if name == "record":
            if len(self._records) >= MAX_RECORDS:
                raise ReportError("too many records")
            self._records.append(_record(element))
        elif name in ("report_metadata", "policy_published"):
            self._fields.setdefault(name, _Fields(element))
        elif name == "version":
            self._fields.setdefault(name, _text(element))

    def _feedback(self) -> Feedback:
        meta = self._fields.get("report_metadata")
        published = self._fields.get("policy_published")
        if meta is None or published is None:
            raise ReportError("report_metadata or policy_published is missing")
        dates = _Fields(meta.child("date_range"))
        return Feedback(
            org_name=meta.text("org_name"),
            email=meta.text("email"),
            extra_contact_info=meta.text("extra_contact_info"),
            report_id=meta.text("report_id"),
            begin=dates.number("begin", _MAX_TIME),
            end=dates.number("end", _MAX_TIME),
            errors=tuple(_text(each) for each in meta.children("error")),
            published=Published(
                domain=published.text("domain"),
                adkim=published.word("adkim"),
                aspf=published.word("aspf"),
                policy=published.word("p"),
                subdomain_policy=published.word("sp"),
                percentage=published.number("pct", 100, default=100),
                reporting_options=published.text("fo"),
            ),
            records=tuple(self._records),
            version=self._fields.get("version", ""),
        )


def _refuse_doctype(*args: object) -> None:
    raise ReportError("xml: with a document type")


def _text(element: Any) -> str:
    return "" if element is None else (element.text or "").strip()[:_MAX_TEXT]


class _Fields:
    """The children of an element, by name; None has none."""

    def __init__(self, element: Any) -> None:
        self._children: dict[str, list[Any]] = {}
        for child in () if element is None else element:
            known = self._children.setdefault(child.tag, [])
            if len(known) < _MAX_RESULTS:
                known.append(child)

    def children(self, name: str) -> list[Any]:
        return self._children.get(name, [])

    def child(self, name: str) -> Any:
        found = self.children(name)
        return found[0] if found else None

    def text(self, name: str) -> str:
        return _text(self.child(name))

    def word(self, name: str) -> str:
        return self.text(name).lower()

    def number(self, name: str, most: int, default: int = 0) -> int:
        text = self.text(name)
        if not re.fullmatch(r"[0-9]{1,15}", text):
            return default
        return min(int(text), most)


def _record(element: Any) -> Record:
    fields = _Fields(element)
    row = _Fields(fields.child("row"))
    evaluated = _Fields(row.child("policy_evaluated"))
    identifiers = _Fields(fields.child("identifiers"))
    results = _Fields(fields.child("auth_results"))
    reasons = [_Fields(each) for each in evaluated.children("reason")]
    dkim = [_Fields(each) for each in results.children("dkim")]
    spf = [_Fields(each) for each in results.children("spf")]
    return Record(
        Row(
            source_ip=row.text("source_ip"),
            disposition=evaluated.word("disposition"),
            dkim=evaluated.word("dkim"),
            spf=evaluated.word("spf"),
            reasons=tuple(Reason(each.word("type"), each.text("comment")) for each in reasons),
            envelope_to=identifiers.text("envelope_to"),
            envelope_from=identifiers.text("envelope_from"),
            header_from=identifiers.text("header_from"),
            dkim_results=tuple(
                DKIMAuth(
                    each.text("domain"),
                    each.text("selector"),
                    each.word("result"),
                    each.text("human_result"),
                )
                for each in dkim
            ),
            spf_results=tuple(
                SPFAuth(each.text("domain"), each.word("scope"), each.word("result"))
                for each in spf
            ),
        ),
        row.number("count", _MAX_COUNT),
    )


# -- Writing -----------------------------------------------------------------------------


def merged(rows: Iterable[Row]) -> tuple[Record, ...]:
    """Records with equal rows counted, in order."""
    counts: dict[Row, int] = {}
    for row in rows:
        counts[row] = counts.get(row, 0) + 1
    return tuple(Record(row, counts[row]) for row in sorted(counts))


def feedback_xml(feedback: Feedback) -> bytes:
    """A report as XML (appendix C)."""
    root = Element("feedback")
    _put(root, "version", feedback.version or "1.0")
    meta = SubElement(root, "report_metadata")
    _put(meta, "org_name", feedback.org_name)
    _put(meta, "email", feedback.email)
    _put(meta, "extra_contact_info", feedback.extra_contact_info, optional=True)
    _put(meta, "report_id", feedback.report_id)
    dates = SubElement(meta, "date_range")
    _put(dates, "begin", str(feedback.begin))
    _put(dates, "end", str(feedback.end))
    for error in feedback.errors:
        _put(meta, "error", error)
    published = SubElement(root, "policy_published")
    _put(published, "domain", feedback.published.domain)
    _put(published, "adkim", feedback.published.adkim, optional=True)
    _put(published, "aspf", feedback.published.aspf, optional=True)
    _put(published, "p", feedback.published.policy)
    _put(published, "sp", feedback.published.subdomain_policy or feedback.published.policy)
    _put(published, "pct", str(feedback.published.percentage))
    _put(published, "fo", feedback.published.reporting_options, optional=True)
    for record in feedback.records:
        _put_record(root, record)
    indent(root, "\t")
    text: bytes = tostring(root, "utf-8", xml_declaration=True)
    return text + b"\n"


def _put_record(root: Any, record: Record) -> None:
    row = record.row
    element = SubElement(root, "record")
    messages = SubElement(element, "row")
    _put(messages, "source_ip", row.source_ip)
    _put(messages, "count", str(record.count))
    evaluated = SubElement(messages, "policy_evaluated")
    _put(evaluated, "disposition", row.disposition)
    _put(evaluated, "dkim", row.dkim)
    _put(evaluated, "spf", row.spf)
    for reason in row.reasons:
        why = SubElement(evaluated, "reason")
        _put(why, "type", reason.type)
        _put(why, "comment", reason.comment, optional=True)
    identifiers = SubElement(element, "identifiers")
    _put(identifiers, "envelope_to", row.envelope_to, optional=True)
    _put(identifiers, "envelope_from", row.envelope_from)
    _put(identifiers, "header_from", row.header_from)
    results = SubElement(element, "auth_results")
    for signature in row.dkim_results:
        dkim = SubElement(results, "dkim")
        _put(dkim, "domain", signature.domain)
        _put(dkim, "selector", signature.selector, optional=True)
        _put(dkim, "result", signature.result)
        _put(dkim, "human_result", signature.human_result, optional=True)
    for check in row.spf_results:
        spf = SubElement(results, "spf")
        _put(spf, "domain", check.domain)
        _put(spf, "scope", check.scope)
        _put(spf, "result", check.result)


def _put(parent: Any, name: str, text: str, *, optional: bool = False) -> None:
    if text or not optional:
        SubElement(parent, name).text = _NOT_XML.sub("\ufffd", text)
