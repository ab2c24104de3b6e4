"""A worker process of a `Fleet`: URL PREFIX LEDGER READY LEASE CONCURRENCY HOURS_WRONG IGNORANT."""

from __future__ import annotations

import asyncio
import logging
import sys
import time
from datetime import datetime as real_datetime
from datetime import timedelta
from pathlib import Path
from typing import Any

from redsched import BackgroundTaskScheduler
from tests.faults import tasks


def wrong_clock(hours: float) -> None:
    """Make this process' wall clock wrong, as far as Python code can see it."""
    shift = hours * 3600
    now, now_ns = time.time, time.time_ns
    time.time = lambda: now() + shift
    time.time_ns = lambda: now_ns() + int(shift * 1e9)

    class WrongDatetime(real_datetime):
        @classmethod
        def now(cls, tz: Any = None) -> Any:
            return real_datetime.now(tz) + timedelta(hours=hours)

    import datetime as module

    module.datetime = WrongDatetime  # type: ignore[misc]


async def main() -> None:
    url, prefix, ledger, ready, lease, concurrency, hours, ignorant = sys.argv[1:]
    logging.basicConfig(level=logging.WARNING)
    if float(hours):
        wrong_clock(float(hours))
    tasks.open_ledger(ledger)
    scheduler = BackgroundTaskScheduler(url, prefix, lease=float(lease), concurrency=int(concurrency))
    for task in () if int(ignorant) else tasks.TASKS:
        scheduler.register(task)
    await scheduler.start()
    Path(ready).touch()
    await asyncio.Event().wait()


asyncio.run(main())
