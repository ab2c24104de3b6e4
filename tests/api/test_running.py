"""What becomes of a run: its result, its retries, what it can know and tell, and who runs it when."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from redsched import (
    BackgroundTaskScheduler,
    Event,
    JobHandle,
    JobView,
    ResultTimeoutError,
    RetryPolicy,
    SchedulerStateError,
    State,
    current_run,
)
from redsched.testing import Kit, fresh_prefix, kit

MAY = datetime(2031, 5, 1, tzinfo=UTC)
fired: list[datetime] = []
attempts: list[int] = []
order: list[str] = []


async def note() -> None:
    fired.append(current_run().fire_time)


async def give(value: Any = None) -> Any:
    return value


async def raise_value_error() -> None:
    raise ValueError("bad dough")


async def hang() -> None:
    await asyncio.sleep(60)


async def return_object() -> object:
    return object()


async def fail_until(attempt: int, kind: str = "ValueError") -> int:
    now = current_run().attempt
    attempts.append(now)
    if now < attempt:
        raise {"ValueError": ValueError, "KeyError": KeyError, "LookupError": LookupError}[kind]("not yet")
    return now


async def enlist(name: str) -> None:
    order.append(name)


def in_a_thread() -> tuple[int, str]:
    return threading.get_ident(), current_run().job_id


@pytest.fixture(autouse=True)
def _nothing_ran() -> None:
    fired.clear()
    attempts.clear()
    order.clear()


@pytest.fixture
async def live(redsched_kit: Kit) -> AsyncIterator[BackgroundTaskScheduler]:
    """The kit's scheduler, with a worker that serves."""
    await redsched_kit.scheduler.start()
    yield redsched_kit.scheduler


async def get(handle: JobHandle) -> JobView:
    view = await handle.get()
    assert view is not None
    return view


async def until(condition: Callable[[], bool | Awaitable[bool]], seconds: float = 5.0) -> None:
    async with asyncio.timeout(seconds):
        while True:
            met = condition()
            if met if isinstance(met, bool) else await met:
                return
            await asyncio.sleep(0.01)


# -- results --------------------------------------------------------------------------------------------------------


async def test_what_a_task_returns_can_be_awaited_while_it_runs_and_afterwards(
    redsched_kit: Kit, live: BackgroundTaskScheduler
) -> None:
    value = {"pizza": ["salami", 2], "at": MAY, "none": None, "bytes": b"\0\xff"}
    handle = await live.schedule_immediate_task("value", give, args=[value], job_id="v")
    for _ in range(2):
        result = await handle.result(timeout=5)
        assert (result.success, result.result, result.outcome, result.error) == (True, value, "done", None)
        assert result.task_name.endswith("test_running.give")
        assert result.attempt == 1
    nothing = await (await live.schedule_immediate_task("none", give)).result(timeout=timedelta(seconds=5))
    assert (nothing.success, nothing.result) == (True, None)


@pytest.mark.parametrize(
    ("task", "options", "reason", "error"),
    [
        (raise_value_error, {}, "task_failed", "ValueError: bad dough"),
        (raise_value_error, {"max_attempts": 1}, "task_failed", "ValueError: bad dough"),
        (hang, {"timeout": 0.05}, "timeout", "TaskTimeoutError: the task ran longer than its timeout of 0.05 s"),
    ],
)
async def test_a_run_that_fails_says_why_and_is_kept_dead(
    redsched_kit: Kit, task: Callable[[], Any], options: dict[str, Any], reason: str, error: str
) -> None:
    handle = await redsched_kit.scheduler.schedule_immediate_task("fails", task, **options)
    await redsched_kit.run_due()
    result = await handle.result(timeout=5)
    assert (result.success, result.outcome, result.reason, result.error) == (False, "dead", reason, error)
    assert result.error_type == error.partition(":")[0]
    view = await get(handle)
    assert (view.state, view.reason, view.error) == (State.DEAD, reason, error)


async def test_a_result_that_cannot_be_encoded_is_dropped_with_the_reason_and_the_run_is_done(
    redsched_kit: Kit,
) -> None:
    handle = await redsched_kit.scheduler.schedule_immediate_task("object", return_object)
    await redsched_kit.run_due()
    result = await handle.result(timeout=5)
    assert (result.success, result.result) == (True, None)
    assert result.error is None
    assert "not kept" in (result.result_note or "")


async def test_who_waits_too_short_a_time_is_told_and_the_run_goes_on(redsched_kit: Kit) -> None:
    handle = await redsched_kit.scheduler.schedule_delayed_task("later", give, 60, args=[5])
    with pytest.raises(ResultTimeoutError, match=r"0\.05 s"):
        await handle.result(timeout=0.05)
    await redsched_kit.advance(minutes=1)
    assert (await handle.result(timeout=5)).result == 5


