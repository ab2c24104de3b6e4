"""Computes the fires of a day independently of the scheduler. The demo's account is checked against this list.

Nothing here is shared with `redsched.schedules`, on purpose: two programs that agree prove more than one. This one
is deliberately simple. It walks the minutes of the day in UTC, asks `zoneinfo` for the wall-clock time of each, and
applies Debian cron's rule for the two days a year on which the clocks change:

- an entry with a fixed time (neither its minute nor its hour begins with `*`) whose time is skipped runs once, at the
  first instant after the gap; if its time comes twice, it runs the first time only;
- any other entry matches the wall-clock time literally.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from datetime import time as wall_time
from zoneinfo import ZoneInfo

__all__ = [
    "MINUTE_MS",
    "Change",
    "Day",
    "Expectation",
    "Pattern",
    "changes_on",
    "day_of",
    "expect",
    "next_change_day",
    "parse",
    "walk",
]

MINUTE_MS = 60_000
MINUTE = timedelta(minutes=1)

NICKNAMES = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
MONTHS = {
    "jan": 1, "feb": 2, "mar": 3, "apr": 4, "may": 5, "jun": 6,
    "jul": 7, "aug": 8, "sep": 9, "oct": 10, "nov": 11, "dec": 12,
}  # fmt: skip
WEEKDAYS = {"sun": 0, "mon": 1, "tue": 2, "wed": 3, "thu": 4, "fri": 5, "sat": 6}


# -- an expression ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Pattern:
    """A cron expression as sets of numbers."""

    minutes: frozenset[int]
    hours: frozenset[int]
    days: frozenset[int]
    months: frozenset[int]
    weekdays: frozenset[int]
    """0 = Sunday."""
    fixed: bool
    """Neither minute nor hour begins with `*`: the rule for gaps and folds applies."""
    either_day: bool
    """Both day fields are restricted: then either of them is enough."""

    def matches(self, local: datetime) -> bool:
        """Whether the entry is due at this minute of wall-clock time."""
        if local.minute not in self.minutes or local.hour not in self.hours or local.month not in self.months:
            return False
        day = local.day in self.days
        weekday = local.isoweekday() % 7 in self.weekdays
        return (day or weekday) if self.either_day else (day and weekday)


def _numbers(field: str, low: int, high: int, names: Mapping[str, int]) -> frozenset[int]:
    def number(text: str) -> int:
        value = names.get(text.lower())
        return int(text) if value is None else value

    found: set[int] = set()
    for part in field.split(","):
        span, _, step = part.partition("/")
        if span == "*":
            first, last = low, high
        elif "-" in span:
            first, last = (number(end) for end in span.split("-"))
        else:
            first = number(span)
            last = high if step else first
        if not low <= first <= last <= high:
            raise ValueError(f"{field!r}: {part!r} is not within {low}-{high}")
        found.update(range(first, last + 1, int(step or 1)))
    return frozenset(found)


def parse(expression: str) -> Pattern:
    """Parse five fields or a nickname. Raises ValueError for anything else."""
    fields = NICKNAMES.get(expression.strip().lower(), expression).split()
    if len(fields) != 5:
        raise ValueError(f"{expression!r} has {len(fields)} fields; cron has 5")
    minute, hour, day, month, weekday = fields
    return Pattern(
        minutes=_numbers(minute, 0, 59, {}),
        hours=_numbers(hour, 0, 23, {}),
        days=_numbers(day, 1, 31, {}),
        months=_numbers(month, 1, 12, MONTHS),
        weekdays=frozenset(number % 7 for number in _numbers(weekday, 0, 7, WEEKDAYS)),
        fixed=not (minute.startswith("*") or hour.startswith("*")),
        either_day=not (day.startswith("*") or weekday.startswith("*")),
    )


# -- a day ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Minute:
    """A minute in UTC, and the wall-clock time of a zone at its beginning."""

    at_ms: int
    local: datetime
    """Naive wall-clock time."""
    again: bool
    """Whether the clock has shown this time before."""


@dataclass(frozen=True, slots=True)
class Change:
    """A change of a zone's clocks."""

    zone: str
    at_ms: int
    before: datetime
    """Wall-clock time that it would have shown without the change (naive)."""
    after: datetime
    """Wall-clock time that it shows instead (naive)."""

    @property
    def forward(self) -> bool:
        """True: local times are skipped. False: local times come twice."""
        return self.after > self.before

    def skipped(self) -> list[datetime]:
        """The local minutes that do not exist."""
        count = (self.after - self.before) // MINUTE
        return [self.before + i * MINUTE for i in range(count)]


