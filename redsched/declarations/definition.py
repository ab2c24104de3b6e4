"""What a declaration says, part by part, and what becomes of the stored job when it changes. Pure.

Three things are kept apart. The **definition** is what `@schedule_task` says: each of its parts has a digest, kept
with the job. The **cursor** is where the job is: next fire, anchor, runs left. And there is what **operators** did:
paused it, modified it, removed it. A start compares the parts with those that were declared before, and writes only
those that are declared differently: so the cursor stays while the schedule's own part does, and what an operator
changed stays until that very part is declared differently.

Of arguments there may be so few that a digest tells them. With payload keys it is made with the present key, and
compared with those by all keys, so that a new key changes nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import msgpack

from redsched.codec.numbers import whole
from redsched.codec.payload_security import Sealer
from redsched.codec.untrusted import no_extension, unpack
from redsched.jobs.options import SIGNED_RUNS
from redsched.jobs.record import Definition, Job
from redsched.jobs.spec import Draft, JobSpec
from redsched.schedules import MAX_MS, IntervalSchedule, Schedule, schedule_from_wire

__all__ = [
    "HASH_OPTIONS",
    "OWN",
    "Declaration",
    "Entry",
    "declared",
    "digest_of",
    "flags",
    "is_same_schedule",
    "modified_parts",
    "noted",
    "pack_parts",
    "parts_of",
    "parts_of_record",
    "unpack_parts",
]  # fmt: skip

declared: list[JobSpec] = []
"""Jobs of functions that `@schedule_task` decorates: every scheduler of the process stores them when it starts."""

Parts = Mapping[str, bytes]
OWN = frozenset(
    {"task", "name", "args", "queue", "tags", "timezone", "schedule", "max_runs", "paused", "seal", SIGNED_RUNS}
)
"""Parts that are not options of a record."""
NAMES = {"timeout_ms": "timeout", "misfire_grace_ms": "misfire_grace_time", "result_ttl_ms": "result_ttl"}
"""Options of a record that have another name in the API."""
HASH_OPTIONS = ("max_instances", "max_recoveries", "delivery")


def digest_of(value: Any) -> bytes:
    return hashlib.blake2b(msgpack.packb(value) or b"", digest_size=8).digest()


def argument_digests(job_id: str, payload: bytes, sealer: Sealer | None) -> list[bytes]:
    """Of a job's arguments, the present one first: one by each key, else one that anybody could make."""
    return [digest_of(payload)] if sealer is None else [one[:8] for one in sealer.fingerprints(job_id, payload)]


def _written(draft: Draft) -> Schedule | None:
    """The schedule as it is written in the code: of an interval without a start, not when it was first stored."""
    return draft.definition.schedule if draft.interval is None else draft.interval.anchored(0)


def parts_of(draft: Draft) -> dict[str, bytes]:
    """The digest of each part of a declaration that is not as it is by default."""
    job = draft.definition
    schedule = _written(draft)
    when = [schedule.to_wire() if schedule else "once", job.at_ms]
    values: dict[str, Any] = {
        **job.options.to_wire(), "task": job.task, "name": job.name, "schedule": when,
        "queue": None if job.queue == "default" else job.queue, "tags": job.tags or None,
        "timezone": None if job.timezone == "UTC" else job.timezone, "max_runs": job.options.max_runs,
        "paused": job.paused or None, "seal": job.sealer.label if job.sealer else None,
    }  # fmt: skip
    made = {part: digest_of(value) for part, value in values.items() if value is not None}
    return made | {"args": argument_digests(job.id, job.payload, job.sealer)[0]}


def pack_parts(parts: Parts) -> bytes:
    """For the job's hash."""
    return msgpack.packb(dict(sorted(parts.items()))) or b""


def unpack_parts(data: bytes | None) -> dict[str, bytes] | None:
    """Decode the result of `pack_parts`; None if it is invalid."""
    try:
        found: Any = unpack(data or b"", no_extension)
    except Exception:
        return None
    fine = isinstance(found, dict) and all(isinstance(k, str) and isinstance(v, bytes) for k, v in found.items())  # pyright: ignore[reportUnknownVariableType]
    return found if fine else None  # pyright: ignore[reportUnknownVariableType]


