"""What an application hooks into its worker: middleware around each attempt, and the state of a worker's life.

A worker without hooks pays a look at an empty tuple for each run.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import sys
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol, cast

from redsched.errors import InvalidInputError, SchedulerStateError
from redsched.worker.current import CurrentRun
from redsched.worker.runs import Run, RunState
from redsched.worker.tracebacks import log_error

__all__ = ["CallNext", "Hooks", "Lifespan", "Lifespans", "RunMiddleware", "through"]

log = logging.getLogger("redsched.worker")

STOP_S = 10.0
"""How long each lifespan may take to end."""

Lifespan = Callable[[], AbstractAsyncContextManager[Mapping[str, Any] | None]]
"""Makes what is entered before a worker claims its first run, and left after it has settled the last."""


class CallNext(Protocol):
    """The rest of an attempt, as a middleware gets it: the middleware that was added later, and the task.

    >>> async def measure(run: CurrentRun, call_next: CallNext) -> Any:
    ...     began = time.monotonic()
    ...     result = await call_next()
    ...     print(run.context.name, time.monotonic() - began)
    ...     return result
    """

    def __call__(self) -> Awaitable[Any]:
        """Make the attempt. Returns what the task returned, and raises what it raised."""
        ...


class RunMiddleware(Protocol):
    """A coroutine function around each attempt, for `scheduler.add_middleware`.

    >>> async def double(run: CurrentRun, call_next: CallNext) -> Any:
    ...     return 2 * await call_next()
    >>> middleware: RunMiddleware = double
    """

    def __call__(self, run: CurrentRun, call_next: CallNext, /) -> Awaitable[Any]:
        """Await `call_next()` once, and return the result of the attempt."""
        ...


class Hooks:
    """The hooks of one scheduler, for each of its workers."""

    __slots__ = ("lifespans", "middleware")

    def __init__(self) -> None:
        self.middleware: tuple[RunMiddleware, ...] = ()
        """The outermost first."""
        self.lifespans: tuple[Lifespan, ...] = ()
        """The one that is entered first, first."""


# -- around an attempt ----------------------------------------------------------------------------------------------


async def through(middleware: tuple[RunMiddleware, ...], run: Run, call: CallNext) -> Any:
    """Make one attempt of a run, through its middleware. Returns what the outermost one returns.

    Whether a run is cancelled is its worker's to say: a middleware cannot swallow or replace it, since the run may be
    another worker's already.

    Raises:
        CancelledError: the run was stopped.
        BaseException: whatever the task, or a middleware, raises.
    """
    called = False
    cancelled: asyncio.CancelledError | None = None

    async def task() -> Any:
        nonlocal called, cancelled
        if called:
            raise SchedulerStateError(
                "a middleware called call_next twice: an attempt calls its task once. Use a RetryPolicy to try again."
            )
        if run.stop_reason is not None:
            raise asyncio.CancelledError("the run was stopped before its task began")
        called = True
        try:
            return await call()
        except asyncio.CancelledError as error:
            cancelled = error
            raise

    call_next: CallNext = task
    current = CurrentRun(run)
    for each in reversed(middleware):
        call_next = functools.partial(each, current, call_next)
    try:
        result = await call_next()
    except asyncio.CancelledError:
        raise
    except Exception as error:
        if cancelled is None:
            raise
        log_error(error, "a middleware raised while run %s was cancelled", run.id, level=logging.WARNING)
    if cancelled is not None:
        raise cancelled
    if run.stop_reason is not None and not called:
        raise asyncio.CancelledError("the run was stopped before its task began")
    return result  # pyright: ignore[reportPossiblyUnboundVariable]  an attempt that raised was cancelled


# -- the life of a worker -------------------------------------------------------------------------------------------


class Lifespans:
    """The lifespans of one worker, from its start to its end: `async with`, in the task that serves.

    Raises:
        SchedulerStateError: one failed at the start; those before it have ended again.
    """

    def __init__(self, makers: Iterable[Lifespan]) -> None:
        self._makers = makers
        self._entered: list[tuple[str, AbstractAsyncContextManager[Any]]] = []
        self.state: RunState = RunState()

    async def __aenter__(self) -> None:
        owners: dict[str, str] = {}
        for make in self._makers:
            name = name_of(make)
            try:
                manager = make()
                given: Any = await manager.__aenter__()
                self._entered.append((name, manager))
                self._take(name, given, owners)
            except Exception as error:
                await self._leave(error)
                raise SchedulerStateError(
                    f"the worker did not start: its lifespan {name} raised {type(error).__name__}: {error}"
                ) from error
            except BaseException as error:
                await self._leave(error)
                raise

    def _take(self, name: str, given: Any, owners: dict[str, str]) -> None:
        if given is None:
            return
        if not isinstance(given, Mapping):
            raise InvalidInputError(f"it must yield a dict or None, not {type(given).__qualname__}", field="lifespan")
        for key, value in cast("Mapping[Any, Any]", given).items():
            if not isinstance(key, str) or not key.isidentifier():
                raise InvalidInputError(
                    f"its key {key!r} must be a name: it becomes run.state.<name>", field="lifespan"
                )
            if key in owners:
                raise InvalidInputError(f"its key {key!r} is also that of {owners[key]}", field="lifespan")
            owners[key] = name
            setattr(self.state, key, value)

    async def __aexit__(self, *_: object) -> None:
        error = await self._leave(sys.exception())
        if error is not None:
            raise error

    async def _leave(self, reason: BaseException | None) -> BaseException | None:
        """End all, the last first, whatever the others do. Returns the first error, unless there was a reason."""
        first: BaseException | None = None
        while self._entered:
            name, manager = self._entered.pop()
            why = reason or first
            given = (None, None, None) if why is None else (type(why), why, why.__traceback__)
            limit = asyncio.timeout(STOP_S)  # not anyio's: its scope must not come between those of a task group
            try:
                async with limit:
                    await manager.__aexit__(*given)
            except BaseException as error:
                if error is why:
                    continue
                if limit.expired():
                    log.error("the lifespan %s did not end within %g s", name, STOP_S)  # noqa: TRY400  the timeout says it
                    continue
                if isinstance(error, Exception):
                    log_error(error, "the lifespan %s raised when the worker ended", name)
                first = first or error
        self.state.__dict__.clear()
        return first if reason is None else None


def name_of(function: Any) -> str:
    """The name of a hook, for messages."""
    while isinstance(function, functools.partial):
        function = function.func
    return getattr(function, "__qualname__", type(function).__qualname__)
