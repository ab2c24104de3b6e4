"""Old and new processes side by side: who wins, what a rename keeps, and what a prune ends."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from redsched import BackgroundTaskScheduler, InvalidInputError, schedule_task
from redsched.declarations import renames

from .conftest import Apps, at, ran

OLD = {"name": "job", "interval": 60, "timeout": 5}
NEW = {"name": "job", "interval": 60, "timeout": 6}
OTHER = {"name": "other", "cron": "0 3 * * *"}


async def until(true: Callable[[], Awaitable[bool]]) -> None:
    for _ in range(200):
        if await true():
            return
        await asyncio.sleep(0.05)
    raise AssertionError("it did not become true")


# -- generations ----------------------------------------------------------------------------------------------------


async def test_a_newer_definition_is_not_undone_by_an_older_process_that_restarts(apps: Apps) -> None:
    old = await apps.start(OLD)
    new = await apps.start(NEW)
    assert (await apps.job("job")).timeout == 6
    await apps.stop(old)
    old = await apps.start(OLD)
    assert apps.status(old) == {"job": "held_back"}
    assert (await apps.job("job")).timeout == 6
    await apps.stop(new)
    await apps.stop(old)
    old = await apps.start(OLD)  # the newer one may be restarting as well
    assert apps.status(old) == {"job": "held_back"}
    assert (await apps.job("job")).timeout == 6


async def test_what_is_held_back_is_told_with_what_will_become_of_it(
    apps: Apps, caplog: pytest.LogCaptureFixture
) -> None:
    await apps.start(OLD)
    await apps.start(NEW)
    with caplog.at_level(logging.WARNING):
        await apps.start(OLD)
    assert "'job' stays" in caplog.text
    assert "60 s" in caplog.text


async def test_an_older_version_applies_when_the_newer_one_is_gone_for_a_minute_though_it_does_not_restart(
    apps: Apps,
) -> None:
    await apps.start(OLD)
    new = await apps.start(NEW)
    await asyncio.sleep(1.5)  # the older one has seen that there is a newer one
    await apps.stop(new)
    await apps.client.travel(seconds=61)

    async def is_rolled_back() -> bool:
        return (await apps.job("job")).timeout == 5

    await until(is_rolled_back)
    await apps.start(NEW)
    assert (await apps.job("job")).timeout == 6


async def test_a_process_that_lives_through_a_time_travel_is_still_there(apps: Apps) -> None:
    await apps.start(OLD)
    await apps.start(NEW)
    await apps.client.travel(days=1)
    old = await apps.start(OLD)
    assert apps.status(old) == {"job": "held_back"}


async def test_processes_that_declare_different_jobs_do_not_hold_each_other_back(apps: Apps) -> None:
    await apps.start(OLD, OTHER)
    await apps.start(OTHER)  # the web server imports fewer modules, and started later
    new = await apps.start(NEW, OTHER)
    assert apps.status(new) == {"job": "updated", "other": "kept"}
    again = await apps.start(OLD, OTHER)
    assert apps.status(again) == {"job": "held_back", "other": "kept"}


async def test_an_operators_change_is_held_back_by_no_generation(apps: Apps) -> None:
    await apps.start(OLD)
    await apps.start(NEW)
    await apps.client.scheduler.modify_job("job", timeout=99)
    await apps.start(NEW)
    await apps.start(OLD)
    assert (await apps.job("job")).timeout == 99


async def test_old_and_new_processes_that_restart_in_turns_do_not_move_the_schedule(apps: Apps) -> None:
    kits = [await apps.start(OLD), await apps.start(NEW)]
    fires = 0
    for turn in range(12):
        await apps.client.travel(seconds=40)
        await apps.stop(kits.pop(0))
        kits.append(await apps.start(NEW if turn % 2 else OLD))
        fires += await kits[-1].run_due()
    assert fires == 8
    assert (await apps.job("job")).timeout == 6


async def test_many_processes_that_start_at_once_store_one_job(apps: Apps) -> None:
    kits = await asyncio.gather(*(apps.start(OLD, OTHER) for _ in range(8)))
    assert {status for kit in kits for status in apps.status(kit).values()} <= {"added", "kept"}
    assert sum(list(apps.status(kit).values()).count("added") for kit in kits) == 2
    kits = await asyncio.gather(*(apps.start(NEW, OTHER) for _ in range(8)))
    assert (await apps.job("job")).timeout == 6
    assert len(await apps.events("job", "modified")) == 1


# -- owners ---------------------------------------------------------------------------------------------------------


async def test_the_owner_is_the_package_of_the_function_if_the_application_has_no_name(apps: Apps) -> None:
    await apps.start(OLD, application=None)
    assert (await apps.job("job")).application == Apps.__module__.partition(".")[0]


async def test_two_applications_that_declare_one_id_are_told_and_do_not_fight(apps: Apps) -> None:
    shop = await apps.start(OLD)
    billing = await apps.start({**NEW, "interval": 90}, application="billing")
    assert apps.status(billing) == {"job": "failed"}
    [failed] = billing.scheduler.declared_jobs
    assert "'shop' declares" in (failed.error or "")
    assert (await apps.job("job")).application == "shop"
    await apps.stop(shop)
    billing = await apps.restart(NEW, application="billing")  # and when it is gone, its job is taken over
    assert apps.status(billing) == {"job": "updated"}
    assert (await apps.job("job")).application == "billing"


# -- renamed --------------------------------------------------------------------------------------------------------


async def test_a_rename_keeps_the_job(apps: Apps) -> None:
    kit = await apps.start({**OLD, "max_runs": 9, "tags": ["t"], "queue": "default"})
    await kit.advance(minutes=1)
    before = await apps.job("job")
    await apps.client.travel(seconds=30)
    kit = await apps.restart({**OLD, "max_runs": 9, "tags": ["t"], "name": "renamed", "aliases": ["job"]})
    assert apps.status(kit) == {"renamed": "renamed"}
    after = await apps.job("renamed")
    assert (after.next_run_time, after.runs_left, after.tags, after.task) == (
        before.next_run_time,
        8,
        ("t",),
        "renamed",
    )
    assert not await apps.exists("job")
    assert [job.id for job in await apps.client.scheduler.get_jobs(tag="t")] == ["renamed"]
    [removed] = await apps.events("job", "removed")
    assert removed.reason == "renamed"
    assert await kit.advance(seconds=30) == 1
    assert ran == ["job", "renamed"]
    kit = await apps.restart({**OLD, "max_runs": 9, "tags": ["t"], "name": "renamed", "aliases": ["job"]})
    assert apps.status(kit) == {"renamed": "kept"}
    kit = await apps.restart({**OLD, "max_runs": 9, "tags": ["t"], "name": "renamed"})  # the alias may go
    assert apps.status(kit) == {"renamed": "kept"}


async def test_a_rename_keeps_what_operators_did(apps: Apps) -> None:
    await apps.start(OLD)
    await apps.client.scheduler.modify_job("job", timeout=77)
    await apps.client.scheduler.pause_job("job")
    await apps.client.travel(minutes=10)
    await apps.restart({**OLD, "name": "renamed", "aliases": ["job"]})
    job = await apps.job("renamed")
    assert (job.state, job.timeout) == ("paused", 77)
    await apps.client.travel(minutes=10)
    await apps.client.scheduler.resume_job("renamed")
    [dropped] = await apps.events("renamed", "dropped")
    assert (dropped.reason, dropped.count) == ("paused", 20)


async def test_an_overdue_fire_of_a_renamed_job_runs_under_its_new_name(apps: Apps) -> None:
    await apps.start({"name": "job", "run_at": at(5)})
    await apps.client.travel(minutes=9)
    kit = await apps.restart({"name": "renamed", "run_at": at(5), "aliases": ["job"]})
    assert await kit.run_due() == 1
    assert ran == ["renamed"]


async def test_what_is_over_or_removed_is_so_under_a_new_name_too(apps: Apps) -> None:
    kit = await apps.start({"name": "once", "run_at": at(1)}, OLD)
    await kit.travel_to(at(2))
    await kit.run_due()
    await apps.client.scheduler.remove_job("job")
    kit = await apps.restart(
        {"name": "once again", "run_at": at(1), "aliases": ["once"]}, {**OLD, "name": "renamed", "aliases": ["job"]}
    )
    assert apps.status(kit) == {"once again": "over", "renamed": "removed"}
    kit = await apps.restart(
        {"name": "once again", "run_at": at(1), "aliases": ["once"]}, {**OLD, "name": "renamed", "aliases": ["job"]}
    )
    assert apps.status(kit) == {"once again": "over", "renamed": "removed"}


async def test_a_rename_that_broke_off_half_way_is_carried_on_at_the_next_start(
    apps: Apps, monkeypatch: pytest.MonkeyPatch
) -> None:
    await apps.start(OLD)
    before = await apps.job("job")

    async def killed(*_: Any) -> None:
        raise RuntimeError("the process was killed here")

    renamed = {**OLD, "name": "renamed", "aliases": ["job"]}
    with monkeypatch.context() as patch:
        patch.setattr(renames, "arrive", killed)
        kit = await apps.restart(renamed)
        assert apps.status(kit) == {"renamed": "failed"}
        assert not await apps.exists("job")
    await apps.restart(renamed)
    assert (await apps.job("renamed")).next_run_time == before.next_run_time


async def test_an_old_process_that_restarts_does_not_bring_the_earlier_name_back(apps: Apps) -> None:
    await apps.start(OLD)
    await apps.start({**OLD, "name": "renamed", "aliases": ["job"]})
    old = await apps.start(OLD)
    assert apps.status(old) == {"job": "held_back"}
    assert not await apps.exists("job")
    old = await apps.rollback(OLD)  # but a rollback does, with the cursor
    assert apps.status(old) == {"job": "renamed"}
    assert await apps.exists("job")
    assert not await apps.exists("renamed")


async def test_jobs_that_were_scheduled_under_an_alias_run(apps: Apps) -> None:
    client = apps.client.scheduler

    async def task() -> None: ...

    client.register(task, name="earlier")
    await client.schedule_immediate_task("one", task)
    kit = await apps.start({"name": "present", "cron": "0 3 * * *", "aliases": ["earlier"]})
    assert await kit.run_due() == 1
    assert ran == ["present"]


def test_an_alias_that_is_another_tasks_name_is_refused(redsched_url: str) -> None:
    scheduler = BackgroundTaskScheduler(redsched_url, "aliases", declared_tasks=False)

    async def one() -> None: ...
    async def two() -> None: ...

    schedule_task(scheduler=scheduler, name="one")(one)
    with pytest.raises(InvalidInputError, match="another task's name"):
        schedule_task(scheduler=scheduler, name="two", aliases=["one"])(two)
    with pytest.raises(InvalidInputError, match="aliases"):
        schedule_task(scheduler=scheduler, name="two", aliases="one")(two)


# -- prune ----------------------------------------------------------------------------------------------------------


async def test_prune_ends_what_the_code_does_not_declare_any_more(apps: Apps) -> None:
    await apps.start({"name": "job", "cron": "* * * * *"}, OTHER)
    await apps.client.travel(minutes=3)
    kit = await apps.restart(OTHER)
    assert await apps.exists("job")
    assert await kit.scheduler.prune(dry_run=True) == (["job"], [])
    assert await apps.exists("job")
    kit = await apps.restart(OTHER, prune=True)
    assert not await apps.exists("job")
    [dropped] = await apps.events("job", "dropped")
    assert (dropped.reason, dropped.count) == ("pruned", 3)
    [removed] = await apps.events("job", "removed")
    assert removed.reason == "pruned"
    kit = await apps.rollback(
        {"name": "job", "cron": "* * * * *"}, OTHER
    )  # it is forgotten: declared again, it is back
    assert apps.status(kit)["job"] == "added"


async def test_prune_ends_nothing_of_others(apps: Apps) -> None:
    client = apps.client.scheduler

    async def task() -> None: ...

    client.register(task, name="by hand")
    await client.schedule_cron("by hand", task, "0 3 * * *", job_id="by hand")
    await apps.start(OLD, application="billing")
    await apps.start({"name": "taken", "cron": "0 3 * * *"}, OTHER)
    await client.schedule_cron("by hand", task, "0 4 * * *", job_id="taken", replace_existing=True)
    await apps.restart(OTHER, prune=True)
    assert sorted(job.id for job in await client.get_jobs()) == ["by hand", "job", "other", "taken"]


async def test_prune_waits_for_older_processes_that_still_declare_the_job(apps: Apps) -> None:
    old = await apps.start(OLD, OTHER)
    new = await apps.start(OTHER, prune=True)
    assert await new.scheduler.prune() == ([], ["job"])
    assert await apps.exists("job")
    await apps.stop(old)

    async def is_pruned() -> bool:
        return not await apps.exists("job")

    await until(is_pruned)


async def test_prune_waits_for_an_older_process_that_was_killed_until_it_is_surely_gone(apps: Apps) -> None:
    old = await apps.start(OLD, OTHER)
    keeping = old.scheduler._keeping
    assert keeping is not None
    keeping.cancel()  # it is silent, and says no goodbye
    new = await apps.start(OTHER)
    assert await new.scheduler.prune() == ([], ["job"])
    shard = (await new.scheduler.store()).shards[0]
    key = f"{shard.keys.tag}declarers:shop"
    for member in await shard.link.command("ZRANGE", key, 0, -1):
        if member.startswith(b"1:"):
            await shard.link.command("ZINCRBY", key, -61_000, member)
    assert await new.scheduler.prune() == (["job"], [])


async def test_prune_waits_for_workers_of_a_redsched_that_does_not_tell_what_it_declares(apps: Apps) -> None:
    await apps.start(OLD, OTHER)
    new = await apps.restart(OTHER)
    shard = (await new.scheduler.store()).shards[0]
    import msgpack

    now = await shard.travel()
    await shard.link.command("ZADD", shard.keys.workers, now, "elder")
    await shard.link.command("HSET", shard.keys.worker("elder"), "info", msgpack.packb({"tasks": ["job"], "pid": 1}))
    assert await new.scheduler.prune() == ([], ["job"])
    await shard.link.command("HSET", shard.keys.worker("elder"), "info", msgpack.packb({"tasks": ["else"], "pid": 1}))
    assert await new.scheduler.prune() == (["job"], [])


async def test_a_scheduler_that_is_not_started_can_prune(apps: Apps) -> None:
    await apps.start(OLD, OTHER)
    for kit in list(apps.up):
        await apps.stop(kit)
    scheduler = BackgroundTaskScheduler(apps.url, apps.prefix, declared_tasks=False, application="shop")

    async def task() -> None: ...

    schedule_task(scheduler=scheduler, **OTHER)(task)
    assert await scheduler.prune() == (["job"], [])
    await scheduler.shutdown()
