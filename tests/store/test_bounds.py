"""History is bounded by bytes, whatever the entries hold."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from typing import Any

import pytest
import redis

from redsched.store.queries import clear
from redsched.store.store import Store
from redsched.store.transitions import Limits
from redsched.testing import fresh_prefix
from tests.invariants import check
from tests.servers import LocalServer
from tests.store.raw import LIMITS, Raw, periodic, row

KIB = 1024


@pytest.fixture(scope="module")
def server() -> Iterator[LocalServer]:
    with LocalServer() as own:
        yield own


@pytest.fixture
async def client(server: LocalServer) -> AsyncIterator[redis.Redis]:
    client = server.client()
    yield client
    client.close()


async def raw_with(server: LocalServer, limits: Limits) -> Raw:
    return Raw(Store(server.url, fresh_prefix(), limits=limits))


async def close(raw: Raw) -> None:
    await clear(raw.store)
    await raw.store.close()


@pytest.mark.parametrize("sizes", [[200 * KIB], [10], [200 * KIB] * 5 + [10] * 400, [10] * 400 + [200 * KIB] * 5])
async def test_the_events_take_no_more_bytes_than_they_may(
    server: LocalServer, client: redis.Redis, sizes: list[int]
) -> None:
    limit = 1024 * KIB
    raw = await raw_with(server, replace(LIMITS, events_max_bytes=limit, events_max=1_000_000))
    worker = raw.worker("w")
    largest = 0
    for turn in range(8):
        for size in sizes * (10 if len(sizes) == 1 and size_is_large(sizes) else 800 // len(sizes)):
            await worker.poll(["gone", 1, "done", 0, 1, 0, 0, "x" * size, False, 0, False, False, 0], capacity=0)
        largest = max(largest, int(client.memory_usage(raw.keys.events, samples=0) or 0))
        assert largest <= 1.3 * limit, f"turn {turn}"
    kept = int(client.xlen(raw.keys.events))
    assert largest > limit // 2, "it keeps what it may"
    assert kept > 1
    await close(raw)


def size_is_large(sizes: list[int]) -> bool:
    return sizes[0] > KIB


@pytest.mark.parametrize("kind", ["once", "periodic"])
async def test_the_dead_take_no_more_bytes_than_they_may_however_fast_they_die(
    server: LocalServer, client: redis.Redis, kind: str
) -> None:
    limit = 2000 * KIB
    raw = await raw_with(server, replace(LIMITS, dead_max=1_000_000, dead_max_bytes=limit))
    worker = raw.worker("w")
    for turn in range(12):
        now = await raw.now()
        record = b"r" * (100 * KIB if turn % 2 else 20 * KIB)
        ids = [f"job-{turn}-{number}" for number in range(30)]
        once = kind == "once"
        await raw.shard.schedule(
            [row(one, record=record) if once else periodic(one, now, 0, record=record) for one in ids]
        )
        claims = await worker.claim(capacity=30)
        assert len(claims) == 30
        rows = [claim.settled("dead", error="no") for claim in claims]
        deaths: list[Any] = [part for claim in claims for part in (claim.run, "no", "t" * 8 * KIB)]
        await worker.poll(*rows, deaths=deaths, capacity=0)
        await check(raw.store)
        kept = [*client.keys(raw.keys.job("*")), *client.keys(raw.keys.run("*"))]
        used = sum(int(client.memory_usage(key, samples=0) or 0) for key in kept)
        assert used < 1.3 * limit, f"turn {turn}: {used:,} bytes are used"
    left = list(await raw.scores(raw.keys.dead))
    assert left
    assert all(run.startswith("job-11") for run in left), "the oldest go first"
    await close(raw)


async def test_bytes_of_the_dead_are_given_back_by_whatever_ends_them(server: LocalServer) -> None:
    raw = await raw_with(server, replace(LIMITS, dead_max=100))
    worker = raw.worker("w")

    async def die(job_id: str) -> str:
        await raw.shard.schedule([row(job_id, record=b"r" * KIB)])
        claim = await worker.one()
        await worker.poll(claim.settled("dead", error="no"), capacity=0)
        return claim.run

    for number in range(5):
        await die(f"job{number}")
    counted = await raw.command("HGET", raw.keys.clock, "dead_bytes")
    assert int(counted) >= 5 * KIB
    await raw.shard.requeue(["job0"])
    await check(raw.store)
    await raw.shard.cancel(ids=["job1"])
    await check(raw.store)
    await raw.shard.schedule([row("job2", "replace", delay=9_000)])
    await check(raw.store)
    await raw.shard.travel(ahead_ms=LIMITS.dead_age_ms + 1)
    await worker.poll(heartbeat={}, capacity=0)
    await check(raw.store)
    assert int(await raw.command("HGET", raw.keys.clock, "dead_bytes")) == 0
    await close(raw)


async def test_what_an_older_version_did_not_count_ends_all_the_same(server: LocalServer) -> None:
    raw = await raw_with(server, replace(LIMITS, dead_max=100, dead_max_bytes=10 * KIB))
    worker = raw.worker("w")
    await raw.command("HSET", raw.keys.job("old"), "record", b"r" * 9 * KIB, "state", "dead")
    await raw.command("ZADD", raw.keys.dead, 1, "old")
    await raw.command("HSET", raw.keys.clock, "dead_bytes", 1_000_000)  # as if an older one had forgotten some
    await worker.poll(heartbeat={})
    assert await raw.scores(raw.keys.dead) == {}
    await worker.poll(heartbeat={})
    await raw.shard.schedule([row("new", record=b"r" * KIB)])
    claim = await worker.one()
    await worker.poll(claim.settled("dead", error="no"), heartbeat={})
    assert list(await raw.scores(raw.keys.dead)) == ["new"], "with none left, it counts from zero"
    await check(raw.store)
    await close(raw)
