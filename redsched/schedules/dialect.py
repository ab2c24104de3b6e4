"""The text of a cron expression, read into the values that each field allows.

The dialect is croniter's: minute, hour, day of month, month, day of week, and, as a sixth and LAST field, second.
Lists, ranges (they may wrap: `22-2`, `sat-mon`), steps, names; 0 and 7 are Sunday; `L` (last day), `15W` (nearest
weekday), `fri#2` (second Friday), `L5` (last Friday), `?` like `*` in the two day fields. Case does not matter.

It is read here and not by croniter (7.0), which takes some of it otherwise than cron does: `8-8` as every hour, the
step of `23-5/2` as going on with 2 instead of 1, a day beside `2#1` as absent. And a refusal should name the field and
the reason.
"""

import re
from dataclasses import dataclass, field
from typing import NamedTuple

from redsched.errors import InvalidScheduleError

__all__ = [
    "DAY",
    "FIELDS",
    "HOUR",
    "LAST_DAY",
    "MINUTE",
    "MONTH",
    "NICKNAMES",
    "SECOND",
    "WEEKDAY",
    "Field",
    "Values",
    "as_text",
    "read",
    "refused",
    "split",
]

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


_WEEKDAY_ALLOWED = "0-7 (0 and 7 are Sunday) or sun-sat, fri#2 (the second Friday), L5 (the last)"


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
    Field("day of month", 1, 31, {}, "1-31, L (the last day) or 15W (the weekday nearest to the 15th)"),
    Field("month", 1, 12, _MONTHS, "1-12 or jan-dec"),
    Field("day of week", 0, 6, _WEEKDAYS, _WEEKDAY_ALLOWED),
    Field("second", 0, 59, {}, "0-59"),
)
MINUTE, HOUR, DAY, MONTH, WEEKDAY, SECOND = range(6)

_ITEM = re.compile(r"(?P<low>[a-z0-9]+|\*)(?:-(?P<high>[a-z0-9]+))?(?:/(?P<step>[a-z0-9]+))?", re.ASCII)
_NTH = re.compile(r"(?P<days>[a-z0-9]+(?:-[a-z0-9]+)?)#(?P<nth>[a-z0-9]+)", re.ASCII)
_LAST = re.compile(r"l(?P<day>[0-7])", re.ASCII)
_NEAREST = re.compile(r"(?:(\d+)w|w(\d+))", re.ASCII)

LAST_DAY = 0
"""Stands for `L` among the days of a month."""


class _RefusedError(Exception):
    """What is wrong with one field; becomes part of the InvalidScheduleError that names expression and field."""


# --- reading ----------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Values:
    """What one field allows."""

    restricted: bool = True
    plain: set[int] = field(default_factory=set[int])
    nth: set[tuple[int, int]] = field(default_factory=set[tuple[int, int]])  # (weekday, 1-5; 0 for the last)
    nearest: set[int] = field(default_factory=set[int])


def _int(digits: str) -> int:
    # int() raises by itself for thousands of digits, and no field needs more than two.
    if len(digits) > 9:
        raise _RefusedError(f"{digits[:9]}… is out of range")
    return int(digits)


def _number(text: str, spec: Field) -> int:
    if text in spec.names:
        return spec.names[text]
    if not text.isdecimal():
        raise _RefusedError(f"{text!r} is neither a number nor a name")
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


def _read_field(text: str, spec: Field) -> Values:
    found = Values()
    for item in text.split(","):
        if item == "*" or (item == "?" and spec.name in ("day of month", "day of week")):
            found.restricted = False
            found.plain |= set(range(spec.low, spec.high + 1))
        elif spec.name == "day of month" and item == "l":
            found.plain.add(LAST_DAY)
        elif spec.name == "day of month" and (match := _NEAREST.fullmatch(item)):
            found.nearest.add(_number(match[1] or match[2], spec))
        elif spec.name == "day of week" and (match := _LAST.fullmatch(item)):
            found.nth.add((int(match["day"]) % 7, 0))
        elif spec.name == "day of week" and (match := _NTH.fullmatch(item)):
            if match["nth"] not in ("1", "2", "3", "4", "5"):
                raise _RefusedError(f"#{match['nth']} is out of range, a month has a weekday 1 to 5 times")
            low, _, high = match["days"].partition("-")
            found.nth |= {(day, int(match["nth"])) for day in _range(low, high or None, None, spec)}
        elif match := _ITEM.fullmatch(item):
            found.plain |= _range(match["low"], match["high"], match["step"], spec)
        elif not item:
            raise _RefusedError("a value is missing beside a comma")
        elif item.startswith("-"):
            raise _RefusedError(f"{item!r}: negative numbers do not exist here")
        else:
            raise _RefusedError(f"{item!r} is not understood")
    return found


def as_text(values: set[int], spec: Field) -> str:
    """Those values of a field as croniter takes them: plain numbers, in a list."""
    full = set(range(spec.low, spec.high + 1))
    return "*" if values >= full else ",".join("l" if value < spec.low else str(value) for value in sorted(values))


def read(text: str, parts: list[str]) -> list[Values]:
    """What each of the fields allows, seconds included; without a field for them, second 0."""
    found: list[Values] = []
    for spec, part in zip(FIELDS, parts, strict=False):
        try:
            found.append(_read_field(part, spec))
        except _RefusedError as problem:
            raise refused(
                text, f"the {spec.name} field ({part!r}) is wrong: {problem}; allowed: {spec.allowed}."
            ) from None
    for one, other in ((DAY, WEEKDAY), (WEEKDAY, DAY)):
        # `1-31` beside `*/2` is no restriction to OR with, as in croniter (and in cron, which goes by the star).
        if "*" in parts[other] and found[one].plain >= set(range(FIELDS[one].low, FIELDS[one].high + 1)):
            found[one].restricted = False
    return found if len(found) > SECOND else [*found, Values(plain={0})]


def split(text: str) -> list[str]:
    """The fields, five or six, in lower case; of a nickname, those it stands for."""
    lowered = text.lower()
    if lowered == "@reboot":
        raise refused(
            text,
            "jobs outlive the processes that run them, so there is no reboot to fire at; call the function when your "
            "service starts, or schedule it once for now.",
        )
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
    return fields


def refused(text: str, problem: str) -> InvalidScheduleError:
    """The error for an expression, ready to be raised."""
    shown = text if len(text) <= 200 else f"{text[:200]}…"
    return InvalidScheduleError(f"expression={shown!r}: {problem}", field="expression")
