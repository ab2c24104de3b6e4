"""A key of another type than redsched keeps there stops nobody: it is put aside, told, and the work goes on."""

from __future__ import annotations

import asyncio

import pytest

from redsched import BackgroundTaskScheduler
from redsched.testing import Kit, fresh_prefix
from tests.invariants import check

ran: list[str] = []


async def note(name: str) -> None:
    ran.append(name)


SHARED = ["clock", "events", "leases", "dead", "workers", "due:default", "due:other"]
HINTS = ["idle:default", "wake:default", "mail:<worker>"]
"""What says who sleeps, and wakes it: nothing is lost with it, so it is thrown away."""


@pytest.mark.parametrize("name", [*SHARED, *HINTS, "worker:<worker>", "due:local:<worker>"])
async def test_a_shared_key_of_another_type_is_put_aside_and_the_work_goes_on(name: str, redsched_url: str) -> None:
    ran.clear()
    scheduler = BackgroundTaskScheduler(
        redsched_url, fresh_prefix(), lease=1.0, queues=["default", "other"], declared_tasks=False
    )
    async with scheduler:
        before = await scheduler.schedule_immediate_task("before", note, args=["before"])
        await before.result(timeout=10)
        [shard] = (await scheduler.store()).shards
        is_hint = name in HINTS
        name = name.replace("<worker>", scheduler.id)
        key = shard.keys.tag + name
        await shard.link.command("SET", key, "of another")
        for queue in ("default", "other"):
            handle = await scheduler.schedule_immediate_task("after", note, args=[queue], queue=queue, retry=None)
            assert (await handle.result(timeout=10)).success
        for _ in range(100):  # a key that only an idle worker needs is looked at by the next one
            if await shard.link.command("TYPE", key) != b"string":
                break
            await asyncio.sleep(0.05)
        assert await shard.link.command("TYPE", key) != b"string"
        told = [(e.job_id, e.reason, e.error) for e in await scheduler.get_history() if e.kind == "quarantined"]
        if not is_hint:
            assert await shard.link.command("GET", f"{shard.keys.tag}quarantine:{name}") == b"of another"
            assert await shard.link.command("PTTL", f"{shard.keys.tag}quarantine:{name}") > 0
            assert [(job_id, reason) for job_id, reason, _ in told] == [(name, "wrong_type")]
            assert "string" in str(told[0][2]) or "WRONGTYPE" in str(told[0][2])
        assert scheduler.running
        assert scheduler.worker is not None
        assert scheduler.worker.serving
        assert ran == ["before", "default", "other"]
        await check(await scheduler.store())
        await scheduler.clear_all_jobs()


@pytest.mark.parametrize("kind", ["job", "run"])
async def test_a_job_whose_key_is_of_another_type_can_be_scheduled(kind: str, redsched_kit: Kit) -> None:
    ran.clear()
    scheduler = redsched_kit.scheduler
    [shard] = (await scheduler.store()).shards
    key = f"{shard.keys.tag}{kind}:order-1"
    await shard.link.command("SET", key, "of another")
    handle = await scheduler.schedule_immediate_task("order", note, args=["order"], job_id="order-1")
    assert await scheduler.make_worker().run_once() == 1
    assert (await handle.result(timeout=5)).success
    assert ran == ["order"]


@pytest.mark.parametrize("kind", ["live", "waiting"])
async def test_a_job_whose_runs_are_of_another_type_ends_with_a_reason_and_its_neighbour_runs(
    kind: str, redsched_kit: Kit
) -> None:
    ran.clear()
    scheduler = redsched_kit.scheduler
    [shard] = (await scheduler.store()).shards
    await shard.link.command("SET", f"{shard.keys.tag}{kind}:order-1", "of another")
    await scheduler.schedule_immediate_task("order", note, args=["order"], job_id="order-1")
    neighbour = await scheduler.schedule_immediate_task("neighbour", note, args=["neighbour"])
    await scheduler.make_worker().run_once()
    assert (await neighbour.result(timeout=5)).success
    if "order" not in ran:
        assert [(job.id, job.reason) for job in await scheduler.get_dead()] == [("order-1", "unreadable")]
