"""Import and export of a large mailbox, by commands against a running server."""

from __future__ import annotations

import random
import tempfile
import time
from pathlib import Path

from tests.bench import parties
from tests.bench.report import Row, Table, show
from tests.support.server import MailServer

MESSAGES = 100_000
ACCOUNT = "mjl"
GOAL = 1000.0
"""Messages a second."""

MEMORY = 300.0
"""MB that the server may have, however many messages there are."""

SECONDS = 3600.0


def run(times: int, quick: bool) -> Table:
    """Measure. Once: it is long, and hardly differs between runs."""
    count = MESSAGES // 50 if quick else MESSAGES
    table = Table(
        "transfer",
        "Import and export",
        "",
        f"{count:,} messages of 2 KiB, a tenth of them with two keywords, by `moxtw import` and "
        "`moxtw export` against a running server. An import is parsed, stored and on disk as "
        "mail that arrives. Memory: the largest resident set of the server in the work above.",
    )
    with tempfile.TemporaryDirectory(prefix="moxtw-bench.") as name, parties.moxtw() as server:
        folder = Path(name)
        make_mbox(folder / "in.mbox", count)
        server.reset_peak_memory()
        works = (
            ("import of an mbox file", ["import", "mbox", ACCOUNT, "A", str(folder / "in.mbox")]),
            ("export as a maildir", ["export", "maildir", "-single", str(folder), ACCOUNT, "A"]),
            ("import of a maildir", ["import", "maildir", ACCOUNT, "B", str(folder / "A")]),
            ("export as an mbox file", ["export", "mbox", "-single", str(folder), ACCOUNT, "B"]),
        )
        for what, command in works:
            rate = count / _seconds(server, command)
            table.add(Row(what, "/s", rate, limit=GOAL))
        peak = server.peak_memory() / 1e6
        table.add(Row("peak memory of the server", "MB", peak, more=False, limit=MEMORY))
        _check(folder / "in.mbox", folder / "B.mbox", count)
    return table


def make_mbox(path: Path, count: int) -> None:
    """Write messages of about 2 KiB of generated words."""
    chance = random.Random(5)  # noqa: S311 - no secret
    letters = "abcdefghijklmnopqrstuvwxyz"
    words = ["".join(chance.choices(letters, k=chance.randint(3, 9))) for _ in range(20_000)]
    with path.open("w", encoding="ascii") as file:
        for number in range(count):
            when = time.gmtime(1_600_000_000 + 60 * number)
            text = "\n".join(" ".join(chance.choices(words, k=10)) for _ in range(25))
            file.write(
                f"From a@example.org {time.asctime(when)}\n"
                f"From: <u{number % 500}@example.org>\nTo: <{parties.USER}>\n"
                f"Subject: {' '.join(chance.choices(words, k=4))}\n"
                f"Date: {time.strftime('%a, %d %b %Y %H:%M:%S +0000', when)}\n"
                f"Message-ID: <{number}@example.org>\nStatus: {'RO' if number % 3 else 'O'}\n"
                f"X-Keywords: {'work project' if number % 10 == 0 else ''}\n\n{text}\n\n"
            )


def _seconds(server: MailServer, command: list[str]) -> float:
    begun = time.perf_counter()
    said = server.moxtw(*command, seconds=SECONDS)
    taken = time.perf_counter() - begun
    show(f"{said.splitlines()[-1]}: {taken:.1f} s")
    return taken


def _check(sent: Path, got: Path, count: int) -> None:
    """What came out must be what went in, in the same order."""

    def ids(path: Path) -> list[bytes]:
        with path.open("rb") as file:
            return [line for line in file if line.lower().startswith(b"message-id:")]

    if len(ids(got)) != count or ids(got) != ids(sent):
        raise RuntimeError(f"{len(ids(got))} messages came out, or others than went in")
