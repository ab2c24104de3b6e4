"""taskiq with taskiq-redis' RedisStreamBroker and `--max-async-tasks`, `--max-prefetch`, as in streaQ's benchmark of it
(github.com/tastyware/streaq, benchmarks/README.md and bench_taskiq.py), one worker process; without a result backend,
since no result is read. It has no delayed tasks of its own: a further process, its scheduler, looks once a second; so
it stands in the scenarios without times only.
"""

import os
import sys
from contextlib import asynccontextmanager

from common import CONCURRENCY, URL, effect, produce_async, run
from taskiq_redis import RedisStreamBroker

broker = RedisStreamBroker(URL, consumer_id="0", xread_count=1000)


@broker.task(task_name="noop")
async def noop(number: int) -> None:
    effect(number)


@asynccontextmanager
async def opened():
    await broker.startup()

    async def add(number, due):
        await noop.kiq(number)

    yield add, None
    await broker.shutdown()


def work():
    command = [
        sys.executable, "-m", "taskiq", "worker", "--workers", "1", "--max-async-tasks", str(CONCURRENCY),
        "--max-prefetch", str(CONCURRENCY), "--log-level", "ERROR", "--no-configure-logging", "taskiq_peer:broker",
    ]  # fmt: skip
    os.execv(sys.executable, command)


if __name__ == "__main__":
    run(produce_async(opened), work)
