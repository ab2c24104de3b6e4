"""docket (pydocket). From its documentation (github.com/chrisguidry/docket, docs/production.md): execution_ttl=0
("Fire-and-Forget Mode", for maximum throughput), message_batch, max_connections in the URL beyond the concurrency
("Redis Connection Pools"); minimum_check_interval and scheduling_resolution ("Core Settings") from 250 ms to 10 ms, as
for arq.
"""

import logging
from contextlib import asynccontextmanager
from datetime import timedelta

from common import CONCURRENCY, URL, effect, produce_async, run, run_async, when
from docket import Docket, Worker

QUICK = timedelta(milliseconds=10)


async def noop(number: int) -> None:
    effect(number)


def docket() -> Docket:
    return Docket(name="bench", url=f"{URL}?max_connections=200", execution_ttl=timedelta(0))


@asynccontextmanager
async def opened():
    async with docket() as made:
        made.register(noop)

        async def add(number, due):
            await made.add(noop, when=None if due is None else when(due))(number)

        yield add, None


def work():
    logging.disable(logging.WARNING)

    async def main():
        async with docket() as made:
            made.register(noop)
            settings = {"minimum_check_interval": QUICK, "scheduling_resolution": QUICK, "message_batch": 1000}
            async with Worker(made, concurrency=CONCURRENCY, **settings) as worker:
                await worker.run_forever()

    run_async(main())


if __name__ == "__main__":
    run(produce_async(opened), work)
