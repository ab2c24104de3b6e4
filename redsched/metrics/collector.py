"""Counters, gauges and histograms: an application's own, and the standard set that a scheduler keeps about itself."""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from redsched.errors import InvalidInputError
from redsched.runtime import forks

__all__ = ["BUCKETS", "STANDARD", "Histogram", "MetricsCollector", "Sample", "TaskMetrics"]

Labels = tuple[tuple[str, str], ...]

BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0)
"""Upper bounds of a histogram's buckets, inclusive, in the unit of what is observed (seconds)."""

STANDARD: Mapping[str, tuple[str, str]] = {
    "jobs_scheduled_total": ("counter", "Jobs that this process stored: added or replaced."),
    "runs_total": ("counter", "Claims of runs that this worker settled, by outcome and task."),
    "fires_not_run_total": ("counter", "Fire times that did not run, found by this worker, by reason: misfire, "
                            "coalesced, max_instances, max_catch_up. A lower bound: long spans are not counted fully."),
    "runs_buried_total": ("counter", "Runs that ended dead without a worker to settle them, by reason."),
    "leases_recovered_total": ("counter", "Runs of dead or hung workers that this worker made due again."),
    "leases_lost_total": ("counter", "Leases that expired while their task still ran in this worker."),
    "settles_refused_total": ("counter", "Settles of this worker that Redis refused: its lease had expired."),
    "loop_stalls_total": ("counter", "Times that the event loop of this worker was blocked, by the task that blocked "
                          "it; without a task, by something else on the loop."),
    "worker_failures_total": ("counter", "Times that a worker of this process ended by a mistake, and another took its "
                              "place or the process ended."),
    "run_duration_seconds": ("histogram", "Durations of the tasks of this worker, per attempt."),
    "run_lateness_seconds": ("histogram", "Time from the fire time to the start, for the runs of this worker."),
    "runs_active": ("gauge", "Runs that this worker holds now."),
    "runs_capacity": ("gauge", "Maximum number of runs that this worker holds."),
    "threads_abandoned": ("gauge", "Threads of this worker that still execute a plain function whose run is over: it "
                          "timed out, or was cancelled. There are never more than twice `threads`."),
    "queue_jobs": ("gauge", "Jobs and further attempts that wait in a queue, by state: due, scheduled for later, or "
                   "parked until a worker can run them. Of the whole fleet: every worker exports the same value, so "
                   "take the max, not the sum."),
    "dead_runs": ("gauge", "Dead runs that are kept. Of the whole fleet: take the max, not the sum."),
}  # fmt: skip
"""The standard set in `scheduler.metrics`: name -> kind and meaning. Prometheus names are prefixed with `redsched_`."""


@dataclass(slots=True)
class Histogram:
    """A distribution: how many values fell into each bucket of `BUCKETS` (the last one has no bound), and their sum."""

    counts: list[int] = field(default_factory=lambda: [0] * (len(BUCKETS) + 1))
    sum: float = 0.0

    @property
    def count(self) -> int:
        """The number of values."""
        return sum(self.counts)

    def add(self, value: float, times: int = 1) -> None:
        """Add a value, `times` times."""
        self.counts[bisect_left(BUCKETS, value)] += times
        self.sum += value * times


@dataclass(frozen=True, slots=True)
class Sample:
    """One series as it is now."""

    name: str
    kind: str
    """counter, gauge or histogram."""
    labels: Mapping[str, str]
    value: float | Histogram


