"""Promise 7: what did not run has a reason that can be read."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta
from typing import Any

import pytest

from redsched import BackgroundTaskScheduler, Event, JobHandle, JobSpec, RetryPolicy
from redsched.testing import Kit


async def effect(value: Any = None) -> Any:
    return value


async def fails() -> None:
    raise ValueError("of no use")


async def reasons(kit: Kit, job_id: str) -> list[tuple[str, str | None]]:
    return [(e.kind, e.reason) for e in await kit.scheduler.get_history(job_id)]


async def test_missed(redsched_kit: Kit) -> None:
    handle = await redsched_kit.scheduler.schedule_delayed_task("a", effect, delay_minutes=1, misfire_grace_time=30)
    await redsched_kit.travel(minutes=2)
    await redsched_kit.run_due()
    assert ("missed", "misfire") in await reasons(redsched_kit, handle.id)
    assert await handle.get() is None


async def test_coalesced_with_how_many(redsched_kit: Kit) -> None:
    handle = await redsched_kit.scheduler.schedule_cron("a", effect, "*/5 * * * *")
    await redsched_kit.travel(days=365)
    await redsched_kit.run_due()
    [event] = [e for e in await redsched_kit.scheduler.get_history(handle.id) if e.kind == "coalesced"]
    assert event.reason == "coalesced"
    assert event.count is not None
    assert 365 * 288 - 2 <= event.count <= 365 * 288


async def test_cut_by_the_catch_up_bound(redsched_kit: Kit) -> None:
    handle = await redsched_kit.scheduler.schedule_interval("a", effect, seconds=1, coalesce=False)
    await redsched_kit.travel(seconds=3000)
    await redsched_kit.run_due()
    [event] = [
        e for e in await redsched_kit.scheduler.get_history(handle.id, limit=10_000) if e.reason == "max_catch_up"
    ]
    assert event.kind == "missed"
    assert event.count is not None
    assert 1990 <= event.count <= 2001


async def test_each_fire_of_a_batch_of_a_thousand_is_told(redsched_kit: Kit) -> None:
    handle = await redsched_kit.scheduler.schedule_interval("a", effect, seconds=1, coalesce=False)
    await redsched_kit.travel(seconds=3000)
    await redsched_kit.run_due()
    history = await redsched_kit.scheduler.get_history(handle.id, limit=10_000)
    fires = [event.fire_time for event in history if event.kind == "done"]
    assert len(set(fires)) == len(fires) >= 1000


async def test_a_batch_of_fires_with_failures_leaves_none_out(redsched_kit: Kit) -> None:
    handle = await redsched_kit.scheduler.schedule_interval("a", fails, seconds=1, coalesce=False, retry=None)
    await redsched_kit.travel(seconds=50)
    await redsched_kit.run_due()
    history = await redsched_kit.scheduler.get_history(handle.id, limit=10_000)
    fires = [event.fire_time for event in history if event.kind == "dead"]
    assert len(set(fires)) == len(fires) >= 50
    [job] = await redsched_kit.scheduler.get_jobs()
    assert job.running == 0
    assert job.waiting == 0


async def test_failed_in_the_last_attempt(redsched_kit: Kit) -> None:
    policy = RetryPolicy(max_attempts=2, initial_delay=1, jitter=0)
    handle = await redsched_kit.scheduler.schedule_immediate_task("a", fails, retry=policy)
    await redsched_kit.run_due()
    await redsched_kit.advance(seconds=1)
    assert await reasons(redsched_kit, handle.id) == [
        ("scheduled", None),
        ("claimed", None),
        ("retry", "task_failed"),
        ("claimed", None),
        ("dead", "attempts_used_up"),
    ]
    [dead] = await redsched_kit.scheduler.get_dead()
    assert dead.reason == "attempts_used_up"
    assert dead.error == "ValueError: of no use"


async def test_cancelled_and_removed_and_paused(redsched_kit: Kit) -> None:
    scheduler = redsched_kit.scheduler
    a = await scheduler.schedule_delayed_task("a", effect, delay_minutes=1)
    b = await scheduler.schedule_delayed_task("b", effect, delay_minutes=1)
    await a.pause()
    await a.cancel()
    await b.remove()
    assert await reasons(redsched_kit, a.id) == [("scheduled", None), ("paused", None), ("cancelled", "cancelled")]
    assert await reasons(redsched_kit, b.id) == [("scheduled", None), ("removed", "removed")]


async def test_a_task_that_nobody_knows(redsched_kit: Kit) -> None:
    scheduler = redsched_kit.scheduler
    scheduler.register(effect, name="known-elsewhere")

    async def other() -> None: ...

    scheduler.register(other, name="nobody-knows")
    handle = await scheduler.schedule_immediate_task("a", other)
    scheduler.registry._tasks.pop("nobody-knows")  # as in a process that does not have it
    assert await redsched_kit.run_due() == 0
    job = await handle.get()
    assert job is not None
    assert (job.state, job.reason, job.attempt) == ("scheduled", "unknown_task", 0)
    assert ("postponed", "unknown_task") in await reasons(redsched_kit, handle.id)


async def test_a_schedule_that_raises_ends_its_job_alone(redsched_kit: Kit, monkeypatch: pytest.MonkeyPatch) -> None:
    scheduler = redsched_kit.scheduler
    broken, sound = [
        handle.id
        for handle in await scheduler.schedule_many(
            [
                JobSpec("broken", effect, interval=60),
                JobSpec("sound", effect, cron="* * * * *"),
            ]
        )
    ]

    def burst(self: object, after_ms: int) -> int:
        raise RuntimeError("the schedule is broken")

    from redsched import IntervalSchedule

    monkeypatch.setattr(IntervalSchedule, "next", burst)
    monkeypatch.setattr(IntervalSchedule, "last", burst)
    await redsched_kit.travel(minutes=5)
    await redsched_kit.run_due()
    job = await scheduler.get_job(broken)
    assert job is not None
    assert (job.state, job.reason) == ("dead", "schedule_error")
    assert job.error is not None
    assert "the schedule is broken" in job.error
    other = await scheduler.get_job(sound)
    assert other is not None
    assert other.state == "scheduled"
    assert ("done", None) in await reasons(redsched_kit, sound)


async def batch_of_a_worker_that_hangs(kit: Kit, **options: Any) -> tuple[JobHandle, list[datetime]]:
    """A job of whose fires five were overdue; a worker holds them as one run, in the first of them, and hangs."""
    forever = asyncio.Event()

    async def hangs() -> None:
        await forever.wait()

    first = kit.scheduler
    first.register(hangs, name="hangs")
    start = await first.now() + timedelta(minutes=1)
    end = start + timedelta(minutes=4)
    handle = await first.schedule_interval(
        "a", hangs, minutes=1, start=start, end=end, coalesce=False, **options
    )  # fmt: skip
    await kit.travel(minutes=10)
    other = BackgroundTaskScheduler(first.redis_url, first.prefix, declared_tasks=False, lease=0.2)
    other.register(hangs, name="hangs")
    await other.store()
    worker = other.make_worker()
    worker._prepare()
    await worker.loops[0].turn()
    await asyncio.sleep(0)  # a slot begins it
    [run] = worker.loops[0].held.values()
    assert run.batch is not None and len(run.batch) == 5
    run.stop("lost")  # it never says how its run ended
    await worker.slots.idle()
    await other.shutdown()
    return handle, [start + timedelta(minutes=n) for n in range(5)]


def fires_told(events: list[Event], kind: str) -> set[tuple[datetime, datetime, int | None]]:
    told = [e for e in events if e.kind == kind and e.fire_time is not None]
    return {(e.fire_time, e.last_fire_time or e.fire_time, e.count) for e in told if e.fire_time}


async def test_each_fire_of_a_batch_that_may_not_begin_again_is_told(redsched_kit: Kit) -> None:
    handle, fires = await batch_of_a_worker_that_hangs(redsched_kit, delivery="at_most_once")
    await asyncio.sleep(0.3)  # its lease ends, whatever the time travel
    await redsched_kit.run_due()
    events = await redsched_kit.scheduler.get_history(handle.id)
    assert fires_told(events, "dead") == {(fires[0], fires[4], 5)}
    assert [e.reason for e in events if e.kind == "dead"] == ["at_most_once"]


async def test_each_fire_of_a_batch_that_is_cancelled_while_its_worker_hangs_is_told(redsched_kit: Kit) -> None:
    handle, fires = await batch_of_a_worker_that_hangs(redsched_kit)
    assert await handle.cancel()
    await asyncio.sleep(0.3)  # its lease ends, whatever the time travel
    await redsched_kit.run_due()
    events = await redsched_kit.scheduler.get_history(handle.id)
    assert fires_told(events, "cancelled") == {(fires[0], fires[4], 5)}


async def test_each_fire_of_a_batch_that_is_cancelled_while_it_waits_is_told(redsched_kit: Kit) -> None:
    handle, fires = await batch_of_a_worker_that_hangs(redsched_kit)
    await asyncio.sleep(0.3)  # its lease ends, whatever the time travel
    idle = redsched_kit.scheduler.make_worker()
    idle._prepare()
    await idle.loops[0].turn(claim=False)  # the run is recovered, and waits
    assert await handle.cancel()
    events = await redsched_kit.scheduler.get_history(handle.id)
    assert fires_told(events, "cancelled") == {(fires[0], fires[4], 5)}


async def test_each_fire_of_a_batch_that_is_cancelled_while_it_runs_is_told(redsched_kit: Kit) -> None:
    scheduler = redsched_kit.scheduler
    begun = asyncio.Event()

    async def long() -> None:
        begun.set()
        await asyncio.sleep(60)

    scheduler.register(long, name="long")
    start = await scheduler.now() + timedelta(minutes=1)
    end = start + timedelta(minutes=4)
    handle = await scheduler.schedule_interval("a", long, minutes=1, start=start, end=end, coalesce=False)
    await redsched_kit.travel(minutes=10)
    await scheduler.start()
    await asyncio.wait_for(begun.wait(), 5)
    await handle.cancel()
    await redsched_kit.wait_for("cancelled", handle.id, count=3)
    events = await scheduler.get_history(handle.id)
    assert fires_told(events, "cancelled") == {
        (start, start, 1), (start + timedelta(minutes=1), end, 4),
    }  # fmt: skip
