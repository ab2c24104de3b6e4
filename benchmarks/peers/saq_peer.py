"""SAQ. Jobs added as its own benchmark does (github.com/tobymao/saq, benchmarks/simple.py: many at once behind a
semaphore), dequeue_timeout as in streaQ's benchmark of it (github.com/tastyware/streaq, benchmarks/bench_saq.py).
ttl=-1, since no result is read (saq-py.readthedocs.io, Job). The timer that looks for jobs that have become due takes
whole seconds: 1, its default, is the least. A job's time is in whole seconds as well: it is rounded up.
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

    async def add(number, due):
        await queue.enqueue("noop", number=number, ttl=-1, scheduled=0 if due is None else -(-due // 1000))

    yield add, None
    await queue.disconnect()


def work():
    async def main():
        queue = Queue.from_url(URL)
        await queue.connect()
        timers = {"schedule": 1, "sweep": 60, "abort": 60}
        await Worker(queue, [noop], concurrency=CONCURRENCY, dequeue_timeout=1, timers=timers).start()

    run_async(main())


if __name__ == "__main__":
    run(produce_async(opened), work)
