"""bin/bench."""

from __future__ import annotations

import argparse
import shutil
import sys

from tests.bench import imap, inbound, junk, memory, queue, report, smtp, transfer

PARTS = {
    "smtp": smtp.run,
    "inbound": inbound.run,
    "queue": queue.run,
    "imap": imap.run,
    "memory": memory.run,
    "junk": junk.run,
    "transfer": transfer.run,
}


def main() -> int:
    """Measure; 1 if a goal was missed."""
    parser = argparse.ArgumentParser(
        prog="bin/bench", description="Measure the server on loopback, beside others."
    )
    names = f"{', '.join(PARTS)} or all"
    parser.add_argument("part", nargs="*", help=names, default=[])
    parser.add_argument("-n", type=int, default=3, help="runs of each measure")
    parser.add_argument("--quick", action="store_true", help="smaller loads; writes nothing")
    parser.add_argument("-m", type=int, default=0, help="messages in the mailbox of imap")
    options = parser.parse_args()
    parts = options.part or ["all"]
    if unknown := set(parts) - {*PARTS, "all"}:
        parser.error(f"unknown part: {' '.join(sorted(unknown))}")
    if not {"junk", "transfer"}.issuperset(parts) and shutil.which("smtp-source") is None:
        report.show("Postfix is needed: apt-get install --no-install-recommends postfix")
        return 2
    report.show(report.machine())
    tables = []
    for name, run in PARTS.items():
        if name in parts or "all" in parts:
            report.show(f"-- {name}")
            more = {"count": options.m} if name == "imap" else {}
            tables.append(run(max(1, options.n), options.quick, **more))
    for table in tables:
        report.show(table.plain())
    if not options.quick and not options.m:
        report.write(tables)
    missed = [row for table in tables for row in table.rows if row.verdict == "MISSED"]
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
