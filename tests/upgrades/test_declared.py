"""Jobs that an older redsched declared, as it left them: the same code under this one loses and repeats none."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import AsyncIterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from redsched import State
from redsched.testing import Kit
from tests.invariants import check
from tests.upgrades import tasks
from tests.upgrades.recording import put_back, security
from tests.upgrades.recording_declared import DECLARED, JOBS, SIGNED, declare, scheduler_of

RECORDINGS = sorted(DECLARED.glob("*.json"))


class Deployed:
    """The application on what a former version left, at the instant at which it left it."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.kit = Kit(scheduler_of(url))
        self.next: dict[str, datetime | None] = {}

    async def deploy(self, **changes: dict[str, Any]) -> dict[str, str]:
        """Start this version with the same declarations, but for these changes; what became of each."""
        declare(self.kit.scheduler, JOBS, **changes)
        await self.kit.scheduler.start(worker=False)
        return {job.id: job.status for job in self.kit.scheduler.declared_jobs}

    async def now(self) -> dict[str, datetime | None]:
        return {job.id: job.next_run_time for job in await self.kit.scheduler.get_jobs()}


@pytest.fixture(params=RECORDINGS, ids=lambda path: path.stem)
async def left(request: pytest.FixtureRequest, redsched_url: str) -> AsyncIterator[Deployed]:
    tasks.ran.clear()
    made = Deployed(redsched_url)
    scheduler = made.kit.scheduler
    await scheduler.clear_all_jobs()
    store = await scheduler.store()
    for shard in store.shards:
        await shard.link.command("DEL", shard.keys.clock, shard.keys.workers)
    await put_back(store, json.loads(Path(request.param).read_text()))
    made.next = await made.now()
    yield made
    await check(store)
    await scheduler.clear_all_jobs()
    await store.shards[0].link.command("DEL", store.shards[0].keys.clock, store.shards[0].keys.workers)
    await scheduler.shutdown()


def test_there_is_a_recording_of_declared_jobs() -> None:
    assert RECORDINGS


async def test_the_same_declarations_keep_each_job_as_it_was_left(left: Deployed) -> None:
    status = await left.deploy()
    assert await left.now() == left.next  # also of `modified`: what its operator changed then is declared otherwise now
    assert {job_id: one for job_id, one in status.items() if one not in ("kept", "over")} == {"modified": "updated"}
    assert {job_id for job_id, one in status.items() if one == "over"} == {"ran", "failed"}
    jobs = {job.id: job for job in await left.kit.scheduler.get_jobs()}
    assert jobs["paused"].state is State.PAUSED
    # Then a start undid what an operator had changed, and nothing is stored of what was declared: as then, once.
    assert jobs["modified"].timeout == 60
    assert jobs["bounded"].runs_left == 3
    assert [job.id for job in await left.kit.scheduler.get_dead()] == ["failed"]


async def test_what_is_due_after_the_deploy_runs_once_and_nothing_that_had_run_runs_again(left: Deployed) -> None:
    await left.deploy()
    await left.kit.advance(minutes=21)
    counted = Counter(name for name, _, _ in tasks.ran)
    assert counted["ran"] == counted["failed"] == counted["paused"] == counted["later"] == 0
    assert (counted["cron"], counted["bounded"]) == (1, 2)
    assert counted["interval"] == counted["modified"] == 0


async def test_what_was_due_between_the_versions_is_caught_up_once(left: Deployed) -> None:
    await left.kit.travel(hours=2)
    await left.deploy()
    await left.kit.run_due()
    counted = Counter(name for name, _, _ in tasks.ran)
    assert (counted["interval"], counted["cron"], counted["modified"]) == (1, 1, 1)
    assert counted["ran"] == counted["failed"] == counted["paused"] == 0


async def test_a_one_shot_job_that_a_worker_of_then_held_is_recovered_and_runs_once(left: Deployed) -> None:
    await left.deploy()
    shard = (await left.kit.scheduler.store()).shards[0]
    await shard.link.command("ZADD", shard.keys.leases, "XX", 1, "held")
    await left.kit.run_due()
    await left.kit.run_due()
    assert [name for name, _, _ in tasks.ran].count("held") == 1


async def test_a_changed_option_is_written_and_leaves_the_cursor(left: Deployed) -> None:
    changed = {"timeout": 5.0}
    status = await left.deploy(interval=changed, cron=changed, paused=changed, bounded=changed)
    updated = {job_id for job_id, one in status.items() if one == "updated"}
    assert updated == {"interval", "cron", "paused", "bounded", "modified"}
    assert await left.now() == left.next
    assert (await left.kit.scheduler.get_jobs(tag="t"))[0].timeout == 5


async def test_a_changed_schedule_says_what_it_left_behind(left: Deployed) -> None:
    await left.kit.travel(hours=1)
    await left.deploy(cron={"cron": "0 3 * * *"})
    dropped = [event for event in await left.kit.scheduler.get_history("cron") if event.kind == "dropped"]
    assert [(event.reason, event.count) for event in dropped] == [("replaced", 3)]
    assert (await left.now())["interval"] == left.next["interval"]


async def test_a_second_start_changes_nothing(left: Deployed) -> None:
    await left.deploy()
    before = await left.now()
    other = Deployed(left.url)
    await left.kit.scheduler.shutdown()
    await other.kit.travel(seconds=40)
    status = await other.deploy()
    await other.kit.scheduler.shutdown()
    assert set(status.values()) <= {"kept", "over"}
    assert await left.now() == before


@pytest.mark.parametrize("change", [{}, {"timeout": 5.0}], ids=["unchanged", "timeout"])
async def test_a_signed_job_of_then_keeps_its_cursor(left: Deployed, change: dict[str, Any]) -> None:
    left.kit = Kit(scheduler_of(left.url, payload_security=security(), queues=["signed"]))
    declare(left.kit.scheduler, SIGNED, signed=change)
    await left.kit.scheduler.start(worker=False)
    assert [job.status for job in left.kit.scheduler.declared_jobs] == ["updated" if change else "kept"]
    assert await left.now() == left.next
    await left.kit.advance(hours=1)
    assert [name for name, _, _ in tasks.ran] == ["signed"]
