"""Threads for plain functions: `size` of them, and at most as many again for functions that were abandoned.

A thread cannot be stopped. On a timeout or a cancellation its function is *abandoned*: its result is discarded, and it
runs out. Others get its place, so that a few functions that hang do no harm; but where more than `size` are abandoned,
each further one keeps its place, or functions that hang would leave more and more threads behind. What comes meanwhile
waits for a place, and its timeout begins when it has one.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from enum import Enum
from types import TracebackType
from typing import TYPE_CHECKING, Any, cast

import anyio
import anyio.to_thread

from redsched.model import Reason
from redsched.runtime import forks

if TYPE_CHECKING:
    from redsched.worker.runs import Run

__all__ = ["Call", "Threads"]

log = logging.getLogger("redsched.worker")

HEAVY_S = 0.05
"""Processor seconds from which on a call may have held others up."""
WARN_EVERY_S = 30.0
"""How often a task is named whose functions are abandoned."""


class _State(Enum):
    """Where a call is. Both sides change it, under its lock."""

    WAITING = "its thread has not begun it"
    RUNNING = "its thread executes it"
    ENDED = "its thread is done with it"
    ABANDONED = "its thread still executes it, but its run is over"
    DROPPED = "its run ended before its thread began it"


class Call:
    """One call of a plain function, and the place of the thread that executes it.

    It is anyio's limiter for this one call, since anyio frees a place as soon as the wait for the result ends.
    """

    def __init__(self, threads: Threads, run: Run, call: Callable[[], Any]) -> None:
        self.task: str = run.job.record.task
        self.run_id: str = run.id
        self.run = run
        self.thread: int = 0
        """The ident of its thread, while that executes it."""
        self.used_before = 0.0
        """Processor seconds that its thread had used when it began."""
        self.used: float = 0.0
        """Processor seconds that it used; known when it has ended, at `ended_at` (time.monotonic())."""
        self.ended_at: float = 0.0
        self.abandoned: float = 0.0
        """time.monotonic() when the wait for it ended."""
        self._threads = threads
        self._call = call
        self._lock = threading.Lock()
        self._state = _State.WAITING
        self._loop = asyncio.get_running_loop()

    def __call__(self) -> Any:
        """Run the function in the thread."""
        with self._lock:
            if self._state is _State.DROPPED:
                return None
            self._state = _State.RUNNING
        self.used_before: float = time.thread_time()
        self.thread = threading.get_ident()
        try:
            return self._call()
        finally:
            self.thread = 0
            self.used = time.thread_time() - self.used_before
            if self.used >= HEAVY_S:
                self.ended_at = time.monotonic()
                self._threads.heavy.append(self)
            with self._lock:
                was, self._state = self._state, _State.ENDED
            if was is _State.ABANDONED:
                try:
                    self._loop.call_soon_threadsafe(self._threads.ended, self)
                except RuntimeError:  # its event loop is closed, and perhaps another one's runs wait for the place
                    self._threads.ended_elsewhere(self)

    async def __aenter__(self) -> None:
        with self.run.timeout_paused():
            await self._threads.take(self)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with self._lock:
            if self._state is _State.RUNNING:
                self._state = _State.ABANDONED
            elif self._state is _State.WAITING:
                self._state = _State.DROPPED
        if self._state is _State.ABANDONED:
            self.abandoned = time.monotonic()
            self._threads.abandon(self, self.run.stop_reason or "timeout")
        else:
            self._threads.end(self)


class Threads:
    """The threads of one executor.

    Args:
        size: how many functions of runs are executed at once. As many again may be abandoned; then there are fewer.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self.calls: set[Call] = set()
        """Those that a thread executes, or is about to."""
        self.heavy: deque[Call] = deque(maxlen=20)
        """Those that ended lately and used much of the processor."""
        self._abandoned = 0
        self._waiters: deque[asyncio.Future[None]] = deque()
        self._warned: dict[str, float] = {}
        forks.register(self)

    def after_fork(self) -> None:
        """The threads are the parent's."""
        forks.keep_for_ever(self._waiters)
        self.calls, self._abandoned, self._waiters = set(), 0, deque()

    @property
    def free(self) -> int:
        """How many more calls may begin."""
        working = len(self.calls) - self._abandoned
        return self.size - working - max(0, self._abandoned - self.size)

    @property
    def abandoned(self) -> list[Call]:
        """Calls that still run although their runs are over."""
        return [call for call in list(self.calls) if call.abandoned]

    async def call(self, run: Run, function: Callable[[], Any]) -> Any:
        """Call a function of a run in a thread, as soon as there is a place."""
        call = Call(self, run, function)
        limiter = cast("anyio.CapacityLimiter", call)
        return await anyio.to_thread.run_sync(call, abandon_on_cancel=True, limiter=limiter)

    async def take(self, call: Call) -> None:
        """Wait for a place: the first that came gets the first."""
        if self.free <= 0 or self._waiters:
            waiter = asyncio.get_running_loop().create_future()
            self._waiters.append(waiter)
            try:
                await waiter
                self.calls.add(call)
            finally:
                self._waiters.remove(waiter)
                self._wake()  # of those behind it, where it was cancelled
        else:
            self.calls.add(call)

    def end(self, call: Call) -> None:
        """A call is over."""
        self.calls.discard(call)
        self._wake()

    def abandon(self, call: Call, why: str) -> None:
        """Log that a call's run is over and its thread goes on."""
        self._abandoned += 1
        self._wake()
        left = self.abandoned
        by_task = ", ".join(f"{task}: {count}" for task, count in Counter(one.task for one in left).most_common(5))
        if self.free <= 0 and len(left) == len(self.calls):
            log.error(
                "all %d threads execute functions whose runs are over (%s): plain functions wait until one of them "
                'ends. No thread can be stopped: with executor="processpool" a timeout ends its process',
                len(left), by_task, extra={"worker": call.run.loop.worker.id},
            )  # fmt: skip
            return
        now = time.monotonic()
        if now - self._warned.get(call.task, -WARN_EVERY_S) >= WARN_EVERY_S:
            if len(self._warned) > 1000:
                self._warned.clear()
            self._warned[call.task] = now
            log.warning(
                "task %r: the function of run %s goes on in its thread though its run is over (%s). %d threads are "
                'taken so, of %d at most (%s); with executor="processpool" a timeout ends its process',
                call.task, call.run_id, why, len(left), 2 * self.size, by_task,
                extra=call.run.log_fields(Reason.TIMEOUT if why == Reason.TIMEOUT.value else None),
            )  # fmt: skip

    def ended(self, call: Call) -> None:
        """An abandoned call has ended, and its thread is free again."""
        none_was_left = self._abandoned >= 2 * self.size
        self._abandoned -= 1
        self.end(call)
        if none_was_left:
            seconds = time.monotonic() - call.abandoned
            log.warning(
                "task %r: the function of run %s has ended, %.1f s after its run; plain functions run again",
                call.task, call.run_id, seconds, extra=call.run.log_fields(),
            )  # fmt: skip

    def ended_elsewhere(self, call: Call) -> None:
        """As `ended`, from its thread."""
        self._abandoned -= 1
        self.calls.discard(call)
        for waiter in list(self._waiters):
            if not waiter.get_loop().is_closed():
                waiter.get_loop().call_soon_threadsafe(self._wake)
                return

    def _wake(self) -> None:
        """Tell those that wait, the first of them first, as far as there are places."""
        free = self.free
        for waiter in self._waiters:
            if free <= 0:
                return
            if not waiter.done():
                waiter.set_result(None)
            free -= 1