@dataclass(frozen=True, slots=True)
class Walk:
    """The minutes of a span, in one zone."""

    minutes: Sequence[Minute]
    changes: Sequence[Change]


def walk(zone: str, start_ms: int, end_ms: int) -> Walk:
    """Every minute from start (inclusive) to end (exclusive), and the clock changes among them."""
    info = ZoneInfo(zone)

    def look(at_ms: int) -> datetime:
        return datetime.fromtimestamp(at_ms // 1000, info)

    minutes: list[Minute] = []
    changes: list[Change] = []
    shown = look(start_ms - MINUTE_MS).replace(tzinfo=None, fold=0)
    for at_ms in range(start_ms, end_ms, MINUTE_MS):
        aware = look(at_ms)
        local = aware.replace(tzinfo=None, fold=0)
        if local != shown + MINUTE:
            changes.append(Change(zone, at_ms, shown + MINUTE, local))
        minutes.append(Minute(at_ms, local, bool(aware.fold)))
        shown = local
    return Walk(minutes, changes)


@dataclass(frozen=True, slots=True)
class Expectation:
    """The fires of one entry on one day."""

    fires: tuple[int, ...]
    moved: tuple[int, ...] = ()
    """The fires that replace a local time which does not exist."""
    dropped: tuple[int, ...] = ()
    """Instants at which the clock shows a fixed time for the second time. Not due."""


def expect(expression: str, walked: Walk) -> Expectation:
    """The fires of an expression within a walk."""
    pattern = parse(expression)
    fires: set[int] = set()
    moved: set[int] = set()
    dropped: list[int] = []
    for minute in walked.minutes:
        if pattern.matches(minute.local):
            if pattern.fixed and minute.again:
                dropped.append(minute.at_ms)
            else:
                fires.add(minute.at_ms)
    if pattern.fixed:
        for change in walked.changes:
            if change.forward and any(pattern.matches(local) for local in change.skipped()):
                moved.add(change.at_ms)
    return Expectation(tuple(sorted(fires | moved)), tuple(sorted(moved)), tuple(dropped))


@dataclass(frozen=True, slots=True)
class Day:
    """A calendar day of one zone (23 to 25 hours), with its minutes in all zones."""

    date: date
    home: str
    """The zone whose midnights delimit the day."""
    start_ms: int
    end_ms: int
    walks: Mapping[str, Walk]

    @property
    def changes(self) -> list[Change]:
        """The clock changes of all zones, in order."""
        return sorted((c for w in self.walks.values() for c in w.changes), key=lambda c: (c.at_ms, c.zone))

    def at(self, hour: int, minute: int = 0) -> int:
        """The instant of this wall-clock time in the home zone (outside of gaps and folds)."""
        return _instant_ms(self.date, wall_time(hour, minute), self.home)


def _instant_ms(day: date, at: wall_time, zone: str) -> int:
    return round(datetime.combine(day, at, ZoneInfo(zone)).timestamp()) * 1000


def _midnight_ms(day: date, zone: str) -> int:
    return _instant_ms(day, wall_time(), zone)


def changes_on(day: date, zone: str) -> bool:
    """Whether a zone changes its clocks on that calendar day."""
    info = ZoneInfo(zone)
    midnights = [datetime(d.year, d.month, d.day, tzinfo=info) for d in (day, day + timedelta(days=1))]
    return midnights[0].utcoffset() != midnights[1].utcoffset()


def next_change_day(zone: str, now: datetime) -> date:
    """The next calendar day, entirely in the future, on which the zone changes its clocks.

    Raises:
        ValueError: the zone has no such day within two years.
    """
    today = now.astimezone(UTC).date()
    for ahead in range(1, 750):
        day = today + timedelta(days=ahead)
        if changes_on(day, zone) and _midnight_ms(day, zone) > now.timestamp() * 1000 + 5 * MINUTE_MS:
            return day
    raise ValueError(f"{zone} does not change its clocks within two years")


def day_of(day: date, zones: Sequence[str]) -> Day:
    """The calendar day in the first zone that changes its clocks on it, else in the first zone."""
    home = next((zone for zone in zones if changes_on(day, zone)), zones[0])
    start_ms, end_ms = _midnight_ms(day, home), _midnight_ms(day + timedelta(days=1), home)
    return Day(day, home, start_ms, end_ms, {zone: walk(zone, start_ms, end_ms) for zone in zones})
