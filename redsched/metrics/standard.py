"""The standard set of metrics: what the process has counted, and what is read of its worker and of Redis."""

from __future__ import annotations

from typing import TYPE_CHECKING

from redsched.client.core import Client
from redsched.metrics.collector import TaskMetrics
from redsched.store import queries

if TYPE_CHECKING:
    from redsched.worker.worker import Worker

__all__ = ["standard"]


async def standard(client: Client, metrics: TaskMetrics, worker: Worker | None) -> TaskMetrics:
    """See `BackgroundTaskScheduler.collect_metrics`."""
    store = await client.store()
    served = {str(queue) for info in (await queries.read_workers(store)).values() for queue in info.get("queues", ())}
    waiting = await queries.read_queues(store, served | set(worker.queues[:-1] if worker else ()))
    dead = await queries.count_dead(store)
    if worker is not None:
        metrics.set_gauge("runs_active", worker.capacity.holding)
        metrics.set_gauge("runs_capacity", worker.concurrency)
        metrics.set_gauge("threads_abandoned", worker.executors.abandoned_threads)
        metrics.increment("leases_lost_total", worker.lost - metrics.get_counter("leases_lost_total"))
    metrics.forget("queue_jobs")  # of a queue that is no longer served
    for queue, (due, later, parked) in waiting.items():
        metrics.set_gauge("queue_jobs", due, queue=queue, state="due")
        metrics.set_gauge("queue_jobs", later, queue=queue, state="scheduled")
        if parked:
            metrics.set_gauge("queue_jobs", parked, queue=queue, state="parked")
    metrics.set_gauge("dead_runs", dead)
    return metrics
