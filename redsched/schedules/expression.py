"""A cron expression, apart from zones and instants: which local times match it?

A local time here is a number of seconds, as a wall clock shows it, counted as if it were UTC (see `zones.py`).

`croniter` gives the next match, on such naive times, where it has no DST to handle, from plain lists of numbers, where
it has no dialect to read (`dialect.py` did). Rules of days that it does not know are looked up in the lists of the
matching days of a year (`days.py`): croniter's match on a day that is not in the list is passed over for its first
match from the next day of the list on.

The latest match and the number of matches in a span, which croniter cannot give cheaply, are places in the same lists.
That also makes croniter rare: the next match is remembered by the match before it, so that all jobs of an expression,
whatever their zone and whenever they ask, share one call for each match.
"""

import importlib
from bisect import bisect_left, bisect_right
from copy import copy
from functools import lru_cache
from struct import calcsize
from typing import Any

from redsched.schedules.days import DayRule, days_of_year
from redsched.schedules.dialect import (
    DAY,
    FIELDS,
    HOUR,
    MINUTE,
    MONTH,
    SECOND,
    WEEKDAY,
    SecondsOrder,
    Values,
    as_text,
    begins_with_star,
    read,
    refused,
    split,
)
from redsched.schedules.zones import DAY_S, year_of

__all__ = ["Expression", "parse_expression"]

# The longest wait that the calendar can cause is 40 years (a fifth Monday in February, across 2100).
_SEARCH_YEARS = 50

_LAST_YEAR = 9999  # of datetime


# --- the expression ---------------------------------------------------------------------------------------------------


class Expression:
    """A parsed expression. All methods take and give local times in seconds. Made once each: `parse_expression`."""

    __slots__ = ("_hours", "_minutes", "_rule", "_seconds", "for_croniter", "is_fixed_time", "text")

    def __init__(self, text: str, is_fixed_time: bool, times: tuple[Values, ...], rule: DayRule) -> None:
        self.text: str = text
        self.is_fixed_time: bool = is_fixed_time
        """Neither the minute nor the hour field starts with `*`: the DST settings apply. Seconds do not count."""
        self._minutes, self._hours, self._seconds = (sorted(each.plain) for each in times)
        self._rule = rule
        self.for_croniter: str = _for_croniter(rule, *times)

    @property
    def fires(self) -> bool:
        """Whether there is any day that matches."""
        return any(days_of_year(self._rule, year) for year in range(2000, 2000 + _SEARCH_YEARS))

    def next(self, at_s: int) -> int | None:
        """The first match at or after at_s; None when there is none within 50 years."""
        before = self.last(at_s - 1)
        return _next_match(self, at_s - 1 if before is None else before)

    def last(self, at_s: int) -> int | None:
        """The latest match at or before at_s; None when there is none within 50 years."""
        day, rest = divmod(at_s, DAY_S)
        year = year_of(at_s)
        days = days_of_year(self._rule, year)
        index = bisect_right(days, day) - 1
        if index >= 0 and days[index] == day:
            time = self._last_time(rest)
            if time is not None:
                return day * DAY_S + time
            index -= 1
        latest = (self._hours[-1] * 60 + self._minutes[-1]) * 60 + self._seconds[-1]
        if index >= 0:
            return days[index] * DAY_S + latest
        for earlier in range(year - 1, max(year - 1 - _SEARCH_YEARS, 0), -1):
            if days := days_of_year(self._rule, earlier):
                return days[-1] * DAY_S + latest
        return None

    def count(self, low_s: int, high_s: int) -> int:
        """The number of matches low_s <= l < high_s. Costs a list of days for each year touched, once."""
        if high_s <= low_s:
            return 0
        first_day, last_day = low_s // DAY_S, high_s // DAY_S
        number = 0
        for year in range(year_of(low_s), year_of(high_s) + 1):
            days = days_of_year(self._rule, year)
            number += bisect_left(days, last_day) - bisect_left(days, first_day) if days else 0
        number *= len(self._hours) * len(self._minutes) * len(self._seconds)
        if self._has_day(first_day):
            number -= self._times_before(low_s % DAY_S)
        if self._has_day(last_day):
            number += self._times_before(high_s % DAY_S)
        return number

    def next_day(self, day: int) -> int | None:
        """The first day that matches, at or after one, as days since the epoch; None if there is none in 50 years."""
        year = year_of(day * DAY_S)
        for later in range(year, min(year + _SEARCH_YEARS, _LAST_YEAR) + 1):
            days = days_of_year(self._rule, later)
            index = bisect_left(days, day)
            if index < len(days):
                return days[index]
        return None

    def _has_day(self, day: int) -> bool:
        days = days_of_year(self._rule, year_of(day * DAY_S))
        index = bisect_left(days, day)
        return index < len(days) and days[index] == day

    def _last_time(self, second: int) -> int | None:
        """The latest time of day at or before that second of the day."""
        minutes, rest = divmod(second, 60)
        hour, minute = divmod(minutes, 60)
        if hour in self._hours:
            if minute in self._minutes and (s := _at_most(self._seconds, rest)) is not None:
                return (hour * 60 + minute) * 60 + s
            if (m := _at_most(self._minutes, minute - 1)) is not None:
                return (hour * 60 + m) * 60 + self._seconds[-1]
        if (h := _at_most(self._hours, hour - 1)) is not None:
            return (h * 60 + self._minutes[-1]) * 60 + self._seconds[-1]
        return None

    def _times_before(self, second: int) -> int:
        """How many times of day are before that second of the day."""
        minutes, rest = divmod(second, 60)
        hour, minute = divmod(minutes, 60)
        number = bisect_left(self._hours, hour) * len(self._minutes) * len(self._seconds)
        if hour in self._hours:
            number += bisect_left(self._minutes, minute) * len(self._seconds)
            if minute in self._minutes:
                number += bisect_left(self._seconds, rest)
        return number


