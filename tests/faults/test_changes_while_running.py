"""A job is changed, or loses its worker, in the middle of a run: what was accepted last is what stays."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import msgpack
import pytest

from redsched import BackgroundTaskScheduler, RetryPolicy
from redsched.schedules import IntervalSchedule
from redsched.store.transitions import PollRequest, Shard
from redsched.store.wire import Resend
from redsched.testing import Kit
from tests.faults.gate import Gate
from tests.faults.local import Make, effect, ran, until
from tests.invariants import check

gate = Gate()


async def waits() -> None:
    ran.append("begins")
    await gate.wait()
    ran.append("ends")


async def fails() -> None:
    raise RuntimeError("as ever")


async def names_an_odd_file() -> None:
    raise FileNotFoundError("no file \udcff")


class Unprintable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("not even that")


async def raises_what_cannot_be_printed() -> None:
    raise Unprintable


@pytest.fixture
async def kit(redsched_kit: Kit) -> AsyncIterator[Kit]:
    ran.clear()
    gate.close()
    for task in (waits, effect, fails, names_an_odd_file, raises_what_cannot_be_printed):
        redsched_kit.scheduler.register(task)
    yield redsched_kit
    gate.open()
    await check(await redsched_kit.scheduler.store())


async def shard_of(kit: Kit) -> Shard:
    return (await kit.scheduler.store()).shards[0]


async def ghost_claims(kit: Kit, *, count: int = 10) -> list[Any]:
    """A worker that claims, and is never heard of again."""
    shard = await shard_of(kit)
    queues = msgpack.packb(["default"])
    reply = await shard.poll("ghost", queues, PollRequest(1, count), resend=Resend(1))
    return reply.claims


async def leases_end(kit: Kit) -> None:
    """The testing kit's travel moves leases along, so they are ended by hand."""
    shard = await shard_of(kit)
    for run_id in await shard.link.command("ZRANGE", shard.keys.leases, 0, -1):
        await shard.link.command("ZADD", shard.keys.leases, 1, run_id)


async def begins(scheduler: BackgroundTaskScheduler, **options: Any) -> None:
    await scheduler.start()
    await scheduler.schedule_immediate_task("one", waits, job_id="one", **options)
    await until(lambda: ran == ["begins"])


async def test_a_one_shot_job_that_is_replaced_by_a_periodic_one_while_it_runs_becomes_periodic(kit: Kit) -> None:
    scheduler = kit.scheduler
    await begins(scheduler)
    await scheduler.schedule_interval("one", effect, 0.2, args=["tick"], job_id="one", replace_existing=True)
    gate.open()
    await until(lambda: ran.count("tick") >= 3)
    assert scheduler.worker is not None
    assert scheduler.worker.serving
    await scheduler.remove_job("one")
    await scheduler.shutdown()


async def test_a_one_shot_job_that_is_rescheduled_while_it_runs_becomes_periodic(kit: Kit) -> None:
    scheduler = kit.scheduler
    await begins(scheduler)
    await scheduler.reschedule_job("one", interval=0.2)
    gate.open()
    await until(lambda: ran.count("ends") >= 3)
    await scheduler.remove_job("one")
    await scheduler.shutdown()


async def test_a_job_that_is_replaced_by_a_paused_one_while_it_runs_is_kept_and_paused(kit: Kit) -> None:
    scheduler = kit.scheduler
    await begins(scheduler)
    run_at = await kit.now() + timedelta(hours=1)
    await scheduler.schedule_at(
        "one", effect, run_at, args=["later"], job_id="one", replace_existing=True, next_run_time=None
    )
    gate.open()
    await kit.wait_for("done", "one")
    job = await scheduler.get_job("one")
    assert job is not None
    assert (job.state, job.running) == ("paused", 0)
    resumed = await scheduler.resume_job("one")
    assert resumed is not None
    assert resumed.next_run_time is not None
    assert abs(resumed.next_run_time - run_at) < timedelta(milliseconds=2)
    await scheduler.shutdown()


async def test_a_job_scheduled_anew_while_its_worker_dies_runs_at_its_new_time_and_only_then(kit: Kit) -> None:
    scheduler = kit.scheduler
    await scheduler.schedule_immediate_task("one", effect, args=["old"], job_id="one")
    assert len(await ghost_claims(kit)) == 1
    await scheduler.schedule_delayed_task(
        "one", effect, delay_minutes=5, args=["new"], job_id="one", replace_existing=True
    )
    await leases_end(kit)
    await kit.run_due()
    assert ran == []
    assert (await kit.wait_for("cancelled", "one")).reason == "replaced"
    job = await scheduler.get_job("one")
    assert job is not None
    assert job.state == "scheduled"
    await kit.advance(minutes=5)
    assert ran == ["new"]


