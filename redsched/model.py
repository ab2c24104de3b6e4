"""The words of redsched: what a job, a run and their states are called, everywhere.

The same spelling is used in Lua, in the `events` stream, on the command line, in docs and in metrics;
`tests/test_vocabulary.py` compares the sets.

A **task** is a function known by a name. A **job** is a task with arguments and a schedule, stored in Redis.
A **run** is one execution of a job for one **fire time**; a retry is the next **attempt** of the same run.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Generic

from redsched.task_types import R

__all__ = [
    "DeclaredJob",
    "Delivery",
    "Event",
    "JobView",
    "Outcome",
    "Reason",
    "RunContext",
    "State",
    "TaskExecutionResult",
]


class State(StrEnum):
    """Where a job is.

    >>> State.PAUSED == "paused", [state.value for state in State]
    (True, ['scheduled', 'running', 'paused', 'dead'])
    """

    SCHEDULED = "scheduled"
    """Waiting for its next run time (or for the next attempt of a run)."""
    RUNNING = "running"
    """A worker holds a lease on a run of it."""
    PAUSED = "paused"
    """Kept, but not due until resumed."""
    DEAD = "dead"
    """Ended without success; kept for inspection and requeue."""


class Outcome(StrEnum):
    """How a claim of a run ended.

    >>> Outcome.DONE == "done", [outcome.value for outcome in Outcome][:3]
    (True, ['done', 'retry', 'dead'])
    """

    DONE = "done"
    """The task returned."""
    RETRY = "retry"
    """The task raised; its retry policy gave it a further attempt, which is in Redis."""
    DEAD = "dead"
    """The task raised, or its workers died, and no attempt is left."""
    MISSED = "missed"
    """It would have started later than misfire_grace_time allows, so it was not run."""
    CANCELLED = "cancelled"
    """It was cancelled, before or while it ran."""
    RELEASED = "released"
    """Given back by a worker that shuts down, or that is busy; starts at once elsewhere, no attempt used."""
    POSTPONED = "postponed"
    """Put off without using an attempt: the task or the record is not known to the worker that claimed it."""


class Reason(StrEnum):
    """Why something did not run, or ended as it did: a closed list (promise 7).

    >>> Reason("misfire") is Reason.MISFIRE
    True
    """

    MISFIRE = "misfire"
    """Later than misfire_grace_time."""
    COALESCED = "coalesced"
    """Several fires were overdue and coalesce=True ran only the newest."""
    MAX_INSTANCES = "max_instances"
    """As many instances as max_instances allows were running."""
    CATCH_UP = "max_catch_up"
    """More fires were overdue than max_catch_up allows with coalesce=False; the oldest were dropped."""
    TASK_FAILED = "task_failed"
    """The task raised."""
    TIMEOUT = "timeout"
    """The task ran longer than its timeout."""
    ATTEMPTS_USED_UP = "attempts_used_up"
    """The task raised in its last attempt."""
    LEASE_EXPIRED = "lease_expired"
    """The worker that held the run died or hung."""
    STALLED = "stalled"
    """The event loop of its worker was blocked; for a recovery: for longer than stall_limit."""
    RECOVERIES_USED_UP = "recoveries_used_up"
    """The workers of this run died more often than max_recoveries allows."""
    AT_MOST_ONCE = "at_most_once"
    """Its worker died and delivery="at_most_once" forbids to start it again."""
    FENCE_LOST = "fence_lost"
    """A worker without the lease tried to settle; Redis refused."""
    UNKNOWN_TASK = "unknown_task"
    """The worker that claimed it knows no task of that name; left to others."""
    UNKNOWN_EXECUTOR = "unknown_executor"
    """The worker that claimed it has no executor of that name; left to others."""
    EXECUTOR_SKIPPED = "executor_skipped"
    """A custom executor said that it skipped the task."""
    CIRCUIT_OPEN = "circuit_open"
    """A circuit breaker holds its calls back; it is tried again when the circuit lets it."""
    PROCESS_GONE = "process_gone"
    """A closure, lambda or unbound instance lived in a process that is gone."""
    SCHEDULE_ERROR = "schedule_error"
    """Its schedule raised when the next fire time was sought."""
    UNREADABLE = "unreadable"
    """The record or its arguments cannot be decoded by this version, or with the keys of this process."""
    WRONG_TYPE = "wrong_type"
    """A key of the prefix was of another type than redsched keeps there. It was put aside for inspection."""
    UNTRUSTED = "untrusted"
    """Its record is not signed by a payload key of this worker, was changed, or is another job's."""
    CANCELLED = "cancelled"
    """Somebody cancelled it."""
    REPLACED = "replaced"
    """Its job was replaced before it ran, or while a run of it wanted another attempt."""
    REMOVED = "removed"
    """Somebody removed the job."""
    SHUTDOWN = "shutdown"
    """Its worker was asked to stop."""
    BUSY = "busy"
    """The worker that claimed it ahead of time did not get to it soon; another may start it at once."""
    PAUSED = "paused"
    """Its job was paused when it was due."""
    DECLARED = "declared"
    """Its declaration in the code changed."""
    RENAMED = "renamed"
    """Its declaration has another name now, and goes on under that."""
    PRUNED = "pruned"
    """The code of its application does not declare it any more."""
    RESCHEDULED = "rescheduled"
    """Its job was given another schedule, or another next run time, before it ran."""
    MANUAL = "manual"
    """Somebody asked for it: run_now, requeue."""
    ENDED = "ended"
    """The schedule has no further fire time."""


