"""A cron expression on the wall clock of a zone.

`expression.py` knows which local times match, `zones.py` at which instants a local time counts; here the two meet.
"""

from dataclasses import InitVar, dataclass, field, replace
from functools import lru_cache
from typing import Any

from redsched.errors import InvalidScheduleError
from redsched.schedules.base import BasedSchedule, check_bounds, check_int
from redsched.schedules.dialect import SecondsOrder
from redsched.schedules.expression import Expression, parse_expression
from redsched.schedules.suspicious import refuse_suspicious
from redsched.schedules.zones import FIRST_YEAR, LAST_YEAR, Fold, Gap, Piece, parse_timezone, pieces, year_of

__all__ = ["CronSchedule"]

# No calendar makes a schedule wait for longer.
_SEARCH_YEARS = 50

# Counting costs a list of days for each year (0.3 ms, then cached). Beyond this span the number is not worth it.
_COUNTED_YEARS = 100


class _Matches:
    """The instants, in seconds since the epoch, at which an expression matches in a zone.

    One object for each definition, whatever the number of jobs that have it (`_matches`), and so one memory of next
    fires.
    """

    __slots__ = ("_expression", "_fold", "_gap", "_key")

    def __init__(self, expression: Expression, key: str, gap: Gap, fold: Fold) -> None:
        self._expression = expression
        self._key = key
        # A job with a `*` in minute or hour follows the clock literally, whatever the settings say.
        self._gap: Gap = gap if expression.is_fixed_time else "skip"
        self._fold: Fold = fold if expression.is_fixed_time else "both"

    def _pieces(self, year: int) -> tuple[Piece, ...]:
        return pieces(self._key, year, self._gap, self._fold)

    def next(self, after_s: int) -> int | None:
        """The first instant strictly after."""
        from_s = after_s + 1
        expression = self._expression
        first_year = max(year_of(from_s), FIRST_YEAR)
        # The match that is known, and from where on it is the next one.
        known_from, known = 1, 0
        for year in range(first_year, min(first_year + _SEARCH_YEARS, LAST_YEAR) + 1):
            for at_s, lo_s, hi_s, offset_s, is_gap in self._pieces(year):
                if is_gap:
                    if at_s < from_s:
                        continue
                    local_s = lo_s
                else:
                    local_s = max(lo_s, from_s + offset_s)
                    if local_s >= hi_s:
                        continue
                if not known_from <= local_s <= known:
                    match = expression.next(local_s)
                    if match is None:
                        return None
                    known_from, known = local_s, match
                if known < hi_s:
                    return at_s if is_gap else known - offset_s
        return None

    def last(self, upto_s: int) -> int | None:
        """The latest instant at or before."""
        expression = self._expression
        last_year = min(year_of(upto_s), LAST_YEAR)
        for year in range(last_year, max(last_year - _SEARCH_YEARS, FIRST_YEAR) - 1, -1):
            for at_s, lo_s, hi_s, offset_s, is_gap in reversed(self._pieces(year)):
                if at_s > upto_s:
                    continue
                local_s = hi_s - 1 if is_gap else min(hi_s - 1, upto_s + offset_s)
                match = expression.last(local_s)
                if match is None:
                    return None
                if match >= lo_s:
                    return at_s if is_gap else match - offset_s
        return None

    def count(self, first_s: int, last_s: int) -> int | None:
        """The number of instants within [first_s, last_s]."""
        first_year, last_year = max(year_of(first_s), FIRST_YEAR), min(year_of(last_s), LAST_YEAR)
        if last_year - first_year > _COUNTED_YEARS:
            return None
        number = 0
        # A gap's run and a match at the instant after it are one fire.
        shifted_to: int | None = None
        for year in range(first_year, last_year + 1):
            for at_s, lo_s, hi_s, offset_s, is_gap in self._pieces(year):
                if is_gap:
                    if first_s <= at_s <= last_s and at_s != shifted_to and self._expression.count(lo_s, hi_s):
                        shifted_to = at_s
                        number += 1
                    continue
                low_s, high_s = max(lo_s, first_s + offset_s), min(hi_s, last_s + 1 + offset_s)
                if shifted_to == low_s - offset_s:
                    low_s += 1
                number += self._expression.count(low_s, high_s)
        return number


@lru_cache(maxsize=4096)
def _matches(expression: str, seconds: SecondsOrder, key: str, gap: Gap, fold: Fold) -> _Matches:
    return _Matches(parse_expression(expression, seconds), key, gap, fold)


@lru_cache(maxsize=65_536)
def _next_instant(matches: _Matches, after_s: int) -> int | None:
    return matches.next(after_s)


