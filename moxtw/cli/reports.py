"""Commands on reports that other servers send."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from moxtw.cli.command import CommandError
from moxtw.cli.invocation import Invocation


def dmarc_parse(invocation: Invocation) -> None:
    """``moxtw dmarc parsereportmsg``."""
    import msgspec

    from moxtw.authn.dmarcreport import parse_feedback
    from moxtw.mail.attachedreport import dmarc_report

    _print(invocation, lambda data: msgspec.to_builtins(parse_feedback(dmarc_report(data))))


def tls_parse(invocation: Invocation) -> None:
    """``moxtw tlsrpt parsereportmsg``."""
    from moxtw.mail.attachedreport import tls_report
    from moxtw.tlspolicy.tlsreport import parse_report

    _print(invocation, lambda data: parse_report(tls_report(data)).to_json())


def _print(invocation: Invocation, read: Callable[[bytes], Any]) -> None:
    """Print what is in each file; those that cannot be read are told last."""
    from moxtw.mail.attachedreport import MAX_MESSAGE, ReportError

    failed = []
    for path in invocation.args:
        try:
            with open(path, "rb") as file:
                found = read(file.read(MAX_MESSAGE + 1))
        except OSError as exc:
            failed.append(f"{path}: {exc.strerror}")
            continue
        except ReportError as exc:
            failed.append(f"{path}: {exc}")
            continue
        # ASCII only: it holds what strangers wrote.
        invocation.print(json.dumps(found, indent="  "))
    if failed:
        raise CommandError("\n".join(failed))
