"""``moxtw sendmail``: submits a message of a local program, called as sendmail always was."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from moxtw.cli.command import CommandError, UsageError
from moxtw.cli.dns import run_async
from moxtw.cli.invocation import Invocation
from moxtw.cli.output import clean

if TYPE_CHECKING:
    from moxtw.config.sendmail import Sendmail
    from moxtw.mail.address import Address
    from moxtw.net.certs import KeyPair
    from moxtw.queue.delivery import Login, RcptResult, Target

TOTAL_SECONDS: Final = 180
"""For all of a submission."""

DIAL_SECONDS: Final = 30
MAX_RECIPIENTS: Final = 1000

# Options of sendmail, postfix and exim with a value, which may stand in the next word.
_WITH_VALUE: Final = frozenset("ABCDFLNORVXbdefhopqr")
_LINE_END: Final = re.compile(rb"\r\n|\n")


@dataclass(slots=True)
class Call:
    """What the command line says. name: of the sender. dots: a line with a dot is content."""

    recipients: list[str] = field(default_factory=list)
    from_header: bool = False
    name: str = ""
    dots: bool = False


def parse_call(args: Sequence[str]) -> Call:
    """Read the arguments, as getopt does. Raises UsageError."""
    call = Call()
    position = 0
    while position < len(args):
        arg = args[position]
        position += 1
        if arg == "--":
            call.recipients += args[position:]
            break
        if len(arg) < 2 or arg[0] != "-":
            call.recipients.append(arg)
            continue
        at = 1
        while at < len(arg):
            option = arg[at]
            at += 1
            if option == "t":
                call.from_header = True
            elif option == "i":
                call.dots = True
            elif option in _WITH_VALUE:
                value = arg[at:]
                if not value and option not in "qd" and position < len(args):
                    value = args[position]
                    position += 1
                _with_value(call, option, value)
                break
    return call


def _with_value(call: Call, option: str, value: str) -> None:
    if option == "F":
        call.name = value
    elif option == "o" and value == "i":
        call.dots = True
    elif option == "b" and value != "m":
        raise UsageError(f"-b{value}: only messages can be submitted, on standard input")


def sendmail(invocation: Invocation) -> int:
    """``moxtw sendmail``."""
    from moxtw.config.sendmail import DEFAULT_PATH, SendmailConfigError, read_config

    call = parse_call(invocation.args)
    path = os.environ.get("MOXSUBMITCONF") or DEFAULT_PATH
    try:
        config = read_config(path)
    except SendmailConfigError as exc:
        raise CommandError(str(exc)) from exc
    data = invocation.read_bytes()
    try:
        _submit(config, call, data)
    except CommandError as exc:
        kept = _keep(data)
        invocation.warn(f"moxtw: {exc}\nmoxtw: the message is kept in {kept}")
        return 1
    return 0


def _keep(data: bytes) -> str:
    """Store a message that could not be submitted; where. Raises CommandError."""
    folder = Path.home() / "moxsubmit.failures"
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix="newmsg.", dir=folder)
        with os.fdopen(handle, "wb") as file:
            file.write(data)
    except OSError as exc:
        raise CommandError(f"keeping the message in {folder}: {exc.strerror}") from exc
    return name


# -- The message ---------------------------------------------------------------------------


def prepare(data: bytes, call: Call, config: Sendmail, now: int) -> tuple[bytes, list[Address]]:
    """The message as it is submitted, and its recipients. now: microseconds since the epoch.

    From is replaced; Date and Message-Id are added if they are missing; Bcc is taken out.
    Raises CommandError.
    """
    from moxtw.mail.compose import NameAddress, address_header, date_header, message_id
    from moxtw.mail.header import parse_headers

    lines = _LINE_END.split(data)
    if not call.dots and b"." in lines:
        lines = [*lines[: lines.index(b".")], b""]
    message = b"\r\n".join(lines)
    if not message.endswith(b"\r\n"):
        message += b"\r\n"
    if b"\r" in message.replace(b"\r\n", b""):
        # SMTP has no way to say that.
        message = message.replace(b"\r\n", b"\n").replace(b"\r", b"\n").replace(b"\n", b"\r\n")
    headers = parse_headers(message)
    header, body = message[: headers.body_offset], message[headers.body_offset :]
    if not header.endswith(b"\r\n\r\n"):
        header += b"\r\n"
    if not headers.fields:
        header, body = b"\r\n", message
    recipients = _recipients(call, headers, config)
    kept = b"".join(
        header[each.start : each.end]
        for each in headers.fields
        if each.name not in (b"from", b"bcc", b"resent-bcc", b"return-path")
    )
    sender = NameAddress(_plain(call.name), _address(config.from_))
    new = address_header("From", [sender], utf8=not sender.address.localpart.isascii())
    if not headers.all("date"):
        new += date_header(now)
    if not headers.all("message-id"):
        new += f"Message-Id: {message_id(config.local_hostname)}\r\n".encode()
    if config.require_tls == "no":
        new += b"TLS-Required: No\r\n"
    return new + kept + b"\r\n" + body, recipients


def _plain(name: str) -> str:
    return re.sub(r"[\x00-\x1f\x7f]", "", name.encode("utf-8", "replace").decode())[:200]


def _address(text: str) -> Address:
    from moxtw.mail.address import AddressError, parse_address

    try:
        return parse_address(text)
    except AddressError as exc:
        raise CommandError(f"recipient {clean(text[:200])!r}: {exc}") from exc


def _recipients(call: Call, headers: Any, config: Sendmail) -> list[Address]:
    from moxtw.mail.addrlist import parse_address_list

    texts = list(call.recipients)
    if call.from_header:
        found = []
        for name in ("to", "cc", "bcc"):
            for value in headers.all(name):
                for entry in parse_address_list(value):
                    # A group has members, a mailbox is one itself.
                    for mailbox in getattr(entry, "members", None) or [entry]:
                        localpart = getattr(mailbox, "localpart", "")
                        if localpart:
                            domain = mailbox.domain
                            found.append(f"{localpart}@{domain}" if domain else localpart)
        # As sendmail has it: those on the command line are not to get it.
        texts = [text for text in found if text not in texts]
    addresses: dict[str, Address] = {}
    for text in texts:
        if "@" not in text:
            if not config.default_destination:
                raise CommandError(
                    f"recipient {clean(text[:200])!r} is no address, and there is no "
                    "DefaultDestination for names"
                )
            text = config.default_destination
        address = _address(text)
        addresses[address.pack()] = address
    if not addresses:
        raise CommandError("no recipients")
    if len(addresses) > MAX_RECIPIENTS:
        raise CommandError("too many recipients")
    return list(addresses.values())


# -- Submission ----------------------------------------------------------------------------


def _submit(config: Sendmail, call: Call, data: bytes) -> None:
    """Hand the message over. Raises CommandError."""
    import time

    from moxtw.queue.delivery import DeliveryError

    message, recipients = prepare(data, call, config, int(time.time() * 1_000_000))
    pair = _pair(config)
    try:
        results = run_async(lambda reactor: _send(reactor, config, message, recipients, pair))
    except DeliveryError as exc:
        raise CommandError(f"submitting: {clean(exc.text)}") from exc
    except OSError as exc:
        raise CommandError(f"submitting to {config.host}: {exc}") from exc
    failed = [
        f"{recipient.pack()}: {clean(result.error.text)}"
        for recipient, result in zip(recipients, results, strict=True)
        if result.error is not None
    ]
    if failed:
        raise CommandError("submitting: " + "\n".join(failed))


def _pair(config: Sendmail) -> KeyPair | None:
    """Key and certificate for the login by TLS. Raises CommandError."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    from moxtw.config.sendmail import seed
    from moxtw.net.certs import CertError, client_pair, load_key_pair

    if config.client_auth_cert_private_key_pem_file:
        path = config.client_auth_cert_private_key_pem_file
        try:
            pem = Path(path).read_bytes()
            return load_key_pair(pem, pem, path)
        except OSError as exc:
            raise CommandError(f"{path}: {exc.strerror}") from exc
        except CertError as exc:
            raise CommandError(str(exc)) from exc
    found = seed(config)
    if config.client_auth_ed25519_private_key and found is not None:
        return client_pair(Ed25519PrivateKey.from_private_bytes(found))
    return None


