"""The stored declarations of an application: `declared:<application>`, by job id, in the job's shard."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from redsched.store.store import Store
from redsched.store.transitions import Shard
from redsched.store.wire import WrongTypeError

__all__ = ["forget_declared", "note_declared", "read_declared"]


async def _command(shard: Shard, name: str, application: str, *values: Any) -> Any:
    """A command on the hash of an application. What is of another type there is put aside first."""
    command = (name, shard.keys.declared(application), *values)
    try:
        return await shard.link.command(*command)
    except WrongTypeError:
        if not await shard.quarantine({"application": application}):
            raise
        return await shard.link.command(*command)


async def read_declared(store: Store, application: str, ids: Sequence[str] | None = None) -> dict[str, bytes]:
    """Read the stored declarations of an application by job id: those of the given ids, or all."""
    found: dict[str, bytes] = {}
    if ids is not None:
        for shard, members in store.by_shard(ids):
            values = await _command(shard, "HMGET", application, *members)
            found |= {job_id: value for job_id, value in zip(members, values, strict=True) if value is not None}
        return found
    for shard in store.shards:
        flat = await _command(shard, "HGETALL", application)
        found |= {flat[i].decode(errors="replace"): flat[i + 1] for i in range(0, len(flat), 2)}
    return found


async def note_declared(store: Store, application: str, job_id: str, entry: bytes) -> None:
    """Store the entry of a declaration."""
    shard = store.shard(job_id)
    await _command(shard, "HSET", application, job_id, entry)


async def forget_declared(store: Store, application: str, job_id: str) -> None:
    """Delete the entry of a declaration."""
    shard = store.shard(job_id)
    await _command(shard, "HDEL", application, job_id)
