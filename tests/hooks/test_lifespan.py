"""The lifespans of a worker: what is there before its first run, and until its last is settled."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest

from redsched import BackgroundTaskScheduler, Outcome, SchedulerStateError, current_run
from redsched.testing import Kit, fresh_prefix

happened: list[Any] = []
begun = asyncio.Event()


@pytest.fixture(autouse=True)
def _fresh() -> None:
    global begun
    happened.clear()
    begun = asyncio.Event()


@pytest.fixture
async def scheduler(redsched_url: str) -> AsyncGenerator[BackgroundTaskScheduler]:
    """One that is not started."""
    made = BackgroundTaskScheduler(redsched_url, fresh_prefix())
    yield made
    await made.clear_all_jobs()
    await made.shutdown()


@asynccontextmanager
async def pool(scheduler: BackgroundTaskScheduler) -> AsyncGenerator[dict[str, Any]]:
    happened.append("open")
    yield {"pool": "a pool"}
    happened.append("close")


async def use() -> str:
    happened.append("use")
    return current_run().state.pool


def use_in_thread() -> str:
    return current_run().state.pool


def use_in_process() -> str:
    return str(current_run().state.pool)


async def use_slowly() -> None:
    begun.set()
    await asyncio.sleep(0.2)
    happened.append("used")


async def hang() -> None:
    begun.set()
    try:
        await asyncio.sleep(60)
    finally:
        happened.append("cancelled")


async def test_it_starts_before_the_first_claim_and_stops_after_the_last_run(
    scheduler: BackgroundTaskScheduler,
) -> None:
    scheduler.add_lifespan(pool)
    await scheduler.schedule_immediate_task("use", use)
    slow = await scheduler.schedule_immediate_task("slow", use_slowly)
    await scheduler.start()
    await begun.wait()
    await scheduler.shutdown()
    assert happened == ["open", "use", "used", "close"]
    history = [event.kind for event in await scheduler.get_history(slow.id)]
    assert history[-1] == "done"


async def test_what_is_cancelled_at_a_shutdown_ends_before_it_stops(scheduler: BackgroundTaskScheduler) -> None:
    scheduler.add_lifespan(pool)
    await scheduler.start()
    await scheduler.schedule_immediate_task("hang", hang)
    await begun.wait()
    await scheduler.shutdown(wait=False)
    assert happened == ["open", "cancelled", "close"]


async def test_its_state_is_that_of_each_run_on_the_loop_and_in_threads(redsched_kit: Kit) -> None:
    redsched_kit.scheduler.add_lifespan(pool)
    handles = [await redsched_kit.scheduler.schedule_immediate_task("use", task) for task in (use, use_in_thread)]
    await redsched_kit.run_due()
    assert [(await handle.result(timeout=5)).result for handle in handles] == ["a pool", "a pool"]
    assert happened[0] == "open"
    assert happened[-1] == "close"


async def test_in_a_child_process_there_is_no_state_and_the_error_says_so(redsched_kit: Kit) -> None:
    redsched_kit.scheduler.add_lifespan(pool)
    handle = await redsched_kit.scheduler.schedule_immediate_task("use", use_in_process, executor="processpool")
    await redsched_kit.run_due()
    result = await handle.result(timeout=10)
    assert result.outcome is Outcome.DEAD
    assert "in a child process has no state" in (result.error or "")


async def test_a_name_that_no_lifespan_yields_is_an_error_that_lists_those_there_are(redsched_kit: Kit) -> None:
    @redsched_kit.scheduler.add_lifespan
    @asynccontextmanager
    async def other(scheduler: BackgroundTaskScheduler) -> AsyncGenerator[dict[str, Any]]:
        yield {"cache": 1, "oven": 2}

    handle = await redsched_kit.scheduler.schedule_immediate_task("use", use)
    await redsched_kit.run_due()
    result = await handle.result(timeout=5)
    assert "no 'pool': its lifespans yield cache, oven" in (result.error or "")


async def test_several_start_in_order_stop_in_reverse_and_share_the_state(scheduler: BackgroundTaskScheduler) -> None:
    for name in "ab":

        @scheduler.add_lifespan
        @asynccontextmanager
        async def note(which: BackgroundTaskScheduler, name: str = name) -> AsyncGenerator[dict[str, Any]]:
            assert which is scheduler
            happened.append(f"open {name}")
            yield {name: name}
            happened.append(f"close {name}")

    async with scheduler:
        assert scheduler.worker is not None
        assert vars(scheduler.worker.state) == {"a": "a", "b": "b"}
    assert happened == ["open a", "open b", "close b", "close a"]


async def test_one_that_fails_keeps_the_worker_from_claiming_and_the_start_raises(
    scheduler: BackgroundTaskScheduler,
) -> None:
    scheduler.add_lifespan(pool)

    @scheduler.add_lifespan
    @asynccontextmanager
    async def broken(scheduler: BackgroundTaskScheduler) -> AsyncGenerator[None]:
        raise ConnectionError("no database")
        yield

    handle = await scheduler.schedule_immediate_task("use", use)
    with pytest.raises(SchedulerStateError, match=r"lifespan .*broken raised ConnectionError: no database") as raised:
        await scheduler.start()
    assert isinstance(raised.value.__cause__, ConnectionError)
    assert happened == ["open"]  # `pool` has no finally: it saw the error
    assert [event.kind for event in await scheduler.get_history(handle.id)] == ["scheduled"]
    assert not scheduler.running


@pytest.mark.parametrize(("given", "what"), [(["pool"], "must yield a dict"), ({"a b": 1}, "must be a name")])
async def test_state_that_is_not_a_dict_of_names_is_refused(
    scheduler: BackgroundTaskScheduler, given: Any, what: str
) -> None:
    @scheduler.add_lifespan
    @asynccontextmanager
    async def wrong(scheduler: BackgroundTaskScheduler) -> AsyncGenerator[Any]:
        yield given

    with pytest.raises(SchedulerStateError, match=what):
        await scheduler.start()


async def test_a_key_that_two_of_them_yield_is_refused(scheduler: BackgroundTaskScheduler) -> None:
    scheduler.add_lifespan(pool)
    scheduler.add_lifespan(pool)
    with pytest.raises(SchedulerStateError, match="also that of pool"):
        await scheduler.start()


async def test_all_of_them_stop_even_if_one_raises(scheduler: BackgroundTaskScheduler) -> None:
    @scheduler.add_lifespan
    @asynccontextmanager
    async def first(scheduler: BackgroundTaskScheduler) -> AsyncGenerator[None]:
        try:
            yield
        finally:
            happened.append("first closed")

    @scheduler.add_lifespan
    @asynccontextmanager
    async def second(scheduler: BackgroundTaskScheduler) -> AsyncGenerator[None]:
        yield
        raise ConnectionError("already closed")

    await scheduler.start()
    await scheduler.shutdown()
    assert happened == ["first closed"]


async def test_one_with_a_task_group_runs_beside_the_worker(scheduler: BackgroundTaskScheduler) -> None:
    @scheduler.add_lifespan
    @asynccontextmanager
    async def beside(scheduler: BackgroundTaskScheduler) -> AsyncGenerator[None]:
        async with anyio.create_task_group() as group:
            group.start_soon(hang)
            yield
            group.cancel_scope.cancel()

    async with scheduler:
        await begun.wait()
        handle = await scheduler.schedule_immediate_task("slow", use_slowly)
        assert (await handle.result(timeout=5)).success
    assert happened == ["used", "cancelled"]


async def test_a_stop_while_one_starts_does_not_hang(scheduler: BackgroundTaskScheduler) -> None:
    scheduler.add_lifespan(pool)

    @scheduler.add_lifespan
    @asynccontextmanager
    async def endless(scheduler: BackgroundTaskScheduler) -> AsyncGenerator[None]:
        await hang()
        yield

    starting = asyncio.create_task(scheduler.start())
    await begun.wait()
    starting.cancel()
    async with asyncio.timeout(5):
        await asyncio.wait((starting,))
    assert starting.cancelled()
    assert happened == ["open", "cancelled"]


async def test_without_a_worker_none_starts(scheduler: BackgroundTaskScheduler) -> None:
    scheduler.add_lifespan(pool)
    await scheduler.start(worker=False)
    await scheduler.shutdown()
    assert happened == []


async def test_each_start_of_a_worker_has_its_own(scheduler: BackgroundTaskScheduler) -> None:
    scheduler.add_lifespan(pool)
    for _ in range(2):
        async with scheduler:
            pass
    assert happened == ["open", "close"] * 2


async def test_a_forked_child_starts_its_own(scheduler: BackgroundTaskScheduler, tmp_path: Any) -> None:
    @scheduler.add_lifespan
    @asynccontextmanager
    async def note(scheduler: BackgroundTaskScheduler) -> AsyncGenerator[None]:
        path = tmp_path / str(os.getpid())
        path.write_text("open")
        yield
        path.write_text("closed")

    async def serve() -> None:
        async with scheduler:
            pass

    child = os.fork()
    if child == 0:
        code = 1
        try:
            asyncio.set_event_loop(None)
            asyncio._set_running_loop(None)
            asyncio.run(serve())
            code = 0
        finally:
            os._exit(code)
    await serve()
    _, status = await asyncio.to_thread(os.waitpid, child, 0)
    assert status == 0
    written = {path.name: path.read_text() for path in tmp_path.iterdir()}
    assert written == dict.fromkeys((str(os.getpid()), str(child)), "closed")
