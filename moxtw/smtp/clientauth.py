"""Logging in at a smarthost (RFC 4954), by the mechanisms of `moxtw.sasl.client`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from moxtw.queue.delivery import DeliveryError, Login, Trouble


async def login(
    command: Callable[..., Awaitable[Any]],
    credentials: Login,
    offered: tuple[str, ...],
    binding: tuple[str, bytes] | None,
    tls: bool,
) -> None:
    """Log in."""
    raise DeliveryError(Trouble.UNSUPPORTED, "authentication is not supported yet")
