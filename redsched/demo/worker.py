"""A worker process of the demo: `python -m redsched.demo.worker PREFIX LEDGER SLOW_MS SLOW_S`, with REDSCHED_URL.

It prints "ready" and its worker's id when it serves. It ends on SIGTERM, or when its parent is gone.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys

from redsched import BackgroundTaskScheduler
from redsched.demo import tasks
from redsched.demo.ledger import Ledger

__all__ = ["CONCURRENCY", "EVENTS_MAX", "LEASE_S", "main"]

LEASE_S = 2.0
"""Short, because an onlooker waits for it to expire; the default is 30 s."""
CONCURRENCY = 12
"""Low, so that all workers share the busiest minutes."""
EVENTS_MAX = 1_000_000
"""High, because the account reads the whole stream: none of it may be trimmed."""


async def _serve(url: str, prefix: str, ledger: Ledger, slow_ms: int, slow_s: float) -> None:
    tasks.bench = tasks.Bench(ledger, slow_ms, slow_s)
    scheduler = BackgroundTaskScheduler(
        url, prefix, lease=LEASE_S, concurrency=CONCURRENCY, events_max=EVENTS_MAX, declared_tasks=False
    )
    for task in tasks.ALL:
        scheduler.register(task)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    parent = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(parent), sys.stdin)
    orphaned = asyncio.create_task(parent.read())
    orphaned.add_done_callback(lambda _: stop.set())
    await scheduler.start()
    sys.stdout.write(f"ready {scheduler.id}\n")
    sys.stdout.flush()
    await stop.wait()
    await scheduler.shutdown(grace=5)
    orphaned.cancel()


def main() -> None:
    """Read the arguments and serve."""
    logging.basicConfig(format="%(process)d %(levelname)s %(name)s: %(message)s")
    prefix, path, slow_ms, slow_s = sys.argv[1:]
    asyncio.run(_serve(os.environ["REDSCHED_URL"], prefix, Ledger(path), int(slow_ms), float(slow_s)))


if __name__ == "__main__":
    main()
