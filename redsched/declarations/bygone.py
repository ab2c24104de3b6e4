"""Declared one-shot jobs of which no declaration is kept, as an older redsched left none: whether they have run."""

from __future__ import annotations

from redsched.client.events import history
from redsched.declarations.definition import Declaration
from redsched.store.clock import to_ms
from redsched.store.queries import StoredJob
from redsched.store.store import Store

__all__ = ["has_ended", "has_failed"]

_ENDS = frozenset({"done", "dead", "missed", "cancelled", "skipped"})


def has_failed(one: Declaration, stored: StoredJob) -> bool:
    """Whether a dead job's run is the only one that the declaration asks for."""
    fire = stored.fields.get("fire_ms", b"")
    return one.definition.at_ms is not None and fire == b"%d" % one.definition.at_ms


async def has_ended(store: Store, one: Declaration, now_ms: int) -> bool:
    """Whether the events tell of the end of the only run that the declaration asks for.

    It reads the events of one shard, and only for a one-shot job that is overdue and of which nothing is stored.
    """
    at_ms = one.definition.at_ms
    if one.definition.schedule is not None or one.draft.interval is not None or at_ms is None or at_ms > now_ms:
        return False
    events = await history(store, job_id=one.id, kinds=_ENDS)
    return any(event.fire_time is not None and to_ms(event.fire_time) == at_ms for event in events)
