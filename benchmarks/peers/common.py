"""What every adapter shares: the ledger and the roles. Only the standard library, since it runs in any environment."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from datetime import UTC, datetime

URL = os.environ["BENCH_URL"]
PORT = int(URL.rpartition(":")[2].split("/")[0])
CONCURRENCY = int(os.environ["BENCH_CONCURRENCY"])
EPOCH_US = int(os.environ["BENCH_EPOCH"])
FIRST = int(os.environ.get("BENCH_FIRST", "0"))
_ledger = os.open(os.environ["BENCH_LEDGER"], os.O_WRONLY | os.O_APPEND)


def effect(number: int) -> None:
    """What each job does: one append of 24 bytes, its number and the microsecond at which it ran."""
    os.write(_ledger, b"%010d %012d\n" % (number, time.time_ns() // 1000 - EPOCH_US))


def when(milliseconds: int) -> datetime:
    """An instant."""
    return datetime.fromtimestamp(milliseconds / 1000, UTC)


def loop_factory():
    """uvloop, for all alike."""
    import uvloop

    return uvloop.new_event_loop()


def run_async(coroutine):
    """Run in an event loop of uvloop's."""
    with asyncio.Runner(loop_factory=loop_factory) as runner:
        return runner.run(coroutine)


async def gather(coroutines, at_once: int = 32) -> None:
    """Await many, so many at once, since each holds a connection: as streaQ's and SAQ's own benchmarks add jobs."""
    semaphore = asyncio.Semaphore(at_once)

    async def one(coroutine) -> None:
        async with semaphore:
            await coroutine

    await asyncio.gather(*map(one, coroutines))


def chunks(items, size: int = 1000):
    """A list in parts."""
    return (items[start : start + size] for start in range(0, len(items), size))


def run(produce, work) -> None:
    """Play the role that the command line names.

    `produce(mode, jobs)` gets (number, due) for each job, due in ms or None for now, and returns the seconds it took.
    """
    role, *arguments = sys.argv[1:]
    if role == "work":
        work()
        return
    mode, count = arguments[0], int(arguments[1])
    due = [None] * count
    if mode == "at":
        first, step = int(arguments[2]), float(arguments[3])
        due = [first + int(number * step) for number in range(count)]
    print(json.dumps({"seconds": produce(mode, list(enumerate(due, FIRST)))}))


def produce_async(opened):
    """A `produce` from an async context manager that gives `(add, add_many)`; with None for add_many, many are added
    by many calls of add at once.
    """

    def produce(mode, jobs) -> float:
        async def main() -> float:
            async with opened() as (add, add_many):
                if mode == "single":
                    await add(*jobs.pop(0))
                started = time.perf_counter()
                if mode == "single":
                    for number, due in jobs:
                        await add(number, due)
                elif add_many is not None:
                    await add_many(jobs)
                else:
                    await gather(add(number, due) for number, due in jobs)
                return time.perf_counter() - started

        return run_async(main())

    return produce
