"""Used from another event loop a scheduler works, or says where to call it; the loop that owns it feels nothing."""

from __future__ import annotations

import asyncio
import gc
import importlib
import os
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
import uvloop
from asgiref.sync import async_to_sync

from redsched import (
    BackgroundTaskScheduler,
    ReactiveTaskProcessor,
    SchedulerStateError,
    current_run,
    current_scheduler,
)
from redsched.testing import fresh_prefix
from redsched.testing.clusters import ClusterServers, SentinelServers
from tests.processes import shared
from tests.processes.harness import in_threads, sockets

COUNT = 10


def nothing() -> str:
    return "ran"


async def schedule(scheduler: BackgroundTaskScheduler, count: int = COUNT) -> list[str]:
    return [(await scheduler.schedule_delayed_task("later", nothing, delay_seconds=600)).id for _ in range(count)]


@pytest.fixture(params=["redis", "embedded", "sentinel", "cluster"])
def made(request: pytest.FixtureRequest, redsched_url: str, tmp_path: Path) -> Iterator[BackgroundTaskScheduler]:
    kind = {"sentinel": SentinelServers, "cluster": ClusterServers}.get(request.param)
    servers = None if kind is None else kind()
    url = servers.url if servers else redsched_url if request.param == "redis" else f"embedded://{tmp_path / 'data'}"
    scheduler = BackgroundTaskScheduler(url, fresh_prefix(), declared_tasks=False)
    yield scheduler
    asyncio.run(scheduler.shutdown())
    if servers:
        servers.close()


@pytest.fixture
def scheduler(redsched_url: str) -> Iterator[BackgroundTaskScheduler]:
    scheduler = BackgroundTaskScheduler(redsched_url, fresh_prefix(), declared_tasks=False)
    yield scheduler
    asyncio.run(scheduler.shutdown())


def stored(scheduler: BackgroundTaskScheduler) -> set[str]:
    return {job.id for job in asyncio.run(scheduler.get_jobs())}


def test_one_loop_after_the_other_and_loops_in_threads_at_once(made: BackgroundTaskScheduler) -> None:
    before = sockets()
    ids = [job_id for _ in range(3) for job_id in asyncio.run(schedule(made))]
    assert sockets() == before  # what a loop had is closed with it
    ids += [job_id for found in in_threads(lambda: asyncio.run(schedule(made))) for job_id in found]
    assert len(set(ids)) == 7 * COUNT
    assert stored(made) == set(ids)
    assert sockets() == before


def test_a_loop_that_is_closed_by_hand_leaves_no_socket_and_no_warning(made: BackgroundTaskScheduler) -> None:
    before = sockets()
    ids: list[str] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(3):
            loop = asyncio.new_event_loop()
            ids += loop.run_until_complete(schedule(made))
            loop.close()  # without shutdown_asyncgens, which asyncio.run would call
            del loop
            gc.collect()
        assert stored(made) == set(ids)
        gc.collect()
    assert [str(warning.message) for warning in caught if issubclass(warning.category, ResourceWarning)] == []
    assert sockets() == before


def test_uvloop_and_asyncio_in_turns(scheduler: BackgroundTaskScheduler) -> None:
    ids: list[str] = []
    for factory in (uvloop.new_event_loop, None, uvloop.new_event_loop):
        with asyncio.Runner(loop_factory=factory) as runner:
            ids += runner.run(schedule(scheduler))
    assert stored(scheduler) == set(ids)


def test_djangos_async_to_sync(scheduler: BackgroundTaskScheduler) -> None:
    def view() -> list[str]:
        return [job_id for _ in range(3) for job_id in async_to_sync(schedule)(scheduler)]

    ids = view()
    ids += [job_id for found in in_threads(view) for job_id in found]
    assert len(set(ids)) == 15 * COUNT
    assert stored(scheduler) == set(ids)


async def test_loops_in_threads_beside_a_started_scheduler(scheduler: BackgroundTaskScheduler) -> None:
    """A WSGI view, a signal handler, a timer thread: they schedule while the service's worker runs."""
    async with scheduler:

        async def one() -> str:
            handle = await scheduler.schedule_immediate_task("nothing", nothing)
            return (await handle.result(timeout=20)).result

        here = asyncio.create_task(one())
        found = await asyncio.to_thread(in_threads, lambda: [asyncio.run(one()) for _ in range(3)])
        assert [*sum_of(found), await here] == ["ran"] * 13
        assert await one() == "ran"
        assert scheduler.running


def sum_of(lists: list[list[str]]) -> list[str]:
    return [one for each in lists for one in each]


async def test_a_plain_task_schedules_and_reports_from_its_thread(scheduler: BackgroundTaskScheduler) -> None:
    def parent() -> list[str]:
        assert current_scheduler() is scheduler
        asyncio.run(current_run().report_progress({"percent": 50}))
        ids = asyncio.run(schedule(current_scheduler(), 2))
        return [*ids, *asyncio.run(schedule(current_scheduler(), 2))]

    async with scheduler:
        for _ in range(3):
            handles = [await scheduler.schedule_immediate_task("parent", parent) for _ in range(5)]
            for handle in handles:
                result = await handle.result(timeout=20)
                assert result.outcome == "done", result.error
                for job_id in result.result:
                    assert await scheduler.get_job(job_id) is not None


