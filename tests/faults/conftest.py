"""What the fault tests share."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from redsched import BackgroundTaskScheduler
from redsched.testing import fresh_prefix
from tests.faults.local import Make, ran


@pytest.fixture
async def make() -> AsyncIterator[Make]:
    """Schedulers of one prefix that are shut down at the end of the test."""
    ran.clear()
    made: list[BackgroundTaskScheduler] = []
    prefix = fresh_prefix()

    def scheduler(url: str, **settings: Any) -> BackgroundTaskScheduler:
        made.append(BackgroundTaskScheduler(url, prefix, declared_tasks=False, **settings))
        return made[-1]

    yield scheduler
    for each in made:
        await each.shutdown(wait=False)
