"""A worker that ends by a mistake says so, and another takes its place."""

from __future__ import annotations

import asyncio
import logging

import pytest

from redsched import BackgroundTaskScheduler, SchedulerStateError
from redsched.testing import fresh_prefix
from redsched.worker import revival
from redsched.worker.poll import ShardLoop

ERROR = "RuntimeError: of a kind that nobody thought of"


async def note(name: str) -> str:
    return name


async def until(condition: object, seconds: float = 10.0) -> None:
    async with asyncio.timeout(seconds):
        while not condition():  # type: ignore[operator]
            await asyncio.sleep(0.01)


async def test_it_is_not_running_meanwhile_the_log_says_why_and_it_is_started_again(
    redsched_url: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(revival, "FIRST_PAUSE_S", 0.3)
    scheduler = BackgroundTaskScheduler(redsched_url, fresh_prefix(), lease=1.0, declared_tasks=False)
    async with scheduler:
        first = scheduler.worker
        handle = await scheduler.schedule_immediate_task("before", note, args=["before"])
        assert (await handle.result(timeout=10)).result == "before"
        with monkeypatch.context() as broken, caplog.at_level(logging.ERROR):

            async def turn(self: ShardLoop, *, claim: bool = True) -> None:
                raise RuntimeError("of a kind that nobody thought of")

            broken.setattr(ShardLoop, "turn", turn)
            await scheduler.schedule_immediate_task("wake", note, args=["wake"])
            await until(lambda: not scheduler.running)
            assert scheduler.worker is first
            assert first is not None
            assert isinstance(first.ended_with, Exception)
            with pytest.raises(SchedulerStateError):
                await scheduler.start()
            await until(lambda: sum("is started again in" in text for text in caplog.messages) >= 2)
        failed = [event for event in await scheduler.get_history() if event.kind == "worker_failed"]
        assert len(failed) >= 2
        assert failed[0].worker == first.id
        assert {(event.job_id, event.error) for event in failed} == {("", ERROR)}
        await scheduler.collect_metrics()
        assert scheduler.metrics.get_counter("worker_failures_total") >= 2
        assert ["0.3 s" in text for text in caplog.messages if "is started again in" in text][:2] == [True, False]
        await until(lambda: scheduler.running and scheduler.worker is not first and scheduler.worker.serving)
        handle = await scheduler.schedule_immediate_task("after", note, args=["after"])
        assert (await handle.result(timeout=10)).result == "after"
        await scheduler.clear_all_jobs()
    assert not scheduler.running


async def test_a_shutdown_does_not_wait_for_the_pause(redsched_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(revival, "FIRST_PAUSE_S", 60.0)
    scheduler = BackgroundTaskScheduler(redsched_url, fresh_prefix(), declared_tasks=False)
    await scheduler.start()

    async def turn(self: ShardLoop, *, claim: bool = True) -> None:
        raise RuntimeError

    with monkeypatch.context() as broken:
        broken.setattr(ShardLoop, "turn", turn)
        await scheduler.schedule_immediate_task("wake", note, args=["wake"])
        await until(lambda: not scheduler.running)
    async with asyncio.timeout(5):
        await scheduler.shutdown()
    async with scheduler:
        handle = await scheduler.schedule_immediate_task("after", note, args=["after"])
        assert (await handle.result(timeout=10)).result == "after"
        await scheduler.clear_all_jobs()
