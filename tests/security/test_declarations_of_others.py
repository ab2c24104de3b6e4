"""What another program wrote into the lists of declarations keeps no service from starting."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import msgpack
import pytest

from redsched import BackgroundTaskScheduler, JobSpec
from redsched.store.transitions import Shard
from redsched.testing import fresh_prefix

APP = "shop"


async def note() -> None:
    pass


@pytest.fixture
async def prefix(redsched_url: str) -> AsyncIterator[str]:
    name = fresh_prefix()
    yield name
    scheduler = BackgroundTaskScheduler(redsched_url, name, declared_tasks=False)
    await scheduler.clear_all_jobs()
    await scheduler.shutdown(wait=False)


def service(url: str, prefix: str) -> BackgroundTaskScheduler:
    scheduler = BackgroundTaskScheduler(url, prefix, declared_tasks=False, application=APP)
    scheduler.declared.append(JobSpec("hourly", note, interval=3600, job_id="hourly"))
    return scheduler


async def shard_of(scheduler: BackgroundTaskScheduler) -> Shard:
    return (await scheduler.store()).shards[0]


JUNK: dict[str, list[tuple[Any, ...]]] = {
    "a sign of life for ever": [("ZADD", "declarers:shop", "inf", "7:other")],
    "a sign of life of the future": [("ZADD", "declarers:shop", "1e308", "7:other")],
    "a sign of life before time": [("ZADD", "declarers:shop", "-inf", "7:other")],
    "a generation beyond numbers": [("ZADD", "declarers:shop", "NOW", "99999999999999999999:other")],
    "no generation": [("ZADD", "declarers:shop", "NOW", b"\xff\xfe")],
    "ids that are not a list": [
        ("ZADD", "declarers:shop", "NOW", "7:other"), ("HSET", "generations:shop", "ids 7", "junk"),
    ],
    "ids that are not texts": [
        ("ZADD", "declarers:shop", "NOW", "7:other"),
        ("HSET", "generations:shop", "ids 7", msgpack.packb(["x", [1, None, [2], {"a": 1}]])),
    ],
    "last is infinite": [("HSET", "generations:shop", "last", "inf")],
    "last is not a number": [("HSET", "generations:shop", "last", b"\xff")],
    "last is the largest": [("HSET", "generations:shop", "last", "9223372036854775807")],
    "an entry that is not a map": [("HSET", "declared:shop", "hourly", b"\xc1")],
    "an entry of other types": [
        ("HSET", "declared:shop", "hourly", msgpack.packb({"generation": "x", "digest": 1, "schedule": 2})),
        ("HSET", "declared:shop", "gone", msgpack.packb(
            {"generation": 1, "digest": b"d", "schedule": b"s", "gone_ms": float("inf")}, use_bin_type=False)),
    ],
    "declarers is a string": [("SET", "declarers:shop", "x")],
    "generations is a string": [("SET", "generations:shop", "x")],
    "declared is a list": [("RPUSH", "declared:shop", "x")],
    "applications is a string": [("SET", "applications", "x")],
}  # fmt: skip


@pytest.mark.parametrize("again", [False, True], ids=["before the first start", "between two"])
@pytest.mark.parametrize("what", JUNK)
async def test_a_service_starts_and_its_job_is_stored(what: str, again: bool, redsched_url: str, prefix: str) -> None:
    if again:
        async with service(redsched_url, prefix):
            pass
    writer = BackgroundTaskScheduler(redsched_url, prefix, declared_tasks=False)
    shard = await shard_of(writer)
    for command, name, *rest in JUNK[what]:
        key = shard.keys.tag + name
        if command in ("SET", "RPUSH"):
            await shard.link.command("DEL", key)
        values = [await shard.travel() if value == "NOW" else value for value in rest]
        await shard.link.command(command, key, *values)
    async with service(redsched_url, prefix) as scheduler:
        [job] = scheduler.declared_jobs
        assert job.status in ("added", "kept", "updated", "over"), job
        assert job.generation >= 1
        assert await scheduler.get_job("hourly") is not None
    await writer.shutdown(wait=False)
