"""The request and the reply of a poll: rows of `lua/include/settle.lua` and `claim.lua`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

__all__ = ["PollReply", "PollRequest", "claimed_rows"]


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
