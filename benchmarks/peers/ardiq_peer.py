"""ArdiQ. From its README (github.com/17tayyy/ardiq): `app.run()` as the worker ("from your own code"), which takes
uvloop; `concurrency`; result_ttl_ms=0 ("drops"), since no result is read; prefetch is twice the concurrency by default.
`enqueue_many` of prepared tasks for bulk, `schedule_ms` for a time.
"""

from contextlib import asynccontextmanager

from ardiq import Ardiq
from common import CONCURRENCY, URL, chunks, effect, produce_async, run, run_async

app = Ardiq(redis_url=URL, queue_name="bench", concurrency=CONCURRENCY, result_ttl_ms=0)


@app.task(name="noop")
async def noop(number: int) -> None:
    effect(number)


@asynccontextmanager
async def opened():
    async def add(number, due):
        await (noop if due is None else noop.options(schedule_ms=due)).enqueue(number)

    async def add_many(jobs):
        for part in chunks(jobs):
            await app.enqueue_many(
                [(noop if due is None else noop.options(schedule_ms=due)).prepare(number) for number, due in part]
            )

    yield add, add_many


async def main():
    await app.run()


def work():
    run_async(main())


if __name__ == "__main__":
    run(produce_async(opened), work)
