"""Expressions that are well formed, and probably not what their author meant. Refused when they are written.

Stored ones are not looked at: what was accepted once goes on as it was read then.
"""

import re
from calendar import timegm
from datetime import UTC, datetime

from redsched.errors import InvalidScheduleError
from redsched.schedules.dialect import FIELDS, SECOND, WEEKDAY, Field, SecondsOrder, begins_with_star, split
from redsched.schedules.expression import Expression, parse_expression
from redsched.schedules.foreign import refused

__all__ = ["refuse_suspicious"]

_STEP = re.compile(r"(?P<low>[a-z0-9]+|\*)(?:-(?P<high>[a-z0-9]+))?/(?P<step>\d+)", re.ASCII)

# The unit in which a step beyond the range of a field was probably meant.
_REMEDIES = {
    "minute": "use interval= for it: minutes={step} (schedule_interval), timedelta(minutes={step})",
    "hour": "use interval= for it: hours={step} (schedule_interval), timedelta(hours={step})",
    "day of month": "use interval= for it: days={step} (schedule_interval), timedelta(days={step})",
    "month": "name the months, for example 1,7",
    "day of week": "use interval= for it: days={step} (schedule_interval), timedelta(days={step})",
    "second": "use interval= for it: seconds={step} (schedule_interval), timedelta(seconds={step})",
}


def refuse_suspicious(text: str, seconds: SecondsOrder | None) -> None:
    """Refuse an expression whose order of fields is in doubt, or whose step is never taken.

    Args:
        seconds: where the second is, of six fields; None = the author did not say.

    Raises:
        InvalidScheduleError: the message has the readings, and what to pass.
    """
    fields = text.lower().split()
    if seconds is None and len(fields) > SECOND:
        _refuse_doubtful_order(text, fields)
    _read(text, seconds or "last")


def _read(text: str, seconds: SecondsOrder) -> Expression:
    expression = parse_expression(text, seconds)
    for spec, part in zip(FIELDS, split(text, seconds), strict=False):
        for item in part.split(","):
            _refuse_long_step(text, item, spec)
    return expression


def _refuse_long_step(text: str, item: str, spec: Field) -> None:
    match = _STEP.fullmatch(item)
    if match is None:
        return
    step, size = int(match["step"]), spec.high - spec.low + 1
    if match["high"] is not None:
        low, high = (spec.names.get(end) for end in (match["low"], match["high"]))
        low = int(match["low"]) if low is None else low
        high = (31 if match["high"] == "l" else int(match["high"])) if high is None else high
        size = (high - low) % size + 1 if high != low + size else size
    if step > size:
        start = str(spec.low) if match["low"] == "*" else match["low"]
        raise refused(
            text,
            f"the {spec.name} field has a step beyond its range: {item} would be {start} alone, as the range has only "
            f"{size} values; if that is meant, write {start}, else {_REMEDIES[spec.name].format(step=step)}.",
        )


# --- the order of six fields ------------------------------------------------------------------------------------------


def _refuse_doubtful_order(text: str, fields: list[str]) -> None:
    """Six fields are read with the second last; Quartz, Spring and node-cron write it first."""
    first, last = _attempt(text, "first"), _attempt(text, "last")
    if isinstance(last, InvalidScheduleError):
        if isinstance(first, Expression):
            raise refused(
                text,
                f"it has six fields, of which the last is read as the second, and so it is wrong: {_reason(last)} "
                f"With the second first, as Quartz, Spring and node-cron write it: {_reading(first, fields, 'first')}. "
                f'If that is meant, pass seconds="first"; a plain cron expression has five fields.',
            ) from None
        raise last
    if not _is_doubtful(fields, isinstance(first, Expression)):
        return
    other = _reading(first, fields, "first") if isinstance(first, Expression) else f"an error, since {_reason(first)}"
    if isinstance(first, InvalidScheduleError) and fields[SECOND] == "*" and "?" in fields:
        other += f" AWS EventBridge has a year in its place: then give {' '.join(fields[:SECOND])!r}."
    raise refused(
        text,
        f"it has six fields, and two readings. With the second last, as here: {_reading(last, fields, 'last')}. "
        f"With the second first, as Quartz, Spring and node-cron write it: {other.rstrip('.')}. "
        f'Pass seconds="first" or seconds="last" to say which is meant; a plain cron expression has five fields.',
    )


def _is_doubtful(fields: list[str], can_be_first: bool) -> bool:
    minute, _, day, month, weekday, second = fields
    if all(part == "*" for part in fields[:SECOND]):
        return False  # each minute in both orders
    if second in ("*", "?"):
        return True  # every second of a fixed minute, hour or day: hardly ever meant
    if not can_be_first:
        return False
    if second.startswith("*/"):
        return minute != "*"
    # "0 0 9 * * 1": on Mondays at 9, if the second is first; on the 9th of each month, at second 1, if it is last.
    return not begins_with_star(day) and (begins_with_star(month) or begins_with_star(weekday))


def _attempt(text: str, seconds: SecondsOrder) -> Expression | InvalidScheduleError:
    try:
        return _read(text, seconds)
    except InvalidScheduleError as error:
        return error


def _reason(error: InvalidScheduleError) -> str:
    return str(error).partition(": ")[2]


_YEAR = 2027  # any year that is not a leap year


def _reading(expression: Expression, fields: list[str], seconds: SecondsOrder) -> str:
    """One reading in words, with its first fires of a year and their number: they tell the two apart at a glance."""
    ordered = [*fields[1:], fields[0]] if seconds == "first" else fields
    words = ", ".join(f"{spec.name} {part}" for spec, part in zip(FIELDS, ordered, strict=True))
    if seconds == "first" and any(digit in ordered[WEEKDAY] for digit in "1234567"):
        words += " where 1 is Monday (in Quartz 1 is Sunday: names are safe)"
    low, high = (timegm((year, 1, 1, 0, 0, 0)) for year in (_YEAR, _YEAR + 1))
    fires: list[str] = []
    at = expression.next(low)
    while at is not None and len(fires) < 2:
        fires.append(datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S"))
        at = expression.next(at + 1)
    return f"{words} (in {_YEAR} {expression.count(low, high):,} times, as {' and '.join(fires)})"