# -- retries --------------------------------------------------------------------------------------------------------


async def test_each_wait_before_a_retry_is_longer_than_the_last_and_in_redis(redsched_kit: Kit) -> None:
    policy = RetryPolicy(max_attempts=4, initial_delay=10, backoff_factor=3, max_delay=50, jitter=0)
    handle = await redsched_kit.scheduler.schedule_immediate_task("retried", fail_until, args=[4], retry=policy)
    for wait in (10, 30, 50):
        assert await redsched_kit.run_due() == 1
        at = (await get(handle)).next_run_time
        assert at is not None
        assert wait - 1 < (at - await redsched_kit.now()).total_seconds() <= wait
        await redsched_kit.travel(seconds=wait)
    assert await redsched_kit.run_due() == 1
    assert attempts == [1, 2, 3, 4]
    result = await handle.result(timeout=5)
    assert (result.result, result.attempt) == (4, 4)


async def test_a_retry_is_made_by_another_worker_when_the_first_is_gone(redsched_kit: Kit, redsched_url: str) -> None:
    scheduler = redsched_kit.scheduler
    handle = await scheduler.schedule_interval(
        "retried", fail_until, hours=1, args=[2], retry=RetryPolicy(2, initial_delay=300, jitter=0)
    )
    assert await redsched_kit.advance(hours=1, seconds=1) == 1
    assert (await get(handle)).waiting == 1
    second = BackgroundTaskScheduler(redsched_url, scheduler.prefix, declared_tasks=False)
    second.register(fail_until)
    async with kit(second, clean=False) as elsewhere:
        assert await elsewhere.run_due() == 0
        assert await elsewhere.advance(minutes=6) == 1
    assert attempts == [1, 2]


async def test_only_exceptions_of_retry_on_and_their_subclasses_are_tried_again(redsched_kit: Kit) -> None:
    policy = RetryPolicy(5, initial_delay=1, retry_on=(LookupError,))
    scheduler = redsched_kit.scheduler
    other = await scheduler.schedule_immediate_task("other", fail_until, args=[3, "ValueError"], retry=policy)
    await redsched_kit.advance(minutes=1)
    assert (await other.result(timeout=5)).reason == "task_failed"
    assert attempts == [1]
    attempts.clear()
    below = await scheduler.schedule_immediate_task("below", fail_until, args=[3, "KeyError"], retry=policy)
    await redsched_kit.advance(minutes=1)
    assert (await below.result(timeout=5)).result == 3
    used_up = await scheduler.schedule_immediate_task("all", fail_until, args=[9], max_attempts=2)
    await redsched_kit.advance(minutes=1)
    result = await used_up.result(timeout=5)
    assert (result.reason, result.attempt) == ("attempts_used_up", 2)


# -- late, overdue, too many ----------------------------------------------------------------------------------------


async def test_a_run_exactly_at_its_grace_time_runs_and_later_is_missed(redsched_kit: Kit) -> None:
    await redsched_kit.travel_to(MAY)
    handle = await redsched_kit.scheduler.schedule_interval(
        "graced", note, hours=1, start=MAY + timedelta(hours=1), misfire_grace_time=600
    )
    await redsched_kit.travel(minutes=69)
    assert await redsched_kit.run_due() == 1
    await redsched_kit.travel_to(MAY + timedelta(hours=2, minutes=11))
    await redsched_kit.run_due()
    assert fired == [MAY + timedelta(hours=1)]
    event = await redsched_kit.wait_for("missed", handle.id)
    assert (event.reason, event.fire_time) == ("misfire", MAY + timedelta(hours=2))
    assert (await get(handle)).next_run_time == MAY + timedelta(hours=3)


async def test_of_overdue_fires_the_newest_runs_and_the_others_are_counted_as_coalesced(
    redsched_kit: Kit, live: BackgroundTaskScheduler
) -> None:
    await redsched_kit.travel_to(MAY)
    handle = await live.schedule_interval("hourly", note, hours=1, start=MAY + timedelta(hours=1))
    await redsched_kit.travel(hours=5, minutes=30)
    await redsched_kit.wait_for("done", handle.id)
    event = await redsched_kit.wait_for("coalesced", handle.id)
    assert (event.count, event.fire_time, event.last_fire_time) == (
        4, MAY + timedelta(hours=1), MAY + timedelta(hours=4),
    )  # fmt: skip
    assert fired == [MAY + timedelta(hours=5)]


