"""How many messages a second are accepted with all that is asked about their senders.

Also how long others wait while messages of 100 MiB come in, whose signatures are checked.
"""

from __future__ import annotations

import random
import sqlite3
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from moxtw.store.model import Delivery, Flag
from tests.bench import parties
from tests.bench.report import Row, Table, median, show
from tests.support import signing
from tests.support.imapload import IMAPLoad
from tests.support.imapwatch import Watcher
from tests.support.nameserver import Zone
from tests.support.server import PASSWORD, ZONE, MailServer, poll
from tests.support.smtpload import SMTPLoad, large_body, send_large_at_once

MESSAGES = 4000
CONNECTIONS = 20
DOMAINS = 50
JUDGED = 10_000
SMALL, LARGE = 1000, 100_000
WORDS = 20_000
LARGE_SIZE = 99 << 20
LARGE_AT_ONCE = 4
HOUR = 3_600_000_000

ACCOUNT = {
    "RejectsMailbox": "Rejects",
    "JunkFilter": {
        "Threshold": 0.95,
        "Params": {"Onegrams": True, "MaxPower": 0.01, "TopWords": 10, "IgnoreWords": 0.1},
    },
}


def run(times: int, quick: bool) -> Table:
    """Measure."""
    count = MESSAGES // (10 if quick else 1)
    large = LARGE // (20 if quick else 1)
    table = Table(
        "inbound",
        "Incoming mail: messages a second that are accepted from strangers",
        "",
        f"Messages of 4 KiB over {CONNECTIONS} connections, from {DOMAINS} domains with a name "
        "server on loopback: SPF, an RSA signature of 2048 bits and DMARC are checked, then the "
        "reputation, in which the client's network has both good and bad, then the words, with "
        f"a filter of {WORDS:,} words. The wait is for NOOP in somebody's IMAP session (the "
        f"slowest of each hundred) while {LARGE_AT_ONCE} signed messages of 99 MiB come in.",
    )
    key = signing.rsa_key()
    rates = []
    for size in (SMALL, max(SMALL, JUDGED // (10 if quick else 1)), large):
        with _server(key, size) as server:
            prepared = _Prepared(key, count)
            rates.append(median(lambda: prepared.send(server), times))  # noqa: B023
            limit = 250 if size == JUDGED else rates[0] * 0.85 if size == large else None
            table.add(Row(f"into a mailbox of {size:,}", "/s", rates[-1], limit=limit))
            if size == large:
                before = parties.cpu_seconds(server.require_pid())
                prepared.send(server)
                spent = parties.cpu_seconds(server.require_pid()) - before
                table.add(Row("processor time for each", "µs", spent / count * 1e6, more=False))
    with _server(key, SMALL) as server:
        waits, rate = _waits(server, key, LARGE_SIZE // (10 if quick else 1))
        table.add(
            Row("wait while large ones come", "ms", waits * 1000, more=False, limit=50)
        )
        table.add(Row("their rate", "MB/s", rate))
    return table


def _zone(key: signing.Key) -> Zone:
    zone = {name: dict(types) for name, types in ZONE.items()}
    record = signing.key_record(key)
    for number in range(DOMAINS):
        domain = f"d{number}.example"
        zone[domain] = {
            "MX": [f"10 mail.{domain}."],
            "TXT": ['"v=spf1 include:_spf.load.example mx -all"'],
        }
        zone[f"mail.{domain}"] = {"A": ["192.0.2.1"]}
        zone[f"_dmarc.{domain}"] = {"TXT": ['"v=DMARC1; p=reject; rua=mailto:r@load.example"']}
        zone[f"s._domainkey.{domain}"] = {"TXT": [record]}
    zone["_spf.load.example"] = {"TXT": ['"v=spf1 ip4:192.0.2.0/24 ip4:127.0.0.0/8 ~all"']}
    return zone


@contextmanager
def _server(key: signing.Key, size: int) -> Iterator[MailServer]:
    """A server with a mailbox of that size; some of its messages have been judged."""
    judged = min(size, JUDGED)
    now = int(time.time()) * 1_000_000
    with parties.moxtw(start=False, zone=_zone(key), account_options=ACCOUNT) as server:
        server.fill(
            (_head(f"h{number % 200}.example", number) + _text(number, _junk(number))
             for number in range(size)),
            flags=lambda number: (
                0 if number >= judged else int(Flag.JUNK if _junk(number) else Flag.NOTJUNK)
            ),
            received=lambda number: now - (size - number) * HOUR // 100,
            delivery=_delivery,
        )  # fmt: skip
        server.start()
        show(f"{size:,} messages stored")
        begun = time.monotonic()
        poll(lambda: _trained(server) >= judged, 600, "training", 0.5)
        show(f"{judged:,} trained in {time.monotonic() - begun:.0f} s")
        yield server


def _trained(server: MailServer) -> int:
    database = sqlite3.connect(f"file:{server.data_dir}/moxtw.db?mode=ro", uri=True)
    try:
        found = database.execute("SELECT sum(ham + spam) FROM junk_filters").fetchone()
        return found[0] or 0
    finally:
        database.close()


def _junk(number: int) -> bool:
    return number % 3 == 0


def _delivery(number: int) -> Delivery:
    domain = f"h{number % 200}.example"
    # The client of the measure has been seen, with mail of both kinds.
    local = number % 5 == 0
    return Delivery(
        remote_ip="127.0.0.1" if local else f"192.0.{number >> 8 & 255}.{number & 255}",
        ehlo_domain=domain,
        mail_from=f"u{number % 7}@{domain}",
        mail_from_localpart=f"u{number % 7}",
        mail_from_domain=domain,
        msg_from_localpart=f"u{number % 7}",
        msg_from_domain=domain,
        msg_from_org_domain=domain,
        mail_from_validated=True,
        msg_from_validated=True,
        dkim_domains=(domain,),
    )


def _vocabulary() -> list[str]:
    rng = random.Random(1)
    words: dict[str, None] = {}
    while len(words) < WORDS:
        syllables = rng.randint(2, 4)
        words["".join(rng.choice("bdfgklmnprstvz") + rng.choice("aeiou")
                      + rng.choice(["", "", "n", "r", "s"]) for _ in range(syllables))] = None
    return list(words)


_VOCABULARY = _vocabulary()


def _text(number: int, junk: bool) -> bytes:
    """A body of 3.5 KiB; the words of the two kinds overlap by two thirds."""
    rng = random.Random(number)
    start = WORDS // 6 if junk else 0
    words = rng.choices(_VOCABULARY[start : start + WORDS * 5 // 6], k=420)
    lines = [" ".join(words[at : at + 8]) for at in range(0, len(words), 8)]
    return "\r\n".join(lines).encode() + b"\r\n"


def _head(domain: str, number: int) -> bytes:
    return (
        f"From: Somebody <u{number % 7}@{domain}>\r\nTo: <{parties.USER}>\r\n"
        f"Subject: {_VOCABULARY[number % 100]} {number}\r\n"
        f"Date: Mon, 3 Nov 2025 10:00:00 +0100\r\nMessage-ID: <{number}.{domain}>\r\n"
        "MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n"
    ).encode()


class _Prepared:
    """Messages that are signed before the clock runs."""

    def __init__(self, key: signing.Key, count: int) -> None:
        self._key = key
        self._count = count
        self._number = 1_000_000

    def _messages(self) -> list[tuple[str, bytes]]:
        made = []
        for _ in range(self._count):
            self._number += 1
            domain = f"d{self._number % DOMAINS}.example"
            head, body = _head(domain, self._number), _text(self._number, junk=False)
            field = signing.signature(self._key, domain, head, signing.body_hash([body]))
            made.append((f"u{self._number % 7}@{domain}", field + head + body))
        return made

    def send(self, server: MailServer) -> float:
        """Send as many, new ones; returns how many a second were accepted."""
        return _send((server.ip, server.ports.smtp), self._messages())


def _send(address: tuple[str, int], messages: Sequence[tuple[str, bytes]]) -> float:
    problems: list[BaseException] = []
    ready = threading.Barrier(CONNECTIONS + 1)

    def one(mine: Sequence[tuple[str, bytes]]) -> None:
        try:
            with SMTPLoad(address) as session:
                ready.wait()
                for sender, content in mine:
                    session.send(sender, parties.USER, content)
        except BaseException as exc:  # noqa: BLE001 - raised below
            problems.append(exc)
            ready.abort()

    threads = [
        threading.Thread(target=one, args=(messages[number::CONNECTIONS],))
        for number in range(CONNECTIONS)
    ]
    for thread in threads:
        thread.start()
    ready.wait()
    begun = time.perf_counter()
    for thread in threads:
        thread.join()
    spent = time.perf_counter() - begun
    if problems:
        raise problems[0]
    return len(messages) / spent


def _waits(server: MailServer, key: signing.Key, size: int) -> tuple[float, float]:
    """Seconds of the slowest NOOP of each hundred, and the megabytes a second."""
    head, text = _head("d0.example", 1), _text(1, junk=False)
    hashed = signing.body_hash([text, *large_body(size)])
    head = signing.signature(key, "d0.example", head, hashed) + head + text
    with IMAPLoad(server.ip, server.ports.imap, parties.USER, PASSWORD) as session:
        session.command(b"SELECT INBOX")
        watcher = Watcher(session, 0.001)
        seconds = send_large_at_once(
            (server.ip, server.ports.smtp),
            [parties.USER] * LARGE_AT_ONCE,
            size,
            "u1@d0.example",
            head=head,
        )
        watcher.stop()
    waits = sorted(watcher.waits)
    return waits[len(waits) * 99 // 100], LARGE_AT_ONCE * size / 1e6 / seconds
