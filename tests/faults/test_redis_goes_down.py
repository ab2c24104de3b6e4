"""Redis is restarted, killed, full or read-only: workers wait and go on, callers get one clear error."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest
import redis

from redsched import JobSpec, StoreFullError, StoreReadOnlyError
from tests.faults.local import Make, effect, ran, until
from tests.servers import LocalServer


@pytest.mark.parametrize("how", ["restart", "kill"])
async def test_with_aof_nothing_acknowledged_is_lost_over_a(how: str, make: Make) -> None:
    with LocalServer(aof="always") as server:
        scheduler = make(server.url, retry_for=20)
        await scheduler.start()
        accepted: list[int] = []
        stop = asyncio.Event()

        async def produce() -> None:
            number = 0
            while not stop.is_set():
                await scheduler.schedule_immediate_task("effect", effect, args=[number], job_id=f"job-{number}")
                accepted.append(number)
                number += 1

        producing = asyncio.create_task(produce())
        later = await scheduler.schedule_delayed_task("later", effect, delay_seconds=3, args=["later"])
        for _ in range(2):
            before = len(accepted)
            await until(lambda before=before: len(accepted) > before + 50)
            if how == "restart":
                await asyncio.to_thread(server.restart)
            else:
                await asyncio.to_thread(server.kill)
                await asyncio.to_thread(server.start)
        before = len(accepted)
        await until(lambda: len(accepted) > before + 50)
        stop.set()
        await producing
        await until(lambda: set(accepted) <= set(ran), 30)
        assert (await later.result(timeout=15)).success
        # A run whose settle was under way is settled after the restart; it is not run again.
        assert Counter(ran).most_common(1)[0][1] == 1
        assert await scheduler.get_jobs() == []


async def test_a_flushed_script_cache_and_killed_connections_do_no_harm(make: Make) -> None:
    with LocalServer() as server:
        scheduler = make(server.url)
        await scheduler.start()
        client = server.client()
        for number in range(300):
            if number % 50 == 10:
                client.script_flush()
            if number % 50 == 30:
                client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
            await scheduler.schedule_immediate_task("effect", effect, args=[number])
        await until(lambda: len(ran) >= 300)
        await scheduler.shutdown()
        assert sorted(ran) == list(range(300))
        client.close()


async def test_a_full_redis_refuses_new_jobs_and_stores_nothing_while_workers_go_on(make: Make) -> None:
    with LocalServer("--maxmemory-policy", "noeviction") as server:
        scheduler = make(server.url)
        await scheduler.start(worker=False)
        await scheduler.schedule_many([JobSpec("effect", effect, args=[n]) for n in range(200)])
        client = server.client()
        keys = client.dbsize()
        client.config_set("maxmemory", client.info("memory")["used_memory"] - 50_000)
        with pytest.raises(StoreFullError, match="out of memory"):
            await scheduler.schedule_immediate_task("effect", effect, args=["refused"])
        assert client.dbsize() == keys
        worker = scheduler.make_worker()
        assert await worker.run_once() == 200  # claims and settles are allowed: they make room
        assert sorted(ran) == list(range(200))
        client.config_set("maxmemory", 0)
        await scheduler.schedule_immediate_task("effect", effect, args=["accepted"])
        assert await worker.run_once() == 1
        client.close()


async def test_a_replica_is_named_as_such(make: Make) -> None:
    with LocalServer() as server:
        scheduler = make(server.url, retry_for=0.2)
        await scheduler.start(worker=False)
        client = server.client()
        client.replicaof("127.0.0.1", "1")
        with pytest.raises(StoreReadOnlyError):
            await scheduler.schedule_immediate_task("effect", effect, args=[1])
        client.replicaof("NO", "ONE")
        await scheduler.schedule_immediate_task("effect", effect, args=[1])
        client.close()


async def test_a_redis_that_throws_keys_away_is_warned_of(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    with LocalServer("--maxmemory", "100mb", "--maxmemory-policy", "noeviction") as server:
        await make(server.url).start(worker=False)
        assert caplog.messages == []
        client = server.client()
        client.config_set("maxmemory-policy", "allkeys-lru")
        client.close()
        await make(server.url).start(worker=False)
        assert [m for m in caplog.messages if "maxmemory-policy allkeys-lru" in m and "set noeviction" in m]


async def test_time_never_goes_back_and_tokens_go_on_growing(make: Make) -> None:
    with LocalServer() as server:
        scheduler = make(server.url)
        await scheduler.start(worker=False)
        shard = (await scheduler.store()).shards[0]
        client: redis.Redis = server.client()
        await scheduler.schedule_immediate_task("effect", effect, args=[1])
        worker = scheduler.make_worker()
        await worker.run_once()
        # As after a failover to a replica whose clock is an hour behind, and which lost the last writes.
        ahead = int(client.hget(shard.keys.clock, "now_us")) + 3_600_000_000
        client.hset(shard.keys.clock, "now_us", ahead)
        fence = int(client.hget(shard.keys.clock, "fence"))
        client.hdel(shard.keys.clock, "fence")
        assert (await scheduler.now()).timestamp() * 1e6 >= ahead - 1000
        await scheduler.schedule_immediate_task("effect", effect, args=[2])
        await worker.run_once()
        assert int(client.hget(shard.keys.clock, "fence")) > fence
        assert int(client.hget(shard.keys.clock, "now_us")) >= ahead
        assert ran == [1, 2]
        client.close()


async def test_an_idle_fleet_costs_next_to_nothing_and_one_job_wakes_one_worker(make: Make) -> None:
    with LocalServer() as server:
        fleet = [make(server.url) for _ in range(20)]
        for scheduler in fleet:
            scheduler.register(effect)
            await scheduler.start()
        client = server.client()

        def calls(name: str) -> int:
            stats = client.info("commandstats").get(f"cmdstat_{name}")
            return stats["calls"] if stats else 0

        await asyncio.sleep(1)  # until all of them sleep
        polls, pops = calls("evalsha") + calls("eval"), calls("blpop")
        await asyncio.sleep(3)
        assert calls("evalsha") + calls("eval") - polls + calls("blpop") - pops <= 20 * 3 * 0.5
        polls = calls("evalsha") + calls("eval")
        await fleet[0].schedule_immediate_task("effect", effect, args=["one"])
        await until(lambda: ran == ["one"])
        await asyncio.sleep(0.5)
        # One schedule; the woken worker claims, then settles. Another worker's heartbeat may fall in.
        assert calls("evalsha") + calls("eval") - polls <= 5
        client.close()
        await asyncio.gather(*(scheduler.shutdown() for scheduler in fleet))
