"""Estimates Redis' time at an instant of the monotonic clock, from samples. Pure."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence

__all__ = ["Clock"]

WINDOW = 50
"""Samples: not more, since the two clocks may drift apart."""


class Clock:
    """The scheduler's time (ms since the epoch) as a function of the monotonic clock (seconds).

    The scheduler's time never goes back, and never runs faster than the monotonic clock; it may stand still, while
    Redis' own clock is behind what was seen before. So each sample bounds it from above, before and after.

    Args:
        samples: (when it was asked for, the answer in ms), in order.
    """

    def __init__(self, samples: Sequence[tuple[float, int]]) -> None:
        if not samples:
            raise ValueError("no sample of Redis' clock was taken")
        self._asked = [at for at, _ in samples]
        self._said = [now for _, now in samples]
        offsets = [now + 1 - at * 1000 for at, now in samples]  # the answer is rounded down
        self._offsets = [min(offsets[max(0, index - WINDOW) : index + 1]) for index in range(len(offsets))]
        """The least (answer - question) of the last samples up to each: of those, the one that was answered fastest."""

    def latest_ms(self, at: float) -> float:
        """At that instant it was not later than this."""
        before = bisect_right(self._asked, at)
        bound = self._offsets[max(0, before - 1)] + at * 1000
        # What is asked for at the same instant or later is answered later.
        return min(bound, self._said[before] + 1) if before < len(self._said) else bound

    def at(self, instant_ms: float) -> float:
        """The earliest instant of the monotonic clock at which it may have been so late."""
        index = bisect_left(self._said, instant_ms)
        low = self._asked[max(0, index - 1)] - 1.0
        high = self._asked[min(index, len(self._asked) - 1)] + max(1.0, (instant_ms - self._said[-1]) / 1000 + 1.0)
        while high - low > 0.0005:
            middle = (low + high) / 2
            low, high = (low, middle) if self.latest_ms(middle) >= instant_ms else (middle, high)
        return high
