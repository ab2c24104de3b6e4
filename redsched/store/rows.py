"""The order of each row that a script takes or returns, and the request and the reply of a poll.

A row is a tuple or a list, because a named tuple costs 3 % of a short job. So each kind of row has a class with the
index of each part, and a builder where Python makes it: other modules use no number. `tests/store/test_rows.py`
compares both with the headers of the scripts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

__all__ = [
    "Claimed",
    "Committed",
    "Planned",
    "PollReply",
    "PollRequest",
    "Scheduled",
    "Settled",
    "claimed_rows",
    "commit_row",
    "declare_row",
    "done_row",
    "settle_row",
]


class Settled:
    """How a fire of a run ended: a row of `lua/include/settle.lua`."""

    RUN_ID, FENCE, VERB, FIRE_MS, ATTEMPT, LATENESS_MS, DURATION_MS, TASK = range(8)
    REASON, DELAY_MS, ERROR, REMAINING, POSTPONED, NEED = range(8, 14)


def settle_row(
    *,
    run_id: str,
    fence: int,
    verb: str,
    fire_ms: int,
    attempt: int,
    lateness_ms: int,
    duration_ms: int,
    task: str,
    reason: str | None,
    delay_ms: int,
    error: str | None,
    remaining: list[int] | None,
    postponed: int,
    need: str | None,
) -> tuple[Any, ...]:
    """A row of `Settled`. `NEED` is left out where nothing is needed."""
    row = (
        run_id,
        fence,
        verb,
        fire_ms,
        attempt,
        lateness_ms,
        duration_ms,
        task,
        reason or False,
        delay_ms,
        error or False,
        remaining or False,
        postponed,
    )
    return (*row, need) if need else row


def done_row(
    *, run_id: str, fence: int, fire_ms: int, attempt: int, lateness_ms: int, duration_ms: int, task: str
) -> tuple[Any, ...]:
    """The usual `settle_row`, for each run that is done and has nothing else to say: it must cost little."""
    return (run_id, fence, "done", fire_ms, attempt, lateness_ms, duration_ms, task, False, 0, False, False, 0)


class Claimed:
    """A claimed run: a row of claims of `lua/include/claim.lua`."""

    RUN_ID, FENCE, ATTEMPT, FIRE_MS, RECORD, QUEUE, FIRES, FOLLOWING_OF, VERSION, POSTPONED, BEGUN = range(11)


class Planned:
    """A job to plan: a row of plans of `lua/include/claim.lua`."""

    JOB_ID, FENCE, NEXT_MS, VERSION, RUNNING, RUNS_LEFT, RECORD, QUEUE, POSTPONED = range(9)


class Committed:
    """The plan of a job: a row of `lua/commit.lua`."""

    JOB_ID, FENCE, FIRES, NEXT_MS, AFTER_MS, MISSED, COALESCED, CUT, ERROR, POSTPONE, REASON = range(11)


def commit_row(
    *,
    job_id: str,
    fence: int,
    fires: Sequence[int] = (),
    next_ms: int = 0,
    after_ms: int = 0,
    missed: list[Any] | bool = False,
    coalesced: list[Any] | bool = False,
    cut: list[Any] | bool = False,
    error: str | None = None,
    postpone: list[Any] | None = None,
    reason: str | None = None,
) -> list[Any]:
    """A row of `Committed`. `REASON` is left out where there is none."""
    row = [job_id, fence, fires, next_ms, after_ms, missed, coalesced, cut, error or False, postpone or False]
    return [*row, reason] if reason else row


class Scheduled:
    """A job to store: a row of `lua/schedule.lua`, which `Definition.row` makes."""

    ID, MODE, QUEUE, AT_MS, DELAY_MS, RECORD, FIELDS, TAGS, ACCOUNT, DECLARATION = range(10)


def declare_row(
    *, job_id: str, queue: str, at_ms: int | bool, record: bytes, fields: Sequence[Any] | bool, tags: Any
) -> list[Any]:
    """A row of `Scheduled` for a declared job, up to its tags."""
    return [job_id, "declare", queue, at_ms, False, record, fields, tags or False]


@dataclass(slots=True)
class PollRequest:
    """The request of one poll."""

    sequence: int
    capacity: int
    settled: list[Any] = field(default_factory=list[Any])
    done: list[Any] = field(default_factory=list[Any])
    """Run id and fence, flat, of the first rows of `settled`: plain claims that are done."""
    found: list[str] = field(default_factory=list[str])
    """The ids of those of them whose outcome is kept."""
    deaths: list[Any] = field(default_factory=list[Any])
    """Run id, error and traceback, flat, of rows of `settled` that are dead."""
    results: list[Any] = field(default_factory=list[Any])
    following: list[Any] = field(default_factory=list[Any])
    held: list[Any] = field(default_factory=list[Any])
    stalled: list[Any] = field(default_factory=list[Any])
    """A stall of the event loop that ended: job id, task, ms, text, or False; then the runs that are to blame."""
    heartbeat: Mapping[str, Any] | None = None
    places: bytes = b""
    """Packed: queue -> places of it (`lua/include/park.lua`) that the worker serves."""


@dataclass(slots=True)
class PollReply:
    """The reply of one poll. Rows are as in `lua/include/claim.lua`; strings are bytes."""

    PARTS: ClassVar[int] = 11
    """Of the reply, its first word included."""

    now_us: int
    sleep_until_ms: int
    claims: list[Sequence[Any]]
    """A plain one, which is settled by its token alone once it is done, is a tuple."""
    plans: list[list[Any]]
    refused: list[bytes]
    lost: list[bytes]
    stop: list[bytes]
    more: int
    """1: due runs were left."""
    tally: list[Any]
    """What else happened: kind and reason, how often; flat."""
    places: list[bytes]
    """All places where something is parked, if the request had a heartbeat."""


def claimed_rows(claims: Sequence[Any]) -> list[Sequence[Any]]:
    """The rows of `lua/include/claim.lua`; those of plain claims, which come as four parts, are made here."""
    parts = iter(claims)
    return [
        part
        if type(part) is list
        else (part, int(next(parts)), 1, int(next(parts)), next(parts), b"default", False, False, 0, 0, 0)
        for part in parts
    ]
