"""Runs share tasks of asyncio, and feel nothing of each other; what is claimed ahead begins in time, or elsewhere."""

from __future__ import annotations

import asyncio
import contextvars
import time
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest

from redsched import BackgroundTaskScheduler, JobSpec, current_run
from redsched.testing import Kit
from redsched.worker.slots import _is
from redsched.worker.worker import Worker
from tests.faults.gate import Gate
from tests.invariants import check

gate = Gate()
ran: list[object] = []
tasks: list[object] = []
shared: contextvars.ContextVar[str] = contextvars.ContextVar("shared", default="untouched")


async def short(number: int) -> None:
    ran.append(number)
    tasks.append(asyncio.current_task())


async def waits(number: int) -> None:
    ran.append(number)
    await gate.wait()


async def looks_and_changes(text: str) -> None:
    ran.append(shared.get())
    shared.set(text)


async def leaves_a_task_behind() -> None:
    async def later() -> None:
        await gate.wait()
        ran.append(current_run().job_id)

    tasks.append(asyncio.create_task(later()))


async def cancels_itself() -> None:
    task = asyncio.current_task()
    assert task is not None
    task.cancel()


async def asks_how_often_it_was_cancelled() -> None:
    task = asyncio.current_task()
    assert task is not None
    ran.append(task.cancelling())
    await asyncio.sleep(0)


@pytest.fixture
async def kit(redsched_kit: Kit) -> AsyncIterator[Kit]:
    ran.clear()
    tasks.clear()
    gate.close()
    for task in (
        short,
        waits,
        looks_and_changes,
        leaves_a_task_behind,
        cancels_itself,
        asks_how_often_it_was_cancelled,
    ):
        redsched_kit.scheduler.register(task)
    yield redsched_kit
    gate.open()
    await check(await redsched_kit.scheduler.store())


async def worker_of(kit: Kit, concurrency: int) -> Worker:
    scheduler = BackgroundTaskScheduler(
        kit.scheduler.redis_url, kit.scheduler.prefix, concurrency=concurrency, declared_tasks=False
    )
    scheduler.register(short)
    scheduler.register(waits)
    await scheduler.store()
    worker = scheduler.make_worker()
    worker._prepare()
    return worker


async def end(worker: Worker) -> None:
    gate.open()
    await worker.slots.idle()
    await worker.loops[0].flush()
    await worker.store.close()


async def schedule(kit: Kit, task: object, count: int) -> None:
    specs = [JobSpec("job", task, args=[n]) for n in range(count)]  # type: ignore[arg-type]
    await kit.scheduler.schedule_many(specs)


async def begun(count: int) -> None:
    """Wait until so many runs have begun."""
    async with asyncio.timeout(5):
        while len(ran) < count:
            await asyncio.sleep(0)


async def test_runs_that_never_wait_are_executed_by_one_task(kit: Kit) -> None:
    await schedule(kit, short, 50)
    await kit.run_due()
    assert sorted(map(str, ran)) == sorted(map(str, range(50)))
    assert len(set(tasks)) <= 3, "a task for all runs that a poll brings; a loaded machine may need more than one poll"


async def test_a_run_that_waits_holds_back_none(kit: Kit) -> None:
    worker = await worker_of(kit, 20)
    await schedule(kit, waits, 20)
    await worker.loops[0].turn()
    await begun(20)
    assert worker.slots.busy == 20
    await end(worker)
    assert sorted(map(str, ran)) == sorted(map(str, range(20)))


async def test_a_context_variable_that_a_run_sets_is_seen_by_no_other(kit: Kit) -> None:
    await kit.scheduler.schedule_many([JobSpec("job", looks_and_changes, args=[f"by {n}"]) for n in range(5)])
    await kit.run_due()
    assert ran == ["untouched"] * 5


async def test_a_task_that_outlives_its_run_still_knows_it(kit: Kit) -> None:
    first = await kit.scheduler.schedule_immediate_task("first", leaves_a_task_behind)
    await kit.scheduler.schedule_immediate_task("second", short, args=[1])
    await kit.run_due()
    gate.open()
    await asyncio.gather(*(task for task in tasks[:1] if isinstance(task, asyncio.Task)))
    assert ran == [1, first.id]


async def test_a_cancelled_run_takes_none_with_it(kit: Kit) -> None:
    broken = await kit.scheduler.schedule_immediate_task("job", cancels_itself)
    await kit.scheduler.schedule_immediate_task("job", asks_how_often_it_was_cancelled)
    await kit.run_due()
    assert ran == [0]
    assert (await kit.scheduler.get_history(broken.id))[-1].kind == "done", "it ended before it was cancelled"


