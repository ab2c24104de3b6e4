"""What a line of the log says of the run that it concerns: the fields job, run, task, attempt, worker and reason.

A line that is written within a run (the task's own too) is given them when it is formatted, from the context: a run
that logs nothing pays nothing. A line of redsched's that is written elsewhere passes them as `extra=fields_of(run)`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from redsched.ids import job_of
from redsched.model import Reason
from redsched.worker.runs import current, told

if TYPE_CHECKING:
    from redsched.worker.runs import Run

__all__ = ["current_fields", "fields_of"]

_STOPPED = {"lost": Reason.LEASE_EXPIRED, "cancelled": Reason.CANCELLED, "shutdown": Reason.SHUTDOWN}
"""What `Run.stop_reason` is among the reasons."""


def fields_of(run: Run, reason: Reason | str | None = None) -> dict[str, Any]:
    """The fields of a run, for `extra=`. What is not known of it (it was not read yet) is left out.

    Args:
        reason: why something was done to it; by default why its worker cancelled it, if it did.
    """
    fields: dict[str, Any] = {"job": job_of(run.id), "run": run.id}
    if run.is_read:
        fields.update(run=run.public_id, task=run.job.record.task, attempt=run.attempt)
    fields["worker"] = run.loop.worker.id
    if reason is None and run.stop_reason is not None:
        reason = _STOPPED.get(run.stop_reason, run.stop_reason)
    if reason is not None:
        fields["reason"] = str(reason)
    return fields


def current_fields() -> dict[str, Any]:
    """The fields of the run that this code is in; none outside of a run."""
    run = current.get(None)
    if run is not None:
        return fields_of(run)
    of_parent = told.get(None)
    if of_parent is None:
        return {}
    context = of_parent.context
    return {
        "job": context.job_id,
        "run": context.run_id,
        "task": context.task,
        "attempt": context.attempt,
        "worker": context.worker,
    }
