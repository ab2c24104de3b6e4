"""Several schedules as one."""

from dataclasses import dataclass, field
from typing import Any

from redsched.errors import InvalidScheduleError
from redsched.schedules.base import Schedule

__all__ = ["MAX_MEMBERS", "AnyOf"]

MAX_MEMBERS = 64
"""Schedules in one, those within its members included: each is asked for its next fire at every fire of the job."""

# Equal instants fire once, so the counts of the members only add up when their fires are known to differ. Up to this
# many they are compared one by one; beyond it the count is not known, which is better than a wrong one or a slow plan.
_COMPARED_FIRES = 100


@dataclass(frozen=True, slots=True)
class AnyOf(Schedule):
    """Fires whenever one of its schedules does; several at the same instant are one fire.

    `timezone` is that of its first schedule. An explicit next_run_time is one more fire, and changes none of them. A
    date in it that is past does not fire late: unlike a lone DateSchedule, it would look like one that has
    fired.

    >>> from datetime import UTC, datetime
    >>> weekend = AnyOf((CronSchedule("0 9 * * sat"), CronSchedule("30 10 * * sun")))
    >>> datetime.fromtimestamp(weekend.next(0) / 1000, UTC).strftime("%a %H:%M")
    'Sat 09:00'
    """

    schedules: tuple[Schedule, ...]
    timezone: str = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        members = self.schedules
        if not isinstance(members, tuple | list) or not members:  # pyright: ignore[reportUnnecessaryIsInstance]
            raise InvalidScheduleError(
                f"schedules={members!r}: a tuple of at least one schedule is needed.", field="schedules"
            )
        for member in self.schedules:
            if not isinstance(member, Schedule):  # pyright: ignore[reportUnnecessaryIsInstance]
                raise InvalidScheduleError(
                    f"schedules: {member!r} is {type(member).__name__}, not a schedule; give CronSchedule, "
                    f"IntervalSchedule, DateSchedule or AnyOf.",
                    field="schedules",
                )
        if (number := sum(map(_members, members))) > MAX_MEMBERS:
            raise InvalidScheduleError(
                f"schedules: {number} schedules are combined; at most {MAX_MEMBERS} are allowed. Make several jobs.",
                field="schedules",
            )
        object.__setattr__(self, "schedules", tuple(self.schedules))
        object.__setattr__(self, "timezone", self.schedules[0].timezone)

    def first(self, now_ms: int) -> int | None:
        """The first fire at or after now."""
        return self.next(now_ms - 1)

    def next(self, after_ms: int) -> int | None:
        """The earliest of the members' next fires."""
        return min((at for each in self.schedules if (at := each.next(after_ms)) is not None), default=None)

    def last(self, upto_ms: int) -> int | None:
        """The latest of the members' last fires."""
        return max((at for each in self.schedules if (at := each.last(upto_ms)) is not None), default=None)

    def count(self, first_ms: int, last_ms: int) -> int | None:
        """The number of different instants; None when several members have many fires within."""
        total = 0
        busy = 0
        for each in self.schedules:
            number = each.count(first_ms, last_ms)
            if number is None:
                return None
            total += number
            busy += number > 0
        if busy <= 1:
            return total
        if total > _COMPARED_FIRES:
            return None
        different = 0
        at = self.next(first_ms - 1)
        while at is not None and at <= last_ms:
            different += 1
            at = self.next(at)
        return different

    def with_seed(self, seed: str) -> "AnyOf":
        """Each member with that seed."""
        return AnyOf(tuple(each.with_seed(seed) for each in self.schedules))

    def in_timezone(self, key: str) -> "AnyOf":
        """Each member in that zone."""
        return AnyOf(tuple(each.in_timezone(key) for each in self.schedules))

    def describe(self) -> str:
        """The members, joined by "or"."""
        return " or ".join(each.describe() for each in self.schedules)

    def to_wire(self) -> list[Any]:
        """["any", [member, …]]."""
        return ["any", [each.to_wire() for each in self.schedules]]


def _members(schedule: Schedule) -> int:
    return sum(map(_members, schedule.schedules)) if isinstance(schedule, AnyOf) else 1
