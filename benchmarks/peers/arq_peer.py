"""arq. max_jobs as in streaQ's benchmark of it (github.com/tastyware/streaq, benchmarks/bench_arq.py), raised to the
concurrency of all; poll_delay (arq-docs.helpmanual.io, Worker) from 0.5 s to 10 ms; keep_result=0: no results kept.
"""

from contextlib import asynccontextmanager

from arq import create_pool
from arq.connections import RedisSettings
from arq.worker import Worker, func
from common import CONCURRENCY, PORT, effect, loop_factory, produce_async, run, when

settings = RedisSettings(port=PORT)


async def noop(ctx, number):
    effect(number)


@asynccontextmanager
async def opened():
    pool = await create_pool(settings)

    async def add(number, at):
        await pool.enqueue_job("noop", number, _defer_until=None if at is None else when(at))

    yield add, None
    await pool.aclose()


def work():
    import asyncio

    asyncio.set_event_loop(loop_factory())
    functions = [func(noop, name="noop", keep_result=0, max_tries=1)]
    Worker(functions, redis_settings=settings, max_jobs=CONCURRENCY, poll_delay=0.01, queue_read_limit=1000).run()


if __name__ == "__main__":
    run(produce_async(opened), work)
