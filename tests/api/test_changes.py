"""What can be done to a job after it was scheduled: pause, change, end, run, replace, find."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from redsched import (
    BackgroundTaskScheduler,
    ConflictingIdError,
    InvalidInputError,
    InvalidScheduleError,
    JobHandle,
    JobLookupError,
    JobSpec,
    JobView,
    SchedulerStateError,
    State,
    current_run,
)
from redsched.store.transitions import Shard
from redsched.testing import Kit, fresh_prefix, kit

MAY = datetime(2031, 5, 1, tzinfo=UTC)
ran: list[tuple[Any, ...]] = []
fired: list[datetime] = []


async def note(*args: Any) -> None:
    ran.append(args)
    fired.append(current_run().fire_time)


async def other(*args: Any) -> None:
    ran.append(("other", *args))


async def fail() -> None:
    raise RuntimeError("no")


@pytest.fixture(autouse=True)
def _nothing_ran() -> None:
    ran.clear()
    fired.clear()


@pytest.fixture
async def live(redsched_kit: Kit) -> AsyncIterator[BackgroundTaskScheduler]:
    """The kit's scheduler, with a worker that serves."""
    await redsched_kit.scheduler.start()
    yield redsched_kit.scheduler


class Gate:
    """A task that goes on when the test lets it."""

    def __init__(self) -> None:
        self.started = asyncio.Event()
        self.open = asyncio.Event()
        self.ended: list[str] = []

    async def task(self) -> str:
        self.started.set()
        try:
            await self.open.wait()
        except asyncio.CancelledError:
            self.ended.append("stopped")
            raise
        self.ended.append("finished")
        return "finished"


async def get(handle: JobHandle) -> JobView:
    view = await handle.get()
    assert view is not None
    return view


async def due(handle: JobHandle) -> datetime | None:
    return (await get(handle)).next_run_time


# -- pause, resume --------------------------------------------------------------------------------------------------


async def test_what_passes_while_a_periodic_job_is_paused_leaves_no_trace(redsched_kit: Kit) -> None:
    await redsched_kit.travel_to(MAY)
    for coalesce in (True, False):
        handle = await redsched_kit.scheduler.schedule_cron("hourly", note, "0 * * * *", coalesce=coalesce)
        await handle.pause()
        view = await get(handle)
        assert (view.state, view.next_run_time) == (State.PAUSED, None)
        before = await redsched_kit.now()
        assert await redsched_kit.advance(hours=5, minutes=30) == 0
        view = await handle.resume()
        assert view is not None
        next_hour = (before + timedelta(hours=6)).replace(minute=0, second=0, microsecond=0)
        assert (view.state, view.next_run_time) == (State.SCHEDULED, next_hour)
        assert await redsched_kit.run_due() == 0
        await handle.cancel()
        await redsched_kit.travel_to((await redsched_kit.now()).replace(minute=0) + timedelta(hours=1))


async def test_a_paused_interval_comes_back_to_its_grid(redsched_kit: Kit) -> None:
    await redsched_kit.travel_to(MAY)
    handle = await redsched_kit.scheduler.schedule_interval("grid", note, minutes=10, start=MAY)
    await handle.pause()
    await redsched_kit.advance(minutes=34)
    await handle.resume()
    assert await due(handle) == MAY + timedelta(minutes=40)


async def test_a_paused_one_shot_job_keeps_its_time_even_when_that_has_passed(redsched_kit: Kit) -> None:
    await redsched_kit.travel_to(MAY)
    scheduler = redsched_kit.scheduler
    ahead = await scheduler.schedule_at("ahead", note, MAY + timedelta(hours=5), args=["ahead"])
    past = await scheduler.schedule_at("past", note, MAY + timedelta(hours=1), args=["past"])
    await ahead.pause()
    await past.pause()
    assert await redsched_kit.advance(hours=3) == 0
    for handle in (ahead, past):
        await handle.resume()
    assert await redsched_kit.run_due() == 1
    assert (ran, fired) == ([("past",)], [MAY + timedelta(hours=1)])
    assert await due(ahead) == MAY + timedelta(hours=5)


