"""redsched: a Redis-native job scheduler. This module is the public API; everything else is private."""

from redsched.declare import schedule_task
from redsched.errors import *  # noqa: F403
from redsched.errors import __all__ as _errors
from redsched.handle import JobHandle
from redsched.model import Delivery, Event, JobView, Outcome, Reason, RunContext, State, TaskExecutionResult
from redsched.policies import RetryPolicy
from redsched.schedules import AnyOf, CronSchedule, DateSchedule, IntervalSchedule, Schedule
from redsched.scheduler import BackgroundTaskScheduler
from redsched.spec import JobSpec
from redsched.worker.runs import current_run

__version__ = "0.1.0"

__all__ = [
    "AnyOf",
    "BackgroundTaskScheduler",
    "CronSchedule",
    "DateSchedule",
    "Delivery",
    "Event",
    "IntervalSchedule",
    "JobHandle",
    "JobSpec",
    "JobView",
    "Outcome",
    "Reason",
    "RetryPolicy",
    "RunContext",
    "Schedule",
    "State",
    "TaskExecutionResult",
    "__version__",
    "current_run",
    "schedule_task",
    *_errors,
]
