"""The DST rule, taken literally: walk the minutes of UTC, look at a wall clock, apply design.md section 3.

It shares nothing with redsched: no transitions, no stretches, a matcher of its own for plain expressions. `offset_at`
gives the offset of a zone in minutes at an instant in minutes, so that zones that nobody has can be tried as well.
"""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import cache, lru_cache
from zoneinfo import ZoneInfo

EPOCH = datetime(1970, 1, 1)
DAY = 1440


def minute_of(*moment: int) -> int:
    return int(datetime(*moment, tzinfo=UTC).timestamp()) // 60


def zone_offset(zone: str) -> Callable[[int], int]:
    info = ZoneInfo(zone)

    def offset_at(minute: int) -> int:
        return int(datetime.fromtimestamp(minute * 60, info).utcoffset().total_seconds()) // 60

    return offset_at


class Clock:
    """A wall clock during [low, high) minutes, and two days on either side, so that folds and gaps are seen whole."""

    def __init__(self, offset_at: Callable[[int], int], low: int, high: int) -> None:
        self.low, self.high = low, high
        self.shown: dict[int, list[int]] = {}  # local minute -> the instants that show it
        self.jumps: list[tuple[int, int, int]] = []  # (instant, local before it, local at it): forward jumps
        before = None
        for minute in range(low - 2 * DAY, high + 2 * DAY):
            local = minute + offset_at(minute)
            self.shown.setdefault(local, []).append(minute)
            if before is not None and local > before + 1:
                self.jumps.append((minute, before, local))
            before = local

    def fires(self, expression: str, gap: str = "shift", fold: str = "first") -> list[int]:
        matches = matcher(expression)
        minute_field, hour_field = expression.split()[:2]
        found = set()
        if minute_field.startswith("*") or hour_field.startswith("*"):
            gap, fold = "skip", "both"
        for local, instants in self.shown.items():
            if matches(local):
                found |= {"first": {instants[0]}, "last": {instants[-1]}, "both": set(instants)}[fold]
        if gap == "shift":
            done = set()
            for instant, before, after in self.jumps:
                missing = {local for local in range(before + 1, after) if local not in self.shown} - done
                done |= missing
                if any(matches(local) for local in missing):
                    found.add(instant)
        return sorted(at for at in found if self.low <= at < self.high)


@cache
def matcher(expression: str) -> Callable[[int], bool]:
    for number, name in enumerate(("sun", "mon", "tue", "wed", "thu", "fri", "sat")):
        expression = expression.replace(name, str(number))
    minutes, hours, days, months, weekdays = (
        _values(text, *limits)
        for text, limits in zip(expression.split(), ((0, 59), (0, 23), (1, 31), (1, 12), (0, 7)), strict=True)
    )
    _, _, day_text, _, weekday_text = expression.split()

    @cache
    def day_matches(day: int) -> bool:
        date = EPOCH + timedelta(days=day)
        on_day = date.day in days
        on_weekday = date.isoweekday() in weekdays or (date.isoweekday() == 7 and 0 in weekdays)
        # Debian cron, entry.c and cron.c: a field begins with a star, or it does not.
        star = day_text.startswith("*") or weekday_text.startswith("*")
        return date.month in months and ((on_day and on_weekday) if star else (on_day or on_weekday))

    def matches(local: int) -> bool:
        day, rest = divmod(local, DAY)
        return rest % 60 in minutes and rest // 60 in hours and day_matches(day)

    return matches


def _values(text: str, low: int, high: int) -> set[int]:
    found: set[int] = set()
    for item in text.split(","):
        body, _, step = item.partition("/")
        if body == "*":
            first, last = low, high
        elif "-" in body:
            first, last = (int(part) for part in body.split("-"))
        else:
            first = int(body)
            last = high if step else first
        found |= set(range(first, last + 1, int(step or 1)))
    return found


@cache
def transitions(zone: str, first_year: int, last_year: int) -> tuple[int, ...]:
    """The minutes of UTC at which the offset is a new one; found by looking each day, then each minute of that day."""
    offset_at = zone_offset(zone)
    found = []
    low, high = minute_of(first_year, 1, 1), minute_of(last_year + 1, 1, 1)
    before = offset_at(low)
    for day in range(low, high, DAY):
        after = offset_at(day + DAY)
        if after != before:
            found.append(next(minute for minute in range(day + 1, day + DAY + 1) if offset_at(minute) == after))
        before = after
    return tuple(found)


@lru_cache(maxsize=256)
def clock_around(zone: str, transition: int, days_before: int = 1, days_after: int = 2) -> Clock:
    return Clock(zone_offset(zone), transition - days_before * DAY, transition + days_after * DAY)
