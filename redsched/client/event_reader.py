"""One reader of the `events` stream for a scheduler: its listeners and those who wait for results share it."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import inspect
import logging
from collections.abc import Awaitable, Callable, Iterable

from redsched.client.events import last_ids, pump
from redsched.jobs.ids import new_id
from redsched.model import Event
from redsched.runtime.loops import LoopBound, running_loop
from redsched.store.store import Store

__all__ = ["EventFeed", "Listener"]

log = logging.getLogger("redsched.events")


Listener = Callable[[Event], Awaitable[None] | None]


class EventFeed(LoopBound):
    """The reader of one event loop. Starts with its first user. A listener that raises or hangs affects only itself."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._loop = running_loop()
        self._listeners: dict[Listener, frozenset[str] | None] = {}
        self._reader: asyncio.Task[None] | None = None
        self._callbacks: set[asyncio.Future[None]] = set()
        self._starting = asyncio.Lock()
        self._name = f"events:{new_id()}"

    def add(self, listener: Listener, kinds: Iterable[str] | None = None) -> None:
        """Call it with each event (of these kinds) from now on. It is read once `ensure` was awaited."""
        self._listeners[listener] = frozenset(kinds) if kinds is not None else None

    def remove(self, listener: Listener) -> None:
        """Stop calling this listener."""
        self._listeners.pop(listener, None)

    @property
    def is_over(self) -> bool:
        """Whether its loop is closed, so that it can no longer read."""
        return self._loop.is_closed()

    async def ensure(self) -> None:
        """Start reading, unless it already reads."""
        async with self._starting:
            if self._reader is None or self._reader.done():
                since = await last_ids(self._store)
                self._reader = asyncio.create_task(
                    pump(self._store, since, self._deliver, name=self._name), name="redsched events"
                )

    def _deliver(self, event: Event) -> None:
        for listener, kinds in list(self._listeners.items()):
            if kinds is None or event.kind in kinds:
                try:
                    outcome = listener(event)
                except Exception as error:
                    _log_error(error, listener, event)
                    continue
                if inspect.isawaitable(outcome):
                    # Of the coroutine itself: one that is cancelled before its first step must not be left behind.
                    task = asyncio.ensure_future(outcome)
                    self._callbacks.add(task)
                    task.add_done_callback(functools.partial(self._called, listener, event))

    def _called(self, listener: Listener, event: Event, task: asyncio.Future[None]) -> None:
        self._callbacks.discard(task)
        if not task.cancelled() and (error := task.exception()):
            _log_error(error, listener, event)

    async def close(self) -> None:
        """Stop reading."""
        tasks = [task for task in (self._reader, *self._callbacks) if task is not None]
        self._reader = None
        for task in tasks:
            task.cancel()
        for task in tasks:
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await task


def _log_error(error: BaseException, listener: Listener, event: Event) -> None:
    from redsched.worker.tracebacks import log_error

    known = {
        "job": event.job_id,
        "run": event.run_id,
        "task": event.task,
        "attempt": event.attempt,
        "worker": event.worker,
        "reason": event.reason and str(event.reason),
    }
    fields = {name: value for name, value in known.items() if value}
    log_error(error, "the listener %r raised", listener, to=log, extra=fields)
