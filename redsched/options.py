"""The options of a job: what may be said of it, with its default, its unit and its check.

An option is taken from the call, else from the task's decorator, else from the scheduler's `job_defaults`,
else from here.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from datetime import timedelta
from typing import Any

from redsched.circuit import CircuitBreakerPolicy
from redsched.errors import InvalidConfigError, InvalidInputError
from redsched.ids import parse_run_id
from redsched.model import Delivery
from redsched.policies import MAX_COUNT, RetryPolicy
from redsched.redaction import shown_value

__all__ = ["JobOptions", "check_executor", "check_id", "check_queue", "check_settings", "check_tags", "seconds_to_ms"]

MAX_NAME_LENGTH = 512
MAX_TAGS = 64
DEFAULT_MAX_RECOVERIES = 3
DEFAULT_RESULT_TTL_MS = 300_000
DURABILITIES = ("replicated", "fsynced")


def seconds_to_ms(value: float | timedelta, field: str, *, minimum_ms: int = 0) -> int:
    """Milliseconds from seconds or a timedelta.

    Raises:
        InvalidInputError: not a number, not finite, or below the minimum.
    """
    if isinstance(value, timedelta):
        seconds = value.total_seconds()
    elif isinstance(value, bool) or not isinstance(value, int | float):
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


def _positive_int(value: Any, field: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= MAX_COUNT:
        raise InvalidInputError(f"{field} is {value!r}; it must be an int from 1 to {MAX_COUNT}", field=field)
    return value


def _text(value: Any, field: str) -> str:
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
    return _text(value, field)


def check_id(value: Any, field: str = "job_id") -> str:
    """A job's id: printable text that does not end in '@' and digits, which is how runs are named."""
    text = _text(value, field)
    if parse_run_id(text)[1] is not None:
        raise InvalidInputError(
            f"{field} is {text!r}; an id must not end in '@' and digits, since that names a run of a job", field=field
        )
    return text


def check_queue(value: Any, field: str = "queue") -> str:
    """A queue's name: printable text without spaces, and not of the scheduler's own `local:` queues."""
    if value == "default":
        return "default"
    text = _text(value, field)
    if any(character.isspace() for character in text) or text.startswith("local:"):
        raise InvalidInputError(f"{field} is {text!r}; no spaces, and 'local:' is reserved", field=field)
    return text


def check_tags(value: Any, field: str = "tags") -> tuple[str, ...]:
    """Tags: a list of texts, without repeats."""
    if value == ():
        return ()
    if isinstance(value, str) or not isinstance(value, Iterable):
        raise InvalidInputError(f"{field} is {value!r}; pass a list of str, for example [{value!r}]", field=field)
    tags = tuple(dict.fromkeys(_text(tag, field) for tag in value))
    if len(tags) > MAX_TAGS:
        raise InvalidInputError(f"{field} has {len(tags)} tags; at most {MAX_TAGS} are allowed", field=field)
    return tags


def check_executor(value: str, known: Iterable[str]) -> None:
    """A job's executor is one that the scheduler knows of.

    Raises:
        InvalidInputError: it is not.
    """
    if value not in known:
        raise InvalidInputError(
            f"executor is {value!r}; this scheduler knows of {', '.join(sorted(known))}. One that only other processes "
            f"have is named by executors={{{value!r}: None}}",
            field="executor",
        )


def check_settings(
    *, queues: Any, task_packages: Any, service_provider: Any, job_defaults: Any, redis_options: Any,
    shutdown_grace: Any, retry_for: Any, **counts: Any,
) -> None:  # fmt: skip
    """The scheduler's settings that nothing else checks.

    Raises:
        InvalidInputError: one is wrong; the message names it.
    """
    for name, value in (("queues", queues), ("task_packages", task_packages)):
        if isinstance(value, str | bytes) or not isinstance(value, Sequence) or (name == "queues" and not value):
            raise InvalidConfigError(f"{name} is {value!r}; pass a list of names", field=name)
        for member in value:
            check_queue(member, name)
    for name, value in counts.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise InvalidConfigError(f"{name} is {value!r}; it must be an int of 1 or more", field=name)
    for name, value in (("shutdown_grace", shutdown_grace), ("retry_for", retry_for)):
        seconds_to_ms(value, name)
    for name, value in (("job_defaults", job_defaults), ("redis_options", redis_options)):
        if value is not None and not isinstance(value, Mapping):
            raise InvalidConfigError(f"{name} is {shown_value(value)}; pass a dict", field=name)
    if service_provider is not None and not callable(getattr(service_provider, "get_service", None)):
        raise InvalidConfigError(
            f"service_provider is {service_provider!r}; it must have a method get_service(class)",
            field="service_provider",
        )


SIGNED_RUNS = "runs"
"""In the options of a sealed record: how many runs there may be at most. Without a seal only the job's hash tells."""


