"""How calls pass a circuit breaker: each asks Redis first, and tells Redis how it ended.

The state of a circuit is in Redis and is changed by one script (`lua/circuit.lua`), so all workers and services see
the same state. The parameters of a circuit are in its policy, which is data (`redsched/policies/circuit_breaker.py`).
"""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable
from typing import TypeVar

from redsched.errors import CircuitOpenError
from redsched.jobs.ids import new_id
from redsched.policies.circuit_breaker import CircuitBreakerPolicy
from redsched.policies.retry import is_one_of
from redsched.store.store import Store
from redsched.store.wire import Resend

__all__ = ["failed_trial_delay", "guard"]

R = TypeVar("R")


async def guard(
    policy: CircuitBreakerPolicy,
    store: Store,
    name: str,
    call: Callable[[], Awaitable[R]],
    *,
    resend: Resend | None = None,
) -> R:
    """Make one call through the circuit with that name (the policy's own name takes precedence).

    Raises:
        CircuitOpenError: the circuit is open; the function was not called.
    """
    name = policy.name or name
    shard, token = store.shard(name), new_id()

    async def report(verb: str) -> tuple[str, int]:
        return await shard.circuit(
            name, verb, token, policy.failure_threshold, round(policy.recovery_timeout * 1000),
            policy.success_threshold, resend=resend,
        )  # fmt: skip

    state, wait_ms = await report("enter")
    if state == "open":
        raise CircuitOpenError(
            f"the circuit {name!r} is open after repeated failures: no calls for {wait_ms / 1000:g} s",
            retry_after=wait_ms / 1000,
        )
    try:
        result = await call()
    except Exception as error:
        is_failure = is_one_of(error, policy.names)
        after, wait_ms = await report("failure" if is_failure else "leave")
        if is_failure and state == "half_open":
            _mark(error, wait_ms / 1000 if after == "open" else policy.recovery_timeout)
        raise
    await report("success")
    return result


def _mark(error: Exception, seconds: float) -> None:
    """Note on the error that a trial call failed with it, and how long the circuit is open again."""
    with contextlib.suppress(AttributeError):  # an exception class that allows no attributes
        error.__redsched_trial__ = seconds  # type: ignore[attr-defined]


def failed_trial_delay(error: BaseException) -> float | None:
    """How many seconds to postpone a run whose trial call failed with this error; None if it was not a trial. A little
    longer than the circuit is open, so that another run makes the next trial: this run may always fail."""
    seconds = getattr(error, "__redsched_trial__", None)
    return None if seconds is None else seconds * 1.1 + 0.05