@dataclass(slots=True)
class Entry:
    """The entry of an id in `declared:<application>`. It outlives the job, so that a finished job stays finished."""

    generation: int
    digest: bytes
    """Of all parts."""
    schedule: bytes
    """Of the schedule's own part."""
    max_runs: int | None = None
    state: str = ""
    """removed: by an operator; moved: it goes on under another name; else: if there is no job, it is over."""
    to: str = ""
    """Where it was moved."""
    job: dict[str, Any] = field(default_factory=dict[str, Any])
    """The moved job as it was, until it is stored under its new name."""
    gone_ms: int = 0
    """Since when it is known that no code declares it; 0 = some does."""

    def pack(self) -> bytes:
        """For Redis."""
        wire: dict[str, Any] = {"generation": self.generation, "digest": self.digest, "schedule": self.schedule}
        for name in ("max_runs", "state", "to", "job", "gone_ms"):
            if getattr(self, name):
                wire[name] = getattr(self, name)
        # The scripts read it too, which know the old raw type only.
        return msgpack.packb(wire, use_bin_type=False) or b""

    @classmethod
    def unpack(cls, data: bytes | None) -> Entry | None:
        """Decode the result of `pack`, perhaps changed by a script; None if it is invalid."""
        if data is None:
            return None
        try:
            # The scripts pack texts and bytes alike.
            found: Any = unpack(data, no_extension, raw=True)
            made = {key.decode(): value for key, value in found.items()}
            job = {key.decode(): value for key, value in made.get("job", {}).items()}
            state, to = (made.get(name, b"").decode() for name in ("state", "to"))
            most, gone_ms = made.get("max_runs"), made.get("gone_ms", 0)
            numbers = (made["generation"], gone_ms, most or 0)
            if not all(type(number) is int and 0 <= number < 2**53 for number in numbers):
                return None
            if not isinstance(made["digest"], bytes) or not isinstance(made["schedule"], bytes):
                return None
            if job and not _is_row(**job):
                return None
            return cls(made["generation"], made["digest"], made["schedule"], most, state, to, job, gone_ms)
        except Exception:
            return None


def _is_row(row: Any) -> bool:
    """Whether it is what `renames.retire` keeps of a job: queue, instant or False, record, fields (flat), tags."""
    queue, at_ms, record, fields, tags = row
    numbers = at_ms is False or (type(at_ms) is int and 0 <= at_ms <= MAX_MS)
    texts = [queue, record, *fields[::2], *tags]
    return (
        numbers
        and len(fields) % 2 == 0
        and all(type(text) is bytes for text in texts)
        and all(type(value) is bytes or type(value) is int for value in fields[1::2])
    )


@dataclass(slots=True)
class Declaration:
    """A job as the code declares it."""

    id: str
    application: str
    draft: Draft
    aliases: tuple[str, ...] = ()
    local_owner: str = ""
    """The process that alone can run it."""
    parts: dict[str, bytes] = field(init=False)

    def __post_init__(self) -> None:
        self.parts = parts_of(self.draft)

    @property
    def digest(self) -> bytes:
        """Of all parts."""
        return self._digests()[0]

    def _digests(self) -> list[bytes]:
        """Of all parts, by each key; how it is sealed is not what it is."""
        parts = {part: digest for part, digest in self.parts.items() if part != "seal"}
        return [digest_of(sorted((parts | {"args": args}).items())) for args in self.argument_digests(self.id)]

    def argument_digests(self, job_id: str) -> list[bytes]:
        """Of the declared arguments, by each key, for a job of this id (an earlier one, where it is renamed)."""
        return argument_digests(job_id, self.definition.payload, self.definition.sealer)

    @property
    def definition(self) -> Definition:
        return self.draft.definition

    def entry(self, generation: int, state: str = "") -> Entry:
        """The entry in the application's list."""
        return Entry(generation, self.digest, self.parts["schedule"], self.definition.options.max_runs, state)

    def fields(self, generation: int) -> list[str | int | bytes]:
        """The fields of a declared job's hash about its declaration."""
        digest = self.draft.digest()  # which an older redsched compares
        sealer = self.definition.sealer
        if sealer is not None and sealer.security.encrypt:
            digest = sealer.fingerprints(self.id, digest.encode())[0][:12].hex()  # the other would tell the arguments
        own = ["declared", digest, "application", self.application, "generation", generation]
        most = self.definition.options.max_runs
        return [*own, "parts", pack_parts(self.parts), *([] if most is None else ["max_runs", most])]

    def runs_anew(self, entry: Entry) -> int | bool:
        """Whether a job that is over is to run again, as it is declared differently: True, or how many runs it gets."""
        if entry.state == "removed":
            return entry.digest not in self._digests()
        if entry.schedule != self.parts["schedule"]:
            return True
        most = self.definition.options.max_runs
        if entry.max_runs is None or entry.max_runs == most:
            return False
        return True if most is None else max(0, most - entry.max_runs)


