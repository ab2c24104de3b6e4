"""Promise 4: max_instances holds across all workers, and heals when a worker dies."""

from __future__ import annotations

import asyncio
import os
import signal
from collections import Counter
from collections.abc import Iterator
from datetime import datetime

import pytest

import redsched
from redsched import BackgroundTaskScheduler
from redsched.testing import Kit, fresh_prefix
from tests.faults import tasks
from tests.faults.fleet import Fleet
from tests.faults.local import until
from tests.servers import LocalServer


@pytest.fixture
def server() -> Iterator[LocalServer]:
    with LocalServer() as made:
        yield made


@pytest.mark.parametrize("limit", [1, 3])
async def test_no_more_instances_run_than_allowed_on_any_number_of_workers(redsched_kit: Kit, limit: int) -> None:
    running = most = 0

    async def slow() -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.45)
        running -= 1

    first = redsched_kit.scheduler
    fleet = [first] + [BackgroundTaskScheduler(first.redis_url, first.prefix, declared_tasks=False) for _ in range(2)]
    for scheduler in fleet:
        scheduler.register(slow, name="slow")
        await scheduler.start()
    await first.schedule_interval("slow", slow, 0.1, max_instances=limit, max_runs=12)
    await redsched_kit.wait_for("done", count=12, timeout=20)
    for scheduler in fleet[1:]:
        await scheduler.shutdown()
    assert most == limit
    skipped = [e for e in redsched_kit.events if e.kind == "skipped"]
    assert skipped
    assert {e.reason for e in skipped} == {"max_instances"}


async def test_an_instance_of_a_dead_worker_stops_counting_when_its_lease_ends(server: LocalServer) -> None:
    with Fleet(server.url, fresh_prefix(), lease=5.0) as fleet:
        [victim] = fleet.add()
        client = BackgroundTaskScheduler(fleet.url, fleet.prefix, lease=5.0, declared_tasks=False)
        await client.start(worker=False)
        handle = await client.schedule_interval("slow", tasks.slow, 0.3, args=[60.0], max_instances=1, max_recoveries=0)
        await until(lambda: len(fleet.effects("started")) == 1)
        os.kill(victim.pid, signal.SIGKILL)
        fleet.add()  # ready long before the lease ends, on a busy machine too
        await until(lambda: len(fleet.effects("started")) >= 2)
        events = await client.get_history(handle.id)
        kinds = Counter(event.kind for event in events)
        assert kinds["skipped"] >= 1  # while the lease lasted, the dead worker's instance still counted
        assert kinds["dead"] == 1  # max_recoveries=0
        await client.cancel(handle.id)
        await client.shutdown()


async def test_a_further_attempt_of_a_busy_job_gets_the_next_free_place(redsched_kit: Kit) -> None:
    started: list[tuple[int, datetime]] = []

    async def busy() -> None:
        run = redsched.current_run()
        started.append((run.attempt, run.fire_time))
        await asyncio.sleep(0.35)
        if len(started) == 1:
            raise ValueError("once")

    scheduler = redsched_kit.scheduler
    scheduler.register(busy, name="busy")
    await scheduler.start()
    retry = redsched.RetryPolicy(max_attempts=2, initial_delay=0.5, jitter=0)
    handle = await scheduler.schedule_interval("busy", busy, 0.3, max_instances=1, retry=retry)
    # Each run is still under way when the next fire is due: nothing but the promise of a place lets the retry in.
    await until(lambda: any(attempt == 2 for attempt, _ in started), 3.0)
    await until(lambda: started[-1][0] == 1, 3.0)  # and the job goes on after it
    await scheduler.cancel(handle.id)
    by_fire = Counter(started)
    assert by_fire[2, started[0][1]] == 1
    assert max(by_fire.values()) == 1
