"""One value for each event loop that uses an object: connections, locks and tasks belong to the loop that made them.

So a scheduler that is not started serves `asyncio.run` after `asyncio.run`, and loops in several threads at once. What
a loop had is closed while that loop ends: `asyncio.run`, `asyncio.Runner` and the servers built on them finalize
asynchronous generators before they close a loop, and one such generator stands for each value.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable
from typing import Generic, TypeVar
from weakref import ref

from redsched.errors import SchedulerStateError
from redsched.runtime import forks

__all__ = ["LoopBound", "LoopLock", "Owner", "PerLoop", "running_loop"]


class LoopBound:
    """A value that belongs to one event loop, and the three ways in which it may end. By default nothing is to do."""

    async def close(self) -> None:
        """End in good order, in its loop."""

    def abandon(self) -> None:
        """Let go without a loop: its own was closed before the value was."""

    def forsake(self) -> None:
        """Let go of the parent's, in a forked child: see `forks.Forkable`."""


class LoopLock(asyncio.Lock, LoopBound):
    """A lock between the tasks of one loop."""


T = TypeVar("T", bound=LoopBound)


def running_loop() -> asyncio.AbstractEventLoop:
    """The event loop that runs in this thread.

    Raises:
        SchedulerStateError: none does.
    """
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        raise SchedulerStateError(
            "no event loop runs in this thread: call this in a coroutine that asyncio.run() runs. In a forked child, "
            "the loop of the parent does not count: asyncio.run() there starts the child's"
        ) from None


class PerLoop(Generic[T]):
    """Makes a value for each loop when that first asks for one, and closes it when the loop ends."""

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make
        self._values: dict[asyncio.AbstractEventLoop, tuple[T, AsyncGenerator[None]]] = {}
        self._latest: tuple[asyncio.AbstractEventLoop | None, T | None] = (None, None)
        """Who asked last: as a rule, who asks next. Replaced whole, for other threads read it."""
        forks.register(self)

    def get(self) -> T:
        """The value of the running loop.

        Raises:
            SchedulerStateError: no loop runs in this thread.
        """
        loop = running_loop()
        latest, value = self._latest
        return value if latest is loop and value is not None else self._switch(loop)

    def _switch(self, loop: asyncio.AbstractEventLoop) -> T:
        forks.notice()
        known = self._values.get(loop)
        if known is None:
            self._drop_closed()
            value = self._make()
            watch = _until_the_end(ref(self), loop, value)
            with contextlib.suppress(StopIteration):
                watch.asend(None).send(None)  # up to its yield: now the loop knows that it is to be finalized
            known = self._values[loop] = (value, watch)
        self._latest = (loop, known[0])
        return known[0]

    def forget(self, loop: asyncio.AbstractEventLoop) -> tuple[T, AsyncGenerator[None]] | None:
        """Let a loop have no value any more. Returns what it had, which is then the caller's to end."""
        if self._latest[0] is loop:
            self._latest = (None, None)
        return self._values.pop(loop, None)

    async def close(self) -> None:
        """Close the running loop's value, and let go of those whose loop is closed. A later `get` makes another.

        The values of loops that run in other threads stay: they are closed when those end.
        """
        self._drop_closed()
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            return  # a forked child, which has none
        if (known := self.forget(loop)) is not None:
            await known[1].aclose()

    def _drop_closed(self) -> None:
        for loop in list(self._values):
            if loop.is_closed() and (known := self.forget(loop)) is not None:
                known[0].abandon()

    def after_fork(self) -> None:
        """The values are the parent's, whose loops do not run here."""
        values, self._values, self._latest = self._values, {}, (None, None)
        for loop, (value, watch) in values.items():
            forks.keep_for_ever(loop, value, watch)
            value.forsake()

    def __del__(self) -> None:
        self._drop_closed()


async def _until_the_end(owner: ref[PerLoop[T]], loop: asyncio.AbstractEventLoop, value: T) -> AsyncGenerator[None]:
    """Closes the value when the loop or the holder ends it."""
    try:
        yield
    finally:
        if (holder := owner()) is not None:
            holder.forget(loop)
        await value.close()


class Owner:
    """The event loop of a started scheduler. Only in that loop can its worker's tasks be stopped."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def is_there(self) -> bool:
        """Whether there is one that could still run."""
        return self._loop is not None and not self._loop.is_closed()

    def take(self) -> None:
        """The running loop is the owner from now on."""
        self._loop = running_loop()

    def release(self) -> None:
        """There is none any more."""
        self._loop = None

    def check(self, call: str) -> None:
        """See that a call is made in the owner's loop, if there is an owner.

        Raises:
            SchedulerStateError: it is made in another.
        """
        if self.is_there and self._loop is not running_loop():
            raise SchedulerStateError(
                f"{call}() was called in another event loop than start(). A running scheduler belongs to that loop: "
                f"call it there, or from another thread with asyncio.run_coroutine_threadsafe(scheduler.{call}(), loop)"
            )

    def call(self, function: Callable[[], object]) -> None:
        """Call a function in the owner's loop, from whichever thread this is."""
        assert self._loop is not None
        try:
            here = asyncio.get_running_loop() is self._loop
        except RuntimeError:
            here = False
        if here:
            function()
        else:
            self._loop.call_soon_threadsafe(function)
