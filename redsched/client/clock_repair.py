"""Sets the clock that Redis stores back to the time of its machine: `redsched doctor --repair clock`.

The clock of a prefix never goes back by itself, so an instant that is ahead (the testing kit moved time in production,
the clock of Redis' machine was wrong, another program wrote it) holds until the true time has caught up with it.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

from redsched.doctor.stored_fields import OFFSET_MS, is_whole
from redsched.errors import JobLookupError, SchedulerStateError
from redsched.jobs.accounting import cursor_of
from redsched.jobs.record import Job
from redsched.schedules.plan import first_fires
from redsched.store import queries
from redsched.store.store import Store
from redsched.store.transitions import ClockMovedError, Shard

__all__ = ["ClockRepair", "clock_faults", "repair_clock"]

AHEAD_US = 86_400_000_000
"""What is further ahead, the scripts do not believe: `lua/include/clock.lua`."""
NOTICED_US = 1_000_000
APART_S = 60.0
TRIES = 5


@dataclass(slots=True)
class ClockRepair:
    """What `BackgroundTaskScheduler.repair_clock` found and did.

    >>> async def main() -> None:
    ...     async with BackgroundTaskScheduler(url) as scheduler:
    ...         for fault in (await scheduler.repair_clock(dry_run=True)).faults:
    ...             print(fault)
    """

    faults: list[str] = field(default_factory=list[str])
    """What is wrong with the stored clock, one line for each field of each shard; empty: there is nothing to repair."""
    moved: int = 0
    """Leases, heartbeats and waiting attempts whose instant was computed from the wrong clock, and was moved."""
    rescheduled: list[str] = field(default_factory=list[str])
    """Ids of periodic jobs whose next fire was later than their schedule says, and is that of the schedule again."""
    left: list[str] = field(default_factory=list[str])
    """Ids of jobs that are due later than the clock ever was, and were not changed: see docs/security.md."""


async def clock_faults(store: Store) -> list[str]:
    """The problems of the stored clock of each shard."""
    return [fault for shard in store.shards for fault in await _faults(shard)]


async def _faults(shard: Shard) -> list[str]:
    seconds, micros = map(int, await shard.link.command("TIME"))
    server_us = seconds * 1_000_000 + micros
    now, offset, fence = await shard.link.command("HMGET", shard.keys.clock, "now_us", "offset_ms", "fence")
    found: list[str] = []
    moved_us = 0
    if offset is not None and not is_whole(offset, -OFFSET_MS, OFFSET_MS):
        found.append(f"offset_ms is {offset[:40]!r}, which is not an offset")
    elif offset is not None and int(offset):
        moved_us = int(offset) * 1000
        found.append(f"offset_ms moves time by {_span(moved_us)}")
    for name, value in (("now_us", now), ("fence", fence)):
        if value is None:
            continue
        if not is_whole(value, 0, server_us + moved_us + AHEAD_US):
            found.append(f"{name} is {value[:40]!r}, which is more than a day ahead or not a number")
        elif name == "now_us" and int(value) > server_us + moved_us + NOTICED_US:
            found.append(f"now_us is {_span(int(value) - server_us - moved_us)} ahead of the time of Redis")
    return [f"{shard.keys.clock}: {fault}" for fault in found]


def _span(us: int) -> str:
    seconds = us / 1e6
    days = seconds / 86_400
    return f"{days:+,.1f} days" if abs(days) >= 2 else f"{seconds:+,.1f} s"


async def repair_clock(store: Store, *, dry_run: bool) -> ClockRepair:
    """See `BackgroundTaskScheduler.repair_clock`."""
    made = ClockRepair(await clock_faults(store))
    if not made.faults or dry_run:
        return made
    await _check_server(store)
    queues = await queries.find_queues(store)
    latest: dict[int, int] = {}
    ahead = False
    for shard in store.shards:
        ahead_ms, moved = await shard.repair(queues)
        made.moved += moved
        ahead |= ahead_ms != 0
        latest[shard.keys.shard] = shard.clock.now_ms() + max(0, ahead_ms)
    async for job_id in queries.find_ids(store):
        shard = store.shard(job_id)
        became = await _reschedule(store, shard, job_id, latest[shard.keys.shard])
        if became == "rescheduled":
            made.rescheduled.append(job_id)
        elif became == "left" and ahead:
            made.left.append(job_id)
    made.rescheduled.sort()
    made.left.sort()
    return made


async def _check_server(store: Store) -> None:
    seconds, micros = map(int, await store.link.command("TIME"))
    apart = seconds + micros / 1e6 - time.time()  # noqa: TID251  it only refuses
    if abs(apart) > APART_S:
        raise SchedulerStateError(
            f"the clock of Redis' machine and that of this machine are {apart:+,.0f} s apart, and one of them is "
            "wrong; nothing was changed. Correct it first (NTP): the repair takes the time of Redis as the true one"
        )


async def _reschedule(store: Store, shard: Shard, job_id: str, then_ms: int) -> str:
    """Give a periodic job the next fire of its schedule, if it has a later one."""
    for _ in range(TRIES):
        stored = (await queries.read_jobs(store, [job_id])).get(job_id)
        if stored is None or stored.due_ms is None or "record" not in stored.fields:
            return ""
        if "periodic" not in stored.fields or "state" in stored.fields:
            return "left" if stored.due_ms > then_ms and "attempt" not in stored.fields else ""
        now_ms = shard.clock.now_ms()
        try:
            version = stored.version
            job = Job.decode(job_id, stored.fields["record"], store.sealer, version=version)
            assert job.schedule is not None
            first, following = first_fires(job.schedule.with_seed(job_id), now_ms)
        except Exception:  # such as one that cannot be read: its worker says what it is
            return "left" if stored.due_ms > then_ms else ""
        if first is None or stored.due_ms <= first:
            return "left" if stored.due_ms > then_ms else ""
        change: dict[str, Any] = {
            "kind": "modified", "reason": "rescheduled", "when": [first, following or 0],
            "cursor": cursor_of(stored.fields, stored.due_ms),
        }  # fmt: skip
        try:
            if await shard.modify(job_id, version, change, assumed_ms=now_ms) is not None:
                return "rescheduled"
        except ClockMovedError:
            continue
        except JobLookupError:
            return ""
    return "left"
