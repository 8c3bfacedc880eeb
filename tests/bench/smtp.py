"""How many messages a second are accepted for delivery, beside Postfix that discards them."""

from __future__ import annotations

import time
from dataclasses import dataclass

from tests.bench import parties
from tests.bench.report import Row, Table, alternate
from tests.support.peers import Postfix, smtp_source
from tests.support.server import MailServer


@dataclass(frozen=True)
class Load:
    """What is sent. goal: the multiple of Postfix's rate to reach."""

    what: str
    size: int
    messages: int
    connections: int
    persistent: bool
    goal: float | None


LOADS = (
    Load("4 KiB, 20 connections", 4 << 10, 4000, 20, True, 1),
    Load("4 KiB, 20 connections, one for each message", 4 << 10, 4000, 20, False, 1),
    Load("50 KiB, 20 connections", 50 << 10, 2000, 20, True, 1),
    Load("50 KiB, 20 connections, one for each message", 50 << 10, 2000, 20, False, 1),
    Load("1 MiB, 20 connections", 1 << 20, 200, 20, True, 1),
    Load("1 MiB, 20 connections, one for each message", 1 << 20, 200, 20, False, 1),
    Load("4 KiB, one connection", 4 << 10, 1500, 1, True, 0.5),
    Load("4 KiB, one connection for each message", 4 << 10, 1500, 1, False, 0.5),
)


def run(times: int, quick: bool) -> Table:
    """Measure."""
    table = Table(
        "smtp",
        "SMTP: messages accepted a second",
        "Postfix",
        "Load by Postfix's smtp-source, which sends without PIPELINING. moxtw: every message is "
        "scanned, parsed, stored with all that IMAP asks for, and on disk (fsync) before the "
        "250. Postfix: `virtual_transport = discard:`, in its queue on disk before the 250, and "
        "then thrown away.",
    )
    with (
        parties.moxtw() as ours,
        parties.postfix(domains=["bench.example"], discard=True) as theirs,
    ):
        _warm_up(ours, theirs)
        for load in LOADS:
            messages = max(load.connections, load.messages // (10 if quick else 1))

            def our_rate(load: Load = load, messages: int = messages) -> float:
                return _rate(load, messages, (ours.ip, ours.ports.smtp), parties.USER)

            measures = [our_rate]
            if theirs is not None:

                def their_rate(
                    load: Load = load, messages: int = messages, peer: Postfix = theirs
                ) -> float:
                    rate = _rate(load, messages, (peer.ip, peer.port), "u@bench.example")
                    # What it does after accepting must not burden the next measure.
                    peer.wait_empty(120)
                    return rate

                measures.append(their_rate)
            rate, *others = alternate(measures, times)
            table.add(
                Row(load.what, "/s", rate, others[0] if others else None, times=load.goal)
            )
        count = 200 if quick else 4000
        our_cpu = _cpu(ours.require_pid(), count, (ours.ip, ours.ports.smtp), parties.USER)
        their_cpu = None
        if theirs is not None:
            at = (theirs.ip, theirs.port)
            their_cpu = _cpu(theirs.pid, count, at, "u@bench.example", theirs)
        table.add(
            Row("processor time for each, 4 KiB, 20 connections", "µs", our_cpu, their_cpu, False)
        )
    return table


def _cpu(
    pid: int, count: int, address: tuple[str, int], to: str, postfix: Postfix | None = None
) -> float:
    """Microseconds of processor for each message, with all that is done about it."""
    before = parties.cpu_seconds(pid)
    smtp_source(address, messages=count, size=4096, connections=20, to=to)
    if postfix is not None:
        postfix.wait_empty(120)
    return (parties.cpu_seconds(pid) - before) / count * 1e6


def _warm_up(ours: MailServer, theirs: Postfix | None) -> None:
    address = (ours.ip, ours.ports.smtp)
    smtp_source(address, messages=200, size=4096, connections=20, to=parties.USER)
    if theirs is not None:
        address = (theirs.ip, theirs.port)
        smtp_source(address, messages=200, size=4096, connections=20, to="u@bench.example")
        theirs.wait_empty(120)


def _rate(load: Load, messages: int, address: tuple[str, int], to: str) -> float:
    begun = time.perf_counter()
    smtp_source(
        address,
        messages=messages,
        size=load.size,
        connections=load.connections,
        persistent=load.persistent,
        to=to,
    )
    return messages / (time.perf_counter() - begun)