async def _send(
    reactor: Any,
    config: Sendmail,
    message: bytes,
    recipients: Sequence[Address],
    pair: KeyPair | None,
) -> list[RcptResult]:
    """Connect and deliver. Raises DeliveryError, OSError."""
    from twisted.internet.defer import Deferred
    from twisted.internet.defer import TimeoutError as TookTooLong

    from moxtw.queue.delivery import DeliveryError, Trouble

    deferred = Deferred.fromCoroutine(_deliver(reactor, config, message, recipients, pair))
    deferred.addTimeout(TOTAL_SECONDS, reactor)
    try:
        return await deferred
    except TookTooLong:
        raise DeliveryError(Trouble.TIMEOUT, f"not within {TOTAL_SECONDS} seconds") from None


async def _deliver(
    reactor: Any,
    config: Sendmail,
    message: bytes,
    recipients: Sequence[Address],
    pair: KeyPair | None,
) -> list[RcptResult]:
    from moxtw.mail.header import parse_headers
    from moxtw.net.tlsclient import Roots
    from moxtw.queue.delivery import Transaction
    from moxtw.smtp.dial import Dialer

    target = await _target(reactor, config, pair)
    session = await Dialer(reactor, Roots()).connect(target)

    async def read(start: int, length: int) -> bytes:
        return message[start : start + length]

    head = message[: parse_headers(message).body_offset]
    sender = _address(config.from_)
    addresses = [sender, *recipients]
    try:
        return await session.deliver(
            Transaction(
                mail_from=sender.pack(False),
                recipients=tuple(each.pack(False) for each in recipients),
                size=len(message),
                read=read,
                has8bit=not message.isascii(),
                smtputf8=not head.isascii()
                or not all(each.localpart.isascii() for each in addresses),
                requiretls=config.require_tls == "yes",
            )
        )
    finally:
        await session.close()


async def _target(reactor: Any, config: Sendmail, pair: KeyPair | None) -> Target:
    import socket

    from twisted.internet.threads import deferToThread

    from moxtw.queue.delivery import Target, Timeouts, TLSMode

    # As local programs look up names: /etc/hosts counts, too.
    found = await deferToThread(
        socket.getaddrinfo, config.host, config.port, type=socket.SOCK_STREAM
    )
    mode = TLSMode.IMMEDIATE if config.tls else TLSMode.SKIP
    return Target(
        host=config.host,
        ips=tuple(dict.fromkeys(str(each[4][0]) for each in found)),
        port=config.port,
        ehlo=config.local_hostname,
        tls=TLSMode.REQUIRED if config.starttls else mode,
        verify=not config.tls_insecure_skip_verify,
        login=_login(config, pair),
        pair=pair,
        timeouts=Timeouts(dial=DIAL_SECONDS),
    )


def _login(config: Sendmail, pair: KeyPair | None) -> Login | None:
    from moxtw.queue.delivery import Login

    if pair is not None:
        return Login(config.username, "", ("EXTERNAL",))
    if not config.username:
        return None
    methods = (config.auth_method.upper(),) if config.auth_method else ()
    return Login(config.username, config.password, methods)
