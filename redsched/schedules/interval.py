"""Equal steps from an anchor."""

from dataclasses import dataclass, replace
from typing import Any

from redsched.schedules.base import BasedSchedule, check_bounds, check_int, in_words
from redsched.schedules.zones import parse_timezone

__all__ = ["IntervalSchedule"]


@dataclass(frozen=True, slots=True)
class IntervalSchedule(BasedSchedule):
    """Fires at start_ms + k * interval_ms, k >= 0, up to and including end_ms. Arithmetic on instants: no DST in it.

    So a step of one day is 86,400 s, and its local hour moves when the clocks change, as in APScheduler; for the same
    local hour each day use cron. `timezone` is only what it is shown in.

    anchor_ms is an explicit next_run_time: the grid then starts there instead of at start_ms (APScheduler), and the
    anchor itself, which was chosen, is not jittered.

    >>> schedule = IntervalSchedule(interval_ms=60_000, start_ms=30_000)
    >>> schedule.first(0), schedule.next(30_000), schedule.last(200_000)
    (30000, 90000, 150000)
    """

    interval_ms: int
    start_ms: int
    end_ms: int | None = None
    timezone: str = "UTC"
    jitter_ms: int = 0
    anchor_ms: int | None = None
    seed: str = ""

    def __post_init__(self) -> None:
        check_int("interval_ms", self.interval_ms, least=1)
        check_int("start_ms", self.start_ms)
        check_int("end_ms", self.end_ms, none=True)
        check_int("jitter_ms", self.jitter_ms, least=0)
        check_int("anchor_ms", self.anchor_ms, none=True)
        check_bounds(self.start_ms, self.end_ms)
        object.__setattr__(self, "timezone", parse_timezone(self.timezone, "UTC"))

    @property
    def _origin_ms(self) -> int:
        return self.start_ms if self.anchor_ms is None else self.anchor_ms

    def _jitter(self, base_ms: int) -> int:
        # Otherwise the explicit next_run_time would fire, and its jittered self a moment later once more. The explicit
        # form of super(): @dataclass(slots=True) makes a new class, which the bare one does not know (Python < 3.14).
        return 0 if base_ms == self.anchor_ms else BasedSchedule._jitter(self, base_ms)

    def _next_base(self, after_ms: int) -> int | None:
        origin = self._origin_ms
        if after_ms < origin:
            return origin
        return origin + ((after_ms - origin) // self.interval_ms + 1) * self.interval_ms

    def _last_base(self, upto_ms: int) -> int | None:
        origin = self._origin_ms
        return None if upto_ms < origin else upto_ms - (upto_ms - origin) % self.interval_ms

    def _count_bases(self, first_ms: int, last_ms: int) -> int | None:
        origin, step = self._origin_ms, self.interval_ms
        if last_ms < origin:
            return 0
        return (last_ms - origin) // step - (max(first_ms, origin) - origin - 1) // step

    def rebased(self, at_ms: int) -> "IntervalSchedule":
        """The same step, counted from at_ms."""
        return replace(self, anchor_ms=at_ms)

    def unbased(self) -> "IntervalSchedule":
        """Back on the grid of start_ms."""
        return self if self.anchor_ms is None else replace(self, anchor_ms=None)

    def with_seed(self, seed: str) -> "IntervalSchedule":
        """The same with its jitter drawn for `seed`; itself where nothing jitters, so that equal schedules are
        shared."""
        return replace(self, seed=seed) if self.jitter_ms and seed != self.seed else self

    def in_timezone(self, key: str) -> "IntervalSchedule":
        """The same instants, shown in another zone."""
        return replace(self, timezone=key)

    def describe(self) -> str:
        """For example "every 5 minutes"."""
        return f"every {in_words(self.interval_ms)}{self._suffix()}"

    def to_wire(self) -> list[Any]:
        """["interval", interval_ms, start_ms, end_ms, timezone, jitter_ms, anchor_ms, seed], without an empty seed."""
        wire: list[Any] = ["interval", self.interval_ms, self.start_ms, self.end_ms]
        wire += [self.timezone, self.jitter_ms, self.anchor_ms]
        return [*wire, self.seed] if self.seed else wire
