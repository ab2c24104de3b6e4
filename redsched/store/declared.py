"""What is kept of the declarations of an application: `declared:<application>`, by job id, in the job's shard."""

from __future__ import annotations

from collections.abc import Sequence

from redsched.store.store import Store

__all__ = ["forget_declared", "note_declared", "read_declared"]


async def read_declared(store: Store, application: str, ids: Sequence[str] | None = None) -> dict[str, bytes]:
    """What is kept of the declarations of an application, by id; of these ids, or of all."""
    found: dict[str, bytes] = {}
    if ids is not None:
        for shard, members in store.by_shard(ids):
            values = await shard.link.command("HMGET", shard.keys.declared(application), *members)
            found |= {job_id: value for job_id, value in zip(members, values, strict=True) if value is not None}
        return found
    for shard in store.shards:
        flat = await shard.link.command("HGETALL", shard.keys.declared(application))
        found |= {flat[i].decode(errors="replace"): flat[i + 1] for i in range(0, len(flat), 2)}
    return found


async def note_declared(store: Store, application: str, job_id: str, entry: bytes) -> None:
    """Keep this of a declaration."""
    shard = store.shard(job_id)
    await shard.link.command("HSET", shard.keys.declared(application), job_id, entry)


async def forget_declared(store: Store, application: str, job_id: str) -> None:
    """Keep nothing of a declaration."""
    shard = store.shard(job_id)
    await shard.link.command("HDEL", shard.keys.declared(application), job_id)
