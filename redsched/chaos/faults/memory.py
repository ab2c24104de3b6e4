"""Faults of memory: Redis has none left."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import ClassVar

from redsched.chaos.faults.base import EVERYTHING, Fault
from redsched.chaos.place import Layout, Place

__all__ = ["MemoryFull", "WrongEviction"]


async def _used(place: Place) -> int:
    info: bytes = await place.admin("INFO", "memory")
    return int(info.split(b"used_memory:")[1].split(b"\r\n")[0])


class MemoryFull(Fault):
    """maxmemory with noeviction."""

    name = "memory-full"
    shows = (
        "maxmemory is reached (noeviction): new jobs are refused with one clear error and leave no trace, what was "
        "accepted runs and settles."
    )
    layout: ClassVar[Layout] = Layout(server_args=("--maxmemory-policy", "noeviction"))

    async def strike(self, place: Place) -> None:
        while await place.pause(0.5, 1.0):
            await place.admin("CONFIG", "SET", "maxmemory", await _used(place) - 50_000)
            await asyncio.sleep(place.rng.uniform(0.4, 1.0))
            await place.admin("CONFIG", "SET", "maxmemory", 0)


class WrongEviction(Fault):
    """allkeys-lru."""

    name = "wrong-eviction"
    shows = (
        "maxmemory is reached with allkeys-lru: Redis evicts keys, and with them jobs. No promise can be kept "
        "there; each worker warns of it when it starts."
    )
    layout: ClassVar[Layout] = Layout(aof="no", server_args=("--maxmemory-policy", "allkeys-lru", "--maxmemory", "1gb"))
    cannot_keep: ClassVar[Mapping[str, str]] = dict.fromkeys(
        EVERYTHING,
        "Redis deletes jobs to make room; `maxmemory-policy noeviction` removes it",
    )

    async def strike(self, place: Place) -> None:
        while await place.pause(0.5, 1.0):
            began = time.monotonic()
            await place.admin("CONFIG", "SET", "maxmemory", await _used(place) - 200_000)
            await asyncio.sleep(place.rng.uniform(0.2, 0.5))
            await place.admin("CONFIG", "SET", "maxmemory", "1gb")
            place.back(began)

    async def verify(self, place: Place) -> list[str]:
        log = place.fleet.log.read_text(encoding="utf-8", errors="replace")
        warned = log.count("maxmemory-policy")
        return [] if warned >= len(place.fleet.members) else [f"{warned} of {len(place.fleet.members)} workers warned"]
