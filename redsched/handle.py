"""`JobHandle`: what every `schedule_…` method returns."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Generic

from redsched.model import JobView, TaskExecutionResult
from redsched.task_types import R

if TYPE_CHECKING:
    from redsched.scheduler import BackgroundTaskScheduler

__all__ = ["JobHandle"]


class JobHandle(Generic[R]):
    """A job that was accepted: its id, and what can be done with it.

    >>> async def main() -> None:
    ...     async with BackgroundTaskScheduler(url) as scheduler:
    ...         handle = await scheduler.schedule_delayed_task("greet", print, delay_minutes=15, args=["hello"])
    ...         print((await handle.get()).state, await handle.cancel(), await handle.get())
    >>> asyncio.run(main())
    scheduled True None
    """

    __slots__ = ("_scheduler", "id", "name", "status")

    def __init__(self, scheduler: BackgroundTaskScheduler, job_id: str, name: str, status: str = "added") -> None:
        self._scheduler = scheduler
        self.id: str = job_id
        self.name: str = name
        self.status: str = status
        """added, replaced or kept."""

    def __repr__(self) -> str:
        return f"<JobHandle {self.name!r} id={self.id!r} {self.status}>"

    async def get(self) -> JobView | None:
        """The job as it is now, or None if it has ended."""
        return await self._scheduler.get_job(self.id)

    async def result(self, timeout: float | timedelta | None = None) -> TaskExecutionResult[R]:
        """Wait until a run of it has ended, and tell how.

        Raises:
            ResultTimeoutError: it did not within `timeout` (seconds, or a timedelta). The run goes on.
        """
        return await self._scheduler.wait_for_result(self.id, timeout=timeout)

    async def cancel(self) -> bool:
        """End the job and stop its running instances. Returns whether it was there."""
        return await self._scheduler.cancel(self.id)

    async def remove(self) -> None:
        """End the job; running instances go on. Raises JobLookupError if it has ended."""
        await self._scheduler.remove_job(self.id)

    async def pause(self) -> None:
        """Keep it from becoming due. Raises JobLookupError if it has ended."""
        await self._scheduler.pause_job(self.id)

    async def resume(self) -> JobView | None:
        """Let it become due again. Raises JobLookupError if it has ended."""
        return await self._scheduler.resume_job(self.id)

    async def run_now(self) -> str:
        """Make it due now, beside its schedule. Raises JobLookupError if it has ended."""
        return await self._scheduler.run_now(self.id)
