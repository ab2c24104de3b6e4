"""`current_scheduler`: how code that has no scheduler at hand finds its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from redsched import context

if TYPE_CHECKING:
    from redsched.scheduler import BackgroundTaskScheduler

__all__ = ["current_scheduler"]


def current_scheduler() -> BackgroundTaskScheduler:
    """The scheduler whose task this code is; elsewhere, the only one that is started in this process. In a child
    process of the process pool: the only one that the task's modules make, which is not started there.

    So a task can schedule further jobs without a global:

    >>> import redsched
    >>> async def daily_inventory_check() -> None:
    ...     await redsched.current_scheduler().schedule_immediate_task("reorder", reorder, args=["basil"])
    >>> async def reorder(ingredient: str) -> None: ...

    Raises:
        SchedulerStateError: none is started, or several are and this code runs outside of a task.
    """
    return cast("BackgroundTaskScheduler", context.find_scheduler())
