"""What a process knows of Redis' clock, the only clock that decides anything.

Each reply of a script carries the instant at which it ran. The script ran before its reply arrived, so that
instant plus the (monotonic) time since the arrival is never ahead of Redis: what waits for it is never early.
The machine's own wall clock is not read, so a worker whose clock is hours wrong schedules correctly.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta, tzinfo

__all__ = ["StoreClock", "from_ms", "to_ms"]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def from_ms(instant_ms: int, zone: tzinfo = UTC) -> datetime:
    """An aware datetime from milliseconds since the epoch."""
    return (_EPOCH + timedelta(milliseconds=instant_ms)).astimezone(zone)


def to_ms(instant: datetime) -> int:
    """Milliseconds since the epoch of an aware datetime (rounded down)."""
    return (instant - _EPOCH) // timedelta(milliseconds=1)


class StoreClock:
    """An estimate of Redis' time, never ahead of it."""

    __slots__ = ("_arrived", "_now_us")

    def __init__(self) -> None:
        self._now_us = 0
        self._arrived = 0.0

    @property
    def known(self) -> bool:
        """Whether any reply has arrived yet."""
        return self._now_us > 0

    def observe(self, now_us: int) -> None:
        """A reply arrived just now that carried this instant (microseconds since the epoch)."""
        self._now_us = now_us
        self._arrived = time.monotonic()

    def now_us(self) -> int:
        """Microseconds since the epoch, by Redis' clock."""
        return self._now_us + int((time.monotonic() - self._arrived) * 1_000_000)

    def now_ms(self) -> int:
        """Milliseconds since the epoch, by Redis' clock."""
        return self.now_us() // 1000

    def seconds_until(self, instant_ms: int) -> float:
        """How long to sleep until then; negative if it has passed."""
        return (instant_ms * 1000 - self.now_us()) / 1_000_000
