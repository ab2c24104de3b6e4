"""`redsched events`, `next` and `workers`."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from datetime import datetime, timedelta

import pytest

from redsched.cli import events, output, serving
from redsched.testing import Kit

from .harness import Shell


async def note() -> None: ...


async def test_events_are_one_json_object_a_line(redsched_kit: Kit, shell: Shell) -> None:
    await redsched_kit.scheduler.schedule_immediate_task("a", note, job_id="a")
    await redsched_kit.scheduler.schedule_immediate_task("b", note, job_id="b")
    await redsched_kit.run_due()
    every = [json.loads(line) for line in (await shell("events", "--json")).stdout.splitlines()]
    assert [e["kind"] for e in every if e["job_id"] == "a"] == ["scheduled", "claimed", "done"]
    one = [json.loads(line) for line in (await shell("events", "--json", "--job", "b")).stdout.splitlines()]
    assert {e["job_id"] for e in one} == {"b"}
    done = (await shell("events", "--kind", "done", "--limit", "1")).stdout.splitlines()
    assert len(done) == 1
    assert "done" in done[0]


async def test_the_newest_of_a_kind_are_found_behind_many_others(redsched_kit: Kit, shell: Shell) -> None:
    await redsched_kit.scheduler.schedule_interval("p", note, hours=1, job_id="p")
    await redsched_kit.scheduler.pause_job("p")
    for number in range(30):
        await redsched_kit.scheduler.schedule_interval("x", note, hours=1, job_id=f"x{number}")
    lines = (await shell("events", "--kind", "paused", "--limit", "1")).stdout.splitlines()
    assert len(lines) == 1
    assert " p" in lines[0]


async def test_an_unknown_kind_is_refused_with_the_known_ones(shell: Shell) -> None:
    result = await shell("events", "--kind", "exploded")
    assert result.exit_code == 2
    assert "requeued" in result.stderr


async def test_every_kind_that_happens_is_one_that_can_be_asked_for(redsched_kit: Kit) -> None:
    await redsched_kit.scheduler.schedule_immediate_task("a", note)
    await redsched_kit.run_due()
    assert {e.kind for e in await redsched_kit.scheduler.get_history()} <= set(events.KINDS)


async def test_following_shows_the_past_then_what_happens_until_ctrl_c(redsched_kit: Kit) -> None:
    scheduler = redsched_kit.scheduler
    await scheduler.schedule_immediate_task("a", note, job_id="a")
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "redsched.cli", "events", "-f", "--json",
        "--url", scheduler.redis_url, "--prefix", scheduler.prefix,
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
        # A shell lets what it starts in the background ignore SIGINT: these tests, and so what they start.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    assert process.stdout is not None
    try:
        async with asyncio.timeout(15):
            assert json.loads(await process.stdout.readline())["kind"] == "scheduled"
            await redsched_kit.run_due()
            following = [json.loads(await process.stdout.readline())["kind"] for _ in range(2)]
            process.send_signal(signal.SIGINT)
            assert await process.wait() == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert following == ["claimed", "done"]


async def test_next_shows_the_soonest_first_in_the_zone_of_each_job(redsched_kit: Kit, shell: Shell) -> None:
    scheduler = redsched_kit.scheduler
    await scheduler.schedule_cron("news", note, "0 8 * * *", timezone="Asia/Kolkata", job_id="n")
    await scheduler.schedule_delayed_task("soon", note, delay_seconds=90, job_id="s")
    soon, news = await shell.json("next")
    assert (soon["job_id"], news["job_id"]) == ("s", "n")
    assert 60 < soon["in_seconds"] <= 90
    assert news["timezone"] == "Asia/Kolkata"
    assert "T08:00:00+05:30" in news["at"]
    (only,) = await shell.json("next", "--count", "1", "--tz", "Europe/Berlin")
    assert only["timezone"] == "Europe/Berlin"
    table = await shell("next")
    assert "Asia/Kolkata" in table.stdout
    assert "in 1 min" in table.stdout


async def test_next_counts_by_the_clock_of_redis(redsched_kit: Kit, shell: Shell) -> None:
    await redsched_kit.scheduler.schedule_delayed_task("soon", note, delay_minutes=60, job_id="s")
    await redsched_kit.travel(minutes=50)
    (soon,) = await shell.json("next")
    assert 500 < soon["in_seconds"] <= 600


async def test_an_expression_is_previewed_without_redis_across_a_gap(shell: Shell) -> None:
    arguments = ["next", "--cron", "30 2 * * *", "--tz", "Europe/Berlin", "--count", "3", "--after", "2026-03-27T12:00"]
    result = await shell(*arguments, "--json", REDSCHED_URL="redis://127.0.0.1:1")
    assert result.exit_code == 0, result.output
    assert [fire["at"] for fire in json.loads(result.stdout)] == [
        "2026-03-28T02:30:00+01:00",
        "2026-03-29T03:00:00+02:00",
        "2026-03-30T02:30:00+02:00",
    ]
    assert "2026-03-29 03:00:00 CEST +02:00" in (await shell(*arguments)).stdout


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--cron", "61 * * * *"), "61"),
        (("--cron", "* * * * *", "--tz", "Europe/Berln"), "did you mean Europe/Berlin"),
        (("--cron", "* * * * *", "--after", "soon"), "ISO 8601"),
        (("--tz", "Nowhere"), "no time zone"),
        (("--after", "2030-01-01"), "--cron"),
    ],
    ids=["expression", "zone", "after", "zone without cron", "after without cron"],
)
async def test_what_cannot_be_previewed_is_told(shell: Shell, arguments: tuple[str, ...], says: str) -> None:
    result = await shell("next", *arguments)
    assert result.exit_code == 2
    assert says in result.stderr


async def test_workers_are_shown_and_what_none_of_them_can_run(redsched_kit: Kit, shell: Shell) -> None:
    scheduler = redsched_kit.scheduler
    scheduler.register(note, name="known")
    await scheduler.start()
    later = {"delay_minutes": 5.0}
    await scheduler.schedule_delayed_task("ok", note, **later, job_id="ok")
    await scheduler.schedule_delayed_task("lost", note, **later, job_id="lost", queue="nobody")
    data = await shell.json("workers")
    (worker,) = data["workers"]
    assert (worker["pid"], worker["live"], worker["queues"]) == (os.getpid(), True, ["default"])
    assert datetime.fromisoformat(worker["last_seen"]).tzinfo is not None
    (lost,) = data["unserved"]
    assert lost["queue"] == "nobody"
    assert lost["reason"] == "no live worker serves the queue 'nobody'"
    assert "waiting: 1 job of task" in (await shell("workers")).stdout
    notes = {job["id"]: job["unserved"] for job in await shell.json("jobs", "list")}
    assert notes == {"ok": None, "lost": "no live worker serves the queue 'nobody'"}


async def test_a_task_that_no_live_worker_knows_is_told(redsched_kit: Kit, shell: Shell) -> None:
    from redsched import BackgroundTaskScheduler

    other = BackgroundTaskScheduler(
        redsched_kit.scheduler.redis_url, redsched_kit.scheduler.prefix, declared_tasks=False
    )
    other.register(note, name="elsewhere.task")
    await other.schedule_delayed_task("x", note, delay_minutes=5, job_id="x")
    await other.shutdown()
    await redsched_kit.scheduler.start()
    (job,) = await shell.json("jobs", "list")
    assert job["unserved"] == "no live worker knows the task 'elsewhere.task'"
    assert "no live worker knows" in (await shell("jobs", "show", "x")).stdout


async def test_a_worker_that_fell_silent_is_not_counted(
    redsched_kit: Kit, shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    await redsched_kit.scheduler.schedule_immediate_task("a", note)
    await redsched_kit.run_due()
    monkeypatch.setattr(serving, "SILENT_AFTER", timedelta(0))
    data = await shell.json("workers")
    assert [worker["live"] for worker in data["workers"]] == [False]
    assert "silent" in (await shell("workers")).stdout


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.25, "250 ms"), (3.21, "3.2 s"), (75, "1 min 15 s"), (7200, "2 h"), (90_061, "1 d 1 h"), (86_400, "1 d")],
)
def test_durations_have_two_units_at_most(seconds: float, text: str) -> None:
    assert output.lasting(seconds) == text


async def test_an_expression_with_the_second_first_is_previewed_where_that_is_said(shell: Shell) -> None:
    arguments = ["next", "--cron", "30 15 8 * * *", "--count", "1", "--after", "2026-03-27T12:00"]
    (only,) = await shell.json(*arguments, "--seconds", "first")
    assert only["at"] == "2026-03-28T08:15:30+00:00"
    refused = await shell(*arguments)
    assert refused.exit_code == 2 and 'seconds="first"' in refused.output
    wrong = await shell(*arguments, "--seconds", "middle")
    assert wrong.exit_code == 2 and "first, last" in wrong.output
    alone = await shell("next", "--seconds", "first")
    assert alone.exit_code == 2 and "--cron" in alone.output
