"""Metrics for Prometheus, through prometheus-client (extra `metrics`).

`redsched worker app:scheduler --metrics-port 9100` serves them. A service that embeds its scheduler adds them to what
it serves already:

    from prometheus_client import REGISTRY
    REGISTRY.register(SchedulerCollector(scheduler))

or answers one of its routes with `await exposition(scheduler)`.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Generator, Iterable
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from redsched import BackgroundTaskScheduler, InvalidConfigError, RedschedError, TaskMetrics
from redsched.integrations.metrics_server import start_server
from redsched.metrics.collector import BUCKETS, STANDARD, Histogram, Sample
from redsched.runtime import forks

try:
    from prometheus_client import CollectorRegistry, generate_latest, make_wsgi_app
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
    from prometheus_client.registry import Collector
except ImportError as _missing:  # pragma: no cover  the extra is installed wherever this is tested
    raise ImportError("metrics for Prometheus need prometheus-client: pip install 'redsched[metrics]'") from _missing

__all__ = ["SchedulerCollector", "exposition", "serve"]

log: logging.Logger = logging.getLogger("redsched.metrics")

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
WAIT_S = 5.0
"""How long a scrape waits for what Redis knows; then it tells what the process knows."""


class SchedulerCollector(Collector):
    """The standard set of a scheduler, and the metrics that its application added to `scheduler.metrics`.

    Make it in the scheduler's event loop; it may be scraped from any thread. In the loop's own thread nothing can be
    awaited, so there the gauges of the queues are those of the last scrape: `exposition` is for that.
    """

    def __init__(self, scheduler: BackgroundTaskScheduler, *, prefix: str = "redsched") -> None:
        self._scheduler = scheduler
        self._prefix = prefix
        self._loop: asyncio.AbstractEventLoop | None = asyncio.get_running_loop()
        forks.register(self)

    def after_fork(self) -> None:
        """The loop is the parent's."""
        self._loop = None

    def collect(self) -> Iterable[Metric]:
        """The collector method that Prometheus' client calls."""
        return list(families(self._read(), self._prefix))

    def describe(self) -> Iterable[Metric]:
        """Nothing: so that registering it reads nothing."""
        return []

    def _read(self) -> TaskMetrics:
        try:
            if asyncio.get_running_loop() is self._loop:
                return self._scheduler.metrics
        except RuntimeError:
            pass  # another thread, as usual
        if self._loop is None:
            return self._scheduler.metrics  # in a child, until it makes a collector in a loop that runs there
        reading = asyncio.run_coroutine_threadsafe(self._scheduler.collect_metrics(), self._loop)
        try:
            return reading.result(WAIT_S)
        except (RedschedError, TimeoutError) as error:
            reading.cancel()
            log.warning("the metrics are without those of the queues: %s", error or "Redis does not answer")
            return self._scheduler.metrics


def families(metrics: TaskMetrics, prefix: str) -> Iterable[Metric]:
    """Metrics in the form of Prometheus' client. A metric that is not of the standard set has its own name."""
    grouped: dict[str, list[Sample]] = {}
    for sample in metrics.samples():
        grouped.setdefault(sample.name, []).append(sample)
    for name, samples in grouped.items():
        help_text = STANDARD[name][1] if name in STANDARD else "A metric of the application."
        full = f"{prefix}_{name}" if name in STANDARD else re.sub(r"[^a-zA-Z0-9_:]", "_", name)
        labels = sorted({label for sample in samples for label in sample.labels})
        family: Any = {"counter": CounterMetricFamily, "gauge": GaugeMetricFamily, "histogram": HistogramMetricFamily}[
            samples[0].kind
        ](full, help_text, labels=labels)
        for sample in samples:
            values = [sample.labels.get(label, "") for label in labels]
            if isinstance(sample.value, Histogram):
                family.add_metric(values, _buckets(sample.value), sum_value=sample.value.sum)
            else:
                family.add_metric(values, sample.value)
        yield family


def _buckets(histogram: Histogram) -> list[tuple[str, float]]:
    """Cumulative counts by upper bound, as Prometheus wants them."""
    total = 0
    made: list[tuple[str, float]] = []
    for bound, count in zip([*map(str, BUCKETS), "+Inf"], histogram.counts, strict=True):
        total += count
        made.append((bound, float(total)))
    return made


async def exposition(scheduler: BackgroundTaskScheduler, *, prefix: str = "redsched") -> bytes:
    """The metrics as text, for a route of your own; its content type is `CONTENT_TYPE`.

    Raises:
        StoreError: Redis did not tell of its queues.
    """
    made = list(families(await scheduler.collect_metrics(), prefix))
    registry = CollectorRegistry()
    registry.register(_Made(made))
    return generate_latest(registry)


class _Made(Collector):
    def __init__(self, made: list[Metric]) -> None:
        self._made = made

    def collect(self) -> Iterable[Metric]:
        return self._made


class _Port:
    """The listener for scrapes. A forked child closes its copy, which would keep the port open after the parent."""

    def __init__(self, server: Any) -> None:
        self._server = server
        self.is_ours = True
        forks.register(self)

    def after_fork(self) -> None:
        """Scrapes are answered by the parent."""
        self._server.socket.close()
        self.is_ours = False


@contextmanager
def _serving(server: Any, thread: Any) -> Generator[None]:
    port = _Port(server)
    try:
        yield
    finally:
        if port.is_ours:
            server.shutdown()
            server.server_close()
            thread.join(WAIT_S)


def serve(scheduler: BackgroundTaskScheduler, port: int, host: str = "127.0.0.1") -> AbstractContextManager[None]:
    """Serve `/metrics` from a separate thread until the context is left. Call it in the scheduler's event loop.

    Raises:
        InvalidConfigError: the port is taken, or the address is not of this machine.
    """
    registry = CollectorRegistry()
    registry.register(SchedulerCollector(scheduler))
    try:
        server, thread = start_server(make_wsgi_app(registry), host, port)
    except (OSError, OverflowError) as error:
        raise InvalidConfigError(
            f"the metrics cannot be served at {host}:{port}: {error}. Choose another --metrics-port.",
            field="metrics_port",
        ) from None
    return _serving(server, thread)
