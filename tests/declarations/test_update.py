"""replace_existing="update": as True, but an unchanged schedule keeps its cursor."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from redsched import InvalidInputError, JobSpec
from redsched.testing import Kit

MAY = datetime(2031, 5, 1, tzinfo=UTC)


async def effect(*args: Any) -> None: ...


async def put(kit: Kit, mode: Any = "update", **options: Any) -> str:
    when = options if {"interval", "cron", "run_at", "delay"} & options.keys() else {"interval": 60, **options}
    [handle] = await kit.scheduler.schedule_many([JobSpec("job", effect, job_id="job", replace_existing=mode, **when)])
    return handle.status


async def test_an_unchanged_interval_keeps_its_grid_and_all_else_is_replaced(redsched_kit: Kit) -> None:
    assert await put(redsched_kit, timeout=5, max_runs=9) == "added"
    before = await redsched_kit.scheduler.get_job("job")
    fires = 0
    for n in range(9):
        fires += await redsched_kit.advance(seconds=40)
        assert await put(redsched_kit, timeout=6, args=[n], tags=["t"], queue="default", max_runs=9) == "replaced"
    assert fires == 6
    after = await redsched_kit.scheduler.get_job("job")
    assert before is not None
    assert after is not None
    assert (after.timeout, after.args, after.tags, after.runs_left) == (6, (8,), ("t",), 3)
    assert before.next_run_time is not None
    assert after.next_run_time == before.next_run_time + timedelta(minutes=6)


async def test_true_begins_an_intervals_wait_anew(redsched_kit: Kit) -> None:
    await put(redsched_kit, True)
    for _ in range(5):
        assert await redsched_kit.advance(seconds=40) == 0
        await put(redsched_kit, True)


async def test_another_schedule_is_a_replacement_and_tells_what_was_due(redsched_kit: Kit) -> None:
    await put(redsched_kit, cron="* * * * *")
    await redsched_kit.travel(minutes=5)
    assert await put(redsched_kit, cron="0 0 * * *") == "replaced"
    [dropped] = [e for e in await redsched_kit.scheduler.get_history("job") if e.kind == "dropped"]
    assert (dropped.reason, dropped.count) == ("replaced", 5)


async def test_a_paused_job_stays_paused_and_a_time_that_was_chosen_stays(redsched_kit: Kit) -> None:
    await put(redsched_kit)
    await redsched_kit.scheduler.modify_job("job", next_run_time=MAY)
    await put(redsched_kit, timeout=5)
    job = await redsched_kit.scheduler.get_job("job")
    assert job is not None
    assert job.next_run_time == MAY
    await redsched_kit.scheduler.pause_job("job")
    await put(redsched_kit, timeout=6)
    job = await redsched_kit.scheduler.get_job("job")
    assert job is not None
    assert (job.state, job.timeout) == ("paused", 6)


async def test_an_unchanged_time_of_a_one_shot_job_stays_and_a_delay_begins_anew(redsched_kit: Kit) -> None:
    await redsched_kit.travel_to(MAY)
    await put(redsched_kit, run_at=MAY + timedelta(minutes=1))
    await redsched_kit.travel(minutes=2)
    await put(redsched_kit, run_at=MAY + timedelta(minutes=1), args=["new"])
    assert await redsched_kit.run_due() == 1
    await put(redsched_kit, delay=60)
    await redsched_kit.travel(seconds=40)
    await put(redsched_kit, delay=60)
    assert await redsched_kit.advance(seconds=40) == 0
    assert await redsched_kit.advance(seconds=40) == 1


async def test_it_needs_an_id_and_the_other_words_are_named(redsched_kit: Kit) -> None:
    with pytest.raises(InvalidInputError, match="needs a job_id"):
        await redsched_kit.scheduler.schedule_cron("job", effect, "0 3 * * *", replace_existing="update")
    with pytest.raises(InvalidInputError, match="'update'"):
        await redsched_kit.scheduler.schedule_cron("job", effect, "0 3 * * *", job_id="a", replace_existing="upsert")
