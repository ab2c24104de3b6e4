"""Circuit breakers: stop calls to something that keeps failing until it has had time to recover.

The policy is data. How a call passes its circuit, whose state is in Redis, is in `worker/circuits.py`.
"""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any, ParamSpec, TypeVar

from redsched import context
from redsched.checks import int_between, is_number
from redsched.errors import InvalidInputError
from redsched.policies.retry import class_names, from_instance, short_name

__all__ = ["CircuitBreakerPolicy"]

P = ParamSpec("P")
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class CircuitBreakerPolicy:
    """Stop calls after repeated failures, until the called service has recovered.

    Closed: calls go through; `failure_threshold` failures in a row open the circuit. Open: no call goes through for
    `recovery_timeout` seconds. Half open: trial calls go through; `success_threshold` of them in a row close the
    circuit, one failure opens it again. (The specification, "Circuit Breaker Integration".)

    As an option of a job (`circuit_breaker=`), an open circuit postpones the run, without using an attempt. Around a
    coroutine function (`apply`), it raises `CircuitOpenError`; a run that raises this error is postponed as well.
    So is a run that fails with the error of a trial call, unless its delivery is `at_most_once`.

    >>> policy = CircuitBreakerPolicy(failure_threshold=5, recovery_timeout=60, success_threshold=3, name="payments")
    >>> policy.recovery_timeout
    60

    Raises:
        InvalidInputError: an argument is out of its range.
    """

    failure_threshold: int = 5
    """Failures in a row that open the circuit."""
    recovery_timeout: float = 60.0
    """Seconds that it stays open before trial calls are made."""
    success_threshold: int = 1
    """Trial calls that must succeed to close it; also the maximum number of concurrent trial calls."""
    name: str | None = None
    """The circuit's name: policies with the same name share a circuit. None = the name of the function or the task."""
    failure_on: tuple[type[BaseException], ...] = (Exception,)
    """The exceptions that count as failures, including subclasses. Others do not affect the circuit."""
    names: tuple[str, ...] = field(default=(), repr=False)
    """The class names of `failure_on`, as stored; set by redsched."""

    def __post_init__(self) -> None:
        for attribute in ("failure_threshold", "success_threshold"):
            int_between(getattr(self, attribute), attribute, 1, 1000)
        seconds: Any = self.recovery_timeout
        if not is_number(seconds) or not 0.001 <= seconds <= 366 * 86_400:
            raise InvalidInputError(
                f"recovery_timeout is {seconds!r}; it must be seconds, from 0.001 to a year", field="recovery_timeout"
            )
        if self.name is not None and (not isinstance(self.name, str) or not self.name.isprintable() or not self.name):
            raise InvalidInputError(f"name is {self.name!r}; it must be printable text", field="name")
        if not self.names:
            object.__setattr__(self, "names", class_names(self.failure_on, "failure_on"))

    @staticmethod
    def from_instance(
        attribute: str,
    ) -> Callable[[Callable[P, Awaitable[R]]], Callable[P, Coroutine[Any, Any, R]]]:
        """A decorator for methods that applies the policy in that attribute of the instance.

        >>> class Payments:
        ...     def __init__(self) -> None:
        ...         self.policy = CircuitBreakerPolicy()
        ...     @CircuitBreakerPolicy.from_instance("policy")
        ...     async def charge(self, order_id: str) -> None: ...
        """
        return from_instance(attribute)

    def apply(self, function: Callable[P, Awaitable[R]]) -> Callable[P, Coroutine[Any, Any, R]]:
        """Wrap a coroutine function: while the circuit is open, it is not called.

        The circuit is in the Redis of the scheduler that runs the current task, or else of the only scheduler that is
        started in this process. The wrapper raises `CircuitOpenError`, and `SchedulerStateError` without a scheduler.
        """
        name = self.name or short_name(function)

        @functools.wraps(function)
        async def guarded(*args: P.args, **kwargs: P.kwargs) -> R:
            client = context.find_scheduler().client
            return await client.guard(self, name, functools.partial(function, *args, **kwargs))

        return guarded

    def to_wire(self) -> list[Any]:
        """The policy as plain data."""
        return [self.failure_threshold, self.recovery_timeout, self.success_threshold, self.name, *self.names]

    @classmethod
    def from_wire(cls, data: Sequence[Any]) -> CircuitBreakerPolicy:
        """The policy from the data of `to_wire`."""
        failures, seconds, successes, name, *names = data
        return _policy(failures, seconds, successes, name, tuple(names))


@functools.lru_cache(maxsize=256)
def _policy(
    failures: int, seconds: float, successes: int, name: str | None, names: tuple[str, ...]
) -> CircuitBreakerPolicy:
    return CircuitBreakerPolicy(failures, seconds, successes, name, (), names)
