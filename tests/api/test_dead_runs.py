"""What is kept of a run that ended dead: its error, and the end of its traceback, as a person needs them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from redsched import BackgroundTaskScheduler, CircuitBreakerPolicy, JobHandle, JobView
from redsched.testing import Kit


class Odd(Exception):
    def __str__(self) -> str:
        raise RuntimeError("its text cannot be made")


async def bake() -> None:
    heat()


def heat() -> None:
    raise LookupError("no basil")


def plain() -> None:
    heat()


async def deep(depth: int = 150) -> None:
    await deeper(depth)


async def deeper(depth: int) -> None:
    if depth == 0:
        heat()
    await deep(depth - 1)


async def long_text() -> None:
    raise ValueError("é" * 3000)


async def odd() -> None:
    raise Odd


async def chained() -> None:
    try:
        heat()
    except LookupError as error:
        raise RuntimeError("no pizza") from error


async def own_time_out() -> None:
    await asyncio.sleep(60)


async def fires_of_a_batch() -> None:
    heat()


@pytest.fixture
async def scheduler(redsched_kit: Kit) -> AsyncIterator[BackgroundTaskScheduler]:
    yield redsched_kit.scheduler


async def dead(kit: Kit, task: Any, **options: Any) -> JobView:
    handle: JobHandle = await kit.scheduler.schedule_immediate_task("job", task, **options)
    await kit.run_due()
    [view] = await kit.scheduler.get_dead()
    assert view.id == handle.id
    return view


@pytest.mark.parametrize("options", [{}, {"timeout": 50}, {"circuit_breaker": CircuitBreakerPolicy()}])
@pytest.mark.parametrize("task", [bake, plain])
async def test_a_traceback_begins_with_the_tasks_own_frame(redsched_kit: Kit, task: Any, options: Any) -> None:
    view = await dead(redsched_kit, task, **options)
    assert view.traceback is not None
    lines = view.traceback.splitlines()
    assert lines[0] == "Traceback (most recent call last):"
    assert lines[1].endswith(f"in {task.__name__}")
    assert lines[1].strip().startswith(f'File "{__file__}"')
    assert lines[-1] == "LookupError: no basil"
    assert "redsched/worker" not in view.traceback


async def test_a_child_process_gives_its_traceback(redsched_kit: Kit) -> None:
    view = await dead(redsched_kit, plain, executor="processpool")
    assert view.traceback is not None
    assert "in heat" in view.traceback
    assert view.traceback.rstrip().endswith("LookupError: no basil")


async def test_of_a_long_traceback_the_end_is_kept(redsched_kit: Kit) -> None:
    view = await dead(redsched_kit, deep)
    assert view.traceback is not None
    assert len(view.traceback.encode()) <= 8192 + 4
    assert view.traceback.startswith("...\n")
    assert "in heat" in view.traceback
    assert view.traceback.endswith("LookupError: no basil\n")


async def test_a_cause_is_in_the_traceback(redsched_kit: Kit) -> None:
    view = await dead(redsched_kit, chained)
    assert view.traceback is not None
    assert view.traceback.index("no basil") < view.traceback.index("no pizza")


async def test_a_timeout_shows_where_the_task_was(redsched_kit: Kit) -> None:
    view = await dead(redsched_kit, own_time_out, timeout=0.05)
    assert view.traceback is not None
    assert "in own_time_out" in view.traceback


async def test_an_error_whose_text_cannot_be_made_harms_nothing(redsched_kit: Kit) -> None:
    view = await dead(redsched_kit, odd)
    assert view.error is not None
    assert view.error.startswith("Odd: (its text cannot be had")
    assert view.traceback is not None


async def test_events_keep_the_beginning_of_an_error_and_the_dead_more_of_it(redsched_kit: Kit) -> None:
    view = await dead(redsched_kit, long_text, max_attempts=1)
    assert view.error == "ValueError: " + "é" * 988
    [event] = [event for event in await redsched_kit.scheduler.get_history(view.id) if event.kind == "dead"]
    assert event.error is not None
    assert event.error.startswith("ValueError: ééé")
    assert event.error.endswith("…")
    assert len(event.error.encode()) <= 500


async def test_each_fire_of_a_batch_keeps_its_traceback(redsched_kit: Kit) -> None:
    await redsched_kit.scheduler.schedule_interval("job", fires_of_a_batch, seconds=20, coalesce=False)
    await redsched_kit.travel(seconds=61)
    await redsched_kit.run_due()
    found = await redsched_kit.scheduler.get_dead()
    assert len(found) == 3
    assert all(view.traceback and "in heat" in view.traceback for view in found)


async def test_a_run_that_gets_another_life_has_no_traceback(redsched_kit: Kit) -> None:
    view = await dead(redsched_kit, bake)
    await redsched_kit.scheduler.requeue(view.id)
    again = await redsched_kit.scheduler.get_job(view.id)
    assert again is not None
    assert again.traceback is None
