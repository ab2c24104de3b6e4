"""The state of a worker, shared by its loops, its places and its watch; `worker.py` serves with it."""

from __future__ import annotations

import logging
import os
import platform
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from typing import Any, Protocol

import msgpack

from redsched.checks import check_queue, int_between
from redsched.errors import InvalidConfigError
from redsched.settings import default_of
from redsched.store.store import Store
from redsched.tasks.registry import TaskRegistry
from redsched.worker.capacity import Capacity
from redsched.worker.executors.registry import Executors
from redsched.worker.handlers import Handlers
from redsched.worker.hooks import Hooks
from redsched.worker.runs import Run, RunState
from redsched.worker.slots import Slots
from redsched.worker.stall_report import StallReport
from redsched.worker.tally import Tally

__all__ = ["WorkerState"]

log = logging.getLogger("redsched.worker")


class HeldLoop(Protocol):
    """The loop of one shard, as the worker's other parts see it: `poll.ShardLoop`."""

    @property
    def starved(self) -> bool:
        """Whether there was no room for it: then it sleeps until it is woken."""
        ...

    @property
    def held(self) -> Mapping[str, Run]:
        """Run id -> the run."""
        ...

    @property
    def stalls(self) -> StallReport:
        """The stalls that its next poll reports."""
        ...

    def wake(self) -> None:
        """End its sleep."""
        ...


class WorkerState(ABC):
    """The settings, counters, slots and capacity of one worker."""

    def __init__(
        self,
        store: Store,
        registry: TaskRegistry,
        *,
        worker_id: str,
        queues: Sequence[str] = default_of("queues"),
        concurrency: int = default_of("concurrency"),
        executors: Executors | None = None,
        max_catch_up: int = default_of("max_catch_up"),
        handlers: Handlers | None = None,
        tally: Tally | None = None,
        hooks: Hooks | None = None,
    ) -> None:
        int_between(concurrency, "concurrency", 1, error=InvalidConfigError)
        self.id: str = worker_id
        self.registry: TaskRegistry = registry
        self.queues: list[str] = [*dict.fromkeys(check_queue(queue) for queue in queues), f"local:{worker_id}"]
        self.packed_queues: bytes = msgpack.packb(self.queues, use_bin_type=False) or b""
        self.executors: Executors = executors or Executors()
        self.max_catch_up: int = max_catch_up
        self.handlers: Handlers = handlers or Handlers()
        self.tally: Tally = tally or Tally()
        self.hooks: Hooks = hooks or Hooks()
        self.state: RunState = RunState()
        """What its lifespans yield, while it serves."""
        self.stopping: bool = False
        self.giving_back: bool = False
        """The grace time is over: what a poll still brings is given back at once."""
        self.capacity: Capacity = Capacity(concurrency)
        self.refused: int = 0
        """Settles that Redis refused, since this worker had lost the lease."""
        self.lost: int = 0
        """Leases that ended while their task still ran here."""
        self.failed_declarations: Callable[[], Mapping[str, str]] = dict
        """Declared jobs of this process that are not stored as declared -> why."""
        self.ended_with: Exception | None = None
        """The error that ended it, until another worker takes its place."""
        self.store: Store = store
        self._warned: dict[str, float] = {}
        self._wakings = 0
        self._started = time.monotonic()
        self.slots: Slots = Slots(concurrency)

    @property
    @abstractmethod
    def loops(self) -> Sequence[HeldLoop]:
        """One for each shard."""

    @abstractmethod
    def turned(self, now: float) -> None:
        """The event loop turns; `now` is time.monotonic()."""

    @property
    def concurrency(self) -> int:
        """How many runs are executed at once."""
        return self.capacity.concurrency

    def count_refused(self, runs: int) -> None:
        """Redis refused to settle this number of runs."""
        self.refused += runs

    def count_lost(self) -> None:
        """A lease has ended while its task still ran here."""
        self.lost += 1

    def fail(self, error: Exception) -> None:
        """Note the error that ended the worker."""
        self.ended_with = error

    def give_back(self, before: float) -> None:
        """Give back what was claimed before an instant (of time.monotonic) and waits for a slot ever since."""
        waiting = self.slots.waiting
        while waiting and waiting[0].claimed < before:
            self.capacity.stop_ahead()
            run = waiting.popleft()
            run.loop.execution.give_back(run)

    def wake_starved(self) -> None:
        """There may be room again: wake the loops that had none, those first that hold the fewest runs."""
        starved = [loop for loop in self.loops if loop.starved]
        if len(starved) > 1:
            self._wakings += 1
            first = self._wakings % len(starved)  # of those that hold as many, not always the same
            starved = sorted(starved[first:] + starved[:first], key=lambda loop: len(loop.held))
        for loop in starved:
            if self.capacity.room > 0:
                loop.wake()

    def describe(self) -> Mapping[str, Any]:
        """Describe this worker for other processes."""
        return {
            "host": platform.node(),
            "pid": os.getpid(),
            "queues": self.queues[:-1],
            "concurrency": self.concurrency,
            "running": self.capacity.holding,
            "lost": self.lost,
            "refused": self.refused,
            "abandoned_threads": self.executors.abandoned_threads,
            "outcomes": True,
            "tasks": self.registry.names(),
            "executors": self.executors.here(),
            "declares": 1,  # it tells elsewhere which jobs it declares
            "failed_declarations": {key: text[:300] for key, text in islice(self.failed_declarations().items(), 20)},
        }

    def warn_throttled(
        self, key: str, message: str, *values: object, every: float = 300.0, extra: dict[str, Any] | None = None
    ) -> None:
        """Log a warning, unless one with the same key was logged within the last `every` seconds."""
        now = time.monotonic()
        if now - self._warned.get(key, -every) >= every:
            if len(self._warned) > 1000:
                self._warned.clear()
            self._warned[key] = now
            log.warning(message, *values, extra={"worker": self.id, **(extra or {})})
