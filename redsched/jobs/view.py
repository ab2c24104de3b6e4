"""Turns what is stored into what users see: `JobView` from a stored job."""

from __future__ import annotations

from datetime import datetime

from redsched.codec.payload_security import Sealer
from redsched.codec.values import unpack_payload, unpack_progress
from redsched.declarations.definition import modified_parts
from redsched.errors import RedschedError
from redsched.jobs.ids import job_of
from redsched.jobs.record import Job
from redsched.model import JobView, Reason, State
from redsched.schedules.zones import zone as zone_of
from redsched.store.clock import from_ms
from redsched.store.queries import StoredJob

__all__ = ["view_of"]


def _int(data: bytes | None) -> int:
    return int(data) if data else 0


def _state(stored: StoredJob) -> State:
    state = stored.fields.get("state", b"").decode(errors="replace")
    if state in (State.PAUSED, State.DEAD):
        return State(state)
    return State.RUNNING if "fence" in stored.fields or stored.running else State.SCHEDULED


def _reason(stored: StoredJob) -> Reason | None:
    data = stored.fields.get("reason")
    try:
        return Reason(data.decode()) if data else None
    except ValueError:
        return None


def view_of(stored: StoredJob, sealer: Sealer | None = None) -> JobView:
    """Decode a stored job. Parts that cannot be decoded are shown as such, with the error."""
    try:
        return _view_of(stored, sealer)
    except Exception as problem:  # anybody may have written it: one such job must not hide the others
        queue = stored.fields.get("queue", b"default").decode(errors="replace")
        text = str(problem) if isinstance(problem, RedschedError) else f"{type(problem).__name__}: {problem}"
        return JobView(
            id=stored.id, name="?", task="?", queue=queue, state=_state(stored), next_run_time=None, schedule="?",
            timezone="UTC", running=stored.running + ("fence" in stored.fields), waiting=stored.waiting,
            reason=Reason.UNREADABLE, error=text,
        )  # fmt: skip


def _view_of(stored: StoredJob, sealer: Sealer | None) -> JobView:
    fields = stored.fields
    error = fields.get("error", b"").decode(errors="replace") or None
    running = stored.running + ("fence" in fields)
    queue = fields.get("queue", b"default").decode()
    job = Job.decode(job_of(stored.id), fields.get("record", b""), sealer)
    encrypted = job.record.locked == "encrypted"
    args, kwargs = ([], {}) if encrypted else unpack_payload(job.record.payload)
    zone = zone_of(job.timezone)
    due: datetime | None = None if stored.due_ms is None else from_ms(stored.due_ms, zone)
    state = _state(stored)
    once = f"once at {due.isoformat()}" if due else "once"
    schedule = once if job.schedule is None else job.schedule.describe()
    options = job.options
    runs_left = fields.get("runs_left")
    progress = fields.get("progress")
    return JobView(
        id=stored.id,
        name=job.record.name,
        task=job.record.task,
        queue=queue,
        state=state,
        next_run_time=None if state in (State.PAUSED, State.DEAD) else due,
        schedule=schedule,
        timezone=job.timezone,
        tags=job.tags,
        args=tuple(args),
        kwargs=kwargs,
        encrypted=encrypted,
        coalesce=options.coalesce,
        max_instances=options.max_instances,
        misfire_grace_time=None if options.misfire_grace_ms is None else options.misfire_grace_ms / 1000,
        timeout=None if options.timeout_ms is None else options.timeout_ms / 1000,
        max_attempts=options.retry.max_attempts if options.retry else 1,
        delivery=options.delivery,
        executor=options.executor,
        runs_left=int(runs_left) if runs_left else None,
        application=fields["application"].decode(errors="replace") if "application" in fields else None,
        modified=modified_parts(job, fields, sealer),
        running=running,
        waiting=stored.waiting,
        attempt=_int(fields.get("attempt")) + ("fence" in fields),
        progress=unpack_progress(progress) if progress else None,
        reason=_reason(stored),
        error=error,
        traceback=fields.get("traceback", b"").decode(errors="replace") or None,
        version=stored.version,
    )
