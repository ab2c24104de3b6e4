"""The text of a cron expression, read into the values that each field allows.

Minute, hour, day of month, month, day of week, and, as a sixth field, second: the last one, or the first one where
`seconds="first"` says so. Lists, ranges (they may wrap: `22-2`, `sat-mon`), steps, names; 0 and 7 are Sunday; `L` (last
day), `L-3` (three days before it), `15W` (nearest weekday), `LW` (last weekday), `fri#2` (second Friday), `friL`, `5L`
or `L5` (last Friday), `?` like `*` in the two day fields. Case does not matter.

What is stored must stay readable, so what is merely suspicious is not refused here but in `suspicious.py`.
"""

import re
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from redsched.schedules.foreign import refuse_foreign, refused

__all__ = [
    "DAY",
    "FIELDS",
    "HOUR",
    "MINUTE",
    "MONTH",
    "NICKNAMES",
    "SECOND",
    "WEEKDAY",
    "Field",
    "SecondsOrder",
    "Values",
    "as_text",
    "begins_with_star",
    "read",
    "refused",
    "split",
]

SecondsOrder = Literal["first", "last"]

NICKNAMES = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}

_MONTH_NAMES = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_WEEKDAY_NAMES = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_MONTHS = {name: n for n, name in enumerate(_MONTH_NAMES, start=1)}
_WEEKDAYS = {name: n for n, name in enumerate(_WEEKDAY_NAMES)}


_DAY_ALLOWED = "1-31, L (the last day), L-3 (three days before it), 15W (the weekday nearest to the 15th) or LW"
_WEEKDAY_ALLOWED = "0-7 (0 and 7 are Sunday) or sun-sat, fri#2 (the second Friday), 5L or friL (the last Friday)"


class Field(NamedTuple):
    """One of the six fields: its name and range."""

    name: str
    low: int
    high: int
    names: dict[str, int]
    allowed: str


FIELDS = (
    Field("minute", 0, 59, {}, "0-59"),
    Field("hour", 0, 23, {}, "0-23"),
    Field("day of month", 1, 31, {}, _DAY_ALLOWED),
    Field("month", 1, 12, _MONTHS, "1-12 or jan-dec"),
    Field("day of week", 0, 6, _WEEKDAYS, _WEEKDAY_ALLOWED),
    Field("second", 0, 59, {}, "0-59"),
)
MINUTE, HOUR, DAY, MONTH, WEEKDAY, SECOND = range(6)

_ITEM = re.compile(r"(?P<low>[a-z0-9]+|\*)(?:-(?P<high>[a-z0-9]+))?(?:/(?P<step>[a-z0-9]+))?", re.ASCII)
_NTH = re.compile(r"(?P<days>[a-z0-9]+(?:-[a-z0-9]+)?)#(?P<nth>[a-z0-9]+)", re.ASCII)
_LAST_WEEKDAY = re.compile(r"l(?P<after>[0-7])|(?P<before>[0-7]|[a-z]{3})l", re.ASCII)
_LAST_DAY = re.compile(r"l(?:-(\d+))?", re.ASCII)
_NEAREST = re.compile(r"(?:(\d+)w|w(\d+))", re.ASCII)
_NEAREST_LAST = re.compile(r"l(?:-(\d+))?w|wl", re.ASCII)


class _RefusedError(Exception):
    """The problem with one field; becomes part of the InvalidScheduleError that names expression and field."""


# --- reading ----------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Values:
    """The values that one field allows."""

    plain: set[int] = field(default_factory=set[int])  # days of 0 and less count back from the last of the month
    nth: set[tuple[int, int]] = field(default_factory=set[tuple[int, int]])  # (weekday, 1-5; 0 for the last)
    nearest: set[int] = field(default_factory=set[int])  # days as in `plain`


def _int(digits: str) -> int:
    # int() raises by itself for thousands of digits, and no field needs more than two.
    if len(digits) > 9:
        raise _RefusedError(f"{digits[:9]}… is out of range")
    return int(digits)


def _number(text: str, spec: Field) -> int:
    if text in spec.names:
        return spec.names[text]
    if not text.isdecimal():
        hint = " (Jenkins' H is not known: give a fixed value, and jitter=)" if text == "h" else ""
        raise _RefusedError(f"{text!r} is neither a number nor a name{hint}")
    number = _int(text)
    highest = 7 if spec.name == "day of week" else spec.high
    if not spec.low <= number <= highest:
        raise _RefusedError(f"{text} is out of range")
    return number


