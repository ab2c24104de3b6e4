"""Local time and instants: which instants does a wall clock show a time at, and what if none, or two?

Everything here is whole seconds. An *instant* counts seconds since the epoch (UTC). A *local time* is what a wall clock
shows, counted as if it were UTC: 2026-03-29 02:30 on a Berlin wall is the number that 02:30Z would have. So a local
time is an instant plus the offset of its zone, and one that exists twice, or never, is still one plain number.

A zone is a list of **stretches**, spans of instants with one offset. Two neighbours overlap in local time (a *fold*:
the clock is set back) or leave a hole (a *gap*: it is set forward). `pieces` turns the stretches of a year into what a
schedule has to walk: spans of local time, each with the offset at which it counts, or, for a gap, the one instant it
counts at. Schedules know nothing else about zones, so the rule for DST (docs/guide/schedules.md) is in
`cut_into_pieces` and nowhere else.

The transitions come from `zoneinfo`, by bisecting the offset between days. In the whole of the tz database, no two real
changes of an offset are closer than 95 hours (Africa/Freetown, 1939), so a look each day misses none.
"""

import difflib
import re
import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, date, datetime, timedelta, tzinfo
from datetime import timezone as datetime_timezone
from functools import cache, lru_cache
from typing import Literal, NamedTuple
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

from redsched.errors import InvalidScheduleError

__all__ = [
    "DAY_S",
    "FIRST_YEAR",
    "LAST_YEAR",
    "Fold",
    "Gap",
    "Piece",
    "Stretch",
    "cut_into_pieces",
    "instant_ms",
    "local_datetime",
    "parse_timezone",
    "pieces",
    "stretches",
    "year_of",
    "zone",
]

Gap = Literal["shift", "skip"]
Fold = Literal["first", "last", "both"]

DAY_S = 86_400

# datetime ends with the year 9999, and a zone may be a day ahead or behind: leave it a year of room on both sides.
FIRST_YEAR = 2
LAST_YEAR = 9998

# The largest change of an offset is 24 h (a date line moved: Pacific/Kwajalein 1993, Pacific/Apia 2011). Both times
# that a clock shows one local time are therefore within about a day of each other; three days see them all.
_HORIZON_S = 3 * DAY_S

_EPOCH_ORDINAL = date(1970, 1, 1).toordinal()


class Stretch(NamedTuple):
    """The instants start_s <= t < end_s, during which local time is t + offset_s."""

    start_s: int
    end_s: int
    offset_s: int


class Piece(NamedTuple):
    """The local times lo_s <= l < hi_s, and when they count.

    A plain piece starts at the instant at_s, and l counts at l - offset_s. A gap (`is_gap`) holds local times that no
    clock shows: all of them together count once, at at_s, the first instant after it.
    """

    at_s: int
    lo_s: int
    hi_s: int
    offset_s: int
    is_gap: bool


# --- zones by name ----------------------------------------------------------------------------------------------------


@cache
def zone(key: str) -> tzinfo:
    """The zone of that key, a name or an offset such as "UTC+05:30". Raises InvalidScheduleError for any other."""
    return _zone(key, "timezone")


# "UTC+2" and "GMT+2" mean two hours ahead, as people write it; the IANA names Etc/GMT+2 and the like count westward.
_OFFSET = re.compile(
    r"(?:(?:utc|gmt)\s*)?(?P<sign>[+-\u2212])(?P<hours>\d{1,2})(?::?(?P<minutes>\d{2}))?(?::?(?P<seconds>\d{2}))?",
    re.IGNORECASE | re.ASCII,
)
_FIXED_KEY = re.compile(r"UTC[+-]\d{2}:\d{2}(?::\d{2})?", re.ASCII)


def _offset_of(text: str) -> timedelta | None:
    match = _OFFSET.fullmatch(text.strip())
    if match is None:
        return None
    parts = (int(match[name] or 0) for name in ("hours", "minutes", "seconds"))
    hours, minutes, seconds = parts
    if hours > 23 or minutes > 59 or seconds > 59:
        return None
    offset = timedelta(hours=hours, minutes=minutes, seconds=seconds)
    return offset if match["sign"] == "+" else -offset


def _fixed_key(offset: timedelta) -> str:
    """The stored form of a fixed offset: its IANA name where it has one, which each version of redsched can read."""
    if not offset:
        return "UTC"
    hours, rest = divmod(offset, timedelta(hours=1))
    if not rest and -12 <= hours <= 14:
        return f"Etc/GMT{-hours:+d}"  # POSIX counts hours west of Greenwich: UTC+2 is Etc/GMT-2
    total = abs(offset) // timedelta(seconds=1)
    seconds = f":{total % 60:02}" if total % 60 else ""
    return f"UTC{'-' if offset < timedelta(0) else '+'}{total // 3600:02}:{total // 60 % 60:02}{seconds}"


