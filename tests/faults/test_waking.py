"""Who wakes when: no job starts late because the worker that watches for it was the wrong one, or died."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator

import pytest
import redis

from redsched import BackgroundTaskScheduler, JobSpec
from redsched.testing import fresh_prefix
from tests.faults import tasks
from tests.faults.fleet import Fleet
from tests.faults.gate import Gate
from tests.faults.local import Make, effect, ran, until
from tests.invariants import check
from tests.servers import LocalServer

LATE_S = 0.4
"""Idle workers sleep up to ten seconds here, so a job that no worker watches for is late by seconds."""
gate = Gate()


async def waits() -> None:
    """Keeps its worker full."""
    ran.append("waits")
    await gate.wait()


@pytest.fixture(scope="module")
def server() -> Iterator[LocalServer]:
    with LocalServer() as made:
        yield made


async def idle_fleet(make: Make, server: LocalServer, size: int, **settings: object) -> list[BackgroundTaskScheduler]:
    gate.close()
    fleet = [make(server.url, **settings) for _ in range(size)]
    for scheduler in fleet:
        scheduler.register(effect)
        scheduler.register(waits)
        await scheduler.start()
    client = server.client()
    await until(lambda: client.info("clients")["blocked_clients"] >= 2 * size)
    client.close()
    return fleet


async def lateness(scheduler: BackgroundTaskScheduler) -> float:
    late = [e.lateness for e in await scheduler.get_history() if e.kind == "done"]
    return max(value for value in late if value is not None)


@pytest.mark.alone
@pytest.mark.parametrize("round_", range(3))
async def test_a_job_due_soon_after_one_that_ran_at_once_starts_on_time(
    server: LocalServer, make: Make, round_: int
) -> None:
    client, *_ = await idle_fleet(make, server, 5)
    for pause in (0.0, 0.005, 0.05):
        ran.clear()
        await client.schedule_immediate_task("now", effect, args=["now"])
        await asyncio.sleep(pause)
        await client.schedule_delayed_task("soon", effect, delay_seconds=0.1, args=["soon"])
        await until(lambda: len(ran) == 2)
    assert await lateness(client) < LATE_S


@pytest.mark.alone
async def test_jobs_that_are_due_before_what_is_awaited_start_on_time(server: LocalServer, make: Make) -> None:
    client, *_ = await idle_fleet(make, server, 5)
    for seconds in (1.2, 1.0, 0.8, 0.6, 0.4, 0.2):
        await client.schedule_delayed_task("earlier", effect, delay_seconds=seconds, args=[seconds])
        await asyncio.sleep(0.01)
    await until(lambda: len(ran) == 6)
    assert ran == sorted(ran)
    assert await lateness(client) < LATE_S


@pytest.mark.alone
async def test_a_full_worker_that_took_the_token_leaves_the_next_job_to_another(
    server: LocalServer, make: Make
) -> None:
    client, *_ = await idle_fleet(make, server, 4, concurrency=1)
    await client.schedule_immediate_task("waits", waits)
    await client.schedule_delayed_task("soon", effect, delay_seconds=0.1, args=["soon"])
    await until(lambda: "soon" in ran)
    await client.schedule_delayed_task("soon", effect, delay_seconds=0.1, args=["again"])
    await until(lambda: "again" in ran)
    assert await lateness(client) < LATE_S
    gate.open()


@pytest.mark.alone
async def test_when_the_leader_is_killed_its_deputy_starts_the_job_on_time(server: LocalServer) -> None:
    with Fleet(server.url, fresh_prefix(), lease=30.0) as fleet:
        fleet.add(3)
        client = BackgroundTaskScheduler(fleet.url, fleet.prefix, declared_tasks=False)
        await client.start(worker=False)
        shard = (await client.store()).shards[0]
        await client.schedule_delayed_task("later", tasks.effect, delay_seconds=1.5)
        idle = f"{shard.keys.tag}idle:default"

        async def both_watch() -> tuple[str, str] | None:
            leader, deputy = await shard.link.command("HMGET", idle, "leader", "deputy")
            return (leader.decode(), deputy.decode()) if leader and deputy else None

        async with asyncio.timeout(1.2):
            while (watching := await both_watch()) is None:
                await asyncio.sleep(0.01)
        workers = await client.get_workers()
        killed = workers[watching[0]]["pid"]
        next(worker for worker in fleet.workers if worker.pid == killed).kill()
        await until(lambda: fleet.effects("done"), 5)
        assert await lateness_when_settled(client) < LATE_S
        await check(await client.store())
        await client.shutdown()


async def lateness_when_settled(client: BackgroundTaskScheduler) -> float:
    async with asyncio.timeout(5):
        while await client.get_jobs():
            await asyncio.sleep(0.02)
    return await lateness(client)


def sent_until(client: redis.Redis, end: str) -> int:
    """How many commands clients send until one of them sends `end`; those that scripts call are not counted."""
    with client.monitor() as monitor:
        count = 0
        for command in monitor.listen():
            if end in command["command"]:
                break
            count += command["client_type"] != "lua"
        return count


@pytest.mark.alone
async def test_one_idle_worker_sends_at_most_one_command_a_second(make: Make) -> None:
    with LocalServer() as alone:
        [scheduler] = await idle_fleet(make, alone, 1)
        counting = asyncio.create_task(asyncio.to_thread(sent_until, alone.client(), "the end"))
        await asyncio.sleep(4)
        alone.client().echo("the end")
        assert await counting <= 4
        await check(await scheduler.store())


async def test_an_unknown_task_is_left_to_who_knows_it_without_an_attempt_and_is_claimed_in_vain_once(
    server: LocalServer, make: Make
) -> None:
    fleet = [make(server.url) for _ in range(2)]
    for scheduler in fleet:
        await scheduler.start()
    client = make(server.url)
    await client.start(worker=False)
    plain = await client.schedule_immediate_task("effect", effect, args=["plain"])
    periodic = await client.schedule_interval("tick", effect, 3600, args=["manual"])
    await periodic.run_now()  # a separate run
    await asyncio.sleep(2.5)
    events = [e for e in await client.get_history() if e.kind == "postponed"]
    counts = {job_id: sum(e.job_id == job_id for e in events) for job_id in (plain.id, periodic.id)}
    assert set(counts.values()) == {1}, counts
    assert {e.reason for e in events} == {"unknown_task"}
    for scheduler in fleet:
        scheduler.register(effect)
    await until(lambda: sorted(ran) == ["manual", "plain"])
    async with asyncio.timeout(5):
        while len(done := [e for e in await client.get_history() if e.kind == "done"]) < 2:
            await asyncio.sleep(0.02)
    assert {e.attempt for e in done} == {1}
    await check(await client.store())


async def test_a_running_task_is_cancelled_at_once_and_at_the_next_renewal_if_the_message_is_lost(
    server: LocalServer, make: Make
) -> None:
    [scheduler] = await idle_fleet(make, server, 1, lease=3.0)
    keys = (await scheduler.store()).shards[0].keys
    client = server.client()
    handle = await scheduler.schedule_immediate_task("waits", waits)
    await until(lambda: ran == ["waits"])
    started = time.monotonic()
    assert await handle.cancel()
    result = await handle.result(timeout=5)
    assert (result.outcome, result.reason) == ("cancelled", "cancelled")
    assert time.monotonic() - started < 0.5

    again = await scheduler.schedule_immediate_task("waits", waits)
    await until(lambda: len(ran) == 2)
    client.hset(keys.job(again.id), "cancel", 1)  # as `cancel` leaves it, and the mail got lost
    assert (await again.result(timeout=3)).outcome == "cancelled"
    client.close()
    await check(await scheduler.store())


async def test_two_workers_share_periodic_jobs_and_claim_each_fire_once(server: LocalServer) -> None:
    with Fleet(server.url, fresh_prefix()) as fleet:
        fleet.add(2)
        client = BackgroundTaskScheduler(fleet.url, fleet.prefix, declared_tasks=False)
        await client.start(worker=False)
        await client.schedule_many([JobSpec("tick", tasks.effect, interval=0.2, max_runs=15) for _ in range(100)])
        await until(lambda: fleet.ledger.read_bytes().count(b"\n") >= 1500, 20)
        async with asyncio.timeout(10):
            while await client.get_jobs():
                await asyncio.sleep(0.05)
        fires = [(effect.job_id, effect.fire_ms) for effect in fleet.effects("done")]
        assert len(fires) == len(set(fires)) == 1500
        assert len({effect.pid for effect in fleet.effects()}) == 2
        await check(await client.store())
        await client.shutdown()
