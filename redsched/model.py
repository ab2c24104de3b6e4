"""The vocabulary of redsched: the names of jobs, runs, their states, outcomes and reasons.

The same spelling is used in Lua, in the `events` stream, on the command line, in docs and in metrics;
`tests/test_vocabulary.py` compares the sets, and docs/glossary.md is made from them.

A **task** is a function with a name. A **job** is a task with arguments and a schedule, stored in Redis.
A **run** is one execution of a job for one **fire time**; a retry is the next **attempt** of the same run.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Generic

from redsched.tasks.types import R

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
    """The state of a job.

    >>> State.PAUSED == "paused", [state.value for state in State]
    (True, ['scheduled', 'running', 'paused', 'dead'])
    """

    SCHEDULED = "scheduled"
    """Waiting for its next run time (or for the next attempt of a run)."""
    RUNNING = "running"
    """A worker holds a lease on one of its runs."""
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
    """The task raised; its retry policy grants a further attempt, which is stored in Redis."""
    DEAD = "dead"
    """The task raised, or its workers died, and no attempt is left."""
    MISSED = "missed"
    """It would have started later than misfire_grace_time allows, so it was not run."""
    CANCELLED = "cancelled"
    """It was cancelled, before or while it ran."""
    RELEASED = "released"
    """Given back by a worker that shuts down or is busy; starts immediately elsewhere, without using an attempt."""
    POSTPONED = "postponed"
    """Postponed without using an attempt: the worker that claimed it cannot run it, or a circuit breaker is open."""


class Reason(StrEnum):
    """Why a run did not start, or how it came to its end: a closed list (promise 7).

    >>> Reason("misfire") is Reason.MISFIRE
    True
    """

    MISFIRE = "misfire"
    """It would have started later than misfire_grace_time allows."""
    COALESCED = "coalesced"
    """Several fires were overdue and coalesce=True ran only the newest."""
    MAX_INSTANCES = "max_instances"
    """max_instances instances were already running."""
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
    """Its worker died, and delivery="at_most_once" forbids starting it again."""
    FENCE_LOST = "fence_lost"
    """A worker that had lost the lease tried to settle; Redis refused."""
    UNKNOWN_TASK = "unknown_task"
    """The worker that claimed it knows no task of that name; left to others."""
    UNKNOWN_EXECUTOR = "unknown_executor"
    """The worker that claimed it has no executor of that name; left to others."""
    EXECUTOR_SKIPPED = "executor_skipped"
    """A custom executor reported that it skipped the task."""
    CIRCUIT_OPEN = "circuit_open"
    """A circuit breaker is open; the run is tried again when the circuit allows it."""
    PROCESS_GONE = "process_gone"
    """A closure, lambda or unbound instance lived in a process that is gone."""
    SCHEDULE_ERROR = "schedule_error"
    """Its schedule raised when the next fire time was computed."""
    UNREADABLE = "unreadable"
    """The record or its arguments cannot be decoded by this version, or with the keys of this process."""
    WRONG_TYPE = "wrong_type"
    """A key of the prefix had a type that redsched does not store there. It was set aside for inspection."""
    UNTRUSTED = "untrusted"
    """Its record is not signed by a payload key of this worker, was changed, or belongs to another job."""
    CANCELLED = "cancelled"
    """It was cancelled by a call."""
    REPLACED = "replaced"
    """Its job was replaced before it ran, or while a run of it wanted another attempt."""
    REMOVED = "removed"
    """The job was removed by a call."""
    SHUTDOWN = "shutdown"
    """Its worker was asked to stop."""
    BUSY = "busy"
    """The worker that claimed it ahead of time was too busy to start it soon; another may start it immediately."""
    PAUSED = "paused"
    """Its job was paused when it became due."""
    DECLARED = "declared"
    """Its declaration in the code changed."""
    RENAMED = "renamed"
    """Its declaration was renamed, and the job continues under the new name."""
    PRUNED = "pruned"
    """The code of its application no longer declares it."""
    RESCHEDULED = "rescheduled"
    """Its job was given another schedule, or another next run time, before it ran."""
    MANUAL = "manual"
    """It was requested by a call: run_now, requeue."""
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
    """The next fire time; None while paused or dead, and after the last run has been claimed."""
    schedule: str
    """A description of the schedule, for example `cron 0 8 * * * (Europe/Berlin)`."""
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
    """For a declared job: the parts that differ from the declaration after a change (`timeout`, `schedule`, …)."""
    running: int = 0
    """Instances that hold a lease now."""
    waiting: int = 0
    """Runs that wait for their next attempt."""
    attempt: int = 0
    progress: Any = None
    """The last value that the running task passed to `report_progress`."""
    reason: Reason | None = None
    error: str | None = None
    traceback: str | None = None
    """For a dead run: the end of its traceback, up to 8 KiB, from the task's own frame on."""
    version: int = 0


