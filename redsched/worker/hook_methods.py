"""The methods of a scheduler that add hooks: around its runs, around scheduling, around the life of its worker."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any, Self, TypeVar

from redsched.client.core import Client
from redsched.client.scheduling_middleware import SchedulingMiddleware
from redsched.errors import InvalidInputError
from redsched.tasks.registry import is_coroutine_function
from redsched.worker.handlers import Handlers, TaskFailureHandler
from redsched.worker.hooks import Hooks, RunMiddleware

__all__ = ["HookMethods"]

M = TypeVar("M", bound=RunMiddleware)
S = TypeVar("S", bound=SchedulingMiddleware)
L = TypeVar("L", bound=Callable[..., AbstractAsyncContextManager[Mapping[str, Any] | None]])


class HookMethods:
    """Each may be used as a decorator. A hook that is added while the worker serves counts from the next attempt, the
    next job, or the next start of a worker on."""

    client: Client
    _handlers: Handlers
    _hooks: Hooks

    def add_middleware(self, middleware: M) -> M:
        """Call `middleware(run, call_next)` around each attempt of this process's worker. The first added is outermost.

        It awaits `call_next()` once, which returns what the task returned, or raises what it raised, a timeout or an
        open circuit too. What it returns is the result; what it raises fails the attempt. See docs/guide/middleware.md.

        Raises:
            InvalidInputError: it is not a coroutine function.
        """
        self._hooks.middleware += (_checked(middleware, "run, call_next"),)
        return middleware

    def add_scheduling_middleware(self, middleware: S) -> S:
        """Call `middleware(spec)` for each job before it is checked and stored: by `schedule_…`, `submit`,
        `schedule_many` and for declared jobs. It returns the `JobSpec`, or a changed copy. If it raises, the call
        raises that and stores nothing; a declared job is then among the failed ones.

        Raises:
            InvalidInputError: it is not a coroutine function.
        """
        self.client.middleware += (_checked(middleware, "spec"),)
        return middleware

    def add_lifespan(self: Self, lifespan: L) -> L:
        """Enter `lifespan(scheduler)` before this process's worker claims its first run, and leave it after it has
        settled its last, within 10 s. Several are entered in the order in which they were added.

        Args:
            lifespan: a function with `@asynccontextmanager`. The dict that it yields becomes `current_run().state`.

        Raises:
            InvalidInputError: it cannot be called.
        """
        if not callable(lifespan):
            raise InvalidInputError(
                f"lifespan is {lifespan!r}; pass a function with @asynccontextmanager", field="lifespan"
            )
        self._hooks.lifespans += (functools.partial(lifespan, self),)
        return lifespan

    def add_failure_handler(self, handler: TaskFailureHandler) -> None:
        """Call this handler when a run of this process'ss worker ends.

        Raises:
            InvalidInputError: it is not a `TaskFailureHandler`.
        """
        self._handlers.add(handler)

    def remove_failure_handler(self, handler: TaskFailureHandler) -> None:
        """Stop calling this handler."""
        self._handlers.remove(handler)


def _checked(middleware: Any, arguments: str) -> Any:
    if not callable(middleware) or not is_coroutine_function(middleware):
        raise InvalidInputError(
            f"middleware is {middleware!r}; pass a coroutine function: async def middleware({arguments})",
            field="middleware",
        )
    return middleware
