"""Commands on the queue of the running server."""

from __future__ import annotations

import json
from typing import Any

from moxtw.cli.command import UsageError
from moxtw.cli.invocation import Invocation
from moxtw.cli.output import plural

_FILTER = (
    ("n", "Max"),
    ("ids", "IDs"),
    ("account", "Account"),
    ("from", "From"),
    ("to", "To"),
    ("hold", "Hold"),
    ("submitted", "Submitted"),
    ("nextattempt", "NextAttempt"),
    ("lastactivity", "LastActivity"),
    ("transport", "Transport"),
    ("event", "Event"),
)


def filter_line(invocation: Invocation) -> str:
    """The filter that a command's flags make, as a line of JSON. Raises UsageError."""
    flags = invocation.flags
    wanted: dict[str, Any] = {
        field: flags[name] for name, field in _FILTER if flags.get(name) is not None
    }
    most = wanted.get("Max", 0)
    if isinstance(most, int) and most < 0:
        raise UsageError("flag -n: must not be negative")
    for name in ("submitted", "nextattempt", "lastactivity"):
        text = flags.get(name)
        if text is not None and str(text)[:1] not in ("<", ">"):
            raise UsageError(
                f"flag -{name}: {str(text)!r} must begin with < or >, as in '<now' or '>-1h'"
            )
    if flags.get("result") is not None:
        wanted["Success"] = flags["result"] == "success"
    return json.dumps(wanted)


_SORT_FIELDS = {
    "nextattempt": "NextAttempt",
    "queued": "Queued",
    "submitted": "Submitted",
    "lastactivity": "LastActivity",
}


def sort_line(invocation: Invocation) -> str:
    """The order that a command's flags make, as a line of JSON."""
    field = _SORT_FIELDS.get(invocation.text("sort"), "")
    return json.dumps({"Field": field, "Asc": invocation.switch("asc")})


def _changed(
    invocation: Invocation, command: str, params: tuple[str, ...], done: str, noun: str = "message"
) -> None:
    """A command that answers with how many it changed."""
    with invocation.control() as control:
        control.command(command, *params)
        count = int(control.read_line())
    invocation.print(f"{plural(count, noun)} {done}.")


def _print(invocation: Invocation, command: str) -> None:
    """A command that answers with one thing, as JSON."""
    number = _id(invocation)
    with invocation.control() as control:
        control.command(command, number)
        invocation.write_json(control.read_text())


def list_(invocation: Invocation) -> None:
    """``moxtw queue list``."""
    _list(invocation, "queuelist")


def retired_list(invocation: Invocation) -> None:
    """``moxtw queue retired list``."""
    _list(invocation, "queueretiredlist")


def _list(invocation: Invocation, command: str) -> None:
    invocation.listing(command, filter_line(invocation), sort_line(invocation))


def hold(invocation: Invocation) -> None:
    """``moxtw queue hold``."""
    _changed(invocation, "queueholdset", (filter_line(invocation), "true"), "on hold")


def unhold(invocation: Invocation) -> None:
    """``moxtw queue unhold``."""
    done = "no longer on hold"
    _changed(invocation, "queueholdset", (filter_line(invocation), "false"), done)


def schedule(invocation: Invocation) -> None:
    """``moxtw queue schedule``."""
    _changed(invocation, "queueschedule", _when(invocation), "rescheduled")


def _when(invocation: Invocation) -> tuple[str, str, str]:
    relative = "now" if invocation.switch("now") else ""
    return filter_line(invocation), relative, invocation.args[0]


def transport(invocation: Invocation) -> None:
    """``moxtw queue transport``."""
    name = invocation.args[0]
    done = f"to be sent with transport {name}" if name else "to be sent as routes say"
    _changed(invocation, "queuetransport", (filter_line(invocation), name), done)


def requiretls(invocation: Invocation) -> None:
    """``moxtw queue requiretls``."""
    value = {"yes": "true", "no": "false", "default": ""}.get(invocation.args[0])
    if value is None:
        raise UsageError(f"{invocation.args[0]!r} must be yes, no or default")
    done = {
        "true": "to be sent with verified TLS only",
        "false": "to be sent even if TLS cannot be verified",
        "": "to be sent with TLS as domains ask for",
    }[value]
    _changed(invocation, "queuerequiretls", (filter_line(invocation), value), done)


