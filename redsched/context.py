"""What code can know of where it runs: the current run, the current scheduler, the event that is handled.

Context variables, and what those who read them need of their values. It imports nothing of redsched but the errors, so
that any module can ask here, however low it stands: a policy, a logging filter, a script call.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import Any, Protocol, TypeVar
from weakref import WeakValueDictionary

from redsched.errors import SchedulerStateError

__all__ = ["current_event", "current_run", "find_scheduler", "parent_run", "run_fields", "schedulers"]

R = TypeVar("R")


class ActiveRun(Protocol):
    """A run that is executed: `worker.runs.Run`, or what a child process knows of it."""

    @property
    def worker_id(self) -> str:
        """The id of the worker that holds the run."""
        ...

    def log_fields(self) -> dict[str, Any]:
        """Return the fields of a log line about the run."""
        ...


class ActiveEvent(Protocol):
    """An event of a stream that is handled: `origin.Origin`."""

    @property
    def client(self) -> str:
        """In the place of the client in requests."""
        ...

    @property
    def remember_ms(self) -> int:
        """How long Redis remembers the requests."""
        ...

    def number(self, *what: object) -> int:
        """The number of a further request for this."""
        ...

    def take_back(self, *what: object) -> None:
        """The last request for this changed nothing."""
        ...

    def next_job_id(self, task: str, name: str) -> str:
        """The id of a job that was given none."""
        ...


class ActiveClient(Protocol):
    """The client of a scheduler, as policies see it."""

    async def guard(self, policy: Any, name: str, call: Callable[[], Awaitable[R]]) -> R:
        """Make one call through a circuit."""
        ...


class ActiveScheduler(Protocol):
    """A scheduler of this process: `scheduler.BackgroundTaskScheduler`."""

    @property
    def running(self) -> bool:
        """Whether it is started."""
        ...

    @property
    def client(self) -> ActiveClient:
        """The client that asks Redis for the scheduler."""
        ...


current_run: ContextVar[ActiveRun] = ContextVar("redsched_current_run")
"""In a worker's process: the run that this code is in."""
parent_run: ContextVar[ActiveRun] = ContextVar("redsched_parent_run")
"""In a child process of a worker: the run that the child executes, as its worker described it."""
current_event: ContextVar[ActiveEvent | None] = ContextVar("redsched_current_event", default=None)
"""The event that this code handles, if that may be handled again."""
schedulers: WeakValueDictionary[str, ActiveScheduler] = WeakValueDictionary()
"""Every scheduler of this process, by its id. After a fork one has two ids."""


def run_fields() -> dict[str, Any]:
    """Return the log fields of the current run; an empty dict outside of a run."""
    run = current_run.get(None) or parent_run.get(None)
    return {} if run is None else run.log_fields()


def find_scheduler() -> ActiveScheduler:
    """See `running.current_scheduler`.

    Raises:
        SchedulerStateError: none is started, or several are and this code runs outside of a task.
    """
    run = current_run.get(None)
    own = schedulers.get(run.worker_id) if run is not None else None
    if own is not None:
        return own
    known = set(schedulers.values())
    if parent_run.get(None) is not None:
        return _of_pool_process(known)
    started = [scheduler for scheduler in known if scheduler.running]
    if len(started) == 1:
        return started[0]
    raise SchedulerStateError(
        f"there is no scheduler to use: {len(started)} are started in this process, and none of them runs this code"
    )


def _of_pool_process(known: set[ActiveScheduler]) -> ActiveScheduler:
    """The scheduler that the modules of the task made, in a child process of a worker: it is not started there."""
    if len(known) == 1:
        return known.pop()
    raise SchedulerStateError(
        'this task runs in a child process of its worker (executor="processpool"), and the modules that it imported '
        f"made {len(known)} schedulers there. Make one at module level, or use the one that you mean by its name"
    )