def _at_most(values: list[int], limit: int) -> int | None:
    index = bisect_right(values, limit)
    return values[index - 1] if index else None


# --- croniter ---------------------------------------------------------------------------------------------------------


def _for_croniter(rule: DayRule, minutes: Values, hours: Values, seconds: Values) -> str:
    """The expression that croniter is asked for, with the seconds last; with every day where it does not know the rule.

    It knows the numbers of one day field. Two fields that must both match it gives up on where they rarely do, and the
    special days do not go with others. `_next_match` passes over the days that are too many.
    """
    day = weekday = "*"
    if rule.both and rule.every_weekday and not rule.nearest and min(rule.days) >= 0:
        day = as_text(rule.days, FIELDS[DAY])
    elif rule.both and rule.every_day and not rule.nth:
        weekday = as_text(rule.weekdays, FIELDS[WEEKDAY])
    minute, hour, second = (
        as_text(each.plain, FIELDS[at]) for each, at in ((minutes, MINUTE), (hours, HOUR), (seconds, SECOND))
    )
    return f"{minute} {hour} {day} {as_text(rule.months, FIELDS[MONTH])} {weekday} {second}"


@lru_cache(maxsize=65_536)
def _next_match(expression: Expression, after_s: int) -> int | None:
    """The first match strictly after; the one place that asks croniter (60-380 µs), twice at most."""
    at = _ask_croniter(expression.for_croniter, after_s)
    if at is None:
        return None
    day = expression.next_day(at // DAY_S)
    if day is None or day == at // DAY_S:
        return None if day is None else at
    return _ask_croniter(expression.for_croniter, day * DAY_S - 1)


def _ask_croniter(text: str, after_s: int) -> int | None:
    library = _library()
    try:
        # A croniter keeps its place, so each call works on a copy: a thread may ask at the same time.
        return int(copy(_croniter(text)).get_next(float, start_time=float(after_s)))
    except (library.CroniterBadDateError, ValueError, OverflowError):
        return None  # no match within 50 years, or beyond the year 9999


@lru_cache(maxsize=4096)
def _croniter(text: str) -> Any:
    return _library().croniter(text, 0.0, max_years_between_matches=_SEARCH_YEARS)


def _architecture(*args: Any, **kwargs: Any) -> tuple[str, str]:
    return f"{calcsize('P') * 8}bit", ""


@lru_cache(maxsize=1)
def _library() -> Any:
    """The module croniter, imported where a cron schedule is asked for the first time: it takes 20 ms, with dateutil.

    While it is imported it asks `platform.architecture` how many bits this Python has, which starts the program `file`
    that PATH finds first. A service should start no program for a schedule, and the size of a pointer says the same.
    """
    import platform

    asked = platform.architecture
    if asked is _architecture:  # another thread imports it now: this one waits for that
        return importlib.import_module("croniter")
    platform.architecture = _architecture
    try:
        return importlib.import_module("croniter")
    finally:
        platform.architecture = asked


# --- the text ---------------------------------------------------------------------------------------------------------


@lru_cache(maxsize=4096)
def parse_expression(text: str, seconds: SecondsOrder = "last") -> Expression:
    """The expression of that text, with its seconds first or last if it has some.

    Raises:
        InvalidScheduleError: it is broken, or never fires; the message names the field and the reason.
    """
    parts = split(text, seconds)
    values = read(text, parts)
    day, weekday = values[DAY], values[WEEKDAY]
    rule = DayRule(
        frozenset(values[MONTH].plain),
        frozenset(day.plain),
        frozenset(day.nearest),
        frozenset(weekday.plain),
        frozenset(weekday.nth),
        # Debian cron's rule, which goes by how the field is written: `*/2` begins with a star, `1-31` does not.
        both=begins_with_star(parts[DAY]) or begins_with_star(parts[WEEKDAY]),
    )
    is_fixed_time = not parts[MINUTE].startswith("*") and not parts[HOUR].startswith("*")
    found = Expression(text, is_fixed_time, (values[MINUTE], values[HOUR], values[SECOND]), rule)
    if not found.fires:
        raise refused(text, "it never fires: no year has such a day; check the day of month against the month.")
    return found
