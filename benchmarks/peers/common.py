"""What every adapter shares: the ledger, the roles. Standard library only, since it runs in any environment."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from datetime import UTC, datetime

URL = os.environ.get("BENCH_URL", "redis://127.0.0.1:6379/0")
PORT = int(URL.rpartition(":")[2].split("/")[0])
CONCURRENCY = int(os.environ.get("BENCH_CONCURRENCY", "100"))
EPOCH_US = int(os.environ.get("BENCH_EPOCH", "0"))
_ledger = (
    os.open(os.environ["BENCH_LEDGER"], os.O_WRONLY | os.O_CREAT | os.O_APPEND) if "BENCH_LEDGER" in os.environ else -1
)


def effect(number: int) -> None:
    """What each job does: one append of 24 bytes, its number and the microsecond at which it ran."""
    os.write(_ledger, b"%010d %012d\n" % (number, time.time_ns() // 1000 - EPOCH_US))


def when(microseconds: int) -> datetime:
    """An instant."""
    return datetime.fromtimestamp(microseconds / 1e6, UTC)


def loop_factory():
    """uvloop, for all alike."""
    import uvloop

    return uvloop.new_event_loop()


async def gather(coroutines, at_once: int = 32) -> None:
    """Await many, so many at once: each of them holds a connection (as in streaQ's own benchmark)."""
    semaphore = asyncio.Semaphore(at_once)

    async def one(coroutine) -> None:
        async with semaphore:
            await coroutine

    await asyncio.gather(*map(one, coroutines))


def run(produce, work) -> None:
    """Play the role that the command line names. `due[n]` of `produce(mode, due)` is microseconds, or None for now."""
    role, *arguments = sys.argv[1:]
    if role == "work":
        work()
        return
    mode, count = arguments[0], int(arguments[1])
    due = [None] * count
    if mode == "at":
        first, step = int(arguments[2]), float(arguments[3])
        due = [round(first + number * step) for number in range(count)]
    seconds = produce(mode, due)
    print(json.dumps({"seconds": seconds}))


def run_async(coroutine):
    """Run in an event loop of uvloop's."""
    with asyncio.Runner(loop_factory=loop_factory) as runner:
        return runner.run(coroutine)


def produce_async(open_it):
    """A `produce` out of an async context manager that gives `(add, add_many)`; add_many may be None."""

    def produce(mode, due) -> float:
        async def main() -> float:
            async with open_it() as (add, add_many):
                started = time.perf_counter()
                if mode == "single":
                    for number, at in enumerate(due):
                        await add(number, at)
                elif add_many is not None:
                    await add_many(list(enumerate(due)))
                else:
                    await gather(add(number, at) for number, at in enumerate(due))
                return time.perf_counter() - started

        return run_async(main())

    return produce
