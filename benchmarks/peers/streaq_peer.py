"""streaQ, as in its own benchmark (github.com/tastyware/streaq, benchmarks/bench_streaq.py), with `enqueue_many` for
bulk and results that are not kept (ttl=0).
"""

from contextlib import asynccontextmanager

from common import CONCURRENCY, URL, effect, produce_async, run, when
from streaq import Worker

worker = Worker(redis_url=URL, concurrency=CONCURRENCY)


@worker.task(ttl=0)
async def noop(number: int) -> None:
    effect(number)


@asynccontextmanager
async def opened():
    async with worker:

        def task(number, at):
            made = noop.enqueue(number)
            return made if at is None else made.start(schedule=when(at))

        async def add(number, at):
            await task(number, at)

        async def add_many(pairs):
            for start in range(0, len(pairs), 1000):
                await worker.enqueue_many([task(number, at) for number, at in pairs[start : start + 1000]])

        yield add, add_many


def work():
    worker.run_sync()


if __name__ == "__main__":
    run(produce_async(opened), work)
