"""The `events` stream: what happened to each job, with its reason, decoded into `Event`s.

One stream entry carries a whole batch of transitions, since two entries a run would halve the throughput.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, NoReturn

import anyio
import anyio.lowlevel

from redsched.checks import is_int
from redsched.codec.values import unpack_foreign as _unpack
from redsched.errors import InvalidConfigError, RecordVersionError, StoreError, StoreReplyError
from redsched.jobs.ids import job_of, parse_run_id, run_id_of
from redsched.model import Event, Reason
from redsched.schedules import MAX_MS
from redsched.store.clock import from_ms
from redsched.store.store import Store
from redsched.store.transitions import Shard
from redsched.store.wire import WrongTypeError

log = logging.getLogger("redsched.events")

COUNT = 100
"""Entries read at once: each may carry 250 transitions, with their errors."""

BREATHE_S = 0.02
"""How long the decoding of heavy entries holds the event loop at a time."""
SAY_EVERY_S = 10.0
AHEAD_MS = 86_400_000

__all__ = ["decode_entry", "history", "last_ids", "pump"]


def _reason(value: Any) -> Reason | None:
    try:
        return Reason(value) if value else None
    except ValueError:
        return None  # of a newer redsched


def _instant(at_ms: float) -> datetime:
    return from_ms(int(min(max(at_ms, 0), MAX_MS)))


def _checked(**fields: Any) -> Event:
    """An event whose parts are of the types that it promises.

    Raises:
        ValueError: one is not: another program wrote it.
    """
    for name, value in fields.items():
        match name:
            case "kind" | "job_id":
                fine = isinstance(value, str)
            case "task" | "worker" | "error" | "run_id":
                fine = value is None or isinstance(value, str)
            case "attempt" | "count":
                fine = value is None or is_int(value)
            case "execution_time" | "lateness":
                fine = value is None or math.isfinite(value)
            case _:
                fine = True
        if not fine:
            raise ValueError(f"its {name} is of the type {type(value).__name__}")
    return Event(**fields)


def _run_of_key(key: str) -> str | None:
    """The run whose hash a quarantined key is."""
    kind, _, run_id = key.partition(":")
    return run_id if kind == "run" else None


def decode_entry(stream_id: str, fields: Mapping[bytes, bytes]) -> Iterator[Event]:
    """The events of one stream entry, in the order in which they happened."""
    at = _instant(int(fields[b"at"]))
    by = fields[b"by"].decode(errors="replace")
    refused = set(_unpack(fields[b"refused"])) if b"refused" in fields else set[str]()
    for row in _unpack(fields[b"settled"]) if b"settled" in fields else ():
        run_id, _, verb, fire_ms, attempt, late_ms, duration_ms, task, reason, _, error, *rest = row
        if run_id not in refused:
            job_id = job_of(run_id)
            yield _checked(
                kind=verb,
                job_id=job_id,
                # With fires of a batch left, this is the run of one fire of it.
                run_id=run_id_of(job_id, fire_ms) if rest and rest[0] else run_id,
                at=at,
                reason=_reason(reason),
                fire_time=_instant(fire_ms),
                task=task,
                worker=by,
                attempt=attempt,
                execution_time=duration_ms / 1000,
                lateness=late_ms / 1000,
                error=error or None,
                stream_id=stream_id,
            )
    moved: Any = _unpack(fields[b"moved"]) if b"moved" in fields else ()
    # Of an earlier version there are no ids of runs.
    runs: Any = _unpack(fields[b"runs"]) if b"runs" in fields else [None] * len(moved)
    for row, run_id in zip(moved, runs, strict=True):
        kind, job_id, reason, first_ms, last_ms, count, attempt, detail = row
        yield _checked(
            kind=kind,
            job_id=job_id,
            at=at,
            reason=_reason(reason),
            fire_time=_instant(first_ms) if first_ms else None,
            last_fire_time=_instant(last_ms) if last_ms and last_ms != first_ms else None,
            count=count if count is not False else (None if last_ms and last_ms != first_ms else 1),
            worker=by,
            attempt=attempt or None,
            error=detail or None,
            stream_id=stream_id,
            run_id=run_id or (_run_of_key(job_id) if kind == "quarantined" else None),
        )
    if b"stalled" in fields:
        job_id, task, stalled_ms, text = _unpack(fields[b"stalled"])
        yield _checked(
            kind="stalled", job_id=job_id, at=at, reason=Reason.STALLED, task=task or None, worker=by,
            execution_time=stalled_ms / 1000, error=text or None, stream_id=stream_id,
            run_id=fields[b"stalled_run"].decode(errors="replace") if b"stalled_run" in fields else None,
        )  # fmt: skip
    for job_id in _unpack(fields[b"scheduled"]) if b"scheduled" in fields else ():
        yield _checked(kind="scheduled", job_id=job_id, at=at, worker=None, stream_id=stream_id)
    for run_id in _unpack(fields[b"claimed"]) if b"claimed" in fields else ():
        job_id, fire_ms = parse_run_id(run_id)
        fire = None if fire_ms is None else _instant(fire_ms)
        yield _checked(
            kind="claimed", job_id=job_id, run_id=run_id, at=at, fire_time=fire, worker=by, stream_id=stream_id
        )


class _Decoder:
    """Decodes entries for one reader. One that cannot be read is skipped and counted, and heavy ones let others run."""

    def __init__(self) -> None:
        self.skipped = 0
        self._said_at = -SAY_EVERY_S

    async def events(self, entries: Sequence[Any]) -> AsyncIterator[Event]:
        since = time.monotonic()
        for entry_id, flat in entries:
            if flat is None:
                continue
            events: list[Event] = []
            try:
                for event in decode_entry(entry_id.decode(), dict(zip(flat[::2], flat[1::2], strict=True))):
                    events.append(event)
                    if time.monotonic() - since > BREATHE_S:
                        await anyio.lowlevel.checkpoint()
                        since = time.monotonic()
            except Exception as error:  # of another program, or a newer redsched: it must not hide the others
                self._skip(entry_id, error)
                events = []
            if time.monotonic() - since > BREATHE_S:
                await anyio.lowlevel.checkpoint()
                since = time.monotonic()
            for event in events:
                yield event

    def _skip(self, entry_id: bytes, error: Exception) -> None:
        self.skipped += 1
        now = time.monotonic()
        if now - self._said_at >= SAY_EVERY_S:
            self._said_at = now
            log.warning("entry %s of the events cannot be read: %.300s; %d were skipped by this reader, see `redsched "
                        "doctor`", entry_id.decode(errors="replace"), error, self.skipped)  # fmt: skip


async def history(
    store: Store, *, limit: int = 1000, job_id: str | None = None, kinds: frozenset[str] | None = None
) -> list[Event]:
    """The newest events, oldest first: `limit` of them at most, of one job or of all, of some kinds or of all."""
    shards = [store.shard(job_id)] if job_id else store.shards
    found: list[Event] = []
    decoder = _Decoder()
    for shard in shards:
        newest_first: list[Event] = []
        before = "+"
        while len(newest_first) < limit:
            entries = await shard.link.command("XREVRANGE", shard.keys.events, before, "-", "COUNT", COUNT)
            if not entries:
                break
            for entry in entries:
                events = [
                    event
                    async for event in decoder.events([entry])
                    if (job_id is None or event.job_id == job_id) and (kinds is None or event.kind in kinds)
                ]
                newest_first.extend(reversed(events))
            before = "(" + entries[-1][0].decode()
        found.extend(reversed(newest_first))
    if len(shards) > 1:
        found.sort(key=lambda event: event.at)  # stable: within a shard the stream's order stays
    return found[-limit:]


async def last_ids(store: Store) -> dict[int, str]:
    """Where each shard's stream ends now."""
    ends: dict[int, str] = {}
    for shard in store.shards:
        ends[shard.keys.shard] = await _end(shard)
    return ends


