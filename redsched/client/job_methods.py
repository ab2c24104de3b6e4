"""The methods of a scheduler that act on stored jobs: look, change, end, wait."""

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
    """Each hands the client and its arguments to the function that does it."""

    client: Client

    @property
    def id(self) -> str:
        """This process' part of the fleet: the id of its worker, and of its own queue."""
        return self.client.id

    @property
    def redis_url(self) -> str:
        """Where the jobs are."""
        return self.client.redis_url

    @property
    def prefix(self) -> str:
        """What all keys start with."""
        return self.client.prefix

    @property
    def timezone(self) -> str:
        """Of jobs that name none."""
        return self.client.timezone

    @property
    def options(self) -> JobOptions:
        """Of jobs that give none."""
        return self.client.options

    @property
    def max_payload_bytes(self) -> int:
        """The largest arguments of a job."""
        return self.client.max_payload_bytes

    # -- jobs -----------------------------------------------------------------------------------------------------

    async def get_job(self, job_id: str) -> JobView | None:
        """A job as it is now, or None: it has ended, was removed, or never was."""
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
        """All jobs, or those with a tag, of a queue, in a state; by next run time, then id.

        Args:
            limit: how many at most: a page. The list has the `cursor` of the next one, or None. What has no next run
                time comes last, in no order, as do the jobs of a tag. A job that changes meanwhile may come twice, or
                not at all.
            cursor: that of the page before; `tag`, `queue` and `state` must be the same.

        Raises:
            InvalidInputError: the state does not exist, the limit is below 1, or the cursor is not one of a page.
        """
        return await jobs.get_jobs(self.client, tag=tag, queue=queue, state=state, limit=limit, cursor=cursor)

    async def iter_jobs(
        self, *, tag: str | None = None, queue: str | None = None, state: State | str | None = None
    ) -> AsyncIterator[JobView]:
        """The same jobs one after the other, in no order, a few at a time in memory: `async for job in
        scheduler.iter_jobs()`. A job that changes meanwhile may come twice, or not.

        Raises:
            InvalidInputError: the state does not exist.
        """
        async for job in jobs.iter_jobs(self.client, tag=tag, queue=queue, state=state):
            yield job

    async def pause_job(self, job_id: str) -> None:
        """Keep a job from becoming due. Runs that go on are not touched; what passes meanwhile is recorded
        when it is resumed, as one span (`dropped`, reason `paused`).

        Raises:
            JobLookupError: no job with that id.
            SchedulerStateError: its last run has been claimed: nothing is left to pause.
        """
        await jobs.pause(self.client, job_id)

    async def resume_job(self, job_id: str) -> JobView | None:
        """Let a paused job become due again: at its schedule's next fire from now, without catching up; a one-shot
        job at its time, even if that has passed (all as APScheduler). Returns None if its schedule has ended.

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
        """Give a job another schedule, with its next run computed from now. Overdue runs are dropped, which is
        recorded (reason `rescheduled`), and a paused job is resumed (as APScheduler). `when`: start, end, jitter,
        dst_gap, dst_fold, seconds.

        Raises:
            JobLookupError: no job with that id.
            InvalidInputError: the schedule is wrong; nothing was changed.
        """
        ways = {"cron": cron, "interval": interval, "run_at": run_at, "schedule": schedule}
        return await jobs.reschedule(self.client, job_id, ways, timezone, when)

    async def modify_job(self, job_id: str, **changes: Unpack[JobChanges]) -> JobView:
        """Change a job: name, task, args, kwargs, tags, queue, timezone, next_run_time, or any option. Its id stays,
        and so does what is not named. `next_run_time=None` pauses it. In another `timezone` a cron expression has its
        next run computed from now; intervals and dates keep their instants.

        Raises:
            JobLookupError: no job with that id.
            InvalidInputError: a change is wrong; nothing was changed.
        """
        return await jobs.modify(self.client, job_id, changes)

    async def remove_job(self, job_id: str) -> None:
        """End a job. Instances that run go on, but are not tried again.

        Raises:
            JobLookupError: no job with that id.
        """
        await jobs.remove(self.client, job_id)

    async def cancel(self, job_id: str | None = None, *, tag: str | None = None) -> bool:
        """End a job, or all jobs with a tag, and stop their running instances. Returns whether any was there.

        Raises:
            InvalidInputError: neither or both are given.
        """
        return bool(await self.cancel_jobs(ids=None if job_id is None else [job_id], tag=tag))

    async def cancel_jobs(self, *, ids: Sequence[str] | None = None, tag: str | None = None) -> list[str]:
        """As `cancel`, for several ids; returns the ids of the jobs that were there."""
        return await jobs.cancel(self.client, ids, tag)

    async def run_now(self, job_id: str) -> str:
        """Make a job due now, once, beside its schedule. Returns the run's id.

        Raises:
            JobLookupError: no job with that id.
        """
        return await jobs.run_now(self.client, job_id)

    async def get_dead(self, limit: int = 1000) -> list[JobView]:
        """Runs that ended without success, the newest first. Their `id` is what `requeue` takes."""
        return await jobs.get_dead(self.client, limit)

    async def requeue(self, *run_ids: str) -> list[str]:
        """Give dead runs another life, with all their attempts. Returns the ids of those that were dead."""
        return await jobs.requeue(self.client, run_ids)

    async def find_prefixes(self) -> list[str]:
        """The prefixes under which this Redis has jobs, as far as a look at some of its keys tells."""
        return await queries.find_prefixes(await self.client.open())

    async def examine_server(self) -> list[Finding]:
        """See whether the server is set up so that the promises hold: `redsched doctor` as a call. Changes nothing.

        Raises:
            StoreUnavailableError: no answer from Redis.
            StoreAccessError: it does not let this user in.
            InvalidConfigError: the jobs are stored with another number of shards than this scheduler names.
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
            dry_run: only say what is wrong.

        Raises:
            SchedulerStateError: the clock of Redis' machine is more than a minute from this machine's.
            StoreError: Redis did not do it.
        """
        from redsched.client.clock_repair import repair_clock

        return await repair_clock(await self.client.store(), dry_run=dry_run)

    async def reseal_jobs(self) -> int:
        """Seal all jobs with the first key that are not yet: after a rotation of keys, or when a fleet begins to use
        them. Returns how many were. Those that cannot be trusted or read are left as they are, with a warning.

        Raises:
            InvalidInputError: this scheduler has no `payload_security`.
        """
        return await jobs.reseal(self.client)

    # -- what happens ---------------------------------------------------------------------------------------------

    async def now(self) -> datetime:
        """The time by which everything is decided: Redis' clock, and the testing kit's offset (UTC)."""
        return from_ms(await (await self.client.store()).shards[0].travel())

    async def wait_for_result(
        self, job_id: str, *, timeout: float | timedelta | None = None
    ) -> TaskExecutionResult[Any]:
        """Wait until a run of the job has ended, and tell how. For one that has ended already: how it ended.

        `job_id` may be a run's id too, such as `run_now` returned. Of a periodic job it is the next run that ends. The
        wait costs nothing that grows with other jobs.

        Raises:
            ResultTimeoutError: it did not within `timeout` (seconds, or a timedelta).
            JobLookupError: the job does not exist, and its outcome is not known.
            SchedulerStateError: the scheduler was shut down meanwhile.
        """
        return await results.wait_for_result(self.client, job_id, timeout)

    async def get_result(self, job_id: str) -> TaskExecutionResult[Any] | None:
        """How a one-shot job ended, how the last run of a periodic job that is over did, or how a run did, by its id.
        None: it has not ended, or that is not known (any more); `wait_for_result` tells these two apart.
        """
        return await results.get_result(self.client, job_id)

    async def get_history(self, job_id: str | None = None, *, limit: int = 1000) -> list[Event]:
        """The newest events, oldest first: of one job, or of all."""
        return await history(await self.client.store(), limit=limit, job_id=job_id)

    async def get_results(self, job_id: str | None = None, *, limit: int = 100) -> list[TaskExecutionResult[Any]]:
        """How the newest runs ended, oldest first: of one job, or of all. What a task returned is there for as long as
        `result_ttl` says, the rest for as long as the events are kept.

        It is for looking back: of one job too, it reads the events from the newest on until it has `limit` of them, for
        which runs a periodic job had is known to the events alone. How one run ended is `get_result`'s to say.
        """
        return await results.past_results(self.client, job_id, limit)

    async def get_workers(self) -> dict[str, dict[str, Any]]:
        """The workers that gave a sign of life lately: what they serve, by their ids."""
        return await queries.read_workers(await self.client.store())