async def test_a_one_shot_job_that_is_added_paused_runs_at_its_time_when_it_is_resumed(redsched_kit: Kit) -> None:
    await redsched_kit.travel_to(MAY)
    at = MAY + timedelta(hours=5)
    handle = await redsched_kit.scheduler.schedule_at("asleep", note, at, next_run_time=None)
    assert (await get(handle)).state == State.PAUSED
    await redsched_kit.advance(hours=1)
    await handle.resume()
    view = await get(handle)
    assert (view.state, view.next_run_time) == (State.SCHEDULED, at)


async def test_a_job_that_is_paused_by_modify_can_be_resumed(redsched_kit: Kit) -> None:
    await redsched_kit.travel_to(MAY)
    scheduler, at = redsched_kit.scheduler, MAY + timedelta(hours=5)
    once = await scheduler.schedule_at("once", note, at)
    again = await scheduler.schedule_cron("cron", note, "0 6 * * *")
    for handle, expected in ((once, at), (again, MAY + timedelta(hours=6))):
        view = await scheduler.modify_job(handle.id, next_run_time=None)
        assert (view.state, view.next_run_time) == (State.PAUSED, None)
        view = await handle.resume()
        assert view is not None
        assert (view.state, view.next_run_time) == (State.SCHEDULED, expected)


async def test_resuming_a_job_whose_schedule_has_ended_ends_it(redsched_kit: Kit) -> None:
    await redsched_kit.travel_to(MAY)
    handle = await redsched_kit.scheduler.schedule_cron("ends", note, "0 6 * * *", end=MAY + timedelta(hours=12))
    await handle.pause()
    await redsched_kit.advance(days=1)
    assert await handle.resume() is None
    assert await handle.get() is None


# -- reschedule, modify ---------------------------------------------------------------------------------------------


async def test_reschedule_computes_the_next_run_from_now_drops_what_is_overdue_and_resumes(redsched_kit: Kit) -> None:
    await redsched_kit.travel_to(MAY)
    scheduler = redsched_kit.scheduler
    handle = await scheduler.schedule_interval("job", note, hours=1)
    await redsched_kit.travel(hours=5)
    now = await redsched_kit.now()
    view = await scheduler.reschedule_job(handle.id, interval=timedelta(minutes=5))
    assert view is not None
    assert view.next_run_time is not None
    assert timedelta(minutes=5) <= view.next_run_time - now < timedelta(minutes=5, seconds=2)
    assert await redsched_kit.run_due() == 0
    await handle.pause()
    view = await scheduler.reschedule_job(handle.id, cron="30 8 * * *", timezone="Asia/Tokyo")
    assert view is not None
    assert view.state == State.SCHEDULED
    assert view.next_run_time == datetime(2031, 5, 1, 23, 30, tzinfo=UTC)
    assert view.timezone == "Asia/Tokyo"
    view = await scheduler.reschedule_job(handle.id, run_at=MAY + timedelta(days=2))
    assert view is not None
    assert await redsched_kit.advance(days=9) == 1
    assert await handle.get() is None


async def test_a_wrong_new_schedule_changes_nothing(redsched_kit: Kit) -> None:
    scheduler = redsched_kit.scheduler
    handle = await scheduler.schedule_cron("job", note, "0 * * * *")
    before = await get(handle)
    for error, change in (
        (InvalidScheduleError, {"cron": "61 * * * *"}),
        (InvalidScheduleError, {"cron": "0 0 30 2 *"}),
        (InvalidInputError, {"interval": -1}),
        (InvalidInputError, {"cron": "0 * * * *", "interval": 5}),
        (InvalidInputError, {}),
        (InvalidInputError, {"cron": "0 * * * *", "colour": "red"}),
        (InvalidInputError, {"run_at": "soon"}),
    ):
        with pytest.raises(error):
            await scheduler.reschedule_job(handle.id, **change)
    assert await get(handle) == before


