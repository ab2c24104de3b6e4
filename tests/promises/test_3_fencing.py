"""Promise 3: tokens only grow, and a worker that lost the lease can neither settle, retry, report nor reschedule."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from redsched import RunLostError, current_run
from redsched.testing import Kit
from tests.invariants import check
from tests.store.raw import Claim, Raw, periodic, row

tokens: list[int] = []


async def notes_its_token() -> None:
    tokens.append(current_run().fencing_token)


@pytest.fixture
async def raw(redsched_kit: Kit) -> AsyncIterator[Raw]:
    made = Raw(await redsched_kit.scheduler.store())
    yield made
    await check(made.store)


async def lost(raw: Raw) -> tuple[Any, Claim, Claim]:
    """A worker whose lease ended, with what it claimed, and what another holds of the same run now."""
    await raw.shard.schedule([row("job")])
    stale = raw.worker("stale")
    claim = await stale.one()
    await raw.command("ZADD", raw.keys.leases, 1, "job")
    other = await raw.worker("other").one()
    assert (other.run, other.attempt) == ("job", 2)
    return stale, claim, other


@pytest.mark.parametrize("verb", ["done", "retry", "dead", "missed", "cancelled", "released", "postponed"])
async def test_a_worker_that_lost_its_lease_cannot_say_how_the_run_ended(raw: Raw, verb: str) -> None:
    stale, claim, other = await lost(raw)
    before = await raw.job("job")
    reply = await stale.poll(claim.settled(verb, "task_failed", delay_ms=1), capacity=0)
    assert reply.refused == [b"job"]
    after = await raw.job("job")
    for fields in (before, after):
        for name in ("recoveries", "lost", "excused"):  # that it is back says that it did not die
            fields.pop(name, None)
    assert after == before
    assert (await raw.worker("other").poll(other.settled("done"), capacity=0)).refused == []
    assert await raw.job("job") == {}


async def test_a_worker_that_lost_its_lease_is_told_so_when_it_renews(raw: Raw) -> None:
    stale, claim, _ = await lost(raw)
    lease = await raw.command("ZSCORE", raw.keys.leases, "job")
    reply = await stale.poll(capacity=0, held=[claim])
    assert reply.lost == [b"job"]
    assert await raw.command("ZSCORE", raw.keys.leases, "job") == lease


async def test_a_worker_that_lost_its_lease_cannot_report_progress(raw: Raw) -> None:
    _, claim, other = await lost(raw)
    assert not await raw.shard.progress("stale", "job", claim.fence, 50)
    assert await raw.shard.progress("other", "job", other.fence, 60)


async def test_the_same_token_from_another_worker_is_refused(raw: Raw) -> None:
    """As after a failover that rolled the counter back and gave out a token twice."""
    _, _, other = await lost(raw)
    reply = await raw.worker("thief").poll(other.settled("done"), capacity=0)
    assert reply.refused == [b"job"]


async def test_a_plan_made_from_a_lost_claim_is_refused(raw: Raw) -> None:
    now = await raw.now()
    await raw.shard.schedule([periodic("each", now, None)])
    [stale] = (await raw.worker("stale").poll()).plans
    await raw.command("ZADD", raw.keys.due("default"), 1, "each")  # its time to plan is over
    [fresh] = (await raw.worker("other").poll()).plans
    plan = [[now], now + 3_600_000, -1, False, False, False, False, False]
    from tests.store.raw import ONCE

    assert await raw.shard.commit("stale", [["each", stale[1], *plan]], resend=ONCE) == (["STALE"], [])
    assert await raw.shard.commit("other", [["each", fresh[1], *plan]], resend=ONCE) == (["started"], [])


async def test_tokens_grow_from_run_to_run_and_are_in_the_tasks_context(redsched_kit: Kit) -> None:
    tokens.clear()
    for _ in range(5):
        await redsched_kit.scheduler.schedule_immediate_task("a", notes_its_token)
        await redsched_kit.run_due()
    assert tokens == sorted(set(tokens))
    assert len(tokens) == 5


async def test_a_task_that_reports_progress_without_a_lease_is_told(redsched_kit: Kit) -> None:
    told: list[str] = []
    store = await redsched_kit.scheduler.store()
    shard = store.shards[0]

    async def reports() -> None:
        run = current_run()
        await shard.link.command("HSET", shard.keys.job(run.job_id), "owner", "another")
        try:
            await run.report_progress(1)
        except RunLostError:
            told.append(run.job_id)

    redsched_kit.scheduler.register(reports, name="reports")
    handle = await redsched_kit.scheduler.schedule_immediate_task("a", reports)
    await redsched_kit.run_due()
    assert told == [handle.id]
    worker = redsched_kit._worker
    assert worker is not None
    assert worker.refused == 1
