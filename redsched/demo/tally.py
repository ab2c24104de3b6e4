"""Counts events while the day goes by: which worker holds which run, what is settled, and when the fleet is idle."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Callable

from redsched import Event

__all__ = ["Tally"]

ENDED = frozenset({"done", "dead", "cancelled"})


class Tally:
    """A listener that counts for the display and the pace. The account is made from the stream itself, at the end."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.accounted = 0
        """Fires of schedules whose outcome is known."""
        self.settled: set[str] = set()
        """Jobs of order steps that ended."""
        self.held: dict[str, str] = {}
        """Job id -> worker that holds its run. Each of the demo's jobs has at most one instance."""
        self.runs: Counter[str] = Counter()
        """Worker -> runs that it settled."""
        self.latest: deque[Event] = deque(maxlen=6)
        self.recovered: list[Event] = []
        self._done: set[tuple[str, object]] = set()
        self._periodic: frozenset[str] = frozenset()
        self._changed = asyncio.Event()

    def watch(self, periodic: frozenset[str]) -> None:
        """The ids of the periodic jobs; all others are steps of orders."""
        self._periodic = periodic

    def note(self, event: Event) -> None:
        """Count an event. Called in the order of the stream."""
        self.counts[event.kind] += event.count or 1
        match event.kind:
            case "claimed":
                self.held[event.job_id] = event.worker or ""
            case "done" | "dead" | "cancelled" | "missed" | "coalesced" | "skipped":
                self._outcome(event)
            case "recovered":
                self.recovered.append(event)
                self.held.pop(event.job_id, None)
            case "released" | "retry" | "postponed":
                self.held.pop(event.job_id, None)
            case _:
                return
        self._changed.set()

    def _outcome(self, event: Event) -> None:
        if event.kind in ENDED:
            self.held.pop(event.job_id, None)
            self.runs[event.worker or ""] += event.kind == "done"
            self.latest.append(event)
        if event.job_id not in self._periodic:
            self.settled.add(event.job_id)
        elif event.kind in ENDED:
            key = (event.job_id, event.fire_time)
            if key not in self._done:
                self._done.add(key)
                self.accounted += 1
        else:
            self.accounted += event.count or 1

    async def until(self, condition: Callable[[], bool], seconds: float) -> bool:
        """Wait until the condition holds. Returns False if it does not within that time."""
        try:
            async with asyncio.timeout(seconds):
                while not condition():
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            return condition()
        return True
