"""BullMQ for Python. concurrency and removeOnComplete as its documentation has them ("Workers: Concurrency",
"Auto-removal of jobs"), addBulk for many.
"""

import asyncio
import time
from contextlib import asynccontextmanager

from bullmq import Queue, Worker
from common import CONCURRENCY, URL, effect, produce_async, run, run_async


@asynccontextmanager
async def opened():
    queue = Queue("bench", {"connection": URL})

    def options(at):
        given = {"removeOnComplete": True}
        if at is not None:
            given["delay"] = max(0, (at - time.time_ns() // 1000) // 1000)
        return given

    async def add(number, at):
        await queue.add("noop", {"n": number}, options(at))

    async def add_many(pairs):
        for start in range(0, len(pairs), 1000):
            await queue.addBulk(
                [
                    {"name": "noop", "data": {"n": number}, "opts": options(at)}
                    for number, at in pairs[start : start + 1000]
                ]
            )

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
