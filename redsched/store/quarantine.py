"""Which keys a call of a script may have stumbled over: those that it needs, and the type that each should have.

A client with write access can put a string where the workers keep a sorted set, and the script that needs it raises.
That is detected only then, so it costs nothing as long as it does not happen.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, cast

import msgpack

from redsched.jobs.ids import job_of
from redsched.store.keys import KINDS, Keys
from redsched.store.rows import Scheduled

__all__ = ["KEEP_MS", "suspects"]

KEEP_MS = 7 * 86_400_000
"""How long a key that was set aside is kept."""


def suspects(keys: Keys, args: Mapping[str, str | int | bytes]) -> list[str]:
    """The keys that a call with these arguments needs, each followed by its type; the keys of the whole shard first."""
    names = [keys.clock, keys.events, keys.leases, keys.dead, keys.workers, keys.parking]
    flat: dict[str, str] = {}
    for name in names:
        tail = name[len(keys.tag) :]
        flat[tail] = KINDS[tail.rpartition(":")[2]].type.lower()
    worker = str(args.get("worker", ""))
    client = str(args.get("request", "")).rpartition(":")[0]
    of_shard = {"worker": [worker], "mail": [worker], "requests": [client]}
    for kind in ("due", "idle", "wake"):
        of_shard[kind] = ["default", *_rows(args.get("queues"))]
    rows = [row for row in _rows(args.get("jobs")) if isinstance(row, list) and len(row) > Scheduled.TAGS]
    of_shard["due"] += [row[Scheduled.QUEUE] for row in rows if isinstance(row[Scheduled.QUEUE], str)]
    of_shard["tag"] = [tag for row in rows for tag in row[Scheduled.TAGS] or ()]
    applications = [str(args.get("application", "")), *(row[0] for row in _rows(args.get("owners")) if row)]
    applications += [declared[0] for row in rows for declared in row[Scheduled.DECLARATION :][:1] if declared]
    if any(applications):
        flat["applications"] = KINDS["applications"].type.lower()
        for kind in ("declared", "declarers", "generations"):
            of_shard[kind] = [name for name in applications if isinstance(name, str)]
    for kind, owners in of_shard.items():
        flat.update((f"{kind}:{owner}", KINDS[kind].type.lower()) for owner in owners if owner)
    for job_id in dict.fromkeys(_ids(args)):
        for kind in ("job", "run", "live", "waiting", "result"):
            flat[f"{kind}:{job_id}"] = KINDS[kind].type.lower()
    return [part for pair in flat.items() for part in pair]


def _rows(packed: Any) -> list[Any]:
    """The items of a packed list; empty if it is not a list."""
    if not isinstance(packed, bytes) or not packed:
        return []
    try:
        value: Any = msgpack.unpackb(packed, raw=False, unicode_errors="surrogateescape", strict_map_key=False)
    except ValueError:
        return []
    return cast("list[Any]", value) if isinstance(value, list) else []


def _ids(args: Mapping[str, str | int | bytes]) -> Iterator[str]:
    """The ids of jobs and runs in a call's arguments, each run with its job."""
    for name, value in args.items():
        if name in ("id", "run_id"):
            yield str(value)
        for row in () if name in ("queues", "marks") else _rows(value):
            first: Any = row[0] if isinstance(row, list) and row else row
            if isinstance(first, str):
                yield first
                yield job_of(first)