@cache
def _names() -> dict[str, str]:
    return {name.lower(): name for name in available_timezones()}


def _zone(key: str, field: str) -> tzinfo:
    if _FIXED_KEY.fullmatch(key) and (offset := _offset_of(key)) is not None:
        return datetime_timezone(offset, key)
    # "localtime" is another zone on each machine, and "Factory" says that none was chosen.
    if key not in ("localtime", "Factory"):
        try:
            return ZoneInfo(key)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            pass
    known = _names()
    places = {name.rsplit("/", 1)[-1]: name for name in known}
    wanted = key.lower().replace(" ", "_")
    near = difflib.get_close_matches(wanted, known, n=3, cutoff=0.7)
    near += [places[place] for place in difflib.get_close_matches(wanted.rsplit("/", 1)[-1], places, n=3, cutoff=0.85)]
    found = list(dict.fromkeys(known[name] for name in near))[:3]
    hint = f"did you mean {' or '.join(found)}?" if found else "give an IANA name such as 'Europe/Berlin' or 'UTC'."
    raise InvalidScheduleError(f"{field}={key!r}: there is no time zone of that name; {hint}", field=field)


def parse_timezone(value: str | tzinfo | None, default: str, field: str = "timezone") -> str:
    """The key of a time zone as people give it: its IANA name, or "UTC+05:30" for an offset that has none.

    Args:
        value: a name in any case ("Europe/Berlin"), an offset ("+02:00", "UTC+2"), or a tzinfo: of zoneinfo, pytz,
            dateutil, or `datetime.timezone`. None for `default`.
        default: the key to use for None; it is checked as well.
        field: the argument's name, for the message.

    Raises:
        InvalidScheduleError: an unknown name (close matches are suggested), a tzinfo of which no name is known, or an
            offset that is not whole seconds.
    """
    if value is None:
        value = default
    if value == "UTC":
        return "UTC"
    if isinstance(value, tzinfo):
        value = _key_of(value, field)
    if not isinstance(value, str):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise InvalidScheduleError(
            f"{field}={value!r}: a time zone is given by its IANA name, by its offset, or as a tzinfo such as "
            f"zoneinfo.ZoneInfo, not as {type(value).__name__}.",
            field=field,
        )
    return _checked_key(value, field)


@lru_cache(maxsize=1024)
def _checked_key(text: str, field: str) -> str:
    if (offset := _offset_of(text)) is not None:
        return _fixed_key(offset)
    # The list of all names costs 50 ms. Where file names tell cases apart, a name that zoneinfo has is spelled right;
    # elsewhere it takes any case, but what is stored must be readable on other machines.
    if text not in ("localtime", "Factory") and not (sys.platform.startswith("linux") and _is_zone(text)):
        text = _names().get(text.strip().lower(), text)
    _zone(text, field)
    return text


def _is_zone(name: str) -> bool:
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return False
    return True


def _key_of(value: tzinfo, field: str) -> str:
    # ZoneInfo has `key`, pytz `zone`; both are what Redis can hold, an object is not.
    key: object = getattr(value, "key", None) or getattr(value, "zone", None)
    if isinstance(key, str):
        return key
    if (offset := value.utcoffset(None)) is not None:
        if offset % timedelta(seconds=1):
            raise InvalidScheduleError(
                f"{field}={value!r}: an offset must be whole seconds, not {offset}.", field=field
            )
        return _fixed_key(offset)
    # dateutil's tzfile knows the file that it was read from. The name that this gives must be the same zone.
    path = getattr(value, "_filename", None)
    if isinstance(path, str):
        parts = path.replace("\\", "/").split("/")
        for start in range(len(parts)):
            name = _names().get("/".join(parts[start:]).lower())
            if name is not None and _is_like(value, ZoneInfo(name)):
                return name
    raise InvalidScheduleError(
        f"{field}={value!r}: it is not known which IANA zone this {type(value).__name__} is, so it cannot be stored; "
        f"give the name, for example zoneinfo.ZoneInfo('Europe/Berlin').",
        field=field,
    )


def _is_like(one: tzinfo, other: tzinfo) -> bool:
    """Whether two zones have the same offsets, looked at every ten days of some recent years."""
    noon = datetime(2020, 1, 1, 12, tzinfo=UTC).replace(tzinfo=None)
    return all(
        one.utcoffset(at) == other.utcoffset(at) for at in (noon + timedelta(days=10 * step) for step in range(366))
    )


# --- datetimes --------------------------------------------------------------------------------------------------------


def instant_ms(value: datetime, timezone: str) -> int:
    """The instant of a datetime, in milliseconds since the epoch; microseconds are dropped.

    A naive one is read in `timezone`. There, a time that does not exist is read with the offset from before the gap,
    and one that comes twice is the first, unless `fold=1`: Python's rule (PEP 495), and APScheduler's for a run_date.
    """
    if value.tzinfo is None:
        value = value.replace(tzinfo=zone(timezone))
    return (value - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)


