"""Outgoing mail: how fast it is taken from a user and handed to the next server."""

from __future__ import annotations

import base64
import threading
import time

from tests.bench import parties, queueload
from tests.bench.report import Row, Table, alternate
from tests.support.peers import SMTPSink
from tests.support.server import PASSWORD, poll, smarthost
from tests.support.smtpload import SMTPLoad

MESSAGES = 2000
CONNECTIONS = 10
DOMAINS = 20

CONTENT = (
    b"From: <mjl@a.example>\r\nTo: <friends@d0.example>\r\nSubject: for the queue\r\n"
    b"Message-ID: <%d.%d@a.example>\r\nDate: Mon, 3 Nov 2025 10:00:00 +0100\r\n\r\n"
) + b"This is a line of some sixty characters, as people write.\r\n" * 66


def run(times: int, quick: bool) -> Table:
    """Measure."""
    count = MESSAGES // (10 if quick else 1)
    table = Table(
        "queue",
        "Queue: messages a second through to the next server",
        "Postfix",
        f"Messages of 4 KiB to {DOMAINS} domains, submitted over {CONNECTIONS} connections (for "
        "moxtw as an authenticated user, with all checks of a submission; for Postfix from its "
        "network), all delivered to one smtp-sink. From the first byte to the last delivery.",
    )
    sink = SMTPSink().start()
    relay = {"relayhost": f"[{sink.ip}]:{sink.port}", "smtp_tls_security_level": "none"}
    unlimited = {"MaxOutgoingMessagesPerDay": 10_000_000, "MaxFirstTimeRecipientsPerDay": 10**7}
    route = smarthost(sink.port, starttls=False)
    try:
        with (
            parties.moxtw(account_options=unlimited, **route) as ours,
            parties.postfix(settings=relay) as theirs,
        ):
            accepted: dict[str, list[float]] = {}

            def through(address: tuple[str, int], login: bool, name: str) -> float:
                before = sink.count()
                begun = time.perf_counter()
                _send(address, count, login)
                accepted.setdefault(name, []).append(count / (time.perf_counter() - begun))
                poll(lambda: sink.count() >= before + count, 300, "delivery of all", 0.005)
                return count / (time.perf_counter() - begun)

            measures = [lambda: through((ours.ip, ours.ports.submission), True, "ours")]
            if theirs is not None:
                peer = (theirs.ip, theirs.port)
                measures.append(lambda: through(peer, False, "theirs"))
            rate, *others = alternate(measures, times)
            taken = [sorted(rates)[len(rates) // 2] for rates in accepted.values()]
            table.add(Row("submitted", "/s", taken[0], taken[1] if len(taken) > 1 else None))
            table.add(Row("delivered", "/s", rate, others[0] if others else None))
    finally:
        sink.stop()
    queueload.measure(table, quick)
    return table


def _send(address: tuple[str, int], count: int, login: bool) -> None:
    problems: list[BaseException] = []

    def one(number: int) -> None:
        try:
            with SMTPLoad(address, "client.example") as session:
                if login:
                    plain = f"\0{parties.USER}\0{PASSWORD}".encode()
                    session.socket.sendall(b"AUTH PLAIN " + base64.b64encode(plain) + b"\r\n")
                    session.reply(b"235")
                for i in range(count // CONNECTIONS):
                    to = f"u{i}@d{(i + number) % DOMAINS}.example"
                    session.send(parties.USER, to, CONTENT % (number, i))
        except BaseException as exc:  # noqa: BLE001 - raised below
            problems.append(exc)

    threads = [threading.Thread(target=one, args=(i,)) for i in range(CONNECTIONS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if problems:
        raise problems[0]
