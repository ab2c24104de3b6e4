"""Views of what is stored: one entry without sense is skipped, and hides no other."""

from __future__ import annotations

import asyncio
from typing import Any

import msgpack
import pytest

from redsched import BackgroundTaskScheduler, Event
from redsched.metrics.collector import TaskMetrics
from redsched.testing import Kit, fresh_prefix
from redsched.worker.tally import Tally

LAST_ID = "18446744073709551615-18446744073709551615"
ODD: dict[str, Any] = {
    "settled": [[["a"], 1, ["done"], 1, 1, 1, 1, [], None, 0, {}]],
    "moved": [[["dead"], "job", None, 1, 1, 1, 1, None], [{}, {}, {}, {}, {}, {}, {}, {}]],
    "stalled": [1, 2, float("inf"), 3],
    "scheduled": [[], {}, 1, None],
    "claimed": [1, "a@99999999999999999999999"],
    "refused": [[[]]],
}


async def note(name: str) -> str:
    return name


@pytest.fixture
def scheduler(redsched_url: str) -> BackgroundTaskScheduler:
    return BackgroundTaskScheduler(redsched_url, fresh_prefix(), declared_tasks=False)


async def heard_of(scheduler: BackgroundTaskScheduler, heard: list[Event], name: str) -> None:
    handle = await scheduler.schedule_immediate_task(name, note, args=[name], job_id=name)
    assert (await handle.result(timeout=10)).result == name
    async with asyncio.timeout(15):
        while not any(event.kind == "done" and event.job_id == name for event in heard):
            await asyncio.sleep(0.02)


async def test_an_event_without_sense_is_skipped_and_hides_no_other(scheduler: BackgroundTaskScheduler) -> None:
    heard: list[Event] = []
    scheduler.add_listener(heard.append, kinds=["done", "dead", "scheduled"])
    async with scheduler:
        [shard] = (await scheduler.store()).shards
        for field, value in ODD.items():
            for data in (msgpack.packb(value), b"\xc1", b"\xdd\xff\xff\xff\xff", msgpack.packb(7)):
                await shard.link.command("XADD", shard.keys.events, "*", "at", "1", "by", b"\xff", field, data)
        for at in (b"", b"inf", b"9" * 5000, b"\xff"):
            await shard.link.command("XADD", shard.keys.events, "*", "at", at, "by", "w")
        await shard.link.command("XADD", shard.keys.events, "*", "odd", "entry")
        await heard_of(scheduler, heard, "after")
        kinds = [event.kind for event in await scheduler.get_history()]
        assert "done" in kinds
        assert all(isinstance(event.kind, str) and isinstance(event.job_id, str) for event in heard)
        await scheduler.clear_all_jobs()


async def test_a_stream_whose_ids_are_used_up_begins_again_and_its_readers_with_it(
    scheduler: BackgroundTaskScheduler,
) -> None:
    heard: list[Event] = []
    scheduler.add_listener(heard.append)
    async with scheduler:
        [shard] = (await scheduler.store()).shards
        await heard_of(scheduler, heard, "before")
        await shard.link.command("XADD", shard.keys.events, LAST_ID, "at", "1", "by", "w")
        await asyncio.sleep(0.1)
        await heard_of(scheduler, heard, "after")
        await scheduler.clear_all_jobs()


@pytest.mark.alone
async def test_heavy_entries_do_not_hold_the_event_loop(scheduler: BackgroundTaskScheduler) -> None:
    longest = 0.0

    async def watch() -> None:
        nonlocal longest
        loop = asyncio.get_running_loop()
        while True:
            at = loop.time()
            await asyncio.sleep(0.005)
            longest = max(longest, loop.time() - at)

    heard: list[Event] = []
    scheduler.add_listener(heard.append, kinds=["done"])
    async with scheduler:
        [shard] = (await scheduler.store()).shards
        watching = asyncio.create_task(watch())
        data = msgpack.packb(["a"] * 1_500_000)
        for _ in range(3):
            await shard.link.command("XADD", shard.keys.events, "*", "at", "1", "by", "w", "scheduled", data)
        await asyncio.sleep(1)
        watching.cancel()
        await scheduler.clear_all_jobs()
    assert longest < 1.0, "each of these entries takes seconds"


@pytest.mark.parametrize("score", ["inf", "-inf", "1e308"])
async def test_every_view_shows_what_can_be_read_whatever_the_scores(redsched_kit: Kit, score: str) -> None:
    scheduler = redsched_kit.scheduler
    [shard] = (await scheduler.store()).shards
    await scheduler.schedule_delayed_task("later", note, args=["a"], delay_minutes=5, job_id="later")
    await shard.link.command("ZADD", shard.keys.workers, score, "w")
    await shard.link.command(
        "HSET", shard.keys.worker("w"), "info", msgpack.packb({"pid": 2**63, "tasks": 5, "host": []})
    )
    await shard.link.command("ZADD", shard.keys.workers, score, "wrong")
    await shard.link.command("SET", shard.keys.worker("wrong"), "of another")
    await shard.link.command("ZADD", shard.keys.dead, score, "later")
    await shard.link.command("ZADD", shard.keys.due("default"), score, "later")
    assert "w" in await scheduler.get_workers()
    assert [job.id async for job in scheduler.iter_jobs()] == ["later"]
    await scheduler.get_dead()
    await scheduler.collect_metrics()
    from redsched.cli.serving import read_fleet

    assert [worker.id for worker in (await read_fleet(scheduler)).workers] == ["w"]


async def test_a_message_without_sense_does_not_keep_a_wait_from_its_answer(redsched_url: str) -> None:
    scheduler = BackgroundTaskScheduler(redsched_url, fresh_prefix(), declared_tasks=False)
    async with scheduler:
        [shard] = (await scheduler.store()).shards
        handle = await scheduler.schedule_delayed_task("later", note, args=["a"], delay_minutes=0.02, job_id="later")
        waiting = asyncio.create_task(handle.result(timeout=10))
        await asyncio.sleep(0.3)
        wish = await shard.link.command("HGET", shard.keys.job("later"), "wish")
        key = shard.keys.answers(wish.decode().split()[0])
        for message in (
            b"",
            b"\xff",
            b"later\nlater\n" + msgpack.packb([[], {}, 1, "x", float("inf"), 0, "x", {}, None, []]),
        ):
            await shard.link.command("RPUSH", key, message)
        assert (await waiting).result == "a"
        await scheduler.clear_all_jobs()


async def test_a_refused_run_whose_id_is_no_text_is_counted_as_refused() -> None:
    tally, metrics = Tally(), TaskMetrics()
    rows = [[run_id, 7, "done", 1, 1, 0, 0, "task", False, 0, ""] for run_id in ("\udcff", "fine")]
    tally.settled(rows, [b"\xff"])
    tally.fold(metrics)
    assert metrics.get_counter("runs_total", task="task", outcome="done") == 1


@pytest.mark.parametrize("key", ["parking", "parked:x"])
async def test_metrics_go_on_while_a_key_of_what_is_parked_is_of_another_type(redsched_kit: Kit, key: str) -> None:
    [shard] = (await redsched_kit.scheduler.store()).shards
    await shard.link.command("ZADD", shard.keys.parking, 1, "x")
    await shard.link.command("DEL", shard.keys.tag + key)
    await shard.link.command("SET", shard.keys.tag + key, "y")
    await redsched_kit.scheduler.schedule_delayed_task("job", note, delay_minutes=9, args=["x"])
    await redsched_kit.scheduler.collect_metrics()