async def test_modify_changes_what_is_named_and_nothing_else(redsched_kit: Kit) -> None:
    scheduler = redsched_kit.scheduler
    handle = await scheduler.schedule_interval(
        "job", note, hours=1, args=[1, "two"], tags=["a", "b"], max_instances=3, max_attempts=4, timeout=7
    )
    before = await get(handle)
    view = await scheduler.modify_job(handle.id, args=[5], tags=["b", "c"], timeout=None, coalesce=False)
    assert view == await get(handle)
    assert (view.args, view.tags, view.timeout, view.coalesce) == ((5,), ("b", "c"), None, False)
    assert (view.max_instances, view.max_attempts, view.name) == (3, 4, "job")
    assert (view.next_run_time, view.schedule) == (before.next_run_time, before.schedule)
    assert [v.id for v in await scheduler.get_jobs(tag="c")] == [handle.id]
    assert await scheduler.get_jobs(tag="a") == []
    view = await scheduler.modify_job(handle.id, task=other, kwargs={}, name="renamed", max_instances=1, max_runs=1)
    assert (view.name, view.max_instances, view.runs_left) == ("renamed", 1, 1)
    assert await redsched_kit.advance(hours=3) == 1
    assert ran == [("other", 5)]


async def test_a_job_can_be_moved_to_another_queue(redsched_kit: Kit) -> None:
    scheduler = redsched_kit.scheduler
    handle = await scheduler.schedule_delayed_task("job", note, 60)
    view = await scheduler.modify_job(handle.id, queue="reports")
    assert view.queue == "reports"
    assert await redsched_kit.advance(hours=1) == 0  # this worker serves only the default queue
    view = await scheduler.modify_job(handle.id, queue="default")
    assert await redsched_kit.run_due() == 1


async def test_a_new_next_run_time_moves_one_run_or_the_whole_grid_of_an_interval(redsched_kit: Kit) -> None:
    await redsched_kit.travel_to(MAY)
    scheduler, at = redsched_kit.scheduler, MAY + timedelta(minutes=17)
    interval = await scheduler.schedule_interval("interval", note, hours=1)
    once = await scheduler.schedule_delayed_task("once", other, delay_minutes=100)
    await scheduler.modify_job(interval.id, next_run_time=at)
    await scheduler.modify_job(once.id, next_run_time="2031-05-01T00:18:00")
    assert await redsched_kit.advance(hours=2, minutes=20) == 4
    assert fired == [at + timedelta(hours=n) for n in range(3)]


async def test_a_change_is_answered_though_the_job_runs_and_ends_before_the_answer_is_there(
    redsched_kit: Kit, monkeypatch: pytest.MonkeyPatch
) -> None:
    modify = Shard.modify

    async def slow_reply(*args: Any, **how: Any) -> Any:
        reply = await modify(*args, **how)
        await redsched_kit.run_due()
        return reply

    monkeypatch.setattr(Shard, "modify", slow_reply)
    scheduler = redsched_kit.scheduler
    handle = await scheduler.schedule_delayed_task("later", note, delay_seconds=3600, tags=["a"])
    now = await scheduler.now()
    view = await scheduler.modify_job(handle.id, next_run_time=now, args=["new"], tags=["b"])
    assert ran == [("new",)]
    assert await handle.get() is None
    assert (view.next_run_time, view.args, view.tags, view.state) == (now, ("new",), ("b",), State.SCHEDULED)


async def test_a_wrong_change_changes_nothing(redsched_kit: Kit) -> None:
    scheduler = redsched_kit.scheduler
    handle = await scheduler.schedule_delayed_task("job", note, 60, args=[1])
    before = await get(handle)
    for field, value in (
        ("args", 5), ("args", [object()]), ("kwargs", []), ("kwargs", {1: 2}), ("tags", "a"), ("queue", "a b"),
        ("max_instances", 0), ("timeout", -1), ("next_run_time", "soon"), ("task", "print"), ("name", ""),
        ("colour", "red"), ("max_runs", 3),
    ):  # fmt: skip
        with pytest.raises(InvalidInputError, match=field):
            await scheduler.modify_job(handle.id, **{field: value})
    with pytest.raises(InvalidInputError):
        await scheduler.modify_job(handle.id)
    assert await get(handle) == before


# -- remove, cancel -------------------------------------------------------------------------------------------------


