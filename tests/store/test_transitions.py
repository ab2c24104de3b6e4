"""The scripts, called as the worker and the client call them: what each promises, on a real server."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import msgpack
import pytest

from redsched.errors import ConflictingIdError, JobLookupError
from redsched.store.queries import clear
from redsched.store.store import Store
from redsched.store.transitions import ClockMovedError, claimed_rows
from redsched.testing import fresh_prefix
from tests.invariants import check
from tests.store.raw import HOUR, LIMITS, ONCE, Claim, Raw, periodic, row


@pytest.fixture
async def raw(redsched_url: str) -> AsyncIterator[Raw]:
    store = Store(redsched_url, fresh_prefix(), limits=LIMITS)
    yield Raw(store)
    await clear(store)
    await store.close()


# -- requests are answered once -----------------------------------------------------------------------------------

Call = Callable[[Raw], Awaitable[Any]]


async def a_dead_job(raw: Raw, job_id: str = "dead") -> None:
    await raw.shard.schedule([row(job_id)])
    worker = raw.worker("killer")
    claim = await worker.one()
    await worker.poll(claim.settled("dead", "task_failed", error="boom"), capacity=0)


CALLS: dict[str, Call] = {
    "schedule": lambda raw: raw.shard.schedule([row("new"), row("job", "replace", delay=5)]),
    "schedule, refused": lambda raw: raw.shard.schedule([row("fresh"), row("job")]),
    "cancel": lambda raw: raw.shard.cancel(ids=["job"]),
    "cancel of a tag": lambda raw: raw.shard.cancel(tag="green"),
    "remove": lambda raw: raw.shard.cancel(ids=["job"], how="remove"),
    "modify": lambda raw: raw.shard.modify("job", 0, {"kind": "modified", "record": b"other", "tags": ["red"]}),
    "modify, refused": lambda raw: raw.shard.modify("job", 7, {"kind": "modified", "record": b"other"}),
    "pause": lambda raw: raw.shard.pause("job"),
    "run": lambda raw: raw.shard.run("job"),
    "run of a periodic job": lambda raw: raw.shard.run("each"),
    "run of none": lambda raw: raw.shard.run("nobody"),
    "requeue": lambda raw: raw.shard.requeue(["dead", "nobody"]),
}


@pytest.mark.parametrize("what", CALLS)
async def test_a_request_that_is_sent_again_gets_the_first_reply_and_changes_nothing(raw: Raw, what: str) -> None:
    await a_dead_job(raw)
    now = await raw.now()
    await raw.shard.schedule([row("job", delay=HOUR, tags=["green"]), periodic("each", now + HOUR, now + 2 * HOUR)])
    with contextlib.suppress(ConflictingIdError, JobLookupError):
        await CALLS[what](raw)
    first, before = raw.answered, await raw.dump()
    assert await raw.resend() == first
    assert await raw.dump() == before


async def test_a_request_that_is_sent_again_late_does_not_undo_what_came_after(raw: Raw) -> None:
    await raw.shard.schedule([row("job", delay=HOUR)])
    sent = raw.sent
    await raw.worker("w").claim()
    await raw.command("DEL", raw.keys.job("job"))
    raw.sent = sent
    assert (await raw.resend())[0] == b"OK"
    assert await raw.job("job") == {}


async def test_a_request_is_kept_until_its_reply_is_confirmed(raw: Raw) -> None:
    await raw.shard.schedule([row("a", delay=HOUR)])
    (name,) = [name for name in await raw.names() if name.startswith("requests:")]
    assert sorted(await raw.fields(raw.keys.tag + name)) == ["1", "confirmed"]
    for number in range(2, 50):
        await raw.shard.schedule([row(f"job-{number}", delay=HOUR)])
        kept = await raw.fields(raw.keys.tag + name)
        assert str(number) in kept
        assert len(kept) <= 18, "those that are confirmed are forgotten, sixteen at once"
    assert 0 < await raw.command("PTTL", raw.keys.tag + name) <= 600_000


async def test_fire_times_for_an_instant_that_has_passed_are_refused(raw: Raw) -> None:
    now = await raw.now()
    await raw.shard.travel(ahead_ms=HOUR)
    with pytest.raises(ClockMovedError):
        await raw.shard.schedule([row("job", at=now)], assumed_ms=now)
    assert await raw.job("job") == {}
    await raw.shard.schedule([row("job", at=now)], assumed_ms=now + HOUR)
    with pytest.raises(ClockMovedError):
        await raw.shard.modify("job", 0, {"kind": "modified", "when": [now, 0]}, assumed_ms=now)
    assert "version" not in await raw.job("job")


async def test_a_batch_with_one_conflict_stores_nothing(raw: Raw) -> None:
    await raw.shard.schedule([row("b", delay=HOUR)])
    with pytest.raises(ConflictingIdError, match="'b'"):
        await raw.shard.schedule([row("a"), row("b"), row("c")])
    assert [name for name in await raw.names() if name.startswith("job:")] == ["job:b"]


# -- polls ----------------------------------------------------------------------------------------------------------


async def test_the_same_poll_again_gives_the_same_claims_and_plans(raw: Raw) -> None:
    now = await raw.freeze()
    await raw.shard.schedule(
        [
            row("plain"),
            row("tagged", tags=["t"], fields=["max_instances", 2]),
            periodic("each", now, now + HOUR),
            periodic("planned", now, None),
            row("stranger"),
        ]
    )
    worker = raw.worker("w")
    stranger = next(c for c in await worker.claim(capacity=10) if c.run == "stranger")
    first = raw.answered
    before = await raw.dump("clock")
    again = await raw.resend()
    assert again[3] == first[3]
    assert len(claimed_rows(first[3])) == 4
    assert again[4] == first[4]
    assert len(first[4]) == 1
    assert await raw.dump("clock") == before
    await worker.poll(stranger.settled(), capacity=0)
    await worker.poll(stranger.settled(), capacity=0)
    assert raw.answered[5] == [b"stranger"]
    assert (await raw.resend())[5] == [b"stranger"]


async def test_a_poll_that_is_sent_again_settles_and_claims_nothing_twice(raw: Raw) -> None:
    await raw.shard.schedule([row("a"), row("b")])
    worker = raw.worker("w")
    (claim,) = await worker.claim(capacity=1)
    await worker.poll(claim.settled("retry", "task_failed", delay_ms=HOUR), capacity=1)
    before = await raw.dump("clock")
    await raw.resend()
    assert await raw.dump("clock") == before
    assert (await raw.job(claim.run))["attempt"] == "1"


async def test_a_run_that_went_to_another_is_not_in_the_resent_reply(raw: Raw) -> None:
    await raw.shard.schedule([row("a"), row("b")])
    worker = raw.worker("w")
    claims = await worker.claim()
    sent = raw.sent
    lost = claims[0].run
    await raw.expire(lost)
    taken = await raw.worker("other").one()
    assert taken.run == lost
    raw.sent = sent
    assert [claimed[0].decode() for claimed in claimed_rows((await raw.resend())[3])] == [claims[1].run]


@pytest.mark.parametrize("verb", ["done", "retry", "dead", "missed", "cancelled", "released", "postponed"])
@pytest.mark.parametrize("kind", ["one-shot", "periodic"])
async def test_a_stale_token_settles_nothing(raw: Raw, verb: str, kind: str) -> None:
    now = await raw.now()
    await raw.shard.schedule([row("job") if kind == "one-shot" else periodic("job", now, now + HOUR)])
    old = await raw.worker("old").one()
    await raw.expire(old.run)
    new = await raw.worker("new").one()
    assert (new.run, new.attempt) == (old.run, 2)
    assert new.fence > old.fence
    before = await raw.dump("clock", "events")
    results = [old.run, b"result", 60_000]
    reply = await raw.worker("old").poll(old.settled(verb), capacity=0, results=results)
    assert reply.refused == [old.run.encode()]
    after = await raw.dump("clock", "events")
    changed = {name for name in before | after if before.get(name) != after.get(name)}
    (run,) = changed - {"worker:old"}
    for fields in (before[run], after[run]):
        for name in (b"recoveries", b"lost", b"excused"):  # the old worker lives: see include/stall
            fields.pop(name, None)
    assert before[run] == after[run]
    assert ("refused", "job", "fence_lost") in await raw.events()
    assert (await raw.worker("new").poll(new.settled(), capacity=0)).refused == []


async def test_the_right_token_in_the_hands_of_another_worker_is_refused(raw: Raw) -> None:
    await raw.shard.schedule([row("job")])
    claim = await raw.worker("w").one()
    assert (await raw.worker("thief").poll(claim.settled())).refused == [b"job"]


async def test_a_worker_that_claimed_its_own_lost_run_again_settles_it_only_with_the_new_token(raw: Raw) -> None:
    await raw.shard.schedule([row("job")])
    worker = raw.worker("w")
    old = await worker.one()
    await raw.expire("job")
    new = await worker.one()
    assert (await worker.poll(old.settled(), capacity=0)).refused == [b"job"]
    assert (await worker.poll(held=[old], capacity=0)).lost == [b"job"]
    assert (await worker.poll(new.settled(), capacity=0)).refused == []


async def test_a_cancelled_job_has_no_tags_while_its_run_goes_on(raw: Raw) -> None:
    now = await raw.now()
    await raw.shard.schedule([row("once", tags=["t"]), periodic("each", now, now + HOUR, tags=["t"])])
    await raw.worker("w").claim()
    assert sorted(await raw.shard.cancel(tag="t")) == ["each", "once"]
    assert await raw.command("SMEMBERS", raw.keys.tagged("t")) == []


async def test_a_replaced_job_is_not_left_in_its_old_queue(raw: Raw) -> None:
    await raw.shard.schedule([row("job", queue="old", tags=["before"])])
    await raw.shard.schedule([row("job", "replace", queue="new", tags=["after"], delay=HOUR)])
    assert await raw.due("old") == {}
    assert (await raw.due("new")).keys() == {"job"}
    assert await raw.command("SMEMBERS", raw.keys.tagged("before")) == []
    assert await raw.command("SMEMBERS", raw.keys.tagged("after")) == [b"job"]


async def test_tokens_only_grow(raw: Raw) -> None:
    await raw.freeze()
    await raw.shard.schedule([row(f"job{number}") for number in range(5)])
    fences = [claim.fence for claim in await raw.worker("w").claim()]
    assert fences == sorted(set(fences))
    await raw.shard.schedule([row("next")])
    assert (await raw.worker("w2").one()).fence > max(fences)


async def test_a_renewed_lease_lasts_and_a_lost_one_is_told(raw: Raw) -> None:
    now = await raw.freeze()
    await raw.shard.schedule([row("a"), row("b"), periodic("each", now, now + HOUR)])
    worker = raw.worker("w")
    claims = await worker.claim()
    await raw.freeze(4_000)
    reply = await worker.poll(held=claims, capacity=0)
    assert (reply.lost, reply.stop) == ([], [])
    leases = await raw.scores(raw.keys.leases)
    assert set(leases.values()) == {now + 4_000 + LIMITS.lease_ms}
    assert (await raw.scores(raw.keys.live("each"))).items() <= leases.items()
    await raw.expire("a")
    await raw.worker("other").claim()
    reply = await worker.poll(held=claims, capacity=0)
    assert reply.lost == [b"a"]


async def test_a_renewal_comes_before_recovery(raw: Raw) -> None:
    await raw.shard.schedule([row("a")])
    worker = raw.worker("w")
    claim = await worker.one()
    await raw.expire("a")
    assert (await worker.poll(held=[claim])).lost == []
    assert await raw.due() == {}


async def test_a_cancelled_run_is_told_to_stop_and_a_removed_one_is_not(raw: Raw) -> None:
    now = await raw.now()
    rows = [row("cut"), row("left"), periodic("cut each", now, now + HOUR), periodic("left each", now, now + HOUR)]
    await raw.shard.schedule(rows)
    worker = raw.worker("w")
    claims = await worker.claim()
    await raw.shard.cancel(ids=["cut", "cut each"])
    await raw.shard.cancel(ids=["left", "left each"], how="remove")
    reply = await worker.poll(held=claims, capacity=0)
    assert sorted(run.split(b"@")[0] for run in reply.stop) == [b"cut", b"cut each"]
    assert reply.lost == []
    mail = await raw.command("LRANGE", raw.keys.mail("w"), 0, -1)
    assert sorted(m.split(b"@")[0] for m in mail) == [b"cancel cut", b"cancel cut each"]
    await worker.poll(*(claim.settled("retry", "task_failed") for claim in claims), capacity=0)
    assert [name for name in await raw.names() if name.split(":")[0] in ("job", "run", "live", "due", "leases")] == []


# -- recovery -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["one-shot", "periodic"])
async def test_a_run_whose_lease_ended_goes_to_another_with_its_attempt_counted(raw: Raw, kind: str) -> None:
    now = await raw.now()
    await raw.shard.schedule([row("job") if kind == "one-shot" else periodic("job", now, now + HOUR)])
    first = await raw.worker("w1").one()
    assert await raw.worker("w2").claim() == []
    await raw.expire(first.run)
    second = await raw.worker("w2").one()
    assert (second.run, second.attempt, second.fire_ms) == (first.run, 2, first.fire_ms)
    assert ("recovered", "job", "lease_expired") in await raw.events()


@pytest.mark.parametrize("kind", ["one-shot", "periodic"])
async def test_at_most_once_ends_dead_instead(raw: Raw, kind: str) -> None:
    now = await raw.now()
    fields = ["delivery", "at_most_once"]
    one = row("job", fields=fields) if kind == "one-shot" else periodic("job", now, now + HOUR, fields=fields)
    await raw.shard.schedule([one])
    claim = await raw.worker("w1").one()
    await raw.expire(claim.run)
    assert await raw.worker("w2").claim() == []
    assert list(await raw.scores(raw.keys.dead)) == [claim.run]
    assert ("dead", "job", "at_most_once") in await raw.events()
    assert ("job" in await raw.due()) == (kind == "periodic"), "its later fires are not dead"


async def test_a_run_that_kills_its_workers_is_dead_after_max_recoveries(raw: Raw) -> None:
    await raw.shard.schedule([row("job", fields=["max_recoveries", 2])])
    for attempt in (1, 2, 3):
        claim = await raw.worker(f"w{attempt}").one()
        assert claim.attempt == attempt
        await raw.expire("job")
    assert await raw.worker("w4").claim() == []
    job = await raw.job("job")
    assert (job["state"], job["reason"]) == ("dead", "recoveries_used_up")
    assert "died 3 times" in job["error"]


async def test_a_cancelled_run_whose_worker_died_is_over(raw: Raw) -> None:
    await raw.shard.schedule([row("job")])
    await raw.worker("w1").one()
    await raw.shard.cancel(ids=["job"])
    await raw.expire("job")
    assert await raw.worker("w2").claim() == []
    assert await raw.job("job") == {}


async def test_a_requeued_run_starts_anew_and_survives_its_worker_though_its_job_has_ended(raw: Raw) -> None:
    now = await raw.now()
    await raw.shard.schedule([periodic("job", now, 0)])
    worker = raw.worker("w")
    claim = await worker.one()
    await worker.poll(claim.settled("dead", "task_failed", error="boom"), capacity=0)
    assert await raw.job("job") == {}, "its only fire is over"
    assert await raw.shard.requeue([claim.run]) == [claim.run]
    again = await raw.worker("w2").one()
    assert (again.run, again.attempt, again.record) == (claim.run, 1, b"record")
    await raw.expire(again.run)
    third = await raw.worker("w3").one()
    assert (third.run, third.attempt) == (claim.run, 2)


# -- plans ----------------------------------------------------------------------------------------------------------


async def planned(raw: Raw, worker_name: str = "w") -> tuple[Any, int, int]:
    now = await raw.now()
    await raw.shard.schedule([periodic("job", now, None)])
    worker = raw.worker(worker_name)
    (plan,) = (await worker.poll()).plans
    return worker, plan[1], now


async def test_a_plan_starts_its_run_once_and_its_resend_says_the_same(raw: Raw) -> None:
    worker, fence, now = await planned(raw)
    assert await worker.commit("job", fence, [now], now + HOUR, now + 2 * HOUR) == "started"
    before = await raw.dump("clock")
    assert (await raw.resend())[2] == [b"started"]
    assert await raw.dump("clock") == before
    assert await raw.due() == {"job": now + HOUR}
    assert (await raw.run(f"job@{now}"))["fence"] == str(fence)


async def test_a_plan_whose_token_is_not_the_jobs_any_more_is_stale(raw: Raw) -> None:
    worker, fence, now = await planned(raw)
    assert await worker.commit("job", fence - 1, [now], now + HOUR) == "STALE"
    await raw.shard.modify("job", 0, {"kind": "modified", "when": [now + HOUR, -1]})
    assert await worker.commit("job", fence, [now], now + HOUR) == "STALE"
    await raw.shard.cancel(ids=["job"])
    assert await worker.commit("job", fence, [now], now + HOUR) == "STALE"
    assert await raw.run(f"job@{now}") == {}


async def test_a_plan_of_a_worker_that_died_is_made_by_another_after_the_lease(raw: Raw) -> None:
    now = await raw.freeze()
    await raw.shard.schedule([periodic("job", now, None)])
    (old,) = (await raw.worker("w1").poll()).plans
    assert (await raw.worker("w2").poll()).plans == []
    await raw.freeze(LIMITS.lease_ms)
    (new,) = (await raw.worker("w2").poll()).plans
    assert new[2] == old[2] == now
    assert await raw.worker("w1").commit("job", old[1], [now], now + HOUR) == "STALE"


async def test_a_plan_without_a_next_fire_ends_the_job_when_its_run_ends(raw: Raw) -> None:
    worker, fence, now = await planned(raw)
    assert await worker.commit("job", fence, [now]) == "started"
    assert await raw.job("job")
    run = [f"job@{now}", fence, "done", now, 1, 0, 0, "task", False, 0, False, False, 0]
    await worker.poll(run, capacity=0)
    assert await raw.job("job") == {}
    assert ("ended", "job", "ended") in await raw.events()


async def test_a_plan_that_raised_ends_the_job_with_the_reason(raw: Raw) -> None:
    worker, fence, _ = await planned(raw)
    assert await worker.commit("job", fence, [], error="boom") == "nothing"
    job = await raw.job("job")
    assert (job["state"], job["reason"], job["error"]) == ("dead", "schedule_error", "boom")
    assert await raw.due() == {}


async def test_a_schedule_that_raises_leaves_a_span_of_the_fires_that_were_due(raw: Raw) -> None:
    worker, fence, now = await planned(raw)
    await raw.freeze()
    await raw.command("HSET", raw.keys.job("job"), "next_ms", now - HOUR)
    assert await worker.commit("job", fence, [], error="boom") == "nothing"
    [(_, first, last, count)] = await raw.spans("dead")
    assert (first, count) == (now - HOUR, None)
    assert last is not None
    assert last >= now


async def test_a_schedule_that_raises_after_its_last_fire_ran_gives_that_fire_one_outcome(raw: Raw) -> None:
    worker, fence, now = await planned(raw)
    assert await worker.commit("job", fence, [now], error="boom") == "started"
    assert await raw.spans("dead") == [("job", None, None, 1)]


async def test_an_instance_whose_lease_ends_during_a_plan_cannot_go_on_beside_the_one_that_is_planned(raw: Raw) -> None:
    now = await raw.freeze()
    await raw.shard.schedule([periodic("job", now, now + 1000)])
    slow = raw.worker("slow")
    old = await slow.one()
    await raw.freeze(LIMITS.lease_ms - 1)
    other = raw.worker("other")
    (plan,) = (await other.poll()).plans
    await raw.freeze(1)
    assert await other.commit("job", plan[1], [now + 1000], now + HOUR) == "started"
    assert (await slow.poll(held=[old], capacity=0)).lost == [old.run.encode()]
    assert (await slow.poll(old.settled(), capacity=0)).refused == [old.run.encode()]
    assert await raw.command("SMEMBERS", raw.keys.waiting("job")) == [old.run.encode()]
    await check(raw.store)


async def test_of_many_leases_that_end_at_once_none_is_passed_over_by_the_next_instance_of_its_job(raw: Raw) -> None:
    now = await raw.freeze()
    await raw.shard.schedule([row(f"job-{number}", at=now) for number in range(200)])
    await raw.shard.schedule([periodic("periodic", now, now + 1000)])
    slow = raw.worker("slow")
    held = {claim.run: claim for claim in await slow.claim(capacity=300)}
    old = held[f"periodic@{now}"]
    await slow.poll(capacity=0, following=["periodic", 0, now + 1000, now + HOUR])
    await raw.freeze(LIMITS.lease_ms)
    runs = [claim.run for claim in await raw.worker("other").claim(capacity=1)]
    assert runs == [f"periodic@{now + 1000}"]
    assert (await slow.poll(held=[old], capacity=0)).lost == [old.run.encode()]
    await check(raw.store)


async def test_another_attempt_of_a_one_shot_job_waits_while_its_manual_run_takes_the_only_place(raw: Raw) -> None:
    await raw.freeze()
    await raw.shard.schedule([row("job")])
    worker = raw.worker("w")
    first = await worker.one()
    manual = await raw.shard.run("job")
    await raw.freeze(1)
    await raw.expire("job")
    assert [claim.run for claim in await worker.claim()] == [manual]
    now = await raw.freeze(1000)
    assert await worker.claim(held=[first]) == []
    assert await raw.due() == {"job": now + 1000}
    held = await raw.run(manual)
    await worker.poll([manual, int(held["fence"]), "done", now, 1, 0, 0, "task", False, 0, False, False, 0], capacity=0)
    await raw.freeze(1000)
    again = await worker.one()
    assert (again.run, again.attempt, again.fire_ms) == ("job", 1, first.fire_ms)  # the worker was back: it had lived


async def test_a_one_shot_job_that_is_resumed_is_skipped_while_its_manual_run_takes_the_only_place(raw: Raw) -> None:
    now = await raw.freeze()
    await raw.shard.schedule([row("job", delay=None)])
    manual = await raw.shard.run("job")
    await raw.shard.modify("job", 0, {"kind": "resumed", "when": [now + 1, -1]})
    worker = raw.worker("w")
    assert [claim.run for claim in await worker.claim()] == [manual]
    await raw.freeze(1)
    assert await worker.claim() == []
    assert ("skipped", "job", "max_instances") in await raw.events()


async def test_a_job_that_became_one_shot_while_a_run_of_it_waits_for_a_retry_has_no_second_instance(raw: Raw) -> None:
    now = await raw.freeze()
    await raw.shard.schedule([periodic("job", now, now + HOUR)])
    worker = raw.worker("w")
    claim = await worker.one()
    await worker.poll(claim.settled("retry", delay_ms=0), capacity=0)
    await raw.shard.schedule([row("job", "replace", delay=1)])
    again = await worker.one()
    assert again.run == claim.run
    await raw.freeze(1)
    assert await worker.claim(held=[again]) == []
    assert ("skipped", "job", "max_instances") in await raw.events()
    await worker.poll(again.settled(), capacity=0)
    assert await raw.job("job") == {}


async def test_a_job_that_was_rescheduled_to_one_instant_is_there_until_its_earlier_runs_have_ended(raw: Raw) -> None:
    now = await raw.freeze()
    await raw.shard.schedule([periodic("job", now, now + HOUR, fields=["max_instances", 2])])
    worker = raw.worker("w")
    earlier = await worker.one()
    await raw.shard.modify("job", 0, {"kind": "modified", "unset": ["periodic"], "when": [now + 1, -1]})
    await raw.freeze(1)
    own = await worker.one()
    await worker.poll(own.settled(), earlier.settled("retry", delay_ms=0), capacity=0)
    again = await worker.one()
    assert (again.run, again.attempt) == (earlier.run, 2)
    await worker.poll(again.settled(), capacity=0)
    assert await raw.job("job") == {}


async def test_a_job_that_became_periodic_while_it_runs_has_no_second_instance(raw: Raw) -> None:
    now = await raw.freeze()
    await raw.shard.schedule([row("job")])
    worker = raw.worker("w")
    claim = await worker.one()
    await raw.shard.schedule([periodic("job", now + 1000, now + 2000, "replace")])
    await raw.freeze(1000)
    assert await worker.claim(held=[claim]) == []
    assert ("skipped", "job", "max_instances") in await raw.events()


async def test_a_modification_during_a_plan_does_not_delay_the_fire(raw: Raw) -> None:
    now = await raw.freeze()
    await raw.shard.schedule([periodic("job", now, None)])
    await raw.worker("w").poll()
    await raw.shard.modify("job", 0, {"kind": "modified", "record": b"other", "when": False})
    assert await raw.due() == {"job": now}
    (plan,) = (await raw.worker("w2").poll()).plans
    assert plan[6] == b"other"


async def test_a_postponed_fire_of_a_periodic_job_is_put_back_as_if_it_had_not_been_claimed(raw: Raw) -> None:
    now = await raw.freeze()
    await raw.shard.schedule([periodic("job", now, now + HOUR, fields=["runs_left", 5])])
    worker = raw.worker("w")
    claim = await worker.one()
    assert (await raw.job("job"))["runs_left"] == "4"
    await worker.poll(claim.settled("postponed", "unknown_task", delay_ms=200), capacity=0)
    job = await raw.job("job")
    assert (job["next_ms"], job["runs_left"], job["postponed"]) == (str(now), "5", "1")
    assert await raw.due() == {"job": now + 200}
    assert await raw.run(claim.run) == {}
    assert not await raw.command("EXISTS", raw.keys.live("job"), raw.keys.leases)


async def test_a_postponed_fire_waits_as_a_run_where_a_later_one_was_claimed(raw: Raw) -> None:
    now = await raw.freeze()
    await raw.shard.schedule([periodic("job", now, now + 1000, fields=["max_instances", 3])])
    worker = raw.worker("w")
    first = await worker.one()
    await worker.poll(capacity=0, following=["job", 0, now + 1000, now + HOUR])
    await raw.freeze(1000)
    second = await worker.one()
    await worker.poll(first.settled("postponed", "unknown_task", delay_ms=200), capacity=0)
    due = await raw.due()
    assert due.keys() == {first.run, "job"}
    assert second.run in await raw.scores(raw.keys.live("job"))
    assert await raw.command("SMEMBERS", raw.keys.waiting("job")) == [first.run.encode()]


async def test_the_following_fire_of_an_earlier_definition_is_not_taken(raw: Raw) -> None:
    now = await raw.freeze()
    await raw.shard.schedule([periodic("job", now, now + 1000)])
    worker = raw.worker("w")
    claim = await worker.one()
    await raw.shard.schedule([periodic("job", now + 1000, now + 5000, "replace")])
    await worker.poll(capacity=0, following=["job", claim.version, now + 1000, now + 2000])
    assert (await raw.job("job"))["after_ms"] == str(now + 5000)


# -- a job that changes while it runs -------------------------------------------------------------------------------


async def test_a_job_that_became_periodic_while_it_ran_goes_on_after_the_run(raw: Raw) -> None:
    now = await raw.freeze()
    await raw.shard.schedule([row("job")])
    worker = raw.worker("w")
    claim = await worker.one()
    await raw.shard.schedule([periodic("job", now + 1000, now + 2000, "replace")])
    await worker.poll(claim.settled(), capacity=0)
    assert (await raw.job("job"))["next_ms"] == str(now + 1000)
    await raw.freeze(1000)
    assert (await worker.one()).run == f"job@{now + 1000}"


async def test_a_job_that_was_rescheduled_as_periodic_while_it_ran_goes_on_after_the_run(raw: Raw) -> None:
    now = await raw.freeze()
    await raw.shard.schedule([row("job")])
    worker = raw.worker("w")
    claim = await worker.one()
    await raw.shard.modify("job", 0, {"kind": "modified", "when": [now + 1000, 0], "set": ["periodic", 1]})
    await worker.poll(claim.settled(), capacity=0)
    await raw.freeze(1000)
    assert (await worker.one()).run == f"job@{now + 1000}"


@pytest.mark.parametrize("how", ["pause", "replace"])
@pytest.mark.parametrize("verb", ["done", "retry", "dead", "lease"])
async def test_a_job_that_was_paused_anew_while_it_ran_stays_paused(raw: Raw, how: str, verb: str) -> None:
    now = await raw.freeze()
    await raw.shard.schedule([row("job")])
    worker = raw.worker("w")
    claim = await worker.one()
    if how == "pause":
        await raw.shard.schedule([row("job", "replace", at=now + HOUR)])
        await raw.shard.pause("job")
    else:
        await raw.shard.schedule([row("job", "replace", delay=None)])
    if verb == "lease":
        await raw.expire("job")
        await worker.poll(capacity=0)
    else:
        await worker.poll(claim.settled(verb, delay_ms=0), capacity=0)
    job = await raw.job("job")
    assert job["state"] == "paused"
    assert "fence" not in job
    assert await raw.due() == {}


async def test_a_retry_is_due_after_its_delay_with_its_attempt_counted(raw: Raw) -> None:
    now = await raw.freeze()
    await raw.shard.schedule([row("once"), periodic("each", now, now + HOUR)])
    worker = raw.worker("w")
    claims = await worker.claim()
    await worker.poll(*(claim.settled("retry", "task_failed", delay_ms=1000) for claim in claims))
    assert await worker.claim() == []
    await raw.freeze(1000)
    again = await worker.claim()
    assert [(claim.run, claim.attempt) for claim in again] == [(claim.run, 2) for claim in claims]


async def test_a_released_run_starts_at_once_elsewhere_and_uses_no_attempt(raw: Raw) -> None:
    now = await raw.freeze()
    await raw.shard.schedule([row("once"), periodic("each", now, now + HOUR)])
    claims = await raw.worker("w").claim()
    await raw.worker("w").poll(*(claim.settled("released", "shutdown") for claim in claims), capacity=0)
    again = await raw.worker("w2").claim()
    assert {(claim.run, claim.attempt) for claim in again} == {(claim.run, 1) for claim in claims}


@pytest.mark.parametrize("delivery", ["at_least_once", "at_most_once"])
async def test_a_job_that_was_scheduled_anew_keeps_its_instant_when_the_worker_of_its_old_run_dies(
    raw: Raw, delivery: str
) -> None:
    now = await raw.freeze()
    await raw.shard.schedule([row("job")])
    await raw.worker("w").one()
    await raw.shard.schedule([row("job", "replace", at=now + HOUR, fields=["delivery", delivery])])
    await raw.expire("job")
    assert await raw.worker("w2").claim() == []
    assert await raw.due() == {"job": now + HOUR}
    assert "next_ms" not in await raw.job("job")
    assert await raw.scores(raw.keys.dead) == {}
    await raw.freeze(HOUR)
    assert (await raw.worker("w3").one()).attempt == 1


async def test_a_manual_run_beside_a_running_one_shot_job_outlives_it(raw: Raw) -> None:
    await raw.freeze()
    await raw.shard.schedule([row("job")])
    worker = raw.worker("w")
    claim = await worker.one()
    manual = await raw.shard.run("job")
    assert manual != "job"
    await worker.poll(claim.settled(), capacity=0)
    again = await worker.one()
    assert (again.run, again.record) == (manual, b"record")
    await worker.poll(again.settled(), capacity=0)
    assert await raw.job("job") == {}


async def test_two_manual_runs_in_one_millisecond_are_two(raw: Raw) -> None:
    now = await raw.freeze()
    await raw.shard.schedule([periodic("job", now + HOUR, now + 2 * HOUR, fields=["max_instances", 5])])
    runs = {await raw.shard.run("job") for _ in range(3)}
    assert len(runs) == 3
    await raw.freeze(10)
    assert {claim.run for claim in await raw.worker("w").claim()} == runs


async def test_a_manual_run_in_the_millisecond_of_a_fire_is_another_run(raw: Raw) -> None:
    now = await raw.freeze()
    await raw.shard.schedule([periodic("job", now, now + HOUR)])
    claim = await raw.worker("w").one()
    assert await raw.shard.run("job") != claim.run


async def test_a_retry_that_waits_in_an_old_queue_is_cancelled_with_its_job(raw: Raw) -> None:
    now = await raw.freeze()
    await raw.shard.schedule([periodic("job", now, now + HOUR, queue="old")])
    worker = raw.worker("w", "old")
    claim = await worker.one()
    await worker.poll(claim.settled("retry", "task_failed", delay_ms=1000), capacity=0)
    await raw.shard.modify("job", 0, {"kind": "modified", "queue": "new"})
    await raw.shard.cancel(ids=["job"])
    await raw.shard.schedule([row("job", delay=HOUR)])
    await raw.freeze(1000)
    assert await worker.claim() == []
    assert await raw.due("old") == {}


async def test_a_run_that_was_removed_and_left_to_finish_is_left_though_its_id_is_used_anew(raw: Raw) -> None:
    await raw.shard.schedule([row("job")])
    worker = raw.worker("w")
    claim = await worker.one()
    await raw.shard.cancel(ids=["job"], how="remove")
    await raw.shard.schedule([row("job", "replace", delay=HOUR)])
    assert (await worker.poll(held=[claim], capacity=0)).stop == []
    await worker.poll(claim.settled(), capacity=0)
    assert set(await raw.job("job")) <= {"record", "version"}


# -- time, sleep, waking --------------------------------------------------------------------------------------------


async def test_travel_moves_leases_and_heartbeats_along(raw: Raw) -> None:
    now = await raw.freeze()
    await raw.shard.schedule([row("once"), periodic("each", now, now + 2 * HOUR)])
    worker = raw.worker("w")
    claims = await worker.claim(heartbeat={"queues": ["default"]})
    before = {key: await raw.scores(key) for key in (raw.keys.leases, raw.keys.live("each"), raw.keys.workers)}
    await raw.shard.travel(ahead_ms=HOUR)
    for key, old in before.items():
        assert await raw.scores(key) == {member: score + HOUR for member, score in old.items()}
    assert await raw.command("LRANGE", raw.keys.mail("w"), 0, -1) == [b"travel"]
    assert (await worker.poll(held=claims)).lost == []
    assert ("recovered", "once", "lease_expired") not in await raw.events()


async def test_the_clock_never_goes_back(raw: Raw) -> None:
    ahead = await raw.shard.travel(ahead_ms=HOUR)
    assert await raw.shard.travel(until_ms=ahead - HOUR) >= ahead
    floor = await raw.freeze()
    assert await raw.now() == floor


async def idle(raw: Raw, queue: str = "default") -> dict[str, str]:
    return await raw.fields(f"{raw.keys.tag}idle:{queue}")


async def woken(raw: Raw, queue: str = "default") -> bool:
    """Whether there are wake tokens (one for a leader, at most one more for a deputy); takes them."""
    taken = await raw.command("LPOP", raw.keys.wake(queue), 10) or []
    assert len(taken) <= 2, "a stampede"
    return bool(taken)


async def test_of_idle_workers_one_leads_one_is_its_deputy_and_the_others_nap(raw: Raw) -> None:
    now = await raw.freeze()
    await raw.shard.schedule([row("soon", at=now + 300)])
    replies = [await raw.worker(name).poll() for name in ("a", "b", "c")]
    assert [reply.sleep_until_ms - now for reply in replies] == [300, 350, LIMITS.max_idle_ms]
    assert await idle(raw) == {
        "leader": "a", "until_ms": str(now + 300), "deputy": "b", "deputy_ms": str(now + 350),
    }  # fmt: skip


async def test_a_leader_that_leaves_hands_on(raw: Raw) -> None:
    await raw.freeze()
    worker = raw.worker("a")
    await worker.poll(heartbeat={})
    await raw.worker("b").poll()
    assert not await woken(raw)
    await raw.shard.leave("a", worker.queues, keep=False)
    assert "leader" not in await idle(raw)
    assert await woken(raw)
    assert await raw.scores(raw.keys.workers) == {}


async def test_a_full_leader_steps_back(raw: Raw) -> None:
    now = await raw.freeze()
    worker = raw.worker("a")
    await worker.poll()
    await raw.shard.schedule([row("one", at=now), row("later", at=now + HOUR)])
    assert await woken(raw)
    await worker.poll(capacity=1)
    assert "leader" not in await idle(raw)
    assert await woken(raw)


async def test_who_puts_off_what_it_cannot_run_lets_another_look_first(raw: Raw) -> None:
    now = await raw.freeze()
    old, new = raw.worker("old"), raw.worker("new")
    await raw.shard.schedule([row("unknown", at=now)])
    claim = await old.one()
    await old.poll(claim.settled("postponed", "unknown_task", delay_ms=200))
    assert "leader" not in await idle(raw)
    assert await woken(raw)
    assert (await new.poll()).sleep_until_ms == now + 200
    assert (await old.poll()).sleep_until_ms > now + 200
    assert (await idle(raw))["leader"] == "new"


async def test_who_puts_off_a_plan_lets_another_look_first(raw: Raw) -> None:
    now = await raw.freeze()
    old = raw.worker("old")
    await raw.shard.schedule([periodic("unknown", now, None)])
    (plan,) = (await old.poll()).plans
    await woken(raw)
    await raw.shard.commit(
        "old", [["unknown", plan[1], [], 0, 0, False, False, False, False, [200, 1, "unknown_task"]]], resend=ONCE
    )
    assert "leader" not in await idle(raw)
    assert await woken(raw)


async def test_a_token_is_pushed_only_where_a_job_is_due_before_what_is_awaited(raw: Raw) -> None:
    now = await raw.freeze()
    await raw.shard.schedule([row("first", at=now + 500)])
    await woken(raw)
    await raw.worker("a").poll()
    await raw.shard.schedule([row("later", at=now + 600), row("as late", at=now + 500)])
    assert not await woken(raw)
    await raw.shard.schedule([row("earlier", at=now + 400), row("earliest", at=now + 300)])
    assert await woken(raw)
    assert (await idle(raw))["until_ms"] == str(now + 300)
    await raw.shard.schedule([row("behind it", at=now + 350)])
    assert not await woken(raw)
    await raw.shard.schedule([row("elsewhere", at=now + 800, queue="other")])
    assert (await woken(raw), await woken(raw, "other")) == (False, True)


async def test_a_worker_that_leaves_due_work_behind_wakes_another(raw: Raw) -> None:
    await raw.shard.schedule([row("a"), row("b")])
    await woken(raw)
    reply = await raw.worker("w").poll(capacity=1)
    assert reply.more
    assert await woken(raw)


# -- what is kept ---------------------------------------------------------------------------------------------------


async def test_the_local_jobs_of_a_process_that_is_gone_end_dead_with_that_reason(raw: Raw) -> None:
    now = await raw.now()
    queue = "local:gone"
    rows = [row("closure", queue=queue, delay=HOUR), periodic("each", now + HOUR, now + 2 * HOUR, queue=queue)]
    await raw.shard.schedule(rows, owner="gone")
    await raw.worker("w").poll(heartbeat={})
    assert (await raw.due(queue)).keys() == {"closure", "each"}
    await raw.shard.leave("gone", b"\x90", keep=True)
    await raw.worker("w2").poll(heartbeat={})
    assert await raw.due(queue) == {}
    for name in ("closure", "each"):
        job = await raw.job(name)
        assert (job["state"], job["reason"]) == ("dead", "process_gone")
        assert ("dead", name, "process_gone") in await raw.events()
    assert "gone" not in await raw.scores(raw.keys.workers)


@pytest.mark.parametrize(
    ("overdue", "after", "span"),
    [
        (-HOUR, None, (HOUR, HOUR, 1)),
        (HOUR, HOUR + 1000, (-HOUR, -HOUR, 1)),
        (HOUR, 0, (-HOUR, -HOUR, 1)),
        (HOUR, 1000, (-HOUR, 0, None)),
        (HOUR, None, (-HOUR, 0, None)),
    ],
    ids=["none is overdue", "one", "the last one", "many", "perhaps many"],
)
async def test_the_overdue_fires_of_a_job_whose_process_is_gone_are_a_span(
    raw: Raw, overdue: int, after: int | None, span: tuple[int, int, int | None]
) -> None:
    now = await raw.freeze()
    queue = "local:gone"
    following = after and now - overdue + after
    await raw.shard.schedule([periodic("each", now - overdue, following, queue=queue)], owner="gone")
    if after == 0:
        await raw.command("HSET", raw.keys.job("each"), "after_ms", 0)
    await raw.command("ZADD", raw.keys.workers, 1, "gone")
    await raw.worker("w").poll(heartbeat={})
    [(_, first, last, count)] = await raw.spans("dead")
    assert (first, last, count) == (now + span[0], now + span[1], span[2])


async def test_a_retry_and_a_batch_whose_process_is_gone_say_their_fires_and_not_when_they_were_due(raw: Raw) -> None:
    now = await raw.freeze()
    queue = "local:gone"
    await raw.shard.schedule([periodic("each", now + HOUR, None, queue=queue), row("once", queue=queue)], owner="gone")
    await raw.command("HSET", raw.keys.job("once"), "fire_ms", now - 5000, "attempt", 1)
    run = f"each@{now - 1000}"
    fires = msgpack.packb([now - 3000, now - 1000])
    await raw.command("HSET", raw.keys.run(run), "job", "each", "fire_ms", now - 3000, "fires", fires, "queue", queue)
    await raw.command("SADD", raw.keys.waiting("each"), run)
    await raw.command("ZADD", raw.keys.due(queue), now + 500, run)
    await raw.command("ZADD", raw.keys.workers, 1, "gone")
    await raw.worker("w").poll(heartbeat={})
    assert set(await raw.spans("dead")) == {
        ("once", now - 5000, now - 5000, 1),
        ("each", now - 3000, now - 1000, 2),
        ("each", now + HOUR, now + HOUR, 1),
    }


async def test_dead_runs_are_capped_by_number_the_oldest_go_first(raw: Raw) -> None:
    worker = raw.worker("w")
    for number in range(5):
        await raw.shard.schedule([row(f"job{number}", tags=["t"])])
        claim = await worker.one()
        await worker.poll(claim.settled("dead", "task_failed"), capacity=0)
        await raw.shard.travel(ahead_ms=10)
    await worker.poll(heartbeat={})
    assert list(await raw.scores(raw.keys.dead)) == ["job2", "job3", "job4"]
    assert [name for name in await raw.names() if name.startswith("job:")] == ["job:job2", "job:job3", "job:job4"]
    assert sorted(await raw.command("SMEMBERS", raw.keys.tagged("t"))) == [b"job2", b"job3", b"job4"]


async def test_dead_runs_are_kept_for_their_age(raw: Raw) -> None:
    now = await raw.now()
    await raw.shard.schedule([row("once"), periodic("each", now, now + 9 * HOUR)])
    worker = raw.worker("w")
    claims = await worker.claim()
    await worker.poll(*(claim.settled("dead", "task_failed") for claim in claims), capacity=0)
    await raw.shard.travel(ahead_ms=HOUR - 60_000)
    await worker.poll(heartbeat={})
    assert len(await raw.scores(raw.keys.dead)) == 2
    await raw.shard.travel(ahead_ms=120_000)
    await worker.poll(heartbeat={})
    assert await raw.scores(raw.keys.dead) == {}
    assert [name for name in await raw.names() if name.split(":")[0] in ("job", "run")] == ["job:each"]


async def test_progress_is_kept_only_from_the_holder(raw: Raw) -> None:
    await raw.shard.schedule([row("job")])
    claim = await raw.worker("w").one()
    assert await raw.shard.progress("w", "job", claim.fence, {"done": 1})
    assert not await raw.shard.progress("w", "job", claim.fence - 1, {"done": 2})
    assert not await raw.shard.progress("other", "job", claim.fence, {"done": 2})


async def test_a_one_shot_job_that_is_done_leaves_nothing(raw: Raw) -> None:
    await raw.shard.schedule([row("job", tags=["t"]), row("plain")])
    worker = raw.worker("w")
    claims = await worker.claim()
    await worker.poll(*(claim.settled() for claim in claims), capacity=0)
    left = {name.split(":")[0] for name in await raw.names()}
    assert left <= {"clock", "events", "worker", "requests", "idle", "wake", "ended"}
    for name in await raw.names():
        if name not in ("clock", "events"):
            assert await raw.command("PTTL", raw.keys.tag + name) > 0, name


async def test_a_poll_asks_for_nothing_where_there_is_nothing(raw: Raw) -> None:
    reply = await raw.worker("w").poll()
    assert (reply.claims, reply.plans, reply.more) == ([], [], False)
    await raw.shard.commit("w", [], resend=ONCE)


async def test_a_run_asked_for_and_a_new_schedule_of_one_millisecond_are_two_runs(raw: Raw) -> None:
    await raw.freeze()
    await raw.shard.schedule([row("job", fields=["max_instances", 3])])
    worker = raw.worker("w")
    first = await worker.one()
    asked = await raw.shard.run("job")
    await raw.shard.schedule([row("job", "replace", fields=["max_instances", 3])])
    claims = (await worker.poll(capacity=5)).claims
    assert len({Claim.of(claim).run for claim in claims} | {first.run, asked}) == 3
    await check(raw.store)


async def test_a_run_asked_for_in_the_millisecond_of_a_fire_does_not_take_its_name(raw: Raw) -> None:
    now = await raw.freeze()
    await raw.shard.schedule([periodic("job", now, now + HOUR, fields=["max_instances", 3])])
    asked = await raw.shard.run("job")
    claims = (await raw.worker("w").poll(capacity=5)).claims
    assert {Claim.of(claim).run for claim in claims} == {f"job@{now}", asked}
    assert asked != f"job@{now}"
    await check(raw.store)
