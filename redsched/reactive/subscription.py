"""Events of one source on their way to one handler, and how that ends in good order."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncGenerator, Callable

from redsched.errors import SchedulerStateError
from redsched.runtime import forks
from redsched.runtime.loops import running_loop

__all__ = ["Subscription"]

CLOSES_S = 5.0
"""How long what was taken may take when a subscription is closed."""


class Subscription:
    """Events of one source on their way to one handler, one after the other."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.closing: bool = False
        """It takes no more events."""
        self.task: asyncio.Task[None] | None = None
        self.dispose: Callable[[], object] = lambda: None
        """Stops the source."""
        self.under_way: int = 0
        """Events that were taken and are not handled yet."""
        self._lock = threading.Lock()
        self._quiet: asyncio.Event | None = None
        forks.register(self)

    def after_fork(self) -> None:
        """Forget the subscription in a forked child: the parent handles the events."""
        forks.keep_for_ever(self.task)
        self._lock, self._quiet = threading.Lock(), None
        self.closing, self.task, self.under_way = True, None, 0

    def take(self, most: int | None = None) -> bool:
        """An event was given, by whatever thread. Returns False if `most` are under way already."""
        with self._lock:
            if most is not None and self.under_way >= most:
                return False
            self.under_way += 1
            return True

    def done(self) -> None:
        """One was handled."""
        with self._lock:
            self.under_way -= 1
            if self._quiet is not None and not self.under_way:
                self._quiet.set()

    @contextlib.asynccontextmanager
    async def one(self) -> AsyncGenerator[None]:
        """Around the handling of an event that comes when it is asked for; none comes while this closes."""
        if self.closing:
            await asyncio.get_running_loop().create_future()  # until it is cancelled
        self.take()
        try:
            yield
        finally:
            self.done()

    async def close(self, *, drain: bool = True) -> None:
        """Take no more events, and finish those that were taken (`drain`), for five seconds at most.

        Raises:
            SchedulerStateError: it was made in another event loop, which still runs.
        """
        if self.task is not None and (loop := self.task.get_loop()) is not running_loop():
            if not loop.is_closed():
                raise SchedulerStateError(
                    f"the subscription of {self.name} belongs to another event loop: close it there, or from another "
                    "thread with asyncio.run_coroutine_threadsafe(subscription.close(), loop)"
                )
            self.task = None  # it was cancelled when its loop ended
        quiet = asyncio.Event()
        with self._lock:
            self.closing, self._quiet = True, quiet
            if not self.under_way:
                quiet.set()
        with contextlib.suppress(Exception):
            self.dispose()
        if self.task is None:
            return
        if drain and not self.task.done():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(quiet.wait(), CLOSES_S)
        while not self.task.done():
            # Again and again: `asyncio.wait_for` of Python 3.11, which redis-py uses, may lose a cancellation.
            self.task.cancel()
            await asyncio.wait((self.task,), timeout=0.1)
