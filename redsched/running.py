"""Which schedulers run in this process: what code that has none at hand finds its own by."""

from __future__ import annotations

from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

from redsched.errors import SchedulerStateError

if TYPE_CHECKING:
    from redsched.scheduler import BackgroundTaskScheduler

__all__ = ["current_scheduler", "schedulers"]

schedulers: WeakValueDictionary[str, BackgroundTaskScheduler] = WeakValueDictionary()
"""Every scheduler of this process, by its id."""


def current_scheduler() -> BackgroundTaskScheduler:
    """The scheduler whose task this code is; elsewhere, the only one that is started in this process. In a child
    process of the process pool: the only one that the task's modules make, which is not started there.

    So a task can schedule further jobs without a global:

    >>> import redsched
    >>> async def daily_inventory_check() -> None:
    ...     await redsched.current_scheduler().schedule_immediate_task("reorder", reorder, args=["basil"])
    >>> async def reorder(ingredient: str) -> None: ...

    Raises:
        SchedulerStateError: none is started, or several are and this is no task.
    """
    from redsched.worker.runs import (  # which knows of jobs, whose options know of policies, which ask here
        current,
        told,
    )

    run = current.get(None)
    own = schedulers.get(run.loop.worker.id) if run is not None else None
    if own is not None:
        return own
    known = set(schedulers.values())  # after a fork one has two ids
    if told.get(None) is not None:
        return _of_pool_process(known)
    started = [scheduler for scheduler in known if scheduler.running]
    if len(started) == 1:
        return started[0]
    raise SchedulerStateError(
        f"there is no scheduler to use: {len(started)} are started in this process, and this code is no task of one"
    )


def _of_pool_process(known: set[BackgroundTaskScheduler]) -> BackgroundTaskScheduler:
    """The scheduler that the modules of the task made, in a child process of a worker: it is not started there."""
    if len(known) == 1:
        return known.pop()
    raise SchedulerStateError(
        'this task runs in a child process of its worker (executor="processpool"), and the modules that it imported '
        f"made {len(known)} schedulers there. Make one at module level, or use the one that you mean by its name"
    )