@dataclass(frozen=True, slots=True)
class JobOptions:
    """What may be said of a job, apart from its task, arguments and schedule."""

    coalesce: bool = True
    max_instances: int = 1
    misfire_grace_ms: int | None = None
    timeout_ms: int | None = None
    retry: RetryPolicy | None = None
    circuit_breaker: CircuitBreakerPolicy | None = None
    delivery: Delivery = Delivery.AT_LEAST_ONCE
    executor: str = "default"
    result_ttl_ms: int = DEFAULT_RESULT_TTL_MS
    max_recoveries: int = DEFAULT_MAX_RECOVERIES
    max_runs: int | None = None

    def with_values(self, values: Mapping[str, Any], where: str = "") -> JobOptions:
        """These options, changed by what a user gave (in seconds and by APScheduler's names).

        Raises:
            InvalidInputError: an unknown name, or a wrong value.
        """
        if not values:
            return self
        changes: dict[str, Any] = {}
        for name, value in values.items():
            match name:
                case "coalesce":
                    if not isinstance(value, bool):
                        raise InvalidInputError(f"{where}coalesce is {value!r}; it must be True or False", field=name)
                    changes[name] = value
                case "max_instances":
                    changes[name] = _positive_int(value, f"{where}{name}")
                case "misfire_grace_time":
                    grace = None if value is None else seconds_to_ms(value, f"{where}{name}", minimum_ms=1)
                    changes["misfire_grace_ms"] = grace
                case "timeout":
                    limit = None if value is None else seconds_to_ms(value, f"{where}{name}", minimum_ms=1)
                    changes["timeout_ms"] = limit
                case "retry":
                    if value is not None and not isinstance(value, RetryPolicy):
                        raise InvalidInputError(f"{where}retry is {value!r}; pass a RetryPolicy", field=name)
                    changes[name] = value
                case "circuit_breaker":
                    if value is not None and not isinstance(value, CircuitBreakerPolicy):
                        raise InvalidInputError(
                            f"{where}circuit_breaker is {value!r}; pass a CircuitBreakerPolicy", field=name
                        )
                    changes[name] = value
                case "max_attempts":
                    attempts = _positive_int(value, f"{where}{name}")
                    changes["retry"] = RetryPolicy(max_attempts=attempts) if attempts > 1 else None
                case "delivery":
                    try:
                        changes[name] = Delivery(value)
                    except ValueError:
                        allowed = " or ".join(repr(d.value) for d in Delivery)
                        raise InvalidInputError(
                            f"{where}delivery is {value!r}; it must be {allowed}", field=name
                        ) from None
                case "executor":
                    changes[name] = _text(value, f"{where}{name}")
                case "result_ttl":
                    changes["result_ttl_ms"] = seconds_to_ms(value, f"{where}{name}")
                case "max_recoveries":
                    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= MAX_COUNT:
                        raise InvalidInputError(
                            f"{where}{name} is {value!r}; it must be an int from 0 to {MAX_COUNT}", field=name
                        )
                    changes[name] = value
                case "max_runs":
                    changes[name] = None if value is None else _positive_int(value, f"{where}{name}")
                case _:
                    near = difflib.get_close_matches(name, _KNOWN.split(", "), n=1)
                    hint = f"did you mean {near[0]}?" if near else f"known are {_KNOWN}"
                    raise InvalidInputError(f"{where}{name} is not an option of a job; {hint}", field=name)
        return replace(self, **changes)

    def to_wire(self) -> dict[str, Any]:
        """What differs from the defaults, for the record."""
        if self is DEFAULT_OPTIONS:
            return {}
        wire: dict[str, Any] = {}
        for option in fields(self):
            value = getattr(self, option.name)
            if value != option.default and option.name != "max_runs":
                wire[option.name] = value.to_wire() if isinstance(value, RetryPolicy | CircuitBreakerPolicy) else value
        return wire

    @classmethod
    def from_wire(cls, wire: Mapping[str, Any]) -> JobOptions:
        """The options of a record."""
        if not wire:
            return DEFAULT_OPTIONS
        values = {option.name: wire[option.name] for option in fields(cls) if option.name in wire}
        if not values:
            return DEFAULT_OPTIONS
        if "retry" in values:
            values["retry"] = RetryPolicy.from_wire(values["retry"])
        if "circuit_breaker" in values:
            values["circuit_breaker"] = CircuitBreakerPolicy.from_wire(values["circuit_breaker"])
        if "delivery" in values:
            values["delivery"] = Delivery(values["delivery"])
        return cls(**values)

    def hash_fields(self) -> list[str | int]:
        """What the scripts need to know, as fields of the job's hash: only what differs from the defaults."""
        flat: list[str | int] = []
        if self.max_instances != 1:
            flat += ["max_instances", self.max_instances]
        if self.max_recoveries != DEFAULT_MAX_RECOVERIES:
            flat += ["max_recoveries", self.max_recoveries]
        if self.delivery is not Delivery.AT_LEAST_ONCE:
            flat += ["delivery", self.delivery.value]
        if self.max_runs is not None:
            flat += ["runs_left", self.max_runs]
        return flat


_KNOWN = (
    "coalesce, max_instances, misfire_grace_time, timeout, retry, max_attempts, circuit_breaker, delivery, "
    "executor, result_ttl, max_recoveries, max_runs"
)
DEFAULT_OPTIONS = JobOptions()
