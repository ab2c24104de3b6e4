"""When a job is due: a date, an interval, a cron expression, or any of several. Pure: no I/O, no clock.

Read `base.py` for what a schedule answers, `expression.py` and `zones.py` for how cron does it. All instants are
integer milliseconds since the epoch (UTC).
"""

import reprlib
from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from typing import Any, cast

from redsched.errors import InvalidScheduleError
from redsched.schedules.base import MAX_MS, Schedule
from redsched.schedules.combine import MAX_MEMBERS, AnyOf
from redsched.schedules.cron import CronSchedule
from redsched.schedules.date import DateSchedule
from redsched.schedules.dialect import SecondsOrder
from redsched.schedules.interval import IntervalSchedule
from redsched.schedules.zones import parse_timezone

__all__ = [
    "MAX_MS",
    "AnyOf",
    "CronSchedule",
    "DateSchedule",
    "IntervalSchedule",
    "Schedule",
    "SecondsOrder",
    "parse_timezone",
    "schedule_from_wire",
]

# Each of the parts of `to_wire`, in its order, is an argument.
_WIRE_FIELDS: dict[str, tuple[Callable[..., Schedule], tuple[str, ...]]] = {
    "date": (DateSchedule, ("run_ms", "timezone", "anchor_ms")),
    "interval": (
        IntervalSchedule,
        ("interval_ms", "start_ms", "end_ms", "timezone", "jitter_ms", "anchor_ms", "seed"),
    ),
    "cron": (
        partial(CronSchedule, is_stored=True),
        ("expression", "timezone", "dst_gap", "dst_fold", "start_ms", "end_ms", "jitter_ms", "seed", "seconds"),
    ),
}

# What is read from Redis must not recurse without end, nor be built before it is counted.
_DEEPEST_UNION = 8
_MOST_LISTS = 4 * MAX_MEMBERS


def schedule_from_wire(data: Sequence[Any]) -> Schedule:
    """The schedule that `to_wire` made this list from. Cheap to repeat: equal lists give the same object.

    Raises:
        InvalidScheduleError: an unknown kind, missing or wrong parts, or a zone that this machine does not know.
    """
    try:
        return _from_wire(_frozen(data, _DEEPEST_UNION, [_MOST_LISTS]))
    except TypeError as problem:
        # A dict or bytearray where a scalar belongs, or too many parts.
        raise InvalidScheduleError(
            f"schedule={reprlib.repr(data)}: not a schedule: {problem}.", field="schedule"
        ) from None


def _frozen(data: object, depth: int, left: list[int]) -> tuple[Any, ...]:
    if not isinstance(data, list | tuple) or not depth:
        raise TypeError("a list of parts is needed")
    left[0] -= 1
    if left[0] < 0:
        raise TypeError(f"at most {MAX_MEMBERS} schedules can be combined")
    parts = cast("Sequence[object]", data)
    return tuple(_frozen(part, depth - 1, left) if isinstance(part, list | tuple) else part for part in parts)


# Bounded by what a busy worker has in hand, not by the number of jobs; creating one again costs about 10 µs.
@lru_cache(maxsize=16_384)
def _from_wire(data: tuple[Any, ...]) -> Schedule:
    kind = data[0] if data else None
    if kind == "any" and len(data) == 2 and isinstance(data[1], tuple):
        return AnyOf(tuple(_from_wire(member) for member in cast("tuple[tuple[Any, ...], ...]", data[1])))
    if not isinstance(kind, str) or kind not in _WIRE_FIELDS:
        raise InvalidScheduleError(
            f"schedule: the kind {kind!r} is not known; it is one of {', '.join([*_WIRE_FIELDS, 'any'])}. A newer "
            f"redsched may have written it: upgrade this process.",
            field="schedule",
        )
    make, fields = _WIRE_FIELDS[kind]
    if len(data) - 1 > len(fields):
        # A newer redsched may know what it means; to leave it out would be another schedule.
        raise TypeError(f"{kind!r} has at most {len(fields)} parts, here are {len(data) - 1}")
    return make(**dict(zip(fields, data[1:], strict=False)))
