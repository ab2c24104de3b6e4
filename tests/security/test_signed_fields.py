"""With payload keys, what the scripts go by is compared with the signed record before a run begins."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import msgpack
import pytest

from redsched import BackgroundTaskScheduler, PayloadSecurity, State
from redsched.store.rows import PollRequest
from redsched.store.transitions import Shard
from redsched.store.wire import Resend
from redsched.testing import fresh_prefix

KEY = "signing key, which is 32 bytes or more"
QUEUES = msgpack.packb(["default"]) or b""
ran: list[str] = []

Make = Callable[..., BackgroundTaskScheduler]


async def note(name: str = "job") -> None:
    ran.append(name)


@pytest.fixture
async def make(redsched_url: str) -> AsyncIterator[Make]:
    ran.clear()
    prefix = fresh_prefix()
    made: list[BackgroundTaskScheduler] = []

    def scheduler(*, keys: bool = True, **how: Any) -> BackgroundTaskScheduler:
        security = PayloadSecurity([KEY], **how) if keys else None
        made.append(BackgroundTaskScheduler(redsched_url, prefix, declared_tasks=False, payload_security=security))
        made[-1].register(note)
        return made[-1]

    yield scheduler
    await made[0].clear_all_jobs()
    for each in made:
        await each.shutdown(wait=False)


@pytest.fixture
async def scheduler(make: Make) -> BackgroundTaskScheduler:
    return make()


async def shard_of(scheduler: BackgroundTaskScheduler) -> Shard:
    return (await scheduler.store()).shards[0]


async def run_once(scheduler: BackgroundTaskScheduler) -> None:
    await scheduler.store()
    await scheduler.make_worker().run_once()


async def write(scheduler: BackgroundTaskScheduler, *command: Any) -> None:
    """A writer's action: command, key after the shard's tag, the rest."""
    shard = await shard_of(scheduler)
    await shard.link.command(command[0], shard.keys.tag + command[1], *command[2:])


async def why_dead(scheduler: BackgroundTaskScheduler, job_id: str) -> tuple[str | None, str]:
    [event] = [event for event in await scheduler.get_history(job_id) if event.kind == "dead"]
    return event.reason, event.error or ""


async def doctors_word(scheduler: BackgroundTaskScheduler) -> str:
    [finding] = [one for one in await scheduler.examine_server() if one.check == "writers"]
    return finding.message if finding.level == "error" else ""


async def lose_its_worker(scheduler: BackgroundTaskScheduler) -> None:
    """A worker claims what is due and dies: its lease has ended."""
    shard = await shard_of(scheduler)
    request = PollRequest(1, 10)
    reply = await shard.poll("gone", QUEUES, request, resend=Resend(0.0))
    [claimed] = reply.claims
    await shard.link.command("ZADD", shard.keys.leases, 1, claimed[0])
    await shard.link.command("ZADD", shard.keys.live(claimed[0].decode().partition("@")[0]), "XX", 1, claimed[0])


FORGED: dict[str, tuple[tuple[Any, ...], str]] = {
    "delivery taken away": (("HDEL", "job:job", "delivery"), "delivery is 'at_least_once', signed is 'at_most_once'"),
    "delivery changed": (("HSET", "job:job", "delivery", "often"), "delivery is 'often', signed is 'at_most_once'"),
    "more instances": (("HSET", "job:job", "max_instances", 9), "max_instances is '9', signed is 2"),
    "no number": (("HSET", "job:job", "max_instances", b"\xff"), "max_instances is '\\\\xff', signed is 2"),
    "fewer instances": (("HDEL", "job:job", "max_instances"), "max_instances is 1, signed is 2"),
    "more recoveries": (("HSET", "job:job", "max_recoveries", "1e300"), "max_recoveries is '1e300', signed is 1"),
    "a very long one": (
        ("HSET", "job:job", "max_recoveries", "7" * 99),
        f"max_recoveries is '{'7' * 40}', signed is 1",
    ),
}
PERIODIC = {
    "more runs": (("HSET", "job:job", "runs_left", 6), "runs_left is '6', signed are at most 5"),
    "runs for ever": (("HDEL", "job:job", "runs_left"), "runs_left is None, signed are at most 5"),
}
ALL_FORGED = {**FORGED, **PERIODIC}
OPTIONS: dict[str, Any] = {"delivery": "at_most_once", "max_instances": 2, "max_recoveries": 1, "retry": None}


@pytest.mark.parametrize("how", FORGED)
async def test_a_job_whose_fields_are_not_those_that_were_signed_does_not_run(
    how: str, scheduler: BackgroundTaskScheduler
) -> None:
    command, why = FORGED[how]
    await scheduler.schedule_immediate_task("job", note, job_id="job", **OPTIONS)
    await write(scheduler, *command)
    assert f"job:job: {why}" in await doctors_word(scheduler)
    await run_once(scheduler)
    assert ran == []
    reason, text = await why_dead(scheduler, "job")
    assert reason == "untrusted"
    assert why in text
    assert "job:job" in await doctors_word(scheduler)


@pytest.mark.parametrize("planned", [True, False], ids=["planned", "handed out"])
@pytest.mark.parametrize("how", ALL_FORGED)
async def test_no_fire_of_a_periodic_job_whose_fields_were_changed_runs(
    how: str, planned: bool, scheduler: BackgroundTaskScheduler
) -> None:
    command, why = ALL_FORGED[how]
    await scheduler.schedule_interval("job", note, seconds=60, job_id="job", max_runs=5, **OPTIONS)
    await write(scheduler, *command)
    if planned:
        await write(scheduler, "HDEL", "job:job", "after_ms")
    await write(scheduler, "HSET", "job:job", "next_ms", 1_000_000)
    await write(scheduler, "ZADD", "due:default", 1_000_000, "job")
    await run_once(scheduler)
    assert ran == []
    reason, text = await why_dead(scheduler, "job")
    assert reason == "untrusted"
    assert why in text


async def test_a_job_that_runs_once_cannot_be_made_periodic(scheduler: BackgroundTaskScheduler) -> None:
    await scheduler.schedule_immediate_task("job", note, job_id="job", delivery="at_most_once", retry=None)
    await write(scheduler, "HSET", "job:job", "periodic", 1, "next_ms", 1_000_000, "after_ms", 0)
    await run_once(scheduler)
    assert ran == []
    assert (await why_dead(scheduler, "job"))[0] == "untrusted"


async def test_a_record_of_another_job_does_not_run(scheduler: BackgroundTaskScheduler) -> None:
    await scheduler.schedule_delayed_task("job", note, 3600, job_id="job")
    shard = await shard_of(scheduler)
    record = await shard.link.command("HGET", shard.keys.job("job"), "record")
    await write(scheduler, "HSET", "job:copy", "record", record)
    await write(scheduler, "ZADD", "due:default", 1, "copy")
    await run_once(scheduler)
    assert ran == []
    assert (await why_dead(scheduler, "copy"))[0] == "untrusted"


@pytest.mark.parametrize("periodic", [False, True], ids=["once", "periodic"])
@pytest.mark.parametrize("back", [False, True], ids=["taken away", "and put back"])
async def test_an_at_most_once_run_that_lost_its_worker_is_not_made_to_start_again(
    periodic: bool, back: bool, scheduler: BackgroundTaskScheduler
) -> None:
    options: dict[str, Any] = {"job_id": "job", "delivery": "at_most_once", "retry": None}
    if periodic:
        await scheduler.schedule_interval("job", note, seconds=60, **options)
        await write(scheduler, "ZADD", "due:default", 1, "job")
        await write(scheduler, "HSET", "job:job", "next_ms", 1_000_000, "after_ms", 99_000_000_000_000)
    else:
        await scheduler.schedule_immediate_task("job", note, **options)
    await lose_its_worker(scheduler)
    await write(scheduler, "HDEL", "job:job", "delivery")
    shard = await shard_of(scheduler)
    await shard.poll("another", QUEUES, PollRequest(1, 0), resend=Resend(0.0))  # it recovers it
    if back:
        await write(scheduler, "HSET", "job:job", "delivery", "at_most_once")
    await run_once(scheduler)
    assert ran == []
    reason, text = await why_dead(scheduler, "job")
    assert (reason, "signed" in text) == ("at_most_once" if back else "untrusted", True)


async def test_what_was_not_changed_runs_as_ever(scheduler: BackgroundTaskScheduler) -> None:
    await scheduler.schedule_immediate_task("one", note, args=["one"], **OPTIONS)
    await scheduler.schedule_interval("two", note, seconds=3600, args=["two"], job_id="two", max_runs=2, **OPTIONS)
    await scheduler.run_now("two")
    await run_once(scheduler)
    assert sorted(ran) == ["one", "two"]
    await scheduler.modify_job("two", max_instances=3, delivery="at_least_once", args=["changed"])
    await scheduler.run_now("two")
    await run_once(scheduler)
    await scheduler.modify_job("two", max_runs=9)
    await scheduler.reschedule_job("two", interval=60)
    await scheduler.run_now("two")
    await run_once(scheduler)
    await scheduler.modify_job("two", max_runs=None)
    await scheduler.run_now("two")
    await run_once(scheduler)
    await scheduler.reschedule_job("two", run_at="2000-01-01T00:00:00Z")
    await run_once(scheduler)
    assert sorted(ran) == [*["changed"] * 4, "one", "two"]
    assert await doctors_word(scheduler) == ""


async def test_a_recovered_run_that_may_start_again_does(scheduler: BackgroundTaskScheduler) -> None:
    await scheduler.schedule_immediate_task("job", note, job_id="job", max_recoveries=2)
    await lose_its_worker(scheduler)
    await run_once(scheduler)
    assert ran == ["job"]


async def test_a_dead_at_most_once_run_may_be_requeued(scheduler: BackgroundTaskScheduler) -> None:
    await scheduler.schedule_immediate_task("job", note, job_id="job", delivery="at_most_once", retry=None)
    await lose_its_worker(scheduler)
    await run_once(scheduler)
    assert ran == []
    assert await scheduler.requeue("job") == ["job"]
    await run_once(scheduler)
    assert ran == ["job"]


async def test_a_change_of_the_options_keeps_how_many_runs_are_left(scheduler: BackgroundTaskScheduler) -> None:
    handle = await scheduler.schedule_interval("job", note, seconds=3600, job_id="job", max_runs=3)
    await write(scheduler, "HSET", "job:job", "runs_left", 1)  # as two runs would have left it
    await scheduler.modify_job("job", max_instances=4)
    view = await handle.get()
    assert view is not None
    assert view.runs_left == 1


async def test_jobs_that_were_unsigned_are_bound_by_what_is_left_of_them(make: Make) -> None:
    plain = make(keys=False)
    await plain.schedule_interval("job", note, seconds=3600, job_id="job", max_runs=3, delivery="at_most_once")
    signing = make(accept_unsigned=True)
    assert await signing.reseal_jobs() == 1
    await write(plain, "HSET", "job:job", "runs_left", 4)
    assert "job:job: runs_left is '4', signed are at most 3" in await doctors_word(plain)


async def test_a_job_without_a_seal_is_run_by_its_fields(make: Make) -> None:
    plain = make(keys=False)
    handle = await plain.schedule_immediate_task("job", note, job_id="job", **OPTIONS)
    await write(plain, "HSET", "job:job", "max_instances", 9)
    await run_once(plain)
    assert ran == ["job"]
    view = await handle.get()
    assert view is None or view.state is not State.DEAD
