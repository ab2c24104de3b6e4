"""Stop requests to a process: the first one drains it, the second one ends it immediately."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Awaitable, Callable
from types import FrameType
from typing import Any

__all__ = ["Stop"]


class Stop:
    """Whether this process was asked to stop, and how urgently. Belongs to the event loop in which it was created."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        """Stop claiming, and let runs finish."""
        self.urged = asyncio.Event()
        """Give all runs back now."""
        self.came: tuple[str, float] | None = None
        """The source of the first request, and its time (time.monotonic()). The event loop may handle it much later."""
        self.heard: Callable[[str, float], None] | None = None
        """Called with these immediately, even while the event loop is blocked, if Python code can run at all."""

    def note(self, who: str, at: float) -> None:
        """Record the first stop request."""
        if self.came is None:
            self.came = (who, at)
            if self.heard is not None:
                self.heard(who, at)

    def ask(self) -> None:
        """Request a stop. The first call drains, the second one ends immediately."""
        if self.asked.is_set():
            self.urged.set()
        self.asked.set()

    def listen(self, *, once: bool = False) -> None:
        """Handle SIGTERM and SIGINT like `ask`.

        Args:
            once: any number of signals only drains. For a child, whose parent tells it when to end immediately:
                systemd and Ctrl-C signal a whole group, and the parent's message would count as the second request.
        """
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.asked.set if once else self.ask)
            self._note_arrival(number)

    def _note_arrival(self, number: signal.Signals) -> None:
        """Record when a signal arrives. The loop's handler waits for its turn; Python calls this one between any two
        bytecodes."""
        of_the_loop = signal.getsignal(number)

        def arrived(given: int, frame: FrameType | None) -> None:
            self.note(number.name, time.monotonic())
            if callable(of_the_loop):
                of_the_loop(given, frame)

        signal.signal(number, arrived)
        signal.siginterrupt(number, False)  # as the loop sets it

    async def before(self, work: Awaitable[Any]) -> bool:
        """Wait until the work is done or a stop is requested. Returns whether the stop came first; the work goes on."""
        return await _first(self.asked, work)

    async def urged_before(self, work: Awaitable[Any]) -> bool:
        """Like `before`, for the second request."""
        return await _first(self.urged, work)

    async def sleep(self, seconds: float) -> None:
        """Wait that long, or until a stop is requested."""
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
