"""Promise 5: Redis' clock is the only one, and time as the scheduler sees it never goes back."""

from __future__ import annotations

import datetime as datetime_module
import time
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest

from redsched.testing import Kit
from tests.invariants import check
from tests.store.raw import Raw, row

ran: list[Any] = []


async def effect(value: Any) -> None:
    ran.append(value)


@pytest.fixture(params=[-30, 30], ids=["hours-behind", "hours-ahead"])
def wrong_clock(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """This process' wall clock is wrong, as far as Python code can see it; monotonic time goes on as it does."""
    ran.clear()
    hours = request.param
    now, now_ns, real = time.time, time.time_ns, datetime_module.datetime

    class Wrong(real):  # type: ignore[misc, valid-type]
        @classmethod
        def now(cls, tz: Any = None) -> Any:
            return real.now(tz) + timedelta(hours=hours)

    monkeypatch.setattr(time, "time", lambda: now() + hours * 3600)
    monkeypatch.setattr(time, "time_ns", lambda: now_ns() + hours * 3600 * 10**9)
    monkeypatch.setattr(datetime_module, "datetime", Wrong)
    yield


async def test_a_process_whose_clock_is_wrong_schedules_and_runs_by_redis_clock(
    wrong_clock: None, redsched_kit: Kit
) -> None:
    scheduler = redsched_kit.scheduler
    now = await redsched_kit.now()
    await scheduler.schedule_delayed_task("delayed", effect, delay_minutes=10, args=["delayed"])
    await scheduler.schedule_at("at", effect, now + timedelta(minutes=20), args=["at"])
    tick = await scheduler.schedule_interval("tick", effect, minutes=15, args=["tick"], misfire_grace_time=5)
    job = await tick.get()
    assert job is not None
    assert job.next_run_time is not None
    assert abs(job.next_run_time - now - timedelta(minutes=15)) < timedelta(seconds=5)
    assert await redsched_kit.run_due() == 0
    await redsched_kit.advance(minutes=21)
    assert ran == ["delayed", "tick", "at"]


async def test_nothing_is_due_twice_when_redis_clock_goes_back(redsched_kit: Kit) -> None:
    """As after a failover to a replica that is an hour behind: here the last master was an hour ahead."""
    ran.clear()
    raw = Raw(await redsched_kit.scheduler.store())
    scheduler = redsched_kit.scheduler
    tick = await scheduler.schedule_interval("tick", effect, minutes=1, args=["tick"])
    ahead = await raw.now() + 3_600_000
    await raw.command("HSET", raw.keys.clock, "now_us", ahead * 1000)
    seen = []
    for _ in range(3):
        seen.append(await raw.now())
        await redsched_kit.run_due()
    assert seen == sorted(seen)
    assert seen[0] >= ahead
    assert ran == ["tick"]  # the fires of the hour coalesced, once
    fires = [e.fire_time for e in await scheduler.get_history(tick.id) if e.kind == "done"]
    assert len(fires) == len(set(fires)) == 1
    await check(raw.store)


async def test_tokens_grow_on_though_a_failover_lost_the_counter(redsched_kit: Kit) -> None:
    raw = Raw(await redsched_kit.scheduler.store())
    await raw.shard.schedule([row(f"job-{number}") for number in range(3)])
    worker = raw.worker("w")
    fences = [(await worker.one(capacity=1)).fence]
    await raw.command("HDEL", raw.keys.clock, "fence")
    fences.append((await worker.one(capacity=1)).fence)
    await raw.command("DEL", raw.keys.clock)
    fences.append((await worker.one(capacity=1)).fence)
    assert fences == sorted(set(fences))
