"""Limits on what is stored: durations and sizes that every script receives."""

from __future__ import annotations

from dataclasses import dataclass

from redsched.codec.values import RECORD_OVERHEAD_BYTES
from redsched.settings import default_of

__all__ = ["MIB", "Limits"]

MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits on what is stored. Durations are in milliseconds."""

    lease_ms: int = round(default_of("lease") * 1000)
    max_idle_ms: int = 10_000
    """The longest sleep of an idle worker: also its heartbeat."""
    worker_ttl_ms: int = 60_000
    dead_age_ms: int = round(default_of("dead_age") * 1000)
    dead_max: int = default_of("dead_max")
    dead_max_bytes: int = default_of("dead_max_bytes")
    events_max: int = default_of("events_max")
    events_max_bytes: int = default_of("events_max_bytes")
    outcomes_max_bytes: int = default_of("outcomes_max_bytes")
    record_max: int = default_of("max_payload_bytes") + RECORD_OVERHEAD_BYTES
    """Bytes; a longer record is not read."""
