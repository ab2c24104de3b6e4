"""Fires that a change of their job leaves behind: each has an outcome and a reason, as a span where there are many."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from redsched import Event, JobHandle, ResultTimeoutError
from redsched.testing import Kit

MAY = datetime(2031, 5, 1, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


async def effect() -> None: ...


async def hourly(kit: Kit, job_id: str = "job", **options: Any) -> JobHandle:
    """Due each minute, for the first time at 00:01."""
    await kit.travel_to(MAY + timedelta(seconds=1))
    return await kit.scheduler.schedule_cron("job", effect, "* * * * *", job_id=job_id, **options)


async def drops(kit: Kit, job_id: str = "job") -> list[tuple[str | None, datetime | None, datetime | None, int | None]]:
    events = await kit.scheduler.get_history(job_id)
    return [(e.reason, e.fire_time, e.last_fire_time, e.count) for e in events if e.kind == "dropped"]


def at(minutes: int) -> datetime:
    return MAY + minutes * MINUTE


async def test_what_a_pause_hid_is_one_span_when_the_job_is_resumed(redsched_kit: Kit) -> None:
    await hourly(redsched_kit)
    await redsched_kit.scheduler.pause_job("job")
    await redsched_kit.travel_to(at(60) + timedelta(seconds=30))
    assert await drops(redsched_kit) == []
    await redsched_kit.scheduler.resume_job("job")
    assert await drops(redsched_kit) == [("paused", at(1), at(60), 60)]
    assert await redsched_kit.run_due() == 0


async def test_a_pause_of_a_year_is_counted_as_fast_as_one_of_a_minute(redsched_kit: Kit) -> None:
    await hourly(redsched_kit)
    await redsched_kit.scheduler.pause_job("job")
    await redsched_kit.travel_to(MAY + timedelta(days=365, seconds=1))
    await redsched_kit.scheduler.resume_job("job")
    assert await drops(redsched_kit) == [("paused", at(1), at(365 * 1440), 365 * 1440)]


async def test_fires_that_were_overdue_when_the_job_was_paused_belong_to_the_span(redsched_kit: Kit) -> None:
    await hourly(redsched_kit)
    await redsched_kit.travel_to(at(5))
    await redsched_kit.scheduler.pause_job("job")
    await redsched_kit.travel_to(at(9) + timedelta(seconds=1))
    await redsched_kit.scheduler.resume_job("job")
    assert await drops(redsched_kit) == [("paused", at(1), at(9), 9)]


async def test_a_fire_in_the_instant_of_the_resume_runs_and_is_not_in_the_span(redsched_kit: Kit) -> None:
    await hourly(redsched_kit)
    await redsched_kit.scheduler.pause_job("job")
    shard = (await redsched_kit.scheduler.store()).shards[0]
    stopped = int(at(3).timestamp()) * 1_000_000
    await shard.link.command("HSET", shard.keys.clock, "now_us", stopped)  # the clock never goes back, so it stands
    await redsched_kit.scheduler.resume_job("job")
    assert await drops(redsched_kit) == [("paused", at(1), at(2), 2)]
    assert await redsched_kit.run_due() == 1


@pytest.mark.parametrize(
    "pause",
    [
        pytest.param({"next_run_time": None}, id="modify_job"),
        pytest.param(None, id="added paused"),
    ],
)
async def test_a_job_without_a_next_run_time_is_paused_and_what_passes_is_told(
    redsched_kit: Kit, pause: dict[str, Any] | None
) -> None:
    if pause is None:
        await hourly(redsched_kit, next_run_time=None)
    else:
        await hourly(redsched_kit)
        await redsched_kit.scheduler.modify_job("job", **pause)
    await redsched_kit.travel_to(at(3) + timedelta(seconds=1))
    await redsched_kit.scheduler.resume_job("job")
    assert await drops(redsched_kit) == [("paused", at(1), at(3), 3)]


async def test_a_pause_that_outlasts_the_end_of_the_schedule_is_told_when_the_job_ends(redsched_kit: Kit) -> None:
    await hourly(redsched_kit, end=at(4))
    await redsched_kit.scheduler.pause_job("job")
    await redsched_kit.travel_to(at(10))
    assert await redsched_kit.scheduler.resume_job("job") is None
    assert await drops(redsched_kit) == [("paused", at(1), at(4), 4)]
    assert await redsched_kit.scheduler.get_job("job") is None


async def test_a_one_shot_job_whose_time_passed_while_it_was_paused_runs_and_drops_nothing(redsched_kit: Kit) -> None:
    await redsched_kit.scheduler.schedule_delayed_task("job", effect, delay_minutes=1, job_id="job")
    await redsched_kit.scheduler.pause_job("job")
    await redsched_kit.travel(minutes=9)
    await redsched_kit.scheduler.resume_job("job")
    assert await redsched_kit.run_due() == 1
    assert await drops(redsched_kit) == []


async def test_what_a_reschedule_drops_is_told(redsched_kit: Kit) -> None:
    await hourly(redsched_kit)
    await redsched_kit.travel_to(at(7) + timedelta(seconds=1))
    await redsched_kit.scheduler.reschedule_job("job", cron="0 * * * *")
    assert await drops(redsched_kit) == [("rescheduled", at(1), at(7), 7)]


async def test_a_reschedule_of_a_paused_job_tells_that_the_pause_hid_them(redsched_kit: Kit) -> None:
    await hourly(redsched_kit)
    await redsched_kit.scheduler.pause_job("job")
    await redsched_kit.travel_to(at(7) + timedelta(seconds=1))
    await redsched_kit.scheduler.reschedule_job("job", run_at=at(99))
    assert await drops(redsched_kit) == [("paused", at(1), at(7), 7)]


async def test_a_rescheduled_one_shot_job_tells_of_the_run_that_it_will_not_have(redsched_kit: Kit) -> None:
    await redsched_kit.travel_to(MAY)
    await redsched_kit.scheduler.schedule_at("job", effect, at(1), job_id="job")
    await redsched_kit.scheduler.reschedule_job("job", run_at=at(2))
    assert await drops(redsched_kit) == []  # it was not due yet
    await redsched_kit.travel_to(at(3))
    await redsched_kit.scheduler.reschedule_job("job", run_at=at(9))
    assert await drops(redsched_kit) == [("rescheduled", at(2), None, 1)]


async def test_a_next_run_time_that_passes_over_fires_tells_which(redsched_kit: Kit) -> None:
    await hourly(redsched_kit)
    await redsched_kit.travel_to(at(2) + timedelta(seconds=1))
    await redsched_kit.scheduler.modify_job("job", next_run_time=at(5))
    assert await drops(redsched_kit) == [("rescheduled", at(1), at(4), 4)]
    assert await redsched_kit.run_due() == 0


async def test_a_change_that_leaves_the_schedule_alone_drops_nothing(redsched_kit: Kit) -> None:
    await hourly(redsched_kit)
    await redsched_kit.travel_to(at(2) + timedelta(seconds=1))
    await redsched_kit.scheduler.modify_job("job", timeout=5, tags=["t"])
    await redsched_kit.scheduler.modify_job("job", queue="default", name="other")
    assert await drops(redsched_kit) == []
    assert await redsched_kit.run_due() == 1


async def test_a_replaced_job_tells_of_what_was_due(redsched_kit: Kit) -> None:
    await hourly(redsched_kit)
    await redsched_kit.travel_to(at(4) + timedelta(seconds=1))
    await redsched_kit.scheduler.schedule_cron("job", effect, "0 0 * * *", job_id="job", replace_existing=True)
    assert await drops(redsched_kit) == [("replaced", at(1), at(4), 4)]
    assert await redsched_kit.run_due() == 0


async def test_a_replaced_one_shot_job_tells_of_its_run(redsched_kit: Kit) -> None:
    await redsched_kit.travel_to(MAY)
    await redsched_kit.scheduler.schedule_at("job", effect, at(1), job_id="job")
    await redsched_kit.scheduler.schedule_at("job", effect, at(2), job_id="job", replace_existing=True)
    assert await drops(redsched_kit) == []
    await redsched_kit.travel_to(at(3))
    await redsched_kit.scheduler.schedule_at("job", effect, at(9), job_id="job", replace_existing=True)
    assert await drops(redsched_kit) == [("replaced", at(2), None, 1)]


@pytest.mark.parametrize(("end", "reason"), [("remove", "removed"), ("cancel", "cancelled"), ("tag", "cancelled")])
async def test_a_job_that_is_ended_tells_of_what_was_due(redsched_kit: Kit, end: str, reason: str) -> None:
    await hourly(redsched_kit, tags=["t"])
    await hourly(redsched_kit, "other", tags=["t"])
    await redsched_kit.scheduler.pause_job("other")
    await redsched_kit.travel_to(at(6) + timedelta(seconds=1))
    scheduler = redsched_kit.scheduler
    ways: dict[str, Callable[[str], Awaitable[Any]]] = {
        "remove": scheduler.remove_job, "cancel": scheduler.cancel, "tag": lambda _: scheduler.cancel(tag="t"),
    }  # fmt: skip
    await ways[end]("job")
    await ways[end]("other") if end != "tag" else None
    assert await drops(redsched_kit) == [(reason, at(1), at(6), 6)]
    assert await drops(redsched_kit, "other") == [("paused", at(1), at(6), 6)]
    assert await scheduler.get_jobs() == []


async def test_a_job_whose_record_cannot_be_read_is_ended_nevertheless(redsched_kit: Kit) -> None:
    await hourly(redsched_kit)
    await redsched_kit.travel_to(at(6) + timedelta(seconds=1))
    shard = (await redsched_kit.scheduler.store()).shards[0]
    await shard.link.command("HSET", shard.keys.job("job"), "record", b"\x93spoilt")
    assert await redsched_kit.scheduler.cancel("job")
    [(reason, first, last, count)] = await drops(redsched_kit)
    assert (reason, first, count) == ("cancelled", at(1), None)
    assert last is not None
    assert last >= at(6)


async def test_a_waiter_does_not_take_hidden_fires_for_the_end_of_the_job(redsched_kit: Kit) -> None:
    handle = await hourly(redsched_kit)
    waiting = asyncio.create_task(handle.result(timeout=0.5))
    await asyncio.sleep(0.1)
    await redsched_kit.scheduler.pause_job("job")
    await redsched_kit.travel(hours=1)
    await redsched_kit.scheduler.resume_job("job")
    with pytest.raises(ResultTimeoutError):
        await waiting


def minutes_of(event: Event) -> range:
    assert event.fire_time is not None
    first = round((event.fire_time - MAY) / MINUTE)
    last = first if event.last_fire_time is None else round((event.last_fire_time - MAY) / MINUTE)
    assert event.count == last - first + 1, event
    return range(first, last + 1)


@pytest.mark.parametrize("seed", range(12))
async def test_whatever_is_done_to_a_job_each_fire_has_one_outcome(redsched_kit: Kit, seed: int) -> None:
    """Its schedule stays, so that each minute is a fire: run, coalesced or dropped; never two of them."""
    kit, scheduler, dice = redsched_kit, redsched_kit.scheduler, random.Random(seed)

    async def add(**how: Any) -> None:
        await scheduler.schedule_cron("job", effect, "* * * * *", job_id="job", **how)

    async def end_and_add() -> None:
        await scheduler.cancel("job")
        await add()

    steps: list[Callable[[], Awaitable[Any]]] = [
        kit.run_due, kit.run_due,
        lambda: scheduler.pause_job("job"), lambda: scheduler.resume_job("job"), lambda: scheduler.resume_job("job"),
        lambda: scheduler.reschedule_job("job", cron="* * * * *"),
        lambda: scheduler.modify_job("job", next_run_time=None), lambda: scheduler.modify_job("job", timeout=9),
        lambda: add(replace_existing=True), lambda: add(replace_existing="keep"), end_and_add,
    ]  # fmt: skip
    await kit.travel_to(MAY + timedelta(seconds=1))
    await add()
    now = 0
    for _ in range(25):
        await dice.choice(steps)()
        now += dice.choice([0, 1, 1, 3, 60])
        await kit.travel_to(at(now) + timedelta(seconds=1 + dice.random()))
    await scheduler.resume_job("job")
    await kit.run_due()
    seen: list[int] = []
    for event in await scheduler.get_history("job", limit=10_000):
        if event.kind in ("claimed", "coalesced", "dropped", "missed", "skipped"):
            assert event.reason is not None or event.kind == "claimed"
            seen += (
                [round((event.fire_time - MAY) / MINUTE)]
                if event.kind == "claimed" and event.fire_time
                else list(minutes_of(event))
            )
    assert sorted(seen) == list(range(1, now + 1))
