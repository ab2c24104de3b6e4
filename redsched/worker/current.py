"""`current_run()`: what a running task can know of its run, and do about it."""

from __future__ import annotations

import time
from datetime import datetime
from typing import Any, cast

from redsched import context
from redsched.errors import SchedulerStateError
from redsched.model import RunContext
from redsched.schedules.zones import zone
from redsched.store.clock import from_ms
from redsched.worker.runs import Run

__all__ = ["CurrentRun", "current_run"]


class CurrentRun:
    """The run that a task is in: its context, its worker's state, and the means to report progress.

    >>> async def bake() -> None:
    ...     run: CurrentRun = current_run()
    ...     print(run.attempt)
    """

    __slots__ = ("_run",)

    def __init__(self, run: Run) -> None:
        self._run = run

    @property
    def context(self) -> RunContext:
        """The run's context, as plain data."""
        run = self._run
        timeout = run.job.options.timeout_ms
        deadline = None
        if timeout is not None and run.started:
            elapsed = time.monotonic() - run.started
            deadline = from_ms(run.loop.clock.now_ms() + timeout - int(elapsed * 1000))
        return RunContext(
            job_id=run.job.id,
            run_id=run.public_id,
            name=run.job.record.name,
            task=run.job.record.task,
            queue=run.queue,
            fire_time=self.fire_time,
            attempt=run.attempt,
            fencing_token=run.fence,
            deadline=deadline,
            tags=run.job.tags,
            worker=run.loop.worker.id,
        )

    @property
    def job_id(self) -> str:
        """The id of its job."""
        return self._run.job.id

    @property
    def fire_time(self) -> datetime:
        """The instant at which this run was due (aware, in the job's zone)."""
        return from_ms(self._run.fire_ms, zone(self._run.job.timezone))

    @property
    def attempt(self) -> int:
        """1 for the first."""
        return self._run.attempt

    @property
    def fencing_token(self) -> int:
        """Only grows: hand it to whatever the task writes to."""
        return self._run.fence

    @property
    def state(self) -> Any:
        """What the lifespans of this worker yield: `scheduler.add_lifespan`.

        Raises:
            SchedulerStateError: the task runs in a child process; the state is that of the worker's process.
        """
        return self._run.loop.worker.state

    async def report_progress(self, value: Any) -> None:
        """Store how far the task is, for `get_job` and the command line: any plain data.

        Raises:
            RunLostError: this worker no longer holds the run. The task should stop.
            StoreError: Redis did not store it.
        """
        await self._run.loop.execution.report(self._run, value)


def current_run() -> CurrentRun:
    """The run that this code is in.

    Raises:
        SchedulerStateError: it is called outside a task.

    >>> async def bake() -> int:
    ...     run = current_run()
    ...     await run.report_progress({"percent": 50})
    ...     return run.attempt
    >>> async def main() -> None:
    ...     async with BackgroundTaskScheduler(url) as scheduler:
    ...         handle = await scheduler.schedule_immediate_task("bake", bake)
    ...         print((await handle.result(timeout=10)).result)
    >>> asyncio.run(main())
    1
    """
    run = context.current_run.get(None)
    if run is not None:
        return CurrentRun(cast("Run", run))
    of_parent = context.parent_run.get(None)
    if of_parent is None:
        raise SchedulerStateError("current_run() must be called within a task that redsched runs")
    return cast("CurrentRun", of_parent)
