"""What a schedule is: a set of instants, asked for by its neighbours and never listed.

All instants are integer milliseconds since the epoch (UTC). A schedule is a value: immutable, hashable, equal to
another one of the same definition. It does no I/O and knows no clock; "now" is always an argument.
"""

from abc import ABC, abstractmethod
from datetime import tzinfo
from hashlib import blake2b
from typing import Any

from redsched.checks import is_int
from redsched.errors import InvalidScheduleError
from redsched.schedules.zones import local_datetime, zone

__all__ = ["MAX_MS", "BasedSchedule", "Schedule", "check_bounds", "check_int", "in_words", "instant_in_words"]

# The end of the year 9998 in UTC. A schedule has no fire after it: datetime, and so every zone, ends with 9999.
MAX_MS = 253_370_764_799_999

_UNITS = ((86_400_000, "day"), (3_600_000, "hour"), (60_000, "minute"), (1000, "second"), (1, "millisecond"))


class Schedule(ABC):
    """A set of fire times. All arguments and results are ms since the epoch (UTC).

    >>> isinstance(CronSchedule("@daily"), Schedule)
    True
    >>> CronSchedule("@daily", timezone="Asia/Kolkata").describe()
    'cron @daily (Asia/Kolkata)'
    """

    __slots__ = ()

    timezone: str
    """The IANA key of the zone in which its local times are meant, and shown."""

    @property
    def zone(self) -> tzinfo:
        """The zone as a tzinfo."""
        return zone(self.timezone)

    @abstractmethod
    def first(self, now_ms: int) -> int | None:
        """The fire to start with when the schedule is added or resumed: the first at or after now, or None.

        A date gives its run date even when that is past, as in APScheduler: it is late, and the grace time decides.
        """

    @abstractmethod
    def next(self, after_ms: int) -> int | None:
        """The first fire strictly after that instant, or None when there is none any more."""

    @abstractmethod
    def last(self, upto_ms: int) -> int | None:
        """The latest fire at or before that instant, or None when there is none yet."""

    @abstractmethod
    def count(self, first_ms: int, last_ms: int) -> int | None:
        """How many fires are within [first_ms, last_ms]; None when that cannot be known without listing them."""

    def rebased(self, at_ms: int) -> "Schedule":
        """This schedule after an explicit next_run_time was given: that instant fires, then the schedule goes on.

        An interval counts on from there and a date has no other fire, as in APScheduler; others are not changed by it.
        """
        del at_ms
        return self

    def unbased(self) -> "Schedule":
        """The schedule without an explicit next_run_time, for resume and reschedule."""
        return self

    def with_seed(self, seed: str) -> "Schedule":
        """The schedule with its jitter drawn for `seed` (a job's id), so that jobs do not all jitter alike."""
        del seed
        return self

    def in_timezone(self, key: str) -> "Schedule":
        """This schedule with its local times meant, and shown, in another zone: an IANA key. Its instants stay, but for
        those of a cron expression."""
        del key
        return self

    @abstractmethod
    def describe(self) -> str:
        """A short text for people."""

    @abstractmethod
    def to_wire(self) -> list[Any]:
        """A list that msgpack can carry; `schedule_from_wire` reads it."""

    def __str__(self) -> str:
        return self.describe()


