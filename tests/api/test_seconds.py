"""`seconds="first"` in each place that takes a cron expression, from the call to the next fire."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from redsched import BackgroundTaskScheduler, CronSchedule, InvalidInputError, JobSpec, schedule_task
from redsched.declarations import definition as declarations
from redsched.testing import Kit


async def task() -> None: ...


QUARTZ = "30 15 8 * * mon-fri"

Call = Callable[[BackgroundTaskScheduler, dict[str, Any]], Awaitable[Any]]


async def reschedule(scheduler: BackgroundTaskScheduler, options: dict[str, Any]) -> Any:
    await scheduler.schedule_cron("a", task, "@daily", job_id="a")
    return await scheduler.reschedule_job("a", cron=QUARTZ, **options)


async def declared(scheduler: BackgroundTaskScheduler, options: dict[str, Any]) -> Any:
    before = len(declarations.declared)
    try:
        schedule_task(cron=QUARTZ, job_id="a", **options)(task)
        return await scheduler.schedule_many(declarations.declared[before:])
    finally:
        del declarations.declared[before:]


CALLS: dict[str, Call] = {
    "schedule_cron": lambda s, o: s.schedule_cron("a", task, QUARTZ, job_id="a", **o),
    "schedule": lambda s, o: s.schedule("a", task, CronSchedule(QUARTZ, **o), job_id="a"),
    "JobSpec": lambda s, o: s.submit(JobSpec("a", task, cron=QUARTZ, job_id="a", **o)),
    "with_options": lambda s, o: s.submit(JobSpec("a", task, job_id="a").with_options(cron=QUARTZ, **o)),
    "reschedule_job": reschedule,
    "schedule_task": declared,
}


@pytest.mark.parametrize("place", CALLS)
async def test_the_second_is_first_where_that_is_said_and_the_job_fires_then(redsched_kit: Kit, place: str) -> None:
    with pytest.raises(InvalidInputError, match='seconds="first"'):
        await CALLS[place](redsched_kit.scheduler, {})
    for job in await redsched_kit.scheduler.get_jobs():
        await redsched_kit.scheduler.remove_job(job.id)
    await CALLS[place](redsched_kit.scheduler, {"seconds": "first"})
    job = await redsched_kit.scheduler.get_job("a")
    assert job is not None and job.next_run_time is not None
    assert job.next_run_time.strftime("%H:%M:%S") == "08:15:30"
    assert "second first" in job.schedule
    assert job.next_run_time.weekday() < 5


async def test_seconds_without_a_cron_expression_is_refused(redsched_kit: Kit) -> None:
    with pytest.raises(InvalidInputError, match="cron="):
        await redsched_kit.scheduler.submit(JobSpec("a", task, interval=5, seconds="first"))
    with pytest.raises(InvalidInputError, match="cron="):
        await redsched_kit.scheduler.submit(JobSpec("a", task, seconds="first"))
    assert await redsched_kit.scheduler.get_jobs() == []
