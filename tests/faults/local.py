"""A task that runs in the test's own process, and waiting for what it does."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from redsched import BackgroundTaskScheduler

Make = Callable[..., BackgroundTaskScheduler]

ran: list[Any] = []


async def effect(value: Any) -> Any:
    """Leaves a trace."""
    ran.append(value)
    return value


async def until(condition: Callable[[], Any], seconds: float = 20.0) -> None:
    """Look until it is true; the event loop goes on meanwhile."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.02)
