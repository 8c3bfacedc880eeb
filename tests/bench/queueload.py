"""A long queue: what it costs while nothing is due, and how fast it drains."""

from __future__ import annotations

import json
import sqlite3
import statistics
import threading
import time
from contextlib import closing

from moxtw.ctl.client import ControlClient
from moxtw.store import queuedb
from moxtw.store.queuerecord import NewQueued
from moxtw.store.tx import Tx
from tests.bench import parties
from tests.bench.report import Row, Table, show
from tests.support.peers import SMTPSink, run
from tests.support.server import MailServer, poll
from tests.support.smtpload import SMTPLoad

QUEUED = 100_000
DRAINED = 10_000
DOMAINS = 1000
IDLE_SECONDS = 20
CONNECTIONS = 10
HOUR = 3600 * 1_000_000

CONTENT = (
    b"From: <mjl@a.example>\r\nTo: <friends@d0.example>\r\nSubject: for the queue\r\n"
    b"Message-ID: <%d@a.example>\r\nDate: Mon, 3 Nov 2025 10:00:00 +0100\r\n\r\n"
) + b"This is a line of some sixty characters, as people write.\r\n" * 66

FILTERS = (
    {"To": "u7@d77.bad.example"},
    {"From": "nobody@"},
    {"Account": "mjl"},
    {"Hold": True},
    {"Transport": "bad"},
    {"Submitted": "<-1h"},
    {"NextAttempt": "<now"},
    {"Account": "mjl", "To": ".good.example", "NextAttempt": ">23h"},
)


def recipient(number: int) -> str:
    """Who gets a message: half of the domains refuse, for now."""
    domain = number % DOMAINS
    kind = "bad" if domain % 2 else "good"
    return f"u{number // DOMAINS}@d{domain}.{kind}.example"