@dataclass(frozen=True, slots=True)
class CronSchedule(BasedSchedule):
    """Fires when the wall clock of `timezone` matches the expression, from start_ms up to and including end_ms.

    The dialect is described in `dialect.py`: five fields, or six of which one is the second. The day of the month and
    the weekday must both match where one of the two fields begins with a star (`*`, `*/2`), else either is enough:
    Debian cron's rule.

    seconds: where the second is among six fields: "last", or "first" as Quartz, Spring and node-cron write it. If it is
    not given it is the last, and an expression that was probably written with the second first is refused.

    When the clocks change, a *fixed-time* schedule (neither its minute nor its hour field starts with `*`; a seconds
    field does not count) follows Debian cron's rule, or what is set here:

    - dst_gap: its local time does not exist that day: "shift" (default) runs once at the first instant after the gap,
      also when several of its times fall into it; "skip" does not run.
    - dst_fold: its local time comes twice: "first" (default), "last", or "both".

    A schedule with a `*` in minute or hour follows the clock literally, nothing in a gap and both times in a fold; the
    two settings do not apply to it.

    >>> from datetime import UTC, datetime
    >>> schedule = CronSchedule("0 8 * * mon-fri", timezone="Europe/Berlin")
    >>> datetime.fromtimestamp(schedule.next(0) / 1000, UTC).isoformat()
    '1970-01-01T07:00:00+00:00'
    """

    expression: str
    timezone: str = "UTC"
    dst_gap: Gap = "shift"
    dst_fold: Fold = "first"
    start_ms: int | None = None
    end_ms: int | None = None
    jitter_ms: int = 0
    seed: str = ""
    seconds: SecondsOrder | None = None
    is_stored: InitVar[bool] = False
    """It was accepted before: what is merely suspicious is not refused (again)."""
    _instants: _Matches = field(init=False, repr=False, compare=False)

    def __post_init__(self, is_stored: bool) -> None:
        given = self.expression
        if not isinstance(given, str):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise InvalidScheduleError(
                f"expression={given!r}: a cron expression is text such as '0 8 * * *', not {type(given).__name__}.",
                field="expression",
            )
        for name, value, allowed in (
            ("dst_gap", self.dst_gap, ("shift", "skip")),
            ("dst_fold", self.dst_fold, ("first", "last", "both")),
            ("seconds", self.seconds, ("first", "last", None)),
        ):
            if value not in allowed:
                words = ", ".join(filter(None, allowed))
                raise InvalidScheduleError(f"{name}={value!r}: must be one of {words}.", field=name)
        check_int("start_ms", self.start_ms, none=True)
        check_int("end_ms", self.end_ms, none=True)
        check_int("jitter_ms", self.jitter_ms, least=0)
        check_bounds(self.start_ms, self.end_ms)
        object.__setattr__(self, "timezone", parse_timezone(self.timezone, "UTC"))
        # One spelling for what is equal, and for the caches.
        object.__setattr__(self, "expression", " ".join(self.expression.split()))
        if not is_stored:
            refuse_suspicious(self.expression, self.seconds)
        # Of five fields none is the second: one spelling for what is equal.
        order: SecondsOrder = "first" if self.seconds == "first" and self.expression.count(" ") == 5 else "last"
        object.__setattr__(self, "seconds", order)
        made = _matches(self.expression, order, self.timezone, self.dst_gap, self.dst_fold)
        object.__setattr__(self, "_instants", made)

    def _next_base(self, after_ms: int) -> int | None:
        if self.start_ms is not None:
            after_ms = max(after_ms, self.start_ms - 1)
        found = _next_instant(self._instants, after_ms // 1000)
        return None if found is None else found * 1000

    def _last_base(self, upto_ms: int) -> int | None:
        found = self._instants.last(upto_ms // 1000)
        if found is None or (self.start_ms is not None and found * 1000 < self.start_ms):
            return None
        return found * 1000

    def _count_bases(self, first_ms: int, last_ms: int) -> int | None:
        if self.start_ms is not None:
            first_ms = max(first_ms, self.start_ms)
        if first_ms > last_ms:
            return 0
        return self._instants.count(-(-first_ms // 1000), last_ms // 1000)

    def in_timezone(self, key: str) -> "CronSchedule":
        """The same expression on the wall clock of another zone; start and end are instants, and stay."""
        return replace(self, timezone=key, is_stored=True)

    def with_seed(self, seed: str) -> "CronSchedule":
        """The same with its jitter drawn for `seed`; itself where nothing jitters, so that equal schedules are
        shared."""
        return replace(self, seed=seed, is_stored=True) if self.jitter_ms and seed != self.seed else self

    def describe(self) -> str:
        """For example "cron 0 8 * * * (Europe/Berlin)"."""
        order = ", second first" if self.seconds == "first" else ""
        return f"cron {self.expression} ({self.timezone}{order}){self._suffix()}"

    def to_wire(self) -> list[Any]:
        """["cron", expression, timezone, dst_gap, dst_fold, start_ms, end_ms, jitter_ms, seed, seconds], without
        seconds if they are the last, and then without an empty seed."""
        wire: list[Any] = ["cron", self.expression, self.timezone, self.dst_gap, self.dst_fold]
        wire += [self.start_ms, self.end_ms, self.jitter_ms]
        if self.seconds == "first":
            return [*wire, self.seed, self.seconds]
        return [*wire, self.seed] if self.seed else wire
