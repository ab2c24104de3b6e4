"""The tasks of the demo. Each records in the ledger that it ran."""

from __future__ import annotations

import asyncio
import zlib
from dataclasses import dataclass

from redsched import current_run
from redsched.testing.ledger import Ledger

__all__ = ["ALL", "Bench", "bench", "cron_entry"]


@dataclass(slots=True)
class Bench:
    """The objects that the worker process provides to its tasks."""

    ledger: Ledger | None = None
    slow_ms: int = 0
    """The fire time whose runs are slow, so that a worker can be killed while it holds some."""
    slow_s: float = 0.0


bench = Bench()


async def _work() -> None:
    run = current_run()
    if run is None or bench.ledger is None:
        raise RuntimeError("the tasks of the demo run in its workers only")
    fire_ms = round(run.fire_time.timestamp() * 1000)
    slow = fire_ms == bench.slow_ms and run.attempt == 1
    # Half of the slow runs do their work first and then wait. If the worker dies in between, the work is done but not
    # reported. No scheduler can tell this from work not done: at-least-once runs it again, and the account says so.
    if slow and zlib.crc32(run.job_id.encode()) % 2:
        await asyncio.sleep(bench.slow_s)
        slow = False
    bench.ledger.write("done", run.job_id, fire_ms, run.attempt, run.fencing_token)
    if slow:
        await asyncio.sleep(bench.slow_s)


async def cron_entry(package: str, number: int) -> None:
    """A cron entry of a package."""
    del package, number
    await _work()


async def check_inventory(order_id: str) -> None:
    del order_id
    await _work()


async def add_to_kitchen_queue(order_id: str) -> None:
    del order_id
    await _work()


async def start_preparation(order_id: str) -> None:
    del order_id
    await _work()


async def perform_quality_check(order_id: str) -> None:
    del order_id
    await _work()


async def mark_ready_for_delivery(order_id: str) -> None:
    del order_id
    await _work()


ALL = (
    cron_entry,
    check_inventory,
    add_to_kitchen_queue,
    start_preparation,
    perform_quality_check,
    mark_ready_for_delivery,
)
