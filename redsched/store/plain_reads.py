"""Reads by plain commands, for a user who may read the keys and call no script: the observer of docs/security.md.

A row is read in several steps, so that what changes meanwhile may be shown half before and half after. Nothing else is
different. Where a script may be called, none of this is used: one call reads a thousand rows at one instant.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from redsched.codec.numbers import MOST, whole
from redsched.errors import StoreReplyError
from redsched.jobs.ids import parse_run_id
from redsched.store.keys import Keys
from redsched.store.wire import Wire, WrongTypeError

__all__ = ["inspect", "now_us", "outcome"]

AT_ONCE = 8
"""Jobs that are read at the same time, each on a connection."""
AHEAD_US = 24 * 3600 * 1_000_000
LONGEST_OFFSET_MS = 6_300_000_000_000


async def now_us(wire: Wire, keys: Keys) -> int:
    """The scheduler's instant, as `lua/include/clock.lua` has it."""
    seconds, micros = await wire.command("TIME")
    highest, moved = await wire.command("HMGET", keys.clock, "now_us", "offset_ms")
    sign, digits = (-1, moved[1:]) if moved and moved[:1] == b"-" else (1, moved)
    offset_ms = whole(digits) or 0
    now = int(seconds) * 1_000_000 + int(micros)
    now = max(1, now + (sign * offset_ms * 1000 if offset_ms <= LONGEST_OFFSET_MS else 0))
    stored = whole(highest) or 0
    return max(now, stored) if stored <= now + AHEAD_US else now


async def inspect(
    wire: Wire, keys: Keys, ids: Sequence[str], *, queue: str, state: str, undue: bool, longest: int
) -> list[list[Any]]:
    """The rows of `lua/inspect.lua`."""
    now_ms = await now_us(wire, keys) // 1000
    found: list[list[Any]] = []
    for start in range(0, len(ids), AT_ONCE):
        some = ids[start : start + AT_ONCE]
        rows = await asyncio.gather(*(_row(wire, keys, job_id, now_ms, longest) for job_id in some))
        found += [row for row in rows if row is not None and _is_wanted(row, queue, state, undue)]
    return [row[:5] for row in found]


async def _row(wire: Wire, keys: Keys, job_id: str, now_ms: int, longest: int) -> list[Any] | None:
    """A row, with its queue, its state and whether it is in a queue of what is due."""
    key = keys.job(job_id) if parse_run_id(job_id)[1] is None else keys.run(job_id)
    try:
        flat: list[Any] = await wire.command("HGETALL", key)
    except WrongTypeError:
        return None
    except StoreReplyError:  # it is longer than any reply that is read
        flat = [b"record", MOST]
    if not flat:
        return None
    fields: dict[bytes, Any] = dict(zip(flat[::2], flat[1::2], strict=True))
    length = sum(len(part) for part in flat if isinstance(part, bytes))
    if length > longest:
        flat = [b"record", length]
    due = await _read(wire, "ZSCORE", keys.due(_text(fields.get(b"queue", b"default"))), job_id)
    at = due
    if at is None and fields.get(b"parked"):
        at = await _read(wire, "ZSCORE", keys.parked(_text(fields[b"parked"])), job_id)
    running = await _read(wire, "ZCOUNT", keys.live(job_id), f"({now_ms}", "+inf") or 0
    waiting = await _read(wire, "SCARD", keys.waiting(job_id)) or 0
    return [job_id.encode(errors="surrogateescape"), flat, at, running, waiting, fields, due]


def _is_wanted(row: Sequence[Any], queue: str, state: str, undue: bool) -> bool:
    *_, running, _, fields, due = row
    if queue and _text(fields.get(b"queue", b"default")) != queue:
        return False
    its_state = _text(fields.get(b"state", b""))
    if its_state not in ("paused", "dead"):
        its_state = "running" if b"fence" in fields or running else "scheduled"
    return state in ("", its_state) and not (undue and due is not None)


async def outcome(wire: Wire, keys: Keys, ids: Sequence[str]) -> tuple[list[list[Any]], int, int]:
    """What `Shard.outcome` returns for a user who may not read outcomes: which runs have not ended, no more.

    How the others ended is read from the events.
    """
    answers: list[list[Any]] = []
    for run_id in ids:
        key = keys.job(run_id) if parse_run_id(run_id)[1] is None else keys.run(run_id)
        record, state = await wire.command("HMGET", key, "job" if key == keys.run(run_id) else "record", "state")
        is_open = record is not None and state != b"dead"
        answers.append([b"open" if is_open else b"unknown", None, None, None])
    return answers, await now_us(wire, keys) // 1000, -1


async def _read(wire: Wire, *command: Any) -> Any:
    """The reply; None where another program put a key of another type: it hides one job's numbers, not the job."""
    try:
        return await wire.command(*command)
    except WrongTypeError:
        return None


def _text(data: bytes) -> str:
    return data.decode(errors="surrogateescape")
