"""Checks of arguments, each in one place, with the text of the refusal. Pure.

Each check returns the accepted value, or raises an error that names the field and the value.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from typing import Any, TypeGuard

from redsched.errors import InvalidInputError
from redsched.jobs.ids import parse_run_id
from redsched.logs.redaction import shown_value

__all__ = [
    "MAX_COUNT", "MAX_NAME_LENGTH", "check_id", "check_mapping", "check_name", "check_names_list", "check_queue",
    "check_tags", "check_text", "int_between", "is_int", "is_number", "number_between", "seconds_to_ms",
]  # fmt: skip

MAX_COUNT = 2**31 - 1
"""The maximum number of attempts, instances, runs, …: every counter involved can hold it."""
MAX_NAME_LENGTH = 512
MAX_TAGS = 64

Refusal = type[InvalidInputError]


# -- numbers --------------------------------------------------------------------------------------------------------


def is_int(value: object) -> TypeGuard[int]:
    """Whether it is an int. Python counts True and False as ints; an argument that is one of them is a mistake."""
    return isinstance(value, int) and not isinstance(value, bool)


def is_number(value: object) -> TypeGuard[int | float]:
    """Whether it is an int or a float, and not a bool."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def int_between(
    value: Any, field: str, low: int, high: int | None = None, *, error: Refusal = InvalidInputError
) -> int:
    """An int of `low` or more, and `high` or less.

    Raises:
        InvalidInputError: it is not; or `error`.
    """
    if not is_int(value) or value < low or (high is not None and value > high):
        allowed = f"of {low} or more" if high is None else f"from {low} to {high}"
        raise error(f"{field} is {value!r}; it must be an int {allowed}", field=field)
    return value


def number_between(value: Any, field: str, low: float, high: float = math.inf) -> float:
    """A finite number of `low` or more, and `high` or less.

    Raises:
        InvalidInputError: it is not.
    """
    if not is_number(value) or not low <= value <= high or value == math.inf:
        allowed = f"of {low} or more" if high == math.inf else f"from {low} to {high}"
        raise InvalidInputError(f"{field} is {value!r}; it must be a number {allowed}", field=field)
    return value


def seconds_to_ms(value: float | timedelta, field: str, *, minimum_ms: int = 0) -> int:
    """Milliseconds from seconds or a timedelta.

    Raises:
        InvalidInputError: not a number, not finite, or below the minimum.
    """
    if isinstance(value, timedelta):
        seconds = value.total_seconds()
    elif not is_number(value):
        raise InvalidInputError(
            f"{field} is {value!r} ({type(value).__qualname__}); pass seconds as a number, or a timedelta", field=field
        )
    else:
        seconds = float(value) if abs(value) < 1e300 else math.inf  # of an int, float() could overflow
    if not math.isfinite(seconds) or seconds > 100 * 366 * 86_400:
        raise InvalidInputError(f"{field} is {value!r}; it must be finite and at most 100 years", field=field)
    if seconds < 0:
        raise InvalidInputError(f"{field} is {value!r}; it must not be negative", field=field)
    milliseconds = round(seconds * 1000)
    if milliseconds < minimum_ms:
        raise InvalidInputError(f"{field} is {value!r}; it must be at least {minimum_ms / 1000:g} s", field=field)
    return milliseconds


# -- texts ----------------------------------------------------------------------------------------------------------


def check_text(value: Any, field: str) -> str:
    """Printable text of at most 512 characters.

    Raises:
        InvalidInputError: it is not.
    """
    if type(value) is str and 0 < len(value) <= MAX_NAME_LENGTH and value.isprintable():
        return value  # before all else: this is for each job that is added
    if not isinstance(value, str) or not value:
        raise InvalidInputError(f"{field} is {value!r}; it must be a non-empty str", field=field)
    if len(value) > MAX_NAME_LENGTH:
        raise InvalidInputError(
            f"{field} has {len(value)} characters; at most {MAX_NAME_LENGTH} are allowed", field=field
        )
    if not value.isprintable():
        raise InvalidInputError(f"{field} is {value!r}; control characters are not allowed", field=field)
    return value


def check_name(value: Any, field: str = "name") -> str:
    """A job's name or a task's: any printable text."""
    return check_text(value, field)


def check_id(value: Any, field: str = "job_id") -> str:
    """A job's id: printable text that does not end in '@' and digits, which is how runs are named."""
    text = check_text(value, field)
    if parse_run_id(text)[1] is not None:
        raise InvalidInputError(
            f"{field} is {text!r}; an id must not end in '@' and digits, since that names a run of a job", field=field
        )
    return text


def check_queue(value: Any, field: str = "queue") -> str:
    """A queue's name: printable text without spaces, and not of the scheduler's own `local:` queues."""
    if value == "default":
        return "default"
    text = check_text(value, field)
    if any(character.isspace() for character in text) or text.startswith("local:"):
        raise InvalidInputError(f"{field} is {text!r}; no spaces, and 'local:' is reserved", field=field)
    return text


def check_tags(value: Any, field: str = "tags") -> tuple[str, ...]:
    """Tags: a list of texts, without repeats."""
    if value == ():
        return ()
    if isinstance(value, str) or not isinstance(value, Iterable):
        raise InvalidInputError(f"{field} is {value!r}; pass a list of str, for example [{value!r}]", field=field)
    tags = tuple(dict.fromkeys(check_text(tag, field) for tag in value))
    if len(tags) > MAX_TAGS:
        raise InvalidInputError(f"{field} has {len(tags)} tags; at most {MAX_TAGS} are allowed", field=field)
    return tags


# -- collections ----------------------------------------------------------------------------------------------------


def check_names_list(
    value: Any, field: str, *, empty: bool = True, error: Refusal = InvalidInputError
) -> Sequence[str]:
    """A list of names, each as `check_queue` wants it.

    Args:
        empty: whether the list may be empty.

    Raises:
        InvalidInputError: it is not; or `error`, where it is not a list.
    """
    if isinstance(value, str | bytes) or not isinstance(value, Sequence) or not (value or empty):
        raise error(f"{field} is {value!r}; pass a list of names", field=field)
    for member in value:
        check_queue(member, field)
    return value


def check_mapping(value: Any, field: str, *, error: Refusal = InvalidInputError) -> Mapping[str, Any] | None:
    """A dict, or None. The message does not show what it holds: that may be a password.

    Raises:
        InvalidInputError: it is neither; or `error`.
    """
    if value is not None and not isinstance(value, Mapping):
        raise error(f"{field} is {shown_value(value)}; pass a dict", field=field)
    return value
