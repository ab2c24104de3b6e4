"""Parking: what a worker cannot run lies where only those look who can, and every change finds it there."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any

import msgpack
import pytest

from redsched.store.queries import clear
from redsched.store.store import Store
from redsched.testing import fresh_prefix
from tests.invariants import check
from tests.store.raw import HOUR, LIMITS, Claim, Raw, RawWorker, periodic, row

NEED = "task:task"
PLACE = f"{NEED} default"
KNOWS = {"queues": ["default"], "tasks": ["task"]}
IGNORANT: Mapping[str, Any] = {"queues": ["default"], "tasks": []}


@pytest.fixture
async def raw(redsched_url: str) -> AsyncIterator[Raw]:
    store = Store(redsched_url, fresh_prefix(), limits=LIMITS)
    yield Raw(store)
    await check(store)
    await clear(store)
    await store.close()


def serving(*places: str, queue: str = "default") -> bytes:
    return msgpack.packb({queue: list(places)})


async def park(raw: Raw, name: str = "old", **more: Any) -> None:
    """A worker claims what is due, and cannot run it."""
    worker = raw.worker(name)
    reply = await worker.poll(heartbeat=IGNORANT, **more)
    for plan in reply.plans:
        postpone = [200, 1, "unknown_task", NEED]
        assert await worker.commit(plan[0].decode(), plan[1], [], postpone=postpone) == "postponed"
    rows = [[*Claim.of(claimed).settled("postponed", delay_ms=200), NEED] for claimed in reply.claims]
    await worker.poll(*rows, capacity=0)


async def parked(raw: Raw, place: str = PLACE) -> dict[str, int]:
    return await raw.scores(raw.keys.parked(place))


async def taken(worker: RawWorker, **more: Any) -> list[str]:
    reply = await worker.poll(heartbeat=KNOWS, places=serving(PLACE), **more)
    return [entry[0].decode() for entry in [*reply.claims, *reply.plans]]


async def mail(raw: Raw, worker: str) -> list[bytes]:
    return await raw.command("LRANGE", raw.keys.mail(worker), 0, -1)


async def tokens(raw: Raw, place: str = PLACE) -> int:
    return await raw.command("LLEN", raw.keys.wake_place(place))


async def test_what_is_parked_is_claimed_by_none_but_those_who_serve_its_place(raw: Raw) -> None:
    now = await raw.freeze()
    await raw.shard.schedule([row("job", at=now)])
    await park(raw)
    assert await parked(raw) == {"job": now}
    assert await raw.due() == {}
    assert (await raw.job("job"))["reason"] == "unknown_task"
    reply = await raw.worker("other").poll()
    assert (reply.claims, reply.plans) == ([], [])
    (claim,) = (await raw.worker("new").poll(places=serving(PLACE))).claims
    assert (claim[0], claim[2], claim[3]) == (b"job", 1, now)
    assert await parked(raw) == {}
    assert "parked" not in await raw.job("job")


async def test_each_live_worker_hears_once_of_a_new_place_and_each_member_wakes_one_that_serves_it(raw: Raw) -> None:
    await raw.worker("new").poll(heartbeat=KNOWS)
    await raw.shard.schedule([row("a")])
    await park(raw)
    assert await mail(raw, "new") == await mail(raw, "old") == [f"parked {PLACE}".encode()]
    assert await tokens(raw) == 1
    await raw.command("DEL", raw.keys.mail("new"), raw.keys.wake_place(PLACE))
    await raw.shard.schedule([row("b")])
    await park(raw)
    assert await mail(raw, "new") == []
    assert await tokens(raw) == 1


async def test_a_heartbeat_brings_all_places_and_other_polls_none(raw: Raw) -> None:
    await raw.shard.schedule([row("job")])
    await park(raw)
    new = raw.worker("new")
    assert (await new.poll(heartbeat=KNOWS)).places == [PLACE.encode()]
    assert (await raw.resend())[10] == [PLACE.encode()]
    assert (await new.poll()).places == []


async def test_a_place_that_has_been_empty_for_long_is_forgotten(raw: Raw) -> None:
    await raw.shard.schedule([row("job")])
    await park(raw)
    new = raw.worker("new")
    assert await taken(new) == ["job"]
    await raw.shard.travel(ahead_ms=HOUR)
    assert (await new.poll(heartbeat=KNOWS)).places == []
    assert await raw.command("EXISTS", raw.keys.parking) == 0


async def test_who_has_no_room_for_all_that_is_parked_wakes_another(raw: Raw) -> None:
    await raw.shard.schedule([row(name) for name in "abc"])
    await park(raw)
    await raw.command("DEL", raw.keys.wake_place(PLACE))
    reply = await raw.worker("new").poll(places=serving(PLACE), capacity=2)
    assert (len(reply.claims), reply.more) == (2, 1)
    assert await tokens(raw) == 1
    assert len(await parked(raw)) == 1


@pytest.mark.parametrize("known", [True, False])
async def test_a_parked_fire_of_a_periodic_job_is_its_next_one_so_that_what_passes_coalesces(
    raw: Raw, known: bool
) -> None:
    now = await raw.freeze()
    await raw.shard.schedule([periodic("job", now, now + 1000 if known else None, fields=["runs_left", 5])])
    await park(raw)
    job = await raw.job("job")
    assert (job["next_ms"], job["runs_left"], job["parked"]) == (str(now), "5", PLACE)
    assert await parked(raw) == {"job": now}
    assert not await raw.command("EXISTS", raw.keys.live("job"), raw.keys.leases, raw.keys.due("default"))
    await raw.freeze(5000)
    await raw.worker("old").poll(heartbeat=IGNORANT)
    (plan,) = (await raw.worker("new").poll(places=serving(PLACE))).plans
    assert (plan[0], plan[2]) == (b"job", now)
    assert await raw.worker("new").commit("job", plan[1], [now], now + HOUR) == "started"


async def test_a_fire_waits_as_a_parked_run_where_a_later_one_was_claimed(raw: Raw) -> None:
    now = await raw.freeze()
    await raw.shard.schedule([periodic("job", now, now + 1000, fields=["max_instances", 3])])
    worker = raw.worker("w")
    first = await worker.one()
    await worker.poll(capacity=0, following=["job", 0, now + 1000, now + HOUR])
    await raw.freeze(1000)
    second = await worker.one()
    await worker.poll([*first.settled("postponed"), NEED], capacity=0)
    assert await parked(raw) == {first.run: now}
    assert await raw.command("SMEMBERS", raw.keys.waiting("job")) == [first.run.encode()]
    assert await taken(raw.worker("new")) == [first.run]
    assert set(await raw.scores(raw.keys.live("job"))) == {first.run, second.run}


async def test_later_runs_of_a_job_that_was_parked_go_to_their_place_without_a_claim_in_vain(raw: Raw) -> None:
    now = await raw.freeze()
    await raw.shard.schedule([periodic("every", now, now + 1000, fields=["max_instances", 2]), row("once", at=now)])
    await park(raw)
    new = raw.worker("new")
    reply = await new.poll(places=serving(PLACE))
    assert {entry[0] for entry in [*reply.claims, *reply.plans]} == {b"every", b"once"}
    assert await new.commit("every", reply.plans[0][1], [now], now + 1000, now + HOUR) == "started"
    (once,) = reply.claims
    retry = [once[0], once[1], "retry", now, 1, 0, 0, "task", "task_failed", 1000, "why", False, 0]
    run = [f"every@{now}", reply.plans[0][1], *retry[2:]]
    await new.poll(retry, run, capacity=0)
    await raw.freeze(1000)
    reply = await raw.worker("old").poll(heartbeat=IGNORANT)
    assert (reply.claims, reply.plans) == ([], [])
    assert set(await parked(raw)) == {"every", "once", f"every@{now}"}
    assert (await raw.run(f"every@{now}"))["reason"] == "unknown_task"
    assert await tokens(raw) == 1
    assert set(await taken(new)) == {"once", f"every@{now}", f"every@{now + 1000}"}


async def test_a_resent_poll_gives_what_was_parked_again(raw: Raw) -> None:
    await raw.shard.schedule([row("job")])
    await park(raw)
    (claim,) = (await raw.worker("new").poll(places=serving(PLACE))).claims
    again = await raw.resend()
    assert again[3][0][:3] == [b"job", claim[1], 1]


# -- each change of a parked job ---------------------------------------------------------------------------------------


async def prepared(raw: Raw, kind: str) -> int:
    now = await raw.freeze()
    one = row("job", at=now, tags=["t"]) if kind == "once" else periodic("job", now, None, tags=["t"])
    await raw.shard.schedule([one])
    await park(raw)
    assert await parked(raw) == {"job": now}
    return now


KINDS = pytest.mark.parametrize("kind", ["once", "periodic"])


@KINDS
@pytest.mark.parametrize("how", ["cancel", "remove"])
async def test_cancel_ends_it(raw: Raw, kind: str, how: str) -> None:
    await prepared(raw, kind)
    assert await raw.shard.cancel(ids=["job"], how=how) == ["job"]
    assert await parked(raw) == await raw.job("job") == {}
    assert await taken(raw.worker("new")) == []


async def test_cancel_ends_a_parked_run_too(raw: Raw) -> None:
    now = await raw.freeze()
    await raw.shard.schedule([periodic("job", now + HOUR, None)])
    run = await raw.shard.run("job")
    await park(raw)
    assert await parked(raw) == {run: now}
    await raw.shard.cancel(tag="none")
    await raw.shard.cancel(ids=["job"])
    assert await parked(raw) == await raw.run(run) == {}


@KINDS
async def test_pause_keeps_it_and_resume_lets_it_wait_again(raw: Raw, kind: str) -> None:
    now = await prepared(raw, kind)
    assert await raw.shard.pause("job")
    assert await parked(raw) == await raw.due() == {}
    assert await taken(raw.worker("new")) == []
    version = int((await raw.job("job")).get("version", 0))
    when = "saved" if kind == "once" else [now, -1]
    assert await raw.shard.modify("job", version, {"kind": "resumed", "when": when})
    assert await raw.due() == {"job": now}
    assert await taken(raw.worker("new")) == ["job"]


@KINDS
@pytest.mark.parametrize("what", ["record", "queue", "pause", "reschedule", "end"])
async def test_a_change_takes_it_out_of_its_place(raw: Raw, kind: str, what: str) -> None:
    now = await prepared(raw, kind)
    change: dict[str, Any] = {"kind": "modified", "when": False}
    change |= {
        "record": {"record": b"changed"}, "queue": {"queue": "other"}, "pause": {"when": "pause"},
        "reschedule": {"when": [now + HOUR, -1]}, "end": {"when": "end"},
    }[what]  # fmt: skip
    assert await raw.shard.modify("job", 0, change)
    assert await parked(raw) == {}
    due = {"record": {"job": now}, "reschedule": {"job": now + HOUR}}.get(what, {})
    assert await raw.due() == due
    assert await raw.due("other") == ({"job": now} if what == "queue" else {})
    assert {"parked", "needs", "reason"} & (await raw.job("job")).keys() == set()
    assert await raw.command("LLEN", raw.keys.wake("other" if what == "queue" else "default")) >= (what == "queue")


async def test_a_change_of_the_record_takes_the_jobs_parked_runs_along(raw: Raw) -> None:
    now = await raw.freeze()
    await raw.shard.schedule([periodic("job", now + HOUR, None)])
    run = await raw.shard.run("job")
    await park(raw)
    await raw.shard.modify("job", 0, {"kind": "modified", "when": False, "record": b"another task"})
    assert await parked(raw) == {}
    assert run in await raw.due()
    await park(raw)
    await raw.shard.schedule([periodic("job", now + HOUR, None, "replace")])
    assert await parked(raw) == {}
    assert run in await raw.due()


@KINDS
async def test_a_replacement_is_not_parked(raw: Raw, kind: str) -> None:
    now = await prepared(raw, kind)
    assert await raw.shard.schedule([row("job", "keep", at=now)]) == ["kept"]
    assert await parked(raw) == {"job": now}
    account = [False, []]
    assert await raw.shard.schedule([[*row("job", "replace", at=now + HOUR), account]]) == ["replaced"]
    assert await parked(raw) == {}
    assert await raw.due() == {"job": now + HOUR}


async def test_run_now_of_a_one_shot_job_does_not_double_it(raw: Raw) -> None:
    await prepared(raw, "once")
    assert await raw.shard.run("job") == "job"
    assert await parked(raw) == {}
    assert await taken(raw.worker("new")) == ["job"]
    assert await taken(raw.worker("newer")) == []


async def test_run_now_of_a_periodic_job_is_a_run_beside_what_is_parked(raw: Raw) -> None:
    now = await prepared(raw, "periodic")
    run = await raw.shard.run("job")
    assert await parked(raw) == {"job": now}
    assert list(await raw.due()) == [run]
    reply = await raw.worker("old").poll(heartbeat=IGNORANT)
    assert (reply.claims, reply.plans) == ([], [])
    assert set(await parked(raw)) == {"job", run}


@KINDS
async def test_inspect_says_since_when_it_has_been_due(raw: Raw, kind: str) -> None:
    now = await prepared(raw, kind)
    ((_, _, due, running, waiting),) = await raw.shard.inspect(["job"])
    assert (int(due), running, waiting) == (now, 0, 0)


async def test_a_job_ends_with_its_last_run_only_if_nothing_of_it_is_parked(raw: Raw) -> None:
    now = await raw.freeze()
    await raw.shard.schedule([row("job", at=now + HOUR)])
    await raw.shard.modify("job", 0, {"kind": "paused", "when": "pause"})
    await raw.shard.run("job")  # beside the paused job
    worker = raw.worker("w")
    beside = await worker.one()
    await raw.shard.modify("job", 1, {"kind": "resumed", "when": [now, -1], "unset": [], "set": ["max_instances", 2]})
    await park(raw)
    assert await parked(raw) == {"job": now}
    await worker.poll(beside.settled(), capacity=0)
    assert "record" in await raw.job("job")
    assert await taken(raw.worker("new")) == ["job"]


async def test_what_only_a_gone_process_could_run_ends_dead_though_it_is_parked(raw: Raw) -> None:
    now = await raw.freeze()
    gone = raw.worker("gone", "default", "local:gone")
    await raw.shard.schedule([row("job", at=now, queue="local:gone")], owner="gone")
    claim = await gone.one(heartbeat=IGNORANT)
    await gone.poll([*claim.settled("postponed"), NEED], capacity=0)
    assert await parked(raw, f"{NEED} local:gone") == {"job": now}
    await raw.freeze(LIMITS.worker_ttl_ms + 1000)
    await raw.worker("w").poll(heartbeat=IGNORANT)
    assert (await raw.job("job"))["reason"] == "process_gone"
    assert await parked(raw, f"{NEED} local:gone") == {}


# -- workers of before -------------------------------------------------------------------------------------------------


async def of_before(raw: Raw, name: str, info: Mapping[str, Any]) -> None:
    """The heartbeat of a worker that knows nothing of parking."""
    await raw.command("ZADD", raw.keys.workers, await raw.now(), name)
    await raw.command("HSET", raw.keys.worker(name), "info", msgpack.packb(info, use_bin_type=False))
    await raw.command("PEXPIRE", raw.keys.worker(name), 600_000)


@pytest.mark.parametrize(
    ("info", "parks"),
    [
        (KNOWS, False),
        ({"queues": ["default"], "tasks": [], "packages": ["task"]}, True),
        ({"queues": ["other"], "tasks": ["task"]}, True),
        (IGNORANT, True),
    ],
)
async def test_what_only_an_older_worker_can_run_is_put_off_as_before(
    raw: Raw, info: Mapping[str, Any], parks: bool
) -> None:
    now = await raw.freeze()
    await of_before(raw, "before", info)
    await raw.shard.schedule([row("job", at=now)])
    await park(raw)
    assert await parked(raw) == ({"job": now} if parks else {})
    assert await raw.due() == ({} if parks else {"job": now + 200})


async def test_it_is_parked_where_a_newer_worker_can_run_it_as_well(raw: Raw) -> None:
    now = await raw.freeze()
    await of_before(raw, "before", KNOWS)
    await raw.worker("new").poll(heartbeat=KNOWS)
    await raw.shard.schedule([row("job", at=now)])
    await park(raw)
    assert await parked(raw) == {"job": now}


async def test_what_is_parked_comes_back_where_only_an_older_worker_can_run_it(raw: Raw) -> None:
    now = await raw.freeze()
    await raw.shard.schedule([row("job", at=now)])
    await park(raw)
    await of_before(raw, "before", KNOWS)
    reply = await raw.worker("old").poll(heartbeat=IGNORANT, capacity=0)
    assert reply.places == []
    assert await parked(raw) == {}
    assert await raw.due() == {"job": now}


async def test_the_last_worker_that_looks_at_what_is_parked_puts_it_back_when_it_leaves(raw: Raw) -> None:
    now = await raw.freeze()
    await raw.shard.schedule([row(f"job {n}", at=now) for n in range(1500)])
    await of_before(raw, "before", IGNORANT)
    for _ in range(2):
        await park(raw, capacity=1000)
    assert len(await parked(raw)) == 1500
    other = raw.worker("other")
    await other.poll(heartbeat=IGNORANT, capacity=0)
    await raw.shard.leave("other", other.queues, keep=False)
    assert len(await parked(raw)) == 1500
    await raw.shard.leave("old", raw.worker("old").queues, keep=False)
    assert await parked(raw) == {}
    assert len(await raw.due()) == 1500


async def test_what_a_client_of_before_removed_or_rescheduled_is_not_run_from_its_place(raw: Raw) -> None:
    now = await raw.freeze()
    await raw.shard.schedule([row("gone", at=now), row("later", at=now)])
    await park(raw)
    await raw.command("DEL", raw.keys.job("gone"))
    await raw.command("ZADD", raw.keys.due("default"), now + HOUR, "later")
    assert await taken(raw.worker("new")) == []
    assert await parked(raw) == {}
    await raw.freeze(HOUR)
    assert await taken(raw.worker("new")) == ["later"]


async def test_a_place_too_long_to_be_a_key_and_one_too_many_are_not_made(raw: Raw) -> None:
    now = await raw.freeze()
    await raw.shard.schedule([row("job", at=now)])
    worker = raw.worker("old")
    claim = await worker.one()
    await worker.poll([*claim.settled("postponed", delay_ms=200), "task:" + 2000 * "x"], capacity=0)
    assert await raw.due() == {"job": now + 200}
    flat = [part for n in range(1000) for part in (now, f"task:{n} default")]
    await raw.command("ZADD", raw.keys.parking, *flat)
    await raw.freeze(200)
    await park(raw)
    assert await parked(raw) == {}
    assert len(await raw.scores(raw.keys.parking)) == 1000