async def test_removing_a_job_lets_its_running_instance_finish(
    redsched_kit: Kit, live: BackgroundTaskScheduler
) -> None:
    once, again = Gate(), Gate()
    one = await live.schedule_immediate_task("once", once.task)
    two = await live.schedule_interval("again", again.task, 0.05)
    for gate, handle in ((once, one), (again, two)):
        await asyncio.wait_for(gate.started.wait(), 5)
        await handle.remove()
        gate.open.set()
        await redsched_kit.wait_for("done", handle.id)
        assert gate.ended == ["finished"]
        assert await handle.get() is None


async def test_cancelling_a_job_stops_its_running_instance(redsched_kit: Kit, live: BackgroundTaskScheduler) -> None:
    once, again = Gate(), Gate()
    one = await live.schedule_immediate_task("once", once.task)
    two = await live.schedule_interval("again", again.task, 0.05, tags=["t"])
    await asyncio.wait_for(once.started.wait(), 5)
    assert await one.cancel()
    assert not await live.cancel("no such job")
    await asyncio.wait_for(again.started.wait(), 5)
    assert await live.cancel(tag="t")
    for gate, handle in ((once, one), (again, two)):
        await redsched_kit.wait_for("cancelled", handle.id)
        await until(lambda gate=gate: gate.ended == ["stopped"])
        await until(lambda handle=handle: gone(handle))


async def gone(handle: JobHandle) -> bool:
    return await handle.get() is None


async def until(condition: Callable[[], bool | Awaitable[bool]], seconds: float = 5.0) -> None:
    async with asyncio.timeout(seconds):
        while True:
            met = condition()
            if met if isinstance(met, bool) else await met:
                return
            await asyncio.sleep(0.01)


async def test_fifteen_hundred_jobs_of_one_tag_are_cancelled_by_one_call(redsched_kit: Kit) -> None:
    scheduler = redsched_kit.scheduler
    await scheduler.schedule_many(
        JobSpec("many", note, delay=60, job_id=f"j{n}", tags=["all", f"t{n % 2}"]) for n in range(1500)
    )
    kept = await scheduler.schedule_delayed_task("kept", note, 60, tags=["t0"])
    assert sorted(await scheduler.cancel_jobs(tag="all")) == sorted(f"j{n}" for n in range(1500))
    assert await scheduler.cancel_jobs(tag="all") == []
    assert [view.id for view in await scheduler.get_jobs()] == [kept.id]
    assert [view.id for view in await scheduler.get_jobs(tag="t0")] == [kept.id]


async def test_cancel_takes_either_ids_or_a_tag(redsched_kit: Kit) -> None:
    scheduler = redsched_kit.scheduler
    for n in range(3):
        await scheduler.schedule_delayed_task("job", note, 60, job_id=f"j{n}")
    with pytest.raises(InvalidInputError):
        await scheduler.cancel()
    with pytest.raises(InvalidInputError):
        await scheduler.cancel("j1", tag="t")
    assert sorted(await scheduler.cancel_jobs(ids=["j0", "j2", "none", "j0"])) == ["j0", "j2"]
    assert await redsched_kit.advance(minutes=5) == 1


# -- run now --------------------------------------------------------------------------------------------------------


async def test_run_now_brings_the_only_run_of_a_one_shot_job_forward(redsched_kit: Kit) -> None:
    handle = await redsched_kit.scheduler.schedule_delayed_task("once", note, delay_minutes=60)
    await handle.run_now()
    assert await redsched_kit.run_due() == 1
    assert await redsched_kit.advance(hours=2) == 0


async def test_run_now_runs_a_periodic_job_beside_its_schedule(redsched_kit: Kit) -> None:
    handle = await redsched_kit.scheduler.schedule_interval("job", note, hours=1)
    at = await due(handle)
    run_id = await handle.run_now()
    assert run_id.startswith(f"{handle.id}@")
    assert await redsched_kit.run_due() == 1
    assert await due(handle) == at
    assert await redsched_kit.advance(hours=1, seconds=2) == 1


