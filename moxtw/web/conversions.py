"""What the functions of the JSON APIs share: answers to errors, and types of the APIs."""

from __future__ import annotations

from collections.abc import Awaitable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final, TypeVar

import msgspec
from klein import Response

from moxtw.admin import audit
from moxtw.admin.context import AdminContext, Caller, OperationError
from moxtw.config import JSONError, from_json, json_value
from moxtw.store.credentials import TLSKey
from moxtw.web.admintypes import ZERO_TIME, AuditEntry, AuditFilter, TLSPublicKey
from moxtw.web.rpc import (
    USER_ERROR,
    ApiError,
    PlainError,
    plain,
)
from moxtw.web.visit import Visit

T = TypeVar("T")

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def error_of(exc: Exception) -> ApiError | None:
    """The answer for an operation that was refused or failed."""
    if isinstance(exc, OperationError):
        return ApiError(exc.code, str(exc))
    return None


async def answered(
    visit: Visit, work: Awaitable[T], *, not_found: int = 404
) -> T | Response:
    """What `work` answers, or the answer for what it was refused; these are no JSON calls."""
    try:
        return await work
    except PlainError as exc:
        return plain(exc.status, visit.text(str(exc)), exc.headers)
    except OperationError as exc:
        statuses = {"user": 400, "notFound": not_found, "server": 500}
        return plain(statuses[exc.kind], visit.text(str(exc)))


def to_api(value: Any, kind: type[T]) -> T:
    """A part of the configuration as a type of the API."""
    return msgspec.convert(json_value(value), kind)


def map_to_api(values: Mapping[str, Any], kind: type[T]) -> dict[str, T]:
    """A map of parts of the configuration."""
    return {name: to_api(value, kind) for name, value in values.items()}


def from_api(kind: type[T], value: Any) -> T:
    """A section of the configuration out of a type of the API. Raises ApiError."""
    try:
        section: T = from_json(kind, msgspec.to_builtins(value))
    except JSONError as exc:
        raise ApiError(USER_ERROR, str(exc)) from exc
    return section


def list_from_api(kind: type[T], values: Sequence[Any]) -> tuple[T, ...]:
    """Several sections of the configuration."""
    return tuple(from_api(kind, value) for value in values)


def time_of(microseconds: int | None) -> datetime:
    """A time of the store; the zero time if there is none."""
    if microseconds is None:
        return ZERO_TIME
    return _EPOCH + timedelta(microseconds=microseconds)


async def audit_entries(
    ctx: AdminContext, caller: Caller, wanted: AuditFilter
) -> list[AuditEntry]:
    """Entries of the audit log as the admin API tells them. Raises OperationError."""
    found = await audit.entries(
        ctx,
        caller,
        most=wanted.max,
        before=wanted.before,
        by=wanted.caller,
        operation=wanted.operation,
        since=wanted.since,
        until=wanted.until,
    )
    return [
        AuditEntry(
            id=row.id,
            time=time_of(row.begun),
            via=row.via,
            caller=row.caller,
            remote_ip=row.remote_ip,
            cid=f"{row.cid:x}",
            operation=row.operation,
            params=row.params,
            result=row.result,
            message=row.message,
        )
        for row in found
    ]


def tls_public_key(key: TLSKey) -> TLSPublicKey:
    """A TLS public key as both APIs tell it."""
    return TLSPublicKey(
        fingerprint=key.fingerprint,
        created=time_of(key.created),
        type=key.type,
        name=key.name,
        no_imap_preauth=key.no_imap_preauth,
        cert_der=key.cert_der,
        account=key.account,
        login_address=key.login_address,
    )
