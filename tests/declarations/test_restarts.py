"""A restart changes nothing of what is declared as before, and of the rest only what is declared differently."""

from __future__ import annotations

import logging
from datetime import timedelta
from typing import Any

import pytest

from redsched import PayloadSecurity

from .conftest import MAY, Apps, at, ran

EVERY = {"name": "job", "interval": 60}
NIGHTLY = {"name": "job", "cron": "0 3 * * *"}
ONCE = {"name": "job", "run_at": at(10)}


async def test_an_interval_fires_on_its_grid_however_often_the_process_restarts(apps: Apps) -> None:
    kit = await apps.start(EVERY)
    first = (await apps.job("job")).next_run_time
    fires = 0
    for _ in range(9):  # a start every 40 s
        await kit.travel(seconds=40)
        kit = await apps.restart(EVERY)
        fires += await kit.run_due()
    assert fires == 6
    assert first is not None
    claimed = [e.fire_time for e in await apps.events("job", "claimed")]
    assert claimed == [first + timedelta(minutes=n) for n in range(6)]


OTHER_PARTS = [
    {"timeout": 5}, {"args": ["x"]}, {"kwargs": {"a": 1}}, {"tags": ["t"]}, {"queue": "other"}, {"max_attempts": 3},
    {"coalesce": False}, {"misfire_grace_time": 10_000}, {"max_instances": 2}, {"delivery": "at_most_once"},
    {"result_ttl": 9}, {"max_recoveries": 1},
]  # fmt: skip


@pytest.mark.parametrize("part", OTHER_PARTS, ids=lambda part: next(iter(part)))
@pytest.mark.parametrize(
    "schedule", [{"interval": 60}, {"cron": "* * * * *"}, {"run_at": at(1)}], ids=lambda s: next(iter(s))
)
async def test_another_part_of_a_declaration_changes_and_the_overdue_fire_runs(
    apps: Apps, schedule: dict[str, Any], part: dict[str, Any]
) -> None:
    await apps.start({"name": "job", **schedule})
    before = await apps.job("job")
    await apps.client.travel(seconds=90)
    kit = await apps.restart({"name": "job", **schedule, **part}, queues=["default", "other"])
    after = await apps.job("job")
    assert (after.next_run_time, after.schedule) == (before.next_run_time, before.schedule)
    assert apps.status(kit) == {"job": "updated"}
    [name] = part
    if name in ("kwargs", "args", "tags"):
        assert getattr(after, name) in (part[name], tuple(part[name]))
    elif hasattr(after, name):
        assert getattr(after, name) == part[name]
    assert await apps.events("job", "dropped", "missed") == []
    assert await kit.run_due() == 1
    await apps.rollback({"name": "job", **schedule})  # and back, to the default
    if "run_at" not in schedule:
        assert getattr(await apps.job("job"), name, None) == getattr(before, name, None)


async def test_a_pause_outlasts_a_restart_and_a_changed_part(apps: Apps) -> None:
    await apps.start(EVERY)
    await apps.client.scheduler.pause_job("job")
    await apps.restart(EVERY)
    assert (await apps.job("job")).state == "paused"
    await apps.restart({**EVERY, "timeout": 7})
    assert ((await apps.job("job")).state, (await apps.job("job")).timeout) == ("paused", 7)
    await apps.client.travel(minutes=5)
    await apps.restart({**EVERY, "interval": 600, "timeout": 7})
    assert (await apps.job("job")).state == "paused"
    [dropped] = await apps.events("job", "dropped")
    assert (dropped.reason, dropped.count) == ("paused", 5)
    await apps.client.scheduler.resume_job("job")
    assert (await apps.job("job")).schedule == "every 10 minutes"


