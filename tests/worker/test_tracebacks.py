"""The traceback of a failed run, in the log and of a dead run, begins with the task's own frame."""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from redsched import RetryPolicy, TaskFailureHandler
from redsched.logs.formats import TextFormatter
from redsched.testing import Kit
from tests.worker.functions import chained, fail, grouped, in_a_loop


def broken() -> None:
    raise ValueError("as it should")


async def broken_coroutine() -> None:
    try:
        broken()
    except ValueError as error:
        raise KeyError("second") from error


@pytest.mark.parametrize(("task", "frames"), [(broken, ["broken"]), (broken_coroutine, ["broken_coroutine"])])
async def test_a_traceback_begins_with_the_task(
    redsched_kit: Kit, caplog: pytest.LogCaptureFixture, task: object, frames: list[str]
) -> None:
    caplog.set_level(logging.ERROR)
    await redsched_kit.scheduler.schedule_immediate_task("job", task)  # type: ignore[arg-type]
    await redsched_kit.run_due()
    [record] = [record for record in caplog.records if "failed" in record.getMessage()]
    assert record.exc_info is not None
    found, traceback = [], record.exc_info[2]
    while traceback is not None:
        found.append(traceback.tb_frame.f_code.co_name)
        traceback = traceback.tb_next
    assert found == frames
    assert (record.exc_info[1].__cause__ is not None) == (task is broken_coroutine)


# -- what is shown, in each place where a traceback is shown ----------------------------------------------------------

OURS = (
    "/redsched/worker/",
    "/redsched/policies/circuit_breaker.py",
    "/asyncio/",
    "/anyio/",
    "/concurrent/",
    "threading.py",
    "<frozen",
)


def stacks(text: str) -> Iterator[list[str]]:
    """The file lines of each stack of a traceback's text: those of causes, contexts and groups too."""
    stack: list[str] | None = None
    for line in [*text.splitlines(), "Traceback"]:
        plain = line.strip(" |+-")
        if "Traceback (most recent call last)" in line or plain.startswith("Traceback"):
            if stack:
                yield stack
            stack = []
        elif stack is not None and plain.startswith('File "'):
            stack.append(plain)


def check_begins_with_the_users(text: str, *needed: str) -> None:
    """Each stack begins in the tests, and none of the words is missing."""
    found = list(stacks(text))
    assert found, text
    for stack in found:
        assert "/tests/worker/" in stack[0], text
        assert not any(part in stack[0] for part in OURS), text
    for word in needed:
        assert word in text, text


def with_a_cause() -> None:
    try:
        broken()
    except ValueError as error:
        raise KeyError("second") from error


def with_a_context() -> None:
    try:
        broken()
    except ValueError:
        raise KeyError("second")  # noqa: B904  what is tested


async def with_a_group() -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(broken_coroutine())
        group.create_task(asyncio.to_thread(broken))


async def too_slow() -> None:
    await asyncio.sleep(60)


async def cancels_itself() -> None:
    raise asyncio.CancelledError("mine")


@functools.cache
def behind_a_decorator_of_the_standard_library() -> None:
    broken()


LOCAL: dict[str, tuple[Callable[..., Any], tuple[str, ...]]] = {
    "plain": (broken, ("ValueError: as it should",)),
    "cause": (with_a_cause, ("ValueError", "direct cause", "KeyError")),
    "context": (with_a_context, ("ValueError", "During handling", "KeyError")),
    "coroutine": (broken_coroutine, ("ValueError", "direct cause", "KeyError")),
    "group": (with_a_group, ("ExceptionGroup", "ValueError", "KeyError")),
    "timeout": (too_slow, ("await asyncio.sleep(60)", "ran longer than its timeout")),
    "cancels itself": (cancels_itself, ("cancels_itself", "the task cancelled itself")),
    "functools": (behind_a_decorator_of_the_standard_library, ("ValueError",)),
}
POOLED: dict[str, tuple[Callable[..., Any], tuple[str, ...]]] = {
    "plain": (fail, ("ValueError: of no use",)),
    "cause and context": (chained, ("ValueError", "direct cause", "KeyError", "During handling", "OSError")),
    "group": (grouped, ("ExceptionGroup", "ValueError", "KeyError")),
    "coroutine": (in_a_loop, ("ValueError",)),
}
CASES = [(name, False) for name in LOCAL] + [(name, True) for name in POOLED]


def logged(record: logging.LogRecord) -> str:
    """As the log of `redsched worker` shows it."""
    return TextFormatter().format(record)


@pytest.mark.parametrize(("case", "pooled"), CASES)
async def test_the_log_a_dead_run_and_a_logged_retry_begin_with_the_users_frame(
    redsched_kit: Kit, caplog: pytest.LogCaptureFixture, case: str, pooled: bool
) -> None:
    task, needed = (POOLED if pooled else LOCAL)[case]
    caplog.set_level(logging.DEBUG, "redsched.worker")
    options: dict[str, Any] = {"executor": "processpool"} if pooled else {}
    if case == "timeout":
        options["timeout"] = 0.05
    seen: list[BaseException] = []

    class Sees(TaskFailureHandler):
        async def handle_task_failure(self, task_name: str, exception: BaseException, context: Any) -> None:
            seen.append(exception)

    redsched_kit.scheduler.add_failure_handler(Sees())
    retry = RetryPolicy(max_attempts=2, initial_delay=1, retry_on=(BaseException,))
    await redsched_kit.scheduler.schedule_immediate_task("job", task, job_id="j", retry=retry, **options)
    await redsched_kit.advance(minutes=1)
    again, last = (record for record in caplog.records if "failed" in record.getMessage())
    check_begins_with_the_users(logged(again), *needed)
    check_begins_with_the_users(logged(last), *needed)
    check_begins_with_the_users(logging.Formatter().format(last), *needed)
    dead = await redsched_kit.scheduler.get_job("j")
    assert dead is not None
    check_begins_with_the_users(dead.traceback or "", *needed)
    assert len(seen) == 2
