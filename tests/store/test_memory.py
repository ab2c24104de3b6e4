"""The memory of a pending job in Redis: each byte is paid once for every one of a million."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from redsched import BackgroundTaskScheduler, JobSpec
from redsched.store.clock import to_ms
from redsched.testing import fresh_prefix
from tests.servers import LocalServer

JOBS = 10_000
MAX_BYTES = 450
MAX_BYTES_OF_REDIS_8 = 500
"""The same keys and fields take a tenth more there (measured with 8.0)."""


@pytest.fixture(scope="module")
def server() -> Iterator[LocalServer]:
    with LocalServer() as own:
        yield own


async def remind(order: str, minutes: int) -> None:
    """A task with two small arguments."""


async def test_a_pending_one_shot_job_with_two_small_arguments_takes_450_bytes_at_most(server: LocalServer) -> None:
    client = server.client()
    scheduler = BackgroundTaskScheduler(server.url, fresh_prefix(), declared_tasks=False)
    try:
        await scheduler.start(worker=False)
        store = await scheduler.store()
        keys = store.shards[0].keys
        await scheduler.schedule_delayed_task("first", remind, delay_minutes=60, args=["order-0", 15])  # scripts, clock

        def used() -> int:
            stream = client.memory_usage(keys.events, samples=0) or 0
            requests = sum(client.memory_usage(key, samples=0) or 0 for key in client.keys(f"{keys.tag}requests:*"))
            return int(client.info("memory")["used_memory"]) - stream - requests

        before = used()
        now_ms = to_ms(await scheduler.now())
        for start in range(0, JOBS, 1000):
            await scheduler.schedule_many(
                JobSpec(f"reminder {number}", remind, args=[f"order-{number}", 15], delay=3600 + number / 10)
                for number in range(start, start + 1000)
            )
        each = (used() - before) / JOBS
        assert client.zcount(keys.due("default"), now_ms, "+inf") == JOBS + 1
        print(f"{each:.0f} bytes a job")
        version = int(client.info("server")["redis_version"].partition(".")[0])
        assert each <= (MAX_BYTES_OF_REDIS_8 if version >= 8 else MAX_BYTES)
    finally:
        await scheduler.shutdown()
        client.close()
