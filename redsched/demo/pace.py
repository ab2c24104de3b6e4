"""The pace of the day: the remaining steps share the remaining time."""

from __future__ import annotations

import asyncio
import time

__all__ = ["Pace"]


class Pace:
    """Spreads the steps over the target duration. On a slow machine it never waits, and the demo takes longer."""

    def __init__(self, seconds: float) -> None:
        self._end = time.monotonic() + seconds
        self._last = time.monotonic()

    async def after_step(self, steps_left: int) -> None:
        """Wait for the rest of a finished step's share of the time."""
        now = time.monotonic()
        share = max(0.0, self._end - self._last) / (steps_left + 1)
        await asyncio.sleep(max(0.0, self._last + share - now))
        self._last = time.monotonic()
