"""redsched: a Redis-native job scheduler. This module is the public API; everything else is private.

Its names are imported when they are first used: a process pays for what it needs, and for no more.
"""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import Any

__version__ = "0.1.0"

_NAMES = {
    "redsched.tasks.class_based": ("BackgroundTask",),
    "redsched.policies.circuit_breaker": ("CircuitBreakerPolicy",),
    "redsched.config": (
        "RedisJobStoreConfig",
        "SchedulerConfig",
    ),
    "redsched.tasks.decorator": ("schedule_task",),
    "redsched.client.clock_repair": ("ClockRepair",),
    "redsched.doctor.finding": ("Finding",),
    "redsched.errors": (
        "CircuitOpenError",
        "ConflictingIdError",
        "DurabilityError",
        "EncodingError",
        "InvalidConfigError",
        "InvalidInputError",
        "InvalidScheduleError",
        "JobLookupError",
        "PayloadTooLargeError",
        "RecordVersionError",
        "RedschedError",
        "ResultTimeoutError",
        "RunCancelledError",
        "RunLostError",
        "SchedulerStateError",
        "StoreAccessError",
        "StoreError",
        "StoreFullError",
        "StoreReadOnlyError",
        "StoreReplyError",
        "StoreUnavailableError",
        "TaskFailedError",
        "TaskTimeoutError",
        "UnknownKeyError",
        "UnknownTaskError",
        "UntrustedRecordError",
    ),
    "redsched.tasks.executor": ("CustomTaskExecutor",),
    "redsched.client.handle": ("JobHandle",),
    "redsched.worker.handlers": ("TaskFailureHandler",),
    "redsched.client.listing": ("JobPage",),
    "redsched.metrics.collector": (
        "MetricsCollector",
        "TaskMetrics",
    ),
    "redsched.model": (
        "DeclaredJob",
        "Delivery",
        "Event",
        "JobView",
        "Outcome",
        "Reason",
        "RunContext",
        "State",
        "TaskExecutionResult",
    ),
    "redsched.policies.retry": ("RetryPolicy",),
    "redsched.reactive.processor": ("ReactiveTaskProcessor",),
    "redsched.runtime.current": ("current_scheduler",),
    "redsched.scheduler": ("BackgroundTaskScheduler",),
    "redsched.schedules": (
        "AnyOf",
        "CronSchedule",
        "DateSchedule",
        "IntervalSchedule",
        "Schedule",
    ),
    "redsched.codec.payload_security": ("PayloadSecurity",),
    "redsched.jobs.spec": ("JobSpec",),
    "redsched.reactive.streams": (
        "RedisStream",
        "StreamEvent",
    ),
    "redsched.tasks.provide": (
        "PROVIDED",
        "Provide",
    ),
    "redsched.client.scheduling_middleware": ("SchedulingMiddleware",),
    "redsched.worker.hooks": (
        "CallNext",
        "RunMiddleware",
    ),
    "redsched.worker.current": (
        "CurrentRun",
        "current_run",
    ),
}
"""Module -> the public names that it has. The only list of them: `__init__.pyi`, for type checkers, is made from it."""
_HOMES = {name: module for module, names in _NAMES.items() for name in names}

__all__ = sorted([*_HOMES, "__version__"])  # noqa: PLE0605  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is not None:
        value = getattr(import_module(home), name)
    elif not name.startswith("_") and find_spec(f"redsched.{name}") is not None:
        return import_module(f"redsched.{name}")  # `import redsched` is enough for `redsched.errors`
    else:
        raise AttributeError(f"module 'redsched' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
