"""Tables of what was measured, on the terminal and in docs/performance.md."""

from __future__ import annotations

import datetime
import os
import platform
import re
import sqlite3
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.server import ROOT

PAGE = ROOT / "docs" / "performance.md"

INTRODUCTION = """\
# Performance

Tables by `bin/bench`, each from its last run, on loopback. What stands in a row was measured
in the same run, taking turns, and the median counts. The goals are those that a release has to
meet. Compare within a table only: machines differ, and so do days.
"""


@dataclass(frozen=True)
class Row:
    """One measure. ours and theirs: medians, None where not offered. more: more is better.

    limit: what ours has to reach (or stay below). times: the same, as a multiple of theirs.
    """

    what: str
    unit: str
    ours: float | None
    theirs: float | None = None
    more: bool = True
    limit: float | None = None
    times: float | None = None

    @property
    def goal(self) -> float | None:
        """The number to reach, or to stay below."""
        if self.times is not None:
            return None if self.theirs is None else self.theirs * self.times
        return self.limit

    @property
    def verdict(self) -> str:
        """Whether the goal is met."""
        if self.ours is None:
            return "not offered"
        if self.goal is None:
            return ""
        met = self.ours >= self.goal if self.more else self.ours < self.goal
        return "met" if met else "MISSED"


@dataclass
class Table:
    """Measures of one part."""

    part: str
    title: str
    reference: str
    text: str = ""
    rows: list[Row] = field(default_factory=list)

    def add(self, row: Row) -> None:
        """Add a measure, and show it."""
        self.rows.append(row)
        show("  ".join(cell for cell in self._cells(row) if cell))

    def _cells(self, row: Row) -> list[str]:
        ratio = ""
        if row.theirs and row.ours:
            ratio = f"{row.ours / row.theirs if row.more else row.theirs / row.ours:.2f}x"
        goal = ""
        if row.goal is not None:
            goal = f"{'≥' if row.more else '<'} {number(row.goal)}"
        return [
            row.what,
            "" if row.ours is None else f"{number(row.ours)} {row.unit}",
            "" if row.theirs is None else f"{number(row.theirs)} {row.unit}",
            ratio,
            goal,
            row.verdict,
        ]

    def _lines(self) -> list[list[str]]:
        head = ["", "moxtw", self.reference, "moxtw is", "goal", ""]
        return [head, *(self._cells(row) for row in self.rows)]

    def plain(self) -> str:
        """For the terminal."""
        lines = self._lines()
        widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
        text = "\n".join(
            "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
            for line in lines
        )
        return f"\n== {self.title}\n{text}\n"

    def markdown(self) -> str:
        """For the page."""
        head, *lines = self._lines()
        out = [f"## {self.title}", "", self.text, ""] if self.text else [f"## {self.title}", ""]
        out.append("| " + " | ".join(head) + " |")
        out.append("|---|" + "---:|" * 4 + "---|")
        out += ["| " + " | ".join(line) + " |" for line in lines]
        return "\n".join([*out, "", f"{machine()}"])


def show(text: str) -> None:
    """Print a line at once."""
    print(text, flush=True)  # noqa: T201 - this is a program


def number(value: float) -> str:
    """A number with about three digits that matter."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def machine() -> str:
    """The machine and the programs, in a line."""
    model = "unknown CPU"
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = " ".join(line.partition(":")[2].split())
            break
    cores = len(os.sched_getaffinity(0))
    today = datetime.datetime.now(datetime.UTC).date()
    return (
        f"{today}: {cores} cores of {model}, Linux {platform.release()}, "
        f"Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}."
    )


def median(measure: Callable[[], float], times: int) -> float:
    """The median of several measures."""
    return statistics.median(measure() for _ in range(times))


def alternate(measures: Sequence[Callable[[], float]], times: int) -> list[float]:
    """Medians of several measures that take turns."""
    results: list[list[float]] = [[] for _ in measures]
    for turn in range(times):
        # Who goes first changes as well.
        order = list(range(len(measures)))
        for index in order if turn % 2 == 0 else reversed(order):
            results[index].append(measures[index]())
    return [statistics.median(each) for each in results]


def write(tables: Sequence[Table]) -> None:
    """Put tables into the page, in place of the earlier ones of the same parts."""
    PAGE.parent.mkdir(exist_ok=True)
    text = PAGE.read_text() if PAGE.exists() else ""
    parts = dict(re.findall(r"<!-- (\w+) -->\n(.*?)\n<!-- end -->", text, re.S))
    parts.update({table.part: table.markdown() for table in tables})
    out = [INTRODUCTION]
    for part in ("smtp", "inbound", "queue", "imap", "memory", "junk", "transfer"):
        if part in parts:
            out.append(f"<!-- {part} -->\n{parts[part]}\n<!-- end -->\n")
    PAGE.write_text("\n".join(out))
