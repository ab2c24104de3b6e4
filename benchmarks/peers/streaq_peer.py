"""streaQ. Worker and jobs as in its own benchmark (github.com/tastyware/streaq, benchmarks/bench_streaq.py); uvloop,
`enqueue_many` for bulk, and ttl=0 for results that nobody reads, from its documentation (streaq.readthedocs.io).
"""

from contextlib import asynccontextmanager

from common import CONCURRENCY, URL, chunks, effect, produce_async, run, when
from streaq import Worker

worker = Worker(redis_url=URL, concurrency=CONCURRENCY, anyio_kwargs={"use_uvloop": True})


@worker.task(ttl=0)
async def noop(number: int) -> None:
    effect(number)


@asynccontextmanager
async def opened():
    async with worker:

        def task(number, due):
            made = noop.enqueue(number)
            return made if due is None else made.start(schedule=when(due))

        async def add(number, due):
            await task(number, due)

        async def add_many(jobs):
            for part in chunks(jobs):
                await worker.enqueue_many([task(number, due) for number, due in part])

        yield add, add_many


def work():
    worker.run_sync()


if __name__ == "__main__":
    run(produce_async(opened), work)
