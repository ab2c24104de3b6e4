"""On which days a cron expression matches: the rule, and the days of a year, one list for all jobs that have it."""

from calendar import monthrange
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from functools import lru_cache

__all__ = ["DayRule", "days_of_year"]

_ALL_DAYS = frozenset(range(1, 32))
_EPOCH_ORDINAL = date(1970, 1, 1).toordinal()


@dataclass(frozen=True, slots=True)
class DayRule:
    """The days that match. A number of 0 or less counts back from the last day of the month."""

    months: frozenset[int]
    days: frozenset[int]
    nearest: frozenset[int]
    weekdays: frozenset[int]  # 0 is Sunday
    nth: frozenset[tuple[int, int]]
    both: bool
    """The day of the month and the weekday must match (one of the fields begins with a star); else either is enough."""

    @property
    def every_day(self) -> bool:
        """Whether the field of the day allows them all."""
        return self.days >= _ALL_DAYS

    @property
    def every_weekday(self) -> bool:
        return len(self.weekdays) == 7

    @property
    def is_daily(self) -> bool:
        either, both = self.every_day or self.every_weekday, self.every_day and self.every_weekday
        return len(self.months) == 12 and (both if self.both else either)

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
def days_of_year(rule: DayRule, year: int) -> Sequence[int]:
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