async def test_run_now_runs_a_paused_job_once_and_leaves_it_paused(redsched_kit: Kit) -> None:
    scheduler = redsched_kit.scheduler
    again = await scheduler.schedule_interval("again", note, hours=1)
    once = await scheduler.schedule_delayed_task("once", note, delay_minutes=60)
    for handle in (again, once):
        await handle.pause()
        await handle.run_now()
        assert await redsched_kit.run_due() == 1
        assert (await get(handle)).state == State.PAUSED
    assert await redsched_kit.advance(hours=5) == 0


async def test_run_now_of_a_running_one_shot_job_is_another_run_after_it(
    redsched_kit: Kit, live: BackgroundTaskScheduler
) -> None:
    gate = Gate()
    handle = await live.schedule_immediate_task("once", gate.task)
    await asyncio.wait_for(gate.started.wait(), 5)
    gate.started.clear()
    await handle.run_now()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(gate.started.wait(), 0.2)  # max_instances is 1
    gate.open.set()
    await redsched_kit.wait_for("done", handle.id)
    await redsched_kit.travel(seconds=2)
    await redsched_kit.wait_for("done", handle.id, count=2)
    assert gate.ended == ["finished"] * 2
    await until(lambda: gone(handle))


async def test_what_run_now_started_is_tried_again_in_the_queue_of_its_job(redsched_url: str) -> None:
    scheduler = BackgroundTaskScheduler(redsched_url, fresh_prefix(), queues=["reports"], declared_tasks=False)
    async with kit(scheduler) as made:
        handle = await scheduler.schedule_interval("job", fail, days=1, queue="reports", max_attempts=3)
        await handle.run_now()
        assert await made.advance(minutes=1) == 3
        assert (await made.wait_for("dead", handle.id)).reason == "attempts_used_up"


# -- replace, ids, find ---------------------------------------------------------------------------------------------


async def test_a_taken_id_is_refused_kept_or_replaced_as_asked(redsched_kit: Kit) -> None:
    scheduler = redsched_kit.scheduler
    first = await scheduler.schedule_delayed_task("first", note, 60, job_id="id", tags=["old"], queue="q")
    with pytest.raises(ConflictingIdError, match="'id'"):
        await scheduler.schedule_delayed_task("second", note, 60, job_id="id")
    kept = await scheduler.schedule_delayed_task("second", note, 90, job_id="id", replace_existing="keep")
    assert (first.status, kept.status, (await get(kept)).name) == ("added", "kept", "first")
    new = await scheduler.schedule_interval("third", note, 90, job_id="id", replace_existing=True)
    view = await get(new)
    assert (new.status, view.name, view.tags, view.queue) == ("replaced", "third", (), "default")
    assert await scheduler.get_jobs(tag="old") == []
    assert await redsched_kit.advance(seconds=80) == 0  # the old time is gone
    assert await redsched_kit.advance(seconds=15) == 1


async def test_a_job_that_is_replaced_while_it_runs_finishes_and_the_new_one_runs_too(
    redsched_kit: Kit, live: BackgroundTaskScheduler
) -> None:
    gate = Gate()
    handle = await live.schedule_immediate_task("old", gate.task, job_id="id")
    await asyncio.wait_for(gate.started.wait(), 5)
    with pytest.raises(ConflictingIdError):
        await live.schedule_immediate_task("new", note, job_id="id")
    await live.schedule_delayed_task("new", note, 3600, job_id="id", args=["new"], replace_existing=True)
    gate.open.set()
    await redsched_kit.wait_for("done", handle.id)
    await redsched_kit.travel(hours=1)
    await redsched_kit.wait_for("done", handle.id, count=2)
    assert (gate.ended, ran) == (["finished"], [("new",)])
    await until(lambda: gone(handle))


async def test_a_new_run_that_is_due_while_the_replaced_one_runs_counts_against_max_instances(
    redsched_kit: Kit, live: BackgroundTaskScheduler
) -> None:
    gate = Gate()
    handle = await live.schedule_immediate_task("old", gate.task, job_id="id")
    await asyncio.wait_for(gate.started.wait(), 5)
    await live.schedule_immediate_task("new", note, job_id="id", replace_existing=True)
    assert (await redsched_kit.wait_for("skipped", handle.id)).reason == "max_instances"
    gate.open.set()
    await redsched_kit.wait_for("done", handle.id)
    await until(lambda: gone(handle))
    assert ran == []


