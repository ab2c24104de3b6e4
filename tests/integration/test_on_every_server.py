"""The whole path on each kind of server, by the same code: local Redis, the embedded Valkey, and both in containers.

The containers are made through testcontainers.
"""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from redsched import BackgroundTaskScheduler, JobSpec, RetryPolicy, current_run
from redsched.testing import ContainerServer, Kit, fresh_prefix, kit
from tests.servers import LocalServer, Server, ValkeyServer, docker_ready

AOF = ("--appendonly", "yes", "--appendfsync", "always")
ran: list[Any] = []


async def effect(value: Any) -> Any:
    ran.append(value)
    return value


async def fails_twice() -> str:
    ran.append("tried")
    if len(ran) < 3:
        raise ConnectionError("not yet")
    return "at last"


def _server(kind: str) -> Server:
    if kind == "local redis":
        return LocalServer(aof="always")
    if kind == "embedded valkey":
        return ValkeyServer(aof="always")
    reason = docker_ready()
    if reason is not None:
        message = f"no containers here: {reason}"
        if os.environ.get("REDSCHED_REQUIRE_CONTAINERS") == "1":
            pytest.fail(message)
        pytest.skip(message)
    image, program = {
        "redis container": ("redis:7", "redis-server"),
        "valkey container": ("valkey/valkey:9", "valkey-server"),
    }[kind]
    return ContainerServer(image, program, *AOF)


@pytest.fixture(
    scope="module",
    params=[
        pytest.param("local redis", id="local-redis"),
        pytest.param("embedded valkey", id="embedded-valkey"),
        pytest.param("redis container", id="redis-container", marks=pytest.mark.container),
        pytest.param("valkey container", id="valkey-container", marks=pytest.mark.container),
    ],
)
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    made = _server(request.param)
    yield made
    made.close()


@pytest.fixture
async def tested(server: Server) -> AsyncIterator[Kit]:
    ran.clear()
    scheduler = BackgroundTaskScheduler(server.url, fresh_prefix(), declared_tasks=False, lease=5.0, retry_for=20)
    async with kit(scheduler) as made:
        yield made


async def test_a_task_runs_at_once_and_gives_its_result(tested: Kit) -> None:
    await tested.scheduler.start()
    handle = await tested.scheduler.schedule_immediate_task("effect", effect, args=[{"nested": [1, b"2", None]}])
    result = await handle.result(timeout=10)
    assert result.result == {"nested": [1, b"2", None]}


async def test_a_delayed_task_runs_on_its_time(tested: Kit) -> None:
    await tested.scheduler.schedule_delayed_task("later", effect, delay_minutes=15, args=["later"])
    assert await tested.advance(minutes=14) == 0
    assert await tested.advance(minutes=1) == 1
    assert ran == ["later"]


async def test_overdue_fires_coalesce_and_are_recorded(tested: Kit) -> None:
    handle = await tested.scheduler.schedule_interval("tick", effect, minutes=1, args=["tick"])
    await tested.travel(minutes=10, seconds=1)
    assert await tested.run_due() == 1
    coalesced = await tested.wait_for("coalesced", handle.id)
    assert coalesced.count == 9


async def test_a_batch_that_is_caught_up_runs_in_order(tested: Kit) -> None:
    handle = await tested.scheduler.schedule_interval("tick", effect, minutes=1, args=["tick"], coalesce=False)
    await tested.travel(minutes=5, seconds=1)
    await tested.run_due()
    assert ran == ["tick"] * 5
    done = [e.fire_time for e in await tested.scheduler.get_history(handle.id) if e.kind == "done"]
    assert done == sorted(done)
    assert len(set(done)) == 5


async def test_retries_are_durable_and_wait_their_time(tested: Kit) -> None:
    policy = RetryPolicy(max_attempts=3, initial_delay=60, jitter=0)
    handle = await tested.scheduler.schedule_immediate_task("fails", fails_twice, retry=policy)
    await tested.run_due()
    assert await tested.advance(seconds=59) == 0
    assert await tested.advance(seconds=1 + 120 + 1) == 2  # a second for what settling takes
    result = await handle.result(timeout=5)
    assert (result.result, result.attempt) == ("at last", 3)


async def test_all_jobs_of_a_tag_are_cancelled_in_one_call(tested: Kit) -> None:
    await tested.scheduler.schedule_many(
        [JobSpec("step", effect, delay=60, args=[n], tags=["order-1", f"step-{n}"]) for n in range(50)]
    )
    other = await tested.scheduler.schedule_delayed_task("other", effect, delay_minutes=1, args=["other"])
    assert len(await tested.scheduler.cancel_jobs(tag="order-1")) == 50
    assert [job.id for job in await tested.scheduler.get_jobs()] == [other.id]


async def test_two_workers_share_five_hundred_jobs_and_run_each_once(tested: Kit) -> None:
    second = BackgroundTaskScheduler(tested.scheduler.redis_url, tested.scheduler.prefix, declared_tasks=False)
    for scheduler in (tested.scheduler, second):
        scheduler.register(effect)
        await scheduler.start()
    await tested.scheduler.schedule_many([JobSpec("effect", effect, args=[n]) for n in range(500)])
    await tested.wait_for("done", count=500)
    await second.shutdown()
    assert Counter(ran) == dict.fromkeys(range(500), 1)


@pytest.mark.parametrize("how", ["restart", "kill"])
async def test_everything_acknowledged_runs_over_a(how: str, server: Server, tested: Kit) -> None:
    scheduler = tested.scheduler
    await scheduler.start()
    await scheduler.schedule_many([JobSpec("effect", effect, delay=n / 200, args=[n]) for n in range(400)])
    if how == "restart":
        await asyncio.to_thread(server.restart)
    else:
        await asyncio.to_thread(server.kill)
        await asyncio.to_thread(server.start)
    await scheduler.schedule_immediate_task("after", effect, args=["after"])
    async with asyncio.timeout(30):
        while len(set(ran)) < 401:
            await asyncio.sleep(0.02)
    assert Counter(ran).most_common(1)[0][1] == 1


async def test_what_a_shutdown_interrupts_starts_at_once_elsewhere(tested: Kit) -> None:
    started = asyncio.Event()
    attempts: list[int] = []

    async def long() -> None:
        attempts.append(current_run().attempt)
        started.set()
        if len(attempts) == 1:
            await asyncio.sleep(3600)

    first = BackgroundTaskScheduler(tested.scheduler.redis_url, tested.scheduler.prefix, declared_tasks=False)
    for scheduler in (first, tested.scheduler):
        scheduler.register(long, name="long")
    await first.start()
    handle = await tested.scheduler.schedule_immediate_task("long", long)
    await started.wait()
    await tested.scheduler.start()
    await first.shutdown(wait=False)
    assert (await handle.result(timeout=4)).success  # a lease would take longer
    assert attempts == [1, 1]  # no attempt was used up