def _as_written(schedule: Schedule, written: Schedule | None) -> Schedule:
    """A stored schedule as it would be written in the code, to be compared."""
    schedule = schedule.unbased()
    if isinstance(schedule, IntervalSchedule) and isinstance(written, IntervalSchedule):
        anchored_at = written.interval_ms
        if written.start_ms == anchored_at:  # no start is declared: it was taken from when it was stored
            return replace(schedule, start_ms=schedule.interval_ms, seed="")
    return schedule


def is_same_schedule(draft: Draft, job: Job, fields: Mapping[str, bytes], due_ms: int | None) -> bool:
    """Whether a stored job, of which no parts are kept, has the schedule of a draft."""
    written = _written(draft)
    wire = job.record.options.get("schedule")
    if wire is None or written is None:
        known = [fields.get(name) for name in ("fire_ms", "paused_ms")]
        at = {whole(data) for data in known if data} | {due_ms}
        return wire is None and written is None and draft.definition.at_ms in at
    stored = schedule_from_wire(wire)
    return _as_written(stored, written).to_wire() == written.to_wire() and draft.definition.at_ms is None


def modified_parts(job: Job, fields: Mapping[str, bytes], sealer: Sealer | None = None) -> tuple[str, ...]:
    """The parts of a declared job that are not as they were declared."""
    declared = unpack_parts(fields.get("parts"))
    if declared is None:
        return ()
    stored = parts_of_record(job, fields, sealer)
    if declared.get("args") in argument_digests(job.id, job.record.payload, sealer):
        stored["args"] = declared["args"]
    names = (set(stored) | set(declared)) - {"schedule", "max_runs", "paused", "seal"}
    if job.record.locked:
        names -= {"args"}
    found = {name for name in names if stored.get(name) != declared.get(name)}
    return tuple(sorted({NAMES.get(name, name) for name in found} | flags(fields)))


def flags(fields: Mapping[str, bytes]) -> set[str]:
    """Parts that a comparison cannot detect: the call that changed them noted them."""
    return {name for name in fields.get("modified", b"").decode(errors="replace").split(",") if name}


def parts_of_record(job: Job, fields: Mapping[str, bytes], sealer: Sealer | None = None) -> dict[str, bytes]:
    """The parts of a stored job that its record and its hash tell, as far as they are not the cursor."""
    record = job.record
    queue = fields.get("queue", b"default").decode(errors="replace")
    values: dict[str, Any] = {name: value for name, value in record.options.items() if name not in OWN}
    values |= {"task": record.task, "name": record.name}
    values |= {"queue": None if queue == "default" else queue, "tags": list(job.tags) or None}
    values["timezone"] = record.options.get("timezone")
    made = {part: digest_of(value) for part, value in values.items() if value is not None}
    return made | {"args": argument_digests(job.id, record.payload, sealer)[0]}


def noted(fields: Mapping[str, bytes], part: str) -> list[str]:
    """Fields of a declared job's hash that say that this part is not as declared: its cursor does not tell."""
    return ["modified", ",".join(sorted(flags(fields) | {part}))] if "parts" in fields else []
