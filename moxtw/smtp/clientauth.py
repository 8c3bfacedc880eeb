"""Logging in at a smarthost (RFC 4954), by the mechanisms of `moxtw.sasl.client`."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Awaitable, Callable
from typing import Final, Protocol

from moxtw.queue.delivery import DeliveryError, Login, Trouble
from moxtw.sasl.client import DEFAULT_PREFERENCE, Credentials, choose, start
from moxtw.sasl.errors import SASLError
from moxtw.smtp.clientreply import Reply, refusal

_MAX_STEPS: Final = 10

# RFC 4954 4: a longer initial response has to wait for a challenge.
_MAX_COMMAND: Final = 500


class Command(Protocol):
    """Says a command with its argument, or a line of the exchange; gives the reply."""

    def __call__(self, verb: str, argument: str = "") -> Awaitable[Reply]:
        """Without verb, `argument` is a line of the exchange."""
        ...


async def login(
    command: Command,
    credentials: Login,
    offered: tuple[str, ...],
    binding: tuple[str, bytes] | None,
    run: Callable[[Callable[[bytes], bytes], bytes], Awaitable[bytes]],
    host: str,
) -> None:
    """Log in by the first mechanism wanted that is offered. Raises DeliveryError.

    binding: of the TLS channel, None without TLS. run: calls a function with an argument in
    a thread, as hashing passwords takes its time. host: for texts.
    """
    preferred = credentials.mechanisms or DEFAULT_PREFERENCE
    choice = choose(preferred, offered, binding is not None)
    if choice is None:
        raise DeliveryError(
            Trouble.UNSUPPORTED,
            f"{host}: no common authentication mechanism, server has "
            f"{', '.join(offered) or 'none'}",
            permanent=True,
            secode="7.0",
            remote_mta=host,
        )
    try:
        machine = start(
            choice,
            Credentials(credentials.username, credentials.password, channel_binding=binding),
        )
        initial = machine.initial()
        argument = choice.mechanism
        if initial is not None:
            text = _encode(initial) or "="
            if len(argument) + len(text) < _MAX_COMMAND:
                argument += " " + text
        reply = await command("AUTH", argument)
        for _ in range(_MAX_STEPS):
            if reply.code != 334:
                break
            try:
                challenge = base64.b64decode(reply.lines[-1][4:].strip(), validate=True)
                response = await run(machine.step, challenge)
            except (binascii.Error, ValueError, SASLError) as exc:
                await command("", "*")
                raise DeliveryError(
                    Trouble.PROTOCOL,
                    f"{host}: {choice.mechanism}: {exc}",
                    remote_mta=host,
                ) from exc
            reply = await command("", _encode(response))
        if reply.code != 235:
            raise _failed(reply, host)
        machine.finish()
    except SASLError as exc:
        raise DeliveryError(
            Trouble.PROTOCOL, f"{host}: {choice.mechanism}: {exc}", remote_mta=host
        ) from exc


def _encode(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def _failed(reply: Reply, host: str) -> DeliveryError:
    """A login that was refused says nothing about the message: that waits for better days."""
    failed = refusal(reply, "AUTH", host)
    failed.permanent = False
    return failed
