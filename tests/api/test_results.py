"""Outcomes of runs are found by their ids, in any process, without reading other runs."""

from __future__ import annotations

import asyncio
import re
import time
import tracemalloc
from collections import Counter
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import pytest

from redsched import (
    BackgroundTaskScheduler,
    JobLookupError,
    JobSpec,
    Outcome,
    Reason,
    ResultTimeoutError,
    SchedulerStateError,
    TaskExecutionResult,
)
from redsched.jobs.options import DEFAULT_RESULT_TTL_MS
from redsched.store.scripts import lua_folder
from redsched.store.transitions import Shard
from redsched.testing import Kit, fresh_prefix


async def nothing() -> None: ...


async def value(given: Any = 7) -> Any:
    return given


async def fail() -> None:
    raise LookupError("no basil")


async def wait_long() -> None:
    await asyncio.sleep(60)


def other(scheduler: BackgroundTaskScheduler) -> BackgroundTaskScheduler:
    """Another process' scheduler of the same jobs."""
    return BackgroundTaskScheduler(scheduler.redis_url, scheduler.prefix, declared_tasks=False)


async def forget_events(kit: Kit) -> None:
    """Nothing can be found by looking through the events."""
    store = await kit.scheduler.store()
    for shard in store.shards:
        await shard.link.command("DEL", shard.keys.events)


async def cancelled(kit: Kit) -> str:
    handle = await kit.scheduler.schedule_delayed_task("job", nothing, 3600)
    assert await handle.cancel()
    return handle.id


async def removed(kit: Kit) -> str:
    handle = await kit.scheduler.schedule_delayed_task("job", nothing, 3600, tags=["x"])
    await handle.remove()
    return handle.id


async def missed(kit: Kit) -> str:
    handle = await kit.scheduler.schedule_delayed_task("job", nothing, 60, misfire_grace_time=1)
    await kit.travel(minutes=5)
    await kit.run_due()
    return handle.id


def ended(task: Any, **options: Any) -> Callable[[Kit], Awaitable[str]]:
    async def run(kit: Kit) -> str:
        handle = await kit.scheduler.schedule_immediate_task("job", task, **options)
        await kit.run_due()
        return handle.id

    return run


async def run_now(kit: Kit) -> str:
    handle = await kit.scheduler.schedule_interval("job", value, days=1)
    run_id = await handle.run_now()
    await kit.run_due()
    return run_id


async def over(kit: Kit) -> str:
    handle = await kit.scheduler.schedule_interval("job", value, seconds=10, max_runs=2)
    await kit.advance(minutes=1)
    return handle.id


ENDS: dict[str, tuple[Callable[[Kit], Awaitable[str]], Outcome, Reason | None, Any]] = {
    "None": (ended(nothing), Outcome.DONE, None, None),
    "a value": (ended(value), Outcome.DONE, None, 7),
    "with a tag": (ended(value, tags=["x"]), Outcome.DONE, None, 7),
    "kept long": (ended(nothing, result_ttl=86_400), Outcome.DONE, None, None),
    "a value kept long": (ended(value, result_ttl=86_400), Outcome.DONE, None, 7),
    "dead": (ended(fail), Outcome.DEAD, Reason.TASK_FAILED, None),
    "dead after attempts": (ended(fail, max_attempts=1, result_ttl=86_400), Outcome.DEAD, Reason.TASK_FAILED, None),
    "cancelled": (cancelled, Outcome.CANCELLED, Reason.CANCELLED, None),
    "removed": (removed, Outcome.CANCELLED, Reason.REMOVED, None),
    "missed": (missed, Outcome.MISSED, Reason.MISFIRE, None),
    "a run beside a schedule": (run_now, Outcome.DONE, None, 7),
    "a periodic job that is over": (over, Outcome.DONE, None, 7),
}


@pytest.mark.parametrize("how", ENDS)
async def test_how_a_run_ended_is_found_by_any_process_that_has_the_id(redsched_kit: Kit, how: str) -> None:
    end, outcome, reason, returned = ENDS[how]
    run_id = await end(redsched_kit)
    await forget_events(redsched_kit)
    reader = other(redsched_kit.scheduler)
    try:
        for found in (await reader.get_result(run_id), await reader.wait_for_result(run_id, timeout=5)):
            assert found is not None
            assert (found.outcome, found.reason, found.result) == (outcome, reason, returned)
            assert found.job_id == run_id.partition("@")[0]
            assert found.task_name.endswith(("nothing", "value", "fail"))
            assert found.attempt == 1
            if outcome is Outcome.DEAD:
                assert (found.error, found.error_type) == ("LookupError: no basil", "LookupError")
            if outcome is Outcome.DONE:
                assert found.fire_time is not None
                assert found.execution_time is not None
    finally:
        await reader.shutdown()


