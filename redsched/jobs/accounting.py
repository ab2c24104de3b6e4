"""What becomes of fires that a change of their job leaves behind: each has an outcome and a reason (promise 7). Pure.

A pause hides fires, a reschedule drops those that were overdue, a replacement those of the job that it replaces. They
are never listed: a span has the first, the last, and how many there were, and costs the same for a year as for a
minute. The script that makes the change writes the spans in the same call, and only if the job is still where it was
when they were computed (its *cursor*): a fire that a worker claimed meanwhile is not counted here as well.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from redsched.codec.numbers import whole
from redsched.model import Reason
from redsched.schedules import MAX_MS, Schedule
from redsched.schedules.plan import span

__all__ = ["Cursor", "cursor_of", "dropped", "row_of"]

Cursor = list[int | str | bool]
"""next_ms, paused_ms and, of a job that is not periodic, its score in `due`: see `lua/include/dropped.lua`."""


def _number(fields: Mapping[str, bytes], name: str) -> int | None:
    number = whole(fields.get(name))
    return None if number is None else min(number, MAX_MS)


def cursor_of(fields: Mapping[str, bytes], due_ms: int | None) -> Cursor:
    """Where a stored job is: what must still be true when a change of it arrives."""
    # Byte for byte, also what another program wrote: it is compared with what is stored.
    next_ms, paused_ms = (
        fields[name].decode(errors="surrogateescape") if name in fields else False for name in ("next_ms", "paused_ms")
    )
    score = False if "periodic" in fields or due_ms is None else due_ms
    return [next_ms, paused_ms, score]


def row_of(reason: Reason, first_ms: int, last_ms: int, count: int | None) -> list[Any]:
    """One span, as `drop` of `lua/include/dropped.lua` takes it."""
    return [reason.value, first_ms, last_ms, False if count is None else count]


def dropped(
    fields: Mapping[str, bytes], due_ms: int | None, schedule: Schedule | None, upto_ms: int, reason: Reason
) -> list[list[Any]]:
    """The fires of a stored job up to an instant that have not been claimed, and will not run if it is changed now.

    Args:
        fields: the job's hash.
        due_ms: its score in `due`.
        schedule: its schedule with its seed; None = it is not periodic, or its record cannot be read.
        upto_ms: the last instant that the change leaves behind.
        reason: of the change. What a pause hid has its own.
    """
    paused = fields.get("state") == b"paused"
    if "periodic" in fields:
        first_ms = _number(fields, "paused_ms" if paused else "next_ms")
        from_ms = _number(fields, "paused_from")
        if paused:
            reason = Reason.PAUSED
            if first_ms is None and from_ms is not None and schedule is not None:
                first_ms = _first_after(schedule, from_ms)
    elif paused:
        first_ms = _number(fields, "paused_ms")
    elif due_ms is None:
        first_ms = None  # its only run has been claimed
    else:
        waiting = "fence" not in fields and "fire_ms" in fields  # for another attempt, or a worker that knows it
        first_ms = _number(fields, "fire_ms") if waiting else due_ms
        upto_ms = MAX_MS if waiting else upto_ms
        schedule = None
    if first_ms is None or first_ms > upto_ms:
        return []
    if "periodic" not in fields:
        return [row_of(reason, first_ms, first_ms, 1)]
    if schedule is None:
        return [row_of(reason, first_ms, upto_ms, None)]
    try:
        found = span(schedule, first_ms, upto_ms)
    except Exception:  # a schedule that raises must not prevent its job from being ended or replaced
        return [row_of(reason, first_ms, upto_ms, None)]
    return [row_of(reason, found.first_ms, found.last_ms, found.count)]


def _first_after(schedule: Schedule, from_ms: int) -> int | None:
    try:
        return schedule.next(from_ms - 1)
    except Exception:
        return None
