"""Promise 6: what is sent again after a dropped connection gives the same answer, and no lease is waited for."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from redsched import BackgroundTaskScheduler
from redsched.store.scripts import load
from redsched.testing import fresh_prefix
from redsched.testing.proxy import FaultProxy
from tests.faults.local import until
from tests.invariants import check
from tests.servers import LocalServer

ran: list[Any] = []


async def effect(value: Any) -> None:
    ran.append(value)


async def waits() -> None:
    ran.append("waits")
    await asyncio.sleep(60)


@pytest.fixture(scope="module")
def server() -> Iterator[LocalServer]:
    with LocalServer() as made:
        yield made


@pytest.fixture
async def proxy(server: LocalServer) -> AsyncIterator[FaultProxy]:
    async with FaultProxy("127.0.0.1", server.port) as made:
        yield made


@pytest.fixture
async def scheduler(proxy: FaultProxy) -> AsyncIterator[BackgroundTaskScheduler]:
    ran.clear()
    made = BackgroundTaskScheduler(proxy.url, fresh_prefix(), declared_tasks=False, lease=30.0)
    made.register(effect)
    made.register(waits)
    await made.start()
    begun = time.monotonic()
    yield made
    assert time.monotonic() - begun < 6, "a lease was waited for"
    await made.shutdown(wait=False)


@pytest.mark.parametrize("fault", ["drop_next_reply", "drop_next_request", "cut_mid_reply"])
@pytest.mark.parametrize("script", ["poll", "schedule", "commit", "cancel", "modify", "pause", "run"])
async def test_a_call_whose_connection_breaks_is_carried_out_once(
    proxy: FaultProxy, scheduler: BackgroundTaskScheduler, script: str, fault: str
) -> None:
    tick = await scheduler.schedule_interval("tick", effect, 3600, args=["tick"], job_id="tick")
    break_next = getattr(proxy, fault)
    break_next(matching=load(script).sha.encode())
    match script:
        case "poll" | "schedule":
            handle = await scheduler.schedule_immediate_task("effect", effect, args=[1], job_id="effect")
            assert handle.status == "added"
            assert (await handle.result(timeout=5)).success
            assert ran == [1]
        case "commit":
            await scheduler.modify_job("tick", next_run_time=await scheduler.now())
            await until(lambda: ran == ["tick"], 5)
        case "cancel":
            running = await scheduler.schedule_immediate_task("waits", waits)
            await until(lambda: ran == ["waits"], 5)
            assert await running.cancel()
            assert (await running.result(timeout=5)).outcome == "cancelled"
        case "modify":
            assert (await scheduler.modify_job("tick", args=["other"])).version == 1
        case "pause":
            await tick.pause()
        case _:
            await tick.run_now()
            await until(lambda: ran == ["tick"], 5)
    await until(lambda: proxy.pending == 0, 5)
    assert proxy.dropped == 1
    async with asyncio.timeout(5):
        while any(job.running for job in await scheduler.get_jobs()):
            await asyncio.sleep(0.02)
    kinds = Counter((e.job_id, e.kind) for e in await scheduler.get_history())
    # A run that was cancelled tells of it as well as its job.
    assert max(kinds.values()) == (2 if script == "cancel" else 1), kinds
    await check(await scheduler.store())


async def test_a_black_hole_that_is_shorter_than_the_timeout_is_only_a_delay(
    proxy: FaultProxy, scheduler: BackgroundTaskScheduler
) -> None:
    hole = asyncio.create_task(proxy.black_hole(0.8))
    handle = await scheduler.schedule_immediate_task("effect", effect, args=[1])
    await hole
    assert (await handle.result(timeout=5)).success
    assert ran == [1]
    await check(await scheduler.store())
