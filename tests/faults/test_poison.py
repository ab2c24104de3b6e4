"""Jobs that harm their workers: each ends with a reason, and the others run on.

Elsewhere: a job that kills its worker each time (test_workers_die.py), records and arguments that cannot be decoded
(promises/test_9_no_foreign_code.py), records of a newer version (store/test_codec.py), what somebody else put into
Redis (security/test_limits.py), listeners and handlers that raise (api/test_running.py, policies/test_handlers.py), a
child of the process pool that dies (worker/test_processes.py).
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Iterator

import pytest

from redsched import BackgroundTaskScheduler, RetryPolicy
from redsched.testing import Kit, fresh_prefix
from tests.faults import tasks
from tests.faults.fleet import Fleet
from tests.faults.local import Make, until
from tests.invariants import check
from tests.servers import LocalServer

LEASE = 1.5

release = threading.Event()
begun: list[str] = []


@pytest.fixture(autouse=True)
def released() -> Iterator[None]:
    """What cannot be stopped ends with its test."""
    release.clear()
    begun.clear()
    yield
    release.set()


async def harmless() -> str:
    return "harmless"


async def deaf(name: str = "deaf") -> None:
    """Ignores that it is cancelled, for longer than any test waits."""
    begun.append(name)
    deadline = time.monotonic() + 15
    while not release.is_set() and time.monotonic() < deadline:
        try:
            await asyncio.sleep(0.02)
        except asyncio.CancelledError:
            begun.append("cancelled")


def endless() -> None:
    """A plain function that never returns."""
    begun.append("endless")
    release.wait()


def recursive() -> None:
    recursive()


class Cruel(BaseException):
    """An exception that is none, and whose text cannot be had."""

    def __str__(self) -> str:
        raise SystemExit(3)


async def cruel() -> None:
    raise Cruel


@pytest.fixture(scope="module")
def server() -> Iterator[LocalServer]:
    with LocalServer() as made:
        yield made


@pytest.fixture
def fleet(server: LocalServer) -> Iterator[Fleet]:
    with Fleet(server.url, fresh_prefix(), lease=LEASE) as made:
        yield made


@pytest.fixture
async def client(fleet: Fleet) -> AsyncIterator[BackgroundTaskScheduler]:
    scheduler = BackgroundTaskScheduler(fleet.url, fleet.prefix, lease=LEASE, declared_tasks=False)
    await scheduler.start(worker=False)
    yield scheduler
    await check(await scheduler.store())
    await scheduler.shutdown()


async def test_a_job_that_wants_more_memory_than_there_is_fails_and_its_worker_goes_on(
    fleet: Fleet, client: BackgroundTaskScheduler
) -> None:
    [worker] = fleet.add()
    hog = await client.schedule_immediate_task("hog", tasks.hog, retry=RetryPolicy(max_attempts=2, initial_delay=0.1))
    result = await hog.result(timeout=20)
    assert (result.outcome, result.reason, result.error_type) == ("dead", "attempts_used_up", "MemoryError")
    assert len(fleet.effects("started")) == 2
    assert (await (await client.schedule_immediate_task("next", tasks.effect)).result(timeout=10)).success
    assert worker.poll() is None, "the worker died"


async def test_jobs_that_kill_their_workers_use_up_their_recoveries_and_the_others_all_run(
    fleet: Fleet, client: BackgroundTaskScheduler
) -> None:
    """Several at once, among others: each takes the runs beside it along, but never to the end."""
    fleet.add(3)
    poison = [await client.schedule_immediate_task("poison", tasks.deadly, max_recoveries=1) for _ in range(3)]
    innocent = [await client.schedule_immediate_task("innocent", tasks.steady, max_recoveries=50) for _ in range(60)]

    async def keep_three() -> None:
        while True:
            if sum(worker.poll() is None for worker in fleet.workers) < 3:
                await asyncio.to_thread(fleet.add, 1)
            await asyncio.sleep(0.05)

    keeper = asyncio.create_task(keep_three())
    try:
        results = [await handle.result(timeout=30) for handle in innocent]
        ends = [await handle.result(timeout=30) for handle in poison]
    finally:
        keeper.cancel()
        await asyncio.wait({keeper})
    assert all(result.success for result in results)
    assert {(end.outcome, end.reason) for end in ends} == {("dead", "recoveries_used_up")}
    assert await client.get_jobs(state="scheduled") == []


async def test_a_task_that_ignores_its_cancellation_holds_up_neither_others_nor_the_shutdown(
    make: Make, redsched_url: str
) -> None:
    scheduler = make(redsched_url, lease=1.0)
    await scheduler.start()
    stuck = await scheduler.schedule_immediate_task("deaf", deaf, job_id="deaf", timeout=0.1, max_recoveries=0)
    await until(lambda: "cancelled" in begun)  # by its timeout
    assert (await (await scheduler.schedule_immediate_task("harmless", harmless)).result(timeout=10)).success
    started = time.monotonic()
    await scheduler.shutdown(wait=False)
    assert time.monotonic() - started < 4
    # Its lease ends, and since its worker could not end it, it counts as one that hung.
    other = make(redsched_url, lease=1.0)
    await other.start()
    result = await other.wait_for_result(stuck.id, timeout=10)
    assert (result.outcome, result.reason) == ("dead", "recoveries_used_up")
    assert begun.count("deaf") == 1
    await other.clear_all_jobs()
    release.set()


async def test_a_cancelled_job_that_ignores_it_is_not_given_to_another_while_it_runs(redsched_kit: Kit) -> None:
    scheduler = redsched_kit.scheduler
    await scheduler.start()
    await scheduler.schedule_immediate_task("deaf", deaf, job_id="deaf")
    await until(lambda: "deaf" in begun)
    assert await scheduler.cancel("deaf")
    await until(lambda: "cancelled" in begun)
    await scheduler.schedule_immediate_task("harmless", harmless, job_id="good")
    await redsched_kit.wait_for("done", "good")
    assert begun.count("deaf") == 1
    release.set()
    await redsched_kit.wait_for("done", "deaf")  # it ended by itself after all
    assert await scheduler.get_jobs() == []


async def test_plain_functions_that_never_return_leave_room_for_others_once_they_timed_out(
    redsched_url: str,
) -> None:
    """A thread cannot be stopped, but others get its place (as far as worker/test_threads.py says)."""
    scheduler = BackgroundTaskScheduler(redsched_url, fresh_prefix(), threads=2, declared_tasks=False)
    async with scheduler:
        stuck = [await scheduler.schedule_immediate_task("endless", endless, timeout=0.2) for _ in range(3)]
        ends = [await handle.result(timeout=10) for handle in stuck]
        assert {(end.outcome, end.reason) for end in ends} == {("dead", "timeout")}
        handle = await scheduler.schedule_immediate_task("plain", len, args=["four"])
        assert (await handle.result(timeout=10)).result == 4
        assert begun.count("endless") >= 2
        release.set()
        await scheduler.clear_all_jobs()


@pytest.mark.parametrize("task", [recursive, cruel], ids=["endless recursion", "an exception that is none"])
async def test_whatever_a_task_raises_ends_its_run_alone(task: object, redsched_kit: Kit) -> None:
    scheduler = redsched_kit.scheduler
    await scheduler.start()
    await scheduler.schedule_immediate_task("poison", task, job_id="poison")  # type: ignore[arg-type]
    await scheduler.schedule_immediate_task("harmless", harmless, job_id="good")
    event = await redsched_kit.wait_for("dead", "poison")
    assert event.reason == "task_failed"
    await redsched_kit.wait_for("done", "good")
    assert scheduler.worker is not None
    assert scheduler.worker.serving
