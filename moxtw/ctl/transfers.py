"""Commands of the control socket that import and export mail."""

from __future__ import annotations

from typing import Final

from twisted.internet.defer import Deferred

from moxtw.admin.context import AdminContext, Caller, OperationError, user_error
from moxtw.admin.exports import operations as exports
from moxtw.admin.imports import operations as imports
from moxtw.admin.imports.engine import Event
from moxtw.ctl.maintenance import Tell, told
from moxtw.ctl.server import Answer, Command, Stream

_PROGRESS: Final = 1000


async def _import(
    ctx: AdminContext, caller: Caller, kind: str, account: str, mailbox: str, path: str
) -> Answer:
    """Lines with progress; the import goes on if the client goes away."""
    if kind not in ("mbox", "maildir"):
        raise user_error("format must be mbox or maildir")
    running = await imports.begin_path(ctx, caller, account, kind, mailbox, path)

    async def work(tell: Tell) -> None:
        ended: Deferred[None] = Deferred()
        reached = 0

        def listen(event: Event) -> None:
            nonlocal reached
            if event.kind == "problem":
                tell(f"warning: {event.text}")
            elif event.kind == "step":
                tell(event.text)
            elif event.kind == "count":
                thousands = running.messages // _PROGRESS * _PROGRESS
                if thousands > reached:
                    reached = thousands
                    tell(f"{reached} messages")
            elif not ended.called:
                ended.callback(None)

        for event in running.history():
            listen(event)
        running.listeners.add(listen)
        await ended
        assert running.last is not None
        if running.last.kind != "done":
            raise OperationError("user", f"import not complete: {running.last.text}")
        into = f" into {len(running.counts)} mailboxes" if len(running.counts) != 1 else ""
        tell(f"imported {running.messages} messages{into}")

    return Stream(told(work))


async def _export(
    ctx: AdminContext, caller: Caller, kind: str, account: str, mailbox: str, single: str
) -> Answer:
    """A tar file."""
    pieces = await exports.export(
        ctx,
        caller,
        account,
        kind=kind,
        archive="tar",
        mailbox=mailbox,
        recursive=single != "single",
    )
    return Stream(pieces)


TRANSFERS: Final[dict[str, Command]] = {
    "import": Command(_import, 4),
    "export": Command(_export, 4),
}
