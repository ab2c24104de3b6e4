"""Finds data that no redsched writes: `redsched doctor` reports with it that another program writes to a prefix."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping, Sequence

from redsched.checks import MAX_NAME_LENGTH
from redsched.client.events import decode_entry
from redsched.doctor.stored_fields import OFFSET_MS, is_text, is_whole, odd_fields
from redsched.errors import (
    EncodingError,
    InvalidScheduleError,
    RecordVersionError,
    StoreError,
    UnknownKeyError,
    UntrustedRecordError,
)
from redsched.jobs.ids import job_of
from redsched.jobs.record import Job
from redsched.schedules import MAX_MS
from redsched.store.keys import KINDS
from redsched.store.queries import scan
from redsched.store.store import Store
from redsched.store.transitions import Shard
from redsched.worker.agreement import FIELDS, differences

__all__ = ["traces"]

MAX_KEYS = 100_000
MAX_ENTRIES = 1000
"""Of the events, the newest."""
DAY_MS = 86_400_000
YEAR_MS = 366 * DAY_MS
MAX_MEMBERS = 100_000
STEP = 1000
LONGEST_MEMBER = 4 * MAX_NAME_LENGTH + 128
"""An id in UTF-8, with the instant of a run; the name of a place; a process and its generation."""
FIELDS_SHOWN = 10


async def traces(store: Store) -> list[str]:
    """Describe the stored data that no redsched wrote."""
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
                found += [trace async for trace in _of_key(store, shard, key, now_ms)]
            except StoreError as error:
                found.append(f"{_name(shard, key)}: {error}")
        found += [trace async for trace in _events(shard)]
    return found


def _name(shard: Shard, key: bytes) -> str:
    return key[len(shard.keys.tag.encode()) :].decode(errors="backslashreplace")


async def _clock(shard: Shard, now_ms: int) -> AsyncIterator[str]:
    ask, key = shard.link.command, shard.keys.clock
    if await ask("TYPE", key) != b"hash":
        return  # its key is reported
    stored = _pairs(await ask("HGETALL", key))
    odd = set(odd_fields("clock", stored))
    offset = 0 if "offset_ms" in odd else int(stored.get(b"offset_ms", 0))
    latest_us = (now_ms + offset + DAY_MS) * 1000
    odd |= {name for name in ("now_us", "fence") if not is_whole(stored.get(name.encode(), b"0"), 0, latest_us)}
    for name in sorted(odd):
        yield f"clock: {name} is {stored.get(name.encode(), b'')[:40]!r}"


def _pairs(flat: Sequence[bytes]) -> dict[bytes, bytes]:
    return dict(zip(flat[::2], flat[1::2], strict=True))


async def _of_key(store: Store, shard: Shard, key: bytes, now_ms: int) -> AsyncIterator[str]:
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
        return
    if stored == "zset":
        latest = MAX_MS if kind in ("due", "parked") else now_ms + 8 * DAY_MS + await _offset_ms(shard)
        for low, high in (("-inf", "(0"), (f"({latest}", "+inf")):
            for member in await ask("ZRANGE", key, low, high, "BYSCORE", "LIMIT", 0, 1):
                yield f"{name}: the score of {_shown(member)} is not an instant"
    if stored in ("zset", "set"):
        async for member in _members(shard, key, stored):
            if not _is_id(member):
                yield f"{name}: {_shown(member)} is not an id"
                break
    elif stored == "hash" and kind != "clock":
        fields = _pairs(await ask("HGETALL", key))
        odd = odd_fields(kind, fields)
        if "open_until" not in odd and int(fields.get(b"open_until", 0)) > now_ms + YEAR_MS + await _offset_ms(shard):
            odd.append("open_until")
        if odd:
            more = f" and {len(odd) - FIELDS_SHOWN} more" if len(odd) > FIELDS_SHOWN else ""
            yield f"{name}: {', '.join(odd[:FIELDS_SHOWN])}{more} without sense"
        record = fields.get(b"record")
        if record is not None and (why := _why_no_record(store, record, job_of(own))):
            yield f"{name}: its record cannot be read: {why}"
        for why in _beside_seal(store, kind, own, fields):
            yield f"{name}: {why}"


def _shown(member: bytes) -> str:
    return member[:80].decode(errors="backslashreplace")


def _is_id(member: bytes) -> bool:
    return bool(member) and is_text(member, LONGEST_MEMBER)


async def _members(shard: Shard, key: bytes, stored: str) -> AsyncIterator[bytes]:
    """The first of them, in steps that hold Redis for a moment only."""
    ask, cursor = shard.link.command, 0
    for start in range(0, MAX_MEMBERS, STEP):
        if stored == "zset":
            found = await ask("ZRANGE", key, start, start + STEP - 1)
            cursor = len(found) == STEP
        else:
            cursor, found = await ask("SSCAN", key, cursor, "COUNT", STEP)
        for member in found:
            yield member
        if not int(cursor):
            return


def _why_no_record(store: Store, record: bytes, job_id: str) -> str | None:
    """Why a worker with the keys of this process would not run it, if that is another's doing."""
    if len(record) > store.limits.record_max:
        return f"it takes {len(record):,} bytes"
    try:
        Job.decode(job_id, record, store.sealer)
    except (EncodingError, InvalidScheduleError, UntrustedRecordError) as error:
        return str(error)
    except (RecordVersionError, UnknownKeyError):  # a newer version's, or by a key that is not ours
        return None
    except Exception as error:  # options of other types than redsched gives them
        return f"{type(error).__name__}: {error}"
    return None


def _beside_seal(store: Store, kind: str, job_id: str, fields: Mapping[bytes, bytes]) -> Iterator[str]:
    """Describe fields that differ from the signed record, and jobs that a worker refused for their seal."""
    if (fields.get(b"state"), fields.get(b"reason")) == (b"dead", b"untrusted"):
        yield f"a worker refused it: {_shown(fields.get(b'error', b''))}"
    if kind != "job" or len(fields.get(b"record", b"")) > store.limits.record_max:
        return
    try:
        job = Job.decode(job_id, fields.get(b"record", b""), store.sealer)
    except Exception:  # that is named apart
        return
    if job.record.label:
        yield from differences(job, [fields.get(name.encode()) for name in FIELDS])


async def _offset_ms(shard: Shard) -> int:
    offset = await shard.link.command("HGET", shard.keys.clock, "offset_ms")
    return int(offset) if offset is not None and is_whole(offset, -OFFSET_MS, OFFSET_MS) else 0


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
