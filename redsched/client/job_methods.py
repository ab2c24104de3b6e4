"""The methods of a scheduler that act on stored jobs: read, change, end, wait."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Sequence
from datetime import datetime, timedelta, tzinfo
from typing import TYPE_CHECKING, Any, Unpack

from redsched.client import change as jobs
from redsched.client import history as results
from redsched.client.core import Client
from redsched.client.events import history
from redsched.client.listing import JobPage
from redsched.errors import RecordVersionError, StoreError
from redsched.jobs.keywords import JobChanges, WhenOptions
from redsched.jobs.options import JobOptions
from redsched.model import Event, JobView, State, TaskExecutionResult
from redsched.schedules import Schedule
from redsched.store import queries
from redsched.store.clock import from_ms

if TYPE_CHECKING:  # what few processes need is imported where it is used
    from redsched.client.clock_repair import ClockRepair
    from redsched.doctor.finding import Finding

__all__ = ["JobMethods"]


class JobMethods:
    """Each method passes the client and its arguments to the function that does the work."""

    client: Client

    @property
    def id(self) -> str:
        """The id of this process's worker, and of its local queue."""
        return self.client.id

    @property
    def redis_url(self) -> str:
        """The URL of Redis."""
        return self.client.redis_url

    @property
    def prefix(self) -> str:
        """The prefix of all keys."""
        return self.client.prefix

    @property
    def timezone(self) -> str:
        """The time zone of jobs that name none."""
        return self.client.timezone

    @property
    def options(self) -> JobOptions:
        """The default options of jobs."""
        return self.client.options

    @property
    def max_payload_bytes(self) -> int:
        """The maximum size of a job's arguments, encoded, in bytes."""
        return self.client.max_payload_bytes

    # -- jobs -----------------------------------------------------------------------------------------------------

    async def get_job(self, job_id: str) -> JobView | None:
        """The current state of a job, or None if it has ended, was removed, or never existed."""
        return await jobs.get_job(self.client, job_id)

    async def get_jobs(
        self,
        *,
        tag: str | None = None,
        queue: str | None = None,
        state: State | str | None = None,
        limit: int | None = None,
        cursor: str | None = None,
    ) -> JobPage:
        """All jobs, or those with a tag, of a queue, in a state; ordered by next run time, then id.

        Args:
            limit: the maximum number: a page. The list has the `cursor` of the next page, or None. Jobs without a next
                run time come last, in no order; jobs of a tag are in no order. A job that changes meanwhile may appear
                twice, or not at all.
            cursor: the cursor of the previous page; `tag`, `queue` and `state` must be the same.

        Raises:
            InvalidInputError: the state does not exist, the limit is below 1, or the cursor is not one of a page.
        """
        return await jobs.get_jobs(self.client, tag=tag, queue=queue, state=state, limit=limit, cursor=cursor)

    async def iter_jobs(
        self, *, tag: str | None = None, queue: str | None = None, state: State | str | None = None
    ) -> AsyncIterator[JobView]:
        """Iterate over the same jobs in no order, with a few at a time in memory: `async for job in
        scheduler.iter_jobs()`. A job that changes meanwhile may appear twice, or not at all.

        Raises:
            InvalidInputError: the state does not exist.
        """
        async for job in jobs.iter_jobs(self.client, tag=tag, queue=queue, state=state):
            yield job

    async def pause_job(self, job_id: str) -> None:
        """Keep a job from becoming due. Active runs are not affected. Fires that pass meanwhile are recorded
        when the job is resumed, as one span (`dropped`, reason `paused`).

        Raises:
            JobLookupError: no job with that id.
            SchedulerStateError: its last run has been claimed, so nothing is left to pause.
        """
        await jobs.pause(self.client, job_id)

    async def resume_job(self, job_id: str) -> JobView | None:
        """Resume a paused job: it is due at its schedule's next fire from now, without catching up; a one-shot
        job at its time, even if that has passed (all as in APScheduler). Returns None if its schedule has ended.

        Raises:
            JobLookupError: no job with that id.
        """
        return await jobs.resume(self.client, job_id)

    async def reschedule_job(
        self,
        job_id: str,
        *,
        cron: str | None = None,
        interval: float | timedelta | None = None,
        run_at: datetime | str | None = None,
        schedule: Schedule | Sequence[Schedule] | None = None,
        timezone: str | tzinfo | None = None,
        **when: Unpack[WhenOptions],
    ) -> JobView | None:
        """Give a job another schedule, with its next run computed from now. Overdue fires are recorded as dropped
        (reason `rescheduled`), and a paused job is resumed (as in APScheduler). `when`: start, end, jitter,
        dst_gap, dst_fold, seconds.

        Raises:
            JobLookupError: no job with that id.
            InvalidInputError: the schedule is wrong; nothing was changed.
        """
        ways = {"cron": cron, "interval": interval, "run_at": run_at, "schedule": schedule}
        return await jobs.reschedule(self.client, job_id, ways, timezone, when)

    async def modify_job(self, job_id: str, **changes: Unpack[JobChanges]) -> JobView:
        """Change a job: name, task, args, kwargs, tags, queue, timezone, next_run_time, or any option. Its id and
        everything else stay. `next_run_time=None` pauses it. With another `timezone`, the next run of a cron expression
        is computed from now; intervals and dates keep their instants.

        Raises:
            JobLookupError: no job with that id.
            InvalidInputError: a change is wrong; nothing was changed.
        """
        return await jobs.modify(self.client, job_id, changes)

    async def remove_job(self, job_id: str) -> None:
        """End a job. Running instances finish, but are not retried.

        Raises:
            JobLookupError: no job with that id.
        """
        await jobs.remove(self.client, job_id)

    async def cancel(self, job_id: str | None = None, *, tag: str | None = None) -> bool:
        """End a job, or all jobs with a tag, and stop their running instances. Returns whether any existed.

        Raises:
            InvalidInputError: neither or both are passed.
        """
        return bool(await self.cancel_jobs(ids=None if job_id is None else [job_id], tag=tag))

    async def cancel_jobs(self, *, ids: Sequence[str] | None = None, tag: str | None = None) -> list[str]:
        """Like `cancel`, for several ids. Returns the ids of the jobs that existed."""
        return await jobs.cancel(self.client, ids, tag)

    async def run_now(self, job_id: str) -> str:
        """Make a job due now, once, in addition to its schedule. Returns the run's id.

        Raises:
            JobLookupError: no job with that id.
        """
        return await jobs.run_now(self.client, job_id)

    async def get_dead(self, limit: int = 1000) -> list[JobView]:
        """Dead runs, which ended without success, the newest first. Pass their `id` to `requeue`."""
        return await jobs.get_dead(self.client, limit)

    async def requeue(self, *run_ids: str) -> list[str]:
        """Make dead runs due again, with all their attempts. Returns the ids of those that were dead."""
        return await jobs.requeue(self.client, run_ids)

    async def find_prefixes(self) -> list[str]:
        """The prefixes under which this Redis has jobs, as far as a sample of its keys shows."""
        return await queries.find_prefixes(await self.client.open())

    async def examine_server(self) -> list[Finding]:
        """Check whether the server's configuration keeps the promises: `redsched doctor` as a call. Changes nothing.

        Raises:
            StoreUnavailableError: no answer from Redis.
            StoreAccessError: Redis refuses this user.
            InvalidConfigError: the jobs are stored with a number of shards other than this scheduler's.
        """
        store = await self.client.open()
        newer = None
        with contextlib.suppress(StoreError):  # what is wrong with the server is what it is asked for
            try:
                await store.learn()
            except RecordVersionError as error:
                newer = error
        from redsched.doctor.examine import examine

        return await examine(store, newer)

    async def repair_clock(self, *, dry_run: bool = False) -> ClockRepair:
        """Set the stored clock back to Redis' time: `redsched doctor --repair clock` as a call. See docs/security.md.

        Args:
            dry_run: only report the problems.

        Raises:
            SchedulerStateError: the clock of Redis' machine is more than a minute from this machine's.
            StoreError: Redis did not carry out the request.
        """
        from redsched.client.clock_repair import repair_clock

        return await repair_clock(await self.client.store(), dry_run=dry_run)

    async def reseal_jobs(self) -> int:
        """Seal all jobs with the first key, if they are not yet: after a key rotation, or when a fleet begins to use
        keys. Returns the number of jobs sealed. Jobs that are untrusted or unreadable are skipped with a warning.

        Raises:
            InvalidInputError: this scheduler has no `payload_security`.
        """
        return await jobs.reseal(self.client)

    # -- results and history --------------------------------------------------------------------------------------

    async def now(self) -> datetime:
        """The scheduler's time (UTC): Redis' clock plus the testing kit's offset."""
        return from_ms(await (await self.client.store()).shards[0].travel())

    async def wait_for_result(
        self, job_id: str, *, timeout: float | timedelta | None = None
    ) -> TaskExecutionResult[Any]:
        """Wait until a run of the job has ended, and return its outcome. If it has already ended, return at once.

        `job_id` may also be a run's id, such as `run_now` returned. For a periodic job, wait for the next run that
        ends. The cost of a wait does not grow with other jobs.

        Raises:
            ResultTimeoutError: it did not end within `timeout` (seconds, or a timedelta).
            JobLookupError: the job does not exist, and its outcome is not known.
            SchedulerStateError: the scheduler was shut down meanwhile.
        """
        return await results.wait_for_result(self.client, job_id, timeout)

    async def get_result(self, job_id: str) -> TaskExecutionResult[Any] | None:
        """The outcome of a one-shot job, of the last run of a finished periodic job, or of a run, by its id.
        None: it has not ended, or its outcome is not known; `wait_for_result` distinguishes the two.
        """
        return await results.get_result(self.client, job_id)

    async def get_history(self, job_id: str | None = None, *, limit: int = 1000) -> list[Event]:
        """The newest events, oldest first: of one job, or of all."""
        return await history(await self.client.store(), limit=limit, job_id=job_id)

    async def get_results(self, job_id: str | None = None, *, limit: int = 100) -> list[TaskExecutionResult[Any]]:
        """The outcomes of the newest runs, oldest first: of one job, or of all. Return values are available for
        `result_ttl`, the rest for as long as the events are kept.

        This is for history: even for one job it reads the events from the newest on until it has `limit` outcomes,
        because only the events know which runs a periodic job had. For the outcome of one run use `get_result`.
        """
        return await results.past_results(self.client, job_id, limit)

    async def get_workers(self) -> dict[str, dict[str, Any]]:
        """The workers with a recent heartbeat: what they serve, by their ids."""
        return await queries.read_workers(await self.client.store())
