"""Workers that are killed, stopped and deadly: what they held is recovered, and what they say too late is refused."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Iterator

import pytest

from redsched import BackgroundTaskScheduler, JobSpec
from redsched.testing import fresh_prefix
from tests.faults import tasks
from tests.faults.fleet import Fleet
from tests.faults.local import until
from tests.invariants import check
from tests.servers import LocalServer

LEASE = 1.5


@pytest.fixture(scope="module")
def server() -> Iterator[LocalServer]:
    with LocalServer() as made:
        yield made


@pytest.fixture
def fleet(server: LocalServer) -> Iterator[Fleet]:
    with Fleet(server.url, fresh_prefix(), lease=LEASE) as made:
        yield made


@pytest.fixture
async def client(fleet: Fleet) -> AsyncIterator[BackgroundTaskScheduler]:
    scheduler = BackgroundTaskScheduler(fleet.url, fleet.prefix, lease=LEASE, declared_tasks=False)
    await scheduler.start(worker=False)
    yield scheduler
    await check(await scheduler.store())
    await scheduler.shutdown()


async def kinds(client: BackgroundTaskScheduler, kind: str) -> int:
    return sum(event.kind == kind for event in await client.get_history(limit=200_000))


async def test_runs_of_a_killed_worker_are_recovered_once_when_their_leases_end(
    fleet: Fleet, client: BackgroundTaskScheduler
) -> None:
    [victim] = fleet.add()
    await client.schedule_many([JobSpec("slow", tasks.slow, args=[1.0]) for _ in range(20)])
    await until(lambda: len(fleet.effects("started")) == 20)
    os.kill(victim.pid, signal.SIGKILL)
    killed = time.monotonic()
    fleet.add()
    await until(lambda: len(fleet.effects("started")) == 40)
    # The lease was claimed or renewed within a third of its length before the kill.
    assert time.monotonic() - killed > LEASE * 2 / 3 - 0.2, "recovered before the lease ended"
    await until(lambda: len(fleet.effects("done")) == 20)
    taken = time.monotonic() - killed
    # A run takes one second; its lease, claimed or renewed before the kill, ends within LEASE.
    assert set(fleet.count("started").values()) == {2}  # once before the kill, once after
    assert {effect.attempt for effect in fleet.effects("done")} == {2}
    assert taken < LEASE + 1.0 + 1.0, f"recovered after {taken:.2f} s with a lease of {LEASE} s"
    assert await kinds(client, "recovered") == 20
    assert await client.get_jobs() == []


async def test_a_worker_that_was_stopped_past_its_lease_is_refused_and_its_tasks_are_cancelled(
    fleet: Fleet, client: BackgroundTaskScheduler
) -> None:
    [sleeper] = fleet.add()
    handle = await client.schedule_immediate_task("slow", tasks.slow, args=[4.0])
    short = await client.schedule_immediate_task("slow", tasks.slow, args=[0.6])
    await until(lambda: len(fleet.effects("started")) == 2)
    os.kill(sleeper.pid, signal.SIGSTOP)
    fleet.add()
    await until(lambda: len(fleet.effects("started")) == 4)  # both again, elsewhere
    os.kill(sleeper.pid, signal.SIGCONT)
    result = await handle.result(timeout=15)
    assert result.success
    assert result.attempt == 2
    await until(lambda: any(e.pid == sleeper.pid for e in fleet.effects("cancelled")))
    by_sleeper = [e for e in fleet.effects() if e.pid == sleeper.pid and e.job_id == handle.id]
    assert [e.word for e in by_sleeper] == ["started", "cancelled"]
    done = [e for e in await client.get_history() if e.kind == "done"]
    assert sorted(e.job_id for e in done) == sorted([handle.id, short.id])  # each settled once, by the holder
    fences = {e.pid: e.fence for e in fleet.effects("started") if e.job_id == handle.id}
    assert fences.pop(sleeper.pid) < next(iter(fences.values()))


async def test_a_job_that_kills_its_worker_each_time_ends_dead_and_takes_nothing_with_it(
    fleet: Fleet, client: BackgroundTaskScheduler
) -> None:
    fleet.add(3)
    poison = await client.schedule_immediate_task("poison", tasks.deadly, max_recoveries=2)
    innocent = await client.schedule_delayed_task("innocent", tasks.effect, delay_seconds=1)

    async def keep_three() -> None:
        while True:
            alive = sum(worker.poll() is None for worker in fleet.workers)
            if alive < 2:
                await asyncio.to_thread(fleet.add, 1)
            await asyncio.sleep(0.05)

    keeper = asyncio.create_task(keep_three())
    result = await poison.result(timeout=30)
    assert (result.outcome, result.reason) == ("dead", "recoveries_used_up")
    assert len(fleet.effects("started")) == 3  # the first time and two recoveries
    assert (await innocent.result(timeout=15)).success
    keeper.cancel()
    assert [job.reason for job in await client.get_dead()] == ["recoveries_used_up"]


async def test_workers_whose_clocks_are_wrong_by_hours_start_jobs_on_time(
    fleet: Fleet, client: BackgroundTaskScheduler
) -> None:
    fleet.add(1, hours_wrong=5)
    fleet.add(1, hours_wrong=-7)
    handles = [await client.schedule_delayed_task("later", tasks.effect, delay_seconds=0.3 + n / 50) for n in range(50)]
    results = [await handle.result(timeout=10) for handle in handles]
    assert all(result.success for result in results)
    late = [e.lateness for e in await client.get_history() if e.kind == "done"]
    assert all(value is not None and 0 <= value < 1 for value in late)
    assert max(fleet.count("done").values()) == 1


@pytest.mark.slow
async def test_twenty_thousand_jobs_survive_a_kill_each_second(fleet: Fleet, client: BackgroundTaskScheduler) -> None:
    jobs = 20_000
    handles = await client.schedule_many([JobSpec("steady", tasks.steady) for _ in range(jobs)])
    fleet.add(3)
    kills = 0
    last_kill = time.monotonic()

    def done() -> int:
        return fleet.ledger.read_bytes().count(b"\n")

    async with asyncio.timeout(60):
        while await client.get_jobs() if done() >= jobs else True:
            if time.monotonic() - last_kill > 1 and kills < 8:
                victim = next(worker for worker in fleet.workers if worker.poll() is None)
                victim.kill()
                victim.wait()
                kills += 1
                last_kill = time.monotonic()
                await asyncio.to_thread(fleet.add, 1)
            await asyncio.sleep(0.05)
    counted = fleet.count("done")
    assert set(counted) == {handle.id for handle in handles}  # each at least once
    recovered = {e.job_id for e in await client.get_history(limit=500_000) if e.kind == "recovered"}
    doubled = {job_id for job_id, times in counted.items() if times > 1}
    assert doubled <= recovered  # more than once only where a kill hit it
    assert kills >= 4