def local_datetime(at_ms: int, timezone: str) -> datetime:
    """An instant (ms since the epoch) as an aware datetime in `timezone`."""
    return datetime.fromtimestamp(at_ms // 1000, zone(timezone)).replace(microsecond=at_ms % 1000 * 1000)


def year_of(seconds: int) -> int:
    """The year of an instant in UTC, or of a local time, held to the years that a datetime can express."""
    ordinal = _EPOCH_ORDINAL + seconds // DAY_S
    if ordinal < 1:
        return 1
    return 9999 if ordinal > date.max.toordinal() else date.fromordinal(ordinal).year


# --- stretches and pieces ---------------------------------------------------------------------------------------------


def _year_start_s(year: int) -> int:
    return (date(year, 1, 1).toordinal() - _EPOCH_ORDINAL) * DAY_S


def _offset_s(info: tzinfo, at_s: int) -> int:
    offset = datetime.fromtimestamp(at_s, info).utcoffset()
    # zoneinfo gives an offset to every instant; some old ones (local mean time) have seconds, none has less.
    return int(offset.total_seconds()) if offset is not None else 0


@lru_cache(maxsize=4096)
def stretches(key: str, year: int) -> tuple[Stretch, ...]:
    """The stretches of a zone that cover a year (UTC) with three days on either side."""
    info = zone(key)
    start_s, end_s = _year_start_s(year) - _HORIZON_S, _year_start_s(year + 1) + _HORIZON_S
    found: list[Stretch] = []
    since_s, offset_s = start_s, _offset_s(info, start_s)
    for day_s in range(start_s, end_s, DAY_S):
        after_s = _offset_s(info, day_s + DAY_S)
        if after_s == offset_s:
            continue
        low, high = day_s, day_s + DAY_S
        while high - low > 1:
            middle = (low + high) // 2
            if _offset_s(info, middle) == offset_s:
                low = middle
            else:
                high = middle
        found.append(Stretch(since_s, high, offset_s))
        since_s, offset_s = high, after_s
    found.append(Stretch(since_s, end_s, offset_s))
    return tuple(found)


_Span = tuple[int, int]


def _without(span: _Span, taken: Iterable[_Span]) -> list[_Span]:
    """The rest of span after all of `taken` was cut out of it; half-open, in order."""
    left = [span]
    for low, high in taken:
        left = [
            part
            for start, end in left
            for part in ((start, min(end, low)), (max(start, high), end))
            if part[0] < part[1]
        ]
    return sorted(left)


def cut_into_pieces(parts: Sequence[Stretch], gap: Gap, fold: Fold) -> list[Piece]:
    """Stretches as pieces in the order of their instants: the rule for gaps and folds, and its only place.

    - `fold="first"`: a local time counts where the clock shows it first; "last": where it shows it last; "both": each
      time.
    - `gap="shift"`: local times that no clock shows count, all together once, at the first instant after the hole that
      they are in; "skip": they do not count.

    ("skip", "both") is therefore the clock taken literally.
    """
    shown = [(part.start_s + part.offset_s, part.end_s + part.offset_s) for part in parts]
    found: list[Piece] = []
    holes: list[_Span] = []
    for index, part in enumerate(parts):
        low, high = shown[index]
        if gap == "shift" and index and shown[index - 1][1] < low:
            # A time that another stretch shows is not in a gap, and a time in two holes (jump, back, jump again)
            # belongs to the first.
            hole = (shown[index - 1][1], low)
            found += [Piece(part.start_s, lo, hi, part.offset_s, True) for lo, hi in _without(hole, shown + holes)]
            holes.append(hole)
        elsewhere = {"first": shown[:index], "last": shown[index + 1 :], "both": []}[fold]
        found += [
            Piece(lo - part.offset_s, lo, hi, part.offset_s, False) for lo, hi in _without((low, high), elsewhere)
        ]
    return found


@lru_cache(maxsize=8192)
def pieces(key: str, year: int, gap: Gap, fold: Fold) -> tuple[Piece, ...]:
    """The pieces of a zone whose instants are in that year (UTC), in order; see `cut_into_pieces`."""
    start_s, end_s = _year_start_s(year), _year_start_s(year + 1)
    found: list[Piece] = []
    for piece in cut_into_pieces(stretches(key, year), gap, fold):
        if piece.is_gap:
            if start_s <= piece.at_s < end_s:
                found.append(piece)
            continue
        lo_s = max(piece.lo_s, start_s + piece.offset_s)
        hi_s = min(piece.hi_s, end_s + piece.offset_s)
        if lo_s < hi_s:
            found.append(Piece(lo_s - piece.offset_s, lo_s, hi_s, piece.offset_s, False))
    return tuple(found)