class BasedSchedule(Schedule):
    """A schedule whose fires are bases (grid points, matches), each moved by a separate jitter.

    fire(base) = min(base + j(base), next base - 1, end), with j(base) in [0, jitter_ms] drawn from a hash of seed and
    base. It is a function of the base alone: the same on every worker and after a restart, it never adds up to a drift,
    and as no fire reaches the next base, fires keep the order of their bases and the base of a fire is the last one
    before it.
    """

    __slots__ = ()

    end_ms: int | None
    jitter_ms: int
    seed: str

    @abstractmethod
    def _next_base(self, after_ms: int) -> int | None:
        """The first base strictly after that instant; end_ms is not looked at."""

    @abstractmethod
    def _last_base(self, upto_ms: int) -> int | None:
        """The latest base at or before that instant; end_ms is not looked at."""

    @abstractmethod
    def _count_bases(self, first_ms: int, last_ms: int) -> int | None:
        """The number of bases within [first_ms, last_ms]; end_ms is not looked at."""

    def _jitter(self, base_ms: int) -> int:
        digest = blake2b(f"{self.seed}:{base_ms}".encode(), digest_size=8).digest()
        return int.from_bytes(digest) % (self.jitter_ms + 1)

    def _fire(self, base_ms: int) -> int:
        if not self.jitter_ms:
            return base_ms
        fire = base_ms + self._jitter(base_ms)
        following = self._next_base(base_ms)
        if following is not None:
            fire = min(fire, following - 1)
        return fire if self.end_ms is None else min(fire, self.end_ms)

    def _is_over(self, base_ms: int | None) -> bool:
        return base_ms is None or base_ms > MAX_MS or (self.end_ms is not None and base_ms > self.end_ms)

    def first(self, now_ms: int) -> int | None:
        """The first fire at or after now; one exactly at now counts."""
        return self.next(now_ms - 1)

    def next(self, after_ms: int) -> int | None:
        """The first fire strictly after that instant, up to and including end_ms."""
        if self.jitter_ms:
            # The last base may be behind us, and its fire still ahead.
            base = self._last_base(after_ms)
            if base is not None and not self._is_over(base) and (fire := self._fire(base)) > after_ms:
                return fire
        base = self._next_base(after_ms)
        return None if base is None or self._is_over(base) else self._fire(base)

    def last(self, upto_ms: int) -> int | None:
        """The latest fire at or before that instant."""
        if self.end_ms is not None:
            upto_ms = min(upto_ms, self.end_ms)
        base = self._last_base(min(upto_ms, MAX_MS))
        if base is not None and self.jitter_ms and self._fire(base) > upto_ms:
            base = self._last_base(base - 1)
        return None if base is None else self._fire(base)

    def count(self, first_ms: int, last_ms: int) -> int | None:
        """How many fires are within [first_ms, last_ms]."""
        if self.end_ms is not None:
            last_ms = min(last_ms, self.end_ms)
        last_ms = min(last_ms, MAX_MS)
        if last_ms < first_ms:
            return 0
        number = self._count_bases(first_ms, last_ms)
        if number is None or not self.jitter_ms:
            return number
        # Jitter only moves a fire across the two borders: out at the end, in at the beginning.
        newest = self._last_base(last_ms)
        if newest is not None and newest >= first_ms and self._fire(newest) > last_ms:
            number -= 1
        earlier = self._last_base(first_ms - 1)
        if earlier is not None and first_ms <= self._fire(earlier) <= last_ms:
            number += 1
        return number

    def _suffix(self) -> str:
        parts = [f", until {instant_in_words(self.end_ms, self.timezone)}"] if self.end_ms is not None else []
        if self.jitter_ms:
            parts.append(f", jitter up to {in_words(self.jitter_ms)}")
        return "".join(parts)


# --- checks and words -------------------------------------------------------------------------------------------------


def check_int(field: str, value: object, *, least: int | None = None, none: bool = False) -> None:
    """Refuse anything but an int (no bool, no float) of at least `least`; None only where `none` says so."""
    if none and value is None:
        return
    if not is_int(value):
        raise InvalidScheduleError(
            f"{field}={value!r}: whole milliseconds are needed, not {type(value).__name__}; give an int.", field=field
        )
    if least is not None and value < least:
        raise InvalidScheduleError(f"{field}={value}: must be at least {least} (milliseconds).", field=field)


def check_bounds(start_ms: int | None, end_ms: int | None) -> None:
    """Refuse an end before the start: such a schedule never fires."""
    if start_ms is not None and end_ms is not None and end_ms < start_ms:
        raise InvalidScheduleError(
            f"end_ms={end_ms} ({instant_in_words(end_ms)}) is before start_ms={start_ms} "
            f"({instant_in_words(start_ms)}), so that the schedule never fires; give a later end.",
            field="end_ms",
        )


def in_words(duration_ms: int) -> str:
    """A duration for people: "5 minutes", "1 hour 30 minutes"."""
    parts: list[str] = []
    for unit_ms, name in _UNITS:
        number, duration_ms = divmod(duration_ms, unit_ms)
        if number:
            parts.append(f"{number} {name}{'' if number == 1 else 's'}")
    return " ".join(parts) or "0 seconds"


def instant_in_words(at_ms: int, timezone: str = "UTC") -> str:
    """An instant for people, ISO 8601 with its offset; the bare number where no calendar reaches."""
    try:
        moment = local_datetime(at_ms, timezone)
    except (ValueError, OverflowError, OSError):
        return f"{at_ms} ms"
    text = moment.isoformat(timespec="milliseconds" if at_ms % 1000 else "seconds")
    return text.replace("+00:00", "Z") if timezone == "UTC" else text
