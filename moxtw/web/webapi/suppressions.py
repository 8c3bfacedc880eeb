"""The methods for addresses that an account sends nothing to."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from moxtw.mail.address import Address, AddressError, parse_address
from moxtw.queue import api
from moxtw.queue.operations import QueueOperations
from moxtw.store import suppressions as store
from moxtw.store.auth import Login
from moxtw.web.webapi.types import (
    Empty,
    Suppression,
    SuppressionAddRequest,
    SuppressionListRequest,
    SuppressionListResult,
    SuppressionPresentResult,
    SuppressionRequest,
    WebapiError,
)

MAX_REASON: Final = 1000
_CONTROL: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")


def suppression(entry: store.Suppression) -> Suppression:
    """An entry as it is told."""
    return Suppression(
        ID=entry.id,
        Created=api.timestamp(entry.created),
        Account=entry.account,
        BaseAddress=entry.base_address,
        OriginalAddress=entry.original_address,
        Manual=entry.manual,
        Reason=entry.reason,
    )


@dataclass(frozen=True, slots=True)
class Suppressions:
    """The suppression list of the account that calls. All raise WebapiError."""

    queue: QueueOperations

    async def list(self, login: Login, _: SuppressionListRequest) -> SuppressionListResult:
        """All entries."""
        return SuppressionListResult(
            [
                suppression(entry)
                for entry in await self.queue.suppress_list(login.account)
            ]
        )

    async def add(self, login: Login, request: SuppressionAddRequest) -> Empty:
        """Add an entry."""
        address = _parse(request.EmailAddress)
        if len(request.Reason) > MAX_REASON or _CONTROL.search(request.Reason):
            raise WebapiError(
                "user", f"Reason is longer than {MAX_REASON} characters, or not plain text"
            )
        added = await self.queue.suppress_add(
            login.account, address.pack(), manual=request.Manual, reason=request.Reason
        )
        if added is None:
            raise WebapiError("error", "address is on the list already")
        return Empty()

    async def remove(self, login: Login, request: SuppressionRequest) -> Empty:
        """Remove the entry of an address."""
        address = _parse(request.EmailAddress)
        if not await self.queue.suppress_remove(login.account, address.pack()):
            raise WebapiError("error", "address is not on the list")
        return Empty()

    async def present(self, login: Login, request: SuppressionRequest) -> SuppressionPresentResult:
        """Whether an address is on the list."""
        address = _parse(request.EmailAddress)
        found = await self.queue.suppress_present(login.account, address.pack())
        return SuppressionPresentResult(found)


def _parse(text: str) -> Address:
    try:
        return parse_address(text)
    except AddressError as exc:
        raise WebapiError("badAddress", f"address {text[:200]!r}: {exc}") from exc
