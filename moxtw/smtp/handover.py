"""A message that is in: handed to the accounts here, or to the queue, and what is answered."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from moxtw import metrics
from moxtw.inbound.envelope import Envelope, RecipientResult, TraceFields
from moxtw.log import Logger
from moxtw.mail.address import parse_address
from moxtw.mail.mime import unpack_tree
from moxtw.mail.received import Trace, with_protocol
from moxtw.mail.strict import fault
from moxtw.mail.transcode import TranscodeError, transcode
from moxtw.queue.submit import SubmitError, SubmitRequest
from moxtw.smtp import localserve
from moxtw.smtp.reply import SMTPError
from moxtw.smtp.spooling import MAX_HEAD, header_section, not_stored
from moxtw.store.errors import DiskFull

if TYPE_CHECKING:
    from moxtw.smtp.server import SMTPServer
    from moxtw.smtp.transaction import Transaction
    from moxtw.store.content import Spooled

log = Logger("smtpserver")

UNKNOWN_USERS_DELAY: Final = 5

# Reasons for refusal that speak against the client.
_UNWANTED: Final = ("reject", "highrate", "unknownuser")
"""Seconds before a client is told that nobody of its recipients exists."""



async def deliver(
    conn: SMTPServer, transaction: Transaction, content: Spooled, head: bytes
) -> None:
    """Deliver to local accounts and aliases, and answer (RFC 5321 4.2.5)."""
    services = conn.services
    recipients = transaction.recipients
    if services.localserve:
        await _test_server(conn, transaction, content)
    assert conn.hello is not None
    mail = transaction.mail
    smtputf8 = False
    if mail.smtputf8 or conn.settings.pedantic:
        smtputf8 = _needs_utf8(conn, transaction, content)
    envelope = Envelope(
        cid=conn.cid,
        remote_ip=conn.remote_ip,
        hello=conn.hello,
        mail_from=mail.path,
        recipients=recipients,
        received=int(conn.reactor.seconds() * 1_000_000),
        head=head,
        trace=_trace(conn, transaction, smtputf8),
        tls=conn.tls,
        smtputf8=smtputf8,
        requiretls=mail.requiretls,
        exempt=conn.exempt,
        first_time_delay=0 if conn.exempt else conn.settings.first_time_sender_delay,
        localserve=services.localserve,
        dnsbls=conn.settings.dnsbls,
    )
    results = await services.deliverer.deliver(envelope, content, conn.sleep)
    failed = [result for result in results if result.code]
    if any(result.reason in ("reject", "highrate") for result in failed):
        conn.set_slow(True)
    if any(result.reason in _UNWANTED for result in failed):
        conn.refused()
    if failed and len(failed) == len(results):
        if all(result.reason == "unknownuser" for result in failed):
            await conn.sleep(UNKNOWN_USERS_DELAY)
        raise combined(failed)
    conn.reply(250, "2.2.0", "it is done")


def combined(failed: Sequence[RecipientResult]) -> SMTPError:
    """One reply for recipients that all failed."""
    first = failed[0]
    if len(failed) == 1:
        return SMTPError(first.code, first.secode, first.text)
    if all((result.code, result.secode) == (first.code, first.secode) for result in failed):
        return SMTPError(
            first.code, first.secode, "\n".join(dict.fromkeys(result.text for result in failed))
        )
    lines = [
        f"{result.recipient.path.form(False)}: {result.code} {result.secode} {result.text}"
        for result in failed
    ]
    permanent = any(result.code >= 500 for result in failed)
    code, secode = (554, "5.3.0") if permanent else (451, "4.3.0")
    return SMTPError(code, secode, "\n".join(["multiple errors", *lines]))


def _trace(conn: SMTPServer, transaction: Transaction, smtputf8: bool) -> TraceFields:
    """For the Received field; made once for a connection and kind of message."""
    requiretls = transaction.mail.requiretls
    key = (conn.esmtp, conn.login is not None, requiretls, smtputf8, conn.hello)
    if conn.trace is not None and conn.trace[0] == key:
        return conn.trace[1]
    submission = conn.submission
    fields = TraceFields(
        Trace(
            hostname=conn.services.config.static.dns_hostname,
            local_ip=conn.local_ip,
            protocol=with_protocol(
                esmtp=conn.esmtp,
                utf8=smtputf8,
                tls=conn.tls is not None,
                authenticated=conn.login is not None,
            ),
            id=conn.cid_text,
            # Where users are is nobody's business.
            hello=None if submission else conn.hello,
            remote_ip="" if submission else conn.remote_ip,
            require_tls=requiretls,
            tls=f"{conn.tls.version} {conn.tls.cipher}" if conn.tls is not None else "",
            utf8=smtputf8,
        )
    )
    conn.trace = (key, fields)
    return fields


def _needs_utf8(conn: SMTPServer, transaction: Transaction, content: Spooled) -> bool:
    """Whether the message really needs SMTPUTF8 (RFC 6531 3.5), whatever the client said."""
    mail = transaction.mail
    needs = (
        content.parsed.needs_smtputf8
        or mail.path.needs_utf8
        or any(recipient.path.needs_utf8 for recipient in transaction.recipients)
    )
    if needs and not mail.smtputf8 and conn.settings.pedantic:
        if conn.submission:
            metrics.smtpserver_submission_total.labels("missingsmtputf8").inc()
        raise SMTPError(550, "5.6.0", "SMTPUTF8 needed but not declared")
    return needs


async def _test_server(conn: SMTPServer, transaction: Transaction, content: Spooled) -> None:
    """What only a local test server does: tell faults of a message, and fail as asked."""
    if conn.settings.pedantic:
        found = await conn.services.contents.store.run(
            lambda: fault(content.read(0, content.size))
        )
        if found:
            raise SMTPError(554, "5.6.0", f"message: {found}")
    for recipient in transaction.recipients:
        error, wait = localserve.special(recipient.path.localpart, "")
        if error is not None:
            if wait:
                await conn.sleep(wait)
            raise error


async def submit(
    conn: SMTPServer, transaction: Transaction, content: Spooled, head: bytes
) -> None:
    """Hand a user's message to the queue, and answer (RFC 6409)."""
    if transaction.mail.body != "BINARYMIME":
        await _submit(conn, transaction, content, head)
        return
    # Few servers take binary content, so it goes out as lines, and is signed as such.
    lines = await _as_lines(conn, content)
    try:
        await _submit(conn, transaction, lines, header_section(lines.read(0, MAX_HEAD)))
    finally:
        lines.discard()


