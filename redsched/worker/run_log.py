"""The lines of a worker's log that are about one run: each with the run's fields."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from redsched.model import Reason
from redsched.worker.tracebacks import log_error

if TYPE_CHECKING:
    from redsched.worker.runs import Run

__all__ = ["broken", "dead", "lease_ended", "not_kept", "put_off", "refused", "tried_again"]

log = logging.getLogger("redsched.worker")


def tried_again(run: Run, error: BaseException, text: str, reason: Reason, delay: float) -> None:
    """An attempt failed, and another comes in `delay` seconds. With the traceback only where one looks for details."""
    if not log.isEnabledFor(logging.INFO):
        return
    message = "job %r (%s) failed in attempt %d: %s; again in %.1f s"
    values = (run.job.record.name, run.job.id, run.attempt, text, delay)
    if log.isEnabledFor(logging.DEBUG):
        log_error(error, message, *values, level=logging.INFO, extra=run.log_fields(reason))
    else:
        log.info(message, *values, extra=run.log_fields(reason))


def dead(run: Run, error: BaseException, text: str, reason: Reason) -> None:
    """The last attempt failed."""
    log_error(error, "job %r (%s) failed: %s", run.job.record.name, run.job.id, text, extra=run.log_fields(reason))


def broken(run: Run, error: BaseException) -> None:
    """redsched itself failed at a run."""
    log_error(error, "run %s could not be ended as it should", run.id, extra=run.log_fields(Reason.TASK_FAILED))


def lease_ended(run: Run) -> None:
    """Redis does not count this worker as the holder any more."""
    about = run.log_fields(Reason.LEASE_EXPIRED)
    log.warning("the lease on run %s ended; its task is cancelled", run.id, extra=about)


def refused(worker: str, count: int) -> None:
    """Redis took no word of some runs."""
    about = {"worker": worker, "reason": Reason.FENCE_LOST.value}
    log.warning("Redis refused to settle %d runs: their leases had ended", count, extra=about)


def not_kept(run: Run, problem: Exception) -> None:
    """Log that a task's return value cannot be stored, once for each task."""
    task, text = run.job.record.task, "what the task %s returned is not kept: %s"
    run.loop.worker.warn_throttled(f"not kept:{task}", text, task, problem, extra=run.log_fields())


def put_off(run: Run, reason: Reason, why: str) -> None:
    """A run is postponed. Logged once in five minutes for each task and reason."""
    key = f"{reason}:{run.job.record.task}"
    run.loop.worker.warn_throttled(key, "%s; its runs are put off (%s)", why, reason, extra=run.log_fields(reason))
