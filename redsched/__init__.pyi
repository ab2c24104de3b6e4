# Made by docs/generate.py from the table in __init__.py.

from redsched import errors as errors
from redsched import integrations as integrations
from redsched import schedules as schedules
from redsched import testing as testing
from redsched.client.clock_repair import ClockRepair
from redsched.client.handle import JobHandle
from redsched.client.listing import JobPage
from redsched.client.scheduling_middleware import SchedulingMiddleware
from redsched.codec.payload_security import PayloadSecurity
from redsched.config import RedisJobStoreConfig, SchedulerConfig
from redsched.doctor.finding import Finding
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
from redsched.jobs.spec import JobSpec
from redsched.metrics.collector import MetricsCollector, TaskMetrics
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
from redsched.policies.circuit_breaker import CircuitBreakerPolicy
from redsched.policies.retry import RetryPolicy
from redsched.reactive.processor import ReactiveTaskProcessor
from redsched.reactive.streams import RedisStream, StreamEvent
from redsched.runtime.current import current_scheduler
from redsched.scheduler import BackgroundTaskScheduler
from redsched.schedules import AnyOf, CronSchedule, DateSchedule, IntervalSchedule, Schedule
from redsched.tasks.class_based import BackgroundTask
from redsched.tasks.decorator import schedule_task
from redsched.tasks.executor import CustomTaskExecutor
from redsched.tasks.provide import PROVIDED, Provide
from redsched.worker.current import CurrentRun, current_run
from redsched.worker.handlers import TaskFailureHandler
from redsched.worker.hooks import CallNext, RunMiddleware

__version__: str

__all__ = [
    "PROVIDED",
    "AnyOf",
    "BackgroundTask",
    "BackgroundTaskScheduler",
    "CallNext",
    "CircuitBreakerPolicy",
    "CircuitOpenError",
    "ClockRepair",
    "ConflictingIdError",
    "CronSchedule",
    "CurrentRun",
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
    "Provide",
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
    "RunMiddleware",
    "Schedule",
    "SchedulerConfig",
    "SchedulerStateError",
    "SchedulingMiddleware",
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
