"""BullMQ for Python. concurrency and removeOnComplete as its documentation has them (docs.bullmq.io, "Concurrency" and
"Auto-removal of jobs"), addBulk for many ("Adding jobs in bulk").
"""

import asyncio
import time
from contextlib import asynccontextmanager

from bullmq import Queue, Worker
from common import CONCURRENCY, URL, chunks, effect, produce_async, run, run_async


@asynccontextmanager
async def opened():
    queue = Queue("bench", {"connection": URL})

    def options(due):
        given = {"removeOnComplete": True}
        if due is not None:
            given["delay"] = max(0, due - time.time_ns() // 1_000_000)
        return given

    async def add(number, due):
        await queue.add("noop", {"n": number}, options(due))

    async def add_many(jobs):
        for part in chunks(jobs):
            await queue.addBulk([{"name": "noop", "data": {"n": number}, "opts": options(due)} for number, due in part])

    yield add, add_many
    await queue.close()


def work():
    async def main():
        async def process(job, token):
            effect(job.data["n"])

        Worker("bench", process, {"connection": URL, "concurrency": CONCURRENCY})
        await asyncio.Event().wait()

    run_async(main())


if __name__ == "__main__":
    run(produce_async(opened), work)
