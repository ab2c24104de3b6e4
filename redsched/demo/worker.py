"""A worker process of the demo: `python -m redsched.demo.worker PREFIX LEDGER SLOW_MS SLOW_S`, with REDSCHED_URL.

It is a worker of a `redsched.testing.Fleet`.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys

from redsched import BackgroundTaskScheduler
from redsched.demo import tasks
from redsched.testing.fleet import serve
from redsched.testing.ledger import Ledger

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
    await serve(scheduler)


def main() -> None:
    """Read the arguments and serve."""
    logging.basicConfig(format="%(process)d %(levelname)s %(name)s: %(message)s")
    prefix, path, slow_ms, slow_s = sys.argv[1:]
    asyncio.run(_serve(os.environ["REDSCHED_URL"], prefix, Ledger(path), int(slow_ms), float(slow_s)))


if __name__ == "__main__":
    main()
