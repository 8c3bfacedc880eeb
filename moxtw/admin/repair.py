"""Repair of accounts while the server runs, in pieces that let others have their turn."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from moxtw.admin.context import AdminContext, Caller, OperationError, not_found
from moxtw.store import accounts, mailboxes, repair
from moxtw.store.errors import NoSuchAccount, StoreError
from moxtw.store.model import Account
from moxtw.store.repair import WrongSizes
from moxtw.store.reparse import Reparsed, reparse_account, reparse_contents
from moxtw.store.rethread import KeysMissing, Rethreaded, reassign_threads

Tell = Callable[[str], object]

# Messages whose sizes are set right in one job.
_PIECE = 200


async def account_names(ctx: AdminContext, name: str) -> list[str]:
    """The account that is named, or all of them. Raises OperationError."""
    if not name:
        names = await ctx.store.read(accounts.all_names)
        return [each for each in names if not each.startswith("/")]
    await _account(ctx, name)
    return [name]


async def _account(ctx: AdminContext, name: str) -> Account:
    try:
        return await ctx.store.read(lambda tx: accounts.get(tx, name))
    except NoSuchAccount as exc:
        raise not_found(f"no account {name[:100]!r}") from exc


async def recount(ctx: AdminContext, caller: Caller, name: str, tell: Tell) -> int:
    """Count the mailboxes of an account anew, and what it uses; returns how much was wrong."""
    account = await _account(ctx, name)
    try:
        told = await _recount(ctx, account, tell)
    except StoreError as exc:
        raise OperationError("server", f"counting account {name}: {exc}") from exc
    ctx.done(caller, "mailboxes counted anew", account=name, wrong=told)
    return told


async def _recount(ctx: AdminContext, account: Account, tell: Tell) -> int:
    boxes = await ctx.store.read(lambda tx: mailboxes.all(tx, account.id))
    wrong = 0
    for box in boxes:
        changed = await ctx.store.write(
            lambda tx, b=box.id: repair.recount_mailbox(tx, b)  # type: ignore[misc]
        )
        if changed:
            wrong += 1
            tell(changed)
    changed = await ctx.store.write(lambda tx: repair.recount_usage(tx, account.id))
    if changed:
        wrong += 1
        tell(changed)
    return wrong


async def fix_sizes(
    ctx: AdminContext, caller: Caller, name: str, tell: Tell
) -> tuple[int, list[str]]:
    """Set the sizes of an account's messages right, and parse those again whose content differs.

    Returns how many were wrong, and in words which contents cannot be read.
    """
    account = await _account(ctx, name)
    fixed = after = seen = 0
    problems: list[str] = []
    try:
        while True:
            wrong = await ctx.store.read(
                lambda tx, n=after: repair.wrong_sizes(tx, account.id, n)  # type: ignore[misc]
            )
            if not wrong.seen:
                break
            after = wrong.last
            seen += wrong.seen
            problems += wrong.problems
            for piece in _pieces(wrong):
                fixed += await ctx.store.write(
                    lambda tx, p=piece: repair.fix_sizes(tx, p)  # type: ignore[misc]
                )
            problems += (await reparse_contents(ctx.store, wrong.contents)).problems
            if seen % 10_000 == 0:
                tell(f"{name}: {seen} messages")
    except StoreError as exc:
        raise OperationError("server", f"sizes of account {name}: {exc}") from exc
    ctx.done(caller, "message sizes checked", account=name, messages=seen, wrong=fixed)
    return fixed, problems


def _pieces(wrong: WrongSizes) -> Sequence[WrongSizes]:
    """What is to be set right, in jobs of a bounded size."""
    contents = list(wrong.contents.items())
    found = [
        wrong._replace(contents=dict(contents[start : start + _PIECE]), messages=[])
        for start in range(0, len(contents), _PIECE)
    ]
    found += [
        wrong._replace(contents={}, messages=wrong.messages[start : start + _PIECE])
        for start in range(0, len(wrong.messages), _PIECE)
    ]
    return found


async def reparse(ctx: AdminContext, caller: Caller, name: str, tell: Tell) -> Reparsed:
    """Parse the messages of an account again."""
    account = await _account(ctx, name)
    told = 0

    def progress(count: int) -> None:
        nonlocal told
        if count >= told + 1000:
            told = count
            tell(f"{name}: {count} messages")

    try:
        done = await reparse_account(ctx.store, account.id, progress)
    except StoreError as exc:
        raise OperationError("server", f"parsing messages of account {name}: {exc}") from exc
    ctx.done(
        caller,
        "messages parsed anew",
        account=name,
        messages=done.messages,
        changed=done.changed,
        problems=len(done.problems) or None,
    )
    return done


async def rethread(ctx: AdminContext, caller: Caller, name: str, tell: Tell) -> Rethreaded:
    """Assign the threads of an account anew."""
    account = await _account(ctx, name)

    def progress(count: int) -> None:
        if count % 10_000 == 0:
            tell(f"{name}: {count} messages")

    try:
        done = await reassign_threads(ctx.store, account.id, progress)
    except KeysMissing as exc:
        raise OperationError("user", f"account {name}: {exc}") from exc
    except StoreError as exc:
        raise OperationError("server", f"threads of account {name}: {exc}") from exc
    ctx.done(
        caller, "threads assigned anew", account=name, threads=done.threads, changed=done.changed
    )
    return done
