"""Applications that start and stop on one prefix: each `start` is a process of a version of the code."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from redsched import BackgroundTaskScheduler, Event, JobView, schedule_task
from redsched.testing import Kit, fresh_prefix

MAY = datetime(2031, 5, 1, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
ran: list[str] = []


def at(minutes: float) -> datetime:
    return MAY + minutes * MINUTE


class Apps:
    """The processes of one application, and what they share."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.prefix = fresh_prefix()
        self.up: list[Kit] = []
        self.made: list[BackgroundTaskScheduler] = []
        self.client = Kit(BackgroundTaskScheduler(url, self.prefix, declared_tasks=False))

    async def start(
        self, *declared: dict[str, Any], application: str | None = "shop", prune: bool = False, **settings: Any
    ) -> Kit:
        """A process whose code declares these jobs, each as the options of `schedule_task`."""
        scheduler = BackgroundTaskScheduler(
            self.url, self.prefix, declared_tasks=False, application=application, lease=2.0, **settings
        )
        for options in declared:
            schedule_task(scheduler=scheduler, **options)(self._task(options))
        self.made.append(scheduler)
        kit = Kit(scheduler)
        await scheduler.start(worker=False, prune=prune)
        self.up.append(kit)
        return kit

    @staticmethod
    def _task(options: dict[str, Any]) -> Callable[..., Any]:
        async def task(*args: Any, **kwargs: Any) -> None:
            ran.append(str(options["name"]))

        return task

    async def stop(self, kit: Kit) -> None:
        await kit.scheduler.shutdown()
        self.up.remove(kit)

    async def restart(self, *declared: dict[str, Any], **settings: Any) -> Kit:
        """All processes stop, and one starts."""
        for kit in list(self.up):
            await self.stop(kit)
        return await self.start(*declared, **settings)

    async def rollback(self, *declared: dict[str, Any], **settings: Any) -> Kit:
        """All processes stop, and one of an earlier version starts when the newer one is long gone."""
        for kit in list(self.up):
            await self.stop(kit)
        await self.client.travel(seconds=61)
        return await self.start(*declared, **settings)

    async def job(self, job_id: str) -> JobView:
        job = await self.client.scheduler.get_job(job_id)
        assert job is not None, f"there is no job {job_id}"
        return job

    async def exists(self, job_id: str) -> bool:
        return await self.client.scheduler.get_job(job_id) is not None

    async def events(self, job_id: str, *kinds: str) -> list[Event]:
        events = await self.client.scheduler.get_history(job_id, limit=10_000)
        return [event for event in events if not kinds or event.kind in kinds]

    def status(self, kit: Kit) -> dict[str, str]:
        return {job.id: job.status for job in kit.scheduler.declared_jobs}


@pytest.fixture
async def apps(redsched_url: str) -> AsyncIterator[Apps]:
    ran.clear()
    made = Apps(redsched_url)
    await made.client.travel_to(MAY + timedelta(seconds=1))
    yield made
    for kit in list(made.up):
        await made.stop(kit)
    await made.client.scheduler.clear_all_jobs()
    await made.client.scheduler.shutdown()
