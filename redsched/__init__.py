"""redsched: a Redis-native job scheduler. This module is the public API; everything else is private.

Its names are imported when they are first used: a process pays for what it needs, and for no more.
"""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from redsched.background import BackgroundTask
    from redsched.circuit import CircuitBreakerPolicy
    from redsched.config import RedisJobStoreConfig, SchedulerConfig
    from redsched.declare import schedule_task
    from redsched.doctor import Finding
    from redsched.errors import (
        CircuitOpenError,
        ConflictingIdError,
        DurabilityError,
        EncodingError,
        InvalidConfigError,
        InvalidInputError,
        InvalidScheduleError,
        JobLookupError,
        PayloadTooLargeError,
        RecordVersionError,
        RedschedError,
        ResultTimeoutError,
        RunCancelledError,
        RunLostError,
        SchedulerStateError,
        StoreAccessError,
        StoreError,
        StoreFullError,
        StoreReadOnlyError,
        StoreReplyError,
        StoreUnavailableError,
        TaskFailedError,
        TaskTimeoutError,
        UnknownKeyError,
        UnknownTaskError,
        UntrustedRecordError,
    )
    from redsched.executors import CustomTaskExecutor
    from redsched.handle import JobHandle
    from redsched.handlers import TaskFailureHandler
    from redsched.listing import JobPage
    from redsched.metrics import MetricsCollector, TaskMetrics
    from redsched.model import (
        DeclaredJob,
        Delivery,
        Event,
        JobView,
        Outcome,
        Reason,
        RunContext,
        State,
        TaskExecutionResult,
    )
    from redsched.policies import RetryPolicy
    from redsched.reactive import ReactiveTaskProcessor
    from redsched.running import current_scheduler
    from redsched.scheduler import BackgroundTaskScheduler
    from redsched.schedules import AnyOf, CronSchedule, DateSchedule, IntervalSchedule, Schedule
    from redsched.sealing import PayloadSecurity
    from redsched.spec import JobSpec
    from redsched.streams import RedisStream, StreamEvent
    from redsched.worker.runs import current_run

__version__ = "0.1.0"

__all__ = [
    "AnyOf",
    "BackgroundTask",
    "BackgroundTaskScheduler",
    "CircuitBreakerPolicy",
    "CircuitOpenError",
    "ConflictingIdError",
    "CronSchedule",
    "CustomTaskExecutor",
    "DateSchedule",
    "DeclaredJob",
    "Delivery",
    "DurabilityError",
    "EncodingError",
    "Event",
    "Finding",
    "IntervalSchedule",
    "InvalidConfigError",
    "InvalidInputError",
    "InvalidScheduleError",
    "JobHandle",
    "JobLookupError",
    "JobPage",
    "JobSpec",
    "JobView",
    "MetricsCollector",
    "Outcome",
    "PayloadSecurity",
    "PayloadTooLargeError",
    "ReactiveTaskProcessor",
    "Reason",
    "RecordVersionError",
    "RedisJobStoreConfig",
    "RedisStream",
    "RedschedError",
    "ResultTimeoutError",
    "RetryPolicy",
    "RunCancelledError",
    "RunContext",
    "RunLostError",
    "Schedule",
    "SchedulerConfig",
    "SchedulerStateError",
    "State",
    "StoreAccessError",
    "StoreError",
    "StoreFullError",
    "StoreReadOnlyError",
    "StoreReplyError",
    "StoreUnavailableError",
    "StreamEvent",
    "TaskExecutionResult",
    "TaskFailedError",
    "TaskFailureHandler",
    "TaskMetrics",
    "TaskTimeoutError",
    "UnknownKeyError",
    "UnknownTaskError",
    "UntrustedRecordError",
    "__version__",
    "current_run",
    "current_scheduler",
    "schedule_task",
]

_NAMES = {
    "redsched.background": ("BackgroundTask",),
    "redsched.circuit": ("CircuitBreakerPolicy",),
    "redsched.config": (
        "RedisJobStoreConfig",
        "SchedulerConfig",
    ),
    "redsched.declare": ("schedule_task",),
    "redsched.doctor": ("Finding",),
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
    "redsched.executors": ("CustomTaskExecutor",),
    "redsched.handle": ("JobHandle",),
    "redsched.handlers": ("TaskFailureHandler",),
    "redsched.listing": ("JobPage",),
    "redsched.metrics": (
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
    "redsched.policies": ("RetryPolicy",),
    "redsched.reactive": ("ReactiveTaskProcessor",),
    "redsched.running": ("current_scheduler",),
    "redsched.scheduler": ("BackgroundTaskScheduler",),
    "redsched.schedules": (
        "AnyOf",
        "CronSchedule",
        "DateSchedule",
        "IntervalSchedule",
        "Schedule",
    ),
    "redsched.sealing": ("PayloadSecurity",),
    "redsched.spec": ("JobSpec",),
    "redsched.streams": (
        "RedisStream",
        "StreamEvent",
    ),
    "redsched.worker.runs": ("current_run",),
}
"""Module -> the public names that it has."""
_HOMES = {name: module for module, names in _NAMES.items() for name in names}


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
