"""What a worker counts: each settled run, and each transition that its polls made. Cheap, since every run passes here.

Rows are counted a batch at a time by `Counter`, in C: milliseconds and all. What they mean as metrics is worked out
when they are read.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from operator import itemgetter
from typing import Any

from redsched.metrics.collector import TaskMetrics
from redsched.store.rows import Settled

__all__ = ["Tally"]

MOST = 20_000
"""Different milliseconds and tasks that are kept before they are folded into the histograms' buckets."""

_OUTCOME = itemgetter(Settled.VERB, Settled.TASK)
_LATENESS = itemgetter(Settled.TASK, Settled.LATENESS_MS)
_DURATION = itemgetter(Settled.TASK, Settled.DURATION_MS)
_VERB = Settled.VERB
_RAN = frozenset({"done", "retry", "dead"})


class Tally:
    """Counts since the last `fold`."""

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Count from zero."""
        self._outcomes: Counter[tuple[str, str]] = Counter()
        self._lateness: Counter[tuple[str, int]] = Counter()
        self._duration: Counter[tuple[str, int]] = Counter()
        self._moved: Counter[str] = Counter()
        self._stalls: Counter[str] = Counter()
        self._failures = 0
        self._metrics = TaskMetrics()

    def settled(self, rows: Sequence[Any], refused: Sequence[bytes]) -> None:
        """Rows of `lua/include/settle.lua` that Redis took, apart from those that it refused."""
        if not rows:
            return
        if refused:
            no = {run_id.decode(errors="surrogateescape") for run_id in refused}
            rows = [row for row in rows if row[Settled.RUN_ID] not in no]
        self._outcomes.update(map(_OUTCOME, rows))
        ran = [row for row in rows if row[_VERB] in _RAN]
        self._lateness.update(map(_LATENESS, ran))
        self._duration.update(map(_DURATION, ran))
        if len(self._lateness) + len(self._duration) > MOST:
            self.fold(self._metrics)

    def moved(self, tally: Sequence[Any]) -> None:
        """Count the further transitions of a script: the flat list in its reply."""
        for index in range(0, len(tally), 2):
            self._moved[tally[index].decode()] += int(tally[index + 1])

    def stalled(self, task: str) -> None:
        """The event loop was blocked by a task; "" = by something else."""
        self._stalls[task] += 1

    def worker_failed(self) -> None:
        """The worker ended by a mistake."""
        self._failures += 1

    def fold(self, metrics: TaskMetrics) -> None:
        """Add what was counted to metrics, and count from zero."""
        # Replaced first: another thread may ask while the worker counts on.
        outcomes, lateness, duration, moved = self._outcomes, self._lateness, self._duration, self._moved
        self._outcomes, self._lateness, self._duration, self._moved = Counter(), Counter(), Counter(), Counter()
        stalls, self._stalls = self._stalls, Counter()
        if metrics is not self._metrics:
            metrics.take(self._metrics)
        for (outcome, task), count in outcomes.items():
            metrics.increment("runs_total", count, outcome=outcome, task=_task(task))
            if outcome == "missed":
                metrics.increment("fires_not_run_total", count, reason="misfire")
        for name, counter in (("run_lateness_seconds", lateness), ("run_duration_seconds", duration)):
            for (task, milliseconds), count in counter.items():
                metrics.observe(name, milliseconds / 1000, count, task=_task(task))
        for word, count in moved.items():
            kind, _, reason = word.partition(" ")
            match kind:
                case "recovered":
                    metrics.increment("leases_recovered_total", count)
                case "refused":
                    metrics.increment("settles_refused_total", count)
                case "missed" | "coalesced" | "skipped":
                    metrics.increment("fires_not_run_total", count, reason=reason)
                case "dead":
                    metrics.increment("runs_buried_total", count, reason=reason)
                case _:
                    pass
        failures, self._failures = self._failures, 0
        if failures:
            metrics.increment("worker_failures_total", failures)
        for task, count in stalls.items():
            metrics.increment("loop_stalls_total", count, task=_task(task))


def _task(name: str) -> str:
    """A task as a label. Closures share one label, because there are too many of them."""
    return "local" if name.startswith("local:") else name
