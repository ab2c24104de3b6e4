"""One instant."""

from dataclasses import dataclass, replace
from typing import Any

from redsched.schedules.base import Schedule, check_int, instant_in_words
from redsched.schedules.zones import parse_timezone

__all__ = ["DateSchedule"]


@dataclass(frozen=True, slots=True)
class DateSchedule(Schedule):
    """Fires once, at run_ms (ms since the epoch). `timezone` is only what it is shown in.

    anchor_ms is an explicit next_run_time; it takes the place of run_ms, as APScheduler's date trigger has no second
    fire.

    >>> schedule = DateSchedule(1_000)
    >>> schedule.next(0), schedule.next(1_000)
    (1000, None)
    """

    run_ms: int
    timezone: str = "UTC"
    anchor_ms: int | None = None

    def __post_init__(self) -> None:
        check_int("run_ms", self.run_ms)
        check_int("anchor_ms", self.anchor_ms, none=True)
        object.__setattr__(self, "timezone", parse_timezone(self.timezone, "UTC"))

    @property
    def _fire_ms(self) -> int:
        return self.run_ms if self.anchor_ms is None else self.anchor_ms

    def first(self, now_ms: int) -> int | None:
        """The run date, even when it is past (APScheduler): it is due at once, and the grace time decides."""
        del now_ms
        return self._fire_ms

    def next(self, after_ms: int) -> int | None:
        """The run date while it is ahead, then None."""
        return self._fire_ms if self._fire_ms > after_ms else None

    def last(self, upto_ms: int) -> int | None:
        """The run date once it is reached."""
        return self._fire_ms if self._fire_ms <= upto_ms else None

    def count(self, first_ms: int, last_ms: int) -> int | None:
        """1 if the run date is within, else 0."""
        return int(first_ms <= self._fire_ms <= last_ms)

    def rebased(self, at_ms: int) -> "DateSchedule":
        """Fires at at_ms instead."""
        return replace(self, anchor_ms=at_ms)

    def unbased(self) -> "DateSchedule":
        """Fires at its run date again."""
        return self if self.anchor_ms is None else replace(self, anchor_ms=None)

    def in_timezone(self, key: str) -> "DateSchedule":
        """The same instants, shown in another zone."""
        return replace(self, timezone=key)

    def describe(self) -> str:
        """For example "at 2026-06-01T12:00:00+02:00 (Europe/Berlin)"."""
        return f"at {instant_in_words(self._fire_ms, self.timezone)} ({self.timezone})"

    def to_wire(self) -> list[Any]:
        """["date", run_ms, timezone, anchor_ms], without the last when there is none."""
        wire: list[Any] = ["date", self.run_ms, self.timezone]
        return wire if self.anchor_ms is None else [*wire, self.anchor_ms]
