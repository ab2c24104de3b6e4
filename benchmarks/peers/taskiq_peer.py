"""taskiq with RedisStreamBroker and a result backend, as in streaQ's benchmark of it (github.com/tastyware/streaq,
benchmarks/bench_taskiq.py, with --max-async-tasks and --max-prefetch). BENCH_NO_RESULTS leaves the result backend out:
then nothing is known afterwards of how a task ended. It has no delayed tasks of its own: its scheduler is a process
that looks once a second or less, so it stands in the immediate scenarios only.
"""

import os
import sys
from contextlib import asynccontextmanager

from common import CONCURRENCY, URL, effect, produce_async, run
from taskiq_redis import RedisAsyncResultBackend, RedisStreamBroker

broker = RedisStreamBroker(URL, consumer_id="0")
if "BENCH_NO_RESULTS" not in os.environ:
    broker = broker.with_result_backend(RedisAsyncResultBackend(URL, result_ex_time=1))


@broker.task(task_name="noop")
async def noop(number: int) -> None:
    effect(number)


@asynccontextmanager
async def opened():
    await broker.startup()

    async def add(number, at):
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
