"""How a process is asked to end: once to drain, twice to end at once."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Awaitable, Callable
from types import FrameType
from typing import Any

__all__ = ["Stop"]


class Stop:
    """Whether this process is asked to stop, and how urgently. Belongs to the event loop it is made in."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        """Stop claiming, let runs finish."""
        self.urged = asyncio.Event()
        """Give all runs back, now."""
        self.came: tuple[str, float] | None = None
        """Who asked first, and when (time.monotonic()). The event loop may hear of it much later: see `note`."""
        self.heard: Callable[[str, float], None] | None = None
        """Called with this at once, even while the event loop is blocked, if Python code can run at all."""

    def note(self, who: str, at: float) -> None:
        """A stop was asked for."""
        if self.came is None:
            self.came = (who, at)
            if self.heard is not None:
                self.heard(who, at)

    def ask(self) -> None:
        """The first time: drain. The second: end at once."""
        if self.asked.is_set():
            self.urged.set()
        self.asked.set()

    def listen(self, *, once: bool = False) -> None:
        """Take SIGTERM and SIGINT as `ask`.

        Args:
            once: any number of signals means to drain. For a child, whose parent says when it is urgent: systemd
                and Ctrl-C signal a whole group, and what the parent then says would be the second time.
        """
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.asked.set if once else self.ask)
            self._note_arrival(number)

    def _note_arrival(self, number: signal.Signals) -> None:
        """The loop's handler waits for its turn. Python's own is called between two lines of whatever runs."""
        of_the_loop = signal.getsignal(number)

        def arrived(given: int, frame: FrameType | None) -> None:
            self.note(number.name, time.monotonic())
            if callable(of_the_loop):
                of_the_loop(given, frame)

        signal.signal(number, arrived)
        signal.siginterrupt(number, False)  # as the loop wants it

    async def before(self, work: Awaitable[Any]) -> bool:
        """Wait until the work is done, or a stop is asked for. Whether the stop came first; the work goes on then."""
        return await _first(self.asked, work)

    async def urged_before(self, work: Awaitable[Any]) -> bool:
        """As `before`, for ending at once."""
        return await _first(self.urged, work)

    async def sleep(self, seconds: float) -> None:
        """Wait, but not longer than until a stop is asked for."""
        try:
            await asyncio.wait_for(self.asked.wait(), seconds)
        except TimeoutError:
            return


async def _first(event: asyncio.Event, work: Awaitable[Any]) -> bool:
    working = asyncio.ensure_future(work)
    waiting = asyncio.ensure_future(event.wait())
    try:
        await asyncio.wait((working, waiting), return_when=asyncio.FIRST_COMPLETED)
    finally:
        waiting.cancel()
    return not working.done()