@dataclass(frozen=True, slots=True)
class DeclaredJob:
    """How the start of a scheduler reconciled a job that `@schedule_task` declares: see `scheduler.declared_jobs`.

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
    declaration changes; held_back: a newer generation that is running declares it differently; failed."""
    generation: int = 0
    """The generation of this process's declarations of that application."""
    error: str | None = None


@dataclass(frozen=True, slots=True)
class TaskExecutionResult(Generic[R]):
    """How a run ended: returned by `await handle.result()`, and by the history methods.

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
    """The task's return value; also None if it did not succeed, or if `result_ttl` is over."""
    error: str | None = None
    error_type: str | None = None
    reason: Reason | None = None
    attempt: int = 1
    fire_time: datetime | None = None
    execution_time: float | None = None
    """Seconds."""
    run_id: str | None = None
    """The run's id, as in `current_run().context.run_id` and for `requeue`; None if no run was claimed."""
    result_note: str | None = None
    """For a run that is done: why `result` is None although the task returned a value (a type that is not stored, too
    large, no longer readable), or the reason that a custom executor gave for skipping the task."""

    @property
    def success(self) -> bool:
        """Whether the task returned."""
        return self.outcome is Outcome.DONE


@dataclass(frozen=True, slots=True)
class Event:
    """One transition of one job, with its reason. Listeners receive events, and `redsched events` prints them.

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
    quarantined, worker_failed."""
    job_id: str
    """For `stalled`: the job whose run blocked the event loop of its worker, or "" if no run did. ""
    for `worker_failed`: a worker ended with the unexpected error that `error` says."""
    at: datetime
    """When Redis recorded it (UTC)."""
    reason: Reason | None = None
    fire_time: datetime | None = None
    last_fire_time: datetime | None = None
    """For a span of fires (missed, coalesced, skipped, dropped): the newest of them."""
    count: int | None = 1
    """For a span of fires: their number; None if they cannot be counted cheaply."""
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
    """The run's id, as in `current_run().context.run_id` and for `requeue`; None for changes of a job, and for fires
    that never became a run. With `coalesce=False`, overdue fires are claimed as one run with the id of the last."""


@dataclass(frozen=True, slots=True)
class RunContext:
    """What a running task can know about its run: see `redsched.current_run()`.

    >>> async def describe() -> str:
    ...     run = redsched.current_run().context
    ...     return f"{run.name}, attempt {run.attempt}, tags {run.tags}"
    >>> async def main() -> None:
    ...     async with BackgroundTaskScheduler(url) as scheduler:
    ...         handle = await scheduler.schedule_immediate_task("describe", describe, tags=["example"])
    ...         print((await handle.result(timeout=10)).result)
    >>> asyncio.run(main())
    describe, attempt 1, tags ('example',)
    """

    job_id: str
    run_id: str
    """The id of this run in events, results and dead runs, and for `requeue`. The only run of a one-shot job has the
    job's id; the id of any other run is `<job id>@<ms since the epoch>`."""
    name: str
    task: str
    queue: str
    fire_time: datetime
    """The instant at which this run was due (aware, in the job's zone)."""
    attempt: int
    """1 for the first."""
    fencing_token: int
    """It only grows. Pass it to whatever the task writes to, so that a stale writer can be refused."""
    deadline: datetime | None
    """When the timeout ends the run, by Redis' clock (UTC); None without a timeout."""
    tags: tuple[str, ...]
    worker: str
