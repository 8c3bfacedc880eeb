"""Reading delivery status notifications of other systems: RFC 3464, RFC 6533."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Final, NamedTuple

from moxtw.mail import mime
from moxtw.mail.address import AddressError, Path, parse_path
from moxtw.mail.dates import parse_date
from moxtw.mail.dsn import DSN, DSNRecipient, decode_utf8_address

_MAX_STATUS: Final = 1 << 20
_MAX_FIELDS: Final = 10_000

_STATUS: Final = re.compile(r"([245]\.[0-9]{1,3}\.[0-9]{1,3})(?=\s|\(|\Z)", re.ASCII)
_FIELD_NAME: Final = re.compile(rb"([!-9;-~]+)[ \t]*:")


class DSNError(ValueError):
    """A message that is no usable notification; the message says why."""


class _Field(NamedTuple):
    name: str
    value: str


def parse_dsn(root: mime.Part, buf: bytes) -> DSN:
    """Read a notification out of a parsed message and its bytes.

    It must be multipart/report with two or three parts: text/plain, the delivery status, and
    the original message or its header (RFC 3464 2). Raises DSNError.
    """
    if (root.media_type, root.media_subtype) != ("multipart", "report"):
        raise DSNError("message is not multipart/report")
    if root.params.get("report-type", "delivery-status").lower() != "delivery-status":
        raise DSNError("report is not about delivery status")
    if len(root.parts) not in (2, 3):
        raise DSNError("report has not two or three parts")
    text, status = root.parts[:2]
    if (text.media_type, text.media_subtype) != ("text", "plain"):
        raise DSNError("first part of report is not text/plain")
    if status.media_type != "message" or status.media_subtype not in (
        "delivery-status", "global-delivery-status"
    ):  # fmt: skip
        raise DSNError("second part of report is not delivery status")
    if status.body_end - status.body_start > 2 * _MAX_STATUS:
        raise DSNError("delivery status too large")
    dsn = parse_delivery_status(_content(status, buf))
    original = root.parts[2] if len(root.parts) == 3 else None
    return replace(
        dsn,
        text=_content(text, buf).decode("utf-8", "replace"),
        original=b"" if original is None else _content(original, buf),
        original_utf8=original is not None and original.media_subtype.startswith("global"),
    )


def _content(part: mime.Part, buf: bytes) -> bytes:
    try:
        return mime.decode_body(part, buf)
    except ValueError as exc:
        raise DSNError(f"part of report cannot be decoded: {exc}") from exc


def parse_delivery_status(data: bytes) -> DSN:
    """Read the body of message/delivery-status or message/global-delivery-status.

    Reporting-MTA, and for each recipient Final-Recipient, Action and Status, are required; no
    field may come twice; unknown fields are ignored. Raises DSNError.
    """
    if len(data) > _MAX_STATUS:
        raise DSNError("delivery status too large")
    groups = _groups(data)
    if not groups:
        raise DSNError("empty delivery status")
    if sum(map(len, groups)) > _MAX_FIELDS:
        raise DSNError("too many fields in delivery status")
    message = _as_dict(groups[0])
    if len(groups) == 1:
        raise DSNError("delivery status without recipient")
    return DSN(
        reporting_mta=_mta(_required(message, "reporting-mta")),
        recipients=tuple(_recipient(_as_dict(group)) for group in groups[1:]),
        received_from_mta=_optional_mta(message.get("received-from-mta", "")),
        arrival_date=_date(message.get("arrival-date")),
        future_release=message.get("future-release-request", ""),
        envelope_id=message.get("original-envelope-id", ""),
    )


def _groups(data: bytes) -> list[list[_Field]]:
    """Fields, unfolded, in the groups that empty lines make; RFC 3464 2.1."""
    groups: list[list[_Field]] = []
    group: list[_Field] = []
    value: list[bytes] = []
    name = ""

    def end_field() -> None:
        if name:
            text = b" ".join(value).decode("utf-8", "replace").strip()
            group.append(_Field(name, text))

    for raw in data.split(b"\n"):
        line = raw.rstrip(b"\r")
        if not line.strip():
            end_field()
            name = ""
            if group:
                groups.append(group)
                group = []
        elif line[:1] in b" \t":
            if not name:
                raise DSNError("continuation without field in delivery status")
            value.append(line.strip())
        else:
            end_field()
            match = _FIELD_NAME.match(line)
            if match is None:
                raise DSNError("malformed line in delivery status")
            name = match[1].decode("ascii").lower()
            value = [line[match.end() :].strip()]
    end_field()
    if group:
        groups.append(group)
    return groups


def _as_dict(group: list[_Field]) -> dict[str, str]:
    fields: dict[str, str] = {}
    for field in group:
        if field.name in fields:
            raise DSNError(f"field {field.name} comes twice in delivery status")
        fields[field.name] = field.value
    return fields


def _required(fields: dict[str, str], name: str) -> str:
    value = fields.get(name)
    if not value:
        raise DSNError(f"field {name} missing in delivery status")
    return value


def _recipient(fields: dict[str, str]) -> DSNRecipient:
    action = _required(fields, "action").partition(" ")[0].lower()
    status_text = _required(fields, "status")
    status = _STATUS.match(status_text)
    if status is None:
        raise DSNError("malformed status in delivery status")
    status_comment = status_text[status.end(1) :].strip()
    if status_comment.startswith("(") and status_comment.endswith(")"):
        status_comment = re.sub(r"\\(.)", r"\1", status_comment[1:-1])
    diagnostic_type, _, diagnostic = fields.get("diagnostic-code", "").partition(";")
    original_type, _, original = fields.get("original-recipient", "").partition(";")
    return DSNRecipient(
        final_recipient=_address(_required(fields, "final-recipient")),
        action=action,
        status=status[1],
        status_comment=status_comment,
        original_recipient=f"{original_type.strip()};{decode_utf8_address(original.strip())}"
        if original.strip()
        else "",
        remote_mta=_optional_mta(fields.get("remote-mta", "")),
        diagnostic=diagnostic.strip(),
        diagnostic_type=diagnostic_type.strip().lower() or "smtp",
        last_attempt=_date(fields.get("last-attempt-date")),
        will_retry_until=_date(fields.get("will-retry-until")),
        final_log_id=fields.get("final-log-id", ""),
    )


def _mta(value: str) -> str:
    kind, separator, name = value.partition(";")
    if not separator or kind.strip().lower() != "dns" or not name.strip():
        raise DSNError("name of an MTA is not of type dns")
    return name.strip()


def _optional_mta(value: str) -> str:
    """The name where types other than dns do no harm: then the whole field."""
    kind, _, name = value.partition(";")
    return name.strip() if kind.strip().lower() == "dns" else value.strip()


def _address(value: str) -> Path:
    kind, _, text = value.partition(";")
    kind, text = kind.strip().lower(), text.strip()
    if kind == "utf-8":
        text = decode_utf8_address(text)
    elif kind != "rfc822":
        raise DSNError("address in delivery status is neither rfc822 nor utf-8")
    if not text:
        raise DSNError("empty address in delivery status")
    try:
        return parse_path(text)
    except AddressError as exc:
        raise DSNError(f"malformed address in delivery status: {exc}") from exc


def _date(value: str | None) -> int | None:
    parsed = parse_date(value) if value else None
    return None if parsed is None else parsed[0]