async def _as_lines(conn: SMTPServer, content: Spooled) -> Spooled:
    """Binary content in encodings that DATA can carry."""
    contents = conn.services.contents
    store = contents.store
    spool = contents.spool()
    pieces = transcode(unpack_tree(content.parsed.tree), content.size, content.read)
    try:
        while (piece := await store.disk(lambda: next(pieces, None))) is not None:
            waiting = spool.write(piece)
            if waiting is not None:
                await waiting
        return await spool.finish()
    except TranscodeError as exc:
        spool.discard()
        raise SMTPError(554, "5.6.0", f"message: {exc}") from None
    except (DiskFull, OSError) as exc:
        spool.discard()
        log.error("storing message", cid=conn.cid, err=exc)
        raise not_stored(exc) from None


async def _submit(
    conn: SMTPServer, transaction: Transaction, content: Spooled, head: bytes
) -> None:
    assert conn.login is not None
    if conn.services.localserve:
        await _test_server(conn, transaction, content)
    mail = transaction.mail
    smtputf8 = _needs_utf8(conn, transaction, content)
    try:
        _check_form(conn, transaction, content, head)
    except SMTPError:
        metrics.smtpserver_submission_total.labels("badmessage").inc()
        raise
    paths = [recipient.path for recipient in transaction.recipients]
    now = int(conn.reactor.seconds() * 1_000_000)
    request = SubmitRequest(
        account=conn.login.account,
        login_address=parse_address(conn.login.address),
        mail_from=mail.path,
        recipients=paths,
        content=content,
        received=_trace(conn, transaction, smtputf8).field(
            now, paths[0] if len(paths) == 1 else None
        ),
        # Without the parameter, the header may say that TLS does not matter (RFC 8689).
        require_tls=True if mail.requiretls else None,
        smtputf8=smtputf8,
        body8bit=mail.body in ("8BITMIME", "BINARYMIME"),
        hold=transaction.hold,
        not_before=int(transaction.not_before * 1_000_000),
        dsn=[recipient.dsn for recipient in transaction.recipients],
        cid=conn.cid,
    )
    try:
        await conn.services.submit(request)
    except SubmitError as exc:
        metrics.smtpserver_submission_total.labels(exc.reason).inc()
        log.info("submission refused", cid=conn.cid, account=request.account, err=exc)
        raise SMTPError(exc.code, exc.secode, exc.text) from None
    metrics.smtpserver_submission_total.labels("ok").inc()
    log.info(
        "submitted message",
        cid=conn.cid,
        account=request.account,
        mailfrom=mail.path.log_name,
        recipients=len(paths),
        size=content.size,
    )
    conn.reply(250, "2.2.0", "it is done")


def _check_form(
    conn: SMTPServer, transaction: Transaction, content: Spooled, head: bytes
) -> None:
    """What a submitted message must be like."""
    if not head.endswith(b"\r\n\r\n"):
        raise SMTPError(554, "5.6.0", "message requires both header and body section")
    parsed = content.parsed
    has_8bit = parsed.has_8bit_header or parsed.has_8bit_body
    if conn.settings.pedantic and has_8bit and transaction.mail.body != "8BITMIME":
        raise SMTPError(500, "5.6.0", "message with 8-bit content requires BODY=8BITMIME")
