"""The live workers and what they serve: finds the jobs that no live worker can run, and says why."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from redsched import BackgroundTaskScheduler, JobView, State

__all__ = ["Fleet", "WorkerView", "read_fleet"]

SILENT_AFTER = timedelta(seconds=30)
"""An idle worker sends a heartbeat at least every 10 s: after three missing heartbeats it does not count as live."""


@dataclass(frozen=True, slots=True)
class WorkerView:
    """A worker as it last described itself."""

    id: str
    host: str
    pid: int
    queues: tuple[str, ...]
    concurrency: int
    running: int
    last_seen: datetime
    live: bool
    tasks: tuple[str, ...]
    packages: tuple[str, ...] = ()
    """An older worker imports any task of these packages."""
    executors: tuple[str, ...] = ()
    """Empty for a worker of a version that does not report them."""
    failed_declarations: Mapping[str, str] = field(default_factory=dict[str, str])
    """Id of a job that its code declares and that is not stored as declared -> why."""

    def serves(self, queue: str) -> bool:
        """Whether it claims jobs of that queue."""
        return queue in self.queues or queue == f"local:{self.id}"

    def knows(self, task: str) -> bool:
        """Whether it can run that task."""
        return task in self.tasks or any(task.startswith(f"{package}.") for package in self.packages)

    def has(self, executor: str) -> bool:
        """Whether it has that executor."""
        return executor in self.executors or not self.executors


@dataclass(frozen=True, slots=True)
class Fleet:
    """All workers, at an instant of Redis' clock."""

    now: datetime
    workers: Sequence[WorkerView]

    @property
    def live(self) -> list[WorkerView]:
        """The workers with a recent heartbeat."""
        return [worker for worker in self.workers if worker.live]

    @property
    def failed_declarations(self) -> dict[str, str]:
        """Id of a declared job that is not stored as a live worker's code declares it -> why."""
        return {job_id: why for worker in self.live for job_id, why in sorted(worker.failed_declarations.items())}

    def why_unserved(self, job: JobView) -> str | None:
        """Why no live worker can run this job; None if one can."""
        if job.state is State.DEAD or job.task == "?":
            return None
        if not self.live:
            return "there is no live worker"
        serving = [worker for worker in self.live if worker.serves(job.queue)]
        if not serving:
            return f"no live worker serves the queue {job.queue!r}"
        if not any(worker.knows(job.task) for worker in serving):
            return f"no live worker knows the task {job.task!r}"
        if not any(worker.knows(job.task) and worker.has(job.executor) for worker in serving):
            return f"no live worker that knows the task has the executor {job.executor!r}"
        return None


async def read_fleet(scheduler: BackgroundTaskScheduler) -> Fleet:
    """Read all workers."""
    now = await scheduler.now()
    found = await scheduler.get_workers()
    views = [_view(worker_id, info, now) for worker_id, info in found.items()]
    return Fleet(now, sorted(views, key=lambda view: (not view.live, view.host, view.pid)))


def _view(worker_id: str, info: Mapping[str, Any], now: datetime) -> WorkerView:
    seen = datetime.fromtimestamp(info["seen_ms"] / 1000, UTC)
    return WorkerView(
        id=worker_id,
        host=str(info.get("host", "?")),
        pid=int(info.get("pid", 0)),
        queues=tuple(info.get("queues", ())),
        concurrency=int(info.get("concurrency", 0)),
        running=int(info.get("running", 0)),
        last_seen=seen,
        live=now - seen < SILENT_AFTER,
        tasks=tuple(info.get("tasks", ())),
        packages=tuple(info.get("packages", ())),
        executors=tuple(info.get("executors", ())),
        failed_declarations=dict(info.get("failed_declarations", {})),
    )
