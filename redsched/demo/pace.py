"""How fast the day goes by: what is left of it is spread over what is left of the time."""

from __future__ import annotations

import asyncio
import time

__all__ = ["Pace"]


class Pace:
    """Where the machine is too slow for the wish, nothing waits, and it takes longer."""

    def __init__(self, seconds: float) -> None:
        self._end = time.monotonic() + seconds
        self._last = time.monotonic()

    async def after_step(self, steps_left: int) -> None:
        """A step is over: wait for what is left of its share."""
        now = time.monotonic()
        share = max(0.0, self._end - self._last) / (steps_left + 1)
        await asyncio.sleep(max(0.0, self._last + share - now))
        self._last = time.monotonic()
