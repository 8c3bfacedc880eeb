"""The metrics that are offered."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from moxtw import metrics


class MetricsTests(SynchronousTestCase):
    def lines(self) -> list[str]:
        return metrics.exposition().decode().splitlines()

    def test_counters_count(self) -> None:
        def value() -> float:
            (line,) = [x for x in self.lines() if x.startswith('mox_panic_total{pkg="testing"}')]
            return float(line.split()[-1])

        metrics.panic_total.labels("testing").inc()
        before = value()
        metrics.panic_total.labels("testing").inc()
        self.assertEqual(value(), before + 1)

    def test_there_are_no_times_of_creation(self) -> None:
        metrics.panic_total.labels("testing").inc()
        self.assertEqual([x for x in self.lines() if "_created" in x], [])

    def test_the_process_is_described(self) -> None:
        names = {line.split()[0] for line in self.lines() if not line.startswith("#")}
        for name in ("process_open_fds", "process_resident_memory_bytes"):
            self.assertIn(name, names)
