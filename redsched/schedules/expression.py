"""A cron expression, apart from zones and instants: which local times match it?

A local time here is a number of seconds, as a wall clock shows it, counted as if it were UTC (see `redsched.zones`).

The matching days of a year are one list for each rule of days, whatever the number of jobs that have it; the times of a
day are the same on each of them. The next match, the latest one and the number within a span are places in these lists.
"""

from bisect import bisect_left, bisect_right
from calendar import monthrange
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from functools import lru_cache

from redsched.schedules.dialect import (
    DAY,
    HOUR,
    MINUTE,
    MONTH,
    SECOND,
    WEEKDAY,
    SecondsOrder,
    Values,
    begins_with_star,
    read,
    refused,
    split,
)
from redsched.zones import DAY_S, year_of

__all__ = ["Expression", "parse_expression"]

# The longest wait that the calendar can cause is 40 years (a fifth Monday in February, across 2100).
_SEARCH_YEARS = 50

_LAST_YEAR = 9999  # of datetime

_EPOCH_ORDINAL = date(1970, 1, 1).toordinal()


# --- days -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _DayRule:
    """Which days match. A number of 0 or less counts back from the last day of the month."""

    months: frozenset[int]
    days: frozenset[int]
    nearest: frozenset[int]
    weekdays: frozenset[int]  # 0 is Sunday
    nth: frozenset[tuple[int, int]]
    both: bool
    """The day of the month and the weekday must match (one of the fields begins with a star); else either is enough."""

    @property
    def is_daily(self) -> bool:
        every_day, every_weekday = len(self.days & _ALL_DAYS) == 31, len(self.weekdays) == 7
        return len(self.months) == 12 and ((every_day and every_weekday) if self.both else (every_day or every_weekday))

    def matches(self, day: date, month_length: int) -> bool:
        number = day.day
        weekday = day.isoweekday() % 7
        on_day = number in self.days or number - month_length in self.days
        if not on_day and self.nearest:
            on_day = any(number == _nearest_weekday(day, each, month_length) for each in self.nearest)
        if on_day is not self.both:
            return on_day
        if weekday in self.weekdays or (weekday, (number + 6) // 7) in self.nth:
            return True
        return number + 7 > month_length and (weekday, 0) in self.nth


_ALL_DAYS = frozenset(range(1, 32))


def _nearest_weekday(month: date, number: int, month_length: int) -> int:
    """The weekday nearest to a day, without leaving the month."""
    day = min(number, month_length) if number > 0 else max(1, month_length + number)
    weekday = month.replace(day=day).isoweekday()
    if weekday == 6:
        return day - 1 if day > 1 else day + 2
    if weekday == 7:
        return day + 1 if day < month_length else day - 2
    return day


@lru_cache(maxsize=2048)
def _days_of_year(rule: _DayRule, year: int) -> Sequence[int]:
    """The matching days of a year, as days since the epoch, in order."""
    if rule.is_daily:
        first = date(year, 1, 1).toordinal() - _EPOCH_ORDINAL
        return range(first, date(year, 12, 31).toordinal() - _EPOCH_ORDINAL + 1)
    found: list[int] = []
    for month in sorted(rule.months):
        length = monthrange(year, month)[1]
        first = date(year, month, 1).toordinal() - _EPOCH_ORDINAL
        for number in range(1, length + 1):
            if rule.matches(date(year, month, number), length):
                found.append(first + number - 1)
    return tuple(found)


# --- the expression ---------------------------------------------------------------------------------------------------


class Expression:
    """A parsed expression. All methods take and give local times in seconds. Made once each: `parse_expression`."""

    __slots__ = ("_hours", "_minutes", "_rule", "_seconds", "is_fixed_time", "text")

    def __init__(self, text: str, is_fixed_time: bool, times: tuple[Values, ...], rule: _DayRule) -> None:
        self.text = text
        self.is_fixed_time = is_fixed_time
        """Neither the minute nor the hour field starts with `*`: the DST settings apply. Seconds do not count."""
        self._minutes, self._hours, self._seconds = (sorted(each.plain) for each in times)
        self._rule = rule

    @property
    def fires(self) -> bool:
        """Whether there is any day that matches."""
        return any(_days_of_year(self._rule, year) for year in range(2000, 2000 + _SEARCH_YEARS))

    def next(self, at_s: int) -> int | None:
        """The first match at or after at_s; None when there is none within 50 years."""
        day, rest = divmod(at_s, DAY_S)
        year = year_of(at_s)
        days = _days_of_year(self._rule, year)
        index = bisect_left(days, day)
        if index < len(days) and days[index] == day:
            time = self._first_time(rest)
            if time is not None:
                return day * DAY_S + time
            index += 1
        earliest = (self._hours[0] * 60 + self._minutes[0]) * 60 + self._seconds[0]
        if index < len(days):
            return days[index] * DAY_S + earliest
        for later in range(year + 1, min(year + 1 + _SEARCH_YEARS, _LAST_YEAR + 1)):
            if days := _days_of_year(self._rule, later):
                return days[0] * DAY_S + earliest
        return None

    def last(self, at_s: int) -> int | None:
        """The latest match at or before at_s; None when there is none within 50 years."""
        day, rest = divmod(at_s, DAY_S)
        year = year_of(at_s)
        days = _days_of_year(self._rule, year)
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
            if days := _days_of_year(self._rule, earlier):
                return days[-1] * DAY_S + latest
        return None

    def count(self, low_s: int, high_s: int) -> int:
        """The number of matches low_s <= l < high_s. Costs a list of days for each year touched, once."""
        if high_s <= low_s:
            return 0
        first_day, last_day = low_s // DAY_S, high_s // DAY_S
        number = 0
        for year in range(year_of(low_s), year_of(high_s) + 1):
            days = _days_of_year(self._rule, year)
            number += bisect_left(days, last_day) - bisect_left(days, first_day) if days else 0
        number *= len(self._hours) * len(self._minutes) * len(self._seconds)
        if self._has_day(first_day):
            number -= self._times_before(low_s % DAY_S)
        if self._has_day(last_day):
            number += self._times_before(high_s % DAY_S)
        return number

    def _has_day(self, day: int) -> bool:
        days = _days_of_year(self._rule, year_of(day * DAY_S))
        index = bisect_left(days, day)
        return index < len(days) and days[index] == day

    def _first_time(self, second: int) -> int | None:
        """The earliest time of day at or after that second of the day."""
        minutes, rest = divmod(second, 60)
        hour, minute = divmod(minutes, 60)
        if hour in self._hours:
            if minute in self._minutes and (s := _at_least(self._seconds, rest)) is not None:
                return (hour * 60 + minute) * 60 + s
            if (m := _at_least(self._minutes, minute + 1)) is not None:
                return (hour * 60 + m) * 60 + self._seconds[0]
        if (h := _at_least(self._hours, hour + 1)) is not None:
            return (h * 60 + self._minutes[0]) * 60 + self._seconds[0]
        return None

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


def _at_least(values: list[int], limit: int) -> int | None:
    index = bisect_left(values, limit)
    return values[index] if index < len(values) else None


@lru_cache(maxsize=4096)
def parse_expression(text: str, seconds: SecondsOrder = "last") -> Expression:
    """The expression of that text, with its seconds first or last if it has some.

    Raises:
        InvalidScheduleError: it is broken, or never fires; the message names the field and the reason.
    """
    parts = split(text, seconds)
    values = read(text, parts)
    day, weekday = values[DAY], values[WEEKDAY]
    rule = _DayRule(
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
