"""Counts the fires that stored jobs leave behind when they are ended or replaced (`redsched.jobs.accounting`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from redsched.jobs.accounting import cursor_of, dropped
from redsched.jobs.record import Job
from redsched.model import Reason
from redsched.schedules import Schedule
from redsched.store import queries
from redsched.store.queries import StoredJob
from redsched.store.store import Store
from redsched.store.transitions import Shard

__all__ = ["accounts", "schedule_in"]

SURE_TRIES = 5
"""After this many tries the last count is used: workers claim the fires as fast as they are read."""


def schedule_in(store: Store, stored: StoredJob) -> Schedule | None:
    """The schedule of a stored job, with its seed; None if it has none, or none that this process can read."""
    try:
        return Job.decode(stored.id, stored.fields.get("record", b""), store.sealer).schedule
    except Exception:  # it is about to go: what cannot be read is counted as one span
        return None


async def accounts(
    store: Store, shard: Shard, ids: Sequence[str], reason: Reason, tries: int = 0
) -> Mapping[str, list[Any]]:
    """The fires that each of these jobs drops if it ends now: its cursor, and spans (`lua/include/dropped.lua`)."""
    found = await queries.read_jobs(store, ids)
    now_ms = await shard.travel()
    made: dict[str, list[Any]] = {job_id: [False, []] for job_id in ids}
    for job_id, stored in found.items():
        spans = dropped(stored.fields, stored.due_ms, schedule_in(store, stored), now_ms, reason)
        made[job_id] = [False if tries >= SURE_TRIES else cursor_of(stored.fields, stored.due_ms), spans]
    return made
