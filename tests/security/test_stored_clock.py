"""The clock that Redis keeps is believed only where it can be true: nobody moves time, or a token, by writing to it."""

from __future__ import annotations

from typing import Any

import pytest

from redsched import current_run
from redsched.store.transitions import Shard
from redsched.testing import Kit

tokens: list[int] = []


async def note() -> None:
    tokens.append(current_run().fencing_token)


@pytest.fixture
async def shard(redsched_kit: Kit) -> Shard:
    tokens.clear()
    redsched_kit.scheduler.register(note)
    return (await redsched_kit.scheduler.store()).shards[0]


NONSENSE = [
    "inf",
    "-inf",
    "nan",
    "1e300",
    "0x7fffffffffffff",
    "9007199254740993",
    "-1",
    "1.5",
    " 1",
    "",
    "now",
    b"\xff",
]


@pytest.mark.parametrize("value", [*NONSENSE, "9007199254740991", "4102444800000000"])
async def test_no_stored_instant_makes_a_job_early_or_stops_a_worker(
    redsched_kit: Kit, shard: Shard, value: str | bytes
) -> None:
    scheduler = redsched_kit.scheduler
    before = await shard.travel()
    delayed = await scheduler.schedule_delayed_task("later", note, delay_minutes=48 * 60)
    hourly = await scheduler.schedule_interval("hourly", note, hours=49)
    await shard.link.command("HSET", shard.keys.clock, "now_us", value)
    await scheduler.schedule_immediate_task("now", note)
    assert await scheduler.make_worker().run_once() == 1
    assert 0 <= await shard.travel() - before < 60_000, "time went on as if nothing had been written"
    for handle in (delayed, hourly):
        view = await handle.get()
        assert view is not None
        assert view.next_run_time is not None


@pytest.mark.parametrize("value", [*NONSENSE, "9007199254740991", "9007199254740992"])
async def test_no_stored_token_is_given_to_two_runs(redsched_kit: Kit, shard: Shard, value: str | bytes) -> None:
    for _ in range(3):
        await shard.link.command("HSET", shard.keys.clock, "fence", value)
        await redsched_kit.scheduler.schedule_immediate_task("now", note)
        assert await redsched_kit.scheduler.make_worker().run_once() == 1
    assert len(set(tokens)) == 3
    assert tokens == sorted(tokens), "tokens only grow"


@pytest.mark.parametrize("value", [*NONSENSE, "9007199254740991", "-9007199254740991", "99999999999999999999"])
async def test_no_stored_offset_ends_time(redsched_kit: Kit, shard: Shard, value: Any) -> None:
    before = await shard.travel()
    await shard.link.command("HSET", shard.keys.clock, "offset_ms", value)
    await redsched_kit.scheduler.schedule_immediate_task("now", note)
    assert await redsched_kit.scheduler.make_worker().run_once() == 1
    assert 0 <= await shard.travel() - before < 60_000