def _range(low_text: str, high_text: str | None, step_text: str | None, spec: Field) -> set[int]:
    step = 1
    if step_text is not None:
        if not step_text.isdecimal():
            raise _RefusedError(f"the step {step_text!r} is not a number")
        step = _int(step_text)
        if not step:
            raise _RefusedError("a step of 0 never advances")
    if low_text == "*":
        if high_text is not None:
            raise _RefusedError("a range starts with a value, not with *")
        low, high = spec.low, spec.high
    else:
        low = _number(low_text, spec)
        if high_text is not None:
            high = 31 if spec.name == "day of month" and high_text == "l" else _number(high_text, spec)
        else:
            high = low if step_text is None else max(low, spec.high)
    if high < low:
        # A wrapping range: 22-2 is 22, 23, 0, 1, 2, and a step goes on across the turn.
        high += spec.high - spec.low + 1
    size = spec.high - spec.low + 1
    return {(value - spec.low) % size + spec.low for value in range(low, high + 1, step)}


def _before_last(digits: str | None) -> int:
    """The day that `L` or `L-3` is, counted back from the last: 0, -3."""
    back = _int(digits) if digits else 0
    if back > 30:
        raise _RefusedError(f"L-{back} is out of range, a month has at most 31 days")
    return -back


def _read_day(item: str, spec: Field, found: Values) -> bool:
    """Read what only the day of the month has. Returns whether the item was that."""
    if match := _LAST_DAY.fullmatch(item):
        found.plain.add(_before_last(match[1]))
    elif match := _NEAREST_LAST.fullmatch(item):
        found.nearest.add(_before_last(match[1]))
    elif match := _NEAREST.fullmatch(item):
        found.nearest.add(_number(match[1] or match[2], spec))
    else:
        return False
    return True


def _read_weekday(item: str, spec: Field, found: Values) -> bool:
    """Read what only the day of the week has. Returns whether the item was that."""
    if item == "l":
        raise _RefusedError("L needs its day here: 5L is the last Friday")
    if match := _LAST_WEEKDAY.fullmatch(item):
        found.nth.add((_number(match["after"] or match["before"], spec) % 7, 0))
    elif match := _NTH.fullmatch(item):
        if match["nth"] not in ("1", "2", "3", "4", "5"):
            raise _RefusedError(f"#{match['nth']} is out of range, a month has a weekday 1 to 5 times")
        low, _, high = match["days"].partition("-")
        found.nth |= {(day, int(match["nth"])) for day in _range(low, high or None, None, spec)}
    else:
        return False
    return True


def _read_field(text: str, spec: Field) -> Values:
    found = Values()
    special = {"day of month": _read_day, "day of week": _read_weekday}.get(spec.name)
    for item in text.split(","):
        if item == "*" or (item == "?" and special is not None):
            found.plain |= set(range(spec.low, spec.high + 1))
        elif special is not None and special(item, spec, found):
            continue
        elif match := _ITEM.fullmatch(item):
            found.plain |= _range(match["low"], match["high"], match["step"], spec)
        elif not item:
            raise _RefusedError("a value is missing beside a comma")
        elif item.startswith("-"):
            raise _RefusedError(f"{item!r}: negative numbers do not exist here")
        elif "~" in item:
            raise _RefusedError(f"{item!r}: a random value (~) is not known; give a fixed one, and jitter=")
        else:
            raise _RefusedError(f"{item!r} is not understood")
    return found


def begins_with_star(part: str) -> bool:
    """Whether a field begins with a star for Debian cron: `*`, `*/2` and `*,5` do, `1-31` does not; `?` is `*`."""
    return part.startswith(("*", "?"))


def as_text(values: Collection[int], spec: Field) -> str:
    """The values of a field in croniter's form: plain numbers in a list, `l` for the last day (0 here)."""
    if all(value in values for value in range(spec.low, spec.high + 1)):
        return "*"
    return ",".join("l" if value < spec.low else str(value) for value in sorted(values))


def read(text: str, parts: list[str]) -> list[Values]:
    """The values that each of the fields allows, seconds included; without a seconds field, second 0."""
    found: list[Values] = []
    for spec, part in zip(FIELDS, parts, strict=False):
        try:
            found.append(_read_field(part, spec))
        except _RefusedError as problem:
            raise refused(
                text, f"the {spec.name} field ({part!r}) is wrong: {problem}; allowed: {spec.allowed}."
            ) from None
    return found if len(found) > SECOND else [*found, Values(plain={0})]


def split(text: str, seconds: SecondsOrder = "last") -> list[str]:
    """The fields, five or six, in lower case and with the second as the last; of a nickname, those it stands for."""
    refuse_foreign(text)
    lowered = text.lower()
    if lowered.startswith("@"):
        if lowered not in NICKNAMES:
            raise refused(text, f"this name is not known; the names are {', '.join(sorted(NICKNAMES))}.")
        lowered = NICKNAMES[lowered]
    fields = lowered.split()
    if len(fields) not in (5, 6):
        raise refused(
            text,
            f"it has {len(fields)} fields; give 5 (minute, hour, day of month, month, day of week), or 6 with "
            f"the second as the last.",
        )
    return [*fields[1:], fields[0]] if len(fields) > SECOND and seconds == "first" else fields