class TaskMetrics:
    """Counters, gauges and histograms by name, each with any labels. Safe to use from several threads.

    >>> metrics = TaskMetrics()
    >>> metrics.increment("orders_processed", kind="pizza")
    >>> metrics.increment("orders_processed", 2, kind="pasta")
    >>> metrics.get_counter("orders_processed"), metrics.get_counter("orders_processed", kind="pasta")
    (3, 2)
    >>> metrics.set_gauge("avg_prep_time", 12.5)
    >>> metrics.get_gauge("avg_prep_time"), metrics.get_gauge("unknown")
    (12.5, 0)
    """

    def __init__(self) -> None:
        self.after_fork()
        self.clear()
        forks.register(self)

    def after_fork(self) -> None:
        """Another thread of the parent may have held the lock. What was counted stays."""
        self._lock = threading.Lock()

    def clear(self) -> None:
        """Drop all series."""
        self._series: dict[str, tuple[str, dict[Labels, Any]]] = {}

    def increment(self, name: str, value: float = 1, **labels: str) -> None:
        """Add to a counter.

        Raises:
            InvalidInputError: a negative value, or the name is that of another kind.
        """
        if not value >= 0:
            raise InvalidInputError(f"a counter only grows; {name} was to grow by {value!r}", field="value")
        with self._lock:
            series, key = self._of(name, "counter", labels)
            series[key] = series.get(key, 0) + value

    def set_gauge(self, name: str, value: float, **labels: str) -> None:
        """Set a gauge.

        Raises:
            InvalidInputError: the name is that of another kind.
        """
        with self._lock:
            series, key = self._of(name, "gauge", labels)
            series[key] = value

    def observe(self, name: str, value: float, times: int = 1, **labels: str) -> None:
        """Add a value to a histogram, or several alike.

        Raises:
            InvalidInputError: the name is that of another kind.
        """
        with self._lock:
            series, key = self._of(name, "histogram", labels)
            series.setdefault(key, Histogram()).add(value, times)

    def get_counter(self, name: str, **labels: str) -> float:
        """A counter: the sum of all its series that have these labels; 0 if there is none."""
        return sum(sample.value for sample in self._matching(name, "counter", labels))

    def get_gauge(self, name: str, **labels: str) -> float:
        """A gauge: the sum of all its series that have these labels; 0 if there is none."""
        return sum(sample.value for sample in self._matching(name, "gauge", labels))

    def get_histogram(self, name: str, **labels: str) -> Histogram:
        """A histogram: all its series that have these labels, as one."""
        total = Histogram()
        for sample in self._matching(name, "histogram", labels):
            total.counts = [a + b for a, b in zip(total.counts, sample.value.counts, strict=True)]
            total.sum += sample.value.sum
        return total

    def samples(self) -> list[Sample]:
        """Every series as it is now, by name, then labels."""
        with self._lock:
            return [
                Sample(name, kind, dict(key), _copy(value))
                for name, (kind, series) in sorted(self._series.items())
                for key, value in sorted(series.items(), key=lambda item: item[0])
            ]

    def take(self, other: TaskMetrics) -> None:
        """Add what another has to this one; the other starts from zero."""
        with other._lock:
            taken, other._series = other._series, {}
        with self._lock:
            for name, (kind, theirs) in taken.items():
                for labels, value in theirs.items():
                    series, key = self._of(name, kind, dict(labels))
                    if isinstance(value, Histogram):
                        mine = series.setdefault(key, Histogram())
                        mine.counts = [a + b for a, b in zip(mine.counts, value.counts, strict=True)]
                        mine.sum += value.sum
                    else:
                        series[key] = value + (series.get(key, 0) if kind == "counter" else 0)

    def forget(self, name: str) -> None:
        """Drop all series of a name: a gauge whose labels come and go."""
        with self._lock:
            self._series.pop(name, None)

    def _of(self, name: str, kind: str, labels: Mapping[str, str]) -> tuple[dict[Labels, Any], Labels]:
        known, series = self._series.setdefault(name, (kind, {}))
        if known != kind:
            raise InvalidInputError(f"{name} is a {known}, not a {kind}", field="name")
        return series, tuple(sorted((key, str(value)) for key, value in labels.items()))

    def _matching(self, name: str, kind: str, labels: Mapping[str, str]) -> Iterator[Any]:
        wanted = {key: str(value) for key, value in labels.items()}.items()
        for sample in self.samples():
            if sample.name == name and sample.kind == kind and wanted <= sample.labels.items():
                yield sample


def _copy(value: Any) -> Any:
    return Histogram(list(value.counts), value.sum) if isinstance(value, Histogram) else value


class MetricsCollector:
    """A base for what a service collects and exports (the specification, "Task Execution Metrics").

    >>> class OrderMetrics(MetricsCollector):
    ...     def __init__(self) -> None:
    ...         self.metrics = TaskMetrics()
    >>> orders = OrderMetrics()
    >>> orders.metrics.increment("orders_processed")
    >>> orders.collect()
    {'orders_processed': 1}
    """

    metrics: TaskMetrics

    def __init__(self) -> None:
        self.metrics = TaskMetrics()

    def collect(self) -> dict[str, float]:
        """Every counter and gauge by its name, over all labels. (Histograms: `metrics.get_histogram`.)"""
        totals: dict[str, float] = {}
        for sample in self.metrics.samples():
            if not isinstance(sample.value, Histogram):
                totals[sample.name] = totals.get(sample.name, 0) + sample.value
        return totals
