"""Who waits for a result while connections break and waiting processes die: others get theirs, and nothing stays."""

from __future__ import annotations

import asyncio
import sys

import pytest

from redsched import BackgroundTaskScheduler
from redsched.testing.proxy import FaultProxy
from tests.faults.local import Make, effect
from tests.servers import LocalServer

WAIT = """
import asyncio, sys
from redsched import BackgroundTaskScheduler

async def main(url, prefix, *ids):
    scheduler = BackgroundTaskScheduler(url, prefix, declared_tasks=False)
    await asyncio.gather(*(scheduler.wait_for_result(job_id) for job_id in ids))

asyncio.run(main(*sys.argv[1:]))
"""


async def wishes(scheduler: BackgroundTaskScheduler, job_id: str) -> list[bytes]:
    shard = (await scheduler.store()).shard(job_id)
    found = await shard.link.command("HGET", shard.keys.job(job_id), "wish")
    return (found or b"").split()


@pytest.mark.parametrize("fault", ["drop_next_reply", "drop_next_request", "cut_mid_reply"])
async def test_each_who_waits_through_faults_is_told(make: Make, fault: str) -> None:
    with LocalServer() as server:
        async with FaultProxy("127.0.0.1", server.port) as proxy:
            worker, reader = make(server.url), make(proxy.url)
            await worker.start()
            waits: list[asyncio.Task[object]] = []
            for number in range(40):
                handle = await worker.schedule_delayed_task("effect", effect, 0.3, args=[number])
                getattr(proxy, fault)(matching=(b"EVALSHA", b"BLPOP", b"LPOP")[number % 3])
                waits.append(asyncio.create_task(reader.wait_for_result(handle.id, timeout=20)))
                await asyncio.sleep(0.02)
            found = await asyncio.gather(*waits)
            assert [one.result for one in found] == list(range(40))  # type: ignore[attr-defined]
            assert proxy.dropped > 3
            await reader.shutdown()
            await worker.shutdown()


async def test_a_process_that_is_killed_while_it_waits_keeps_nobody_else_waiting(make: Make) -> None:
    with LocalServer() as server:
        scheduler = make(server.url)
        once = await scheduler.schedule_delayed_task("effect", effect, 3600, args=["once"])
        each = await scheduler.schedule_interval("effect", effect, hours=1, args=["each"])
        command = (sys.executable, "-c", WAIT, server.url, scheduler.prefix, once.id, each.id)
        process = await asyncio.create_subprocess_exec(*command)
        waits = [asyncio.create_task(one.result(timeout=20)) for one in (once, each)]
        async with asyncio.timeout(20):
            while min([len(await wishes(scheduler, one.id)) for one in (once, each)]) < 2:
                await asyncio.sleep(0.05)
        process.kill()
        await process.wait()
        await scheduler.start()
        await scheduler.run_now(once.id)
        await each.run_now()
        assert [one.result for one in await asyncio.gather(*waits)] == ["once", "each"]
        assert await wishes(scheduler, each.id) == [], "the dead one is forgotten as well"
        shard = (await scheduler.store()).shards[0]
        for key in await shard.link.command("KEYS", shard.keys.every("answers:")):
            assert 0 < await shard.link.command("PTTL", key) <= 60_000, "what was sent to it expires"
        await scheduler.shutdown()