@pytest.mark.parametrize("renamed", [False, True], ids=["", "renamed"])
async def test_a_schedule_that_changes_while_it_is_declared_paused_counts_each_fire_once(
    apps: Apps, renamed: bool
) -> None:
    await apps.start({"name": "job", "cron": "* * * * *"})
    await apps.client.travel_to(at(20) + timedelta(seconds=1))
    after = {"name": "after", "aliases": ["job"]} if renamed else {"name": "job"}
    await apps.restart({**after, "cron": "*/10 * * * *", "next_run_time": None})
    before = [(e.reason, e.fire_time, e.count) for e in await apps.events("job", "dropped")]
    assert before == [("replaced", at(1), 20)]
    await apps.client.travel_to(at(65))
    await apps.client.scheduler.resume_job(after["name"])
    [hidden] = [event for event in await apps.events(str(after["name"]), "dropped") if event.reason == "paused"]
    assert (hidden.fire_time, hidden.last_fire_time, hidden.count) == (at(30), at(60), 4)


async def test_a_pause_that_is_declared_hides_what_was_due_and_resuming_says_so(apps: Apps) -> None:
    await apps.start({"name": "job", "cron": "* * * * *"})
    await apps.client.travel_to(at(20) + timedelta(seconds=1))
    await apps.restart({"name": "after", "aliases": ["job"], "cron": "* * * * *", "next_run_time": None})
    assert await apps.events("job", "dropped") == []
    await apps.client.scheduler.resume_job("after")
    [hidden] = await apps.events("after", "dropped")
    assert (hidden.reason, hidden.fire_time, hidden.count) == ("paused", at(1), 20)


@pytest.mark.parametrize("once", [True, False])
async def test_a_changed_schedule_tells_what_was_due_by_the_old_one(apps: Apps, once: bool) -> None:
    await apps.start(ONCE if once else {"name": "job", "cron": "* * * * *"})
    await apps.client.travel_to(at(20) + timedelta(seconds=1))
    kit = await apps.restart({"name": "job", "run_at": at(60)} if once else NIGHTLY)
    [dropped] = await apps.events("job", "dropped")
    assert dropped.reason == "replaced"
    expected = (at(10), None, 1) if once else (at(1), at(20), 20)
    assert (dropped.fire_time, dropped.last_fire_time, dropped.count) == expected
    assert (await apps.job("job")).next_run_time == at(60 if once else 180)
    assert await kit.run_due() == 0


async def test_a_declared_one_shot_runs_once_ever(apps: Apps) -> None:
    kit = await apps.start(ONCE)
    await kit.travel_to(at(11))
    assert await kit.run_due() == 1
    for part in ({}, {"timeout": 3}, {}):
        kit = await apps.restart({**ONCE, **part})
        assert apps.status(kit) == {"job": "over"}
        assert await kit.run_due() == 0
    assert ran == ["job"]
    kit = await apps.restart({**ONCE, "run_at": at(30)})
    assert await kit.advance(hours=1) == 1


async def test_a_declared_one_shot_that_failed_is_not_run_again(apps: Apps) -> None:
    kit = await apps.start({**ONCE, "timeout": 0.001, "delivery": "at_most_once"})
    shard = (await kit.scheduler.store()).shard("job")
    await kit.travel_to(at(11))
    await shard.link.command("HSET", shard.keys.job("job"), "record", b"spoilt")
    await kit.run_due()
    assert (await kit.scheduler.get_dead())[0].id == "job"
    kit = await apps.restart(ONCE)
    assert apps.status(kit) == {"job": "over"}
    assert len(await kit.scheduler.get_dead()) == 1


async def test_a_one_shot_that_is_declared_after_its_time_runs_once(apps: Apps) -> None:
    kit = await apps.start({"name": "job", "run_at": MAY - timedelta(days=1)})
    assert await kit.run_due() == 1
    kit = await apps.restart({"name": "job", "run_at": MAY - timedelta(days=1)})
    assert await kit.run_due() == 0


