"""Promise 1: after `schedule…` has returned, only a run, a cancellation, or a recorded misfire ends a job."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from typing import Any

from redsched import BackgroundTaskScheduler, JobSpec, RetryPolicy, StoreError
from redsched.testing import fresh_prefix
from redsched.testing.proxy import FaultProxy
from tests.faults.local import until
from tests.invariants import check
from tests.servers import LocalServer

ran: list[Any] = []
tried: Counter[Any] = Counter()


async def effect(value: Any) -> None:
    await asyncio.sleep(0.01)
    ran.append(value)


async def fails_once(value: Any) -> None:
    tried[value] += 1
    if tried[value] == 1:
        raise ConnectionError("the first time")
    ran.append(value)


async def test_every_accepted_job_is_accounted_for_while_the_network_breaks_at_random() -> None:
    ran.clear()
    tried.clear()
    rng = random.Random(7)
    with LocalServer() as server:
        async with FaultProxy("127.0.0.1", server.port) as proxy:
            prefix = fresh_prefix()
            fleet = [BackgroundTaskScheduler(proxy.url, prefix, declared_tasks=False, lease=2.0) for _ in range(3)]
            for scheduler in fleet:
                scheduler.register(effect)
                scheduler.register(fails_once)
                await scheduler.start()
            client = fleet[0]
            faults = [proxy.drop_next_reply, proxy.drop_next_request, proxy.cut_mid_reply]
            accepted: dict[str, str] = {}
            retry = RetryPolicy(max_attempts=3, initial_delay=0.05, jitter=0)
            for number in range(300):
                if number % 5 == 0:
                    rng.choice(faults)(matching=b"EVALSHA")
                if number % 60 == 59:
                    proxy.cut()
                kind = ("now", "later", "flaky", "cancelled", "missed")[number % 5]
                match kind:
                    case "now":
                        handle = await client.schedule_immediate_task(kind, effect, args=[number])
                    case "later":
                        handle = await client.schedule_delayed_task(
                            kind, effect, delay_seconds=rng.random(), args=[number]
                        )
                    case "flaky":
                        handle = await client.schedule_immediate_task(kind, fails_once, args=[number], retry=retry)
                    case "cancelled":
                        handle = await client.schedule_delayed_task(kind, effect, delay_seconds=60, args=[number])
                        assert await handle.cancel()
                    case _:
                        past = (await client.now()).timestamp() - 100
                        handle = await client.schedule_at(
                            kind, effect, _instant(past), args=[number], misfire_grace_time=1
                        )
                accepted[handle.id] = kind
            await until(lambda: len(set(ran)) >= 180, 30)
            async with asyncio.timeout(20):
                while await client.get_jobs():
                    await asyncio.sleep(0.05)
            ends = {"done", "cancelled", "missed", "dead"}
            ended = [(e.job_id, e.kind) for e in await client.get_history(limit=100_000) if e.kind in ends]
            expected = {"now": "done", "later": "done", "flaky": "done", "cancelled": "cancelled", "missed": "missed"}
            assert Counter(ended) == Counter((job_id, expected[kind]) for job_id, kind in accepted.items())
            assert Counter(ran).most_common(1)[0][1] == 1  # no lease ended here, so nothing ran twice
            assert proxy.dropped > 30
            await check(await client.store())
            for scheduler in fleet:
                await scheduler.shutdown(wait=False)


def _instant(seconds: float) -> Any:
    from datetime import UTC, datetime

    return datetime.fromtimestamp(seconds, UTC)


async def test_a_batch_is_stored_whole_or_not_at_all() -> None:
    with LocalServer("--maxmemory-policy", "noeviction") as server:
        scheduler = BackgroundTaskScheduler(server.url, fresh_prefix(), declared_tasks=False, retry_for=0.5)
        await scheduler.start(worker=False)
        client = server.client()
        client.config_set("maxmemory", client.info("memory")["used_memory"] + 200_000)
        stored = 0
        for _ in range(20):
            try:
                await scheduler.schedule_many([JobSpec("a", effect, delay=60, args=["x" * 100]) for _ in range(100)])
                stored += 100
            except StoreError:
                break
        assert 0 <= stored < 2000
        assert len(await scheduler.get_jobs()) == stored
        client.config_set("maxmemory", 0)
        await check(await scheduler.store())
        client.close()
        await scheduler.shutdown()