async def test_run_now_of_a_running_job_waits_for_its_turn_and_outlives_the_first_run(kit: Kit) -> None:
    scheduler = kit.scheduler
    await begins(scheduler)
    run_id = await scheduler.run_now("one")
    assert run_id != "one"
    await asyncio.sleep(0.3)
    assert ran == ["begins"]  # max_instances is 1
    gate.open()
    await until(lambda: ran == ["begins", "ends"] * 2)
    await kit.wait_for("done", "one", count=2)
    assert await scheduler.get_jobs() == []
    await scheduler.shutdown()


async def test_a_second_instance_is_recovered_though_the_job_it_began_with_is_over(kit: Kit) -> None:
    scheduler = kit.scheduler
    await scheduler.schedule_immediate_task("one", effect, args=[1], job_id="one", max_instances=2)
    [first] = await ghost_claims(kit)
    await scheduler.run_now("one")
    shard = await shard_of(kit)
    queues = msgpack.packb(["default"])
    second = await shard.poll("other ghost", queues, PollRequest(1, 10), resend=Resend(1))
    assert len(second.claims) == 1
    done = (first[0].decode(), first[1], "done", first[3], 1, 0, 0, "t", False, 0, False, False, 0)
    await shard.poll("ghost", queues, PollRequest(2, 0, settled=[done]), resend=Resend(1))
    await leases_end(kit)
    await kit.run_due()
    assert ran == [1]
    assert await scheduler.get_jobs() == []


async def test_two_calls_of_run_now_in_one_instant_are_two_runs(kit: Kit) -> None:
    scheduler = kit.scheduler
    handle = await scheduler.schedule_interval("tick", effect, 3600, args=[1], max_instances=10)
    shard = await shard_of(kit)
    ahead = int(await shard.link.command("HGET", shard.keys.clock, "now_us")) + 3_000_000
    await shard.link.command("HSET", shard.keys.clock, "now_us", ahead)  # the clock stands still for some seconds
    runs = [await scheduler.run_now(handle.id) for _ in range(5)]
    assert len(set(runs)) == 5
    await kit.run_due()
    assert ran == [1] * 5


async def test_a_run_given_back_at_a_shutdown_is_not_missed_for_starting_again_late(kit: Kit) -> None:
    scheduler = kit.scheduler
    await begins(scheduler, misfire_grace_time=0.05)
    await asyncio.sleep(0.2)
    await scheduler.shutdown(wait=False)
    gate.open()
    await scheduler.start()
    await until(lambda: ran == ["begins", "begins", "ends"])
    await scheduler.shutdown()


async def test_a_dead_run_that_is_requeued_runs_however_late_it_is(kit: Kit) -> None:
    scheduler = kit.scheduler
    handle = await scheduler.schedule_immediate_task("fails", fails, misfire_grace_time=1)
    await kit.run_due()
    await kit.travel(hours=5)
    await scheduler.requeue(handle.id)
    await kit.run_due()
    await kit.wait_for("dead", handle.id, count=2)
    assert not [e for e in kit.events if e.kind == "missed"]


@pytest.mark.parametrize(
    ("task", "word"), [(names_an_odd_file, "FileNotFoundError"), (raises_what_cannot_be_printed, "Unprintable")]
)
async def test_an_error_that_cannot_be_stored_as_it_is_ends_its_run_and_not_the_worker(
    kit: Kit, task: Any, word: str
) -> None:
    scheduler = kit.scheduler
    await scheduler.start()
    result = await (await scheduler.schedule_immediate_task("odd", task)).result(timeout=5)
    assert result.outcome == "dead"
    assert result.error is not None
    assert result.error.startswith(word)
    assert (await (await scheduler.schedule_immediate_task("next", effect, args=[1])).result(timeout=5)).success
    await scheduler.shutdown()


async def test_a_job_whose_options_mean_nothing_here_ends_dead_and_harms_no_other(kit: Kit) -> None:
    scheduler = kit.scheduler
    handle = await scheduler.schedule_delayed_task("odd", effect, delay_minutes=1, args=["odd"])
    await scheduler.schedule_delayed_task("good", effect, delay_minutes=1, args=["good"])
    shard = await shard_of(kit)
    record = msgpack.packb([1, "tests.faults.local.effect", None, msgpack.packb([["odd"], {}]), {"delivery": "twice"}])
    await shard.link.command("HSET", shard.keys.job(handle.id), "record", record)
    await kit.advance(minutes=1)
    assert ran == ["good"]
    assert (await kit.wait_for("dead", handle.id)).reason == "unreadable"


