"""Retry policies: how often a run is attempted, and how long it waits in between.

The next attempt of a job's run is stored in Redis, so a crash between two attempts loses nothing. `apply` uses the
same policy around any coroutine function, in this process only.
"""

from __future__ import annotations

import asyncio
import functools
import random
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any, ParamSpec, TypeVar

from redsched.checks import MAX_COUNT, int_between, number_between
from redsched.errors import CircuitOpenError, InvalidInputError

__all__ = ["RetryPolicy", "class_names", "from_instance", "is_one_of", "short_name"]

P = ParamSpec("P")
R = TypeVar("R")


def _class_name(kind: type[BaseException]) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"


def class_names(kinds: Any, field: str) -> tuple[str, ...]:
    """Exception classes by name, as a policy stores them.

    Raises:
        InvalidInputError: not a tuple of exception classes.
    """
    if (
        isinstance(kinds, tuple | list)
        and kinds
        and all(isinstance(kind, type) and issubclass(kind, BaseException) for kind in kinds)
    ):
        return tuple(map(_class_name, kinds))
    raise InvalidInputError(f"{field} is {kinds!r}; it must be a tuple of exception classes", field=field)


def is_one_of(error: BaseException, names: Sequence[str]) -> bool:
    """Whether an exception is of one of the classes that `class_names` named, or of a subclass."""
    if "builtins.Exception" in names and isinstance(error, Exception):
        return True  # the usual case; `names` may also contain classes that are not its subclasses
    return any(_class_name(kind) in names for kind in type(error).__mro__)


def short_name(function: Callable[..., Any]) -> str:
    """The name of a function, for a policy without a name."""
    return f"{function.__module__}.{getattr(function, '__qualname__', type(function).__qualname__)}"


def from_instance(
    attribute: str,
) -> Callable[[Callable[P, Awaitable[R]]], Callable[P, Coroutine[Any, Any, R]]]:
    """A decorator for methods that applies the policy in that attribute of the instance.

    A decorator in a class body cannot see what `__init__` will set, so it takes the attribute's name:

    >>> class Payments:
    ...     def __init__(self) -> None:
    ...         self.retry_policy = RetryPolicy(max_attempts=3)
    ...     @RetryPolicy.from_instance("retry_policy")
    ...     async def charge(self, order_id: str) -> None: ...
    """

    def decorate(method: Callable[P, Awaitable[R]]) -> Callable[P, Coroutine[Any, Any, R]]:
        @functools.wraps(method)
        async def applied(*args: P.args, **kwargs: P.kwargs) -> R:
            policy: RetryPolicy = getattr(args[0], attribute)
            return await policy.apply(method)(*args, **kwargs)

        return applied

    return decorate


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Retry a run that raises.

    >>> policy = RetryPolicy(max_attempts=4, backoff_factor=2.0, initial_delay=1.0, jitter=0)
    >>> [policy.delay(attempt) for attempt in (1, 2, 3)]
    [1.0, 2.0, 4.0]

    Raises:
        InvalidInputError: an argument is out of its range.
    """

    max_attempts: int = 3
    """Maximum number of attempts, including the first."""
    backoff_factor: float = 2.0
    """Each wait is this many times the previous one. 1.0 = constant."""
    max_delay: float = 300.0
    """Maximum wait in seconds."""
    initial_delay: float = 1.0
    """Seconds before the second attempt."""
    jitter: float = 0.1
    """Each wait is extended by a random share up to this one, so that failed runs are not retried in lockstep."""
    retry_on: tuple[type[BaseException], ...] = (Exception,)
    """The exceptions that are retried, including subclasses."""
    names: tuple[str, ...] = field(default=(), repr=False)
    """The class names of `retry_on`, as stored; set by redsched."""

    def __post_init__(self) -> None:
        int_between(self.max_attempts, "max_attempts", 1, MAX_COUNT)
        for name, low in (("backoff_factor", 1.0), ("max_delay", 0.0), ("initial_delay", 0.0), ("jitter", 0.0)):
            number_between(getattr(self, name), name, low)
        if not self.names:
            object.__setattr__(self, "names", class_names(self.retry_on, "retry_on"))

    @staticmethod
    def from_instance(
        attribute: str,
    ) -> Callable[[Callable[P, Awaitable[R]]], Callable[P, Coroutine[Any, Any, R]]]:
        """A decorator for methods that applies the policy in that attribute of the instance.

        >>> class Payments:
        ...     def __init__(self) -> None:
        ...         self.policy = RetryPolicy()
        ...     @RetryPolicy.from_instance("policy")
        ...     async def charge(self, order_id: str) -> None: ...
        """
        return from_instance(attribute)

    def delay(self, attempt: int) -> float:
        """Seconds to wait after this attempt (1 = the first) has failed."""
        # The exponent is bounded: otherwise the float would overflow before the maximum is applied.
        wait = min(self.max_delay, self.initial_delay * self.backoff_factor ** min(attempt - 1, 500))
        if not self.jitter:
            return wait
        return min(self.max_delay, wait * (1 + random.random() * self.jitter))  # it only spreads load  # nosec B311

    def retries(self, error: BaseException) -> bool:
        """Whether this exception is retried."""
        return is_one_of(error, self.names)

    def apply(self, function: Callable[P, Awaitable[R]]) -> Callable[P, Coroutine[Any, Any, R]]:
        """Wrap a coroutine function: it is retried in this process, as often as the policy allows."""

        @functools.wraps(function)
        async def tried(*args: P.args, **kwargs: P.kwargs) -> R:
            attempt = 1
            while True:
                try:
                    return await function(*args, **kwargs)
                except CircuitOpenError:
                    raise  # it has its own retry_after
                except Exception as error:
                    if attempt >= self.max_attempts or not self.retries(error):
                        raise
                    await asyncio.sleep(self.delay(attempt))
                    attempt += 1

        return tried

    def to_wire(self) -> list[Any]:
        """The policy as plain data."""
        return [self.max_attempts, self.backoff_factor, self.max_delay, self.initial_delay, self.jitter, *self.names]

    @classmethod
    def from_wire(cls, data: Sequence[Any]) -> RetryPolicy:
        """The policy from the data of `to_wire`."""
        attempts, factor, longest, first, jitter, *names = data
        return _policy(attempts, factor, longest, first, jitter, tuple(names))


@functools.lru_cache(maxsize=256)
def _policy(
    attempts: int, factor: float, longest: float, first: float, jitter: float, names: tuple[str, ...]
) -> RetryPolicy:
    return RetryPolicy(attempts, factor, longest, first, jitter, (), names)
