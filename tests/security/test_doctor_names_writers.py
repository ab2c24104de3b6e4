"""`redsched doctor` says that somebody else writes to the keys, and what."""

from __future__ import annotations

from typing import Any

import msgpack
import pytest

from redsched import BackgroundTaskScheduler, Finding, PayloadSecurity
from redsched.testing import Kit


async def note() -> None:
    pass


async def found(kit: Kit) -> Finding:
    [finding] = [one for one in await kit.scheduler.examine_server() if one.check == "writers"]
    return finding


async def test_where_only_redsched_writes_nothing_is_named(redsched_kit: Kit) -> None:
    scheduler = redsched_kit.scheduler
    scheduler.register(note)
    await scheduler.schedule_immediate_task("now", note, retry=None)
    await scheduler.schedule_delayed_task("later", note, delay_minutes=99)
    await scheduler.schedule_interval("hourly", note, hours=1)
    await scheduler.make_worker().run_once()
    await redsched_kit.advance(hours=2)
    finding = await found(redsched_kit)
    assert (finding.level, finding.advice) == ("ok", ""), finding.message


WRITES: dict[str, tuple[Any, ...]] = {
    "quarantine:due:default": ("SET", "quarantine:due:default", "x"),
    "clock: now_us": ("HSET", "clock", "now_us", "inf"),
    "clock: fence": ("HSET", "clock", "fence", 2**53),
    "clock: offset_ms": ("HSET", "clock", "offset_ms", "nan"),
    "clock: dead_bytes": ("HSET", "clock", "dead_bytes", "-1"),
    "clock: outcomes": ("HSET", "clock", "outcomes", "1e308"),
    "workers: the score of w is not an instant": ("ZADD", "workers", "inf", "w"),
    "leases: the score of a is not an instant": ("ZADD", "leases", "1e308", "a"),
    "dead: the score of a is not an instant": ("ZADD", "dead", "-inf", "a"),
    "due:default: the score of a is not an instant": ("ZADD", "due:default", "inf", "a"),
    "worker:w: info": ("HSET", "worker:w", "info", b"\xc1"),
    "worker:w: sequence": ("HSET", "worker:w", "sequence", "inf"),
    "worker:w: vouched_ms": ("HSET", "worker:w", "vouched_ms", "inf"),
    "job:a: next_ms": ("HSET", "job:a", "record", "r", "next_ms", "inf"),
    "job:a: max_instances": ("HSET", "job:a", "record", "r", "max_instances", "nan"),
    "run:a@1: attempt": ("HSET", "run:a@1", "attempt", "-1"),
    "circuit:c: open_until": ("HSET", "circuit:c", "open_until", "inf"),
    "circuit:c: t:x": ("HSET", "circuit:c", "t:x", "nan"),
    "idle:default: until_ms": ("HSET", "idle:default", "until_ms", "inf"),
    "requests:c: 7": ("HSET", "requests:c", "7", b"\xc1"),
    "ended:1: a": ("HSET", "ended:1", "a", b"\xc1"),
    "declared:app: a": ("HSET", "declared:app", "a", "x"),
    "generations:app: last": ("HSET", "generations:app", "last", "inf"),
    "job:a: foreign": ("HSET", "job:a", "foreign", "1"),
    "job:a: its record cannot be read": ("HSET", "job:a", "record", b"\xc1"),
    "tag:t: \\xff is not an id": ("SADD", "tag:t", b"\xff"),
    "live:a: \x00 is not an id": ("ZADD", "live:a", "1", b"\x00"),
    "workers: a string, where redsched keeps a zset": ("SET", "workers", "x"),
    "events: a list, where redsched keeps a stream": ("RPUSH", "events", "x"),
    "events: 1 of the newest": ("XADD", "events", "*", "at", "1", "by", "w", "moved", msgpack.packb([[[]]])),
}


@pytest.mark.parametrize("told", WRITES)
async def test_what_another_wrote_is_named(told: str, redsched_kit: Kit) -> None:
    [shard] = (await redsched_kit.scheduler.store()).shards
    command, name, *rest = WRITES[told]
    await shard.link.command(command, shard.keys.tag + name, *rest)
    finding = await found(redsched_kit)
    assert finding.level == "error"
    assert "another program writes here" in finding.message
    assert told in finding.message
    assert "docs/security.md" in finding.advice


async def test_a_job_that_is_not_signed_is_named_to_who_has_the_keys(redsched_kit: Kit) -> None:
    planted, url = redsched_kit.scheduler, redsched_kit.scheduler.redis_url
    planted.register(note)
    await planted.schedule_delayed_task("planted", note, delay_minutes=9, job_id="planted")
    assert (await found(redsched_kit)).level == "ok"
    security = PayloadSecurity(["k" * 32])
    async with BackgroundTaskScheduler(
        url, planted.prefix, payload_security=security, declared_tasks=False
    ) as scheduler:
        [finding] = [one for one in await scheduler.examine_server() if one.check == "writers"]
    assert "job:planted: its record cannot be read" in finding.message
    assert "not signed" in finding.message
