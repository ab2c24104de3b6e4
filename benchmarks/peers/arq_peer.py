"""arq. The worker as in streaQ's benchmark of it (github.com/tastyware/streaq, benchmarks/bench_arq.py: max_jobs, jobs
added 32 at once); from arq's documentation of Worker (arq-docs.helpmanual.io, Reference): keep_result=0, since no
result is read; poll_delay from 0.5 s to 10 ms, which is how late a job may be seen; queue_read_limit beyond max_jobs.
"""

import asyncio
from contextlib import asynccontextmanager

from arq import create_pool
from arq.connections import RedisSettings
from arq.worker import Worker, func
from common import CONCURRENCY, PORT, effect, loop_factory, produce_async, run, when

settings = RedisSettings(host="127.0.0.1", port=PORT)


async def noop(ctx, number):
    effect(number)


@asynccontextmanager
async def opened():
    pool = await create_pool(settings)

    async def add(number, due):
        await pool.enqueue_job("noop", number, _defer_until=None if due is None else when(due))

    yield add, None
    await pool.aclose()


def work():
    asyncio.set_event_loop(loop_factory())
    functions = [func(noop, name="noop", keep_result=0, max_tries=1)]
    Worker(functions, redis_settings=settings, max_jobs=CONCURRENCY, poll_delay=0.01, queue_read_limit=1000).run()


if __name__ == "__main__":
    run(produce_async(opened), work)
