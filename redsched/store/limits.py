"""What is kept of jobs, for how long, and how much of it: numbers that every script gets."""

from __future__ import annotations

from dataclasses import dataclass

from redsched.codec import MAX_PAYLOAD_BYTES, RECORD_OVERHEAD_BYTES

__all__ = ["MIB", "Limits"]

MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Limits:
    """What is kept, and for how long. Milliseconds."""

    lease_ms: int = 30_000
    nap_ms: int = 10_000
    """The longest sleep of an idle worker: also its heartbeat."""
    gone_ms: int = 60_000
    dead_age_ms: int = 7 * 86_400_000
    dead_max: int = 10_000
    dead_max_bytes: int = 64 * MIB
    events_max: int = 10_000
    events_max_bytes: int = 64 * MIB
    outcomes_max_bytes: int = 128 * MIB
    record_max: int = MAX_PAYLOAD_BYTES + RECORD_OVERHEAD_BYTES
    """Bytes; a longer record is not read."""