async def test_without_coalesce_every_overdue_fire_runs_in_order(
    redsched_kit: Kit, live: BackgroundTaskScheduler
) -> None:
    await redsched_kit.travel_to(MAY)
    handle = await live.schedule_interval("hourly", note, hours=1, start=MAY + timedelta(hours=1), coalesce=False)
    await redsched_kit.travel(hours=5, minutes=30)
    await redsched_kit.wait_for("done", handle.id, count=5)
    assert fired == [MAY + timedelta(hours=n) for n in range(1, 6)]
    assert not [event for event in redsched_kit.events if event.kind in ("coalesced", "skipped", "missed")]


@pytest.mark.parametrize("limit", [1, 2])
async def test_no_more_instances_than_allowed_run_at_once_and_the_skipped_fire_is_told(
    redsched_kit: Kit, live: BackgroundTaskScheduler, limit: int
) -> None:
    opened, running = asyncio.Event(), 0

    async def wait() -> None:
        nonlocal running
        running += 1
        await opened.wait()
        running -= 1

    handle = await live.schedule_interval("slow", wait, hours=1, max_instances=limit)
    for n in range(1, limit + 1):
        await redsched_kit.travel(hours=1)
        await redsched_kit.wait_for("claimed", handle.id, count=n)
    await until(lambda: running == limit)
    assert (await get(handle)).running == limit
    await redsched_kit.travel(hours=1)
    event = await redsched_kit.wait_for("skipped", handle.id)
    assert (event.reason, event.count, running) == ("max_instances", 1, limit)
    opened.set()
    await redsched_kit.wait_for("done", handle.id, count=limit)
    await redsched_kit.travel(hours=1)
    await redsched_kit.wait_for("done", handle.id, count=limit + 1)


@pytest.mark.parametrize("delivery", ["at_least_once", "at_most_once"])
async def test_a_run_whose_worker_died_starts_again_only_if_it_may(redsched_url: str, delivery: str) -> None:
    started: list[int] = []

    async def work() -> None:
        started.append(current_run().attempt)
        if len(started) == 1:
            await asyncio.sleep(60)

    prefix = fresh_prefix()
    first, second = (BackgroundTaskScheduler(redsched_url, prefix, lease=0.3, declared_tasks=False) for _ in range(2))
    for scheduler in (first, second):
        scheduler.register(work, name="work")
    async with kit(first):
        await first.start()
        handle = await first.schedule_immediate_task("job", work, delivery=delivery)
        await until(lambda: len(started) == 1)
        assert first._serving is not None
        serving = first._serving.task
        assert serving is not None
        serving.cancel()  # it settles nothing more: its lease runs out
        await asyncio.wait((serving,))
        async with second:
            result = await handle.result(timeout=5)
    if delivery == "at_least_once":
        assert result.success
        assert len(started) == 2
    else:
        assert (result.outcome, result.reason, len(started)) == ("dead", "at_most_once", 1)


# -- what a run knows and tells -------------------------------------------------------------------------------------


async def test_a_plain_function_runs_in_a_thread_and_knows_its_run(redsched_kit: Kit) -> None:
    handle = await redsched_kit.scheduler.schedule_immediate_task("sync", in_a_thread)
    await redsched_kit.run_due()
    thread, job_id = (await handle.result(timeout=5)).result
    assert thread != threading.get_ident()
    assert job_id == handle.id


async def test_a_task_knows_its_run_and_its_progress_is_seen_by_others(
    redsched_kit: Kit, live: BackgroundTaskScheduler
) -> None:
    told, go_on, contexts = asyncio.Event(), asyncio.Event(), []

    async def bake() -> None:
        contexts.append(current_run().context)
        await current_run().report_progress({"done": 5, "of": 8})
        told.set()
        await go_on.wait()

    live.register(bake, name="bake")
    await redsched_kit.travel_to(MAY)
    handle = await live.schedule_at(
        "job", bake, MAY + timedelta(hours=1), tags=["oven"], timeout=30, timezone="Europe/Rome"
    )
    await redsched_kit.travel(hours=1)
    await asyncio.wait_for(told.wait(), 5)
    view = await get(handle)
    assert (view.state, view.progress, view.running, view.attempt) == (State.RUNNING, {"done": 5, "of": 8}, 1, 1)
    go_on.set()
    await handle.result(timeout=5)
    [context] = contexts
    assert (context.job_id, context.name, context.task, context.queue) == (handle.id, "job", "bake", "default")
    assert (context.attempt, context.tags, context.worker) == (1, ("oven",), live.id)
    assert context.fire_time == MAY + timedelta(hours=1)
    assert context.fire_time.utcoffset() == timedelta(hours=2)
    assert context.run_id == handle.id, "the only run of a one-shot job has the id of its job"
    assert context.deadline is not None
    assert timedelta(seconds=25) < context.deadline - await redsched_kit.now() <= timedelta(seconds=30)


