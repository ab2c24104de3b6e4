"""The checker of invariants sees what is broken, and nothing where nothing is."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from redsched.store.queries import clear
from redsched.store.store import Store
from redsched.testing import fresh_prefix
from tests.invariants import check
from tests.store.raw import HOUR, LIMITS, Raw, periodic, row


@pytest.fixture
async def raw(redsched_url: str) -> AsyncIterator[Raw]:
    store = Store(redsched_url, fresh_prefix(), limits=LIMITS)
    yield Raw(store)
    await clear(store)
    await store.close()


async def some_of_each(raw: Raw) -> None:
    """Jobs and runs in every state."""
    now = await raw.freeze()
    rows = [row(name, tags=["t"]) for name in ("runs", "dies", "waits")]
    await raw.shard.schedule([*rows, periodic("each", now, now + HOUR), periodic("plan", now, None)])
    worker = raw.worker("w")
    by_id = {claim.run: claim for claim in await worker.claim(heartbeat={})}
    await worker.poll(
        by_id["dies"].settled("dead", "task_failed"),
        by_id["waits"].settled("retry", "task_failed", delay_ms=HOUR),
        results=["dies", b"result", 60_000],
        capacity=0,
    )
    await raw.shard.schedule([row("unknown")])
    unknown = await worker.one()
    await worker.poll([*unknown.settled("postponed"), "task:task"], capacity=0)
    await raw.shard.schedule([row("due", delay=HOUR), row("paused", delay=None)])
    await raw.shard.run("each")
    await raw.shard.cancel(ids=["runs"])


async def test_a_shard_in_use_is_as_it_should_be(raw: Raw) -> None:
    await some_of_each(raw)
    await check(raw.store)


@pytest.mark.parametrize(
    ("command", "complaint"),
    [
        (["SET", "{}result:x", "y"], "result:x has neither an owner nor a TTL"),
        (["SET", "{}nonsense", "y"], "nobody knows the key nonsense"),
        (["HSET", "{}job:x", "version", 1], "job x has no record"),
        (["ZREM", "{}due:default", "due"], "nothing will ever run or end job due"),
        (["HSET", "{}job:due", "fence", 1], "job due is due and running"),
        (["HSET", "{}job:due", "state", "paused"], "job due is paused and due"),
        (["HDEL", "{}job:each", "next_ms"], "periodic job each is due, but not known when"),
        (["DEL", "{}leases"], "is live without a lease"),
        (["DEL", "{}live:each"], "holds a token, but is not live"),
        (["DEL", "{}waiting:each"], "neither runs nor waits"),
        (["DEL", "{}due:default"], "waits, but is not due"),
        (["DEL", "{}parked:task:task default"], "nothing will ever run or end job unknown"),
        (["DEL", "{}parked:task:task default"], "unknown says that it is parked, but is not"),
        (["DEL", "{}parking"], "the place task:task default is not listed"),
        (["HDEL", "{}job:unknown", "parked"], "unknown is parked in task:task default, but does not say so"),
        (["HSET", "{}job:unknown", "state", "paused"], "unknown is parked, and paused"),
        (["ZADD", "{}due:default", 1, "unknown"], "unknown is parked and due"),
        (["ZADD", "{}parked:task:task default", 1, "nobody"], "nobody is parked, but does not exist"),
        (["DEL", "{}dead"], "job dies is dead, but not among the dead"),
        (["DEL", "{}job:dies"], "dies is among the dead, but is not dead"),
        (["SADD", "{}tag:t", "nobody"], "tag t names nobody, which does not exist"),
        (["ZADD", "{}due:other", 1, "nobody"], "nobody is due in other, but does not exist"),
    ],
)
async def test_what_is_broken_is_named(raw: Raw, command: list[Any], complaint: str) -> None:
    await some_of_each(raw)
    name, key, *rest = command
    await raw.command(name, key.format(raw.keys.tag) if "{}" in key else key, *rest)
    with pytest.raises(AssertionError) as caught:
        await check(raw.store)
    assert complaint in str(caught.value)
