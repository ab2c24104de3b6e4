"""Instants and durations as users give them. A naive datetime is read in the scheduler's zone, as APScheduler does."""

from __future__ import annotations

from datetime import date, datetime, timedelta

from redsched.checks import is_number, seconds_to_ms
from redsched.errors import InvalidInputError
from redsched.schedules.zones import instant_ms as _instant_ms

__all__ = ["delay_ms", "instant_ms"]

LATEST_YEAR = 9000
"""Beyond it, arithmetic on datetimes overflows."""


def instant_ms(value: datetime | str, zone: str, field: str) -> int:
    """Milliseconds since the epoch of an aware datetime, or of a naive one read in `zone`; or of ISO 8601 text.

    A naive local time that exists twice means the first; one that a gap leaves out means the instant that the
    same time has with the offset from before the gap (both as `datetime` does with fold=0).

    Raises:
        InvalidInputError: another type, or out of range.
    """
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            raise InvalidInputError(
                f"{field} is {value!r}; text must be ISO 8601, for example '2030-01-31T08:00:00+01:00'", field=field
            ) from None
    if not isinstance(value, datetime):
        hint = " (a date has no time of day)" if isinstance(value, date) else ""
        raise InvalidInputError(
            f"{field} is {value!r} ({type(value).__qualname__}){hint}; pass a datetime", field=field
        )
    if not 1 < value.year < LATEST_YEAR:
        raise InvalidInputError(f"{field} is {value!r}; the year must be from 2 to {LATEST_YEAR - 1}", field=field)
    return _instant_ms(value, zone)


def delay_ms(delay: float | timedelta | None, delay_seconds: float | None, delay_minutes: float | None) -> int:
    """Milliseconds from exactly one of the three ways to give a delay.

    Raises:
        InvalidInputError: none or several are given, or the value is wrong.
    """
    given = {
        name: value
        for name, value in (("delay", delay), ("delay_seconds", delay_seconds), ("delay_minutes", delay_minutes))
        if value is not None
    }
    if len(given) != 1:
        raise InvalidInputError(
            f"pass exactly one of delay_minutes=, delay_seconds= and delay= (seconds or a timedelta); "
            f"got {given or 'none'}",
            field="delay",
        )
    [(name, value)] = given.items()
    if name == "delay_minutes" and is_number(value):
        value = value * 60
    return seconds_to_ms(value, name)
