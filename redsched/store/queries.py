"""Reads: what `get_job`, the command line and a dashboard show. Nothing here changes anything."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, cast

from redsched.codec.values import unpack_foreign
from redsched.errors import EncodingError, StoreAccessError
from redsched.store.keys import EVERY_CLOCK, prefix_of
from redsched.store.store import Store
from redsched.store.stored_job import StoredJob, instant_ms, stored_job
from redsched.store.transitions import Shard
from redsched.store.wire import WrongTypeError

CLEARED = (
    "shards", "lock_prefix", "dead_bytes", "events_bytes", "events_marks", "outcomes", "outcomes_bytes", "outcomes_ms",
)  # fmt: skip
"""Fields of the clock's hash that say something of the jobs; the rest is the clock itself."""

__all__ = [
    "StoredJob",
    "Wanted",
    "changed",
    "due_after",
    "find_ids",
    "find_prefixes",
    "find_queues",
    "read_dead",
    "read_eviction_policy",
    "read_jobs",
    "read_workers",
    "scan",
    "scan_ids",
]


PREFIX_STEPS = 100
"""Of a thousand keys each."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Filters of a read; Redis drops the other jobs."""

    queue: str | None = None
    state: str | None = None
    undue: bool = False
    """Only those that are not in a queue of what is due: paused, dead, parked, or running for the last time."""


async def read_jobs(store: Store, ids: Iterable[str], wanted: Wanted | None = None) -> dict[str, StoredJob]:
    """The jobs (or dead runs) of these ids that exist, and are wanted."""
    wanted = wanted or Wanted()
    which: dict[str, Any] = {"queue": wanted.queue or "", "state": wanted.state or "", "undue": wanted.undue}
    found: dict[str, StoredJob] = {}
    for shard, members in store.by_shard(ids):
        for start in range(0, len(members), 500):
            for row in await shard.inspect(members[start : start + 500], **which):
                job = stored_job(row)
                found[job.id] = job
    return found


async def read_dead(store: Store, limit: int = 1000) -> list[StoredJob]:
    """Dead runs, the newest first."""
    found: list[StoredJob] = []
    for shard in store.shards:
        ids = await shard.link.command("ZRANGE", shard.keys.dead, 0, limit - 1, "REV")
        if ids:
            found += [
                stored_job(row) for row in await shard.inspect([run_id.decode(errors="replace") for run_id in ids])
            ]
    return found


def changed(job_id: str, record: bytes, row: Sequence[Any] | None) -> StoredJob | None:
    """The job as `Shard.modify` left it; None if that ended it."""
    if row is None:
        return None
    fields, *rest = row
    return stored_job([job_id.encode(), [b"record", record, *fields], *rest])


async def find_ids(store: Store, *, tag: str | None = None) -> AsyncIterator[str]:
    """The ids of all jobs, or of those with a tag."""
    for shard in store.shards:
        if tag is not None:
            async for member in _walk(shard, "SSCAN", shard.keys.tagged(tag)):
                with contextlib.suppress(UnicodeDecodeError):  # not ours
                    yield member.decode()
        else:
            async for key in scan(shard, "job:"):
                with contextlib.suppress(UnicodeDecodeError):
                    yield key.decode()[len(shard.keys.tag) + 4 :]


async def find_queues(store: Store) -> list[str]:
    """The queues that have a job which is due at some time."""
    found: set[str] = set()
    for shard in store.shards:
        async for key in _walk(shard, "SCAN", "MATCH", shard.keys.every("due:"), count=2000):
            with contextlib.suppress(UnicodeDecodeError):  # not ours
                found.add(key.decode()[len(shard.keys.due("")) :])
    return sorted(found)


async def due_after(
    store: Store, queues: Iterable[str], after: tuple[float, str] | None, count: int
) -> list[tuple[float, str]]:
    """The next entries of these queues, by when they are due (ms) and id: at least `count`, if they exist."""
    found: list[tuple[float, str]] = []
    for shard in store.shards:
        for queue in queues:
            offset, mine = 0, 0
            while mine < count:
                least = "-inf" if after is None else repr(after[0])
                flat = await shard.link.command(
                    "ZRANGE", shard.keys.due(queue), least, "+inf", "BYSCORE", "LIMIT", offset, 1000, "WITHSCORES"
                )
                for at in range(0, len(flat), 2):
                    entry = (float(flat[at + 1]), flat[at].decode(errors="replace"))
                    if after is None or entry > after:
                        found.append(entry)
                        mine += 1
                offset += 1000
                if len(flat) < 2000:
                    break
    return sorted(found)[:count]


async def scan_ids(shard: Shard, tag: str | None, cursor: int, count: int) -> tuple[int, list[str]]:
    """One step through a shard's jobs, or through those with a tag: where to go on (0 = at the end), and ids."""
    if tag is not None:
        following, found = await shard.link.command("SSCAN", shard.keys.tagged(tag), cursor, "COUNT", count)
        names = found
    else:
        pattern = shard.keys.every("job:")
        following, found = await shard.link.command("SCAN", cursor, "MATCH", pattern, "COUNT", count)
        names = [key[len(shard.keys.job("")) :] for key in found]
    return int(following), [name.decode(errors="replace") for name in names]


async def scan(shard: Shard, kind: str) -> AsyncIterator[bytes]:
    """The keys of one kind (`job:`), or all of the shard; what changes meanwhile may come twice."""
    async for key in _walk(shard, "SCAN", "MATCH", shard.keys.every(kind)):
        yield key


