"""The keyword options of each call, defined once for type checkers and for the check at run time.

Python accepts any name in `**options`. The names of each call are listed here, so that a misspelt name is refused where
it was written, also by type checkers.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta, tzinfo
from typing import TYPE_CHECKING, Any, TypedDict

from redsched.errors import InvalidInputError

if TYPE_CHECKING:
    from redsched.policies.circuit_breaker import CircuitBreakerPolicy
    from redsched.policies.retry import RetryPolicy
    from redsched.schedules import Schedule, SecondsOrder

__all__ = [
    "CronOptions",
    "DeclareOptions",
    "DelayOptions",
    "IntervalOptions",
    "JobChanges",
    "JobSettings",
    "ScheduleOptions",
    "SpecOptions",
    "WhenOptions",
    "check_names",
]


class JobSettings(TypedDict, total=False):
    """How the runs of a job behave. Accepted by `job_defaults`, and wherever job options are accepted."""

    coalesce: bool
    max_instances: int
    misfire_grace_time: float | timedelta | None
    """Seconds; None = run, however late."""
    timeout: float | timedelta | None
    """Seconds that one attempt may take; None = no limit."""
    max_attempts: int
    retry: RetryPolicy | None
    circuit_breaker: CircuitBreakerPolicy | None
    """While its circuit is open, runs are postponed."""
    delivery: str
    """at_least_once (default) or at_most_once."""
    executor: str
    result_ttl: float | timedelta
    """Seconds for which the outcome and the return value are kept; 0 = not at all."""
    max_recoveries: int
    """How often a run is started again after its worker died."""
    max_runs: int | None
    """A periodic job ends after that number of runs."""


class ScheduleOptions(JobSettings, total=False):
    """The options that every `schedule_…` method accepts besides its own arguments."""

    args: Sequence[Any]
    kwargs: Mapping[str, Any]
    tags: Sequence[str]
    job_id: str
    """The job's identity; generated if not given."""
    queue: str
    replace_existing: bool | str
    """If the id exists: True: replace the job; "update": also keep its cursor; "keep": keep the job; False: refuse."""
    timezone: str | tzinfo | None
    next_run_time: datetime | None
    """An explicit first run, whatever the schedule says; None = added paused."""
    durability: str | None
    """replicated or fsynced: return when a replica has the job, or the disk; None (default): when Redis has it."""


class WhenOptions(TypedDict, total=False):
    """The options that refine a cron expression or an interval."""

    start: datetime | str | None
    end: datetime | str | None
    jitter: float | timedelta | None
    dst_gap: str
    dst_fold: str
    seconds: SecondsOrder | None
    """The position of the second in a cron expression of six fields."""


class CronOptions(ScheduleOptions, WhenOptions, total=False):
    """The options of `schedule_cron`."""


class DeclareOptions(ScheduleOptions, WhenOptions, total=False):
    """The options of `@schedule_task` besides the schedule."""

    aliases: Sequence[str]
    """Earlier names of the task, and ids of its job: a rename keeps the job."""


class DelayOptions(ScheduleOptions, total=False):
    """The options of `schedule_delayed_task`."""

    delay_minutes: float | None
    delay_seconds: float | None


class IntervalOptions(ScheduleOptions, total=False):
    """The options of `schedule_interval`."""

    weeks: float
    days: float
    hours: float
    minutes: float
    seconds: float
    start: datetime | str | None
    end: datetime | str | None
    jitter: float | timedelta | None


class SpecOptions(ScheduleOptions, WhenOptions, total=False):
    """The options of `JobSpec` besides its task."""

    name: str
    run_at: datetime | str | None
    delay: float | timedelta | None
    cron: str | None
    interval: float | timedelta | None
    schedule: Schedule | Sequence[Schedule] | None


class JobChanges(JobSettings, total=False):
    """The changes that `modify_job` accepts."""

    name: str
    task: Callable[..., Any]
    args: Sequence[Any]
    kwargs: Mapping[str, Any]
    tags: Sequence[str]
    queue: str
    timezone: str | tzinfo
    next_run_time: datetime | None


def check_names(where: str, given: Iterable[str], known: Iterable[str]) -> None:
    """Refuse unknown keywords.

    Raises:
        InvalidInputError: a keyword is unknown; the message suggests the name that was probably meant.
    """
    known = frozenset(known)
    for name in given:
        if name not in known:
            near = difflib.get_close_matches(name, sorted(known), n=1)
            hint = f"did you mean {near[0]}=?" if near else f"it accepts {', '.join(sorted(known))}."
            raise InvalidInputError(f"{where} does not accept {name}=; {hint}", field=name)
