"""The options of a job, each with its default, its unit and its check.

The value of an option comes from the call, else from the task's decorator, else from the scheduler's `job_defaults`,
else from here.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from redsched.checks import (
    MAX_COUNT,
    check_text,
    int_between,
    seconds_to_ms,
)
from redsched.errors import EncodingError, InvalidInputError
from redsched.model import Delivery
from redsched.policies.circuit_breaker import CircuitBreakerPolicy
from redsched.policies.retry import RetryPolicy

__all__ = ["JobOptions", "check_executor"]

DEFAULT_MAX_RECOVERIES = 3
DEFAULT_RESULT_TTL_MS = 300_000
DURABILITIES = ("replicated", "fsynced")


def check_executor(value: str, known: Iterable[str]) -> None:
    """Check that the scheduler knows a job's executor.

    Raises:
        InvalidInputError: it does not.
    """
    if value not in known:
        raise InvalidInputError(
            f"executor is {value!r}; this scheduler knows {', '.join(sorted(known))}. If only other processes have it, "
            f"pass executors={{{value!r}: None}}",
            field="executor",
        )


SIGNED_RUNS = "runs"
"""In the options of a sealed record: the maximum number of runs. Without a seal it is only in the job's hash."""


@dataclass(frozen=True, slots=True)
class JobOptions:
    """The options of a job, apart from its task, arguments and schedule."""

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
        """A copy with a user's values (in seconds, and with APScheduler's names).

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
                    changes[name] = int_between(value, f"{where}{name}", 1, MAX_COUNT)
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
                    attempts = int_between(value, f"{where}{name}", 1, MAX_COUNT)
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
                    changes[name] = check_text(value, f"{where}{name}")
                case "result_ttl":
                    changes["result_ttl_ms"] = seconds_to_ms(value, f"{where}{name}")
                case "max_recoveries":
                    changes[name] = int_between(value, f"{where}{name}", 0, MAX_COUNT)
                case "max_runs":
                    changes[name] = None if value is None else int_between(value, f"{where}{name}", 1, MAX_COUNT)
                case _:
                    near = difflib.get_close_matches(name, _KNOWN.split(", "), n=1)
                    hint = f"did you mean {near[0]}?" if near else f"the options are {_KNOWN}"
                    raise InvalidInputError(f"{where}{name} is not an option of a job; {hint}", field=name)
        return replace(self, **changes)

    def to_wire(self) -> dict[str, Any]:
        """The values that differ from the defaults, for the record."""
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
        """The options of a record.

        Raises:
            EncodingError: one of them is not what `to_wire` writes: another program stored it.
        """
        if not wire:
            return DEFAULT_OPTIONS
        values = {option.name: wire[option.name] for option in fields(cls) if option.name in wire}
        if not values:
            return DEFAULT_OPTIONS
        try:
            if "retry" in values:
                values["retry"] = RetryPolicy.from_wire(values["retry"])
            if "circuit_breaker" in values:
                values["circuit_breaker"] = CircuitBreakerPolicy.from_wire(values["circuit_breaker"])
            if "delivery" in values:
                values["delivery"] = Delivery(values["delivery"])
        except Exception as error:  # whatever is stored there
            raise EncodingError(f"the stored options cannot be read: {type(error).__name__}: {error}") from error
        return cls(**values)

    def hash_fields(self) -> list[str | int]:
        """The options that the scripts need, as fields of the job's hash: only those that differ from the defaults."""
        flat: list[str | int] = []
        if self is DEFAULT_OPTIONS:
            return flat
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
