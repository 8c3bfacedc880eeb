"""Commands that need no running server."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from moxtw.cli.command import CommandError
from moxtw.cli.invocation import Invocation

if TYPE_CHECKING:
    from moxtw.mail.mime import Part


def version(invocation: Invocation) -> None:
    """``moxtw version``."""
    import platform

    from moxtw.version import VERSION

    invocation.print(f"moxtw {VERSION} (Python {platform.python_version()})")


def cid(invocation: Invocation) -> None:
    """``moxtw cid``."""
    from moxtw.net.cid import ConnectionIds, load_key

    data = invocation.static().data_path
    try:
        ids = ConnectionIds(load_key(data), 0)
        invocation.print(f"{ids.decrypt(invocation.args[0]):x}")
    except FileNotFoundError:
        raise CommandError(f"no key in {data} yet: the server was never started") from None
    except ValueError as exc:
        raise CommandError(str(exc)) from exc


def message_parse(invocation: Invocation) -> None:
    """``moxtw message parse``."""
    import json

    from moxtw.mail.mime import unpack_tree
    from moxtw.mail.parsed import analyse

    path = invocation.args[0]
    data = invocation.read_bytes() if path == "-" else Path(path).read_bytes()
    parsed = analyse(data)
    if parsed.needs_smtputf8 and not invocation.switch("smtputf8"):
        invocation.warn("the message has UTF-8 in its headers: it needs SMTPUTF8 (-smtputf8)")
    described = {
        "size": len(data),
        "message_id": parsed.message_id,
        "in_reply_to": parsed.in_reply_to,
        "references": parsed.references,
        "subject": parsed.subject,
        "base_subject": parsed.subject_base,
        "date": _date(parsed.date),
        **{
            name: [_mailbox(each) for each in getattr(parsed, attribute)]
            for name, attribute in (
                ("from", "from_"),
                ("sender", "sender"),
                ("reply_to", "reply_to"),
                ("to", "to"),
                ("cc", "cc"),
                ("bcc", "bcc"),
            )
        },
        "is_dsn": parsed.is_dsn,
        "is_mailing_list": parsed.is_mailing_list,
        "needs_smtputf8": parsed.needs_smtputf8,
        "preview": parsed.preview,
        "part": _part(unpack_tree(parsed.tree)),
    }
    text = json.dumps(described, indent=2, ensure_ascii=False)
    # Lone surrogates, which no output takes, stand for bytes that are no text.
    invocation.print(text.encode("utf-8", "backslashreplace").decode())


def _date(microseconds: int | None) -> str | None:
    if microseconds is None:
        return None
    from datetime import UTC, datetime, timedelta

    try:
        moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=microseconds)
    except OverflowError:
        return None
    return moment.isoformat().replace("+00:00", "Z")


def _mailbox(mailbox: Any) -> dict[str, str]:
    return {
        "name": mailbox.name or "",
        "address": f"{mailbox.localpart}@{mailbox.domain}" if mailbox.domain else "",
    }


def _part(part: Part) -> dict[str, Any]:
    """A part and all below it, as JSON."""
    found: dict[str, Any] = {
        "content_type": part.content_type,
        "params": part.params,
        "encoding": part.encoding,
        "disposition": part.disposition,
        "filename": part.filename,
        "id": part.id,
        "header_start": part.header_start,
        "body_start": part.body_start,
        "body_end": part.body_end,
        "lines": part.lines,
    }
    if part.parts:
        found["parts"] = [_part(each) for each in part.parts]
    if part.message is not None:
        found["message"] = _part(part.message)
    return found


def licenses(invocation: Invocation) -> None:
    """``moxtw licenses``."""
    from moxtw.cli.packages import needed

    for package in needed("moxtw"):
        title = f"{package.name} {package.version}"
        invocation.print(f"{title}\n{'=' * len(title)}\n{package.license}\n")
        for name, text in package.texts:
            invocation.print(f"-- {name}\n{text.strip()}\n")