def measure(table: Table, quick: bool) -> None:
    """Add what is measured to the table."""
    queued, drained = (QUEUED // 10, DRAINED // 10) if quick else (QUEUED, DRAINED)
    good, bad = SMTPSink(), SMTPSink(options=["-r", "rcpt"])
    good.start()
    bad.start()
    try:
        ours = _ours(table, queued, drained, good, bad)
        theirs = _theirs(drained, good, bad)
    finally:
        good.stop()
        bad.stop()
    what = f"{drained:,} of them due, for {DOMAINS:,} domains, half of which refuse: decided"
    table.add(Row(what, "/s", ours, theirs, limit=500))


def _routes(good: SMTPSink, bad: SMTPSink) -> dict[str, dict[str, object]]:
    def transport(sink: SMTPSink) -> dict[str, object]:
        return {"SMTP": {"Host": "localhost", "Port": sink.port, "NoSTARTTLS": True}}

    return {
        "static": {"Transports": {"good": transport(good), "bad": transport(bad)}},
        "dynamic": {
            "Routes": [
                {"ToDomain": [".bad.example"], "Transport": "bad"},
                {"Transport": "good"},
            ]
        },
    }


def _ours(table: Table, queued: int, drained: int, good: SMTPSink, bad: SMTPSink) -> float:
    keep = {"KeepRetiredMessagePeriod": "24h"}
    options = {"account_options": keep, **_routes(good, bad)}
    with parties.moxtw(start=False, **options) as server:
        _fill(server, queued, drained)
        server.start()
        path = str(server.data_dir / "ctl")
        time.sleep(2)
        before, begun = parties.cpu_seconds(server.require_pid()), time.perf_counter()
        time.sleep(IDLE_SECONDS)
        used = parties.cpu_seconds(server.require_pid()) - before
        idle = 100 * used / (time.perf_counter() - begun)
        table.add(
            Row(
                f"processor, {queued:,} queued and nothing due",
                "% of a core",
                idle,
                more=False,
                limit=10,
            )
        )
        with ControlClient(path) as control:
            slowest = max(
                _listed(control, wanted, order)
                for wanted in FILTERS
                for order in ("NextAttempt", "Queued")
            )
        table.add(
            Row("slowest list of 100, by filter and order", "ms", slowest, more=False, limit=100)
        )
        rate = _drain(server, path, drained, good)
        show(f"drained at {rate:.0f}/s")
        table.add(
            Row("peak memory", "MB", server.peak_memory() / 1e6, more=False, limit=200)
        )
    return rate


def _fill(server: MailServer, queued: int, drained: int) -> None:
    """Queue messages; all due tomorrow, the first ones an hour before the others."""

    def job(tx: Tx) -> None:
        for number in range(queued):
            if number % 1000 == 0:
                content = tx.store.contents.from_bytes_now(CONTENT % number)
                saved: dict[int, int] = {}
            to, _, domain = recipient(number).partition("@")
            due = 0 if number < drained else HOUR + number * 7919 % queued * 1_000_000
            new = NewQueued(
                sender_account="mjl",
                sender_localpart="mjl",
                sender_domain="a.example",
                recipient_localpart=to,
                recipient_domain=domain,
                content=content,
                prefix=b"Received: from a.example by mail.a.example; now\r\n",
                message_id=f"<{number}@a.example>",
                subject="for the queue",
                next_attempt=tx.now + 23 * HOUR + due,
            )
            queuedb.add(tx, [new], saved)

    server.edit_store(job)


def _listed(control: ControlClient, wanted: dict[str, object], order: str) -> float:
    """Milliseconds until a list is there."""
    took = []
    for _ in range(3):
        begun = time.perf_counter()
        control.command(
            "queuelist", json.dumps({"Max": 100, **wanted}), json.dumps({"Field": order})
        )
        control.read_text()
        took.append(1000 * (time.perf_counter() - begun))
    return statistics.median(took)


def _drain(server: MailServer, path: str, count: int, good: SMTPSink) -> float:
    """Messages a second that were delivered or refused."""
    before = good.count()
    begun = time.perf_counter()
    with ControlClient(path) as control:
        control.command("queueschedule", json.dumps({"NextAttempt": "<23.5h"}), "now", "0s")
        changed = int(control.read_line())
    if changed != count:
        raise RuntimeError(f"{changed} messages are due, not {count}")
    left = "SELECT 1 FROM queue WHERE id <= ? AND (attempts = 0 OR delivering = 1) LIMIT 1"
    with closing(sqlite3.connect(f"file:{server.data_dir}/moxtw.db?mode=ro", uri=True)) as look:
        poll(
            lambda: good.count() >= before + count // 2
            and not look.execute(left, [count]).fetchone(),
            300,
            "draining",
            0.1,
        )
    return count / (time.perf_counter() - begun)


def _theirs(count: int, good: SMTPSink, bad: SMTPSink) -> float | None:
    transports = (
        f"regexp:{{{{/[.]bad[.]example$$/ smtp:[127.0.0.1]:{bad.port}}}, "
        f"{{/./ smtp:[127.0.0.1]:{good.port}}}}}"
    )
    settings = {
        "transport_maps": transports,
        "smtp_tls_security_level": "none",
        "defer_transports": "smtp",
        "minimal_backoff_time": "1h",
        "queue_run_delay": "1h",
    }
    with parties.postfix(settings=settings) as server:
        if server is None:
            return None
        _submit((server.ip, server.port), count)
        deferred = lambda: server.log().count("status=deferred")  # noqa: E731
        poll(lambda: deferred() >= count, 120, "all in the deferred queue", 0.5)
        before, sent = deferred(), good.count()
        run(["postconf", "-c", str(server.config), "-e", "defer_transports="])
        run(["postfix", "-c", str(server.config), "reload"])
        time.sleep(2)
        begun = time.perf_counter()
        run(["postqueue", "-c", str(server.config), "-f"])
        poll(
            lambda: good.count() >= sent + count // 2 and deferred() >= before + count // 2,
            600,
            "Postfix draining",
            0.1,
        )
        return count / (time.perf_counter() - begun)


def _submit(address: tuple[str, int], count: int) -> None:
    problems: list[BaseException] = []

    def one(first: int) -> None:
        try:
            with SMTPLoad(address, "client.example") as session:
                for number in range(first, count, CONNECTIONS):
                    session.send(parties.USER, recipient(number), CONTENT % number)
        except BaseException as exc:  # noqa: BLE001 - raised below
            problems.append(exc)

    threads = [threading.Thread(target=one, args=(i,)) for i in range(CONNECTIONS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if problems:
        raise problems[0]
