"""A module that makes its scheduler when it is imported, also in a child process of the pool."""

from __future__ import annotations

import asyncio
import os

from redsched import BackgroundTaskScheduler, current_scheduler

scheduler = BackgroundTaskScheduler(os.environ["POOLED_URL"], os.environ["POOLED_PREFIX"], declared_tasks=False)


def nothing() -> None:
    pass


def parent() -> str:
    """A task: it schedules another job from the process that it runs in."""
    child = current_scheduler()
    assert child is scheduler
    assert not child.running
    return asyncio.run(child.schedule_delayed_task("child", nothing, delay_seconds=600)).id