def fail(invocation: Invocation) -> None:
    """``moxtw queue fail``."""
    _changed(invocation, "queuefail", (filter_line(invocation),), "failed, senders are told")


def drop(invocation: Invocation) -> None:
    """``moxtw queue drop``."""
    _changed(invocation, "queuedrop", (filter_line(invocation),), "dropped")


def dump(invocation: Invocation) -> None:
    """``moxtw queue dump``."""
    number = _id(invocation)
    with invocation.control() as control:
        control.command("queuedump", number)
        for piece in control.read_stream():
            invocation.write_bytes(piece)


def retired_print(invocation: Invocation) -> None:
    """``moxtw queue retired print``."""
    _print(invocation, "queueretiredprint")


def _id(invocation: Invocation) -> str:
    text = invocation.args[0]
    if not (text.isascii() and text.isdigit()):
        raise UsageError(f"{text!r} is no id: ids are numbers, as in lists")
    return text


# -- Hold rules -------------------------------------------------------------------------------


def holdrules_list(invocation: Invocation) -> None:
    """``moxtw queue holdrules list``."""
    invocation.listing("queueholdruleslist")


def holdrules_add(invocation: Invocation) -> None:
    """``moxtw queue holdrules add``."""
    params = [invocation.text(name) for name in ("account", "senderdom", "recipientdom")]
    with invocation.control() as control:
        control.command("queueholdrulesadd", *params)
        number = control.read_line()
    invocation.print(f"Hold rule {number} added.")
    if not any(params):
        invocation.print("It matches all messages.")


def holdrules_remove(invocation: Invocation) -> None:
    """``moxtw queue holdrules remove``."""
    number = _id(invocation)
    with invocation.control() as control:
        control.command("queueholdrulesremove", number)
    invocation.print(f"Hold rule {number} removed. Messages that it held stay on hold.")


# -- Suppressions -----------------------------------------------------------------------------


def suppress_list(invocation: Invocation) -> None:
    """``moxtw queue suppress list``."""
    invocation.listing("queuesuppresslist", invocation.text("account"))


def suppress_lookup(invocation: Invocation) -> None:
    """``moxtw queue suppress lookup``."""
    params = invocation.text("account"), invocation.args[0]
    invocation.listing("queuesuppresslookup", *params)


def suppress_add(invocation: Invocation) -> None:
    """``moxtw queue suppress add``."""
    account, address = invocation.args
    with invocation.control() as control:
        control.command("queuesuppressadd", account, address)
        base = control.read_line()
    invocation.print(f"Account {account} sends nothing to {base} any more.")


def suppress_remove(invocation: Invocation) -> None:
    """``moxtw queue suppress remove``."""
    account, address = invocation.args
    with invocation.control() as control:
        control.command("queuesuppressremove", account, address)
    invocation.print(f"Account {account} may send to {address} again.")


# -- Webhooks ---------------------------------------------------------------------------------


def webhook_list(invocation: Invocation) -> None:
    """``moxtw queue webhook list``."""
    _list(invocation, "queuehooklist")


def webhook_retired_list(invocation: Invocation) -> None:
    """``moxtw queue webhook retired list``."""
    _list(invocation, "queuehookretiredlist")


def webhook_print(invocation: Invocation) -> None:
    """``moxtw queue webhook print``."""
    _print(invocation, "queuehookprint")


def webhook_retired_print(invocation: Invocation) -> None:
    """``moxtw queue webhook retired print``."""
    _print(invocation, "queuehookretiredprint")


def webhook_schedule(invocation: Invocation) -> None:
    """``moxtw queue webhook schedule``."""
    params = _when(invocation)
    _changed(invocation, "queuehookschedule", params, "rescheduled", "webhook call")


def webhook_cancel(invocation: Invocation) -> None:
    """``moxtw queue webhook cancel``."""
    params = (filter_line(invocation),)
    _changed(invocation, "queuehookcancel", params, "canceled", "webhook call")
