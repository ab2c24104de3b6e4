"""What a changed declaration, or `replace_existing="update"`, does to the job that is stored. Pure.

Only the parts that are declared differently are written into the stored record: see `declarations.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from redsched.codec.numbers import whole
from redsched.codec.payload_security import Sealer
from redsched.codec.values import Record
from redsched.declarations.definition import (
    HASH_OPTIONS,
    OWN,
    Declaration,
    digest_of,
    flags,
    is_same_schedule,
    parts_of_record,
    unpack_parts,
)
from redsched.errors import UnknownKeyError
from redsched.jobs.accounting import cursor_of, dropped
from redsched.jobs.options import SIGNED_RUNS, JobOptions
from redsched.jobs.record import Job
from redsched.jobs.spec import Draft
from redsched.model import Reason
from redsched.schedules import MAX_MS, schedule_from_wire
from redsched.schedules.plan import first_fires
from redsched.store.queries import StoredJob

__all__ = ["Update", "change_of", "update"]


@dataclass(slots=True)
class Update:
    """A change of a stored job: for `lua/modify.lua`."""

    changed: frozenset[str]
    change: dict[str, Any]
    runs_left: int | None = None
    """What it has left after it."""


def _changed(
    one: Declaration, job_id: str, job: Job | None, fields: Mapping[str, bytes], due_ms: int | None
) -> frozenset[str]:
    """The parts that are declared differently than before."""
    before = unpack_parts(fields.get("parts"))
    mine: dict[str, bytes] = dict(one.parts)
    if before is None and job is not None and fields.get("declared") == one.draft.digest().encode():
        once = "periodic" not in fields  # of which that digest did not say when
        return frozenset({"schedule"} if once and not is_same_schedule(one.draft, job, fields, due_ms) else ())
    if before is None and job is not None:
        # Stored by an older redsched, or by a call: what is stored counts as what was declared before.
        before = parts_of_record(job, fields, one.definition.sealer)
        is_same = is_same_schedule(one.draft, job, fields, due_ms)
        before["schedule"] = mine["schedule"] if is_same else b""
        if ("runs_left" in fields) == ("max_runs" in mine):
            before |= {"max_runs": mine["max_runs"]} if "max_runs" in mine else {}
        before |= {name: mine[name] for name in ("paused",) if name in mine}
        if job.record.label:
            before["seal"] = digest_of(job.record.label)
    if before is None:
        return frozenset(mine) | {"schedule"}
    if before.get("args") in one.argument_digests(job_id):
        mine["args"] = before["args"]  # by another key, or for an earlier id
    return frozenset(part for part in {*before, *mine} if before.get(part) != mine.get(part))


def update(
    one: Declaration, job_id: str, job: Job | None, fields: Mapping[str, bytes], due_ms: int | None, now_ms: int,
    generation: int,
) -> Update:  # fmt: skip
    """What a changed declaration does to the job that is stored.

    Args:
        job: None = its record cannot be read, so that only its cursor can be kept.

    Raises:
        UnknownKeyError: it is sealed, and this process has no payload keys.
    """
    if job is not None and job.record.locked:
        raise UnknownKeyError(
            f"job {job_id!r} is {job.record.locked}, and this process has no payload keys to change it"
        )
    changed = _changed(one, job_id, job, fields, due_ms)
    made = Update(changed, {"when": False, "set": list(one.fields(generation)), "unset": []})
    if not changed:
        return made
    _apply_options(one, made, job, fields)
    _apply_cursor(one, made, job_id, job, fields, due_ms, now_ms)
    made.change["cursor"] = cursor_of(fields, due_ms)
    return made


def _apply_options(one: Declaration, made: Update, job: Job | None, fields: Mapping[str, bytes]) -> None:
    new, changed, change = one.definition, made.changed, made.change
    wire = new.record().options
    options = dict(wire) if job is None else dict(job.record.options)
    for part in changed - OWN:
        options.pop(part, None)
        if part in wire:
            options[part] = wire[part]
    for part in changed & {"tags", "timezone"}:
        options.pop(part, None)
        if part in wire:
            options[part] = wire[part]
    if "max_runs" in changed:
        options.pop(SIGNED_RUNS, None)
        if SIGNED_RUNS in wire:
            options[SIGNED_RUNS] = wire[SIGNED_RUNS]
    if "tags" in changed:
        change["tags"] = list(new.tags)
    if "queue" in changed:
        change["queue"] = new.queue
    record = job.record if job is not None else new.record()
    change["record"] = Record(
        new.task if "task" in changed else record.task,
        new.name if "name" in changed else record.name,
        new.payload if "args" in changed else record.payload,
        options,
    )
    kept = JobOptions.from_wire(options).hash_fields()
    change["unset"] += [name for name in HASH_OPTIONS if name in fields]
    change["set"] += kept
    made.runs_left = whole(fields.get("runs_left"))
    if "max_runs" in changed:
        _apply_max_runs(one, made, fields)
    noted = flags(fields) - changed
    if "modified" in fields:
        change["unset"].append("modified")
        change["set"] += ["modified", ",".join(sorted(noted))] if noted else []


def _apply_max_runs(one: Declaration, made: Update, fields: Mapping[str, bytes]) -> None:
    most, before = one.definition.options.max_runs, whole(fields.get("max_runs"))
    used = before - made.runs_left if before is not None and made.runs_left is not None else 0
    made.runs_left = None if most is None else max(0, most - used)
    made.change["unset"] += ["runs_left", "max_runs"] if most is None else []
    made.change["set"] += [] if most is None else ["runs_left", made.runs_left, "max_runs", most]


def _apply_cursor(
    one: Declaration, made: Update, job_id: str, job: Job | None, fields: Mapping[str, bytes], due_ms: int | None,
    now_ms: int,
) -> None:  # fmt: skip
    new, changed, change = one.definition, made.changed, made.change
    record: Record = change["record"]
    paused = fields.get("state") == b"paused"
    if "schedule" not in changed:
        if job is None and one.draft.interval is not None:
            # Its record cannot be read, but where it is on its grid is known.
            interval, next_ms = one.draft.interval, whole(fields.get("next_ms"))
            at_ms = now_ms if next_ms is None else min(next_ms, MAX_MS) - interval.every_ms
            record.options["schedule"] = interval.anchored(at_ms).to_wire()
        if "paused" in changed and new.paused and not paused:
            change["when"] = "pause"
        elif "paused" in changed and not new.paused and paused:
            _resume(made, job_id, record, fields, due_ms, now_ms)
    else:
        _reschedule(one, made, job_id, job, fields, due_ms, now_ms)
    if made.runs_left == 0 and change["when"] != "end":
        change["when"] = "end"  # a smaller max_runs: it has had them all
        change["dropped"] = change.get("dropped") or _behind(job, fields, due_ms, now_ms)


def _behind(job: Job | None, fields: Mapping[str, bytes], due_ms: int | None, now_ms: int) -> list[list[Any]]:
    return dropped(fields, due_ms, None if job is None else job.schedule, now_ms, Reason.REPLACED)


def _resume(
    made: Update, job_id: str, record: Record, fields: Mapping[str, bytes], due_ms: int | None, now_ms: int
) -> None:
    wire = record.options.get("schedule")
    if wire is None:
        made.change["when"] = "saved"
        return
    schedule = schedule_from_wire(wire).unbased().with_seed(job_id)
    first, following = first_fires(schedule, now_ms)
    made.change["when"] = "end" if first is None else [first, following or 0]
    made.change["dropped"] = dropped(fields, due_ms, schedule, now_ms if first is None else first - 1, Reason.PAUSED)


def _reschedule(
    one: Declaration, made: Update, job_id: str, job: Job | None, fields: Mapping[str, bytes], due_ms: int | None,
    now_ms: int,
) -> None:  # fmt: skip
    """Give the job its new schedule; what was due, or hidden, by the old one is accounted for."""
    new, change = one.definition, made.change
    record: Record = change["record"]
    change["dropped"] = _behind(job, fields, due_ms, now_ms)
    draft = one.draft
    schedule = new.schedule if draft.interval is None else draft.interval.anchored(now_ms)
    record.options.pop("schedule", None)
    unset, written = change["unset"], change["set"]
    if schedule is None:
        record.options.pop(SIGNED_RUNS, None)
        unset += ["periodic", "runs_left", "max_runs"]
        made.runs_left = None
        first, following = new.at_ms, 0
    else:
        first, following = first_fires(schedule.with_seed(job_id), now_ms, new.at_ms)
        if new.at_ms is not None:
            schedule = schedule.rebased(new.at_ms)
        record.options["schedule"] = schedule.to_wire()
        written += ["periodic", 1]
    is_paused = new.paused if "paused" in made.changed else fields.get("state") == b"paused"
    if first is None:
        change["when"] = "end"
    elif not is_paused:
        change["when"] = [first, following or 0]
    elif fields.get("state") != b"paused":
        # What the old schedule left behind is accounted for: the pause hides fires of the new one.
        change["when"] = "pause"
        change["paused"] = ["paused_ms", first] if schedule is None else ["paused_from", now_ms]
    elif schedule is None:
        written += ["paused_ms", first]
    else:
        unset.append("paused_ms")
        written += ["paused_from", now_ms]


def change_of(draft: Draft, stored: StoredJob, sealer: Sealer | None) -> dict[str, Any] | None:
    """The change by `replace_existing="update"` of a stored job with the same schedule; None if it has another one."""
    new, fields = draft.definition, stored.fields
    try:
        job = Job.decode(stored.id, fields.get("record", b""), sealer)
    except Exception:
        return None  # what cannot be read is replaced
    if fields.get("state") == b"dead" or not is_same_schedule(draft, job, fields, stored.due_ms):
        return None
    if draft.interval is not None:
        new.schedule = draft.interval.anchored(0)
    record = new.record()
    if "schedule" in job.record.options:
        record.options["schedule"] = job.record.options["schedule"]
    owned = ("declared", "application", "generation", "parts", "modified", *HASH_OPTIONS)
    unset, written = [name for name in owned if name in fields], new.options.hash_fields()
    if new.options.max_runs is None:
        unset.append("runs_left")
    elif "runs_left" in fields:
        at = written.index("runs_left")
        del written[at : at + 2]
        left = whole(fields["runs_left"])
        if SIGNED_RUNS in record.options and left is not None:
            # What is left stays, also where it is more than the new bound.
            record.options[SIGNED_RUNS] = max(record.options[SIGNED_RUNS], left)
    return {
        "kind": "replaced", "when": False, "record": record.pack(stored.id, sealer), "set": written, "unset": unset,
        "queue": new.queue, "tags": list(new.tags),
    }  # fmt: skip
