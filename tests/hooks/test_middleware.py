"""Middleware around each attempt: what it sees, what it may change, and what it cannot break."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncGenerator
from typing import Any

import pytest

from redsched import (
    BackgroundTaskScheduler,
    CallNext,
    CircuitBreakerPolicy,
    CircuitOpenError,
    CurrentRun,
    InvalidInputError,
    Outcome,
    Reason,
    RetryPolicy,
    TaskTimeoutError,
    current_run,
)
from redsched.testing import Kit, fresh_prefix

seen: list[Any] = []
begun = asyncio.Event()


@pytest.fixture(autouse=True)
def _fresh() -> None:
    global begun
    seen.clear()
    begun = asyncio.Event()


@pytest.fixture
async def live(redsched_url: str) -> AsyncGenerator[BackgroundTaskScheduler]:
    """A scheduler whose worker serves."""
    scheduler = BackgroundTaskScheduler(redsched_url, fresh_prefix())
    async with scheduler:
        yield scheduler
        await scheduler.clear_all_jobs()


async def bake(number: int = 1) -> int:
    seen.append("task")
    return number


async def fail_once() -> str:
    if current_run().attempt == 1:
        raise ValueError("bad dough")
    return "baked"


async def hang() -> None:
    begun.set()
    await asyncio.sleep(60)


def in_thread() -> int:
    return threading.get_ident()


def in_process() -> int:
    return os.getpid()


async def end_of(the_kit: Kit, task: Any, **options: Any) -> Any:
    handle = await the_kit.scheduler.schedule_immediate_task("bake", task, **options)
    await the_kit.run_due()
    return await handle.result(timeout=10)


async def note_end(run: CurrentRun, call_next: CallNext) -> Any:
    try:
        result = await call_next()
    except BaseException as error:
        seen.append((run.attempt, type(error)))
        raise
    seen.append((run.attempt, result))
    return result


async def test_the_first_that_was_added_is_outermost(redsched_kit: Kit) -> None:
    for name in "ab":

        @redsched_kit.scheduler.add_middleware
        async def around(run: CurrentRun, call_next: CallNext, name: str = name) -> Any:
            seen.append(f"{name} before")
            result = await call_next()
            seen.append(f"{name} after")
            return result

    assert (await end_of(redsched_kit, bake, args=[7])).result == 7
    assert seen == ["a before", "b before", "task", "b after", "a after"]


async def test_it_sees_the_run_that_its_task_sees(redsched_kit: Kit) -> None:
    @redsched_kit.scheduler.add_middleware
    async def around(run: CurrentRun, call_next: CallNext) -> Any:
        seen.append((run.context, current_run().context))
        return await call_next()

    handle = await redsched_kit.scheduler.schedule_immediate_task("bake", bake, tags=["oven"])
    await redsched_kit.run_due()
    [(given, current), _] = seen
    assert given == current
    assert (given.job_id, given.name, given.tags, given.attempt) == (handle.id, "bake", ("oven",), 1)


async def test_it_is_around_each_attempt_and_sees_its_exception(redsched_kit: Kit) -> None:
    redsched_kit.scheduler.add_middleware(note_end)
    retry = RetryPolicy(max_attempts=2, initial_delay=1)
    handle = await redsched_kit.scheduler.schedule_immediate_task("bake", fail_once, retry=retry)
    await redsched_kit.advance(seconds=5)
    assert (await handle.result(timeout=5)).result == "baked"
    assert seen == [(1, ValueError), (2, "baked")]


async def test_what_it_returns_is_the_result(redsched_kit: Kit) -> None:
    @redsched_kit.scheduler.add_middleware
    async def double(run: CurrentRun, call_next: CallNext) -> Any:
        return 2 * await call_next()

    assert (await end_of(redsched_kit, bake, args=[7])).result == 14


async def test_one_that_does_not_call_the_task_answers_for_it(redsched_kit: Kit) -> None:
    @redsched_kit.scheduler.add_middleware
    async def answer(run: CurrentRun, call_next: CallNext) -> Any:
        return "known"

    result = await end_of(redsched_kit, bake)
    assert (result.outcome, result.result, seen) == (Outcome.DONE, "known", [])


@pytest.mark.parametrize("when", ["before", "after"])
async def test_an_error_of_a_middleware_fails_the_attempt_and_its_retry_policy_applies(
    redsched_kit: Kit, when: str
) -> None:
    @redsched_kit.scheduler.add_middleware
    async def broken(run: CurrentRun, call_next: CallNext) -> Any:
        if run.attempt == 1 and when == "before":
            raise LookupError("no ticket")
        result = await call_next()
        if run.attempt == 1:
            raise LookupError("no receipt")
        return result

    handle = await redsched_kit.scheduler.schedule_immediate_task(
        "bake", bake, retry=RetryPolicy(max_attempts=2, initial_delay=1, retry_on=(LookupError,))
    )
    await redsched_kit.advance(seconds=5)
    result = await handle.result(timeout=5)
    assert (result.outcome, result.attempt) == (Outcome.DONE, 2)
    assert seen == ["task"] * (1 if when == "before" else 2)


async def test_an_error_that_it_catches_does_not_fail_the_attempt(redsched_kit: Kit) -> None:
    @redsched_kit.scheduler.add_middleware
    async def calm(run: CurrentRun, call_next: CallNext) -> Any:
        try:
            return await call_next()
        except ValueError as error:
            return str(error)

    assert (await end_of(redsched_kit, fail_once)).result == "bad dough"


async def test_the_task_is_called_once_an_attempt(redsched_kit: Kit) -> None:
    @redsched_kit.scheduler.add_middleware
    async def twice(run: CurrentRun, call_next: CallNext) -> Any:
        await call_next()
        return await call_next()

    result = await end_of(redsched_kit, bake)
    assert result.outcome is Outcome.DEAD
    assert "call_next twice" in (result.error or "")
    assert seen == ["task"]


async def test_it_sees_a_timeout_as_the_error_that_it_is_and_its_own_time_does_not_count(redsched_kit: Kit) -> None:
    @redsched_kit.scheduler.add_middleware
    async def slow(run: CurrentRun, call_next: CallNext) -> Any:
        await asyncio.sleep(0.15)
        return await call_next()

    redsched_kit.scheduler.add_middleware(note_end)
    assert (await end_of(redsched_kit, bake, timeout=0.1)).outcome is Outcome.DONE
    result = await end_of(redsched_kit, hang, timeout=0.1)
    assert (result.outcome, result.reason) == (Outcome.DEAD, Reason.TIMEOUT)
    assert seen[-1] == (1, TaskTimeoutError)


async def test_it_sees_an_open_circuit_and_the_run_is_postponed_as_without_it(redsched_kit: Kit) -> None:
    redsched_kit.scheduler.add_middleware(note_end)
    options: dict[str, Any] = {"circuit_breaker": CircuitBreakerPolicy(failure_threshold=1, name="oven")}
    await end_of(redsched_kit, fail_once, **options)
    handle = await redsched_kit.scheduler.schedule_immediate_task("bake", bake, **options)
    await redsched_kit.run_due()
    assert seen == [(1, ValueError), (1, CircuitOpenError)]
    job = await redsched_kit.scheduler.get_job(handle.id)
    assert job is not None
    assert job.next_run_time is not None


@pytest.mark.parametrize("how", ["passes", "swallows", "replaces"])
async def test_a_cancellation_cannot_be_kept_from_its_worker(live: BackgroundTaskScheduler, how: str) -> None:
    @live.add_middleware
    async def stubborn(run: CurrentRun, call_next: CallNext) -> Any:
        try:
            return await call_next()
        except asyncio.CancelledError as error:
            seen.append("cancelled")
            if how == "passes":
                raise
            if how == "replaces":
                raise LookupError("no session") from error
            return "nothing happened"

    handle = await live.schedule_immediate_task("hang", hang, max_attempts=3)
    await begun.wait()
    await handle.cancel()
    result = await handle.result(timeout=10)
    assert (result.outcome, seen) == (Outcome.CANCELLED, ["cancelled"])


async def test_a_run_that_is_stopped_before_its_task_begins_does_not_begin_it(live: BackgroundTaskScheduler) -> None:
    @live.add_middleware
    async def deaf(run: CurrentRun, call_next: CallNext) -> Any:
        begun.set()
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            seen.append("cancelled")
        return await call_next()

    handle = await live.schedule_immediate_task("bake", bake)
    await begun.wait()
    await handle.cancel()
    assert (await handle.result(timeout=10)).outcome is Outcome.CANCELLED
    assert seen == ["cancelled"]


async def test_a_run_that_is_given_back_at_a_shutdown_uses_no_attempt_whatever_a_middleware_raises(
    redsched_url: str,
) -> None:
    prefix = fresh_prefix()
    first = BackgroundTaskScheduler(redsched_url, prefix)

    @first.add_middleware
    async def broken(run: CurrentRun, call_next: CallNext) -> Any:
        try:
            return await call_next()
        finally:
            raise LookupError("the trace cannot be sent")

    await first.start()
    handle = await first.schedule_immediate_task("hang", hang)
    await begun.wait()
    await first.shutdown(wait=False)
    second = BackgroundTaskScheduler(redsched_url, prefix)
    kinds = [event.kind for event in await second.get_history(handle.id)]
    assert kinds[-1] == "released"
    assert "dead" not in kinds
    await second.clear_all_jobs()
    await second.shutdown()


async def test_it_is_on_the_event_loop_wherever_its_task_runs(redsched_kit: Kit) -> None:
    @redsched_kit.scheduler.add_middleware
    async def where(run: CurrentRun, call_next: CallNext) -> Any:
        seen.append((os.getpid(), threading.get_ident()))
        return await call_next()

    thread = (await end_of(redsched_kit, in_thread)).result
    process = (await end_of(redsched_kit, in_process, executor="processpool")).result
    assert thread != threading.get_ident()
    assert process != os.getpid()
    assert seen == 2 * [(os.getpid(), threading.get_ident())]


async def test_each_fire_of_a_batch_has_its_own_call(redsched_kit: Kit) -> None:
    @redsched_kit.scheduler.add_middleware
    async def note_run(run: CurrentRun, call_next: CallNext) -> Any:
        seen.append(run.context.run_id)
        return await call_next()

    await redsched_kit.scheduler.schedule_interval("bake", bake, minutes=1, coalesce=False, misfire_grace_time=None)
    await redsched_kit.travel(minutes=3, seconds=1)
    await redsched_kit.run_due()
    ids = [entry for entry in seen if entry != "task"]
    assert len(ids) == len(set(ids)) == 3


@pytest.mark.parametrize("given", [None, "middleware", in_thread, lambda run, call_next: None])
async def test_what_is_not_a_coroutine_function_is_refused(redsched_kit: Kit, given: Any) -> None:
    with pytest.raises(InvalidInputError, match="pass a coroutine function"):
        redsched_kit.scheduler.add_middleware(given)
    with pytest.raises(InvalidInputError, match="pass a coroutine function"):
        redsched_kit.scheduler.add_scheduling_middleware(given)


async def test_without_middleware_the_executor_is_called_as_it_is(
    redsched_kit: Kit, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run without any hook pays a comparison: none of the code of hooks is called."""
    from redsched.worker import attempt

    def refuse(*_: Any) -> Any:
        raise AssertionError("code of a hook was called")

    monkeypatch.setattr(attempt, "through", refuse)
    monkeypatch.setattr(attempt, "_provided", refuse)
    monkeypatch.setattr(attempt, "_call_within_policies", refuse)
    assert (await end_of(redsched_kit, bake, args=[3])).result == 3