async def test_a_task_in_a_process_of_the_pool_schedules_with_the_scheduler_of_its_module(
    redsched_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    prefix = fresh_prefix()
    monkeypatch.setenv("POOLED_URL", redsched_url)
    monkeypatch.setenv("POOLED_PREFIX", prefix)
    pooled = importlib.import_module("tests.processes.pooled")
    async with BackgroundTaskScheduler(redsched_url, prefix, declared_tasks=False) as scheduler:
        handle = await scheduler.schedule_immediate_task("parent", pooled.parent, executor="processpool")
        result = await handle.result(timeout=30)
        assert result.outcome == "done", result.error
        assert await scheduler.get_job(result.result) is not None


async def test_a_task_in_a_process_of_the_pool_without_a_scheduler_is_told_what_to_do(
    scheduler: BackgroundTaskScheduler,
) -> None:
    async with scheduler:
        handle = await scheduler.schedule_immediate_task("prefix", shared.current_prefix, executor="processpool")
        result = await handle.result(timeout=30)
        assert result.error_type == "SchedulerStateError"
        assert "made 0 schedulers there" in (result.error or "")


def test_a_result_is_awaited_in_one_loop_after_the_other(scheduler: BackgroundTaskScheduler) -> None:
    async def service(stop: threading.Event, ready: threading.Event) -> None:
        other = BackgroundTaskScheduler(scheduler.redis_url, scheduler.prefix, declared_tasks=False)
        other.register(nothing, name=f"{nothing.__module__}.nothing")
        async with other:
            ready.set()
            await asyncio.to_thread(stop.wait)

    stop, ready = threading.Event(), threading.Event()
    thread = threading.Thread(target=lambda: asyncio.run(service(stop, ready)))
    thread.start()
    try:
        ready.wait(10)
        for _ in range(3):
            handle = asyncio.run(scheduler.schedule_immediate_task("nothing", nothing))
            assert asyncio.run(handle.result(timeout=10)).result == "ran"
    finally:
        stop.set()
        thread.join()


async def test_what_only_the_owner_may_do_is_refused_elsewhere_and_harms_nothing(
    scheduler: BackgroundTaskScheduler,
) -> None:
    async with scheduler:
        worker = scheduler.worker
        assert worker is not None
        for call in (scheduler.shutdown, scheduler.wait_until_stopped, worker.stop):
            with pytest.raises(SchedulerStateError, match="run_coroutine_threadsafe"):
                await asyncio.to_thread(lambda call=call: asyncio.run(call()))
        with pytest.raises(SchedulerStateError, match="serves already"):
            await asyncio.to_thread(lambda: asyncio.run(worker.run_once()))
        with pytest.raises(SchedulerStateError, match="started already"):
            await asyncio.to_thread(lambda: asyncio.run(scheduler.start()))
        handle = await scheduler.schedule_immediate_task("nothing", nothing)
        assert (await handle.result(timeout=10)).result == "ran"
        # The remedy that the message names.
        loop = asyncio.get_running_loop()
        await asyncio.to_thread(lambda: asyncio.run_coroutine_threadsafe(scheduler.shutdown(), loop).result(20))
        assert not scheduler.running


async def test_subscriptions_are_closed_in_their_loop_only(scheduler: BackgroundTaskScheduler) -> None:
    async def events():
        yield 1
        await asyncio.sleep(60)

    async def handle(event: int) -> None:
        pass

    async with ReactiveTaskProcessor(scheduler) as processor:
        processor.subscribe(events(), handle)
        with pytest.raises(SchedulerStateError, match="run_coroutine_threadsafe"):
            await asyncio.to_thread(lambda: asyncio.run(processor.close()))


async def test_a_listener_is_added_from_any_thread_and_called_in_the_owners_loop(
    scheduler: BackgroundTaskScheduler,
) -> None:
    arrived: asyncio.Queue[int] = asyncio.Queue()
    async with scheduler:
        await asyncio.to_thread(
            scheduler.add_listener, lambda event: arrived.put_nowait(threading.get_ident()), ["done"]
        )
        async with asyncio.timeout(10):
            while arrived.empty():
                await (await scheduler.schedule_immediate_task("nothing", nothing)).result(timeout=10)
        assert arrived.get_nowait() == threading.get_ident()


def test_a_scheduler_whose_loop_ended_without_a_shutdown_can_be_started_again(
    scheduler: BackgroundTaskScheduler,
) -> None:
    async def once() -> str:
        await scheduler.start()
        handle = await scheduler.schedule_immediate_task("nothing", nothing)
        return (await handle.result(timeout=10)).result

    assert asyncio.run(once()) == "ran"
    assert not scheduler.running
    assert asyncio.run(once()) == "ran"
    asyncio.run(scheduler.shutdown())
    assert not scheduler.running


def test_start_and_shutdown_in_one_loop_after_the_other(scheduler: BackgroundTaskScheduler) -> None:
    async def once() -> str:
        async with scheduler:
            handle = await scheduler.schedule_immediate_task("here", os.getpid, executor="processpool")
            await handle.result(timeout=20)
            return (await (await scheduler.schedule_immediate_task("nothing", nothing)).result(timeout=10)).result

    assert [asyncio.run(once()) for _ in range(3)] == ["ran"] * 3


def test_closures_that_threads_schedule_at_once_do_not_take_each_others_name(
    scheduler: BackgroundTaskScheduler,
) -> None:
    def closure(number: int):
        return lambda: number

    async def one(number: int) -> None:
        await scheduler.schedule_delayed_task("closure", closure(number), delay_seconds=600)

    def many() -> None:
        async def all_of_them() -> None:
            for number in range(50):
                await one(number)

        asyncio.run(all_of_them())

    in_threads(many, 6)
    tasks = [job.task for job in asyncio.run(scheduler.get_jobs())]
    assert len(set(tasks)) == len(tasks) == 300


def test_without_a_loop_the_error_names_the_remedy(scheduler: BackgroundTaskScheduler) -> None:
    with pytest.raises(SchedulerStateError, match=r"asyncio\.run"):
        scheduler.get_jobs().send(None)