class Delivery(StrEnum):
    """What happens to a run whose worker died.

    >>> Delivery("at_most_once") is Delivery.AT_MOST_ONCE
    True
    """

    AT_LEAST_ONCE = "at_least_once"
    """It is started again elsewhere after the lease."""
    AT_MOST_ONCE = "at_most_once"
    """It ends dead, with that reason."""


@dataclass(frozen=True, slots=True)
class JobView:
    """A job as it was when it was read. All times are aware datetimes in the job's zone.

    >>> async def main() -> None:
    ...     async with BackgroundTaskScheduler(url) as scheduler:
    ...         await scheduler.schedule_cron("greet", print, "0 8 * * *", args=["hello"], timezone="Europe/Berlin")
    ...         [job] = await scheduler.get_jobs(state="scheduled")
    ...         print(job.task, job.args, job.schedule, job.next_run_time.hour)
    >>> asyncio.run(main())
    builtins.print ('hello',) cron 0 8 * * * (Europe/Berlin) 8
    """

    id: str
    name: str
    task: str
    queue: str
    state: State
    next_run_time: datetime | None
    """When it fires next; None while paused, dead, or when the last run has been claimed."""
    schedule: str
    """The schedule in words, for example `cron 0 8 * * * (Europe/Berlin)`."""
    timezone: str
    tags: tuple[str, ...] = ()
    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict[str, Any])
    encrypted: bool = False
    """The arguments are encrypted and this process has no key for them: `args` and `kwargs` are empty."""
    coalesce: bool = True
    max_instances: int = 1
    misfire_grace_time: float | None = None
    """Seconds; None = no limit."""
    timeout: float | None = None
    """Seconds; None = no limit."""
    max_attempts: int = 1
    delivery: Delivery = Delivery.AT_LEAST_ONCE
    executor: str = "default"
    runs_left: int | None = None
    application: str | None = None
    """For a declared job: the application that owns its declaration."""
    modified: tuple[str, ...] = ()
    """For a declared job: what was changed since, and is not as declared (`timeout`, `schedule`, …)."""
    running: int = 0
    """Instances that hold a lease now."""
    waiting: int = 0
    """Runs that wait for their next attempt."""
    attempt: int = 0
    progress: Any = None
    """What the running task told with `report_progress`."""
    reason: Reason | None = None
    error: str | None = None
    traceback: str | None = None
    """Of a dead run: the end of its traceback, up to 8 KiB, from the task's own frame on."""
    version: int = 0


@dataclass(frozen=True, slots=True)
class DeclaredJob:
    """What became of a job that `@schedule_task` declares, when its scheduler started: `scheduler.declared_jobs`.

    >>> async def main() -> None:
    ...     async with BackgroundTaskScheduler(url) as scheduler:
    ...         for job in scheduler.declared_jobs:
    ...             if job.status == "failed":
    ...                 print(job.id, job.error)
    """

    id: str
    task: str
    application: str
    """The owner of the declaration."""
    status: str
    """added, kept, updated, renamed; over: it has run, or its schedule has ended; removed: by an operator, until the
    declaration changes; held_back: a newer generation declares it otherwise, and runs; failed."""
    generation: int = 0
    """Of this process' declarations of that application."""
    error: str | None = None


