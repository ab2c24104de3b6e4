"""What a worker holds: one `Run` for each claim, from the claim until its settle is on the way.

A running task reaches its own through `current_run()` (`worker.current`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Generator, Sequence
from contextlib import contextmanager
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Protocol

from redsched.codec.values import Record
from redsched.jobs.ids import job_of, run_id_of
from redsched.jobs.options import JobOptions
from redsched.jobs.record import Job
from redsched.model import Reason
from redsched.store.clock import StoreClock
from redsched.tasks.registry import Task, TaskRegistry

if TYPE_CHECKING:
    from redsched.store.store import Store
    from redsched.worker.stall_report import StallReport

__all__ = ["Run", "RunState"]


_STOPPED = {"lost": Reason.LEASE_EXPIRED, "cancelled": Reason.CANCELLED, "shutdown": Reason.SHUTDOWN}
"""What `Run.stop_reason` is among the reasons."""


class Caller(Protocol):
    """The executors, as runs see them: `worker.executors.Executors`."""

    def call(self, run: Run) -> Awaitable[Any]:
        """Call the task, wherever it is to run."""
        ...

    def is_process_pool(self, name: str) -> bool:
        """Whether tasks of this executor run in child processes."""
        ...


class Hooked(Protocol):
    """The hooks of a worker, as its runs see them: `worker.hooks.Hooks`."""

    @property
    def middleware(self) -> tuple[Callable[..., Awaitable[Any]], ...]: ...


class RunState(SimpleNamespace):
    """The values that the lifespans of a worker yield: one attribute for each key, the same for all its runs."""

    def __getattr__(self, name: str) -> Any:
        known = ", ".join(vars(self)) or "nothing"
        raise AttributeError(f"the state of this worker has no {name!r}: its lifespans yield {known}", name=name)


class Holder(Protocol):
    """The worker that holds a run, as far as its runs need it."""

    @property
    def id(self) -> str: ...
    @property
    def store(self) -> Store: ...
    @property
    def executors(self) -> Caller: ...
    @property
    def hooks(self) -> Hooked: ...
    @property
    def state(self) -> RunState: ...
    @property
    def registry(self) -> TaskRegistry: ...

    def warn_throttled(
        self, key: str, message: str, *values: object, every: float = 300.0, extra: dict[str, Any] | None = None
    ) -> None:
        """Log a warning, unless one with the same key was logged within the last `every` seconds."""
        ...


class Executing(Protocol):
    """Executes the runs of one shard: `worker.execution.Execution`, as far as runs and slots need it."""

    async def execute(self, run: Run) -> None:
        """Execute it, in a slot."""
        ...

    async def report(self, run: Run, value: Any) -> None:
        """Store its progress."""
        ...

    def drop(self, run: Run) -> None:
        """Forget a run that was stopped before it began."""
        ...

    def give_back(self, run: Run) -> None:
        """Let another worker start it."""
        ...


class HoldingLoop(Protocol):
    """The loop of the shard that a run came from: `worker.poll.ShardLoop`, as far as its runs need it."""

    @property
    def worker(self) -> Holder: ...
    @property
    def clock(self) -> StoreClock: ...
    @property
    def stalls(self) -> StallReport: ...
    @property
    def execution(self) -> Executing: ...


_UNREAD = Job("?", Record("?", "?", b"", {}), JobOptions(), None)


class Run:
    """One claim of one run (or of a batch of fires, which is one instance and runs in order)."""

    __slots__ = (
        "attempt", "batch", "begun", "claimed", "fence", "fire_ms", "id", "job", "loop", "plain", "postponed", "queue",
        "row", "started", "stop_reason", "task", "timeout", "waiter",
    )  # fmt: skip

    def __init__(self, run_id: str, fence: int, loop: HoldingLoop, claimed: float, row: Sequence[Any] = ()) -> None:
        self.id: str = run_id
        self.fence: int = fence
        self.loop: HoldingLoop = loop
        """Of the worker that holds it."""
        self.claimed: float = claimed
        """time.monotonic() when the claim was here."""
        self.row: Sequence[Any] = row
        """What the claim brought, until that is read."""
        self.plain: bool = False
        """A one-shot job's, which has nothing but its record: Redis settles it by its token alone."""
        self.attempt: int = 1
        self.fire_ms: int = 0
        self.queue: str = "default"
        self.job: Job = _UNREAD
        self.task: Task | None = None
        self.batch: list[int] | None = None
        """The fires that are left, this one included; None for a single fire."""
        self.begun: bool = False
        """It was started in time before, and given back: however late it is now, it is not a misfire."""
        self.postponed: int = 0
        self.started: float = 0.0
        """time.monotonic() at the start of the attempt; 0 before."""
        self.stop_reason: str | None = None
        """Why the worker cancelled it: lost, cancelled, shutdown."""
        self.timeout: asyncio.Timeout | None = None
        """What ends its attempt when it takes too long."""
        self.waiter: asyncio.Task[None] | None = None
        """The slot that executes it, while it does."""

    @property
    def public_id(self) -> str:
        """The id that everybody knows the run by. Each fire of a batch is a run, though one claim holds them all."""
        return self.id if self.batch is None else run_id_of(self.job.id, self.fire_ms)

    @property
    def is_read(self) -> bool:
        """Whether what the claim brought was read: the job, the attempt and the fire are known."""
        return self.job is not _UNREAD

    @property
    def worker_id(self) -> str:
        """The id of the worker that holds the run."""
        return self.loop.worker.id

    def log_fields(self, reason: Reason | str | None = None) -> dict[str, Any]:
        """What a line of the log says of it, for `extra=`: job, run, task, attempt, worker and reason. What is not
        known (it was not read yet) is left out.

        Lines that are written within a run (the task's own too) get them when they are formatted, from the context: a
        run that logs nothing pays nothing.

        Args:
            reason: why something was done to it; by default why its worker cancelled it, if it did.
        """
        fields: dict[str, Any] = {"job": job_of(self.id), "run": self.id}
        if self.is_read:
            fields.update(run=self.public_id, task=self.job.record.task, attempt=self.attempt)
        fields["worker"] = self.loop.worker.id
        if reason is None and self.stop_reason is not None:
            reason = _STOPPED.get(self.stop_reason, self.stop_reason)
        if reason is not None:
            fields["reason"] = str(reason)
        return fields

    def stop(self, reason: str) -> None:
        """Cancel the task, and say why; a second reason does not replace the first."""
        if self.stop_reason is None:
            self.stop_reason = reason
            if self.waiter is not None:
                self.waiter.cancel()
            else:
                self.loop.execution.drop(self)

    @contextmanager
    def timeout_paused(self) -> Generator[Callable[[], None]]:
        """Until the end, or until what this gives is called, its timeout does not run: the task waits for a place to
        begin in, and would use up an attempt without having run."""
        limit, loop = self.timeout, asyncio.get_running_loop()
        when = None if limit is None else limit.when()
        if limit is None or when is None:
            yield _nothing
            return
        left = when - loop.time()
        limit.reschedule(None)

        def resume() -> None:
            if limit.when() is None and not limit.expired():
                limit.reschedule(loop.time() + left)

        try:
            yield resume
        finally:
            resume()


def _nothing() -> None:
    pass
