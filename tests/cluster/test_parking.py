"""What no worker knows is parked on each shard of a cluster, and stays right while the slot of one moves."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from redsched import BackgroundTaskScheduler, JobSpec
from redsched.store.cluster import slot_of
from redsched.testing import fresh_prefix
from redsched.testing.clusters import ClusterServers
from tests.cluster.test_cluster import note, quiet, ran
from tests.faults.local import until
from tests.invariants import check

COUNT = 300


async def parked(client: BackgroundTaskScheduler) -> list[int]:
    """How many members lie in all places, of each shard."""
    found: list[int] = []
    for shard in (await client.store()).shards:
        places = await shard.link.command("ZRANGE", shard.keys.parking, 0, -1)
        found.append(sum([await shard.link.command("ZCARD", shard.keys.parked(place.decode())) for place in places]))
    return found


@pytest.mark.parametrize("comes", ["before the move", "during the move", "after the move"])
async def test_parked_jobs_run_once_on_all_shards_though_the_slot_of_one_moves(comes: str) -> None:
    ran.clear()
    with ClusterServers() as servers:
        prefix = fresh_prefix()
        ignorant, client, knows = (
            BackgroundTaskScheduler(servers.url, prefix, shards=3, retry_for=30, declared_tasks=False, lease=5.0)
            for _ in range(3)
        )
        knows.register(note)
        await ignorant.start()
        await client.start(worker=False)
        await client.schedule_many([JobSpec("job", note, delay=0, args=[n]) for n in range(COUNT)])
        async with asyncio.timeout(30):
            while sum(await parked(client)) < COUNT:
                await asyncio.sleep(0.05)
        assert all(await parked(client))
        slot = slot_of((await client.store()).shards[0].keys.clock)
        source = servers.owner(slot)
        target = next(node for node in servers.primaries if node is not source)
        if comes == "before the move":
            await knows.start()
        moving = asyncio.create_task(asyncio.to_thread(servers.move, slot, target, 0.02))
        if comes == "during the move":
            await asyncio.sleep(0.2)
            await knows.start()
        await moving
        if comes == "after the move":
            assert sum(await parked(client)) == COUNT
            await knows.start()
        await until(lambda: len(ran) >= COUNT, 30)
        await quiet(client)
        assert Counter(ran) == Counter(range(COUNT))
        assert sum(await parked(client)) == 0
        assert await client.get_dead() == []
        await check(await client.store())
        for scheduler in (knows, ignorant, client):
            await scheduler.shutdown()
