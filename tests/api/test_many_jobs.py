"""Many jobs: stored and listed in steps, none of which holds Redis or this process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import redis

from redsched import BackgroundTaskScheduler, InvalidInputError, JobSpec, State
from redsched.client.schedule import BATCH_BYTES
from redsched.store.link import Link
from redsched.store.transitions import Shard
from redsched.testing import Kit, fresh_prefix, kit
from tests.cli.harness import Shell


async def give(value: Any = None) -> Any:
    return value


async def fail() -> None:
    raise ValueError("as it should")


@pytest.fixture(params=[1, 3])
async def mixed(redsched_url: str, request: pytest.FixtureRequest) -> AsyncIterator[Kit]:
    """60 jobs of three queues and all states but running."""
    scheduler = BackgroundTaskScheduler(redsched_url, fresh_prefix(), shards=request.param, declared_tasks=False)
    async with kit(scheduler) as the_kit:
        for n in range(10):
            await scheduler.schedule_immediate_task("fail", fail, job_id=f"dead-{n}")
        await the_kit.run_due()
        start = await scheduler.now()
        for n in range(50):
            queue, tags = ("default", "mail", "reports")[n % 3], ["odd"] if n % 2 else []
            at = start + timedelta(hours=1 + n // 10)  # ten at each instant
            await scheduler.schedule_at("job", give, at, job_id=f"job-{n:02}", queue=queue, tags=tags)
        for n in range(40, 50):
            await scheduler.pause_job(f"job-{n}")
        yield the_kit


async def pages(scheduler: BackgroundTaskScheduler, limit: int, **filters: Any) -> list[str]:
    found: list[str] = []
    cursor: str | None = None
    while True:
        page = await scheduler.get_jobs(limit=limit, cursor=cursor, **filters)
        assert len(page) <= limit
        found += [job.id for job in page]
        cursor = page.cursor
        if cursor is None:
            return found


FILTERS: list[dict[str, Any]] = [
    {}, {"queue": "mail"}, {"queue": "nothing"}, {"state": "paused"}, {"state": State.DEAD}, {"state": "scheduled"},
    {"tag": "odd"}, {"tag": "odd", "state": "paused"}, {"queue": "reports", "state": "paused"}, {"state": "running"},
]  # fmt: skip


@pytest.mark.parametrize("filters", FILTERS, ids=str)
@pytest.mark.parametrize("limit", [1, 7, 1000])
async def test_pages_together_are_all_jobs_each_once(mixed: Kit, limit: int, filters: dict[str, Any]) -> None:
    expected = [job.id for job in await mixed.scheduler.get_jobs(**filters)]
    assert sorted(await pages(mixed.scheduler, limit, **filters)) == sorted(expected)
    assert sorted([job.id async for job in mixed.scheduler.iter_jobs(**filters)]) == sorted(expected)


async def test_pages_are_by_next_run_time_with_what_has_none_at_the_end(mixed: Kit) -> None:
    found = await pages(mixed.scheduler, 7)
    assert found[:40] == [f"job-{n:02}" for n in range(40)]
    assert {*found[40:]} == {*(f"job-{n}" for n in range(40, 50)), *(f"dead-{n}" for n in range(10))}


async def test_a_job_that_runs_is_listed_as_such_on_a_page(redsched_kit: Kit) -> None:
    scheduler = redsched_kit.scheduler
    begun, gate = asyncio.Event(), asyncio.Event()

    async def hold() -> None:
        begun.set()
        await gate.wait()

    scheduler.register(hold, name="hold")
    await scheduler.start()
    await scheduler.schedule_immediate_task("once", hold, job_id="once")
    await asyncio.wait_for(begun.wait(), 10)
    await scheduler.schedule_delayed_task("later", give, 60, job_id="later")
    assert sorted(await pages(scheduler, 1)) == ["later", "once"]
    assert await pages(scheduler, 1, state="running") == ["once"]
    assert await pages(scheduler, 1, state="scheduled") == ["later"]
    gate.set()


CURSORS = ["", "x", "e30=", "bnVsbA==", "eyJhdCI6ImR1ZSIsIm1zIjoieCJ9", "eyJhdCI6InNjYW4iLCJzaGFyZCI6Int9In0=", 5]


@pytest.mark.parametrize("cursor", CURSORS)
async def test_a_cursor_that_no_page_gave_is_refused(redsched_kit: Kit, cursor: Any) -> None:
    with pytest.raises(InvalidInputError, match="cursor"):
        await redsched_kit.scheduler.get_jobs(limit=5, cursor=cursor)


@pytest.mark.parametrize("limit", [0, -1, True, 1.5, "5"])
async def test_a_limit_that_is_not_a_number_from_1_is_refused(redsched_kit: Kit, limit: Any) -> None:
    with pytest.raises(InvalidInputError, match="limit"):
        await redsched_kit.scheduler.get_jobs(limit=limit)


async def test_a_filter_reads_no_record_of_what_it_drops(redsched_kit: Kit, redsched_url: str) -> None:
    scheduler = redsched_kit.scheduler
    specs = [JobSpec("job", give, delay=60, queue="mail" if n < 3 else "default") for n in range(300)]
    await scheduler.schedule_many(specs)
    filters: list[tuple[dict[str, Any], int]] = [({"queue": "mail"}, 3), ({"state": "paused"}, 0)]
    with redis.Redis.from_url(redsched_url) as admin:
        for chosen, number in filters:
            admin.config_resetstat()
            assert len(await scheduler.get_jobs(**chosen)) == number
            assert admin.info("commandstats").get("cmdstat_hgetall", {"calls": 0})["calls"] == number


async def test_a_list_with_a_limit_reads_what_it_shows(redsched_kit: Kit, redsched_url: str) -> None:
    start = datetime(2030, 1, 1, tzinfo=UTC)
    specs = [JobSpec("job", give, run_at=start + timedelta(seconds=n), job_id=f"job-{n:05}") for n in range(5000)]
    await redsched_kit.scheduler.schedule_many(specs)
    with redis.Redis.from_url(redsched_url) as admin:
        admin.config_resetstat()
        done = await Shell(redsched_kit)("jobs", "list", "--limit", "20")
        stats = admin.info("commandstats")
    assert [line.split()[0] for line in done.stdout.splitlines()[1:]] == [f"job-{n:05}" for n in range(20)]
    assert "… and more" in done.stderr
    assert stats["cmdstat_hgetall"]["calls"] <= 200
    assert stats["cmdstat_zrange"]["calls"] <= 5


async def test_many_large_jobs_are_stored_by_calls_of_a_megabyte(
    redsched_kit: Kit, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []
    schedule = Shard.schedule

    async def note(self: Shard, rows: Any, **how: Any) -> Any:
        sizes.append(len(rows))
        return await schedule(self, rows, **how)

    monkeypatch.setattr(Shard, "schedule", note)
    scheduler = redsched_kit.scheduler
    await scheduler.schedule_many([JobSpec("job", give, delay=60, args=["x" * 200_000]) for _ in range(40)])
    assert sum(sizes) == 40
    assert max(sizes) <= BATCH_BYTES // 200_000
    sizes.clear()
    await scheduler.schedule_many([JobSpec("job", give, delay=60) for _ in range(2500)])
    assert sorted(sizes) == [500, 1000, 1000]


async def test_an_id_that_is_taken_keeps_all_large_jobs_out(redsched_kit: Kit) -> None:
    scheduler = redsched_kit.scheduler
    await scheduler.schedule_delayed_task("job", give, 60, job_id="taken")
    specs = [JobSpec("job", give, delay=60, args=["x" * 200_000], job_id=f"j{n}") for n in range(11)]
    with pytest.raises(KeyError):
        await scheduler.schedule_many([*specs, JobSpec("job", give, delay=60, job_id="taken")])
    assert [job.id for job in await scheduler.get_jobs()] == ["taken"]


async def test_no_step_through_the_keys_takes_many_at_once(mixed: Kit, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 200,000 jobs a step of 10,000 keys is 5 to 10 ms in which Redis serves no other client."""
    steps: list[int] = []
    command = Link.command

    async def noted(self: Link, *words: Any, **options: Any) -> Any:
        if "COUNT" in words and str(words[0]).endswith("SCAN"):
            steps.append(int(words[words.index("COUNT") + 1]))
        return await command(self, *words, **options)

    monkeypatch.setattr(Link, "command", noted)
    await mixed.scheduler.get_jobs(limit=20)
    await mixed.scheduler.get_jobs(limit=20, tag="odd")
    assert [job async for job in mixed.scheduler.iter_jobs()]
    assert steps
    assert max(steps) <= 2000