Start = Callable[[Kit], Awaitable[str]]
Ending = Callable[[Kit, str], Awaitable[Any]]


async def by_running(kit: Kit, job_id: str) -> None:
    await kit.advance(hours=1)


LATER: dict[str, tuple[Any, dict[str, Any], Ending, Outcome]] = {
    "it runs": (value, {}, by_running, Outcome.DONE),
    "it runs, and nothing is to be kept": (value, {"result_ttl": 0}, by_running, Outcome.DONE),
    "it is kept long": (value, {"result_ttl": 86_400}, by_running, Outcome.DONE),
    "it fails": (fail, {}, by_running, Outcome.DEAD),
    "it is cancelled": (value, {}, lambda kit, job_id: kit.scheduler.cancel(job_id), Outcome.CANCELLED),
    "its tag is cancelled": (value, {"tags": ["x"]}, lambda kit, _: kit.scheduler.cancel(tag="x"), Outcome.CANCELLED),
    "it is removed": (value, {}, lambda kit, job_id: kit.scheduler.remove_job(job_id), Outcome.CANCELLED),
    "it is missed": (value, {"misfire_grace_time": 1}, lambda kit, _: late(kit), Outcome.MISSED),
}  # fmt: skip


async def late(kit: Kit) -> None:
    await kit.travel(hours=2, minutes=30)
    await kit.run_due()


@pytest.mark.parametrize("periodic", [False, True], ids=["once", "periodic"])
@pytest.mark.parametrize("how", LATER)
async def test_whoever_waits_is_told_at_once(redsched_kit: Kit, how: str, periodic: bool) -> None:
    task, options, end, outcome = LATER[how]
    scheduler = redsched_kit.scheduler
    if periodic:
        handle = await scheduler.schedule_interval("job", task, hours=1, **options)
    else:
        handle = await scheduler.schedule_delayed_task("job", task, 3600, **options)
    reader = other(scheduler)
    waits = [
        asyncio.create_task(handle.result(timeout=20)),
        asyncio.create_task(handle.result(timeout=20)),
        asyncio.create_task(reader.wait_for_result(handle.id, timeout=20)),
    ]
    await wished(redsched_kit, handle.id, waiters=2)
    await forget_events(redsched_kit)
    began = time.monotonic()
    await end(redsched_kit, handle.id)
    for found in await asyncio.gather(*waits):
        assert found.outcome is outcome
        assert found.job_id == handle.id
        assert found.result == (7 if outcome is Outcome.DONE and options.get("result_ttl") != 0 else None)
    assert time.monotonic() - began < 2.5, "it was notified, and did not have to ask again"
    await reader.shutdown()


async def wished(kit: Kit, job_id: str, waiters: int = 1) -> None:
    store = await kit.scheduler.store()
    shard = store.shard(job_id)
    async with asyncio.timeout(5):
        while len((await shard.link.command("HGET", shard.keys.job(job_id), "wish") or b"").split()) < waiters:
            await asyncio.sleep(0.01)


async def three_thousand_wait(kit: Kit) -> list[TaskExecutionResult[Any]]:
    """They wait before the jobs end."""
    handles = await kit.scheduler.schedule_many(JobSpec("job", value, args=[n], delay=60) for n in range(3000))
    waits = [asyncio.create_task(handle.result(timeout=60)) for handle in handles]
    await wished(kit, handles[-1].id)
    await kit.travel(seconds=61)
    await kit.run_due()
    return await asyncio.gather(*waits)


async def test_three_thousand_that_wait_for_what_is_to_come_take_two_seconds(redsched_kit: Kit) -> None:
    began = time.process_time()  # on a busy machine the wall's time says nothing; of it, running the jobs is a part
    results = await three_thousand_wait(redsched_kit)
    assert time.process_time() - began < 2
    assert [result.result for result in results] == list(range(3000))


async def test_three_thousand_that_wait_for_what_is_to_come_take_fifty_megabytes(redsched_kit: Kit) -> None:
    tracemalloc.start()
    try:
        results = await three_thousand_wait(redsched_kit)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert [result.result for result in results] == list(range(3000))
    assert peak < 50_000_000


