"""Memory with idle sessions and with large messages that arrive at once."""

from __future__ import annotations

import time
from pathlib import Path

from tests.bench import parties
from tests.bench.report import Row, Table, show
from tests.support.imapload import IMAPLoad
from tests.support.peers import Dovecot
from tests.support.server import PASSWORD, MailServer
from tests.support.smtpload import SMTPLoad, send_large_at_once

SESSIONS = 1000
DOVECOT_SESSIONS = 100
LARGE_MESSAGES = 20
LARGE_SIZE = (100 << 20) - (200 << 10)
"""Just below the largest message that is accepted by default."""


def run(times: int, quick: bool) -> Table:
    """Measure. Once: memory hardly differs between runs."""
    sessions = SESSIONS // 10 if quick else SESSIONS
    table = Table(
        "memory",
        "Memory",
        "Dovecot",
        "Growth of the resident set of the process. For Dovecot, which has a process for each "
        f"session: the growth of the sum of proportional sets over {DOVECOT_SESSIONS} sessions.",
    )
    with parties.moxtw() as ours, parties.dovecot() as theirs:
        each, told = _idle(ours, sessions)
        table.add(
            Row(
                f"each of {sessions:,} IMAP sessions in IDLE",
                "KB",
                each,
                None if theirs is None else _idle_dovecot(theirs),
                more=False,
                limit=60,
            )
        )
        table.add(Row("until all of them know of a new message", "ms", told, more=False))
    size = LARGE_SIZE // (20 if quick else 1)
    with parties.moxtw() as ours:
        ours.reset_peak_memory()
        seconds = send_large_at_once(
            (ours.ip, ours.ports.smtp), [parties.USER] * LARGE_MESSAGES, size, seconds=600
        )
        megabytes = size * LARGE_MESSAGES / 1e6
        show(f"{LARGE_MESSAGES} messages of {size >> 20} MiB: {megabytes / seconds:.0f} MB/s")
        table.add(
            Row(
                f"peak while {LARGE_MESSAGES} messages of 100 MiB arrive at once",
                "MB",
                ours.peak_memory() / 1e6,
                more=False,
                limit=300,
            )
        )
        table.add(Row("their rate", "MB/s", megabytes / seconds))
    return table


def _idle(server: MailServer, count: int) -> tuple[float, float]:
    """Kilobytes for each session, and milliseconds from a delivery until all were told."""

    def sessions(number: int) -> list[IMAPLoad]:
        made = []
        for _ in range(number):
            session = IMAPLoad(server.ip, server.ports.imap, parties.USER, PASSWORD)
            session.command(b"SELECT INBOX")
            session.idle()
            made.append(session)
        return made

    # What the first sessions load stays for all.
    first = sessions(20)
    before = server.memory()
    more = sessions(count)
    each = (server.memory() - before) / count / 1000
    with SMTPLoad((server.ip, server.ports.smtp)) as sender:
        sender.begin("load@load.example", parties.USER)
        begun = time.perf_counter()
        sender.socket.sendall(b"Subject: news\r\n\r\nnews\r\n.\r\n")
        for session in first + more:
            session.read_until(b"1 EXISTS")
        told = time.perf_counter() - begun
        sender.reply(b"250")
    for session in first + more:
        session.close()
    return each, told * 1000


def _idle_dovecot(server: Dovecot) -> float:
    before = _proportional(server)
    sessions = []
    for _ in range(DOVECOT_SESSIONS):
        session = IMAPLoad(server.ip, server.port, "u", server.password)
        session.command(b"SELECT INBOX")
        session.idle()
        sessions.append(session)
    each = (_proportional(server) - before) / DOVECOT_SESSIONS / 1000
    for session in sessions:
        session.close()
    return each


def _proportional(server: Dovecot) -> int:
    """Bytes of memory of Dovecot's processes, shared pages in proportion."""
    master = int((server.directory / "run" / "master.pid").read_text())
    total = 0
    for status in Path("/proc").glob("[0-9]*/status"):
        try:
            parent = int(status.read_text().partition("\nPPid:")[2].split()[0])
            if parent != master:
                continue
            rollup = (status.parent / "smaps_rollup").read_text()
        except (FileNotFoundError, ProcessLookupError):
            continue
        total += int(rollup.partition("\nPss:")[2].split()[0]) * 1024
    return total
