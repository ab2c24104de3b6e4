"""The life of a scheduler: start, stop, what it leaves behind, and where its jobs are."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from redsched import (
    BackgroundTaskScheduler,
    InvalidConfigError,
    JobSpec,
    SchedulerStateError,
    State,
    StoreUnavailableError,
    current_run,
)
from redsched.testing import Kit, fresh_prefix, kit

ran: list[Any] = []


async def note(value: Any = None) -> Any:
    ran.append(value)
    return value


@pytest.fixture(autouse=True)
def _nothing_ran() -> None:
    ran.clear()


@pytest.fixture
def prefix() -> str:
    return fresh_prefix()


async def until(condition: Any, seconds: float = 5.0) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.01)


async def test_async_with_starts_runs_and_stops(redsched_url: str, prefix: str) -> None:
    scheduler = BackgroundTaskScheduler(redsched_url, prefix, declared_tasks=False)
    assert not scheduler.running
    async with scheduler as entered:
        assert entered is scheduler
        assert scheduler.running
        handle = await scheduler.schedule_immediate_task("job", note, args=[1])
        assert (await handle.result(timeout=5)).result == 1
        assert list(await scheduler.get_workers()) == [scheduler.id]
    assert not scheduler.running
    assert scheduler.worker is None
    async with scheduler:  # again
        handle = await scheduler.schedule_immediate_task("job", note, args=[2])
        assert (await handle.result(timeout=5)).result == 2
    await scheduler.clear_all_jobs()


async def test_it_cannot_be_started_twice(redsched_kit: Kit) -> None:
    await redsched_kit.scheduler.start()
    with pytest.raises(SchedulerStateError, match="already"):
        await redsched_kit.scheduler.start()
    assert redsched_kit.scheduler.running
    await redsched_kit.scheduler.shutdown()
    await redsched_kit.scheduler.shutdown()  # stopping twice harms nothing
    await redsched_kit.scheduler.start()


async def test_without_a_worker_it_only_schedules(redsched_kit: Kit, redsched_url: str) -> None:
    client = redsched_kit.scheduler
    await client.start(worker=False)
    assert client.worker is None
    assert await client.get_workers() == {}
    handle = await client.schedule_immediate_task("job", note, args=["elsewhere"])
    assert await redsched_kit.scheduler.get_job(handle.id) is not None
    worker = BackgroundTaskScheduler(redsched_url, client.prefix, declared_tasks=False)
    worker.register(note)
    async with worker:
        assert (await handle.result(timeout=5)).result == "elsewhere"


async def test_a_shutdown_lets_runs_finish(redsched_kit: Kit) -> None:
    scheduler = redsched_kit.scheduler
    started, go_on = asyncio.Event(), asyncio.Event()

    async def work() -> str:
        started.set()
        await go_on.wait()
        ran.append("finished")
        return "finished"

    await scheduler.start()
    handle = await scheduler.schedule_immediate_task("job", work)
    await asyncio.wait_for(started.wait(), 5)
    late = await scheduler.schedule_delayed_task("late", note, 3600)
    stopping = asyncio.create_task(scheduler.shutdown(wait=True))
    await until(lambda: not scheduler.running)
    assert not stopping.done()
    go_on.set()
    await asyncio.wait_for(stopping, 5)
    assert ran == ["finished"]
    assert (await handle.result(timeout=5)).result == "finished"
    assert await late.get() is not None


@pytest.mark.parametrize("how", [{"wait": False}, {"grace": 0.05}])
async def test_what_a_shutdown_does_not_wait_for_starts_at_once_elsewhere_and_no_attempt_is_used(
    redsched_url: str, prefix: str, how: dict[str, Any]
) -> None:
    attempts: list[tuple[str, int]] = []

    async def work() -> str:
        context = current_run().context
        attempts.append((context.worker, context.attempt))
        if len(attempts) <= 2:
            await asyncio.sleep(60)
        return "finished"

    def make() -> BackgroundTaskScheduler:
        made = BackgroundTaskScheduler(redsched_url, prefix, declared_tasks=False, lease=30)
        made.register(work, name="work")
        return made

    first, second = make(), make()
    async with kit(first), kit(second) as made:
        await first.start()
        once = await first.schedule_immediate_task("once", work)
        again = await first.schedule_interval("again", work, 3600, job_id="again")
        await again.run_now()
        await until(lambda: len(attempts) == 2)
        await asyncio.wait_for(first.shutdown(**how), 5)
        async with second:
            for handle in (once, again):
                assert (await made.wait_for("done", handle.id)).attempt == 1
        assert attempts == [(first.id, 1)] * 2 + [(second.id, 1)] * 2
        kinds = [event.kind for event in await first.get_history(once.id)]
        assert kinds == ["scheduled", "claimed", "released", "claimed", "done"]


async def test_leaving_async_with_by_an_error_does_not_wait_for_runs(redsched_url: str, prefix: str) -> None:
    started = asyncio.Event()

    async def work() -> None:
        started.set()
        await asyncio.sleep(60)

    scheduler = BackgroundTaskScheduler(redsched_url, prefix, declared_tasks=False)
    with pytest.raises(ZeroDivisionError):
        async with asyncio.timeout(5), scheduler:
            await scheduler.schedule_immediate_task("job", work)
            await started.wait()
            raise ZeroDivisionError
    await scheduler.clear_all_jobs()


async def test_all_jobs_can_be_cleared_after_a_shutdown(redsched_url: str, prefix: str) -> None:
    scheduler = BackgroundTaskScheduler(redsched_url, prefix, declared_tasks=False)
    async with scheduler:
        for n in range(5):
            await scheduler.schedule_delayed_task("job", note, 3600, tags=["t"], job_id=f"j{n}")
    assert await scheduler.clear_all_jobs() == 5
    assert await scheduler.get_jobs() == []
    assert await scheduler.get_jobs(tag="t") == []
    assert await scheduler.get_history() == []
    async with scheduler:
        await scheduler.schedule_delayed_task("job", note, 3600, job_id="j0")
    assert await scheduler.clear_all_jobs() == 1


async def test_schedulers_of_two_prefixes_know_nothing_of_each_other(redsched_url: str) -> None:
    first, second = (
        BackgroundTaskScheduler(redsched_url, prefix, declared_tasks=False) for prefix in ("life-a", "life-a:b")
    )
    async with kit(first), kit(second):
        await first.schedule_delayed_task("job", note, 60, job_id="same")
        await second.schedule_delayed_task("job", note, 60, job_id="same")
        assert await first.clear_all_jobs() == 1
        assert len(await second.get_jobs()) == 1


async def test_an_embedded_server_keeps_the_jobs_of_its_folder(tmp_path: Path) -> None:
    url = f"embedded://{tmp_path}/data"
    scheduler = BackgroundTaskScheduler(url, declared_tasks=False)
    async with scheduler:
        handle = await scheduler.schedule_immediate_task("job", note, args=["embedded"])
        assert (await handle.result(timeout=5)).result == "embedded"
        await scheduler.schedule_delayed_task("later", note, 3600, job_id="kept")
    again = BackgroundTaskScheduler(url, declared_tasks=False)
    async with again:
        assert [view.id for view in await again.get_jobs()] == ["kept"]


async def test_jobs_in_several_shards_work_as_in_one(redsched_url: str, prefix: str) -> None:
    scheduler = BackgroundTaskScheduler(redsched_url, prefix, shards=4, declared_tasks=False)
    async with kit(scheduler) as made:
        specs = [JobSpec("job", note, delay=60, job_id=f"j{n}", args=[n], tags=["t"]) for n in range(200)]
        handles = await scheduler.schedule_many(specs)
        assert [handle.id for handle in handles] == [f"j{n}" for n in range(200)]
        store = await scheduler.store()
        assert {store.shards.index(store.shard(handle.id)) for handle in handles} == {0, 1, 2, 3}
        assert len(await scheduler.get_jobs(tag="t")) == 200
        assert sorted(await scheduler.cancel_jobs(ids=["j0", "j1", "j2", "j3"])) == ["j0", "j1", "j2", "j3"]
        periodic = [await scheduler.schedule_interval("every", note, 600, tags=["p"]) for _ in range(4)]
        await scheduler.start()
        await made.travel(minutes=1)
        await made.wait_for("done", count=196)
        assert sorted(ran) == list(range(4, 200))
        assert (await handles[7].result(timeout=5)).result == 7
        for handle in periodic:
            await scheduler.pause_job(handle.id)
        assert {view.state for view in await scheduler.get_jobs(tag="p")} == {State.PAUSED}
        assert len(await scheduler.cancel_jobs(tag="p")) == 4
        history = await scheduler.get_history(limit=10_000)
        assert [event.at for event in history] == sorted(event.at for event in history)


async def test_a_worker_with_little_room_starves_none_of_its_shards(redsched_url: str, prefix: str) -> None:
    scheduler = BackgroundTaskScheduler(redsched_url, prefix, shards=4, concurrency=2, declared_tasks=False)
    async with kit(scheduler) as made:
        await scheduler.start()
        for _ in range(3):
            made.events.clear()
            await scheduler.schedule_many([JobSpec("job", note, args=[n]) for n in range(60)])
            await made.wait_for("done", count=60, timeout=5)


async def test_a_server_that_is_not_there_is_told_at_the_start(tmp_path: Path) -> None:
    scheduler = BackgroundTaskScheduler(f"unix://{tmp_path}/none.sock", retry_for=0.1, declared_tasks=False)
    with pytest.raises(StoreUnavailableError):
        await scheduler.start()
    assert not scheduler.running


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("redis_url", "localhost"), ("redis_url", None), ("job_store_prefix", ""), ("job_store_prefix", "a{b}"),
        ("timezone", "Europe/Berlni"), ("timezone", 5), ("queues", "default"), ("queues", []), ("concurrency", 0),
        ("threads", 0), ("processes", True), ("lease", 0), ("lease", "30"), ("lease", -1), ("shards", 0),
        ("shards", 2.0), ("max_catch_up", 0), ("dead_max", -1), ("dead_age", "old"), ("events_max", 0),
        ("job_defaults", {"colour": 1}), ("job_defaults", {"timeout": 0}), ("job_defaults", 5), ("queues", ["a b"]),
        ("queues", 5), ("max_payload_bytes", -1), ("shutdown_grace", -1), ("retry_for", "x"), ("task_packages", "abc"),
        ("service_provider", 5), ("redis_options", 5),
    ],
)  # fmt: skip
async def test_a_wrong_setting_is_refused_when_the_scheduler_is_made_and_named(
    redsched_url: str, field: str, value: Any
) -> None:
    settings = {"redis_url": redsched_url, field: value}
    with pytest.raises(ValueError, match=field):
        BackgroundTaskScheduler(**settings)
    assert issubclass(InvalidConfigError, ValueError)
