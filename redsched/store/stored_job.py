"""A job as the scripts read it. Another program may have written any part of it. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from redsched.codec.numbers import whole
from redsched.schedules import MAX_MS

__all__ = ["StoredJob", "instant_ms", "stored_job"]


@dataclass(slots=True)
class StoredJob:
    """A job's hash as it is, with what the other keys say of it."""

    id: str
    fields: Mapping[str, bytes]
    due_ms: int | None
    running: int
    waiting: int

    @property
    def version(self) -> int:
        """How often its definition was changed. What is not a number counts as 0, as in the scripts."""
        return whole(self.fields.get("version")) or 0


def instant_ms(score: bytes | str) -> int:
    """The instant of a score, or the nearest possible one."""
    try:
        return int(max(0.0, min(float(score), MAX_MS)))
    except ValueError:  # no number
        return 0


def stored_job(row: Sequence[Any]) -> StoredJob:
    """From a row of `Shard.inspect`."""
    job_id, flat, due, running, waiting = row
    fields = {flat[i].decode(errors="replace"): flat[i + 1] for i in range(0, len(flat), 2)}
    due_ms = None if due is None else instant_ms(due)
    if "periodic" in fields and (next_ms := whole(fields.get("next_ms"))) is not None:
        # While a plan is made, the score is only when another may plan.
        due_ms = min(next_ms, MAX_MS)
    return StoredJob(job_id.decode(errors="replace"), fields, due_ms, running, waiting)