async def test_an_end_that_has_passed_is_no_error_and_the_others_are_stored(apps: Apps) -> None:
    ends = {"name": "ends", "interval": 60, "end": at(3)}
    kit = await apps.start(ends)
    await kit.advance(minutes=10)
    assert not await apps.exists("ends")
    kit = await apps.restart(ends, NIGHTLY)
    assert apps.status(kit) == {"ends": "over", "job": "added"}
    kit = await apps.restart({"name": "never began", "cron": "* * * * *", "end": at(1)}, NIGHTLY)
    assert apps.status(kit) == {"never began": "over", "job": "kept"}
    kit = await apps.restart({**ends, "end": at(90)}, NIGHTLY)
    assert apps.status(kit)["ends"] == "added"


async def test_max_runs_is_not_renewed_by_a_restart(apps: Apps) -> None:
    three = {**EVERY, "max_runs": 3}
    kit = await apps.start(three)
    for _ in range(2):
        await kit.advance(minutes=1)
    kit = await apps.restart({**three, "timeout": 5})
    assert (await apps.job("job")).runs_left == 1
    await kit.advance(minutes=9)
    kit = await apps.restart(three)
    assert apps.status(kit) == {"job": "over"}
    assert await kit.advance(minutes=9) == 0
    assert len(ran) == 3
    kit = await apps.restart({**three, "max_runs": 5})
    assert (await apps.job("job")).runs_left == 2


async def test_a_larger_max_runs_of_a_job_that_goes_on_counts_the_runs_that_it_had(apps: Apps) -> None:
    kit = await apps.start({**EVERY, "max_runs": 3})
    await kit.advance(minutes=1)
    await apps.restart({**EVERY, "max_runs": 5})
    assert (await apps.job("job")).runs_left == 4
    kit = await apps.restart({**EVERY, "max_runs": 1})
    assert not await apps.exists("job")
    kit = await apps.restart({**EVERY, "max_runs": 1})
    assert apps.status(kit) == {"job": "over"}


async def test_what_an_operator_modified_stays_until_that_part_is_declared_differently(apps: Apps) -> None:
    await apps.start({**EVERY, "timeout": 5})
    operator = apps.client.scheduler
    await operator.modify_job("job", timeout=99, args=["operator"])
    assert (await apps.job("job")).modified == ("args", "timeout")
    await apps.restart({**EVERY, "timeout": 5})
    assert (await apps.job("job")).timeout == 99
    await apps.restart({**EVERY, "timeout": 5, "tags": ["new"]})
    job = await apps.job("job")
    assert (job.timeout, job.args, job.tags) == (99, ("operator",), ("new",))
    await apps.restart({**EVERY, "timeout": 6, "tags": ["new"]})
    job = await apps.job("job")
    assert (job.timeout, job.args, job.modified) == (6, ("operator",), ("args",))


async def test_a_schedule_that_an_operator_gave_stays_until_the_schedule_is_declared_differently(apps: Apps) -> None:
    await apps.start(EVERY)
    await apps.client.scheduler.reschedule_job("job", cron="0 12 * * *")
    for part in ({}, {"timeout": 5}):
        await apps.restart({**EVERY, **part})
        job = await apps.job("job")
        assert (job.schedule, job.next_run_time, job.modified) == ("cron 0 12 * * * (UTC)", at(720), ("schedule",))
    await apps.restart({**EVERY, "interval": 90})
    job = await apps.job("job")
    assert (job.schedule, job.modified) == ("every 1 minute 30 seconds", ())


async def test_a_next_run_time_that_an_operator_chose_stays(apps: Apps) -> None:
    await apps.start(EVERY)
    await apps.client.scheduler.modify_job("job", next_run_time=at(7))
    await apps.restart({**EVERY, "timeout": 4})
    assert (await apps.job("job")).next_run_time == at(7)


@pytest.mark.parametrize("how", ["remove_job", "cancel"])
async def test_a_job_that_an_operator_removed_stays_away_until_its_declaration_changes(apps: Apps, how: str) -> None:
    await apps.start(EVERY)
    await getattr(apps.client.scheduler, how)("job")
    kit = await apps.restart(EVERY)
    assert apps.status(kit) == {"job": "removed"}
    assert not await apps.exists("job")
    kit = await apps.restart({**EVERY, "timeout": 5})
    assert apps.status(kit) == {"job": "added"}


