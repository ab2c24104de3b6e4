"""Keys of a prefix that nothing will ever use or free: of unknown kinds, without an owner, without a TTL."""

from __future__ import annotations

import asyncio
from typing import Any

from redsched.jobs.ids import job_of
from redsched.store.keys import KINDS
from redsched.store.queries import scan
from redsched.store.store import Store
from redsched.store.transitions import Shard

__all__ = ["leftovers"]

MAX_KEYS = 100_000
"""Maximum number of keys of a shard that are checked."""
SECOND_LOOK_S = 0.5
"""A key that looks wrong is checked again: it may have changed between two commands."""


async def leftovers(store: Store) -> tuple[list[str], int]:
    """Describe the leftover keys, and count all keys."""
    wrong: list[str] = []
    count = 0
    for shard in store.shards:
        suspects: list[bytes] = []
        async for key in scan(shard, ""):
            count += 1
            if count > MAX_KEYS:
                break
            if await _trouble(shard, key):
                suspects.append(key)
        if suspects:
            await asyncio.sleep(SECOND_LOOK_S)
            troubles = [await _trouble(shard, key) for key in suspects]
            wrong += [trouble for trouble in troubles if trouble]
    return wrong, count


async def _trouble(shard: Shard, key: bytes) -> str | None:
    """Describe the problem with a key; None if there is none."""
    ask = shard.link.command
    name = key[len(shard.keys.tag) :].decode(errors="replace")
    kind, _, own = name.partition(":")
    if key.decode(errors="replace") == shard.keys.leases:
        kind, own = "leases", ""
    known = KINDS.get(kind)
    if known is None or bool(own) != known.has_name:
        return f"{name}: of a kind that redsched does not know"
    stored = (await ask("TYPE", key)).decode()
    if stored == "none":
        return None  # it is gone meanwhile
    if known.type != "ANY" and stored != known.type.lower():
        return f"{name}: a {stored}, where redsched keeps a {known.type.lower()}"
    if known.expires:
        return None if await ask("PTTL", key) != -1 else f"{name}: it should have a TTL and has none"
    if kind == "job":
        return await _idle_job(shard, key, own, name)
    if kind == "run":
        return await _idle_run(ask, shard, key, own, name)
    return None


async def _idle_job(shard: Shard, key: bytes, job_id: str, name: str) -> str | None:
    ask = shard.link.command
    record, queue, fence, state, parked = await ask("HMGET", key, "record", "queue", "fence", "state", "parked")
    if record is None:
        return f"{name}: without a record"
    if fence is not None or state is not None:
        return None
    if await ask("ZSCORE", shard.keys.due((queue or b"default").decode(errors="replace")), job_id) is not None:
        return None
    place = (parked or b"").decode(errors="surrogateescape")
    if parked is not None and await ask("ZSCORE", shard.keys.parked(place), job_id) is not None:
        return None
    if await ask("EXISTS", shard.keys.live(job_id), shard.keys.waiting(job_id)):
        return None
    return f"{name}: nothing will ever run or end it"


async def _idle_run(ask: Any, shard: Shard, key: bytes, run_id: str, name: str) -> str | None:
    own = job_of(run_id)
    fence, state = await ask("HMGET", key, "fence", "state")
    if own == run_id:
        return f"{name}: a run without a job"
    if fence is not None or state is not None or await ask("SISMEMBER", shard.keys.waiting(own), run_id):
        return None
    return f"{name}: it neither runs nor waits"
