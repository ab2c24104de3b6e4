"""docket (pydocket). concurrency is what its documentation has for throughput ("Workers: concurrency"; with 100 it runs
out of its own connections); the resolution of its scheduler from 250 ms to 10 ms; execution_ttl=0: no results kept.
"""

import logging
from contextlib import asynccontextmanager
from datetime import timedelta

from common import CONCURRENCY, URL, effect, produce_async, run, run_async, when
from docket import Docket, Worker


async def noop(number: int) -> None:
    effect(number)


def docket() -> Docket:
    return Docket(name="bench", url=URL, execution_ttl=timedelta(0))


@asynccontextmanager
async def opened():
    async with docket() as made:
        made.register(noop)

        async def add(number, at):
            await made.add(noop, when=None if at is None else when(at))(number)

        yield add, None


def work():
    logging.disable(logging.WARNING)

    async def main():
        async with docket() as made:
            made.register(noop)
            quick = timedelta(milliseconds=10)
            async with Worker(
                made, concurrency=CONCURRENCY, minimum_check_interval=quick, scheduling_resolution=quick
            ) as worker:
                await worker.run_forever()

    run_async(main())


if __name__ == "__main__":
    run(produce_async(opened), work)