async def test_one_bad_declaration_is_told_and_keeps_no_other_from_being_stored(
    apps: Apps, caplog: pytest.LogCaptureFixture
) -> None:
    bad = {"name": "bad", "interval": 60, "executor": "gpu"}
    large = {"name": "large", "interval": 60, "args": ["x" * 2000]}
    with caplog.at_level(logging.ERROR):
        kit = await apps.start(bad, large, EVERY, max_payload_bytes=1000)
    assert apps.status(kit) == {"bad": "failed", "large": "failed", "job": "added"}
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == 2
    assert "'bad'" in said[0]
    assert "executor is 'gpu'" in said[0]
    assert "start again" in said[0]
    assert {job.id: bool(job.error) for job in kit.scheduler.declared_jobs} == {
        "bad": True,
        "large": True,
        "job": False,
    }


async def test_a_job_that_was_scheduled_by_a_call_under_a_declared_id_is_taken_over(apps: Apps) -> None:
    scheduler = apps.client.scheduler

    async def other() -> None: ...

    scheduler.register(other, name="other")
    await scheduler.schedule_cron("other", other, "0 3 * * *", job_id="job", timeout=3)
    before = await apps.job("job")
    await apps.start(NIGHTLY)
    after = await apps.job("job")
    assert (after.task, after.timeout, after.next_run_time) == ("job", None, before.next_run_time)


async def test_a_dead_periodic_job_is_stored_anew(apps: Apps) -> None:
    kit = await apps.start(EVERY)
    shard = (await kit.scheduler.store()).shard("job")
    await shard.link.command("HSET", shard.keys.job("job"), "record", b"spoilt")
    await shard.link.command("HDEL", shard.keys.job("job"), "after_ms")
    await kit.advance(minutes=1)
    assert (await kit.scheduler.get_dead())[0].id == "job"
    kit = await apps.restart(EVERY)
    assert await kit.advance(minutes=1) == 1


async def test_declared_jobs_are_sealed_anew_with_a_new_key_and_keep_their_cursor(apps: Apps) -> None:
    old, new = "the first key of the declared jobs", "the second key of the declared jobs"
    await apps.start(EVERY, payload_security=PayloadSecurity([old]))
    before = await apps.job("job")
    await apps.client.travel(seconds=30)
    kit = await apps.restart(EVERY, payload_security=PayloadSecurity([new, old]))
    assert apps.status(kit) == {"job": "updated"}
    assert (await apps.job("job")).next_run_time == before.next_run_time
    kit = await apps.restart({**EVERY, "timeout": 5}, payload_security=PayloadSecurity([new]))
    assert (await apps.job("job")).next_run_time == before.next_run_time
    kit = await apps.restart({**EVERY, "timeout": 6})
    assert apps.status(kit) == {"job": "failed"}
    assert (await apps.job("job")).timeout == 5


async def test_a_periodic_job_becomes_one_that_runs_once_and_back(apps: Apps) -> None:
    await apps.start({**EVERY, "max_runs": 4})
    kit = await apps.restart(ONCE)
    job = await apps.job("job")
    assert (job.next_run_time, job.runs_left) == (at(10), None)
    await kit.travel_to(at(11))
    assert await kit.run_due() == 1
    kit = await apps.restart(EVERY)
    assert apps.status(kit) == {"job": "added"}
    assert await kit.advance(minutes=1) == 1


async def test_a_job_that_is_declared_paused_is_resumed_by_its_declaration_only(apps: Apps) -> None:
    paused = {**EVERY, "next_run_time": None}
    await apps.start(paused)
    assert (await apps.job("job")).state == "paused"
    await apps.client.scheduler.resume_job("job")
    await apps.restart({**paused, "timeout": 5})
    assert (await apps.job("job")).state == "scheduled"
    await apps.client.scheduler.pause_job("job")
    await apps.restart({**EVERY, "timeout": 5})
    assert (await apps.job("job")).state == "scheduled"
