"""When a job runs: every way to say it, on a real server, with time that the test moves."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from redsched import (
    AnyOf,
    BackgroundTaskScheduler,
    ConflictingIdError,
    CronSchedule,
    DateSchedule,
    InvalidScheduleError,
    JobHandle,
    JobSpec,
    State,
    current_run,
)
from redsched.testing import Kit, fresh_prefix, kit

fired: list[datetime] = []


async def note(*args: Any) -> None:
    """Remember for which instant it ran."""
    fired.append(current_run().fire_time)


@pytest.fixture(autouse=True)
def _nothing_fired() -> None:
    fired.clear()


async def due(handle: JobHandle) -> datetime:
    view = await handle.get()
    assert view is not None
    assert view.next_run_time is not None
    return view.next_run_time


def seconds(delta: timedelta) -> Any:
    return pytest.approx(delta.total_seconds(), abs=1.5)


async def test_an_immediate_task_is_due_at_once(redsched_kit: Kit) -> None:
    handle = await redsched_kit.scheduler.schedule_immediate_task("now", note)
    assert handle.status == "added"
    assert await redsched_kit.run_due() == 1
    assert len(fired) == 1
    assert await handle.get() is None


@pytest.mark.parametrize(
    ("delay", "expected"),
    [
        ({"delay_minutes": 15}, 900),
        ({"delay_minutes": 0.5}, 30),
        ({"delay_seconds": 90}, 90),
        ({"delay": 45.5}, 45.5),
        ({"delay": timedelta(hours=2)}, 7200),
        ({"delay_seconds": timedelta(seconds=20)}, 20),
    ],
)
async def test_a_delay_is_counted_from_now_in_the_unit_that_is_named(
    redsched_kit: Kit, delay: dict[str, Any], expected: float
) -> None:
    before = await redsched_kit.now()
    handle = await redsched_kit.scheduler.schedule_delayed_task("later", note, **delay)
    wait = (await due(handle) - before).total_seconds()
    assert expected <= wait < expected + 1.5
    assert await redsched_kit.advance(seconds=expected - 3) == 0
    assert await redsched_kit.advance(seconds=5) == 1


async def test_a_delay_of_zero_runs_at_once(redsched_kit: Kit) -> None:
    await redsched_kit.scheduler.schedule_delayed_task("now", note, 0)
    assert await redsched_kit.run_due() == 1


async def test_the_same_instant_can_be_given_aware_naive_or_as_text(redsched_url: str) -> None:
    berlin = ZoneInfo("Europe/Berlin")
    scheduler = BackgroundTaskScheduler(redsched_url, fresh_prefix(), timezone="Europe/Berlin", declared_tasks=False)
    async with kit(scheduler):
        instant = datetime(2031, 7, 1, 10, 0, tzinfo=UTC)
        for value in (
            instant,
            instant.astimezone(ZoneInfo("Asia/Tokyo")),
            datetime(2031, 7, 1, 12, 0),
            "2031-07-01T12:00:00",
            "2031-07-01T10:00:00+00:00",
            "2031-07-01T10:00:00Z",
        ):
            at = await due(await scheduler.schedule_at("at", note, value))
            assert at == instant
            assert at.utcoffset() == berlin.utcoffset(datetime(2031, 7, 1))
        other = await scheduler.schedule_at("at", note, "2031-07-01T10:00:00", timezone="UTC")
        assert await due(other) == instant  # the job's own zone goes before the scheduler's


async def test_an_instant_that_has_passed_is_due_at_once(redsched_kit: Kit) -> None:
    past = await redsched_kit.now() - timedelta(days=3)
    await redsched_kit.scheduler.schedule_at("late", note, past)
    assert await redsched_kit.run_due() == 1
    assert fired == [past.replace(microsecond=past.microsecond // 1000 * 1000)]


async def test_an_instant_that_has_passed_too_long_ago_is_missed_and_says_so(redsched_kit: Kit) -> None:
    past = await redsched_kit.now() - timedelta(minutes=3)
    handle = await redsched_kit.scheduler.schedule_at("late", note, past, misfire_grace_time=60)
    await redsched_kit.run_due()
    assert fired == []
    assert (await handle.result(timeout=5)).outcome == "missed"
    assert (await redsched_kit.wait_for("missed", handle.id)).reason == "misfire"


async def test_a_cron_job_runs_by_the_wall_clock_of_its_zone(redsched_kit: Kit) -> None:
    berlin = ZoneInfo("Europe/Berlin")
    await redsched_kit.travel_to(datetime(2031, 3, 28, 12, tzinfo=berlin))  # the clocks change on the 30th
    handle = await redsched_kit.scheduler.schedule_cron("morning", note, "0 8 * * *", timezone="Europe/Berlin")
    assert await redsched_kit.advance(days=3) == 3
    assert fired == [datetime(2031, 3, day, 8, tzinfo=berlin) for day in (29, 30, 31)]
    assert await due(handle) == datetime(2031, 4, 1, 8, tzinfo=berlin)


async def test_a_cron_job_keeps_to_its_start_and_its_end_which_are_inclusive(redsched_kit: Kit) -> None:
    await redsched_kit.travel_to(datetime(2031, 5, 1, tzinfo=UTC))
    handle = await redsched_kit.scheduler.schedule_cron(
        "noon", note, "0 12 * * *", start="2031-05-03T12:00:00", end=datetime(2031, 5, 5, 12)
    )
    await redsched_kit.advance(days=10)
    assert fired == [datetime(2031, 5, day, 12, tzinfo=UTC) for day in (3, 4, 5)]
    assert await handle.get() is None
    assert (await redsched_kit.wait_for("done", handle.id, count=3)).fire_time == fired[-1]


async def test_an_interval_starts_one_interval_from_now_and_never_drifts(redsched_kit: Kit) -> None:
    handle = await redsched_kit.scheduler.schedule_interval("every", note, minutes=10)
    first = await due(handle)
    assert (first - await redsched_kit.now()).total_seconds() == seconds(timedelta(minutes=10))
    await redsched_kit.advance(minutes=25)
    await redsched_kit.travel(minutes=33, seconds=17)  # no worker ran for a while: the newest runs, and late
    await redsched_kit.run_due()
    assert fired == [first + timedelta(minutes=minutes) for minutes in (0, 10, 40)]
    assert await due(handle) == first + timedelta(minutes=50)


async def test_an_interval_counts_from_its_start_even_from_one_in_the_past(redsched_kit: Kit) -> None:
    await redsched_kit.travel_to(datetime(2031, 5, 1, 12, 7, tzinfo=UTC))
    scheduler = redsched_kit.scheduler
    past = await scheduler.schedule_interval("past", note, 3600, start="2031-01-01T00:30:00")
    assert await due(past) == datetime(2031, 5, 1, 12, 30, tzinfo=UTC)  # on its grid, with nothing to catch up
    ahead = await scheduler.schedule_interval("ahead", note, hours=1, start="2031-05-02T00:00:00")
    assert await due(ahead) == datetime(2031, 5, 2, tzinfo=UTC)
    await scheduler.schedule_interval("few", note, hours=1, start="2031-05-01T13:00", end="2031-05-01T15:00")
    await past.cancel()
    await ahead.cancel()
    assert await redsched_kit.advance(days=1) == 3
    assert fired == [datetime(2031, 5, 1, hour, tzinfo=UTC) for hour in (13, 14, 15)]


async def test_a_job_with_several_schedules_fires_when_any_of_them_does(redsched_kit: Kit) -> None:
    await redsched_kit.travel_to(datetime(2031, 5, 1, tzinfo=UTC))
    once = DateSchedule(int(datetime(2031, 5, 1, 10, 30, tzinfo=UTC).timestamp() * 1000))
    schedules = [CronSchedule("0 8 * * *"), CronSchedule("0 8,20 * * *"), once]
    await redsched_kit.scheduler.schedule("many", note, schedules)
    assert await redsched_kit.advance(days=1) == 3  # 08:00 is in two of them and fires once
    assert [at.strftime("%H:%M") for at in fired] == ["08:00", "10:30", "20:00"]
    fired.clear()
    handle = await redsched_kit.scheduler.schedule("any", note, AnyOf((CronSchedule("0 3 * * *"), once)))
    assert (await due(handle)).hour in (3, 10)


async def test_jitter_delays_each_fire_at_random_but_never_adds_up(redsched_kit: Kit) -> None:
    await redsched_kit.travel_to(datetime(2031, 5, 1, tzinfo=UTC))
    await redsched_kit.scheduler.schedule_interval("spread", note, hours=1, start="2031-05-01T01:00", jitter=600)
    assert await redsched_kit.advance(hours=20, minutes=30) == 20
    late = [at - datetime(2031, 5, 1, tzinfo=UTC) - timedelta(hours=n) for n, at in enumerate(fired, 1)]
    assert all(timedelta(0) <= delay <= timedelta(minutes=10) for delay in late)
    assert len(set(late)) > 10


async def test_a_job_ends_after_max_runs(redsched_kit: Kit) -> None:
    handle = await redsched_kit.scheduler.schedule_interval("thrice", note, minutes=1, max_runs=3)
    view = await handle.get()
    assert view is not None
    assert view.runs_left == 3
    await redsched_kit.advance(minutes=2, seconds=2)
    view = await handle.get()
    assert view is not None
    assert view.runs_left == 1
    assert await redsched_kit.advance(hours=1) == 1
    assert len(fired) == 3
    assert await handle.get() is None


async def test_an_explicit_next_run_time_fires_and_then_the_schedule_goes_on(redsched_kit: Kit) -> None:
    await redsched_kit.travel_to(datetime(2031, 5, 1, tzinfo=UTC))
    scheduler, first = redsched_kit.scheduler, datetime(2031, 5, 1, 1, 17, tzinfo=UTC)
    await scheduler.schedule_interval("interval", note, hours=1, next_run_time=first)
    await redsched_kit.advance(hours=4)
    assert fired == [first + timedelta(hours=n) for n in range(3)]  # an interval counts on from there
    await redsched_kit.scheduler.clear_all_jobs()
    fired.clear()
    now = datetime(2031, 5, 1, 5, 17, tzinfo=UTC)
    await scheduler.schedule_cron("cron", note, "0 * * * *", next_run_time=now)
    await redsched_kit.advance(hours=3)
    assert fired == [now, *(datetime(2031, 5, 1, hour, tzinfo=UTC) for hour in (6, 7))]


async def test_a_job_that_is_added_with_no_next_run_time_is_paused_until_it_is_resumed(redsched_kit: Kit) -> None:
    scheduler = redsched_kit.scheduler
    handle = await scheduler.schedule_interval("asleep", note, minutes=1, next_run_time=None)
    view = await handle.get()
    assert view is not None
    assert (view.state, view.next_run_time) == (State.PAUSED, None)
    assert await redsched_kit.advance(minutes=10) == 0
    await handle.resume()
    assert await redsched_kit.advance(minutes=2, seconds=1) >= 1


async def test_five_thousand_jobs_are_stored_by_one_call(redsched_kit: Kit) -> None:
    handles = await redsched_kit.scheduler.schedule_many(
        JobSpec(f"n{n}", note, delay=60, job_id=f"job-{n}", args=[n]) for n in range(5000)
    )
    assert [handle.id for handle in handles] == [f"job-{n}" for n in range(5000)]
    assert {handle.status for handle in handles} == {"added"}
    assert len(await redsched_kit.scheduler.get_jobs()) == 5000


@pytest.mark.parametrize("shards", [1, 3])
async def test_if_one_of_five_thousand_ids_is_taken_none_of_them_is_stored(redsched_url: str, shards: int) -> None:
    scheduler = BackgroundTaskScheduler(redsched_url, fresh_prefix(), shards=shards, declared_tasks=False)
    async with kit(scheduler):
        await scheduler.schedule_delayed_task("first", note, 60, job_id="job-4711")
        specs = [JobSpec("many", note, delay=60, job_id=f"job-{n}") for n in range(5000)]
        with pytest.raises(ConflictingIdError, match="job-4711"):
            await scheduler.schedule_many(specs)
        assert [view.name for view in await scheduler.get_jobs()] == ["first"]


async def test_if_one_of_many_schedules_never_fires_none_is_stored(redsched_kit: Kit) -> None:
    specs = [JobSpec("many", note, delay=60, job_id=f"job-{n}") for n in range(1500)]
    specs.append(JobSpec("never", note, cron="0 0 30 2 *"))
    with pytest.raises(InvalidScheduleError, match="never"):
        await redsched_kit.scheduler.schedule_many(specs)
    specs[-1] = JobSpec("over", note, interval=60, end="2020-01-01T00:00:00", start="2019-01-01T00:00:00")
    with pytest.raises(InvalidScheduleError, match="never fires"):
        await redsched_kit.scheduler.schedule_many(specs)
    assert await redsched_kit.scheduler.get_jobs() == []


async def test_a_schedule_that_never_fires_is_refused(redsched_kit: Kit) -> None:
    scheduler = redsched_kit.scheduler
    for never in (
        scheduler.schedule_cron("feb", note, "0 0 30 2 *"),
        scheduler.schedule_cron("over", note, "0 0 * * *", end="2001-01-01T00:00:00"),
        scheduler.schedule_interval("over", note, hours=1, start="2001-01-01", end="2001-01-02"),
        scheduler.schedule("none", note, []),
    ):
        with pytest.raises(InvalidScheduleError):
            await never
    assert await scheduler.get_jobs() == []
