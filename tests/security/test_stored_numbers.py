"""No stored number makes a script spin, a worker wait for ever, or one send more than it does under load."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from redsched import BackgroundTaskScheduler, CircuitBreakerPolicy
from redsched.store.transitions import Shard
from redsched.testing import Kit, fresh_prefix
from redsched.worker.circuits import guard

ran: list[str] = []

NUMBERS = [
    "inf",
    "-inf",
    "nan",
    "1e308",
    "-1e308",
    "9007199254740993",
    "-9007199254740993",
    "-1",
    "1.5",
    "0x10",
    "",
    "x",
]


async def note(name: str) -> None:
    ran.append(name)


async def fails() -> None:
    raise OSError


async def sent(shard: Shard) -> int:
    """How many scripts were called on this server."""
    stats = (await shard.link.command("INFO", "commandstats")).decode()
    calls = [line for line in stats.splitlines() if line.startswith(("cmdstat_evalsha:", "cmdstat_blpop:"))]
    return sum(int(line.split("calls=")[1].split(",")[0]) for line in calls)


@pytest.fixture
async def served(redsched_url: str) -> AsyncIterator[tuple[BackgroundTaskScheduler, Shard]]:
    ran.clear()
    scheduler = BackgroundTaskScheduler(redsched_url, fresh_prefix(), lease=1.0, declared_tasks=False)
    async with scheduler:
        yield scheduler, (await scheduler.store()).shards[0]
        await scheduler.clear_all_jobs()


async def run_one(scheduler: BackgroundTaskScheduler, name: str) -> None:
    handle = await scheduler.schedule_immediate_task(name, note, args=[name])
    assert (await handle.result(timeout=10)).success
    assert ran.count(name) == 1


@pytest.mark.parametrize("ahead", ["a little", "far", *NUMBERS])
async def test_a_sequence_that_a_worker_has_not_reached_does_not_stop_it(
    served: tuple[BackgroundTaskScheduler, Shard], ahead: str
) -> None:
    scheduler, shard = served
    await run_one(scheduler, "before")
    assert scheduler.worker is not None
    [loop] = scheduler.worker.loops
    values = {"a little": str(loop._sequence + 1000), "far": "9007199254740991"}
    await shard.link.command(
        "HSET", shard.keys.worker(scheduler.id), "sequence", values.get(ahead, ahead), "last", b"\xc1"
    )
    await run_one(scheduler, "after")
    before = await sent(shard)
    await asyncio.sleep(0.5)
    assert await sent(shard) - before < 60


@pytest.mark.parametrize(
    "last", [b"", b"\xc1", b"\x01", b"\x95\x01\x02\x03\x04\x05", b"\x95\x91\x01\x91\x91\x02\xa1x\xa1y\xa1z"]
)
async def test_a_poll_that_is_sent_again_is_answered_whatever_is_kept_of_it(
    served: tuple[BackgroundTaskScheduler, Shard], last: bytes
) -> None:
    scheduler, shard = served
    await run_one(scheduler, "before")
    assert scheduler.worker is not None
    [loop] = scheduler.worker.loops
    for claimed in (b"", b"\xc1", b"\x91\xa1a"):
        values = ["sequence", str(loop._sequence + 1), "last", last, "claimed", claimed]
        await shard.link.command("HSET", shard.keys.worker(scheduler.id), *values)
        await run_one(scheduler, f"after {claimed!r}")


@pytest.mark.parametrize("value", NUMBERS)
async def test_a_circuit_is_open_for_no_longer_than_its_policy_says(redsched_kit: Kit, value: str) -> None:
    shard = (await redsched_kit.scheduler.store()).shards[0]
    policy = CircuitBreakerPolicy(1, recovery_timeout=2.0, name="payments")
    for field in ("open_until", "t:x", "odd"):
        await shard.link.command("HSET", f"{shard.keys.tag}circuit:payments", field, value)
        state, wait_ms = await shard.circuit("payments", "enter", "token", 1, 2000, 1)
        assert (state, 0 <= wait_ms <= 2000) in [("closed", True), ("half_open", True), ("open", True)]
        assert state != "open" or wait_ms > 0, "a wait of nothing would be asked for again and again"
    await redsched_kit.advance(seconds=70)
    assert await guard(policy, await redsched_kit.scheduler.store(), "payments", ok) == "ok"


async def ok() -> str:
    return "ok"


@pytest.mark.parametrize("value", NUMBERS)
@pytest.mark.parametrize("field", ["outcomes", "outcomes_from", "dead_bytes", "outcomes_bytes"])
async def test_what_is_counted_on_the_clock_makes_no_script_search_for_ever(
    served: tuple[BackgroundTaskScheduler, Shard], field: str, value: str
) -> None:
    scheduler, shard = served
    await shard.link.command("HSET", shard.keys.clock, field, value)
    async with asyncio.timeout(10):
        await run_one(scheduler, "after")


@pytest.mark.parametrize("value", [number for number in NUMBERS if number != "9007199254740991"])
async def test_what_a_client_confirmed_makes_no_script_count_for_ever(
    served: tuple[BackgroundTaskScheduler, Shard], value: str
) -> None:
    scheduler, shard = served
    await run_one(scheduler, "before")
    [key] = [key async for key in _keys(shard, "requests:")]
    await shard.link.command("HSET", key, "confirmed", value)
    async with asyncio.timeout(10):
        await run_one(scheduler, "after")


async def _keys(shard: Shard, kind: str) -> AsyncIterator[bytes]:
    _, found = await shard.link.command("SCAN", 0, "MATCH", shard.keys.every(kind), "COUNT", 100_000)
    for key in found:
        yield key


@pytest.mark.parametrize("score", ["-inf", "-1e308", "-9007199254740993", "1.5", "-1"])
async def test_a_run_beside_another_that_is_due_at_no_instant_gets_a_name_in_time(
    served: tuple[BackgroundTaskScheduler, Shard], score: str
) -> None:
    scheduler, shard = served
    for fire in (score, "-inf", "0", "2", "-9007199254740992"):
        await shard.link.command("HSET", shard.keys.run(f"order@{fire}"), "job", "order")
    await shard.link.command(
        "HSET", shard.keys.job("order"), "record", b"r", "fence", "1", "owner", "w", "max_instances", 9
    )
    await shard.link.command("ZADD", shard.keys.due("default"), score, "order")
    async with asyncio.timeout(10):
        await run_one(scheduler, "after")


FIELDS = ["next_ms", "after_ms", "fire_ms", "attempt", "recoveries", "postponed", "begun", "version", "runs_left",
          "max_instances", "blocked_ms", "max_recoveries", "excused", "fence", "fires"]  # fmt: skip


@pytest.mark.parametrize("periodic", [False, True])
async def test_no_field_of_a_job_stops_the_others(
    served: tuple[BackgroundTaskScheduler, Shard], *, periodic: bool
) -> None:
    scheduler, shard = served
    scheduler.register(note)
    await scheduler.schedule_interval("model", note, args=["model"], hours=5, job_id="model")
    record = await shard.link.command("HGET", shard.keys.job("model"), "record")
    for number, value in enumerate(NUMBERS):
        for field in FIELDS:
            job = f"{field}-{number}"
            more: list[Any] = ["periodic", 1, "next_ms", 1, "after_ms", 2] if periodic else []
            await shard.link.command("HSET", shard.keys.job(job), "record", record, *more, field, value)
            await shard.link.command("ZADD", shard.keys.due("default"), 1, job)
    await run_one(scheduler, "after")
    before = await sent(shard)
    await asyncio.sleep(0.5)
    assert await sent(shard) - before < 60


@pytest.mark.parametrize("field", ["until_ms", "deputy_ms"])
@pytest.mark.parametrize("value", NUMBERS)
async def test_who_sleeps_until_no_instant_lets_nobody_oversleep(
    served: tuple[BackgroundTaskScheduler, Shard], field: str, value: str
) -> None:
    scheduler, shard = served
    await run_one(scheduler, "before")
    idle = f"{shard.keys.tag}idle:default"
    await shard.link.command("HSET", idle, "leader", "nobody", "deputy", "nobody", "deputy_ms", "1", field, value)
    await run_one(scheduler, "after")
    delayed = await scheduler.schedule_delayed_task("delayed", note, args=["delayed"], delay_minutes=0.01)
    assert (await delayed.result(timeout=5)).success


@pytest.mark.parametrize("score", ["inf", "1e308", "4102444800000"])
async def test_a_worker_whose_heartbeat_is_of_the_future_is_gone_soon(redsched_kit: Kit, score: str) -> None:
    shard = (await redsched_kit.scheduler.store()).shards[0]
    await shard.link.command("ZADD", shard.keys.workers, score, "nobody")
    redsched_kit.scheduler.register(note)
    await redsched_kit.scheduler.make_worker().run_once()
    assert await shard.link.command("ZSCORE", shard.keys.workers, "nobody") is None
