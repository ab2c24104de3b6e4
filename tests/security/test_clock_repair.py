"""`redsched doctor --repair clock`: what is wrong with the stored clock is found, told, and set right."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import msgpack
import pytest
from typer.testing import CliRunner

from redsched import SchedulerStateError, current_run
from redsched.cli.root import build
from redsched.client import clock_repair
from redsched.store.rows import PollRequest
from redsched.store.transitions import Shard
from redsched.store.wire import Resend
from redsched.testing import Kit

ran: list[str] = []
tokens: list[int] = []
CENTURY_MS = 36_525 * 86_400_000
DAY_MS = 86_400_000
QUEUES = msgpack.packb(["default"]) or b""


async def note(name: str = "job") -> None:
    ran.append(name)
    tokens.append(current_run().fencing_token)


@pytest.fixture
async def shard(redsched_kit: Kit) -> Shard:
    ran.clear()
    tokens.clear()
    redsched_kit.scheduler.register(note)
    return (await redsched_kit.scheduler.store()).shards[0]


async def true_ms(shard: Shard) -> int:
    seconds, micros = map(int, await shard.link.command("TIME"))
    return seconds * 1000 + micros // 1000


async def write(shard: Shard, **fields: Any) -> None:
    await shard.link.command("HSET", shard.keys.clock, *[part for pair in fields.items() for part in pair])


async def is_right(shard: Shard) -> bool:
    return abs(await shard.travel() - await true_ms(shard)) < 2000


async def test_a_clock_without_a_fault_is_left_alone(redsched_kit: Kit, shard: Shard) -> None:
    await redsched_kit.scheduler.schedule_interval("hourly", note, hours=1)
    before = await shard.link.command("HGETALL", shard.keys.clock)
    made = await redsched_kit.scheduler.repair_clock()
    assert (made.faults, made.moved, made.rescheduled, made.left) == ([], 0, [], [])
    assert await shard.link.command("HGETALL", shard.keys.clock) == before


FAULTS = {
    "hours ahead": ({"now_us": lambda now: (now + DAY_MS // 2) * 1000}, "now_us is +43,"),
    "a century ahead": ({"now_us": lambda now: (now + CENTURY_MS) * 1000}, "more than a day ahead"),
    "no number": ({"now_us": lambda _: "inf"}, "now_us is b'inf'"),
    "a token beyond": ({"fence": lambda _: 2**53 - 1}, "fence is b'9007199254740991'"),
    "time travel": ({"offset_ms": lambda _: CENTURY_MS}, "offset_ms moves time by +36,525.0 days"),
    "back in time": ({"offset_ms": lambda _: -3_600_000}, "offset_ms moves time by -3,600.0 s"),
    "no offset": ({"offset_ms": lambda _: "nan"}, "offset_ms is b'nan'"),
}


@pytest.mark.parametrize("fault", FAULTS)
async def test_each_fault_is_told_and_only_a_repair_changes_it(fault: str, redsched_kit: Kit, shard: Shard) -> None:
    scheduler = redsched_kit.scheduler
    fields, why = FAULTS[fault]
    now = await true_ms(shard)
    await write(shard, **{name: make(now) for name, make in fields.items()})
    before = await shard.link.command("HGETALL", shard.keys.clock)
    [told] = (await scheduler.repair_clock(dry_run=True)).faults
    assert why in told
    assert shard.keys.clock in told
    assert await shard.link.command("HGETALL", shard.keys.clock) == before
    [repaired] = (await scheduler.repair_clock()).faults
    assert repaired.partition(" is ")[0] == told.partition(" is ")[0]
    assert await is_right(shard)
    assert (await scheduler.repair_clock()).faults == []
    await scheduler.schedule_immediate_task("now", note, args=["now"])
    await scheduler.make_worker().run_once()
    assert ran == ["now"]
    assert tokens[0] < 2**53 - 1


async def test_periodic_jobs_that_were_put_a_century_ahead_fire_by_their_schedule_again(
    redsched_kit: Kit, shard: Shard
) -> None:
    scheduler = redsched_kit.scheduler
    await scheduler.schedule_interval("hourly", note, args=["hourly"], hours=1, job_id="hourly")
    await scheduler.schedule_cron("daily", note, "0 8 * * *", args=["daily"], job_id="daily")
    paused = await scheduler.schedule_interval("paused", note, hours=1, job_id="paused")
    await paused.pause()
    await scheduler.schedule_interval("chosen", note, hours=1, job_id="chosen")
    at = datetime.now(UTC).replace(microsecond=0) + timedelta(days=400)
    await scheduler.modify_job("chosen", next_run_time=at)
    later = await scheduler.schedule_delayed_task("later", note, 3600, args=["later"], job_id="later")
    worker = scheduler.make_worker()
    await write(shard, offset_ms=CENTURY_MS)
    await worker.run_once()
    assert sorted(ran) == ["daily", "hourly", "job", "later"], "they ran at once: that is not to be undone"
    await scheduler.schedule_at("meant", note, datetime.now(UTC) + timedelta(days=50_000), job_id="meant")
    ran.clear()
    made = await scheduler.repair_clock()
    assert made.rescheduled == ["chosen", "daily", "hourly"]
    assert made.left == ["meant"]
    now = datetime.now(UTC)
    for job_id, longest in (("hourly", timedelta(hours=1)), ("daily", timedelta(days=1))):
        view = await scheduler.get_job(job_id)
        assert view is not None
        assert view.next_run_time is not None
        assert now - timedelta(seconds=5) < view.next_run_time <= now + longest
    assert await later.get() is None
    await worker.run_once()
    assert ran == []
    await redsched_kit.travel(hours=1)
    await worker.run_once()
    assert "hourly" in ran


async def test_an_instant_that_was_chosen_for_a_periodic_job_stays(redsched_kit: Kit, shard: Shard) -> None:
    scheduler = redsched_kit.scheduler
    chosen = await scheduler.schedule_interval("chosen", note, hours=1, job_id="chosen")
    at = datetime.now(UTC).replace(microsecond=0) + timedelta(days=400)
    await scheduler.modify_job("chosen", next_run_time=at)
    await write(shard, now_us=(await true_ms(shard) + 3_600_000) * 1000)
    made = await scheduler.repair_clock()
    assert made.rescheduled == []
    view = await chosen.get()
    assert view is not None
    assert view.next_run_time == at


async def test_leases_heartbeats_and_attempts_are_moved_back_with_the_clock(redsched_kit: Kit, shard: Shard) -> None:
    scheduler = redsched_kit.scheduler
    await write(shard, offset_ms=CENTURY_MS)
    await scheduler.schedule_immediate_task("held", note, args=["held"], job_id="held")
    reply = await shard.poll("gone", QUEUES, PollRequest(1, 1, heartbeat={}), resend=Resend(0.0))
    assert len(reply.claims) == 1
    await scheduler.schedule_immediate_task("tried", note, job_id="tried")
    await shard.link.command("HSET", shard.keys.job("tried"), "attempt", 1, "fire_ms", 1_000)
    await shard.link.command("ZADD", shard.keys.due("default"), await shard.travel() + 5_000, "tried")
    made = await scheduler.repair_clock()
    now = await true_ms(shard)
    assert made.moved >= 3
    lease = float(await shard.link.command("ZSCORE", shard.keys.leases, "held"))
    assert now < lease <= now + shard.limits.lease_ms + 2000
    assert float(await shard.link.command("ZSCORE", shard.keys.workers, "gone")) <= now
    due = float(await shard.link.command("ZSCORE", shard.keys.due("default"), "tried"))
    assert now <= due + 2000 <= now + 8_000
    await shard.link.command("ZADD", shard.keys.leases, 1, "held")
    await scheduler.make_worker().run_once()
    assert ran == ["held"], "its worker is gone: it was recovered"


async def test_a_running_worker_goes_on_by_the_repaired_clock(redsched_kit: Kit, shard: Shard) -> None:
    scheduler = redsched_kit.scheduler
    async with scheduler:
        await write(shard, offset_ms=CENTURY_MS)
        handle = await scheduler.schedule_immediate_task("before", note, args=["before"])
        await handle.result(timeout=10)
        await scheduler.repair_clock()
        handle = await scheduler.schedule_delayed_task("after", note, 0.2, args=["after"])
        await handle.result(timeout=10)
        assert ran == ["before", "after"]
        assert await is_right(shard)


async def test_nothing_is_repaired_where_it_is_not_known_which_clock_is_right(
    redsched_kit: Kit, shard: Shard, monkeypatch: pytest.MonkeyPatch
) -> None:
    await write(shard, offset_ms=1000)
    before = await shard.link.command("HGETALL", shard.keys.clock)
    true = clock_repair.time.time()
    monkeypatch.setattr(clock_repair.time, "time", lambda: true + 3600)
    with pytest.raises(SchedulerStateError, match="apart, and one of them is wrong; nothing was changed"):
        await redsched_kit.scheduler.repair_clock()
    assert await shard.link.command("HGETALL", shard.keys.clock) == before


def test_the_command_line_asks_first(redsched_url: str) -> None:
    import redis

    base = ["--url", redsched_url, "--prefix", "repair-asks", "doctor", "--repair", "clock"]
    with redis.from_url(redsched_url) as client:
        key = "{repair-asks:0}:clock"
        try:
            client.delete(key)
            assert CliRunner().invoke(build(), base).output.strip() == "the stored clock has no fault"
            client.hset(key, "offset_ms", CENTURY_MS)
            refused = CliRunner().invoke(build(), base, input="n\n")
            assert refused.exit_code == 5
            assert "offset_ms moves time by +36,525.0 days" in refused.output
            assert "Jobs that ran too early have run" in refused.output
            assert client.hget(key, "offset_ms") == str(CENTURY_MS).encode()
            done = CliRunner().invoke(build(), [*base, "--yes"])
            assert done.exit_code == 0
            assert "repaired: 1 faults" in done.output
            assert client.hget(key, "offset_ms") is None
            wrong = CliRunner().invoke(build(), [*base[:-1], "calendar"])
            assert wrong.exit_code == 2
        finally:
            client.delete(*client.keys("{repair-asks:*"))
