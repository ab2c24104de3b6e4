"""What may be passed by keyword: once for type checkers, and for the check at run time.

Python hands any name to `**options`. Each place that takes some names them here, so that a name with a slip in it is
refused where it was written, by type checkers as well.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta, tzinfo
from typing import TYPE_CHECKING, Any, TypedDict

from redsched.errors import InvalidInputError

if TYPE_CHECKING:
    from redsched.circuit import CircuitBreakerPolicy
    from redsched.policies import RetryPolicy
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
    """How the runs of a job behave. `job_defaults` takes these, and everything that takes options of a job."""

    coalesce: bool
    max_instances: int
    misfire_grace_time: float | timedelta | None
    """Seconds; None = run however late."""
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
    """Seconds that what the task returned is kept; 0 = not at all."""
    max_recoveries: int
    """How often a run is started again after its worker died."""
    max_runs: int | None
    """A periodic job ends after that number of runs."""


class ScheduleOptions(JobSettings, total=False):
    """What every `schedule_…` method takes besides its own arguments."""

    args: Sequence[Any]
    kwargs: Mapping[str, Any]
    tags: Sequence[str]
    job_id: str
    """The job's identity; generated if not given."""
    queue: str
    replace_existing: bool | str
    """True: replace the job of that id; "keep": leave it as it is; False (default): refuse."""
    timezone: str | tzinfo | None
    next_run_time: datetime | None
    """An explicit first run, whatever the schedule says; None = added paused."""
    durability: str | None
    """replicated or fsynced: return when a replica, or the disk, has the job; None (default): when Redis has it."""


class WhenOptions(TypedDict, total=False):
    """What refines a cron expression or an interval."""

    start: datetime | str | None
    end: datetime | str | None
    jitter: float | timedelta | None
    dst_gap: str
    dst_fold: str
    seconds: SecondsOrder | None
    """Where the second is, in a cron expression of six fields."""


class CronOptions(ScheduleOptions, WhenOptions, total=False):
    """What `schedule_cron` takes besides its positional arguments."""


class DeclareOptions(ScheduleOptions, WhenOptions, total=False):
    """What `@schedule_task` takes besides the schedule."""

    aliases: Sequence[str]
    """Earlier names of the task, and ids of its job: a rename keeps the job."""


class DelayOptions(ScheduleOptions, total=False):
    """What `schedule_delayed_task` takes besides its positional arguments."""

    delay_minutes: float | None
    delay_seconds: float | None


class IntervalOptions(ScheduleOptions, total=False):
    """What `schedule_interval` takes besides its positional arguments."""

    weeks: float
    days: float
    hours: float
    minutes: float
    seconds: float
    start: datetime | str | None
    end: datetime | str | None
    jitter: float | timedelta | None


class SpecOptions(ScheduleOptions, WhenOptions, total=False):
    """What `JobSpec` takes besides its task."""

    name: str
    run_at: datetime | str | None
    delay: float | timedelta | None
    cron: str | None
    interval: float | timedelta | None
    schedule: Schedule | Sequence[Schedule] | None


class JobChanges(JobSettings, total=False):
    """What `modify_job` takes."""

    name: str
    task: Callable[..., Any]
    args: Sequence[Any]
    kwargs: Mapping[str, Any]
    tags: Sequence[str]
    queue: str
    timezone: str | tzinfo
    next_run_time: datetime | None


def check_names(where: str, given: Iterable[str], known: Iterable[str]) -> None:
    """Refuse a keyword that is not among the known ones.

    Raises:
        InvalidInputError: one is not; the message has the name that was probably meant.
    """
    known = frozenset(known)
    for name in given:
        if name not in known:
            near = difflib.get_close_matches(name, sorted(known), n=1)
            hint = f"did you mean {near[0]}=?" if near else f"it takes {', '.join(sorted(known))}."
            raise InvalidInputError(f"{where} does not take {name}=; {hint}", field=name)
