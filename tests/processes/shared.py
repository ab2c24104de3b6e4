"""What child processes import: tasks, and a scheduler at module level."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

from redsched import BackgroundTaskScheduler, current_scheduler

schedulers: list[BackgroundTaskScheduler] = []


def configure(url: str, prefix: str) -> None:
    """Make the scheduler of this process, unless it was there before the fork."""
    if not schedulers or schedulers[-1].prefix != prefix:
        schedulers.append(BackgroundTaskScheduler(url, prefix, declared_tasks=False))


def note(path: str) -> None:
    """A line for each run."""
    with Path(path).open("a") as ledger:
        ledger.write(f"{os.getpid()}\n")


def pid() -> int:
    return os.getpid()


def current_prefix() -> str:
    return current_scheduler().prefix


async def schedule(count: int) -> list[str]:
    scheduler = schedulers[-1]
    return [(await scheduler.schedule_delayed_task("later", pid, delay_seconds=600)).id for _ in range(count)]


def run_schedule(count: int) -> list[str]:
    return asyncio.run(schedule(count))