async def test_what_is_claimed_ahead_waits_for_a_slot(kit: Kit) -> None:
    worker = await worker_of(kit, 2)
    worker.capacity.ahead = 3
    await schedule(kit, waits, 9)
    await worker.loops[0].turn()
    await begun(2)
    assert (len(worker.loops[0].held), worker.slots.busy, len(worker.slots.waiting)) == (5, 2, 3)
    order = [run.id for run in worker.loops[0].held.values()]
    executed = [run.id for run in worker.loops[0].held.values() if run.waiter is not None]
    assert executed == order[:2], "the first claimed begin first"
    await end(worker)
    assert len(ran) == 5
    await kit.run_due()
    assert sorted(map(str, ran)) == sorted(map(str, range(9)))


async def test_what_waits_long_for_a_slot_is_given_to_others_as_if_it_had_not_been_claimed(kit: Kit) -> None:
    worker = await worker_of(kit, 1)
    worker.capacity.ahead = 2
    now = await kit.now()
    await kit.scheduler.schedule_many(
        [JobSpec("job", waits, args=[n], run_at=now, misfire_grace_time=60, job_id=f"job-{n}") for n in range(3)]
    )
    await worker.loops[0].turn()
    await begun(1)
    worker.give_back(time.monotonic() + 1)
    assert worker.capacity.ahead == 0
    await worker.loops[0].flush()
    assert [event.reason for event in await kit.scheduler.get_history("job-2") if event.kind == "released"] == ["busy"]
    assert (await kit.scheduler.get_job("job-1")).state == "scheduled"  # type: ignore[union-attr]
    await kit.travel(timedelta(minutes=2))
    await kit.run_due()
    events = await kit.scheduler.get_history("job-1")
    assert (events[-1].kind, events[-1].reason) == ("missed", "misfire"), "it was never begun, so this is a misfire"
    await end(worker)
    assert ran == [0]


async def test_a_misfire_of_what_was_claimed_ahead_is_seen_when_it_would_begin(kit: Kit) -> None:
    worker = await worker_of(kit, 1)
    worker.capacity.ahead = 1
    now = await kit.now()
    for name, grace in (("first", None), ("second", 60)):
        await kit.scheduler.schedule_at(name, waits, now, args=[name], job_id=name, misfire_grace_time=grace)
    await worker.loops[0].turn()
    await begun(1)
    await kit.travel(timedelta(minutes=2))
    await worker.loops[0].turn(claim=False)  # from which it knows of the time
    await end(worker)
    assert ran == ["first"]
    assert (await kit.scheduler.get_history("second"))[-1].reason == "misfire"


async def test_a_worker_that_stops_gives_back_at_once_what_waits_for_a_slot(kit: Kit) -> None:
    worker = await worker_of(kit, 1)
    worker.capacity.ahead = 2
    await schedule(kit, waits, 3)
    await worker.loops[0].turn()
    await begun(1)
    stopping = asyncio.create_task(worker.stop(grace=10))
    await asyncio.sleep(0)
    assert len(worker.loops[0].held) == 1
    await worker.loops[0].flush()
    gate.open()
    await kit.run_due()
    assert sorted(map(str, ran)) == ["0", "1", "2"]
    await stopping
    await end(worker)


async def test_a_worker_with_short_runs_claims_ahead_and_one_with_long_ones_does_not(kit: Kit) -> None:
    worker = await worker_of(kit, 10)
    await schedule(kit, short, 60)
    for _ in range(3):
        await worker.loops[0].turn()
        await worker.slots.idle()
    assert worker.capacity.ahead > 10
    await worker.slots.idle()
    await worker.loops[0].flush()
    await schedule(kit, waits, 60)
    await worker.loops[0].turn()
    await worker.loops[0].turn()
    for run in worker.slots.waiting:
        run.claimed -= 0.01
    ahead = worker.capacity.ahead
    worker.capacity.pace(worker.slots, time.monotonic(), more=True)
    assert worker.capacity.ahead == ahead // 2
    gate.open()
    while worker.loops[0].held:
        await worker.slots.idle()
        await worker.loops[0].flush()
    await worker.store.close()


@pytest.mark.parametrize(("duration_ms", "ahead"), [(0.0, 8), (100.0, 5), (10_000.0, 0)])
async def test_no_more_is_claimed_ahead_than_would_begin_soon(kit: Kit, duration_ms: float, ahead: int) -> None:
    worker = await worker_of(kit, 100)
    worker.capacity.duration_ms = duration_ms
    worker.capacity.pace(worker.slots, time.monotonic(), more=True)
    assert worker.capacity.ahead == ahead
    await worker.store.close()


def test_a_context_variable_that_was_given_an_equal_value_counts_as_changed() -> None:
    variable: contextvars.ContextVar[list[int]] = contextvars.ContextVar("variable")
    variable.set([])
    before = list(contextvars.copy_context().items())
    assert _is(before)
    variable.set([])
    assert not _is(before)
