"""How many runs a worker may hold: those that it executes at once, and some claimed ahead of free slots."""

from __future__ import annotations

from redsched.worker.slots import Slots

__all__ = ["MAX_CLAIMS", "Capacity"]

MAX_CLAIMS = 250
"""Runs claimed in one poll: enough to amortise the trip, few enough that the script stays in the milliseconds."""
FIRST_AHEAD, MAX_AHEAD = 8, 2 * MAX_CLAIMS
SHORT_WAIT_S = 0.005
"""Runs that were claimed ahead should not wait for a slot longer than this."""


class Capacity:
    """The counters of one worker, for all its shards. Other objects read them, and change them by these methods alone.

    Args:
        concurrency: how many runs are executed at once.
    """

    __slots__ = ("ahead", "concurrency", "duration_ms", "holding", "reserved")

    def __init__(self, concurrency: int) -> None:
        self.concurrency: int = concurrency
        self.ahead: int = 0
        """How many more runs may be held than are executed at once."""
        self.holding: int = 0
        """Runs that are held now, on all shards: executed, or waiting for a slot."""
        self.reserved: int = 0
        """Places reserved for polls that are under way."""
        self.duration_ms: float = 0.0
        """The recent duration of runs."""

    @property
    def room(self) -> int:
        """How many more runs may be claimed."""
        return self.concurrency + self.ahead - self.holding - self.reserved

    @property
    def is_unused(self) -> bool:
        """Whether no run is held, and no poll may bring one."""
        return not self.holding and not self.reserved

    def share(self, shards: int) -> int:
        """How many runs one poll may claim. A fair share: of several shards one may be dead, and its poll must not keep
        all the room for itself."""
        fair = -(-(self.concurrency + self.ahead) // shards)
        return max(0, min(self.room, fair, MAX_CLAIMS))

    def reserve(self, places: int) -> None:
        """A poll begins that may bring this number of runs."""
        self.reserved += places

    def cancel_reservation(self, places: int) -> None:
        """The poll that may have brought this number of runs has ended."""
        self.reserved -= places

    def take(self) -> None:
        """One more run is held."""
        self.holding += 1

    def free(self) -> None:
        """One run is no longer held."""
        self.holding -= 1

    def observe_duration(self, average_ms: float) -> None:
        """Runs that ended took so long on average."""
        self.duration_ms = (self.duration_ms + average_ms) / 2

    def pace(self, slots: Slots, now: float, *, more: bool) -> None:
        """Claim more ahead of free slots if they ran out of runs while Redis had some, and fewer if runs wait long; no
        more than begin in a short time, if they take as long as those before.

        Args:
            slots: of the worker, before the runs that a poll brought are put into them.
            now: of time.monotonic.
            more: Redis had more due runs than the poll could claim.
        """
        if slots.are_free:
            if more:
                begin = round(SHORT_WAIT_S * 1000 * self.concurrency / max(self.duration_ms, 0.01))
                self.ahead = min(MAX_AHEAD, max(FIRST_AHEAD, 2 * self.ahead), begin)
        elif slots.waiting and now - slots.waiting[0].claimed > SHORT_WAIT_S:
            self.ahead //= 2

    def stop_ahead(self) -> None:
        """Claim no runs ahead until `pace` allows it again."""
        self.ahead = 0
