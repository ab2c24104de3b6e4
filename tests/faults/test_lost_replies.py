"""A reply is lost after the script ran, a request before it, a reply is cut: nothing is lost, nothing is doubled, and
no lease is waited for (leases are 30 s here, the tests take a few)."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta

import pytest

from redsched import JobSpec, StoreUnavailableError
from redsched.testing.proxy import FaultProxy
from tests.faults.local import Make, effect, ran, until
from tests.servers import LocalServer

FAULTS = ["drop_next_reply", "drop_next_request", "cut_mid_reply"]


@pytest.fixture(scope="module")
def server() -> Iterator[LocalServer]:
    with LocalServer() as made:
        yield made


@pytest.fixture
async def proxy(server: LocalServer) -> AsyncIterator[FaultProxy]:
    async with FaultProxy("127.0.0.1", server.port) as made:
        yield made


@pytest.mark.parametrize("fault", FAULTS)
async def test_jobs_that_are_scheduled_and_run_through_faults_run_exactly_once(
    proxy: FaultProxy, make: Make, fault: str
) -> None:
    scheduler = make(proxy.url)
    await scheduler.start()
    started = time.monotonic()
    for number in range(100):
        if number % 4 == 0:
            getattr(proxy, fault)(matching=b"EVALSHA")
        await scheduler.schedule_immediate_task("effect", effect, args=[number])
    await until(lambda: len(set(ran)) == 100)
    await until(lambda: proxy.pending == 0)
    assert Counter(ran).most_common(1)[0][1] == 1
    assert proxy.dropped >= 25
    assert time.monotonic() - started < 15
    await scheduler.shutdown()
    done = Counter(e.job_id for e in await scheduler.get_history(limit=10_000) if e.kind == "done")
    assert len(done) == 100
    assert set(done.values()) == {1}
    assert await scheduler.get_jobs() == []


@pytest.mark.parametrize("fault", FAULTS)
async def test_periodic_jobs_fire_once_for_each_fire_time_through_faults(
    proxy: FaultProxy, make: Make, fault: str
) -> None:
    scheduler = make(proxy.url)
    await scheduler.start()
    await scheduler.schedule_many(
        [JobSpec("tick", effect, interval=0.2, args=[number], max_runs=8) for number in range(20)]
    )

    async def fires() -> list[tuple[str, object]]:
        events = await scheduler.get_history(limit=10_000)
        return [(e.job_id, e.fire_time) for e in events if e.kind == "done"]

    for _ in range(12):
        getattr(proxy, fault)(matching=b"EVALSHA")
        await until(lambda: proxy.pending == 0)
    await until(lambda: len(ran) >= 160, 30)
    await scheduler.shutdown()
    seen = await fires()
    assert len(seen) == len(set(seen)) == 160
    assert Counter(ran) == dict.fromkeys(range(20), 8)


@pytest.mark.parametrize("fault", FAULTS)
async def test_a_change_whose_reply_is_lost_is_made_once_and_answered_as_the_first_time(
    proxy: FaultProxy, make: Make, fault: str
) -> None:
    client = make(proxy.url)
    await client.start(worker=False)
    lose = getattr(proxy, fault)

    lose(matching=b"EVALSHA")
    handle = await client.schedule_delayed_task("later", effect, delay_minutes=5, args=[1], job_id="one", tags=["t"])
    assert handle.status == "added"  # not a conflict with itself
    lose(matching=b"EVALSHA")
    await client.pause_job("one")
    lose(matching=b"EVALSHA")
    await client.resume_job("one")
    lose(matching=b"EVALSHA")
    await client.modify_job("one", args=[2], tags=["t", "u"])
    job = await client.get_job("one")
    assert job is not None
    assert job.args == (2,)
    assert job.version == 2  # resumed and modified once each
    lose(matching=b"EVALSHA")
    run_id = await client.run_now("one")
    assert run_id == "one"
    lose(matching=b"EVALSHA")
    assert await client.cancel_jobs(tag="t") == ["one"]  # not [] as if it had been gone already
    kinds = Counter(event.kind for event in await client.get_history())
    assert max(kinds.values()) == 1


async def test_a_server_that_is_silent_for_a_while_loses_nothing(proxy: FaultProxy, make: Make) -> None:
    scheduler = make(proxy.url, redis_options={"socket_timeout": 0.5}, retry_for=20)
    await scheduler.start()
    proxy.stall()
    waiting = asyncio.create_task(scheduler.schedule_immediate_task("effect", effect, args=["through"]))
    await asyncio.sleep(1.5)
    assert not waiting.done()
    proxy.stall(False)
    await waiting
    await until(lambda: ran == ["through"])


async def test_a_client_is_told_in_time_that_redis_is_not_there(proxy: FaultProxy, make: Make) -> None:
    client = make(proxy.url, retry_for=0.3)
    await client.start(worker=False)
    proxy.refusing = True
    proxy.cut()
    started = time.monotonic()
    with pytest.raises(StoreUnavailableError, match=r"127\.0\.0\.1"):
        await client.schedule_immediate_task("effect", effect, args=[1])
    assert time.monotonic() - started < 3


async def test_latency_changes_nothing_but_the_time(proxy: FaultProxy, make: Make) -> None:
    proxy.latency = 0.05
    scheduler = make(proxy.url)
    await scheduler.start()
    await scheduler.schedule_many([JobSpec("effect", effect, args=[n], delay=timedelta(0)) for n in range(500)])
    await until(lambda: len(ran) == 500)
    assert sorted(ran) == list(range(500))
