"""What no redsched writes: by it `redsched doctor` tells that somebody else writes to the keys of a prefix."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any

from redsched.codec import unpack_foreign
from redsched.errors import EncodingError, StoreError
from redsched.events import decode_entry
from redsched.schedules import MAX_MS
from redsched.store.keys import KINDS
from redsched.store.queries import scan
from redsched.store.store import Store
from redsched.store.transitions import Shard

__all__ = ["traces"]

MAX_KEYS = 100_000
MAX_ENTRIES = 1000
"""Of the events, the newest."""
DAY_MS = 86_400_000
YEAR_MS = 366 * DAY_MS
LARGEST = 2**53 - 1
OFFSET_MS = 6_300_000_000_000

_COUNTS = dict.fromkeys(("events_bytes", "dead_bytes", "outcomes", "outcomes_bytes", "outcomes_ms", "layout"), LARGEST)
_JOB_COUNTS = (
    "fence", "plan_fence", "claim_fence", "attempt", "recoveries", "excused", "postponed", "begun", "version",
    "runs_left", "max_instances", "max_recoveries",
)  # fmt: skip
_JOB: dict[str, int] = {
    **dict.fromkeys(_JOB_COUNTS, LARGEST),
    "fire_ms": MAX_MS,
    "next_ms": MAX_MS,
    "after_ms": MAX_MS,
}


async def traces(store: Store) -> list[str]:
    """What is stored that no redsched wrote, in words."""
    found: list[str] = []
    for shard in store.shards:
        seconds, micros = map(int, await shard.link.command("TIME"))
        now_ms = seconds * 1000 + micros // 1000
        found += [trace async for trace in _clock(shard, now_ms)]
        count = 0
        async for key in scan(shard, ""):
            count += 1
            if count > MAX_KEYS:
                break
            try:
                found += [trace async for trace in _of_key(shard, key, now_ms)]
            except StoreError as error:
                found.append(f"{_name(shard, key)}: {error}")
        found += [trace async for trace in _events(shard)]
    return found


def _name(shard: Shard, key: bytes) -> str:
    return key[len(shard.keys.tag.encode()) :].decode(errors="backslashreplace")


def _odd(fields: Mapping[str, Any], values: Any, least: int = 0) -> list[str]:
    """The fields, and their largest values, whose stored values are no whole number of that range."""
    stored = dict(zip(fields, values, strict=True))
    return [name for name, value in stored.items() if value is not None and not _is_whole(value, least, fields[name])]


def _is_whole(value: bytes, least: int, most: int) -> bool:
    return len(value) <= 16 and value.removeprefix(b"-").isdigit() and least <= int(value) <= most


async def _clock(shard: Shard, now_ms: int) -> AsyncIterator[str]:
    ask, key = shard.link.command, shard.keys.clock
    if await ask("TYPE", key) != b"hash":
        return  # it is told of by its key
    offset = await ask("HGET", key, "offset_ms")
    if offset is not None and not _is_whole(offset, -OFFSET_MS, OFFSET_MS):
        yield f"clock: offset_ms is {offset[:40]!r}"
        offset = None
    latest_us = (now_ms + int(offset or 0) + DAY_MS) * 1000
    fields = {"now_us": latest_us, "fence": latest_us, "shards": 1024, **_COUNTS}
    values = await ask("HMGET", key, *fields)
    for name in _odd(fields, values):
        yield f"clock: {name} is {values[list(fields).index(name)][:40]!r}"


async def _of_key(shard: Shard, key: bytes, now_ms: int) -> AsyncIterator[str]:
    ask, name = shard.link.command, _name(shard, key)
    kind, _, own = name.partition(":")
    if key == shard.keys.leases.encode():
        kind = "leases"
    if kind == "quarantine":
        yield f"{name}: it lay where redsched keeps {own}"
        return
    known = KINDS.get(kind)
    if known is None:
        return  # the check of keys tells
    stored = (await ask("TYPE", key)).decode()
    if stored not in ("none", known.type.lower()):
        yield f"{name}: a {stored}, where redsched keeps a {known.type.lower()}"
    elif kind in ("due", "parked", "dead", "leases", "live", "workers", "parking"):
        latest = MAX_MS if kind in ("due", "parked") else now_ms + 8 * DAY_MS + await _offset_ms(shard)
        for low, high in (("-inf", "(0"), (f"({latest}", "+inf")):
            for member in await ask("ZRANGE", key, low, high, "BYSCORE", "LIMIT", 0, 1):
                yield f"{name}: the score of {member[:80].decode(errors='backslashreplace')} is no instant"
    elif kind in ("job", "run"):
        if odd := _odd(_JOB, await ask("HMGET", key, *_JOB)):
            yield f"{name}: {', '.join(odd)} without sense"
    elif kind == "worker":
        async for trace in _worker(shard, key, name):
            yield trace
    elif kind == "circuit":
        latest = now_ms + YEAR_MS + await _offset_ms(shard)
        for _ in _odd({"open_until": latest}, await ask("HMGET", key, "open_until")):
            yield f"{name}: open_until without sense"


async def _offset_ms(shard: Shard) -> int:
    offset = await shard.link.command("HGET", shard.keys.clock, "offset_ms")
    return int(offset) if offset is not None and _is_whole(offset, -OFFSET_MS, OFFSET_MS) else 0


async def _worker(shard: Shard, key: bytes, name: str) -> AsyncIterator[str]:
    info, *numbers = await shard.link.command("HMGET", key, "info", "sequence", "vouched_ms")
    if info is not None:
        try:
            readable = isinstance(unpack_foreign(info), dict)
        except EncodingError:
            readable = False
        if not readable:
            yield f"{name}: what it says of itself cannot be read"
    if odd := _odd({"sequence": LARGEST, "vouched_ms": MAX_MS}, numbers):
        yield f"{name}: {', '.join(odd)} without sense"


async def _events(shard: Shard) -> AsyncIterator[str]:
    if await shard.link.command("TYPE", shard.keys.events) != b"stream":
        return
    bad: list[str] = []
    for entry_id, flat in await shard.link.command("XREVRANGE", shard.keys.events, "+", "-", "COUNT", MAX_ENTRIES):
        try:
            for _ in decode_entry(entry_id.decode(), dict(zip(flat[::2], flat[1::2], strict=True))):
                pass
        except Exception:  # whatever is written there
            bad.append(entry_id.decode(errors="replace"))
    if bad:
        yield f"events: {len(bad)} of the newest {MAX_ENTRIES} entries cannot be read, such as {bad[0]}"
