"""Time zones in each form that people have them, in each place that takes one; a job's zone changed alone."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone, tzinfo
from pathlib import Path
from typing import Any
from zoneinfo import TZPATH, ZoneInfo

import dateutil.tz
import pytest
import pytz

from redsched import BackgroundTaskScheduler, CronSchedule, InvalidScheduleError
from redsched.schedules import parse_timezone, schedule_from_wire
from redsched.testing import Kit, fresh_prefix


async def task() -> None: ...


FORMS: list[tuple[str | tzinfo, str, str]] = [
    ("europe/berlin", "Europe/Berlin", "2026-06-01T06:00:00"),
    ("EUROPE/BERLIN", "Europe/Berlin", "2026-06-01T06:00:00"),
    ("utc", "UTC", "2026-06-01T08:00:00"),
    ("us/pacific", "US/Pacific", "2026-06-01T15:00:00"),
    ("Asia/Calcutta", "Asia/Calcutta", "2026-06-01T02:30:00"),
    ("+02:00", "Etc/GMT-2", "2026-06-01T06:00:00"),
    ("UTC+2", "Etc/GMT-2", "2026-06-01T06:00:00"),
    ("GMT-3", "Etc/GMT+3", "2026-06-01T11:00:00"),
    ("-0330", "UTC-03:30", "2026-06-01T11:30:00"),
    ("utc+5:30", "UTC+05:30", "2026-06-01T02:30:00"),
    ("Etc/GMT-2", "Etc/GMT-2", "2026-06-01T06:00:00"),
    ("+00:00", "UTC", "2026-06-01T08:00:00"),
    (timezone(timedelta(hours=5, minutes=45)), "UTC+05:45", "2026-06-01T02:15:00"),
    (timezone(timedelta(hours=-2), "here"), "Etc/GMT+2", "2026-06-01T10:00:00"),
    (UTC, "UTC", "2026-06-01T08:00:00"),
    (ZoneInfo("Europe/Berlin"), "Europe/Berlin", "2026-06-01T06:00:00"),
    (pytz.timezone("Europe/Berlin"), "Europe/Berlin", "2026-06-01T06:00:00"),
    (pytz.FixedOffset(330), "UTC+05:30", "2026-06-01T02:30:00"),
    (pytz.FixedOffset(-120), "Etc/GMT+2", "2026-06-01T10:00:00"),
    (pytz.utc, "UTC", "2026-06-01T08:00:00"),
    (dateutil.tz.gettz("Europe/Berlin"), "Europe/Berlin", "2026-06-01T06:00:00"),
    (dateutil.tz.tzutc(), "UTC", "2026-06-01T08:00:00"),
    (dateutil.tz.tzoffset("x", 19_800), "UTC+05:30", "2026-06-01T02:30:00"),
]


@pytest.mark.parametrize(("given", "key", "eight"), FORMS, ids=lambda value: str(value)[:40])
def test_a_zone_in_any_form_has_its_local_times(given: str | tzinfo, key: str, eight: str) -> None:
    assert parse_timezone(given, "UTC") == key
    assert parse_timezone(key, "UTC") == key, "what is stored is read again"
    schedule = CronSchedule("0 8 1 6 *", key)
    fire = schedule.next(int(datetime(2026, 1, 1, tzinfo=UTC).timestamp()) * 1000)
    assert fire is not None
    assert datetime.fromtimestamp(fire / 1000, UTC).isoformat() == f"{eight}+00:00"
    assert schedule_from_wire(schedule.to_wire()) == schedule


@pytest.mark.parametrize(("given", "key", "eight"), FORMS[::3], ids=lambda value: str(value)[:40])
async def test_a_zone_in_any_form_is_taken_in_each_place(
    redsched_kit: Kit, given: str | tzinfo, key: str, eight: str
) -> None:
    scheduler = redsched_kit.scheduler
    other = BackgroundTaskScheduler(scheduler.redis_url, fresh_prefix(), timezone=given)
    assert other.timezone == key
    handle = await scheduler.schedule_cron("a", task, "0 8 1 6 *", timezone=given)
    job = await handle.get()
    assert job is not None and job.timezone == key and job.next_run_time is not None
    assert job.next_run_time.strftime("%d %H:%M") == "01 08:00"
    changed = await scheduler.modify_job(handle.id, timezone="Asia/Tokyo")
    assert changed.timezone == "Asia/Tokyo"
    changed = await scheduler.modify_job(handle.id, timezone=given)
    assert changed.timezone == key and changed.next_run_time == job.next_run_time


def test_a_tzinfo_of_which_no_name_is_known_is_refused() -> None:
    path = next(Path(folder) / "Europe/Berlin" for folder in TZPATH if (Path(folder) / "Europe/Berlin").exists())
    with path.open("rb") as file:
        nameless = ZoneInfo.from_file(file)
    for given in (nameless, dateutil.tz.tzstr("CET-1CEST,M3.5.0,M10.5.0/3")):
        with pytest.raises(InvalidScheduleError, match="give the name"):
            parse_timezone(given, "UTC")


@pytest.mark.parametrize("text", ["+25:00", "UTC+99", "+02:60", "UTC+", "Europe/Berln", "localtime"])
def test_an_offset_or_a_name_that_does_not_exist_is_refused(text: str) -> None:
    with pytest.raises(InvalidScheduleError):
        parse_timezone(text, "UTC")


async def test_the_zone_of_a_job_can_be_changed_alone(redsched_kit: Kit) -> None:
    scheduler = redsched_kit.scheduler
    for change in (scheduler.modify_job, scheduler.reschedule_job):
        cron = await scheduler.schedule_cron("a", task, "0 8 * * *", timezone="Europe/Berlin", jitter=1, max_runs=5)
        view: Any = await change(cron.id, timezone="Asia/Tokyo")
        assert (view.timezone, view.next_run_time.hour, view.runs_left) == ("Asia/Tokyo", 8, 5)
        assert "Asia/Tokyo" in view.schedule and "jitter" in view.schedule
        every = await scheduler.schedule_interval("a", task, minutes=5)
        before = await every.get()
        view = await change(every.id, timezone="Asia/Tokyo")
        assert before is not None and view.next_run_time == before.next_run_time and view.timezone == "Asia/Tokyo"
        once = await scheduler.schedule_at("a", task, "2031-01-01T08:00:00")
        view = await change(once.id, timezone="Asia/Tokyo")
        assert view.next_run_time == datetime(2031, 1, 1, 8, tzinfo=UTC) and view.timezone == "Asia/Tokyo"


async def test_a_paused_job_stays_paused_in_its_new_zone_and_resumes_there(redsched_kit: Kit) -> None:
    scheduler = redsched_kit.scheduler
    cron = await scheduler.schedule_cron("a", task, "0 8 * * *")
    await cron.pause()
    assert (await scheduler.modify_job(cron.id, timezone="Asia/Tokyo")).state == "paused"
    view = await cron.resume()
    assert view is not None and view.next_run_time is not None and view.next_run_time.hour == 8
    assert view.timezone == "Asia/Tokyo"


async def test_rescheduling_keeps_jitter_end_and_the_rule_for_the_clocks_unless_told(redsched_kit: Kit) -> None:
    scheduler = redsched_kit.scheduler
    handle = await scheduler.schedule_cron(
        "a", task, "30 2 * * *", timezone="Europe/Berlin", end="2031-01-01T00:00:00", jitter=5, dst_gap="skip"
    )
    view = await scheduler.reschedule_job(handle.id, cron="45 2 * * *")
    assert view is not None
    assert "45 2" in view.schedule and "2031-01-01" in view.schedule and "5 seconds" in view.schedule
    view = await scheduler.reschedule_job(handle.id, interval=60)
    assert view is not None and "every 1 minute" in view.schedule
    assert "2031-01-01" in view.schedule and "5 seconds" in view.schedule
    view = await scheduler.reschedule_job(handle.id, cron="45 2 * * *", end=None, jitter=0)
    assert view is not None and "2031" not in view.schedule and "jitter" not in view.schedule
