"""A worker process of a chaos run: `python -m redsched.chaos.worker PREFIX LEDGER LEASE CONCURRENCY QUEUE…`, with
REDSCHED_URL.

It is a worker of a `redsched.testing.Fleet`.
"""

from __future__ import annotations

import asyncio
import ctypes
import logging
import os
import signal
import sys
import time

from redsched import BackgroundTaskScheduler
from redsched.chaos import tasks
from redsched.testing.fleet import serve

__all__ = ["EVENTS_MAX", "main"]

EVENTS_MAX = 5_000_000
"""The verdict reads the whole stream: nothing of it may be trimmed."""
GRACE_S = 3.0
BLOCKED_LEASES = 1.6
"""For how many leases a worker is blocked."""


def _hold(seconds: float) -> None:
    """A C call that holds the interpreter's lock: a PyDLL's functions are called so."""
    ctypes.PyDLL(None).usleep(round(seconds * 1_000_000))


async def _serve(url: str, prefix: str, lease_s: float, concurrency: int, queues: list[str]) -> None:
    scheduler = BackgroundTaskScheduler(
        url, prefix, lease=lease_s, concurrency=concurrency, queues=queues, events_max=EVENTS_MAX, declared_tasks=False
    )
    unknown = os.environ.get(tasks.UNKNOWN, "").split()
    for name, task in tasks.TASKS.items():
        if name not in unknown:
            scheduler.register(task)
    loop = asyncio.get_running_loop()
    # The faults that block a worker: its event loop, and its interpreter.
    loop.add_signal_handler(signal.SIGUSR1, time.sleep, BLOCKED_LEASES * lease_s)
    loop.add_signal_handler(signal.SIGUSR2, lambda: loop.run_in_executor(None, _hold, BLOCKED_LEASES * lease_s))
    await serve(scheduler, grace=GRACE_S)


def main() -> None:
    """Read the arguments and serve."""
    logging.basicConfig(format="%(process)d %(levelname)s %(name)s: %(message)s")
    # Tasks fail on purpose here: each with a traceback would be most of the log.
    logging.getLogger("redsched.worker").addFilter(lambda record: "is to fail" not in record.getMessage())
    prefix, path, lease, concurrency, *queues = sys.argv[1:]
    tasks.open_ledger(path)
    asyncio.run(_serve(os.environ["REDSCHED_URL"], prefix, float(lease), int(concurrency), queues))


if __name__ == "__main__":
    main()
