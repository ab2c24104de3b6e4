"""A job as the core sees it: its record, its options, its schedule, and how they get into a `schedule` row.

Pure: the instant for which first fire times are computed is an argument.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgpack

from redsched.codec.payload_security import Sealer
from redsched.codec.values import Record
from redsched.errors import InvalidScheduleError
from redsched.jobs.options import SIGNED_RUNS, JobOptions
from redsched.schedules import Schedule, schedule_from_wire
from redsched.schedules.plan import first_fires

__all__ = ["Definition", "Job"]


@dataclass(slots=True)
class Job:
    """A stored job, decoded. It is what `plan` plans."""

    id: str
    record: Record
    options: JobOptions
    schedule: Schedule | None
    """None for a job that runs once, at the instant that it is due."""
    queue: str = "default"
    next_run_time: int | None = None
    version: int = 0
    runs_left: int | None = None

    @classmethod
    def decode(cls, job_id: str, data: bytes, sealer: Sealer | None = None, **known: Any) -> Job:
        """Decode a record.

        Raises:
            RecordVersionError: it is newer than this redsched.
            EncodingError: it is not a record.
            UnknownKeyError, UntrustedRecordError: see `Record.unpack`.
            InvalidScheduleError: its schedule is of an unknown kind.
        """
        record = Record.unpack(data, job_id, sealer)
        wire = record.options.get("schedule")
        schedule = None if wire is None else schedule_from_wire(wire).with_seed(job_id)
        return cls(job_id, record, JobOptions.from_wire(record.options), schedule, **known)

    @property
    def timezone(self) -> str:
        return str(self.record.options.get("timezone", "UTC"))

    @property
    def tags(self) -> tuple[str, ...]:
        return tuple(self.record.options.get("tags", ()))

    @property
    def coalesce(self) -> bool:
        return self.options.coalesce

    @property
    def misfire_grace_ms(self) -> int | None:
        return self.options.misfire_grace_ms

    @property
    def max_instances(self) -> int:
        return self.options.max_instances


@dataclass(slots=True)
class Definition:
    """A job that is to be stored: checked, but not yet bound to an instant."""

    id: str
    mode: str
    """new, add, keep, replace, update or declare: see `lua/schedule.lua`; update is that of `redsched/declarations`."""
    name: str
    task: str
    payload: bytes
    queue: str
    options: JobOptions
    timezone: str = "UTC"
    tags: tuple[str, ...] = ()
    schedule: Schedule | None = None
    at_ms: int | None = None
    """An explicit next run time."""
    delay_ms: int | None = None
    """For a one-shot job: after this time from now, by Redis' clock."""
    paused: bool = False
    durability: str | None = None
    """An option of the call, not of the job: how durable the job must be before the call returns."""
    sealer: Sealer | None = None
    unbased: Schedule | None = field(default=None)
    """The schedule as the user wrote it, where `schedule` got an anchor that depends on now."""

    @property
    def needs_now(self) -> bool:
        """Whether the row depends on Redis' present instant."""
        return self.schedule is not None and not self.paused

    def record(self) -> Record:
        """The record that Redis keeps."""
        options = self.options.to_wire()
        if self.schedule is not None:
            options["schedule"] = self.schedule.to_wire()
        if self.timezone != "UTC":
            options["timezone"] = self.timezone
        if self.tags:
            options["tags"] = self.tags
        if self.sealer is not None and self.options.max_runs is not None:
            options[SIGNED_RUNS] = self.options.max_runs
        return Record(self.task, self.name, self.payload, options)

    def row(self, now_ms: int) -> list[Any]:
        """The row for `lua/schedule.lua`.

        Raises:
            InvalidScheduleError: the schedule has no fire time from now on.
        """
        fields: list[str | int] = self.options.hash_fields()
        at_ms = self.at_ms
        if self.schedule is not None:
            fields += ["periodic", 1]
            if not self.paused:
                first, following = first_fires(self.schedule.with_seed(self.id), now_ms, self.at_ms)
                if first is None:
                    raise InvalidScheduleError(
                        f"the schedule of {self.name!r} ({self.schedule.describe()}) never fires from now on: "
                        "nothing was stored",
                        field="schedule",
                    )
                if self.at_ms is not None:
                    self.schedule = self.schedule.rebased(self.at_ms)
                at_ms = first
                fields += ["next_ms", first, "after_ms", following or 0]
        elif self.paused and at_ms is not None:
            fields += ["paused_ms", at_ms]  # resume makes it due then
        delay = self.delay_ms if at_ms is None and not self.paused else None
        at = None if self.paused else at_ms
        tags = list(self.tags) or False
        return [
            self.id, self.mode, self.queue, False if at is None else at, False if delay is None else delay,
            self.record().pack(self.id, self.sealer), fields or False, tags,
        ]  # fmt: skip

    def digest(self) -> str:
        """The identity of a declaration: everything except the anchor that depends on when it was declared."""
        schedule = self.unbased or self.schedule
        wire: Sequence[Any] | None = schedule.to_wire() if schedule else None
        options: Mapping[str, Any] = self.options.to_wire()
        data = msgpack.packb(
            [
                self.task,
                self.name,
                self.payload,
                self.queue,
                self.timezone,
                self.tags,
                wire,
                options,
                self.options.max_runs,
                # Only with keys: a job that was declared without them, or with older ones, is stored again.
                *([self.sealer.label] if self.sealer else []),
            ]
        )
        return hashlib.blake2b(data or b"", digest_size=12).hexdigest()
