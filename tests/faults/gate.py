"""What a test's tasks wait for: as asyncio.Event, but of no event loop, since each test has its own."""

from __future__ import annotations

import asyncio


class Gate:
    """Closed until it is opened."""

    def __init__(self) -> None:
        self._open = False

    def open(self) -> None:
        self._open = True

    def close(self) -> None:
        self._open = False

    async def wait(self) -> None:
        while not self._open:
            await asyncio.sleep(0.01)