async def _end(shard: Shard) -> str:
    """The id of the newest entry."""
    try:
        entries = await shard.link.command("XREVRANGE", shard.keys.events, "+", "-", "COUNT", 1)
    except WrongTypeError:  # a worker puts it aside; the stream begins again then
        entries = []
    return entries[0][0].decode() if entries else "0-0"


def _place(stream_id: str) -> tuple[int, int]:
    ms, _, number = stream_id.partition("-")
    return int(ms), int(number or 0)


async def pump(store: Store, since: Mapping[int, str], deliver: Callable[[Event], None], *, name: str) -> NoReturn:
    """Hand over every event after the given stream ids, as it happens; goes on after Redis was away.

    Runs until it is cancelled. Within a shard the order is that of the stream.
    """

    async def read(number: int, last: str) -> None:
        shard = store.shards[number]
        decoder = _Decoder()
        while True:
            # After an id of the far future the stream may have to begin again: see `lua/include/event.lua`.
            is_odd = last != "$" and shard.clock.known and _place(last)[0] > shard.clock.now_ms() + AHEAD_MS
            block_ms = 10_000 if store.agreed and not is_odd else 1000
            try:
                reply = await shard.link.command(
                    "XREAD", "COUNT", COUNT, "BLOCK", block_ms, "STREAMS", shard.keys.events, last,
                    hold=f"{name}:{number}", timeout=20,
                )  # fmt: skip
            except StoreReplyError as error:
                log.warning("events are skipped, since they cannot be read: %s", error)
                last = "$"  # what comes from now on
                continue
            except StoreError as error:
                log.warning("cannot follow the events: %s", error)
                await anyio.sleep(0.2)
                continue
            if reply:
                entries = reply[0][1]
                async for event in decoder.events(entries):
                    deliver(event)
                last = entries[-1][0].decode()
            elif last != "$" and await is_older(shard, last):
                last = "0-0"
            if number == 0 and not store.agreed:
                await look_for_shards()

    async def is_older(shard: Shard, last: str) -> bool:
        """Whether the stream ends before what was read: it was put aside, or lost, and began again."""
        try:
            return _place(await _end(shard)) < _place(last)
        except StoreError:
            return False

    async def look_for_shards() -> None:
        """The prefix was empty when reading began; the first process that stores a job sets the number of shards."""
        before = len(store.shards)
        try:
            await store.learn()
        except (StoreError, InvalidConfigError, RecordVersionError) as error:
            log.warning("cannot follow the events: %s", error)
            return
        for number in range(before, len(store.shards)):
            group.start_soon(read, number, "0-0")

    async with anyio.create_task_group() as group:
        for number, last in since.items():
            group.start_soon(read, number, last)
    raise AssertionError("the readers never end")