async def test_three_thousand_results_that_are_there_take_two_seconds(redsched_kit: Kit) -> None:
    handles = await redsched_kit.scheduler.schedule_many(JobSpec("job", value, args=[n]) for n in range(3000))
    await redsched_kit.run_due()
    began = time.process_time()
    results = await asyncio.gather(*(handle.result(timeout=60) for handle in handles))
    assert time.process_time() - began < 2
    assert [result.result for result in results] == list(range(3000))


OTHERS = """
for number = 2, 21 do
  local flat = {}
  for i = 1, 10000 do
    flat[#flat + 1] = 'other-' .. number .. '-' .. i
    flat[#flat + 1] = '1700000000000 1 1 other'
    if #flat == 4000 then
      redis.call('HSET', KEYS[1] .. 'ended:' .. number, unpack(flat))
      flat = {}
    end
  end
end
redis.call('HSET', KEYS[1] .. 'clock', 'outcomes', 21)
"""


async def test_a_result_behind_200_000_other_runs_is_found_without_reading_them(redsched_kit: Kit) -> None:
    scheduler = redsched_kit.scheduler
    handle = await scheduler.schedule_immediate_task("job", nothing)
    await redsched_kit.run_due()
    shard = (await scheduler.store()).shard(handle.id)
    await shard.link.command("EVAL", OTHERS, 1, shard.keys.tag)
    assert await shard.link.command("HLEN", f"{shard.keys.tag}ended:21") == 10_000
    before = Counter(await given(shard))
    assert (await handle.result(timeout=5)).success
    made = Counter(await given(shard)) - before
    assert made.pop("evalsha") == 1
    assert made["hget"] <= 32 + 4, "one look at each hash, whatever it holds"
    assert set(made) <= {"hget", "hmget", "hset", "time", "exists", "getrange", "info", "pexpire"}, made


async def given(shard: Shard) -> dict[str, int]:
    """How many commands of each kind the server was given."""
    text = (await shard.link.command("INFO", "commandstats")).decode()
    return {name: int(calls) for name, calls in re.findall(r"cmdstat_([^:]+):calls=(\d+)", text)}


async def test_a_periodic_job_that_ends_without_a_further_run_wakes_who_waits(redsched_kit: Kit) -> None:
    scheduler = redsched_kit.scheduler
    end = await scheduler.now() + timedelta(minutes=150)
    handle = await scheduler.schedule_interval("job", value, hours=1, end=end, misfire_grace_time=1)
    await redsched_kit.advance(hours=1)
    wait = asyncio.create_task(handle.result(timeout=20))
    await wished(redsched_kit, handle.id)
    await redsched_kit.travel(hours=3)
    began = time.monotonic()
    await redsched_kit.run_due()
    assert (await wait).outcome is Outcome.MISSED
    assert await scheduler.get_job(handle.id) is None, "it is over"
    assert time.monotonic() - began < 2.5


async def test_what_an_older_worker_settled_is_found_in_the_events(redsched_kit: Kit) -> None:
    handle = await redsched_kit.scheduler.schedule_immediate_task("job", value)
    await redsched_kit.run_due()
    store = await redsched_kit.scheduler.store()
    for key in await store.link.command("KEYS", store.shards[0].keys.every("ended:")):
        await store.link.command("DEL", key)
    found = await handle.result(timeout=5)
    assert (found.success, found.result) == (True, 7)


async def test_a_lost_message_makes_an_answer_late_not_missing(redsched_kit: Kit, monkeypatch: Any) -> None:
    monkeypatch.setattr("redsched.client.results.ASK_AGAIN_S", 0.3)
    scheduler = redsched_kit.scheduler
    once = await scheduler.schedule_delayed_task("job", value, 60)
    each = await scheduler.schedule_interval("job", value, minutes=1)
    waits = [asyncio.create_task(handle.result(timeout=20)) for handle in (once, each)]
    for handle in (once, each):
        await wished(redsched_kit, handle.id)
        store = await scheduler.store()
        await store.link.command("HDEL", store.shards[0].keys.job(handle.id), "wish")  # as if no notification was sent
    await redsched_kit.advance(minutes=1)
    for found in await asyncio.gather(*waits):
        assert found.success
        assert found.result == 7


async def test_a_reader_whose_connections_break_waits_on(redsched_kit: Kit) -> None:
    scheduler = redsched_kit.scheduler
    handle = await scheduler.schedule_delayed_task("job", value, 60)
    wait = asyncio.create_task(handle.result(timeout=20))
    await wished(redsched_kit, handle.id)
    store = await scheduler.store()
    await store.close()
    await redsched_kit.advance(minutes=1)
    assert (await wait).result == 7