async def _walk(shard: Shard, command: str, *which: str, count: int = 1000) -> AsyncIterator[bytes]:
    """Iterate over the results of a SCAN in batches. Members that change meanwhile may appear twice."""
    cursor: Any = 0
    key, options = (which[:1], which[1:]) if command == "SSCAN" else ((), which)
    while True:
        cursor, found = await shard.link.command(command, *key, cursor, *options, "COUNT", count)
        for name in found:
            yield name
        if int(cursor) == 0:
            return


async def find_prefixes(store: Store) -> list[str]:
    """The prefixes that a bounded number of steps through the keys finds: of each the clock is there."""
    found: set[str] = set()
    cursor: Any = 0
    for _ in range(PREFIX_STEPS):
        cursor, keys = await store.link.command("SCAN", cursor, "MATCH", EVERY_CLOCK, "COUNT", 1000)
        for key in keys:
            with contextlib.suppress(UnicodeDecodeError):  # not ours
                found.add(prefix_of(key.decode()))
        if int(cursor) == 0:
            break
    return sorted(found)


async def read_workers(store: Store) -> dict[str, dict[str, Any]]:
    """Read the description of each worker by its id, with `seen_ms`, its last heartbeat."""
    workers: dict[str, dict[str, Any]] = {}
    for shard in store.shards:
        flat = await shard.link.command("ZRANGE", shard.keys.workers, 0, -1, "WITHSCORES")
        for index in range(0, len(flat), 2):
            worker_id = flat[index].decode(errors="replace")
            told: Any = None
            with contextlib.suppress(EncodingError, WrongTypeError):
                info = await shard.link.command("HGET", shard.keys.worker(worker_id), "info")
                told = unpack_foreign(info) if info is not None else None
            if isinstance(told, dict):
                entry = workers.setdefault(worker_id, _sane(cast("dict[str, Any]", told)))
                entry["seen_ms"] = max(entry.get("seen_ms", 0), instant_ms(flat[index + 1]))
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


def _sane(told: dict[str, Any]) -> dict[str, Any]:
    """A worker's description, with values of the expected types only: another program may have written it."""
    for name in ("queues", "tasks", "packages", "executors"):
        value = told.get(name)
        told[name] = [str(part) for part in value] if isinstance(value, list) else []
    failed = told.get("failed_declarations")
    told["failed_declarations"] = {str(k): str(v) for k, v in failed.items()} if isinstance(failed, dict) else {}  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
    for name in ("pid", "concurrency", "running", "lost", "refused", "seen_ms"):
        told[name] = told[name] if isinstance(told.get(name), int) and abs(told[name]) < 2**53 else 0
    return told


async def read_queues(store: Store, queues: Iterable[str]) -> dict[str, tuple[int, int, int]]:
    """How many jobs and attempts each of these queues has that are due, scheduled for later, and parked."""
    found: dict[str, tuple[int, int, int]] = dict.fromkeys(queues, (0, 0, 0))
    for shard in store.shards:
        now_ms = await shard.travel()
        parked: Counter[str] = Counter()
        for place, count in (await _parked(shard)).items():
            parked[place.rpartition(" ")[2]] += count
        for queue, (due, later, waiting) in found.items():
            total = await shard.link.command("ZCARD", shard.keys.due(queue))
            ready = await shard.link.command("ZCOUNT", shard.keys.due(queue), "-inf", now_ms)
            found[queue] = (due + ready, later + total - ready, waiting + parked[queue])
    return found


async def _parked(shard: Shard) -> dict[str, int]:
    """How many jobs and attempts wait in each place (`lua/include/park.lua`)."""
    counts: dict[str, int] = {}
    # A key of another type is put aside when a worker needs it, which it does with each heartbeat only.
    with contextlib.suppress(WrongTypeError):
        for name in await shard.link.command("ZRANGE", shard.keys.parking, 0, -1):
            place = name.decode(errors="surrogateescape")
            with contextlib.suppress(WrongTypeError):
                counts[place] = await shard.link.command("ZCARD", shard.keys.parked(place))
    return counts


async def count_dead(store: Store) -> int:
    """How many dead runs are kept."""
    return sum([await shard.link.command("ZCARD", shard.keys.dead) for shard in store.shards])


async def read_result(store: Store, job_id: str, run_id: str) -> bytes | None:
    """Read a run's result, if it is still kept. Of one that is too long, only an undecodable beginning."""
    shard = store.shard(job_id)
    longest = store.limits.record_max
    return await shard.link.command("GETRANGE", shard.keys.result(run_id), 0, longest) or None


async def clear(store: Store) -> int:
    """Remove every job, run, result and event. The clock and the workers stay. Returns how many jobs there were."""
    jobs = 0
    for shard in store.shards:
        kept = tuple((shard.keys.tag + kind).encode() for kind in ("clock", "workers", "worker:", "requests:"))
        doomed: list[bytes] = []
        async for key in scan(shard, ""):
            if not key.startswith(kept):
                jobs += key.startswith((shard.keys.tag + "job:").encode())
                doomed.append(key)
        await shard.link.command("HDEL", shard.keys.clock, *CLEARED)
        store.forget_agreement()
        for start in range(0, len(doomed), 500):
            await shard.link.command("UNLINK", *doomed[start : start + 500])
    return jobs
