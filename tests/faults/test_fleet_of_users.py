"""`redsched.testing.Fleet`: worker processes of a user's module, which a test kills, stops and replaces."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from redsched import BackgroundTaskScheduler
from redsched.testing import Fleet, FleetError, fresh_prefix
from redsched.testing.ledger import read
from tests.servers import ROOT, wait_until

WORKER = """
import asyncio, os, sys
from redsched import BackgroundTaskScheduler, current_run
from redsched.testing import Ledger, serve


async def book(order):
    run = current_run().context
    fire_ms = round(run.fire_time.timestamp() * 1000)
    Ledger(sys.argv[2]).write("done", run.job_id, fire_ms, run.attempt, run.fencing_token)


if __name__ == "__main__":
    scheduler = BackgroundTaskScheduler(os.environ["REDSCHED_URL"], sys.argv[1], lease=2.0, declared_tasks=False)
    scheduler.register(book, name="book")
    asyncio.run(serve(scheduler))
"""


async def book(order: str) -> None:
    raise AssertionError(f"{order} is for the fleet")


@pytest.fixture
def prefix() -> str:
    return fresh_prefix()


@pytest.fixture
def ledger(tmp_path: Path) -> Path:
    return tmp_path / "ledger"


@pytest.fixture
async def fleet(
    redsched_url: str, prefix: str, ledger: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Fleet]:
    (tmp_path / "shop_worker.py").write_text(WORKER)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{ROOT}")
    made = Fleet("shop_worker", [prefix, str(ledger)], url=redsched_url, log=tmp_path / "log")
    yield made
    await made.end()


async def test_workers_are_killed_replaced_and_stopped_in_good_order(
    fleet: Fleet, redsched_url: str, prefix: str, ledger: Path
) -> None:
    first, second = await fleet.start_many(2)
    assert first.worker_id != second.worker_id
    assert fleet.by_worker(second.worker_id) is second
    await fleet.kill(first)
    third = await fleet.replace(first)
    assert (first.state, third.name, third.state) == ("killed", "worker 3", "working")
    async with BackgroundTaskScheduler(redsched_url, prefix, declared_tasks=False, queues=["none"]) as scheduler:
        scheduler.register(book, name="book")
        await scheduler.schedule_delayed_task("order", book, 0, args=["order-1"], job_id="order")
        await asyncio.to_thread(wait_until, lambda: ledger.exists() and read(ledger), 20, "the order is booked")
    assert [(line.job_id, line.pid in (second.pid, third.pid)) for line in read(ledger)] == [("order", True)]
    await fleet.stop()
    assert [member.state for member in fleet.members] == ["killed", "stopped", "stopped"]
    assert [member.process.returncode for member in fleet.members] == [-9, 0, 0]


async def test_a_worker_that_does_not_start_or_ends_by_itself_is_an_error_with_its_log(
    fleet: Fleet, tmp_path: Path
) -> None:
    member = await fleet.start()
    fleet.check()
    member.process.kill()
    await member.process.wait()
    with pytest.raises(FleetError, match="worker 1 ended by itself"):
        fleet.check()
    (tmp_path / "shop_worker.py").write_text("raise SystemExit('no stock')")
    with pytest.raises(FleetError, match=r"(?s)worker 2 did not start:.*no stock"):
        await fleet.start()