async def test_a_periodic_job_that_is_waited_for_gives_the_next_end_each_time(redsched_kit: Kit) -> None:
    handle = await redsched_kit.scheduler.schedule_interval("job", value, minutes=1)
    fires = []
    for _ in range(3):
        wait = asyncio.create_task(handle.result(timeout=20))
        await wished(redsched_kit, handle.id)
        await redsched_kit.advance(minutes=1)
        fires.append((await wait).fire_time)
    assert fires[0] is not None
    assert [fire and fire - fires[0] for fire in fires] == [timedelta(minutes=n) for n in range(3)]


async def test_a_job_that_is_removed_while_it_runs_is_waited_for_until_its_run_ends(redsched_kit: Kit) -> None:
    scheduler, go_on = redsched_kit.scheduler, asyncio.Event()

    async def held() -> str:
        await go_on.wait()
        return "done all the same"

    await scheduler.start()
    handle = await scheduler.schedule_immediate_task("job", held)
    await redsched_kit.wait_for("claimed", handle.id)
    wait = asyncio.create_task(handle.result(timeout=20))
    await wished(redsched_kit, handle.id)
    await handle.remove()
    go_on.set()
    assert (await wait).result == "done all the same"


async def test_a_wait_ends_with_its_timeout_or_with_the_scheduler(redsched_kit: Kit) -> None:
    handle = await redsched_kit.scheduler.schedule_delayed_task("job", nothing, 3600)
    reader = other(redsched_kit.scheduler)
    with pytest.raises(ResultTimeoutError, match=r"0\.2 s"):
        await reader.wait_for_result(handle.id, timeout=0.2)
    wait = asyncio.create_task(reader.wait_for_result(handle.id))
    await asyncio.sleep(0.1)
    await reader.shutdown()
    with pytest.raises(SchedulerStateError, match="shut down"):
        await wait


async def test_of_what_has_not_ended_get_result_gives_none(redsched_kit: Kit) -> None:
    scheduler = redsched_kit.scheduler
    once = await scheduler.schedule_delayed_task("job", nothing, 3600)
    assert await scheduler.get_result(once.id) is None
    assert await scheduler.get_result("nothing") is None
    store = await scheduler.store()
    assert not await store.link.command("HEXISTS", store.shards[0].keys.job(once.id), "wish"), "no wait is left"


async def test_a_job_scheduled_again_under_its_id_is_waited_for_again(redsched_kit: Kit) -> None:
    scheduler = redsched_kit.scheduler
    for number in range(2):
        handle = await scheduler.schedule_delayed_task("job", value, 60, args=[number], job_id="one")
        wait = asyncio.create_task(handle.result(timeout=20))
        await wished(redsched_kit, "one")
        if number == 0:  # a replacement keeps who waits
            await scheduler.schedule_delayed_task("job", value, 60, args=[0], job_id="one", replace_existing=True)
        await redsched_kit.advance(minutes=1)
        assert (await wait).result == number


async def test_how_a_run_ended_that_is_kept_no_more_is_an_error_that_says_so(redsched_url: str) -> None:
    scheduler = BackgroundTaskScheduler(
        redsched_url, fresh_prefix(), declared_tasks=False, outcomes_max_bytes=50_000, events_max=1
    )
    try:
        await scheduler.start()
        first = await scheduler.schedule_immediate_task("job", nothing)
        await first.result(timeout=5)
        for _ in range(3):
            handles = await scheduler.schedule_many(JobSpec("job", nothing) for _ in range(1000))
            await asyncio.gather(*(handle.result(timeout=20) for handle in handles[-10:]))
        store = await scheduler.store()
        await store.link.command("DEL", store.shards[0].keys.events)
        with pytest.raises(JobLookupError, match="outcomes_max_bytes"):
            await first.result(timeout=5)
    finally:
        await scheduler.clear_all_jobs()
        await scheduler.shutdown()


async def test_a_shard_each_tells_its_own(redsched_url: str) -> None:
    scheduler = BackgroundTaskScheduler(redsched_url, fresh_prefix(), declared_tasks=False, shards=4)
    async with scheduler:
        handles = [await scheduler.schedule_delayed_task("job", value, 0.3, args=[n]) for n in range(40)]
        found: list[TaskExecutionResult[Any]] = await asyncio.gather(*(handle.result(timeout=20) for handle in handles))
        assert [one.result for one in found] == list(range(40))
    await scheduler.clear_all_jobs()


def test_the_scripts_and_the_options_agree_on_the_usual_result_ttl() -> None:
    text = (lua_folder() / "include" / "outcomes.lua").read_text("utf-8")
    assert f"OUTCOME_HASHES = {DEFAULT_RESULT_TTL_MS}," in text
