"""The part that the fixtures of pytest-asyncio and of anyio's plugin share."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from redsched.testing import Kit

__all__ = ["make_kit"]


async def make_kit(url: str) -> AsyncIterator[Kit]:
    """A scheduler that is not started, with a fresh prefix and the testing kit."""
    from redsched import BackgroundTaskScheduler, testing

    scheduler = BackgroundTaskScheduler(url, testing.fresh_prefix(), declared_tasks=False, lease=5.0)
    async with testing.kit(scheduler) as made:
        yield made
