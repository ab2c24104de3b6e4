"""The kit with what users have: declared jobs, a scheduler of the application's, freezegun beside it."""

from __future__ import annotations

import asyncio
import datetime
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from freezegun import freeze_time

from redsched import BackgroundTaskScheduler, ResultTimeoutError, testing
from redsched.testing import Kit
from tests.servers import ROOT

# What docs/guide/testing.md shows, as an application and its tests.
APP = """
import os
from redsched import BackgroundTaskScheduler, schedule_task

sent = []
scheduler = BackgroundTaskScheduler(os.environ["SHOP_REDIS"], "shop-tests", timezone="Europe/Berlin")


@schedule_task(cron="0 8 * * *")
async def digest():
    sent.append("digest")
"""
TESTS = """
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
import shop
from redsched import testing


@pytest.fixture
async def kit():
    async with testing.kit(shop.scheduler) as made:
        await shop.scheduler.start(worker=False)
        shop.sent.clear()
        yield made


async def test_the_digest_is_sent_at_eight(kit):
    [job] = [job async for job in shop.scheduler.iter_jobs()]
    due = job.next_run_time
    assert due.astimezone(ZoneInfo("Europe/Berlin")).hour == 8
    await kit.travel_to(due - timedelta(minutes=1))
    assert await kit.run_due() == 0
    await kit.advance(minutes=1)
    assert shop.sent == ["digest"]


async def test_on_each_day(kit):
    await kit.advance(days=3)
    assert shop.sent == ["digest"] * 3
"""


def test_a_declared_job_of_the_applications_scheduler_fires_by_time_travel(redsched_url: str, tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text(APP)
    (tmp_path / "test_shop.py").write_text(TESTS)
    options = ["-q", "-p", "no:cacheprovider", "-W", "error", "-o", "asyncio_mode=auto"]
    options += ["-o", "asyncio_default_fixture_loop_scope=function"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, str(tmp_path)],
        cwd=tmp_path, env={"PYTHONPATH": f"{ROOT}:{tmp_path}", "SHOP_REDIS": redsched_url, "PATH": "/usr/bin:/bin"},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert "2 passed" in done.stdout, done.stdout + done.stderr


async def test_the_kit_takes_a_scheduler_of_the_users_and_leaves_nothing_of_its_jobs(redsched_url: str) -> None:
    ran: list[str] = []

    async def note() -> None:
        ran.append("x")

    prefix = testing.fresh_prefix()
    scheduler = BackgroundTaskScheduler(redsched_url, prefix, declared_tasks=False)
    async with testing.kit(scheduler) as kit:
        assert kit.scheduler is scheduler
        await scheduler.schedule_delayed_task("job", note, 3600)
        await scheduler.schedule_delayed_task("later", note, 7200)
        assert await kit.advance(hours=1) == 1
    assert ran == ["x"]
    async with testing.kit(BackgroundTaskScheduler(redsched_url, prefix, declared_tasks=False)) as kit:
        assert [job async for job in kit.scheduler.iter_jobs()] == []


# -- freezegun ------------------------------------------------------------------------------------------------------

MAY = datetime.datetime(2031, 5, 1, 12, tzinfo=datetime.UTC)
seen: list[tuple[datetime.datetime, float]] = []


async def look() -> None:
    seen.append((datetime.datetime.now(datetime.UTC), time.time()))


def look_in_a_thread() -> None:
    seen.append((datetime.datetime.now(datetime.UTC), time.time()))


def frozen() -> Any:
    """As the guide says: without `real_asyncio` the event loop's own timers would stand still."""
    return freeze_time(MAY, real_asyncio=True)


@pytest.mark.parametrize("task", [look, look_in_a_thread])
async def test_a_task_sees_the_time_of_freezegun_while_the_kit_moves_that_of_the_fleet(
    redsched_kit: Kit, task: Callable[[], Any]
) -> None:
    seen.clear()
    began = await redsched_kit.now()
    await redsched_kit.scheduler.schedule_delayed_task("job", task, 3600, timeout=5)
    with frozen():
        assert await redsched_kit.advance(hours=1) == 1
        assert await redsched_kit.now() >= began + datetime.timedelta(hours=1)
    [(now, seconds)] = seen
    assert now == MAY
    assert task is look_in_a_thread or seconds == MAY.timestamp()  # freezegun leaves what the thread module calls alone


async def test_the_kit_waits_beside_freezegun_and_no_longer_than_it_is_to(redsched_kit: Kit) -> None:
    seen.clear()
    with frozen():
        await redsched_kit.scheduler.start()
        handle = await redsched_kit.scheduler.schedule_delayed_task("job", look, 0.2, job_id="j")
        await redsched_kit.wait_for("done", "j", timeout=5)
        assert (await handle.result(timeout=5)).run_id == "j"
        with pytest.raises(ResultTimeoutError):
            await redsched_kit.wait_for("done", "no such job", timeout=0.1)
    assert seen == [(MAY, MAY.timestamp())]


async def test_the_kit_can_go_to_the_instant_of_freezegun(redsched_kit: Kit) -> None:
    seen.clear()
    with frozen():
        await redsched_kit.travel_to(datetime.datetime.now(datetime.UTC))
        assert abs(await redsched_kit.now() - MAY) < datetime.timedelta(seconds=30)
        await redsched_kit.scheduler.schedule_delayed_task("job", look, 3600)
        assert await redsched_kit.advance(hours=1) == 1
    assert seen == [(MAY, MAY.timestamp())]


async def test_a_worker_keeps_its_leases_beside_freezegun_where_that_ignores_redsched(redsched_url: str) -> None:
    async def slow() -> None:
        await asyncio.sleep(1.5)
        seen.append((datetime.datetime.now(datetime.UTC), 0.0))

    seen.clear()
    scheduler = BackgroundTaskScheduler(redsched_url, testing.fresh_prefix(), declared_tasks=False, lease=0.5)
    async with testing.kit(scheduler) as kit:
        with freeze_time(MAY, real_asyncio=True, ignore=["redsched"]):
            await scheduler.start()
            await scheduler.schedule_immediate_task("job", slow, job_id="j")
            done = await kit.wait_for("done", "j")
    assert done.attempt == 1
    assert seen == [(MAY, 0.0)]
    assert "recovered" not in [event.kind for event in kit.events]
