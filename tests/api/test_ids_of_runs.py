"""One id for a run, wherever it is named; and what each call says of an id that names nothing."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from redsched import BackgroundTaskScheduler, JobHandle, JobLookupError, RunContext, State, current_run
from redsched.store import queries
from redsched.testing import Kit, fresh_prefix, kit

contexts: list[RunContext] = []


@pytest.fixture(autouse=True)
def _no_run() -> None:
    contexts.clear()


async def fail() -> None:
    contexts.append(current_run().context)
    raise RuntimeError("no")


async def succeed() -> str:
    contexts.append(current_run().context)
    return "value"


Schedule = Callable[[BackgroundTaskScheduler, Any], Awaitable[JobHandle]]


async def once(scheduler: BackgroundTaskScheduler, task: Any) -> JobHandle:
    return await scheduler.schedule_delayed_task("job", task, delay_minutes=1)


async def periodic(scheduler: BackgroundTaskScheduler, task: Any) -> JobHandle:
    return await scheduler.schedule_interval("job", task, minutes=1)


async def batch(scheduler: BackgroundTaskScheduler, task: Any) -> JobHandle:
    return await scheduler.schedule_interval("job", task, seconds=20, coalesce=False)


async def beside(scheduler: BackgroundTaskScheduler, task: Any) -> JobHandle:
    handle = await scheduler.schedule_interval("job", task, days=1)
    await handle.run_now()
    return handle


WAYS = pytest.mark.parametrize("way", [once, periodic, batch, beside])


@WAYS
async def test_a_dead_run_is_requeued_by_the_id_that_its_context_had(redsched_kit: Kit, way: Schedule) -> None:
    scheduler = redsched_kit.scheduler
    await way(scheduler, fail)
    await redsched_kit.advance(minutes=1)
    ids = {context.run_id for context in contexts}
    assert len(ids) == len(contexts) > 0
    assert {view.id for view in await scheduler.get_dead()} == ids
    for run_id in ids:
        view = await scheduler.get_job(run_id)
        assert view is not None
        assert view.state is State.DEAD
    assert set(await scheduler.requeue(*ids)) == ids
    assert await scheduler.get_dead() == []


@WAYS
async def test_events_and_results_name_a_run_as_its_context_does(redsched_kit: Kit, way: Schedule) -> None:
    scheduler = redsched_kit.scheduler
    handle = await way(scheduler, succeed)
    await redsched_kit.advance(minutes=1)
    ids = [context.run_id for context in contexts]
    past = await scheduler.get_history(handle.id)
    assert [event.run_id for event in past if event.kind == "done"] == ids
    assert {event.run_id for event in past if event.kind == "claimed"} <= set(ids)
    results = await scheduler.get_results(handle.id)
    assert [(result.run_id, result.result) for result in results] == [(run_id, "value") for run_id in ids]
    store = await scheduler.store()
    for run_id in ids:
        assert await queries.read_result(store, handle.id, run_id) is not None


async def test_run_now_gives_the_id_that_the_runs_context_has(redsched_kit: Kit) -> None:
    handle = await redsched_kit.scheduler.schedule_interval("job", succeed, days=1)
    given = [await handle.run_now(), await handle.run_now()]
    await redsched_kit.run_due()
    assert sorted(context.run_id for context in contexts) == sorted(given)


async def test_the_id_that_contexts_of_one_shot_jobs_used_to_have_is_still_taken(redsched_kit: Kit) -> None:
    scheduler = redsched_kit.scheduler
    handle = await once(scheduler, fail)
    await redsched_kit.advance(minutes=1)
    [context] = contexts
    fire_ms = int(context.fire_time.timestamp() * 1000)
    assert await scheduler.requeue(f"{handle.id}@{fire_ms + 1}") == [], "that is another instant"
    assert await scheduler.requeue(f"{handle.id}@{fire_ms}") == [f"{handle.id}@{fire_ms}"]
    assert await scheduler.get_dead() == []


async def test_a_run_is_found_in_the_shard_of_its_job(redsched_url: str) -> None:
    scheduler = BackgroundTaskScheduler(redsched_url, fresh_prefix(), declared_tasks=False, shards=5)
    async with kit(scheduler) as made:
        for number in range(12):
            await scheduler.schedule_interval("job", fail, days=1, job_id=f"job-{number}")
        await made.advance(days=1)
        ids = {view.id for view in await scheduler.get_dead()}
        assert len(ids) == 12
        for run_id in ids:
            assert await scheduler.get_job(run_id) is not None
        assert set(await scheduler.requeue(*ids)) == ids


# -- ids of nothing ---------------------------------------------------------------------------------------------------

CHANGES: dict[str, Callable[[BackgroundTaskScheduler, str], Awaitable[Any]]] = {
    "pause": lambda scheduler, job_id: scheduler.pause_job(job_id),
    "resume": lambda scheduler, job_id: scheduler.resume_job(job_id),
    "reschedule": lambda scheduler, job_id: scheduler.reschedule_job(job_id, interval=60),
    "modify": lambda scheduler, job_id: scheduler.modify_job(job_id, name="other"),
    "remove": lambda scheduler, job_id: scheduler.remove_job(job_id),
    "run_now": lambda scheduler, job_id: scheduler.run_now(job_id),
    "wait_for_result": lambda scheduler, job_id: scheduler.wait_for_result(job_id, timeout=5),
}


async def ended(scheduler: BackgroundTaskScheduler) -> str:
    handle = await scheduler.schedule_delayed_task("job", succeed, 3600)
    await handle.remove()
    return handle.id


@pytest.mark.parametrize("change", CHANGES)
async def test_a_change_of_one_job_raises_where_there_is_none(redsched_kit: Kit, change: str) -> None:
    with pytest.raises(JobLookupError, match="no job with id 'nothing'"):
        await CHANGES[change](redsched_kit.scheduler, "nothing")
    if change != "wait_for_result":  # it tells how the job ended
        with pytest.raises(JobLookupError):
            await CHANGES[change](redsched_kit.scheduler, await ended(redsched_kit.scheduler))


async def test_looking_for_what_is_not_there_finds_nothing(redsched_kit: Kit) -> None:
    scheduler = redsched_kit.scheduler
    for job_id in ("nothing", "nothing@1"):
        assert await scheduler.get_job(job_id) is None
        assert await scheduler.get_history(job_id) == []
        assert await scheduler.get_results(job_id) == []


async def test_what_ends_jobs_or_takes_several_says_which_were_there(redsched_kit: Kit) -> None:
    scheduler = redsched_kit.scheduler
    there = await scheduler.schedule_delayed_task("job", succeed, 3600)
    assert await scheduler.cancel("nothing") is False
    assert await scheduler.cancel(tag="nothing") is False
    assert await scheduler.cancel_jobs(ids=["nothing", there.id]) == [there.id]
    assert await there.cancel() is False, "a second time it has ended already: that is what was wanted"
    assert await scheduler.requeue("nothing", "nothing@1", there.id) == []
