"""What another program wrote into the lists of declarations keeps no service from starting."""

from __future__ import annotations

import tracemalloc
from collections.abc import AsyncIterator, Callable
from typing import Any

import msgpack
import pytest

from redsched import BackgroundTaskScheduler, JobSpec, RedschedError, schedule_task
from redsched.declarations.definition import Entry, unpack_parts
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


# -- junk in the fields of a declared job ------------------------------------------------------------------------------

FIELDS = [
    "version", "runs_left", "max_runs", "next_ms", "after_ms", "paused_ms", "paused_from", "parts", "modified",
    "application", "generation", "declared", "queue", "tags", "record", "state", "fire_ms", "periodic",
]  # fmt: skip
VALUES = [b"", b"\xff\xfe", b"inf", b"-1", b"9" * 5000, b"9007199254740993", b"\x91" * 3000 + b"\xc0"]


def declared_as(how: str, url: str, prefix: str) -> BackgroundTaskScheduler:
    scheduler = BackgroundTaskScheduler(url, prefix, declared_tasks=False, application=APP)
    name, aliases = ("renamed", ["hourly"]) if how == "renamed" else ("hourly", [])
    every = 7200 if how == "changed" else 3600

    async def task() -> None:
        pass

    schedule_task(scheduler=scheduler, name=name, aliases=aliases, interval=every, max_runs=5)(task)
    return scheduler


@pytest.mark.parametrize("how", ["unchanged", "changed", "renamed"])
@pytest.mark.parametrize("field", FIELDS)
async def test_no_field_of_a_declared_job_keeps_it_from_being_stored(
    field: str, how: str, redsched_url: str, prefix: str
) -> None:
    writer = BackgroundTaskScheduler(redsched_url, prefix, declared_tasks=False)
    shard = await shard_of(writer)
    for value in VALUES:
        async with declared_as("unchanged", redsched_url, prefix):
            pass
        await shard.link.command("HSET", shard.keys.job("hourly"), field, value)
        async with declared_as(how, redsched_url, prefix) as scheduler:
            [job] = scheduler.declared_jobs
            assert job.status in ("added", "kept", "updated", "over", "renamed"), (value[:20], job)
        await writer.clear_all_jobs()
    await writer.shutdown(wait=False)


ENTRIES: dict[str, Any] = {
    "is not a row": {"row": 7},
    "has too few parts": {"row": [b"default", 1]},
    "has texts for lists": {"row": [b"default", 1, b"record", b"fields", b"tags"]},
    "has a field without a value": {"row": [b"default", 1, b"record", [b"a"], []]},
    "has numbers for texts": {"row": [1, 1, 1, [1, 1], [1]]},
    "is due beyond time": {"row": [b"default", 2**63, b"record", [b"a", b"b"], []]},
    "has another name": {"other": 1},
    "nests too deep": {"row": msgpack.unpackb(b"\x91" * 200 + b"\xc0")},
}
"""What lies where a job was kept that is being renamed."""


@pytest.mark.parametrize("what", ENTRIES)
async def test_no_job_that_seems_to_be_renamed_keeps_another_from_being_stored(
    what: str, redsched_url: str, prefix: str
) -> None:
    entry = {
        "generation": 1,
        "digest": b"d",
        "schedule": b"s",
        "state": b"moved",
        "to": b"renamed",
        "job": ENTRIES[what],
    }
    packed = msgpack.packb(entry, use_bin_type=False)
    assert Entry.unpack(packed) is None
    writer = BackgroundTaskScheduler(redsched_url, prefix, declared_tasks=False)
    shard = await shard_of(writer)
    await shard.link.command("HSET", shard.keys.declared(APP), "hourly", packed)
    async with declared_as("renamed", redsched_url, prefix) as scheduler:
        assert [job.status for job in scheduler.declared_jobs] == ["added"]
    await writer.shutdown(wait=False)


def test_an_entry_costs_no_memory_beyond_its_length() -> None:
    """A megabyte of empty maps, which would take 64 MB, and a hundred thousand lists within each other."""
    for junk in (b"\xdd" + (1_000_000).to_bytes(4, "big") + b"\x80" * 1_000_000, b"\x91" * 100_000 + b"\xc0"):
        tracemalloc.start()
        assert Entry.unpack(junk) is None
        assert unpack_parts(junk) is None
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert most < 16_000_000


@pytest.mark.parametrize("field", FIELDS)
async def test_no_field_of_a_job_makes_a_call_raise_what_is_not_ours(
    field: str, redsched_url: str, prefix: str
) -> None:
    """And none says that the job is being changed by others all the time."""
    client = BackgroundTaskScheduler(redsched_url, prefix, declared_tasks=False)
    shard = await shard_of(client)
    calls: list[Callable[[str], Any]] = [
        lambda name: client.modify_job(name, tags=["t"], max_runs=None), client.pause_job, client.resume_job,
        lambda name: client.reschedule_job(name, interval=60), client.run_now, client.get_job,
        lambda name: client.schedule_interval(name, note, seconds=60, job_id=name, replace_existing="update"),
        client.remove_job,
    ]  # fmt: skip
    for value in VALUES:
        await client.schedule_interval("often", note, seconds=60, job_id="often", max_runs=3, tags=["a"])
        await client.schedule_delayed_task("once", note, 60, job_id="once")
        for call in calls:
            for name in ("often", "once"):
                if await shard.link.command("EXISTS", shard.keys.job(name)):
                    await shard.link.command("HSET", shard.keys.job(name), field, value)
                try:
                    await call(name)
                except RedschedError as error:
                    assert "all the time" not in str(error)
        await client.clear_all_jobs()
    await client.shutdown(wait=False)


@pytest.mark.parametrize("score", ["inf", "-inf", "1e308", "1.5"])
async def test_a_job_that_is_due_at_no_instant_can_be_changed(score: str, redsched_url: str, prefix: str) -> None:
    client = BackgroundTaskScheduler(redsched_url, prefix, declared_tasks=False)
    shard = await shard_of(client)
    await client.schedule_delayed_task("once", note, 60, job_id="once")
    await shard.link.command("ZADD", shard.keys.due("default"), score, "once")
    job = await client.reschedule_job("once", interval=60)
    assert job is not None and job.schedule.startswith("every")
    await client.shutdown(wait=False)