async def test_fencing_tokens_only_grow(redsched_kit: Kit) -> None:
    tokens: list[int] = []

    async def note_token() -> None:
        tokens.append(current_run().fencing_token)

    await redsched_kit.scheduler.start()
    handle = await redsched_kit.scheduler.schedule_interval("job", note_token, 0.02, max_runs=5)
    await redsched_kit.wait_for("done", handle.id, count=5)
    assert tokens == sorted(set(tokens))


def test_outside_of_a_task_there_is_no_current_run() -> None:
    with pytest.raises(SchedulerStateError, match="task"):
        current_run()


async def test_listeners_of_every_kind_are_called_and_one_that_raises_harms_nobody(
    redsched_kit: Kit, live: BackgroundTaskScheduler
) -> None:
    heard: Counter[str] = Counter()

    def broken(event: Event) -> None:
        heard["broken"] += 1
        raise RuntimeError("broken listener")

    async def broken_too(event: Event) -> None:
        heard["broken_too"] += 1
        raise RuntimeError("broken listener")

    def sync(event: Event) -> None:
        heard["sync"] += 1

    async def only_done(event: Event) -> None:
        assert event.kind == "done"
        heard["only_done"] += 1

    for listener in (broken, broken_too, sync):
        live.add_listener(listener)
    live.add_listener(only_done, ["done"])
    first = await live.schedule_immediate_task("first", give)
    await redsched_kit.wait_for("done", first.id)
    await until(lambda: heard["only_done"] == 1)
    assert heard == {"broken": 3, "broken_too": 3, "sync": 3, "only_done": 1}  # scheduled, claimed, done
    for listener in (broken, broken_too, only_done):
        live.remove_listener(listener)
    second = await live.schedule_immediate_task("second", give)
    await redsched_kit.wait_for("done", second.id)
    await until(lambda: heard["sync"] == 6)
    assert heard == {"broken": 3, "broken_too": 3, "sync": 6, "only_done": 1}


async def test_history_tells_what_became_of_a_job_and_why(redsched_kit: Kit) -> None:
    scheduler = redsched_kit.scheduler
    await scheduler.schedule_immediate_task("another", give)
    policy = RetryPolicy(2, initial_delay=5, jitter=0)
    handle = await scheduler.schedule_immediate_task("job", fail_until, args=[9], retry=policy)
    await redsched_kit.advance(minutes=1)
    assert await scheduler.requeue(handle.id) == [handle.id]
    await scheduler.cancel(handle.id)
    events = await scheduler.get_history(handle.id)
    assert [(event.kind, event.reason, event.attempt) for event in events] == [
        ("scheduled", None, None),
        ("claimed", None, None),
        ("retry", "task_failed", 1),
        ("claimed", None, None),
        ("dead", "attempts_used_up", 2),
        ("requeued", "manual", None),
        ("cancelled", "cancelled", None),
    ]
    assert events[2].error == "ValueError: not yet"
    assert events[2].worker == scheduler.id
    assert [event.kind for event in await scheduler.get_history(handle.id, limit=1)] == ["cancelled"]
    assert len(await scheduler.get_history()) == 10


# -- queues, requeue ------------------------------------------------------------------------------------------------


async def test_a_worker_takes_from_the_queue_that_it_prefers_first_and_only_from_its_own(redsched_url: str) -> None:
    scheduler = BackgroundTaskScheduler(
        redsched_url, fresh_prefix(), queues=["express", "default"], concurrency=1, declared_tasks=False
    )
    async with kit(scheduler) as made:
        for queue in ("default", "express", "foreign"):
            for n in range(2):
                await scheduler.schedule_immediate_task("job", enlist, queue=queue, args=[f"{queue} {n}"])
        assert await made.run_due() == 4
        assert sorted(order[:2]) == ["express 0", "express 1"]
        assert sorted(order[2:]) == ["default 0", "default 1"]
        assert [view.queue for view in await scheduler.get_jobs()] == ["foreign"] * 2


async def test_dead_runs_can_be_given_another_life_with_all_their_attempts(redsched_kit: Kit) -> None:
    scheduler = redsched_kit.scheduler
    once = await scheduler.schedule_immediate_task("once", fail_until, args=[99], max_attempts=2)
    again = await scheduler.schedule_interval("again", fail_until, days=1, args=[99], max_attempts=2)
    await redsched_kit.advance(days=1, minutes=1)
    dead = [view.id for view in await scheduler.get_dead()]
    assert len(dead) == 2
    assert dead[1] == once.id
    assert dead[0].startswith(f"{again.id}@")
    assert await scheduler.requeue("none", *dead) == [*dead] or sorted(await scheduler.requeue()) == []
    assert await scheduler.get_dead() == []
    attempts.clear()
    await redsched_kit.advance(minutes=1)
    assert attempts == [1, 1, 2, 2]
    assert {view.id for view in await scheduler.get_dead()} == set(dead)
