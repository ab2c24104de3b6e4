"""A run whose task cannot be looked up, or whose id is not text, ends alone: its worker and the other runs go on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from redsched import BackgroundTaskScheduler
from redsched.testing import Kit, fresh_prefix

ran: list[str] = []


async def note(name: str) -> None:
    ran.append(name)


class Kitchen:
    async def cook(self, name: str) -> None:
        ran.append(name)


class Broken:
    """A service provider that raises when it is asked for a kitchen."""

    def __init__(self, error: BaseException) -> None:
        self.error = error

    def get_service(self, type_: type[Any]) -> Any:
        raise self.error


ERRORS = [RecursionError("too deep"), SystemExit(3), ImportError("a module"), GeneratorExit(), asyncio.CancelledError()]


@pytest.fixture(params=ERRORS, ids=lambda error: type(error).__name__)
async def worker(request: pytest.FixtureRequest, redsched_url: str) -> AsyncIterator[Kit]:
    ran.clear()
    provider = Broken(request.param)
    scheduler = BackgroundTaskScheduler(redsched_url, fresh_prefix(), service_provider=provider, declared_tasks=False)
    scheduler.register(note)
    scheduler.register(Kitchen.cook)
    yield Kit(scheduler)
    await scheduler.clear_all_jobs()
    await scheduler.shutdown(wait=False)


async def test_a_lookup_that_raises_ends_that_run_alone(worker: Kit) -> None:
    scheduler = worker.scheduler
    await scheduler.schedule_immediate_task("broken", Kitchen.cook, args=["broken"], job_id="broken")
    await scheduler.schedule_immediate_task("fine", note, args=["fine"], job_id="fine")
    await worker.run_due()
    assert ran == ["fine"]
    [dead] = await scheduler.get_dead()
    assert dead.id == "broken"
    assert type(worker.scheduler.registry.provider.error).__name__ in (dead.error or "")  # type: ignore[union-attr]


async def test_a_lookup_that_raises_while_fires_are_planned_ends_that_job_alone(worker: Kit) -> None:
    scheduler = worker.scheduler
    await scheduler.schedule_interval("broken", Kitchen.cook, seconds=60, args=["broken"], job_id="broken")
    await scheduler.schedule_interval("fine", note, seconds=60, args=["fine"], job_id="fine")
    await worker.travel(seconds=600)  # several fires were missed: what is left of them is planned
    await worker.run_due()
    assert ran == ["fine"]
    assert [event.job_id for event in await scheduler.get_history() if event.kind == "dead"] == ["broken"]
    await worker.advance(minutes=1)
    assert ran == ["fine", "fine"]


@pytest.mark.parametrize("fate", ["lost", "cancelled"])
async def test_an_id_that_is_not_text_is_lost_or_stopped_like_any_other(fate: str, redsched_url: str) -> None:
    begun, ended = asyncio.Event(), list[str]()

    async def waits() -> None:
        begun.set()
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            ended.append(fate)
            raise

    async with BackgroundTaskScheduler(redsched_url, fresh_prefix(), lease=1.0, declared_tasks=False) as scheduler:
        scheduler.register(waits, name="waits")
        shard = (await scheduler.store()).shards[0]
        await scheduler.schedule_delayed_task("model", waits, 3600, job_id="model")
        fields = await shard.link.command("HGETALL", shard.keys.job("model"))
        odd = b"\xff\xfe"
        key = shard.keys.job("").encode() + odd
        await shard.link.command("HSET", key, *fields)
        await shard.link.command("ZADD", shard.keys.due("default"), 1, odd)
        await scheduler.schedule_immediate_task("wake", waits, job_id="other")
        async with asyncio.timeout(10):
            while await shard.link.command("HGET", key, "fence") is None:
                await asyncio.sleep(0.01)
            await begun.wait()
            await shard.link.command("HSET", key, *(("cancel", "1") if fate == "cancelled" else ("fence", "1")))
            while not ended:
                await asyncio.sleep(0.01)
        assert scheduler.running
        assert await scheduler.cancel("other")
        done = await scheduler.schedule_immediate_task("fine", asyncio.sleep, args=[0])
        assert (await done.result(timeout=10)).success
