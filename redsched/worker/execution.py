"""How a run's task is called within its policies, and what an error of it means for the slot that executes it."""

from __future__ import annotations

import asyncio
import functools
from typing import Any

from redsched.errors import TaskTimeoutError
from redsched.store.wire import Resend
from redsched.worker.circuits import guard
from redsched.worker.runs import Run

__all__ = ["call_within_policies", "is_on_loop", "slot_is_closed"]


async def call_within_policies(run: Run, *, resend: Resend) -> Any:
    """Call the task, within its timeout, if its circuit breaker lets it.

    Raises:
        TaskTimeoutError: it took too long.
        CircuitOpenError: its circuit is open.
        BaseException: whatever the task raises.
    """
    policy = run.job.options.circuit_breaker
    if policy is None:
        return await _within_timeout(run)
    call = functools.partial(_within_timeout, run)
    return await guard(policy, run.loop.worker.store, run.job.record.task, call, resend=resend)


async def _within_timeout(run: Run) -> Any:
    timeout_ms = run.job.options.timeout_ms
    seconds = None if timeout_ms is None else timeout_ms / 1000
    limit = run.timeout = asyncio.timeout(seconds)
    try:
        async with limit:
            return await run.loop.worker.executors.call(run)
    except TimeoutError as error:
        if limit.expired():
            raise TaskTimeoutError(f"the task ran longer than its timeout of {seconds:g} s") from error
        raise
    finally:
        run.timeout = None


def slot_is_closed(run: Run, error: BaseException) -> bool:
    """Whether a GeneratorExit comes from outside: the event loop is gone, and what is left of its tasks is closed. One
    that the task raised comes while the slot that executes the run makes a step."""
    if not isinstance(error, GeneratorExit):
        return False
    try:
        return asyncio.current_task() is not run.waiter
    except RuntimeError:  # no event loop runs here
        return True


def is_on_loop(run: Run) -> bool:
    """Whether the task is a coroutine function, in which the event loop's thread is interrupted."""
    return run.task is not None and run.task.is_async
