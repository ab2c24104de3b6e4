"""Declared jobs that an earlier redsched stored, with one digest each: adopted, without an extra fire or a loss."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from redsched import BackgroundTaskScheduler, JobSpec
from redsched.client.schedule import draft_of

from .conftest import Apps, at, ran

EVERY = {"name": "job", "interval": 60}
ONCE = {"name": "job", "run_at": at(10)}
NEWER = ("application", "generation", "parts", "max_runs", "modified")


async def as_it_was(apps: Apps, *declared: dict[str, Any]) -> None:
    """The jobs of a process of then, which has ended."""
    kit = await apps.start(*declared)
    await apps.stop(kit)
    shard = (await apps.client.scheduler.store()).shards[0]
    for options in declared:
        await shard.link.command("HDEL", shard.keys.job(options["name"]), *NEWER)
    for kind in ("applications", "declared:shop", "declarers:shop", "generations:shop"):
        await shard.link.command("DEL", shard.keys.tag + kind)


@pytest.mark.parametrize(
    ("options", "digest"),
    [
        ({"name": "d.interval", "interval": 60, "args": ["x"], "tags": ["t"]}, "6b8228031fd1aaa00489c9ed"),
        (
            {"name": "d.cron", "cron": "0 3 * * *", "timezone": "Europe/Berlin", "max_runs": 4, "timeout": 5},
            "8ce4a97198536cf3c574ba35",
        ),
        ({"name": "d.once", "run_at": datetime(2031, 5, 1, tzinfo=UTC)}, "468646292e461be31435e621"),
    ],
)
async def test_the_digest_that_an_older_redsched_compares_is_what_it_was(
    redsched_url: str, options: dict[str, Any], digest: str
) -> None:
    async def task(*args: Any) -> None: ...

    scheduler = BackgroundTaskScheduler(redsched_url, "digest", declared_tasks=False)
    scheduler.register(task, name=options["name"])
    spec = JobSpec(task=task, **options, job_id=options["name"])
    assert draft_of(scheduler.client, await scheduler.store(), spec)[0].digest() == digest
    await scheduler.shutdown()


@pytest.mark.parametrize("change", [{}, {"timeout": 5}, {"args": ["x"]}], ids=["unchanged", "timeout", "args"])
@pytest.mark.parametrize(
    "schedule", [{"interval": 60}, {"cron": "* * * * *"}, {"run_at": at(1)}], ids=lambda s: next(iter(s))
)
async def test_a_job_of_then_keeps_its_cursor(apps: Apps, schedule: dict[str, Any], change: dict[str, Any]) -> None:
    await as_it_was(apps, {"name": "job", **schedule})
    before = await apps.job("job")
    await apps.client.travel(seconds=90)
    kit = await apps.start({"name": "job", **schedule, **change})
    after = await apps.job("job")
    assert (after.next_run_time, after.application) == (before.next_run_time, "shop")
    assert apps.status(kit) == {"job": "updated" if change else "kept"}
    assert await apps.events("job", "dropped", "replaced") == []
    assert await kit.run_due() == 1
    assert ran == ["job"]


async def test_a_job_of_then_whose_schedule_changed_tells_what_was_due(apps: Apps) -> None:
    await as_it_was(apps, {"name": "job", "cron": "* * * * *"})
    await apps.client.travel_to(at(5))
    await apps.start({"name": "job", "cron": "0 3 * * *"})
    [dropped] = await apps.events("job", "dropped")
    assert (dropped.reason, dropped.count) == ("replaced", 5)


async def test_a_one_shot_of_then_whose_time_changed_has_the_new_one(apps: Apps) -> None:
    await as_it_was(apps, ONCE)
    await apps.start({**ONCE, "run_at": at(20)})
    assert (await apps.job("job")).next_run_time == at(20)


async def test_runs_that_were_left_then_are_left_now(apps: Apps) -> None:
    kit = await apps.start({**EVERY, "max_runs": 5})
    await kit.advance(minutes=2)
    await apps.stop(kit)
    await as_it_was(apps, {**EVERY, "max_runs": 5})
    await apps.start({**EVERY, "max_runs": 5, "timeout": 9})
    assert (await apps.job("job")).runs_left == 3


async def test_a_rename_finds_a_job_of_then(apps: Apps) -> None:
    await as_it_was(apps, EVERY)
    before = await apps.job("job")
    await apps.start({**EVERY, "name": "renamed", "aliases": ["job"]})
    assert (await apps.job("renamed")).next_run_time == before.next_run_time
    assert not await apps.exists("job")


async def test_a_job_of_then_stays_paused(apps: Apps) -> None:
    await as_it_was(apps, EVERY)
    await apps.client.scheduler.pause_job("job")
    await apps.start({**EVERY, "timeout": 9})
    assert (await apps.job("job")).state == "paused"
