"""Plain functions that go on after their timeout: a bounded number of threads, which is told, and which heals."""

from __future__ import annotations

import logging
import threading
from collections.abc import AsyncIterator, Iterator

import pytest

from redsched import BackgroundTaskScheduler, CustomTaskExecutor
from redsched.testing import fresh_prefix
from tests.faults.local import until
from tests.invariants import check

THREADS = 3

release = threading.Event()
begun: list[int] = []


class Calls(CustomTaskExecutor):
    async def execute_task(self, task_func: object, *args: object, **kwargs: object) -> object:
        return await task_func(*args, **kwargs)  # type: ignore[operator]


def endless() -> None:
    begun.append(threading.get_ident())
    release.wait(60)


def quick() -> str:
    return "quick"


@pytest.fixture(autouse=True)
def released() -> Iterator[None]:
    release.clear()
    begun.clear()
    yield
    release.set()


@pytest.fixture
async def scheduler(redsched_url: str) -> AsyncIterator[BackgroundTaskScheduler]:
    made = BackgroundTaskScheduler(
        redsched_url, fresh_prefix(), threads=THREADS, executors={"mine": Calls()}, declared_tasks=False
    )
    async with made:
        yield made
        release.set()
        await made.clear_all_jobs()
        await check(await made.store())


def _abandoned(scheduler: BackgroundTaskScheduler) -> int:
    assert scheduler.worker is not None
    return scheduler.worker.executors.abandoned_threads


@pytest.mark.parametrize("executor", ["default", "mine"])
async def test_functions_past_their_timeout_leave_twice_the_threads_at_most_and_others_wait_until_they_end(
    scheduler: BackgroundTaskScheduler, executor: str, caplog: pytest.LogCaptureFixture
) -> None:
    before = threading.active_count()
    stuck = [
        await scheduler.schedule_immediate_task("endless", endless, timeout=0.05, executor=executor) for _ in range(40)
    ]
    await until(lambda: len(begun) == 2 * THREADS and _abandoned(scheduler) == 2 * THREADS)
    waits = await scheduler.schedule_immediate_task("quick", quick, timeout=0.3, executor=executor)
    metrics = await scheduler.collect_metrics()
    assert metrics.get_gauge("threads_abandoned") == 2 * THREADS
    assert threading.active_count() - before <= 2 * THREADS + 3  # the client of Redis has some as well
    assert len(begun) == 2 * THREADS, "more threads than that were started"
    told = [record for record in caplog.records if record.name == "redsched.worker" and "threads" in record.message]
    first = next(record for record in told if record.levelno == logging.WARNING)
    assert "endless" in first.getMessage()
    assert "processpool" in first.getMessage()
    full = next(record for record in told if record.levelno == logging.ERROR)
    assert f"all {2 * THREADS} threads" in full.getMessage()
    assert f"endless: {2 * THREADS}" in full.getMessage()

    release.set()  # they end: what waited runs, and its timeout did not run while it waited
    assert (await waits.result(timeout=20)).result == "quick"
    await until(lambda: _abandoned(scheduler) == 0)
    outcomes = [(await handle.result(timeout=20)).outcome for handle in stuck]
    assert outcomes.count("dead") >= 2 * THREADS
    assert set(outcomes) <= {"dead", "done"}
    assert "plain functions run again" in caplog.text


async def test_a_few_functions_that_hang_take_no_place_from_others(scheduler: BackgroundTaskScheduler) -> None:
    stuck = [await scheduler.schedule_immediate_task("endless", endless, timeout=0.05) for _ in range(THREADS)]
    assert [(await handle.result(timeout=10)).reason for handle in stuck] == ["timeout"] * THREADS
    assert _abandoned(scheduler) == THREADS
    results = [await scheduler.schedule_immediate_task("quick", quick) for _ in range(10)]
    assert all([(await handle.result(timeout=10)).success for handle in results])


async def test_a_run_that_is_cancelled_while_it_waits_for_a_thread_is_never_called_and_frees_its_place(
    scheduler: BackgroundTaskScheduler,
) -> None:
    working = [await scheduler.schedule_immediate_task("endless", endless) for _ in range(THREADS)]
    await until(lambda: len(begun) == THREADS)
    waits = [await scheduler.schedule_immediate_task("endless", endless, job_id=f"w{n}") for n in range(5)]
    assert scheduler.worker is not None
    worker = scheduler.worker
    await until(lambda: worker.capacity.holding == THREADS + 5)
    for handle in waits:
        assert await scheduler.cancel(handle.id)
    await until(lambda: worker.capacity.holding == THREADS)
    assert len(begun) == THREADS
    release.set()
    assert all([(await handle.result(timeout=10)).success for handle in working])
    results = [await scheduler.schedule_immediate_task("quick", quick) for _ in range(2 * THREADS)]
    assert all([(await handle.result(timeout=10)).success for handle in results])
    assert len(begun) == THREADS


async def test_a_function_for_a_child_process_begins_its_timeout_when_it_has_one(redsched_url: str) -> None:
    made = BackgroundTaskScheduler(redsched_url, fresh_prefix(), processes=1, declared_tasks=False)
    async with made:
        made.register(nap)
        naps = [
            await made.schedule_immediate_task("nap", nap, executor="processpool", timeout=5.0, args=[1.0])
            for _ in range(6)
        ]
        assert [(await handle.result(timeout=40)).outcome for handle in naps] == ["done"] * 6


def nap(seconds: float) -> None:
    threading.Event().wait(seconds)
