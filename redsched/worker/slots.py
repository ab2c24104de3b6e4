"""Executes runs in the order in which they were claimed, up to a maximum number at once.

A task of asyncio for each run would cost more than a short run itself. So a task of ours, a slot, takes run after run
for as long as there are any. Before it begins one, it calls for another slot, which goes on with the next run as soon
as this one waits for something. Runs that never wait are executed one after the other by a single slot; of those
that do, each has its own.

A run must feel nothing of the one before it: a slot ends after a run that was cancelled, or that left context variables
changed.
"""

from __future__ import annotations

import asyncio
import contextvars
import time
from collections import deque
from typing import TYPE_CHECKING, Any

from redsched.context import current_run

if TYPE_CHECKING:
    from redsched.worker.runs import Run

__all__ = ["Slots"]

LONGEST_TURN_S = 0.002
"""A slot whose runs do not wait for anything lets the event loop do other work after so long."""


class Slots:
    """The slots of one worker.

    Args:
        limit: how many runs are executed at once at most.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.waiting: deque[Run] = deque()
        """Runs that are claimed and not begun, the first claimed first."""
        self.busy: int = 0
        """Slots that execute a run."""
        self._starting: asyncio.Task[None] | None = None
        """The slot that was created and has not begun."""
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def are_free(self) -> bool:
        """Whether a run that came now would begin at once."""
        return not self.waiting and self.busy < self.limit

    def put(self, run: Run) -> None:
        """Execute it, as soon as there is a slot for it."""
        self.waiting.append(run)
        self._call()

    async def idle(self) -> None:
        """Wait until nothing is executed any more."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    def _call(self) -> None:
        if self.waiting and self._starting is None and self.busy < self.limit:
            slot = self._starting = asyncio.create_task(self._work(), name="redsched slot")
            self._tasks.add(slot)
            slot.add_done_callback(self._ended)

    def _ended(self, slot: asyncio.Task[None]) -> None:
        self._tasks.discard(slot)
        if slot is self._starting:
            self._starting = None  # it was cancelled before its first step
        self._call()

    async def _work(self) -> None:
        """Execute runs, until none is waiting."""
        slot = asyncio.current_task()
        assert slot is not None
        self._starting = None
        self.busy += 1
        context = list(contextvars.copy_context().items())
        try:
            ends = time.monotonic() + LONGEST_TURN_S
            while self.waiting:
                run = self.waiting.popleft()
                self._call()
                run.waiter = slot
                token = current_run.set(run)
                try:
                    await run.loop.execution.execute(run)
                finally:
                    run.waiter = None
                    current_run.reset(token)
                if slot.cancelling() or not _is(context):
                    return
                if self.waiting and time.monotonic() > ends:
                    await asyncio.sleep(0)
                    ends = time.monotonic() + LONGEST_TURN_S
        finally:
            self.busy -= 1


def _is(context: list[tuple[contextvars.ContextVar[Any], Any]]) -> bool:
    """Whether the context variables have these values, and no others any. Equal is not enough: lists can change."""
    now = contextvars.copy_context()
    if len(now) != len(context):
        return False
    for variable, value in context:  # noqa: SIM110  all() takes three times as long, and this is for each run
        if now.get(variable, now) is not value:
            return False
    return True
