"""Each event of a run has the id that contexts, results, the dead and `requeue` have, also where a script made it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import msgpack
import pytest

from redsched.cli.events import KINDS
from redsched.testing import Kit
from tests.store.raw import HOUR, Claim, Raw, periodic, row

Told = list[tuple[str, str | None]]
"""Kind and run id of each event, in order."""
Case = Callable[[Raw], Awaitable[Told]]

CASES: dict[str, Case] = {}
CHANGES = ("paused", "resumed", "modified")


async def nothing() -> None: ...


def case(function: Case) -> Case:
    CASES[function.__name__] = function
    return function


@pytest.fixture
async def raw(redsched_kit: Kit) -> AsyncIterator[Raw]:
    yield Raw(await redsched_kit.scheduler.store())


async def once(raw: Raw, **more: Any) -> Claim:
    """A claimed one-shot job."""
    await raw.shard.schedule([row("job", fields=[part for pair in more.items() for part in pair])])
    return await raw.worker("a").one()


async def each(raw: Raw, **more: Any) -> Claim:
    """A claimed fire of a periodic job."""
    now = await raw.now()
    await raw.shard.schedule(
        [periodic("job", now, now + HOUR, fields=[part for pair in more.items() for part in pair])]
    )
    claim = await raw.worker("a").one()
    assert claim.run == f"job@{now}"
    return claim


async def batch(raw: Raw, **more: Any) -> tuple[list[int], int]:
    """A claimed run of three fires, and its token."""
    now = await raw.now()
    fires = [now - 2, now - 1, now]
    fields = [part for pair in more.items() for part in pair]
    await raw.shard.schedule([periodic("job", fires[0], None, fields=fields)])
    [plan] = (await raw.worker("a").poll()).plans
    assert await raw.worker("a").commit("job", plan[1], fires, now + HOUR) == "started"
    return fires, plan[1]


def of_batch(fires: list[int], fence: int, verb: str, remaining: list[int] | bool) -> list[Any]:
    claim = Claim(f"job@{fires[-1]}", fence, 1, fires[0], b"record", "default", fires, False, 0, 0, 0)
    return claim.settled(verb, remaining=remaining)


def settles(made: Callable[[Raw], Awaitable[Claim]], verb: str) -> Case:
    async def settle(raw: Raw) -> Told:
        claim = await made(raw)
        await raw.worker("a").poll(claim.settled(verb, delay_ms=HOUR), capacity=0)
        told: Told = [("scheduled", None), ("claimed", claim.run), (verb, claim.run)]
        return told

    return settle


for verb in ("done", "retry", "dead", "missed", "cancelled", "released", "postponed"):
    CASES[f"a_one_shot_job_{verb}"] = settles(once, verb)
    CASES[f"a_periodic_job_{verb}"] = settles(each, verb)


def recovers(made: Callable[..., Awaitable[Claim]], kind: str, **more: Any) -> Case:
    async def recover(raw: Raw) -> Told:
        claim = await made(raw, **more)
        await raw.expire(claim.run)
        await raw.worker("b").poll(capacity=0)
        return [("scheduled", None), ("claimed", claim.run), (kind, claim.run)]

    return recover


for made in (once, each):
    CASES[f"{made.__name__}_recovered"] = recovers(made, "recovered")
    CASES[f"{made.__name__}_at_most_once"] = recovers(made, "dead", delivery="at_most_once")
    CASES[f"{made.__name__}_recovered_too_often"] = recovers(made, "dead", max_recoveries=0)


@case
async def cancelled_before_it_is_recovered(raw: Raw) -> Told:
    claim = await each(raw)
    await raw.shard.cancel(ids=["job"])
    await raw.expire(claim.run)
    await raw.worker("b").poll(capacity=0)
    return [("scheduled", None), ("claimed", claim.run), ("cancelled", None), ("cancelled", claim.run)]


@case
async def a_one_shot_job_cancelled_before_it_is_recovered(raw: Raw) -> Told:
    claim = await once(raw)
    await raw.shard.cancel(ids=["job"])
    await raw.expire(claim.run)
    await raw.worker("b").poll(capacity=0)
    return [("scheduled", None), ("claimed", claim.run), ("cancelled", None), ("cancelled", "job")]


@case
async def cancelled_while_it_waits_for_another_attempt(raw: Raw) -> Told:
    claim = await each(raw)
    await raw.worker("a").poll(claim.settled("retry", delay_ms=HOUR), capacity=0)
    await raw.shard.cancel(ids=["job"])
    return [("scheduled", None), *_of(claim, "claimed", "retry", "cancelled"), ("cancelled", None)]


@case
async def a_one_shot_job_cancelled_while_it_waits_for_another_attempt(raw: Raw) -> Told:
    claim = await once(raw)
    await raw.worker("a").poll(claim.settled("retry", delay_ms=HOUR), capacity=0)
    await raw.shard.cancel(ids=["job"])
    return [("scheduled", None), *_of(claim, "claimed", "retry", "cancelled")]


@case
async def a_retry_after_a_cancellation(raw: Raw) -> Told:
    claim = await each(raw)
    await raw.shard.cancel(ids=["job"])
    await raw.worker("a").poll(claim.settled("retry"), capacity=0)
    return [("scheduled", None), ("claimed", claim.run), ("cancelled", None), *_of(claim, "retry", "cancelled")]


@case
async def a_dead_one_shot_job_removed(raw: Raw) -> Told:
    claim = await once(raw)
    await raw.worker("a").poll(claim.settled("dead"), capacity=0)
    await raw.shard.cancel(ids=["job"], how="remove")
    return [("scheduled", None), *_of(claim, "claimed", "dead", "removed")]


@case
async def a_waiting_run_whose_job_is_gone(raw: Raw) -> Told:
    claim = await each(raw)
    await raw.worker("a").poll(claim.settled("retry", delay_ms=0), capacity=0)
    await raw.command("DEL", raw.keys.job("job"))
    await raw.worker("a").poll()
    return [("scheduled", None), *_of(claim, "claimed", "retry", "cancelled")]


@case
async def replaced_while_it_waits_for_another_attempt(raw: Raw) -> Told:
    claim = await once(raw)
    await raw.worker("a").poll(claim.settled("retry", delay_ms=HOUR), capacity=0)
    await raw.shard.schedule([row("job", "replace", delay=HOUR)])
    return [("scheduled", None), *_of(claim, "claimed", "retry", "dropped"), ("replaced", None)]


@case
async def overdue_and_replaced(raw: Raw) -> Told:
    await raw.shard.schedule([row("job")])
    await raw.shard.schedule([row("job", "replace", delay=HOUR)])
    return [("scheduled", None), ("dropped", None), ("replaced", None)]


@case
async def settled_by_a_worker_that_lost_it(raw: Raw) -> Told:
    claim = await each(raw)
    await raw.expire(claim.run)
    await raw.worker("b").poll(capacity=0)
    await raw.worker("a").poll(claim.settled("done"), capacity=0)
    return [("scheduled", None), *_of(claim, "claimed", "recovered", "refused")]


@case
async def requeued(raw: Raw) -> Told:
    claim = await each(raw)
    await raw.worker("a").poll(claim.settled("dead"), capacity=0)
    await raw.shard.requeue([claim.run])
    return [("scheduled", None), *_of(claim, "claimed", "dead", "requeued")]


@case
async def a_one_shot_job_requeued_by_the_id_that_contexts_used_to_have(raw: Raw) -> Told:
    claim = await once(raw)
    await raw.worker("a").poll(claim.settled("dead"), capacity=0)
    assert await raw.shard.requeue([f"job@{claim.fire_ms}"]) == [f"job@{claim.fire_ms}"]
    return [("scheduled", None), *_of(claim, "claimed", "dead", "requeued")]


@case
async def run_beside_its_schedule(raw: Raw) -> Told:
    claim = await each(raw)
    run_id = await raw.shard.run("job")
    assert run_id is not None
    assert run_id != claim.run
    return [("scheduled", None), ("claimed", claim.run), ("requeued", run_id)]


@case
async def a_one_shot_job_run_now(raw: Raw) -> Told:
    await raw.shard.schedule([row("job", delay=HOUR)])
    await raw.shard.run("job")
    return [("scheduled", None), ("requeued", "job")]


@case
async def what_another_wrote_into_a_run(raw: Raw) -> Told:
    claim = await each(raw)
    await raw.worker("a").poll(claim.settled("retry", delay_ms=0), capacity=0)
    await raw.command("HSET", raw.keys.run(claim.run), "fire_ms", "soon")
    await raw.worker("a").poll()
    return [("scheduled", None), *_of(claim, "claimed", "retry", "dead")]


@case
async def what_another_wrote_into_a_one_shot_job(raw: Raw) -> Told:
    await raw.shard.schedule([row("job", queue="other")])
    await raw.command("HSET", raw.keys.job("job"), "fire_ms", "soon")
    await raw.worker("other", "other").poll()
    return [("scheduled", None), ("dead", "job")]


@case
async def a_schedule_that_raises(raw: Raw) -> Told:
    await raw.shard.schedule([periodic("job", await raw.now(), None)])
    [plan] = (await raw.worker("a").poll()).plans
    await raw.worker("a").commit("job", plan[1], [], error="no")
    return [("scheduled", None), ("dead", "job")]


@case
async def a_process_that_is_gone(raw: Raw) -> Told:
    await raw.shard.schedule([row("job", queue="local:gone")])
    await raw.command("ZADD", raw.keys.workers, 1, "gone")
    await raw.worker("a").poll(capacity=0, heartbeat={})
    return [("scheduled", None), ("dead", "job")]


@case
async def a_run_put_aside(raw: Raw) -> Told:
    claim = await each(raw)
    await raw.command("DEL", raw.keys.run(claim.run))
    await raw.command("SET", raw.keys.run(claim.run), "of another type")
    await raw.shard.quarantine({"run_id": claim.run})
    return [("scheduled", None), ("claimed", claim.run), ("quarantined", claim.run)]


@case
async def another_key_put_aside(raw: Raw) -> Told:
    await raw.command("SET", raw.keys.dead, "of another type")
    await raw.shard.quarantine({})
    return [("quarantined", None)]


@case
async def a_blocked_event_loop(raw: Raw) -> Told:
    claim = await each(raw)
    stall = ["job", "task", 3000, "blocked the event loop", claim.run]
    await raw.worker("a").poll(capacity=0, stalled=[stall, claim.run])
    await raw.worker("a").poll(capacity=0, stalled=[["", "", 3000, "something else", False]])
    return [("scheduled", None), ("claimed", claim.run), ("stalled", claim.run), ("stalled", None)]


@case
async def a_batch_whose_worker_dies(raw: Raw) -> Told:
    """The fire that it was at is what begins again; the batch has the id of its last fire."""
    fires, _ = await batch(raw)
    whole = f"job@{fires[-1]}"
    await raw.expire(whole)
    await raw.worker("b").poll(capacity=0)
    return [("scheduled", None), ("claimed", whole), ("recovered", f"job@{fires[0]}")]


@case
async def a_fire_of_a_batch_that_is_cancelled(raw: Raw) -> Told:
    fires, fence = await batch(raw)
    whole = f"job@{fires[-1]}"
    await raw.shard.cancel(ids=["job"])
    await raw.worker("a").poll(of_batch(fires, fence, "retry", fires[1:]), capacity=0)
    first = f"job@{fires[0]}"
    return [("scheduled", None), ("claimed", whole), ("cancelled", None), ("retry", first), ("cancelled", first)]


@case
async def a_batch_that_is_cancelled_in_its_first_fire(raw: Raw) -> Told:
    fires, fence = await batch(raw)
    whole = f"job@{fires[-1]}"
    await raw.worker("a").poll(of_batch(fires, fence, "cancelled", False), capacity=0)
    return [("scheduled", None), ("claimed", whole), ("cancelled", whole), ("cancelled", whole)]


@case
async def a_fire_of_a_batch_settled_by_a_worker_that_lost_it(raw: Raw) -> Told:
    fires, fence = await batch(raw)
    whole, first = f"job@{fires[-1]}", f"job@{fires[0]}"
    await raw.expire(whole)
    await raw.worker("b").poll(capacity=0)
    await raw.worker("a").poll(of_batch(fires, fence, "done", fires[1:]), capacity=0)
    return [("scheduled", None), ("claimed", whole), ("recovered", first), ("refused", first)]


@case
async def fires_that_never_became_a_run(raw: Raw) -> Told:
    now = await raw.now()
    await raw.shard.schedule([periodic("job", now - 5, None)])
    [plan] = (await raw.worker("a").poll()).plans
    spans: dict[str, Any] = {
        "missed": [now - 5, now - 4, 2],
        "coalesced": [now - 3, now - 2, 2],
        "cut": [now - 9, now - 8, 2],
    }
    await raw.worker("a").commit("job", plan[1], [now], 0, **spans)
    kinds = ["coalesced", "missed", "missed", "ended"]
    return [("scheduled", None), *((kind, None) for kind in kinds), ("claimed", f"job@{now}")]


@case
async def more_instances_than_allowed(raw: Raw) -> Told:
    claim = await each(raw)
    now = await raw.now()
    await raw.command("HSET", raw.keys.job("job"), "next_ms", now, "after_ms", now + HOUR)
    await raw.command("ZADD", raw.keys.due("default"), now, "job")
    await raw.worker("b").poll()
    return [("scheduled", None), ("claimed", claim.run), ("skipped", None)]


def _of(claim: Claim, *kinds: str) -> Told:
    return [(kind, claim.run) for kind in kinds]


@pytest.mark.parametrize("name", CASES)
async def test_each_event_of_a_run_has_its_id(raw: Raw, redsched_kit: Kit, name: str) -> None:
    scheduler = redsched_kit.scheduler
    told = await CASES[name](raw)
    events = await scheduler.get_history()
    assert sorted((event.kind, event.run_id or "") for event in events) == sorted((k, r or "") for k, r in told)
    dead = {view.id for view in await scheduler.get_dead()}
    assert dead or ("dead" not in dict(told)) or {"requeued", "removed"} & dict(told).keys()
    assert {event.run_id for event in events if event.kind == "dead"} >= dead, "no event names them"
    for event in events:
        if event.run_id is not None:
            is_dead = event.run_id in dead
            assert await scheduler.requeue(event.run_id) == ([event.run_id] if is_dead else []), event
            dead.discard(event.run_id)
    assert not dead


async def test_changes_of_a_job_are_of_no_run(redsched_kit: Kit) -> None:
    handle = await redsched_kit.scheduler.schedule_interval("job", nothing, hours=1)
    await handle.pause()
    await handle.resume()
    await redsched_kit.scheduler.modify_job(handle.id, queue="other")
    told = [(event.kind, event.run_id) for event in await redsched_kit.scheduler.get_history()]
    assert told == [(kind, None) for kind in ("scheduled", *CHANGES)]


async def test_each_kind_of_event_is_among_these_cases(raw: Raw) -> None:
    kinds = {*CHANGES, "worker_failed"}  # the last one is of a worker
    for made in CASES.values():
        kinds |= {kind for kind, _ in await made(raw)}
        await raw.command("DEL", raw.keys.events, *[raw.keys.tag + name for name in await raw.names()])
        raw.workers.clear()
    assert kinds == set(KINDS)


async def test_an_entry_without_ids_of_runs_is_read_as_earlier_versions_wrote_it(raw: Raw, redsched_kit: Kit) -> None:
    moved = msgpack.packb([["recovered", "job", "lease_expired", 1000, 1000, 1, 2, "worker"]])
    await raw.command("XADD", raw.keys.events, "*", "at", 2000, "by", "worker", "moved", moved)
    [event] = await redsched_kit.scheduler.get_history()
    assert (event.kind, event.job_id, event.run_id, event.attempt) == ("recovered", "job", None, 2)


async def test_rows_of_an_entry_keep_the_form_that_earlier_versions_read(raw: Raw) -> None:
    """In a rolling deploy the old pods read what the scripts of the new ones write."""
    claim = await each(raw)
    await raw.expire(claim.run)
    stall = ["job", "task", 3000, "blocked the event loop", claim.run]
    await raw.worker("b").poll(capacity=0, stalled=[stall])
    entry: dict[bytes, bytes] = {}
    for _, flat in await raw.command("XRANGE", raw.keys.events, "-", "+"):
        entry = dict(zip(flat[::2], flat[1::2], strict=True))
        assert all(len(each_row) == 8 for each_row in msgpack.unpackb(entry.get(b"moved", b"\x90")))
        assert len(msgpack.unpackb(entry.get(b"stalled", b"\x94\x00\x00\x00\x00"))) == 4
    assert b"stalled" in entry
    assert b"moved" in entry
