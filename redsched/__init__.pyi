# Made by docs/generate.py from the table in __init__.py.

from redsched import errors as errors
from redsched import integrations as integrations
from redsched import schedules as schedules
from redsched import testing as testing
from redsched.background import BackgroundTask
from redsched.circuit import CircuitBreakerPolicy
from redsched.clock_repair import ClockRepair
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

__version__: str

__all__ = [
    "AnyOf",
    "BackgroundTask",
    "BackgroundTaskScheduler",
    "CircuitBreakerPolicy",
    "CircuitOpenError",
    "ClockRepair",
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
