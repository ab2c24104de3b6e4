"""Jobs of which something was missed, or whose following fire is not known: `schedules/plan.py`, from row to row."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from redsched.errors import EncodingError
from redsched.jobs.record import Job
from redsched.model import Reason
from redsched.schedules import MAX_MS
from redsched.schedules.plan import plan
from redsched.store.clock import StoreClock
from redsched.store.rows import Planned, commit_row
from redsched.worker.agreement import check_agreement
from redsched.worker.troubles import (
    FOR_OTHERS,
    clean,
    need_of,
    no_executor,
    no_key,
    postponement_ms,
    reason_of,
    text_of,
)

if TYPE_CHECKING:
    from redsched.worker.state import WorkerState

__all__ = ["plan_row"]

_JOB_ID, _FENCE = Planned.JOB_ID, Planned.FENCE


def plan_row(worker: WorkerState, clock: StoreClock, row: list[Any]) -> tuple[list[Any], Job | None] | None:
    """The row of `lua/commit.lua` for a row of plans of `lua/include/claim.lua`; and the job, if it could be read.

    None for a row that is none of these: it is not reported.
    """
    try:
        return _plan_row(worker, clock, row)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # whatever is stored there, or a task's lookup raises, must not end the worker
        if len(row) < 2 or not isinstance(row[_JOB_ID], bytes) or not isinstance(row[_FENCE], int):
            worker.warn_throttled("odd plan", "a row of plans cannot be read: %r", error)
            return None
        name = row[_JOB_ID].decode(errors="surrogateescape")
        return commit_row(job_id=name, fence=row[_FENCE], error=text_of(error), reason=reason_of(error).value), None


def _plan_row(worker: WorkerState, clock: StoreClock, claimed: list[Any]) -> tuple[list[Any], Job | None]:
    job_id, fence, next_ms, version, running, runs_left, record, queue, times, *said = claimed
    name = job_id.decode(errors="surrogateescape")
    postponed: list[Any] | None = None
    try:
        if not 0 <= next_ms <= MAX_MS:
            raise EncodingError(f"its next fire time is {next_ms} ms since the epoch")
        known = {"queue": queue.decode(), "version": version, "next_run_time": next_ms}
        job = Job.decode(name, record, worker.store.sealer, **known)
        if job.record.locked == "encrypted":
            raise no_key(job)
        if job.record.label and not job.record.locked:
            check_agreement(job, *said)
    except FOR_OTHERS as error:
        about = {"job": name, "reason": Reason.UNREADABLE.value}
        worker.warn_throttled(f"unreadable:{name}", "job %s: %s", name, error, extra=about)
        later = [postponement_ms(times), times + 1, Reason.UNREADABLE.value, need_of(error) or False]
        return commit_row(job_id=name, fence=fence, postpone=later), None
    except Exception as error:
        return commit_row(job_id=name, fence=fence, error=text_of(error), reason=reason_of(error).value), None
    if worker.registry.find(job.record.task) is None:
        worker.warn_throttled(
            f"unknown_task:{job.record.task}",
            "worker %s knows no task %r; job %s is left to others",
            worker.id,
            job.record.task,
            name,
            extra={"job": name, "task": job.record.task, "reason": Reason.UNKNOWN_TASK.value},
        )
        postponed = [postponement_ms(times), times + 1, Reason.UNKNOWN_TASK.value, f"task:{job.record.task}"]
    elif job.options.executor not in worker.executors:
        about = {"job": name, "task": job.record.task, "reason": Reason.UNKNOWN_EXECUTOR.value}
        worker.warn_throttled(
            f"unknown_executor:{job.options.executor}", "%s", no_executor(worker.id, job), extra=about
        )
        postponed = [
            postponement_ms(times),
            times + 1,
            Reason.UNKNOWN_EXECUTOR.value,
            f"executor:{job.options.executor}",
        ]
    made = plan(job, clock.now_ms(), running=running, max_catch_up=worker.max_catch_up)
    following = -1 if made.next_run_time is None else made.following or 0
    fires = list(made.fires)
    missed = made.missed
    if made.skipped is not None:
        # Redis has the last word on how many instances run: give it the batch as it is without that limit.
        made = plan(job, clock.now_ms(), running=0, max_catch_up=worker.max_catch_up)
        fires, missed = list(made.fires), made.missed
    if runs_left is not False:
        # Redis counts: only fires that run use up the bound, and a batch that max_instances refuses does not.
        fires = fires[:runs_left]
    row = commit_row(
        job_id=name,
        fence=fence,
        fires=fires,
        next_ms=made.next_run_time or 0,
        after_ms=following,
        missed=_span(missed),
        coalesced=_span(made.coalesced),
        cut=_span(made.cut),
        error=clean(made.error) if made.error else None,
        postpone=postponed,
    )
    return row, job


def _span(span: Any) -> list[Any] | bool:
    return [span.first_ms, span.last_ms, span.count if span.count is not None else False] if span else False
