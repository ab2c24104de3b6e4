"""A task is done when its code has run, however it is wrapped."""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

from redsched import InvalidInputError
from redsched.testing import Kit

ran: list[str] = []


def plainly(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def wrapper(*args: Any) -> Any:
        return function(*args)

    return wrapper


async def bake() -> str:
    ran.append("bake")
    return "baked"


@plainly
async def decorated() -> str:
    return await bake()


def returns_a_coroutine() -> Any:
    return bake()


def numbers() -> Iterator[int]:
    yield 1


async def later() -> AsyncIterator[int]:
    yield 1


@plainly
def hidden() -> Iterator[int]:
    yield 1


def a_set() -> set[int]:
    return {1}


@pytest.mark.parametrize("task", [decorated, returns_a_coroutine, functools.partial(returns_a_coroutine)])
async def test_what_a_plain_function_returns_to_be_awaited_is_awaited(redsched_kit: Kit, task: Any) -> None:
    ran.clear()
    handle = await redsched_kit.scheduler.schedule_immediate_task("job", task)
    await redsched_kit.run_due()
    assert (await handle.result(timeout=5)).result == "baked"
    assert ran == ["bake"]


@pytest.mark.parametrize("task", [numbers, later, functools.partial(numbers)])
async def test_a_generator_function_is_refused_at_registration(redsched_kit: Kit, task: Any) -> None:
    with pytest.raises(InvalidInputError, match="has a yield"):
        redsched_kit.scheduler.register(task, name="task")


@pytest.mark.parametrize("executor", ["default", "processpool"])
async def test_a_generator_behind_a_decorator_fails_its_run(redsched_kit: Kit, executor: str) -> None:
    handle = await redsched_kit.scheduler.schedule_immediate_task("job", hidden, executor=executor)
    await redsched_kit.run_due()
    assert "returned a generator" in ((await handle.result(timeout=5)).error or "")


async def test_a_result_that_is_not_kept_says_so_and_is_logged_once_a_task(redsched_kit: Kit, caplog: Any) -> None:
    for _ in range(2):
        handle = await redsched_kit.scheduler.schedule_immediate_task("job", a_set)
    await redsched_kit.run_due()
    found = await handle.result(timeout=5)
    assert found.success
    assert "the result is not kept" in (found.error or "")
    assert caplog.text.count("is not kept") == 1


async def test_an_int_that_is_too_long_is_refused_with_the_limits(redsched_kit: Kit) -> None:
    with pytest.raises(InvalidInputError, match="65 bits, beyond"):
        await redsched_kit.scheduler.schedule_immediate_task("job", print, args=[2**64])


async def test_one_result_that_cannot_be_read_does_not_hide_the_others(redsched_kit: Kit) -> None:
    scheduler = redsched_kit.scheduler
    good = await scheduler.schedule_immediate_task("job", bake)
    bad = await scheduler.schedule_immediate_task("job", bake)
    await redsched_kit.run_due()
    store = await scheduler.store()
    await store.link.command("SET", store.shards[0].keys.result(bad.id), b"\xc1")
    found = {one.job_id: one for one in await scheduler.get_results()}
    assert found[good.id].result == "baked"
    assert "cannot be read" in (found[bad.id].error or "")
