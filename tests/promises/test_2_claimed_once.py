"""Promise 2: a fire time is claimed by exactly one worker, and run again only for a reason."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

from redsched import BackgroundTaskScheduler, JobSpec
from redsched.testing import Kit

ran: list[Any] = []


async def effect(value: Any) -> None:
    ran.append(value)


async def test_a_hundred_periodic_jobs_on_three_workers_fire_once_for_each_fire_time(redsched_kit: Kit) -> None:
    ran.clear()
    first = redsched_kit.scheduler
    others = [BackgroundTaskScheduler(first.redis_url, first.prefix, declared_tasks=False) for _ in range(2)]
    fleet = [first, *others]
    for scheduler in fleet:
        scheduler.register(effect)
        await scheduler.start()
    await first.schedule_many([JobSpec("tick", effect, interval=0.25, args=[n], max_runs=10) for n in range(100)])
    await redsched_kit.wait_for("done", count=1000, timeout=20)
    for scheduler in others:
        await scheduler.shutdown()
    fires = Counter((e.job_id, e.fire_time) for e in redsched_kit.events if e.kind == "done")
    assert len(fires) == 1000
    assert set(fires.values()) == {1}
    assert Counter(ran) == dict.fromkeys(range(100), 10)
    workers = Counter(e.worker for e in redsched_kit.events if e.kind == "done")
    assert sum(workers.values()) == 1000


async def test_a_run_of_at_most_once_is_not_started_again_when_its_worker_dies(redsched_kit: Kit) -> None:
    ran.clear()
    scheduler = redsched_kit.scheduler
    handle = await scheduler.schedule_immediate_task("once", effect, args=[1], delivery="at_most_once")
    shard = (await scheduler.store()).shards[0]
    # A worker that claims and is never heard of again.
    from redsched.store.transitions import PollRequest
    from redsched.store.wire import Resend

    dead = scheduler.make_worker()
    reply = await shard.poll("dead", dead.packed_queues, PollRequest(1, 10), resend=Resend(1))
    assert len(reply.claims) == 1
    # The testing kit's travel moves leases along, so this lease is ended by hand.
    await shard.link.command("ZADD", shard.keys.leases, 1, handle.id)
    assert await redsched_kit.run_due() == 0
    result = await handle.result(timeout=5)
    assert (result.outcome, result.reason) == ("dead", "at_most_once")
    assert ran == []


async def test_two_that_poll_at_the_same_time_share_what_is_due(redsched_kit: Kit) -> None:
    scheduler = redsched_kit.scheduler
    await scheduler.schedule_many([JobSpec("effect", effect, args=[n]) for n in range(100)])
    shard = (await scheduler.store()).shards[0]
    from redsched.store.link import Link
    from redsched.store.transitions import PollRequest, Shard
    from redsched.store.wire import Resend

    links = [Link(scheduler.redis_url) for _ in range(4)]
    shards = [Shard(link, scheduler.prefix, 0, shard.limits) for link in links]
    queues = scheduler.make_worker().packed_queues
    replies = await asyncio.gather(
        *(each.poll(f"w{n}", queues, PollRequest(1, 40), resend=Resend(1)) for n, each in enumerate(shards))
    )
    ids = [row[0] for reply in replies for row in reply.claims]
    fences = [row[1] for reply in replies for row in reply.claims]
    assert len(ids) == len(set(ids)) == 100
    assert len(set(fences)) == 100
    for link in links:
        await link.close()