async def test_a_retry_of_a_removed_job_is_not_tried(kit: Kit) -> None:
    scheduler = kit.scheduler
    policy = RetryPolicy(max_attempts=3, initial_delay=60, jitter=0)
    handle = await scheduler.schedule_interval("fails", fails, minutes=1, retry=policy)
    await kit.advance(minutes=1)
    await kit.wait_for("retry", handle.id)
    await scheduler.remove_job(handle.id)
    assert await kit.advance(minutes=5) == 0
    assert await scheduler.get_jobs() == []


async def test_when_a_schedule_raises_what_is_due_runs_and_only_its_future_is_lost(
    kit: Kit, monkeypatch: pytest.MonkeyPatch
) -> None:
    scheduler = kit.scheduler
    handle = await scheduler.schedule_interval("tick", effect, minutes=1, args=["due"])
    await kit.travel(minutes=3)

    def broken(self: object, after_ms: int) -> int:
        raise OverflowError("no such year")

    monkeypatch.setattr(IntervalSchedule, "next", broken)
    await kit.run_due()
    assert ran == ["due"]
    assert (await kit.wait_for("dead", handle.id)).reason == "schedule_error"
    assert [job.id for job in await scheduler.get_dead()] == [handle.id]


async def test_a_task_that_is_cancelled_before_its_first_step_is_settled(kit: Kit) -> None:
    scheduler = kit.scheduler
    worker = scheduler.make_worker()
    worker._prepare()
    [loop] = worker.loops
    handle = await scheduler.schedule_immediate_task("one", effect, args=[1])
    accept = loop.claims.accept

    def accept_and_stop(row: Any, now: float) -> None:
        accept(row, now)
        for run in list(loop.held.values()):
            run.stop("shutdown")

    loop.claims.accept = accept_and_stop  # type: ignore[method-assign]
    await loop.turn()
    await until(lambda: not loop.held, 2)
    loop.claims.accept = accept  # type: ignore[method-assign]
    await loop.flush()
    assert worker.capacity.holding == 0
    assert (await kit.wait_for("released", handle.id)).reason == "shutdown"
    assert await kit.run_due() == 1
    assert ran == [1]


async def test_a_job_that_is_modified_while_it_is_planned_is_not_late_for_it(kit: Kit) -> None:
    scheduler = kit.scheduler
    handle = await scheduler.schedule_interval("tick", effect, minutes=1, args=["tick"])
    await kit.travel(minutes=3)
    assert await ghost_claims(kit) == []  # a ghost plans it
    await scheduler.modify_job(handle.id, name="other")
    assert await kit.run_due() == 1
    assert ran == ["tick"]


@pytest.mark.parametrize("grace", [0.0, 10.0])
async def test_a_claim_whose_reply_comes_after_the_stop_is_run_in_the_grace_time_or_given_back(
    redsched_url: str, make: Make, grace: float
) -> None:
    scheduler = make(redsched_url)
    scheduler.register(effect)
    shard = (await scheduler.store()).shards[0]
    poll, claimed, go_on = shard.poll, asyncio.Event(), asyncio.Event()

    async def slow_reply(*args: Any, **kwargs: Any) -> Any:
        reply = await poll(*args, **kwargs)
        if reply.claims:
            claimed.set()
            await go_on.wait()
        return reply

    shard.poll = slow_reply  # type: ignore[method-assign]
    await scheduler.start()
    handle = await scheduler.schedule_immediate_task("effect", effect, args=["late"])
    await claimed.wait()
    stopping = asyncio.create_task(scheduler.shutdown(grace=grace))
    await until(lambda: scheduler.worker is None or scheduler.worker.giving_back or grace)
    go_on.set()
    await stopping
    kinds = [event.kind for event in await scheduler.get_history(handle.id)]
    if grace:
        assert ran == ["late"]
        assert kinds == ["scheduled", "claimed", "done"]
    else:
        assert ran == []
        assert kinds == ["scheduled", "claimed", "released"]
        job = await scheduler.get_job(handle.id)
        assert job is not None
        assert (job.state, job.attempt) == ("scheduled", 0)
