"""A task is done when its code has run, however it is wrapped."""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Any

import pytest
from pydantic import BaseModel

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
    with pytest.raises(InvalidInputError, match="is a generator function"):
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
    assert found.error is None
    assert "the result is not kept" in (found.result_note or "")
    assert "Return a list of its items" in (found.result_note or "")
    assert caplog.text.count("is not kept") == 1


class Pizza(BaseModel):
    name: str = "margherita"


@dataclass
class Order:
    number: int = 1


class AttrsLike:
    """What the attrs package makes of a class has this field."""

    __attrs_attrs__ = ()


class Oven(Enum):
    WOOD = "wood"


REFUSED: dict[str, tuple[Any, str]] = {
    "a pydantic model": (Pizza(), "its model_dump(mode='json')."),
    "a dataclass": (Order(), "its dataclasses.asdict()."),
    "a class of attrs": (AttrsLike(), "its attrs.asdict()."),
    "an enum": (Oven.WOOD, "its value."),
    "a set": ({1}, "a list of its items."),
    "an int too large": (2**64, "an int from -2**63 to 2**64 - 1, or this one as a str or Decimal."),
    "an int too small": (-(2**63) - 1, "an int from -2**63 to 2**64 - 1, or this one as a str or Decimal."),
    "an object": (object(), "plain data"),
    "a class": (Pizza, "plain data"),
    "tuple keys": ({(1, 2): 3}, "Pass a list of pairs instead."),
}


@pytest.mark.parametrize("kind", REFUSED)
@pytest.mark.parametrize("nested", [False, True], ids=["alone", "nested"])
async def test_what_cannot_be_stored_is_refused_with_what_to_pass_instead(
    redsched_kit: Kit, kind: str, nested: bool
) -> None:
    scheduler, (given, remedy) = redsched_kit.scheduler, REFUSED[kind]
    given = {"here": [given]} if nested else given
    ways: list[dict[str, Any]] = [{"args": [given]}, {"kwargs": {"end": given}}]
    for how in ways:
        with pytest.raises(InvalidInputError) as caught:
            await scheduler.schedule_immediate_task("job", print, **how)
        assert remedy in str(caught.value)
        if "int" in kind:
            assert "plain data" not in str(caught.value), "it is an int, so it would be among what may be passed"
    assert await scheduler.get_jobs() == []


given_back: list[Any] = []


def give_back() -> Any:
    return given_back[0]


@pytest.mark.parametrize("kind", [*REFUSED, "too large"])
async def test_a_result_that_cannot_be_stored_is_a_run_that_is_done_with_a_note(redsched_kit: Kit, kind: str) -> None:
    value, remedy = REFUSED.get(kind, ("x" * 300_000, "return its key"))
    given_back[:] = [value]
    handle = await redsched_kit.scheduler.schedule_immediate_task("job", give_back)
    good = await redsched_kit.scheduler.schedule_immediate_task("job", bake)
    await redsched_kit.run_due()
    found = await handle.result(timeout=5)
    assert (found.success, found.result, found.error) == (True, None, None)
    assert "the result is not kept: " in (found.result_note or "")
    assert remedy in (found.result_note or "")
    listed = {one.job_id: one for one in await redsched_kit.scheduler.get_results()}
    assert listed[handle.id].result_note == found.result_note
    assert (listed[good.id].result, listed[good.id].result_note) == ("baked", None)


class Caller:
    async def __call__(self) -> str:
        return await bake()


class Giver:
    def __call__(self) -> Any:
        return bake()

    async def method(self) -> str:
        return await bake()


@pytest.mark.parametrize(
    "task",
    [
        functools.partial(bake), functools.partial(functools.partial(decorated)), Caller(), functools.partial(Caller()),
        Giver(), functools.partial(Giver()), Giver().method, functools.partial(Giver().method), lambda: bake(),  # noqa: PLW0108  what it returns is to be awaited
    ],
)  # fmt: skip
async def test_an_async_callable_behind_partials_and_objects_is_awaited(redsched_kit: Kit, task: Any) -> None:
    ran.clear()
    handle = await redsched_kit.scheduler.schedule_immediate_task("job", task)
    await redsched_kit.run_due()
    assert (await handle.result(timeout=5)).result == "baked"
    assert ran == ["bake"]


async def test_one_result_that_cannot_be_read_does_not_hide_the_others(redsched_kit: Kit) -> None:
    scheduler = redsched_kit.scheduler
    good = await scheduler.schedule_immediate_task("job", bake)
    bad = await scheduler.schedule_immediate_task("job", bake)
    await redsched_kit.run_due()
    store = await scheduler.store()
    await store.link.command("SET", store.shards[0].keys.result(bad.id), b"\xc1")
    found = {one.job_id: one for one in await scheduler.get_results()}
    assert found[good.id].result == "baked"
    assert "cannot be read" in (found[bad.id].result_note or "")
    assert found[bad.id].error is None
