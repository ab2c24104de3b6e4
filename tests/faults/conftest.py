"""What the fault tests share."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from redsched import BackgroundTaskScheduler
from redsched.testing import fresh_prefix

ran: list[Any] = []


async def effect(value: Any) -> Any:
    """Runs in the test's own process."""
    ran.append(value)
    return value


async def until(condition: Callable[[], Any], seconds: float = 20.0) -> None:
    """Look until it is true; the event loop goes on meanwhile."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.02)


Make = Callable[..., BackgroundTaskScheduler]


@pytest.fixture
async def make() -> AsyncIterator[Make]:
    """Schedulers that are shut down at the end of the test."""
    ran.clear()
    made: list[BackgroundTaskScheduler] = []
    prefix = fresh_prefix()

    def scheduler(url: str, **settings: Any) -> BackgroundTaskScheduler:
        made.append(BackgroundTaskScheduler(url, prefix, declared_tasks=False, **settings))
        return made[-1]

    yield scheduler
    for each in made:
        await each.shutdown(wait=False)
