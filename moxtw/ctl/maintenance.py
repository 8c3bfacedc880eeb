"""Commands of the control socket that take long: backup, repairs, training the junk filter.

Their answer is a stream of lines, each written when there is something to tell.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Final

from twisted.internet.defer import Deferred

from moxtw.admin import backup, junk, repair
from moxtw.admin.context import AdminContext, Caller, OperationError
from moxtw.ctl.server import Answer, Command, Stream

Tell = Callable[[str], object]


async def told(work: Callable[[Tell], Awaitable[None]]) -> AsyncIterator[bytes]:
    """What `work` tells, a line each, as it does; then its error, if there is one.

    If nobody reads any more, it goes on to its end.
    """
    lines: list[str] = []
    event: list[Deferred[None]] = [Deferred()]

    def wake() -> None:
        if not event[0].called:
            event[0].callback(None)

    def tell(text: str) -> None:
        lines.append(" ".join(text.splitlines()))
        # What nobody reads is not piled up.
        del lines[:-_MAX_LINES]
        wake()

    async def run() -> None:
        await work(tell)

    working = Deferred.fromCoroutine(run())

    def ended(result: object) -> object:
        wake()
        return result

    working.addBoth(ended)
    while lines or not working.called:
        if not lines:
            await event[0]
            event[0] = Deferred()
            continue
        taken = "".join(line + "\n" for line in lines)
        lines.clear()
        yield taken.encode("utf-8", "replace")
    await working


_MAX_LINES: Final = 1000
_PROGRESS: Final = 1000


async def _backup(ctx: AdminContext, caller: Caller, directory: str, verbose: str) -> Answer:
    async def work(tell: Tell) -> None:
        done = await backup.backup(
            ctx,
            caller,
            directory,
            lambda text: tell(f"warning: {text}"),
            tell if verbose == "verbose" else lambda text: None,
        )
        tell(
            f"backup complete: {done.messages} messages, {done.content_files} content files"
            f" ({done.linked} linked, {done.copied} copied)"
        )

    return Stream(told(work))


async def _retrain(ctx: AdminContext, caller: Caller, name: str) -> Answer:
    """A line for each account when it is done, and now and then before."""
    names = [name] if name else await junk.filtered_accounts(ctx, caller)

    async def work(tell: Tell) -> None:
        for each in names:
            last = 0

            def progress(count: int, each: str = each) -> None:
                nonlocal last
                if count >= last + _PROGRESS:
                    last = count
                    tell(f"{each}: {count} messages")

            count = await junk.retrain(ctx, caller, each, progress)
            tell(f"{each}: done, trained with {count} messages")

    return Stream(told(work))


async def _recount(ctx: AdminContext, caller: Caller, name: str) -> Answer:
    names = await repair.account_names(ctx, name)

    async def work(tell: Tell) -> None:
        for each in names:
            wrong = await repair.recount(ctx, caller, each, tell)
            tell(f"{each}: done, {wrong or 'nothing'} was wrong")

    return Stream(told(work))


async def _fix_sizes(ctx: AdminContext, caller: Caller, name: str) -> Answer:
    async def one(each: str, tell: Tell) -> tuple[Sequence[str], str]:
        fixed, problems = await repair.fix_sizes(ctx, caller, each, tell)
        return problems, f"sizes of {fixed} messages were wrong"

    return await _repair(ctx, name, one, "have no content")


async def _reparse(ctx: AdminContext, caller: Caller, name: str) -> Answer:
    async def one(each: str, tell: Tell) -> tuple[Sequence[str], str]:
        done = await repair.reparse(ctx, caller, each, tell)
        return done.problems, f"{done.messages} messages, {done.changed} changed"

    return await _repair(ctx, name, one, "could not be read")


async def _rethread(ctx: AdminContext, caller: Caller, name: str) -> Answer:
    async def one(each: str, tell: Tell) -> tuple[Sequence[str], str]:
        done = await repair.rethread(ctx, caller, each, tell)
        return (), f"{done.messages} messages in {done.threads} threads, {done.changed} changed"

    return await _repair(ctx, name, one, "have no thread")


async def _repair(
    ctx: AdminContext,
    name: str,
    one: Callable[[str, Tell], Awaitable[tuple[Sequence[str], str]]],
    problem: str,
) -> Answer:
    """Repair the named account or all; `one` returns what is wrong for good, and what was done.

    It is an error if messages cannot be repaired: those with the `problem`.
    """
    names = await repair.account_names(ctx, name)

    async def work(tell: Tell) -> None:
        bad = 0
        for each in names:
            problems, done = await one(each, tell)
            for text in problems[:_MAX_PROBLEMS]:
                tell(f"{each}: {text}")
            bad += len(problems)
            tell(f"{each}: done, {done}")
        if bad:
            raise OperationError("server", f"{bad} messages {problem}")

    return Stream(told(work))


_MAX_PROBLEMS: Final = 20


MAINTENANCE: Final[dict[str, Command]] = {
    "backup": Command(_backup, 2),
    "retrain": Command(_retrain, 1),
    "recalculatemailboxcounts": Command(_recount, 1),
    "reassignthreads": Command(_rethread, 1),
    "reparse": Command(_reparse, 1),
    "fixmsgsize": Command(_fix_sizes, 1),
}
