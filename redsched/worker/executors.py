"""How a task is called: on the event loop, in a thread, or in a child process.

A coroutine function runs on the event loop, a plain function in a thread, and any function of a job with
`executor="processpool"` in a child process, which gets the task's name and the same msgpack bytes.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import anyio
import anyio.to_thread

from redsched.codec import unpack_payload, unpack_result
from redsched.errors import InvalidConfigError
from redsched.worker.processes import ProcessPool, target_of
from redsched.worker.runs import Run

__all__ = ["Executors"]


class Executors:
    """The executors of one worker, by name."""

    def __init__(self, threads: int = 20, processes: int = 2) -> None:
        for name, value in (("threads", threads), ("processes", processes)):
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise InvalidConfigError(f"{name} is {value!r}; it must be an int of 1 or more", field=name)
        self._threads = threads
        self._processes = processes
        self._limiter: anyio.CapacityLimiter | None = None
        self._pool: ProcessPool | None = None

    async def call(self, run: Run) -> Any:
        """Call the run's task with its arguments, and give what it returns.

        Raises:
            EncodingError: the stored arguments cannot be decoded.
            Exception: whatever the task raises.
        """
        task = run.task
        assert task is not None
        if run.job.options.executor == "processpool":
            if self._pool is None:
                self._pool = ProcessPool(self._processes)
            return unpack_result(await self._pool.run(target_of(task.function), run.job.record.payload))
        args, kwargs = unpack_payload(run.job.record.payload)
        if task.is_async:
            return await task.function(*args, **kwargs)
        return await self._in_thread(task.function, args, kwargs)

    async def _in_thread(self, function: Any, args: list[Any], kwargs: Mapping[str, Any]) -> Any:
        if self._limiter is None:
            self._limiter = anyio.CapacityLimiter(self._threads)
        # A thread cannot be stopped: on a timeout or a cancellation its result is given up, and it runs out.
        call = functools.partial(function, *args, **kwargs)
        return await anyio.to_thread.run_sync(call, abandon_on_cancel=True, limiter=self._limiter)

    async def close(self, *, kill: bool = False) -> None:
        """Stop the children."""
        if self._pool is not None:
            await self._pool.aclose(kill=kill)
            self._pool = None
