"""A cron expression, apart from zones and instants: which local times match it?

A local time here is a number of seconds, as a wall clock shows it, counted as if it were UTC (see `redsched.zones`).
`croniter` computes the next match, on such naive times, where it has no DST to handle, from plain lists of numbers,
where it has no dialect to read (`dialect.py` did).

What it cannot do cheaply, the latest match and the number of matches in a span, comes from the same numbers, as a list
of the matching days of a year. That also makes croniter rare: the next match is remembered by the match before it, so
that all jobs of an expression, whatever their zone and whenever they ask, share one call for each match.
"""

from bisect import bisect_left, bisect_right
from calendar import monthrange
from copy import copy
from dataclasses import dataclass
from datetime import date
from functools import lru_cache
from typing import Any

from croniter import CroniterBadDateError, croniter

from redsched.schedules.dialect import (
    DAY,
    FIELDS,
    HOUR,
    LAST_DAY,
    MINUTE,
    MONTH,
    SECOND,
    WEEKDAY,
    Values,
    as_text,
    read,
    refused,
    split,
)
from redsched.zones import DAY_S, year_of

__all__ = ["Expression", "parse_expression"]

# The longest wait that the calendar can cause is 40 years (a fifth Monday in February, across 2100).
_SEARCH_YEARS = 50

_EPOCH_ORDINAL = date(1970, 1, 1).toordinal()


