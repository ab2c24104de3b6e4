"""`Finding`: what one check of `redsched doctor` found. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["Finding"]

Level = Literal["ok", "warning", "error"]


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found, and what to do about it.

    >>> async def main() -> None:
    ...     async with BackgroundTaskScheduler(url) as scheduler:
    ...         for finding in await scheduler.examine_server():
    ...             if finding.level == "error":
    ...                 print(finding.check, finding.message, finding.advice)
    """

    check: str
    """version, eviction, memory, persistence, replicas, clock, latency, acl, cluster, keys, writers; with TLS: tls;
    layout, where a newer redsched stored the jobs."""
    level: Level
    message: str
    advice: str = ""
    """What to change; empty where nothing is to be changed."""
