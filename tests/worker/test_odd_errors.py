"""Whatever a task raises: its run fails like any other, its slot is free, and its worker serves on."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator
from typing import Any

import pytest

from redsched import BackgroundTaskScheduler, CustomTaskExecutor, RetryPolicy, TaskFailureHandler
from redsched.testing import fresh_prefix
from tests.invariants import check


class Base(BaseException):
    """None of Python's own."""


class NoText(BaseException):
    def __str__(self) -> str:
        raise GeneratorExit

    __repr__ = __str__


class CancelledText(Exception):
    def __str__(self) -> str:
        raise asyncio.CancelledError

    __repr__ = __str__


KINDS: dict[str, BaseException] = {
    "generator exit": GeneratorExit("mine"),
    "system exit": SystemExit(3),
    "cancelled": asyncio.CancelledError("mine"),
    "stop iteration": StopIteration("mine"),
    "stop async iteration": StopAsyncIteration("mine"),
    "base": Base("mine"),
    "no text": NoText(),
    "cancelled text": CancelledText(),
    "group": ExceptionGroup("several", [ValueError("one"), OSError("two")]),
    "base group": BaseExceptionGroup("several", [GeneratorExit("one"), SystemExit(2), Base("three")]),
}


class Calls(CustomTaskExecutor):
    async def execute_task(self, task_func: Any, *args: Any, **kwargs: Any) -> Any:
        return await task_func(*args, **kwargs)


class Raises(CustomTaskExecutor):
    """The executor itself raises."""

    async def execute_task(self, task_func: Any, *args: Any, **kwargs: Any) -> Any:
        raise KINDS[args[0]]


async def on_the_loop(kind: str) -> None:
    raise KINDS[kind]


async def after_a_while(kind: str) -> None:
    await asyncio.sleep(0)
    raise KINDS[kind]


def in_a_thread(kind: str) -> None:
    raise KINDS[kind]


async def fine(*_: str) -> str:
    return "fine"


WAYS: dict[str, tuple[Any, dict[str, Any]]] = {
    "coroutine": (on_the_loop, {}),
    "coroutine that waited": (after_a_while, {}),
    "coroutine with a timeout": (after_a_while, {"timeout": 5.0}),
    "thread": (in_a_thread, {}),
    "thread with a timeout": (in_a_thread, {"timeout": 5.0}),
    "process": (in_a_thread, {"executor": "processpool"}),
    "custom, coroutine": (after_a_while, {"executor": "calls"}),
    "custom, plain": (in_a_thread, {"executor": "calls"}),
    "custom itself": (fine, {"executor": "raises"}),
}


@pytest.fixture
async def scheduler(redsched_url: str) -> AsyncIterator[BackgroundTaskScheduler]:
    made = BackgroundTaskScheduler(
        redsched_url, fresh_prefix(), concurrency=1, processes=1, declared_tasks=False,
        executors={"calls": Calls(), "raises": Raises()},
    )  # fmt: skip
    for task in (on_the_loop, after_a_while, in_a_thread):
        made.register(task)
    async with made:
        yield made
        await made.clear_all_jobs()
        await check(await made.store())


@pytest.mark.parametrize("way", WAYS)
async def test_whatever_it_is_the_run_fails_as_any_other_and_its_slot_is_free(
    scheduler: BackgroundTaskScheduler, way: str
) -> None:
    """With one slot: what kept it would be the last run of this worker."""
    task, options = WAYS[way]
    for kind in KINDS:
        if way.startswith("custom itself"):
            await scheduler.schedule_immediate_task("fine", fine, job_id=kind, args=[kind], **options)
        else:
            retry = RetryPolicy(max_attempts=2, initial_delay=0.01, retry_on=(Exception, BaseException))
            await scheduler.schedule_immediate_task("odd", task, job_id=kind, args=[kind], retry=retry, **options)
        result = await scheduler.wait_for_result(kind, timeout=20)
        assert result.outcome == "dead", kind
        assert result.reason == ("task_failed" if way == "custom itself" else "attempts_used_up"), kind
        assert result.error, kind
        assert scheduler.worker is not None
        assert scheduler.worker.capacity.holding == 0
        assert scheduler.worker.slots.busy == 0
    assert (await (await scheduler.schedule_immediate_task("fine", fine)).result(timeout=10)).result == "fine"


async def test_a_keyboard_interrupt_of_a_thread_is_no_ctrl_c(scheduler: BackgroundTaskScheduler) -> None:
    KINDS["interrupt"] = KeyboardInterrupt("mine")
    try:
        for options in ({}, {"executor": "processpool"}, {"executor": "calls"}):
            handle = await scheduler.schedule_immediate_task("odd", in_a_thread, args=["interrupt"], **options)
            result = await handle.result(timeout=20)
            assert result.outcome == "dead"
            assert (await (await scheduler.schedule_immediate_task("fine", fine)).result(timeout=10)).success
    finally:
        del KINDS["interrupt"]


INTERRUPTED = """
import asyncio, sys
from redsched import BackgroundTaskScheduler

async def interrupts():
    raise KeyboardInterrupt

async def main():
    scheduler = BackgroundTaskScheduler(sys.argv[1], sys.argv[2], declared_tasks=False)
    await scheduler.start()
    await scheduler.schedule_immediate_task("interrupts", interrupts)
    await asyncio.sleep(30)

asyncio.run(main())
"""


def test_a_keyboard_interrupt_in_a_coroutine_ends_the_process(redsched_url: str) -> None:
    """It cannot be told from Ctrl-C, which an event loop without asyncio.Runner raises in whatever it executes."""
    script = [sys.executable, "-c", INTERRUPTED, redsched_url, fresh_prefix()]
    ended = subprocess.run(script, capture_output=True, timeout=20, check=False)
    assert ended.returncode != 0
    assert b"KeyboardInterrupt" in ended.stderr


async def test_a_handler_that_raises_what_is_no_exception_ends_nothing(scheduler: BackgroundTaskScheduler) -> None:
    class Cruel(TaskFailureHandler):
        async def handle_task_success(self, task_name: str, result: Any, context: dict[str, Any]) -> None:
            raise KINDS[result]

    async def says(kind: str) -> str:
        return kind

    scheduler.add_failure_handler(Cruel())
    for kind in KINDS:
        if kind != "cancelled":
            handle = await scheduler.schedule_immediate_task("says", says, args=[kind])
            assert (await handle.result(timeout=10)).result == kind
    await asyncio.sleep(0.05)
    assert scheduler.worker is not None
    assert scheduler.worker.serving
