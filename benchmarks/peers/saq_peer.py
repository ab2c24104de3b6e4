"""SAQ. As in its own benchmark and streaQ's of it (github.com/tobymao/saq, benchmarks/; github.com/tastyware/streaq,
benchmarks/bench_saq.py): dequeue_timeout=1; ttl=-1: no results kept. The times of scheduled jobs are whole seconds, and
its timer that looks for them cannot be quicker than once a second.
"""

from contextlib import asynccontextmanager

from common import CONCURRENCY, URL, effect, produce_async, run, run_async
from saq import Queue, Worker


async def noop(ctx, *, number):
    effect(number)


@asynccontextmanager
async def opened():
    queue = Queue.from_url(URL)
    await queue.connect()

    async def add(number, at):
        await queue.enqueue("noop", number=number, ttl=-1, scheduled=0 if at is None else at // 1_000_000)

    yield add, None
    await queue.disconnect()


def work():
    async def main():
        queue = Queue.from_url(URL)
        await queue.connect()
        worker = Worker(
            queue,
            [noop],
            concurrency=CONCURRENCY,
            dequeue_timeout=1,
            timers={"schedule": 1, "sweep": 60, "abort": 60},
        )
        await worker.start()

    run_async(main())


if __name__ == "__main__":
    run(produce_async(opened), work)
