"""Reads: what `get_job`, the command line and a dashboard show. Nothing here changes anything."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import msgpack

from redsched.errors import StoreAccessError
from redsched.store.store import Store
from redsched.store.transitions import Shard

__all__ = ["StoredJob", "find_ids", "read_dead", "read_eviction_policy", "read_jobs", "read_workers"]


@dataclass(slots=True)
class StoredJob:
    """A job's hash as it is, with what the other keys say of it."""

    id: str
    fields: Mapping[str, bytes]
    due_ms: int | None
    running: int
    waiting: int


async def read_jobs(store: Store, ids: Iterable[str]) -> dict[str, StoredJob]:
    """The jobs (or dead runs) of these ids that exist."""
    found: dict[str, StoredJob] = {}
    for shard, members in store.by_shard(ids):
        for start in range(0, len(members), 500):
            for row in await shard.inspect(members[start : start + 500]):
                job = _stored(row)
                found[job.id] = job
    return found


async def read_dead(store: Store, limit: int = 1000) -> list[StoredJob]:
    """Dead runs, the newest first."""
    found: list[StoredJob] = []
    for shard in store.shards:
        ids = await shard.link.command("ZRANGE", shard.keys.dead, 0, limit - 1, "REV")
        if ids:
            found += [_stored(row) for row in await shard.inspect([run_id.decode() for run_id in ids])]
    return found


def _stored(row: list[Any]) -> StoredJob:
    job_id, flat, due, running, waiting = row
    fields = {flat[i].decode(): flat[i + 1] for i in range(0, len(flat), 2)}
    due_ms = None if due is None else int(float(due))
    if "periodic" in fields and "next_ms" in fields:
        due_ms = int(fields["next_ms"])  # while a plan is made, the score is only when another may plan
    return StoredJob(job_id.decode(), fields, due_ms, running, waiting)


async def find_ids(store: Store, *, tag: str | None = None) -> AsyncIterator[str]:
    """The ids of all jobs, or of those with a tag."""
    for shard in store.shards:
        if tag is not None:
            for member in await shard.link.command("SMEMBERS", shard.keys.tagged(tag)):
                yield member.decode()
        else:
            async for key in _scan(shard, "job:"):
                yield key[len(shard.keys.tag) + 4 :]


async def _scan(shard: Shard, kind: str) -> AsyncIterator[str]:
    cursor: Any = 0
    while True:
        cursor, keys = await shard.link.command("SCAN", cursor, "MATCH", shard.keys.every(kind), "COUNT", 1000)
        for key in keys:
            yield key.decode()
        if int(cursor) == 0:
            return


async def read_workers(store: Store) -> dict[str, dict[str, Any]]:
    """What each worker serves, by its id, with `seen_ms`, its last heartbeat."""
    workers: dict[str, dict[str, Any]] = {}
    for shard in store.shards:
        flat = await shard.link.command("ZRANGE", shard.keys.workers, 0, -1, "WITHSCORES")
        for index in range(0, len(flat), 2):
            worker_id = flat[index].decode()
            info = await shard.link.command("HGET", shard.keys.worker(worker_id), "info")
            if info is not None:
                entry = workers.setdefault(worker_id, msgpack.unpackb(info, raw=False))
                entry["seen_ms"] = max(entry.get("seen_ms", 0), int(float(flat[index + 1])))
    return workers


async def read_eviction_policy(store: Store) -> dict[str, str]:
    """Servers that may throw keys away to make room -> their maxmemory-policy. Empty where none does, or none tells."""
    found: dict[str, str] = {}
    for shard in store.shards:
        if shard.link.where in found:
            continue
        try:
            info = (await shard.link.command("INFO", "memory")).decode(errors="replace")
        except StoreAccessError:
            continue  # a user with few rights need not know
        values = dict(line.split(":", 1) for line in info.splitlines() if ":" in line)
        policy = values.get("maxmemory_policy", "noeviction")
        if policy != "noeviction" and values.get("maxmemory", "0") != "0":
            found[shard.link.where] = policy
    return found


async def read_queues(store: Store, queues: Iterable[str]) -> dict[str, tuple[int, int]]:
    """How many jobs and attempts each of these queues has that are due, and that are scheduled for later."""
    found: dict[str, tuple[int, int]] = dict.fromkeys(queues, (0, 0))
    for shard in store.shards:
        now_ms = await shard.travel()
        for queue, (due, later) in found.items():
            total = await shard.link.command("ZCARD", shard.keys.due(queue))
            ready = await shard.link.command("ZCOUNT", shard.keys.due(queue), "-inf", now_ms)
            found[queue] = (due + ready, later + total - ready)
    return found


async def count_dead(store: Store) -> int:
    """How many dead runs are kept."""
    return sum([await shard.link.command("ZCARD", shard.keys.dead) for shard in store.shards])


async def read_result(store: Store, job_id: str, run_id: str) -> bytes | None:
    """What a run returned, if it is still kept."""
    shard = store.shard(job_id)
    return await shard.link.command("GET", shard.keys.result(run_id))


async def clear(store: Store) -> int:
    """Remove every job, run, result and event. The clock and the workers stay. Returns how many jobs there were."""
    jobs = 0
    for shard in store.shards:
        kept = tuple(shard.keys.tag + kind for kind in ("clock", "workers", "worker:", "requests:"))
        doomed: list[str] = []
        async for key in _scan(shard, ""):
            if not key.startswith(kept):
                jobs += key.startswith(shard.keys.tag + "job:")
                doomed.append(key)
        await shard.link.command("HDEL", shard.keys.clock, "shards", "lock_prefix")
        for start in range(0, len(doomed), 500):
            await shard.link.command("UNLINK", *doomed[start : start + 500])
    return jobs