@dataclass(frozen=True, slots=True)
class TaskExecutionResult(Generic[R]):
    """How a run ended, as `await handle.result()` gives it and as history shows it.

    >>> async def main() -> None:
    ...     async with BackgroundTaskScheduler(url) as scheduler:
    ...         handle = await scheduler.schedule_immediate_task("sum", sum, args=[[1, 2, 3]])
    ...         result = await handle.result(timeout=10)
    ...         print(result.success, result.result, result.attempt)
    >>> asyncio.run(main())
    True 6 1
    """

    job_id: str
    task_name: str
    outcome: Outcome
    result: R | None = None
    """What the task returned: None also where it did not succeed, or `result_ttl` is over."""
    error: str | None = None
    error_type: str | None = None
    reason: Reason | None = None
    attempt: int = 1
    fire_time: datetime | None = None
    execution_time: float | None = None
    """Seconds."""
    run_id: str | None = None
    """The run's id, as `current_run().context.run_id` and `requeue` have it; None where no run was claimed."""
    result_note: str | None = None
    """Of a run that is done: why `result` is None though the task returned something (a type that is not stored, too
    large, unreadable now), or what the task said when it skipped its work."""

    @property
    def success(self) -> bool:
        """Whether the task returned."""
        return self.outcome is Outcome.DONE


@dataclass(frozen=True, slots=True)
class Event:
    """One transition of one job, with its reason: what listeners get and `redsched events` prints.

    >>> async def main() -> None:
    ...     async with BackgroundTaskScheduler(url) as scheduler:
    ...         handle = await scheduler.schedule_immediate_task("greet", print, args=["hello"])
    ...         await handle.result(timeout=10)
    ...         print(*[event.kind for event in await scheduler.get_history(handle.id)])
    >>> asyncio.run(main())
    hello
    scheduled claimed done
    """

    kind: str
    """scheduled, replaced, claimed, done, retry, dead, missed, coalesced, skipped, recovered, released, postponed,
    cancelled, removed, paused, resumed, modified, requeued, refused, ended, dropped, stalled,
    quarantined."""
    job_id: str
    """For `stalled`: the job whose run blocked the event loop of its worker, or "" where it was none."""
    at: datetime
    """When Redis recorded it (UTC)."""
    reason: Reason | None = None
    fire_time: datetime | None = None
    last_fire_time: datetime | None = None
    """For a span of fires (missed, coalesced, skipped, dropped): the newest of them."""
    count: int | None = 1
    """For a span of fires: how many; None where they cannot be counted cheaply."""
    task: str | None = None
    worker: str | None = None
    attempt: int | None = None
    execution_time: float | None = None
    """Seconds."""
    lateness: float | None = None
    """Seconds between the fire time and the start."""
    error: str | None = None
    stream_id: str = ""
    run_id: str | None = None
    """The run's id, as `current_run().context.run_id` and `requeue` have it; None for changes of a job, and
    for fires that never became a run. Fires of `coalesce=False` are claimed as one run, by the id of the last."""


@dataclass(frozen=True, slots=True)
class RunContext:
    """What a running task can know of its run: see `redsched.current_run()`.

    >>> async def tell() -> str:
    ...     run = redsched.current_run().context
    ...     return f"{run.name}, attempt {run.attempt}, tags {run.tags}"
    >>> async def main() -> None:
    ...     async with BackgroundTaskScheduler(url) as scheduler:
    ...         handle = await scheduler.schedule_immediate_task("tell", tell, tags=["example"])
    ...         print((await handle.result(timeout=10)).result)
    >>> asyncio.run(main())
    tell, attempt 1, tags ('example',)
    """

    job_id: str
    run_id: str
    """The id that events, results, the dead and `requeue` know this run by. The only run of a one-shot job has the
    job's id; any other is `<job id>@<ms since the epoch>`."""
    name: str
    task: str
    queue: str
    fire_time: datetime
    """The instant this run was due (aware, in the job's zone)."""
    attempt: int
    """1 for the first."""
    fencing_token: int
    """Only grows. Hand it to whatever the task writes to, so that a stale writer can be refused."""
    deadline: datetime | None
    """When the timeout ends the run, by Redis' clock (UTC); None without a timeout."""
    tags: tuple[str, ...]
    worker: str
