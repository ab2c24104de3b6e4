"""The worker of a scheduler, from the scheduler's start to its shutdown: one that ends with an error is replaced."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from redsched.runtime import forks
from redsched.worker.revival import serve_on
from redsched.worker.worker import Worker

__all__ = ["Serving"]

log = logging.getLogger("redsched")


class Serving:
    """Begins with `start`; is over after `stop`.

    Args:
        make: makes a worker: at the start, and after an error.
    """

    def __init__(self, make: Callable[[], Worker]) -> None:
        self._make = make
        self.worker: Worker = make()
        self.task: asyncio.Task[None] | None = None

    @property
    def is_well(self) -> bool:
        """Whether the worker serves, and has not ended with an error."""
        return self.worker.ended_with is None and not (self.task is not None and self.task.done())

    def keep_for_ever(self) -> None:
        """Keep the parent's objects from being collected in a forked child."""
        forks.keep_for_ever(self.worker, self.task)

    async def start(self) -> None:
        """Serve, and return when the worker is ready.

        Raises:
            Exception: whatever ended the worker before it was ready.
        """
        ready = asyncio.get_running_loop().create_future()
        self.task = asyncio.create_task(serve_on(self._current, self._renew, _Ready(ready)), name="redsched worker")
        self.task.add_done_callback(_report_error)
        await asyncio.wait((ready, self.task), return_when=asyncio.FIRST_COMPLETED)
        if self.task.done():
            await self.task

    def _current(self) -> Worker:
        return self.worker

    def _renew(self) -> None:
        self.worker = self._make()

    async def wait(self) -> None:
        """Wait until it has ended, and raise what ended it."""
        if (task := self.task) is not None:
            await asyncio.wait((task,))
            if not task.cancelled():
                task.result()

    async def stop(self, grace: float) -> None:
        """Stop claiming, let runs finish for `grace` seconds, and wait until the worker has ended."""
        if self.task is None:
            return
        stopping = asyncio.create_task(self.worker.stop(grace=grace))
        await asyncio.wait((stopping, self.task), return_when=asyncio.FIRST_COMPLETED)
        if not self.task.done():
            await stopping
        stopping.cancel()
        await asyncio.wait((self.task,))


def _report_error(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()):
        log.critical("the worker ended with an error: this process runs no jobs any more", exc_info=error)


class _Ready:
    """A `task_status` as anyio's `start` passes it, for a plain task."""

    def __init__(self, future: asyncio.Future[None]) -> None:
        self._future = future

    @property
    def is_told(self) -> bool:
        return self._future.done()

    def started(self, value: object = None) -> None:
        if not self._future.done():
            self._future.set_result(None)
