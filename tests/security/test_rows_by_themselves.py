"""A row that another program wrote stops no other, and no call says what is not so."""

from __future__ import annotations

from typing import Any

import msgpack
import pytest

from redsched import Finding
from redsched.store.rows import PollRequest
from redsched.store.transitions import Shard
from redsched.store.wire import Resend
from redsched.testing import Kit

ran: list[str] = []
QUEUES = msgpack.packb(["default"]) or b""


async def note(name: str) -> None:
    ran.append(name)


@pytest.fixture
async def shard(redsched_kit: Kit) -> Shard:
    ran.clear()
    redsched_kit.scheduler.register(note)
    return (await redsched_kit.scheduler.store()).shards[0]


async def doctor(kit: Kit) -> Finding:
    [finding] = [one for one in await kit.scheduler.examine_server() if one.check == "writers"]
    return finding


# -- requests -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", ["1000000", "9007199254740991"])
async def test_no_confirmation_that_another_wrote_makes_a_call_say_what_is_not_so(
    value: str, redsched_kit: Kit, shard: Shard
) -> None:
    scheduler = redsched_kit.scheduler
    await scheduler.schedule_delayed_task("first", note, 60, args=["first"], job_id="first")
    key = next(iter(await shard.link.command("KEYS", f"{shard.keys.tag}requests:*")))
    await shard.link.command("HSET", key, "confirmed", value)
    await scheduler.schedule_immediate_task("second", note, args=["second"], job_id="second")
    assert await scheduler.get_job("second") is not None, "it was said to be added"
    assert await scheduler.cancel("first") is True
    assert await scheduler.get_job("first") is None
    await scheduler.make_worker().run_once()
    assert ran == ["second"]


async def test_requests_that_another_keeps_writing_to_are_refused_not_answered(
    redsched_kit: Kit, shard: Shard, monkeypatch: pytest.MonkeyPatch
) -> None:
    scheduler = redsched_kit.scheduler
    script = shard.link.script

    async def written_to(what: Any, arguments: Any, **options: Any) -> Any:
        if what.name == "schedule":
            client = next(part for part in map(str, arguments) if part.count(":") == 1 and part[-1].isdigit())
            await shard.link.command("HSET", f"{shard.keys.tag}requests:{client.partition(':')[0]}", "confirmed", 10**9)
        return await script(what, arguments, **options)

    monkeypatch.setattr(shard.link, "script", written_to)
    with pytest.raises(Exception, match="another program writes to the requests"):
        await scheduler.schedule_immediate_task("job", note, args=["job"], job_id="job")
    monkeypatch.undo()
    assert await scheduler.get_job("job") is None


# -- plans ----------------------------------------------------------------------------------------------------------


async def commit(shard: Shard, rows: list[Any]) -> list[str]:
    outcomes, _ = await shard.commit("w", rows, resend=Resend(0.0))
    return outcomes


async def planned(shard: Shard, *ids: str) -> list[Any]:
    """Rows of commit for jobs of which something was missed."""
    for job_id in ids:
        await shard.link.command("HSET", shard.keys.job(job_id), "next_ms", 1_000_000)
        await shard.link.command("HDEL", shard.keys.job(job_id), "after_ms")
        await shard.link.command("ZADD", shard.keys.due("default"), 1_000_000, job_id)
    reply = await shard.poll("w", QUEUES, PollRequest(1, 10), resend=Resend(0.0))
    assert len(reply.plans) == len(ids)
    after = await shard.travel() + 60_000
    return [
        [plan[0].decode(), plan[1], [1_000_000], after, after + 60_000, False, False, False, False, False]
        for plan in reply.plans
    ]


@pytest.mark.parametrize(
    "write",
    [("SET", "live:a", "x"), ("HSET", "job:a", "runs_left", "1.5"), ("HSET", "job:a", "runs_left", b"\xff")],
    ids=["live is a string", "no number", "no text"],
)
async def test_a_plan_that_meets_what_another_wrote_does_not_keep_the_others_from_being_stored(
    write: tuple[Any, ...], redsched_kit: Kit, shard: Shard
) -> None:
    for job_id in ("a", "b"):
        await redsched_kit.scheduler.schedule_interval(job_id, note, seconds=60, args=[job_id], job_id=job_id)
    rows = await planned(shard, "a", "b")
    command, name, *rest = write
    await shard.link.command(command, shard.keys.tag + name, *rest)
    outcomes = dict(zip([row[0] for row in rows], await commit(shard, rows), strict=True))
    assert outcomes == {"a": "STALE", "b": "started"}
    [event] = [one for one in await redsched_kit.scheduler.get_history("a") if one.kind == "dead"]
    assert event.reason == "unreadable"
    assert await shard.link.command("ZSCORE", shard.keys.due("default"), "a") is None, "it is not claimed for ever"


async def test_a_queue_that_became_another_type_while_a_job_was_planned_costs_that_job_nothing(
    redsched_kit: Kit, shard: Shard
) -> None:
    scheduler = redsched_kit.scheduler
    await scheduler.schedule_interval("a", note, seconds=60, args=["a"], job_id="a")
    rows = await planned(shard, "a")
    await shard.link.command("DEL", shard.keys.due("default"))
    await shard.link.command("SET", shard.keys.due("default"), "x")
    assert await commit(shard, rows) == ["STALE"]
    assert [event.kind for event in await scheduler.get_history("a") if event.kind == "dead"] == []


# -- leases ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("score", ["inf", "1e308", "253402300799999"])
async def test_a_lease_that_would_never_end_is_recovered(score: str, redsched_kit: Kit, shard: Shard) -> None:
    scheduler = redsched_kit.scheduler
    await scheduler.schedule_immediate_task("job", note, args=["job"], job_id="job")
    reply = await shard.poll("gone", QUEUES, PollRequest(1, 1), resend=Resend(0.0))
    assert len(reply.claims) == 1
    await shard.link.command("ZADD", shard.keys.leases, score, "job")
    assert "leases: the score of job is not an instant" in (await doctor(redsched_kit)).message
    worker = scheduler.make_worker()
    await worker.run_once()
    expiry = float(await shard.link.command("ZSCORE", shard.keys.leases, "job"))
    assert 0 < expiry - await shard.travel() <= shard.limits.lease_ms
    assert ran == [], "its worker may live: it has a lease's time to renew it"
    await shard.link.command("ZADD", shard.keys.leases, 1, "job")  # as when that time is over
    await worker.run_once()
    assert ran == ["job"]


async def test_an_instance_that_would_never_end_does_not_keep_its_job_from_running_for_ever(
    redsched_kit: Kit, shard: Shard
) -> None:
    scheduler = redsched_kit.scheduler
    await scheduler.schedule_interval("job", note, seconds=60, args=["job"], job_id="job")
    await shard.link.command("ZADD", shard.keys.live("job"), "inf", "job@1")
    worker = scheduler.make_worker()
    await redsched_kit.travel(seconds=61)
    await worker.run_once()
    assert ran == []
    expiry = float(await shard.link.command("ZSCORE", shard.keys.live("job"), "job@1"))
    assert expiry - await shard.travel() <= shard.limits.lease_ms
    await shard.link.command("ZADD", shard.keys.live("job"), 1, "job@1")
    await redsched_kit.travel(seconds=61)
    await worker.run_once()
    assert ran == ["job"]
