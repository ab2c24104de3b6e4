"""Middleware around scheduling: it sees each job before it is checked, and may change or refuse it."""

from __future__ import annotations

from typing import Any

import pytest

from redsched import BackgroundTaskScheduler, InvalidInputError, JobSpec
from redsched.testing import Kit, fresh_prefix

seen: list[str] = []


@pytest.fixture(autouse=True)
def _fresh() -> None:
    seen.clear()


async def bake(number: int = 1, tenant: str = "") -> str:
    return f"{number} for {tenant}"


async def nightly() -> None: ...


async def for_mario(spec: JobSpec[Any]) -> JobSpec[Any]:
    seen.append(spec.name)
    return spec.with_options(kwargs={**spec.options.get("kwargs", {}), "tenant": "mario"}, tags=["mario"])


async def refuse_big_jobs(spec: JobSpec[Any]) -> JobSpec[Any]:
    if spec.options.get("args") == [1000]:
        raise PermissionError("1000 is too many")
    return spec


async def test_it_changes_the_arguments_and_options_of_a_call(redsched_kit: Kit) -> None:
    redsched_kit.scheduler.add_scheduling_middleware(for_mario)
    handle = await redsched_kit.scheduler.schedule_immediate_task("bake", bake, args=[2])
    await redsched_kit.run_due()
    assert (await handle.result(timeout=5)).result == "2 for mario"
    assert seen == ["bake"]


async def test_it_sees_each_job_of_many_once_in_their_order(redsched_kit: Kit) -> None:
    redsched_kit.scheduler.add_scheduling_middleware(for_mario)
    specs = [JobSpec(f"bake-{number}", bake, delay=60, args=[number]) for number in range(3)]
    handles = await redsched_kit.scheduler.schedule_many(specs)
    jobs = [await redsched_kit.scheduler.get_job(handle.id) for handle in handles]
    assert [job.kwargs for job in jobs if job] == [{"tenant": "mario"}] * 3
    assert seen == ["bake-0", "bake-1", "bake-2"]


async def test_the_first_that_was_added_sees_a_job_first(redsched_kit: Kit) -> None:
    for name in "ab":

        @redsched_kit.scheduler.add_scheduling_middleware
        async def rename(spec: JobSpec[Any], name: str = name) -> JobSpec[Any]:
            return spec.with_options(name=spec.name + name)

    handle = await redsched_kit.scheduler.schedule_delayed_task("bake-", bake, delay_seconds=60)
    job = await redsched_kit.scheduler.get_job(handle.id)
    assert job is not None
    assert job.name == "bake-ab"


async def test_what_it_raises_is_what_the_call_raises_and_nothing_is_stored(redsched_kit: Kit) -> None:
    scheduler = redsched_kit.scheduler
    scheduler.add_scheduling_middleware(refuse_big_jobs)
    with pytest.raises(PermissionError, match="too many"):
        await scheduler.schedule_immediate_task("bake", bake, args=[1000])
    with pytest.raises(PermissionError, match="too many"):
        await scheduler.schedule_many([JobSpec("bake", bake, args=[number]) for number in (1, 1000)])
    assert await scheduler.get_jobs() == []


async def test_what_it_makes_of_a_job_is_checked_like_any_other(redsched_kit: Kit) -> None:
    @redsched_kit.scheduler.add_scheduling_middleware
    async def spoil(spec: JobSpec[Any]) -> JobSpec[Any]:
        return spec.with_options(kwargs={"tenat": "mario"})

    with pytest.raises(InvalidInputError, match="did you mean tenant"):
        await redsched_kit.scheduler.schedule_immediate_task("bake", bake)


async def test_one_that_returns_no_job_is_named(redsched_kit: Kit) -> None:
    @redsched_kit.scheduler.add_scheduling_middleware
    async def forgets(spec: JobSpec[Any]) -> Any:
        return None

    with pytest.raises(InvalidInputError, match="forgets returned None"):
        await redsched_kit.scheduler.schedule_immediate_task("bake", bake)


async def test_declared_jobs_pass_through_it_and_one_that_is_refused_is_among_the_failed(redsched_url: str) -> None:
    scheduler = BackgroundTaskScheduler(redsched_url, fresh_prefix(), declared_tasks=False)
    scheduler.declared = [
        JobSpec("nightly", bake, cron="0 2 * * *", job_id="nightly", replace_existing="update"),
        JobSpec("big", bake, cron="0 3 * * *", args=[1000], job_id="big", replace_existing="update"),
    ]
    scheduler.add_scheduling_middleware(refuse_big_jobs)
    scheduler.add_scheduling_middleware(for_mario)
    await scheduler.start(worker=False)
    assert {job.id: job.status for job in scheduler.declared_jobs} == {"nightly": "added", "big": "failed"}
    job = await scheduler.get_job("nightly")
    assert job is not None
    assert (job.tags, job.kwargs) == (("mario",), {"tenant": "mario"})
    await scheduler.clear_all_jobs()
    await scheduler.shutdown()