async def test_a_dead_job_keeps_nobody_from_its_id(redsched_kit: Kit) -> None:
    scheduler = redsched_kit.scheduler
    handle = await scheduler.schedule_immediate_task("dies", fail, job_id="id")
    await redsched_kit.run_due()
    assert (await get(handle)).state == State.DEAD
    assert [view.id for view in await scheduler.get_dead()] == ["id"]
    for call in (handle.pause, handle.resume, handle.run_now):
        with pytest.raises(JobLookupError):
            await call()
    again = await scheduler.schedule_immediate_task("lives", note, job_id="id")
    assert await scheduler.get_dead() == []
    assert await redsched_kit.run_due() == 1
    assert await again.get() is None


async def test_ids_are_generated_and_never_the_same(redsched_kit: Kit) -> None:
    handles = [await redsched_kit.scheduler.schedule_delayed_task("job", note, 60) for _ in range(50)]
    assert len({handle.id for handle in handles}) == 50
    for job_id in ("ünï:cödé {x}", "a@b", "x" * 512):
        assert (await redsched_kit.scheduler.schedule_delayed_task("job", note, 60, job_id=job_id)).id == job_id
        view = await redsched_kit.scheduler.get_job(job_id)
        assert view is not None
        assert view.id == job_id
    assert await redsched_kit.advance(minutes=2) == 53


async def test_jobs_are_found_by_tag_queue_and_state_in_the_order_of_their_next_run(redsched_kit: Kit) -> None:
    scheduler = redsched_kit.scheduler
    await scheduler.schedule_delayed_task("b", note, 200, job_id="b", tags=["x"], queue="q")
    await scheduler.schedule_delayed_task("a", note, 100, job_id="a", tags=["x", "y"])
    await scheduler.schedule_delayed_task("p", note, 10, job_id="p", tags=["y"])
    await scheduler.schedule_immediate_task("d", fail, job_id="d")
    await redsched_kit.run_due()
    await scheduler.pause_job("p")

    async def ids(**filters: Any) -> list[str]:
        return [view.id for view in await scheduler.get_jobs(**filters)]

    assert await ids() == ["a", "b", "d", "p"]
    assert await ids(tag="x") == ["a", "b"]
    assert await ids(tag="x", queue="q") == ["b"]
    assert await ids(queue="default", state="paused") == ["p"]
    assert await ids(state=State.DEAD) == ["d"]
    assert await ids(state="scheduled") == ["a", "b"]
    assert await ids(tag="none") == []
    with pytest.raises(InvalidInputError, match="state"):
        await scheduler.get_jobs(state="asleep")


async def test_what_is_done_to_a_job_that_is_not_there_raises_a_lookup_error(redsched_kit: Kit) -> None:
    scheduler = redsched_kit.scheduler
    for call in (scheduler.pause_job, scheduler.resume_job, scheduler.remove_job, scheduler.run_now):
        with pytest.raises(JobLookupError, match="'none'"):
            await call("none")
    with pytest.raises(JobLookupError, match="'none'"):
        await scheduler.modify_job("none", args=[1])
    with pytest.raises(JobLookupError, match="'none'"):
        await scheduler.reschedule_job("none", interval=5)
    with pytest.raises(JobLookupError, match="'none'"):
        await scheduler.wait_for_result("none", timeout=1)
    assert await scheduler.get_job("none") is None


async def test_a_job_whose_last_run_is_under_way_cannot_be_paused(
    redsched_kit: Kit, live: BackgroundTaskScheduler
) -> None:
    gate = Gate()
    handle = await live.schedule_immediate_task("once", gate.task)
    await asyncio.wait_for(gate.started.wait(), 5)
    assert (await get(handle)).state == State.RUNNING
    with pytest.raises(SchedulerStateError, match="last time"):
        await handle.pause()
    gate.open.set()
    assert (await handle.result(timeout=5)).result == "finished"
