"""Functions on imports; the files come in, and progress goes out, beside the API."""

from __future__ import annotations

from moxtw.admin.imports import operations
from moxtw.web.accountapi.base import own, registry
from moxtw.web.accounttypes import ImportProgress
from moxtw.web.rpc import Call


@registry.function()
async def ImportAbort(call: Call, importToken: str) -> None:
    """Abort an import: what it has added is removed again."""
    await operations.abort(*own(call), importToken)


@registry.function("importProgress", reads=True)
async def Types(call: Call) -> ImportProgress:
    """Nothing but the type of what an upload is answered with."""
    return ImportProgress()
