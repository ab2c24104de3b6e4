"""The number of shards is read from Redis: no process sees only a part of the jobs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
import redis

from redsched import BackgroundTaskScheduler, InvalidConfigError, StoreError
from redsched.store.link import Link
from redsched.testing import Kit, fresh_prefix, kit
from tests.cli.harness import Shell

SHARDS = 4
JOBS = 40


async def give(value: Any = None) -> Any:
    return value


async def fail() -> None:
    raise ValueError("as it should")


@pytest.fixture
async def divided(redsched_url: str) -> AsyncIterator[Kit]:
    """Four shards with 40 jobs to come, 20 dead and 20 done."""
    scheduler = BackgroundTaskScheduler(redsched_url, fresh_prefix(), shards=SHARDS, declared_tasks=False)
    async with kit(scheduler) as the_kit:
        for n in range(20):
            await scheduler.schedule_immediate_task("fail", fail, job_id=f"dead-{n}")
            await scheduler.schedule_immediate_task("give", give, args=[n], job_id=f"done-{n}")
        await the_kit.run_due()
        for n in range(JOBS):
            await scheduler.schedule_delayed_task("job", give, 600, job_id=f"job-{n}", tags=["all"])
        yield the_kit


async def _count(found: Awaitable[Any]) -> int:
    return len(await found)


async def _each(calls: Any) -> int:
    return sum([await call is not None for call in calls])


async def _requeued(scheduler: BackgroundTaskScheduler) -> int:
    return len(await scheduler.requeue(*(run.id for run in await scheduler.get_dead())))


async def _dead_in_metrics(scheduler: BackgroundTaskScheduler) -> float:
    await scheduler.collect_metrics()
    return float(len(await scheduler.get_dead()))


READERS: dict[str, tuple[Callable[[BackgroundTaskScheduler], Awaitable[Any]], Any]] = {
    "start": (lambda s: s.start(worker=False), None),
    "get_jobs": (lambda s: _count(s.get_jobs(state="scheduled")), JOBS),
    "get_jobs by tag": (lambda s: _count(s.get_jobs(tag="all")), JOBS),
    "get_job": (lambda s: _each(s.get_job(f"job-{n}") for n in range(JOBS)), JOBS),
    "get_dead": (lambda s: _count(s.get_dead()), 20),
    "get_history": (lambda s: _count(s.get_history("dead-3")), 3),
    "get_results": (lambda s: _count(s.get_results(limit=1000)), 40),
    "result": (lambda s: _each(s.wait_for_result(f"done-{n}", timeout=5) for n in range(20)), 20),
    "collect_metrics": (_dead_in_metrics, 20.0),
    "cancel by tag": (lambda s: _count(s.cancel_jobs(tag="all")), JOBS),
    "cancel by id": (lambda s: _count(s.cancel_jobs(ids=[f"job-{n}" for n in range(JOBS)])), JOBS),
    "requeue": (_requeued, 20),
    "pause": (lambda s: _each(s.pause_job(f"job-{n}") for n in range(JOBS)), 0),
    "run_now": (lambda s: _each(s.run_now(f"job-{n}") for n in range(JOBS)), JOBS),
    "clear_all_jobs": (lambda s: s.clear_all_jobs(), JOBS + 20),
}


@pytest.mark.parametrize("name", [*READERS])
async def test_one_that_names_no_number_sees_all_shards(name: str, divided: Kit, redsched_url: str) -> None:
    call, expected = READERS[name]
    reader = BackgroundTaskScheduler(redsched_url, divided.scheduler.prefix, declared_tasks=False)
    assert await call(reader) == expected
    await reader.shutdown()


@pytest.mark.parametrize("name", [*READERS])
async def test_one_that_names_another_number_is_refused(name: str, divided: Kit, redsched_url: str) -> None:
    call, _ = READERS[name]
    reader = BackgroundTaskScheduler(redsched_url, divided.scheduler.prefix, shards=2, declared_tasks=False)
    with pytest.raises(InvalidConfigError, match=r"shards is '2', but the jobs of the prefix .* with '4'"):
        await call(reader)
    await reader.shutdown()


COMMANDS = [
    ["jobs", "list"], ["jobs", "dead"], ["jobs", "show", "job-1"], ["events"], ["workers"], ["doctor"],
]  # fmt: skip


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
async def test_a_command_with_another_number_is_refused_with_exit_code_2(command: list[str], divided: Kit) -> None:
    done = await Shell(divided)("--shards", "2", *command)
    assert done.exit_code == 2, done.output
    assert "with '4'" in done.stderr


async def test_commands_without_a_number_see_all_shards(divided: Kit) -> None:
    shell = Shell(divided)
    assert (
        len([line for line in (await shell("jobs", "list", "--limit", "0")).stdout.splitlines() if "job-" in line])
        == JOBS
    )
    assert len([line for line in (await shell("jobs", "dead")).stdout.splitlines() if "dead-" in line]) == 20
    assert "4" in (await shell("--shards", "4", "jobs", "list")).stdout


async def test_a_worker_and_a_producer_without_a_number_use_all_shards(divided: Kit, redsched_url: str) -> None:
    async with BackgroundTaskScheduler(redsched_url, divided.scheduler.prefix, declared_tasks=False) as other:
        assert len((await other.store()).shards) == SHARDS
        handles = [await other.schedule_immediate_task("give", give, args=[n]) for n in range(20)]
        assert [(await handle.result(timeout=10)).result for handle in handles] == [*range(20)]


async def test_the_number_is_asked_for_once(divided: Kit, redsched_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    reader = BackgroundTaskScheduler(redsched_url, divided.scheduler.prefix, declared_tasks=False)
    sent: list[str] = []
    command = Link.command

    async def note(self: Link, *words: Any, **how: Any) -> Any:
        sent.append(str(words[0]))
        return await command(self, *words, **how)

    monkeypatch.setattr(Link, "command", note)
    for _ in range(5):
        await reader.get_job("job-1")
    await reader.schedule_delayed_task("job", give, 600)
    assert [word for word in sent if word != "XREAD"] == ["HMGET", *["EVALSHA"] * 6]
    await reader.shutdown()


async def test_after_a_clearance_the_number_is_stored_again(divided: Kit, redsched_url: str) -> None:
    await divided.scheduler.clear_all_jobs()
    for n in range(JOBS):
        await divided.scheduler.schedule_delayed_task("job", give, 600, job_id=f"again-{n}")
    reader = BackgroundTaskScheduler(redsched_url, divided.scheduler.prefix, declared_tasks=False)
    assert len(await reader.get_jobs()) == JOBS
    await reader.shutdown()


async def test_a_number_that_is_no_number_is_told(divided: Kit, redsched_url: str) -> None:
    with redis.Redis.from_url(redsched_url) as admin:
        admin.hset(f"{{{divided.scheduler.prefix}:0}}:clock", "shards", "many")
    reader = BackgroundTaskScheduler(redsched_url, divided.scheduler.prefix, declared_tasks=False)
    with pytest.raises(StoreError, match="'many'; it must be a number from 1 to 1024"):
        await reader.get_jobs()
    await reader.shutdown()


async def test_one_that_follows_an_empty_prefix_sees_the_shards_that_come(redsched_url: str) -> None:
    heard: list[str] = []
    prefix = fresh_prefix()
    follower = BackgroundTaskScheduler(redsched_url, prefix, declared_tasks=False)
    follower.add_listener(lambda event: heard.append(event.job_id))
    await follower.start(worker=False)
    assert await follower.get_jobs() == []
    producer = BackgroundTaskScheduler(redsched_url, prefix, shards=SHARDS, declared_tasks=False)
    expected = [f"job-{n}" for n in range(20)]
    for job_id in expected:
        await producer.schedule_delayed_task("job", give, 600, job_id=job_id)
    async with asyncio.timeout(10):
        while sorted(heard) != sorted(expected):
            await asyncio.sleep(0.02)
    await follower.shutdown()
    await producer.clear_all_jobs()
    await producer.shutdown()
