"""One attempt of a run: its middleware, what is provided to its task, its policies, and the call itself."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Callable
from typing import Any

from redsched.errors import TaskTimeoutError
from redsched.store.wire import Resend
from redsched.tasks.provide import Needs
from redsched.worker.circuits import guard
from redsched.worker.hooks import through
from redsched.worker.runs import Run

__all__ = ["attempt", "slot_is_closed"]

Call = Callable[[Run], Awaitable[Any]]


def attempt(run: Run, *, resend: Resend) -> Awaitable[Any]:
    """Make one attempt of a run; what its task returns is to be awaited.

    From the outside to the inside: the middleware, the parameters that are provided, the circuit breaker, the timeout,
    the task. So a middleware sees every error of the attempt, and what was provided ends after the timeout, however
    the attempt ended. A run that has none of them pays a comparison for each.

    Raises:
        TaskTimeoutError: it took too long.
        CircuitOpenError: its circuit is open.
        BaseException: whatever the task, its middleware or its providers raise.
    """
    assert run.task is not None
    options, worker = run.job.options, run.loop.worker
    known = run.task.needs  # looked at here: a call would cost more than all the rest of this
    needs = known[0] if known else run.task.provided()
    if worker.hooks.middleware:
        return through(worker.hooks.middleware, run, functools.partial(_provided, run, needs, resend))
    if needs is not None:
        return _provided(run, needs, resend)
    if options.circuit_breaker is None and options.timeout_ms is None:
        return worker.executors.call(run)
    return _call_within_policies(run, worker.executors.call, resend)


async def _provided(run: Run, needs: Needs | None, resend: Resend) -> Any:
    if needs is None:
        return await _call_within_policies(run, run.loop.worker.executors.call, resend)
    from redsched.worker.providing import Provided

    provided = Provided(run, needs)
    try:
        result = await _call_within_policies(run, provided.call, resend)
    except BaseException as error:
        if not slot_is_closed(run, error):  # else nothing can be awaited any more
            await provided.close(error)
        raise
    await provided.close(None)
    return result


async def _call_within_policies(run: Run, call: Call, resend: Resend) -> Any:
    """Call the task, within its timeout, if its circuit breaker lets it."""
    options = run.job.options
    limited = call if options.timeout_ms is None else functools.partial(_within_timeout, call=call)
    if options.circuit_breaker is None:
        return await limited(run)
    made = functools.partial(limited, run)
    return await guard(options.circuit_breaker, run.loop.worker.store, run.job.record.task, made, resend=resend)


async def _within_timeout(run: Run, call: Call) -> Any:
    timeout_ms = run.job.options.timeout_ms
    assert timeout_ms is not None
    seconds = timeout_ms / 1000
    limit = run.timeout = asyncio.timeout(seconds)
    try:
        async with limit:
            return await call(run)
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