# --- days -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _DayRule:
    """The days of one alternative: all conditions hold. A day ORed with a weekday is two alternatives."""

    months: frozenset[int]
    days: frozenset[int] | None = None  # LAST_DAY for L
    weekdays: frozenset[int] | None = None  # 0 is Sunday
    nth: frozenset[tuple[int, int]] | None = None
    nearest: int | None = None

    def matches(self, day: date, month_length: int) -> bool:
        number = day.day
        weekday = day.isoweekday() % 7
        if self.days is not None and number not in self.days:
            return number == month_length and LAST_DAY in self.days
        if self.weekdays is not None and weekday not in self.weekdays:
            return False
        if self.nth is not None and (weekday, (number + 6) // 7) not in self.nth:
            return number + 7 > month_length and (weekday, 0) in self.nth
        return self.nearest is None or number == _nearest_weekday(day.year, day.month, self.nearest, month_length)


def _nearest_weekday(year: int, month: int, day: int, month_length: int) -> int:
    """The weekday nearest to a day, without leaving the month."""
    day = min(day, month_length)
    weekday = date(year, month, day).isoweekday()
    if weekday == 6:
        return day - 1 if day > 1 else day + 2
    if weekday == 7:
        return day + 1 if day < month_length else day - 2
    return day


@lru_cache(maxsize=2048)
def _days_of_year(rules: tuple[_DayRule, ...], year: int) -> tuple[int, ...]:
    """The matching days of a year, as days since the epoch, in order."""
    found: list[int] = []
    for month in range(1, 13):
        due = [rule for rule in rules if month in rule.months]
        if not due:
            continue
        length = monthrange(year, month)[1]
        first = date(year, month, 1).toordinal() - _EPOCH_ORDINAL
        for number in range(1, length + 1):
            day = date(year, month, number)
            if any(rule.matches(day, length) for rule in due):
                found.append(first + number - 1)
    return tuple(found)


# --- the expression ---------------------------------------------------------------------------------------------------


class Expression:
    """A parsed expression. All methods take and give local times in seconds. Made once each: `parse_expression`."""

    __slots__ = ("_croniters", "_hours", "_minutes", "_rules", "_seconds", "is_fixed_time", "text")

    def __init__(self, text: str, is_fixed_time: bool, times: tuple[Values, ...], rules: dict[_DayRule, Any]) -> None:
        self.text = text
        self.is_fixed_time = is_fixed_time
        """Neither the minute nor the hour field starts with `*`: the DST settings apply. Seconds do not count."""
        self._minutes, self._hours, self._seconds = (sorted(each.plain) for each in times)
        self._rules = tuple(rules)
        self._croniters = tuple(rules.values())

    def next(self, at_s: int) -> int | None:
        """The first match at or after at_s; None when there is none within 50 years."""
        before = self.last(at_s - 1)
        return _next_match(self, at_s - 1 if before is None else before)

    def last(self, at_s: int) -> int | None:
        """The latest match at or before at_s; None when there is none within 50 years."""
        day, rest = divmod(at_s, DAY_S)
        year = year_of(at_s)
        days = _days_of_year(self._rules, year)
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
            if days := _days_of_year(self._rules, earlier):
                return days[-1] * DAY_S + latest
        return None

    def count(self, low_s: int, high_s: int) -> int:
        """The number of matches low_s <= l < high_s. Costs a list of days for each year touched, once."""
        if high_s <= low_s:
            return 0
        first_day, last_day = low_s // DAY_S, high_s // DAY_S
        number = 0
        for year in range(year_of(low_s), year_of(high_s) + 1):
            days = _days_of_year(self._rules, year)
            number += bisect_left(days, last_day) - bisect_left(days, first_day) if days else 0
        number *= len(self._hours) * len(self._minutes) * len(self._seconds)
        if self._has_day(first_day):
            number -= self._times_before(low_s % DAY_S)
        if self._has_day(last_day):
            number += self._times_before(high_s % DAY_S)
        return number

    def _has_day(self, day: int) -> bool:
        days = _days_of_year(self._rules, year_of(day * DAY_S))
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


@lru_cache(maxsize=65_536)
def _next_match(expression: Expression, after_s: int) -> int | None:
    """The first match strictly after; the one place that calls croniter (60-380 µs)."""
    return min(
        (at for each in expression._croniters if (at := _call_croniter(each, after_s)) is not None),
        default=None,
    )


def _call_croniter(template: Any, after_s: int) -> int | None:
    # A croniter keeps its place, so each call works on a copy: a thread may ask at the same time.
    try:
        return int(copy(template).get_next(float, start_time=float(after_s)))
    except (CroniterBadDateError, ValueError, OverflowError):
        return None  # no match within 50 years, or beyond the year 9999


@lru_cache(maxsize=4096)
def parse_expression(text: str) -> Expression:
    """The expression of that text. Raises InvalidScheduleError, naming the field and the reason."""
    parts = split(text)
    values = read(text, parts)
    times = values[MINUTE], values[HOUR], values[SECOND]
    minute, hour, second = (
        as_text(each.plain, FIELDS[at]) for each, at in zip(times, (MINUTE, HOUR, SECOND), strict=True)
    )
    month = as_text(values[MONTH].plain, FIELDS[MONTH])
    rules: dict[_DayRule, Any] = {}
    for rule, day, weekday in _alternatives(values):
        plain = f"{minute} {hour} {day} {month} {weekday}" + (f" {second}" if len(parts) > SECOND else "")
        template = croniter(plain, 0.0, max_years_between_matches=_SEARCH_YEARS)
        # One that never fires ("30 February") is left out: looking for it through 50 years is not cheap.
        if _call_croniter(template, 0) is not None:
            rules[rule] = template
    if not rules:
        raise refused(text, "it never fires: no year has such a day; check the day of month against the month.")
    is_fixed_time = not parts[MINUTE].startswith("*") and not parts[HOUR].startswith("*")
    return Expression(text, is_fixed_time, times, rules)


def _alternatives(values: list[Values]) -> list[tuple[_DayRule, str, str]]:
    """The day rules whose union the expression is, each with croniter's text for its day and its weekday.

    A restricted day of month and a restricted day of week are ORed, as in croniter; restricted is all but `*` and `?`,
    so `*/2` is (Vixie cron would AND that).
    """
    day, weekday, months = values[DAY], values[WEEKDAY], frozenset(values[MONTH].plain)
    found: list[tuple[_DayRule, str, str]] = []
    if day.restricted:
        if day.plain:
            found.append((_DayRule(months, days=frozenset(day.plain)), as_text(day.plain, FIELDS[DAY]), "*"))
        found += [(_DayRule(months, nearest=number), f"{number}w", "*") for number in sorted(day.nearest)]
    if weekday.restricted:
        if weekday.plain:
            text = as_text(weekday.plain, FIELDS[WEEKDAY])
            found.append((_DayRule(months, weekdays=frozenset(weekday.plain)), "*", text))
        if weekday.nth:
            text = ",".join(f"{number}#{nth}" if nth else f"l{number}" for number, nth in sorted(weekday.nth))
            found.append((_DayRule(months, nth=frozenset(weekday.nth)), "*", text))
    return found or [(_DayRule(months), "*", "*")]
