"""`JobHandle`: what every `schedule_…` method returns."""

from __future__ import annotations

from datetime import timedelta
from typing import Generic

from redsched.client import change as jobs
from redsched.client import history as results
from redsched.client.core import Client
from redsched.model import JobView, TaskExecutionResult
from redsched.tasks.types import R

__all__ = ["JobHandle"]


class JobHandle(Generic[R]):
    """An accepted job: its id, and the operations on it.

    >>> async def main() -> None:
    ...     async with BackgroundTaskScheduler(url) as scheduler:
    ...         handle = await scheduler.schedule_delayed_task("greet", print, delay_minutes=15, args=["hello"])
    ...         print((await handle.get()).state, await handle.cancel(), await handle.get())
    >>> asyncio.run(main())
    scheduled True None
    """

    __slots__ = ("_client", "id", "name", "status")

    def __init__(self, client: Client, job_id: str, name: str, status: str = "added") -> None:
        self._client: Client = client
        self.id: str = job_id
        self.name: str = name
        self.status: str = status
        """added, replaced or kept."""

    def __repr__(self) -> str:
        return f"<JobHandle {self.name!r} id={self.id!r} {self.status}>"

    async def get(self) -> JobView | None:
        """The current state of the job, or None if it has ended."""
        return await jobs.get_job(self._client, self.id)

    async def result(self, timeout: float | timedelta | None = None) -> TaskExecutionResult[R]:
        """Wait until a run of the job has ended, and return its outcome.

        Raises:
            ResultTimeoutError: it did not end within `timeout` (seconds, or a timedelta). The run continues.
        """
        return await results.wait_for_result(self._client, self.id, timeout)

    async def cancel(self) -> bool:
        """End the job and stop its running instances. Returns whether it existed."""
        return bool(await jobs.cancel(self._client, [self.id], None))

    async def remove(self) -> None:
        """End the job; running instances finish. Raises JobLookupError if it has ended."""
        await jobs.remove(self._client, self.id)

    async def pause(self) -> None:
        """Keep the job from becoming due. Raises JobLookupError if it has ended."""
        await jobs.pause(self._client, self.id)

    async def resume(self) -> JobView | None:
        """Let the job become due again. Raises JobLookupError if it has ended."""
        return await jobs.resume(self._client, self.id)

    async def run_now(self) -> str:
        """Make the job due now, in addition to its schedule. Raises JobLookupError if it has ended."""
        return await jobs.run_now(self._client, self.id)
