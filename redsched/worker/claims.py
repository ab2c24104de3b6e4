"""The claims of a poll: runs, which are held at once and decoded when their turn comes, and jobs to plan."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from redsched.codec.values import Record
from redsched.errors import EncodingError
from redsched.jobs.ids import job_of, run_id_of
from redsched.jobs.options import JobOptions
from redsched.jobs.record import Job
from redsched.model import Outcome, Reason
from redsched.schedules import MAX_MS
from redsched.store.rows import Claimed, Committed
from redsched.store.transitions import Shard
from redsched.store.wire import FOREVER
from redsched.worker.agreement import check_agreement
from redsched.worker.held import HeldRuns
from redsched.worker.outcomes import Outcomes
from redsched.worker.planning import plan_row
from redsched.worker.runs import HoldingLoop, Run
from redsched.worker.tracebacks import log_error
from redsched.worker.troubles import FOR_OTHERS, need_of, no_executor, no_key, reason_of, text_of

if TYPE_CHECKING:
    from redsched.worker.state import WorkerState

__all__ = ["Claims"]

log = logging.getLogger("redsched.worker")

_RUN_ID, _FENCE = Claimed.RUN_ID, Claimed.FENCE


class Claims:
    """Claims of one shard, on their way from a row of `lua/include/claim.lua` to a `Run` that can be executed.

    Args:
        worker: whose slots execute them.
        shard: where they were claimed.
        loop: of the worker on that shard.
        held: the runs that the loop holds.
        outcomes: take the runs that this worker cannot execute.
    """

    def __init__(
        self, worker: WorkerState, shard: Shard, loop: HoldingLoop, held: HeldRuns, outcomes: Outcomes
    ) -> None:
        self._worker = worker
        self._shard = shard
        self._loop = loop
        self._held = held
        self._outcomes = outcomes
        self._following: list[Any] = []

    @property
    def has_following(self) -> bool:
        """Whether fires were computed that Redis does not know yet."""
        return bool(self._following)

    def take_following(self) -> list[Any]:
        """The argument `following` of poll: job id, version, fire and the fire after it (0 = none), flat."""
        following, self._following = self._following, []
        return following

    def accept(self, row: Sequence[Any], now: float) -> None:
        """Hold a claimed run, and execute it when there is a slot. Its record is decoded then."""
        run = Run(row[_RUN_ID].decode("utf-8", "surrogateescape"), row[_FENCE], self._loop, now, row)
        run.plain = type(row) is tuple
        self._hold(run)

    def _hold(self, run: Run) -> None:
        self._held.add(run)
        self._worker.slots.put(run)

    def read(self, run: Run) -> bool:
        """Decode a claim and look up its task. False if this worker cannot execute it: then it is settled."""
        if run.row and not self._decode(run, run.row):
            return False
        run.row = ()
        worker = self._worker
        run.task = worker.registry.find(run.job.record.task)
        if run.task is None:
            why = f"worker {worker.id} knows no task {run.job.record.task!r}"
            self._outcomes.postpone(run, Reason.UNKNOWN_TASK, why, need=f"task:{run.job.record.task}")
            return False
        if run.job.options.executor not in worker.executors:
            need = f"executor:{run.job.options.executor}"
            self._outcomes.postpone(run, Reason.UNKNOWN_EXECUTOR, no_executor(worker.id, run.job), need=need)
            return False
        return True

    def _decode(self, run: Run, row: Sequence[Any]) -> bool:
        job_id = job_of(run.id)
        try:
            _, _, run.attempt, fire_ms, record, queue, fires, following_of, version, run.postponed, begun, *said = row
            queue = queue.decode()
            if not 0 <= fire_ms <= MAX_MS:
                raise EncodingError(f"its fire time is {fire_ms} ms since the epoch")
            job = Job.decode(job_id, record, self._worker.store.sealer, queue=queue, version=version)
            if job.record.locked == "encrypted":
                raise no_key(job)
            if job.record.label and not job.record.locked:
                check_agreement(job, *said)
        except Exception as error:  # whatever is stored there must not end the worker
            run.job = Job(job_id, Record("?", "?", b"", {}), JobOptions(), None)
            fire_ms = row[Claimed.FIRE_MS] if len(row) > Claimed.FIRE_MS else 0
            run.fire_ms = fire_ms if isinstance(fire_ms, int) and 0 <= fire_ms <= MAX_MS else 0
            if isinstance(error, FOR_OTHERS):
                run.queue = row[Claimed.QUEUE].decode()
                self._outcomes.postpone(run, Reason.UNREADABLE, str(error), need=need_of(error))
            else:
                self._held.forget(run)
                text = text_of(error)
                self._outcomes.died(run, text)
                self._outcomes.settle(run, Outcome.DEAD, reason_of(error), error=text)
            return False
        run.job, run.queue, run.fire_ms, run.begun = job, queue, fire_ms, bool(begun)
        if following_of and job.schedule is not None:
            self._follow(job, following_of, version)
        if fires:
            run.batch = fires
        return True

    def _follow(self, job: Job, fire_ms: int, version: int) -> None:
        """Find the fire after the next one, so that the next claim needs no plan. The next poll takes it along."""
        assert job.schedule is not None
        try:
            after = job.schedule.next(fire_ms)
        except Exception as error:  # the next claim plans, and ends the job with the reason
            log_error(error, "the schedule of job %r raised", job.id, level=logging.WARNING, extra={"job": job.id})
            return
        self._following += [job.id, version, fire_ms, after or 0]

    async def plan(self, rows: list[list[Any]]) -> None:
        """Plan jobs of which something was missed, or whose following fire is not known; hold the runs that start."""
        worker, clock = self._worker, self._shard.clock
        planned = [made for row in rows if (made := plan_row(worker, clock, row)) is not None]
        outcomes, tally = await self._shard.commit(worker.id, [commit for commit, _ in planned], resend=FOREVER)
        worker.tally.moved(tally)
        for (commit, job), outcome in zip(planned, outcomes, strict=True):
            if outcome == "started" and job is not None:
                fires: list[int] = commit[Committed.FIRES]
                run = Run(run_id_of(job.id, fires[-1]), commit[Committed.FENCE], self._loop, time.monotonic())
                run.fire_ms, run.queue, run.job = fires[0], job.queue, job
                if len(fires) > 1:
                    run.batch = fires
                self._hold(run)
