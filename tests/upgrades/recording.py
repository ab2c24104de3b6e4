"""Writes down what is in Redis of one prefix, and puts it back: `python -m tests.upgrades.recording NAME`.

Makes tests/upgrades/recorded/NAME.json with jobs of every kind, as the redsched of this checkout stores them. It is run
once for each version whose data differs, and its files are never made again: they are what later versions must read.
"""

from __future__ import annotations

import asyncio
import base64
import json
import sys
import uuid
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

from redsched import (
    AnyOf,
    BackgroundTaskScheduler,
    CronSchedule,
    DateSchedule,
    IntervalSchedule,
    PayloadSecurity,
    RetryPolicy,
    __version__,
)
from redsched.store.store import Store
from redsched.store.transitions import PollRequest
from redsched.store.wire import Resend
from tests.servers import LocalServer
from tests.upgrades import tasks

FOLDER = Path(__file__).parent / "recorded"
PREFIX = "recorded"
KEY = "the key of the recorded jobs, which is no secret"
ARGUMENTS = [
    1, 2.5, "Ä", b"\x00", None, True, [1, {"a": 2}], datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC), date(2026, 1, 2),
    timedelta(hours=1), uuid.UUID(int=7), Decimal("1.50"),
]  # fmt: skip


def security(*, encrypt: bool = False) -> PayloadSecurity:
    return PayloadSecurity([KEY], encrypt=encrypt, accept_unsigned=True)


async def fill(url: str) -> None:
    """Jobs of every kind, in every state."""
    plain = BackgroundTaskScheduler(url, PREFIX, declared_tasks=False)
    plain.register(tasks.effect)
    plain.register(tasks.fails)
    later = {"delay_minutes": 30}
    await plain.schedule_delayed_task("plain", tasks.effect, **later, job_id="plain", args=["plain"])
    await plain.schedule_delayed_task(
        "types", tasks.effect, **later, job_id="types", tags=["t"],
        args=["types", *ARGUMENTS], kwargs={"more": ARGUMENTS},
    )  # fmt: skip
    await plain.schedule_delayed_task(
        "options", tasks.effect, **later, job_id="options", args=["options"], queue="second", tags=["t", "u"],
        timeout=60, retry=RetryPolicy(max_attempts=3, initial_delay=2), delivery="at_most_once", result_ttl=1000,
        max_recoveries=7, misfire_grace_time=10**6, executor="threadpool", timezone="Europe/Berlin", coalesce=False,
    )  # fmt: skip
    await plain.schedule_cron(
        "cron", tasks.effect, "*/20 * * * *", job_id="cron", args=["cron"], timezone="Europe/Berlin"
    )
    await plain.schedule_interval(
        "interval", tasks.effect, minutes=50, job_id="interval", args=["interval"], max_runs=1
    )
    await plain.schedule(
        "any", tasks.effect,
        AnyOf((CronSchedule("30 4 * * *"), IntervalSchedule(3_000_000, 0), DateSchedule(4_000_000_000_000))),
        job_id="any", args=["any"],
    )  # fmt: skip
    await plain.schedule_at("paused", tasks.effect, "2100-01-01T00:00:00Z", job_id="paused", args=["paused"])
    await plain.pause_job("paused")
    await plain.schedule_immediate_task("dead", tasks.fails, job_id="dead", args=["dead"])
    await plain.schedule_immediate_task(
        "done", tasks.effect, job_id="done", args=["done"], result_ttl=timedelta(days=1)
    )
    again = RetryPolicy(max_attempts=2, initial_delay=1200)
    await plain.schedule_immediate_task("retried", tasks.fails, job_id="retried", args=["retried"], retry=again)
    await plain.store()
    await plain.make_worker().run_once()
    for name, encrypt in (("signed", False), ("encrypted", True)):
        sealed = BackgroundTaskScheduler(url, PREFIX, declared_tasks=False, payload_security=security(encrypt=encrypt))
        await sealed.schedule_delayed_task(name, tasks.effect, **later, job_id=name, args=[name])
        await sealed.shutdown()
    # Held by a worker that died: a one-shot job and a fire of a periodic one.
    await plain.schedule_immediate_task("held", tasks.effect, job_id="held", args=["held"])
    await plain.schedule_interval("often", tasks.effect, minutes=40, job_id="often", args=["often"])
    await plain.run_now("often")
    shard = (await plain.store()).shards[0]
    poll = PollRequest(
        1, 10, heartbeat={"host": "gone", "pid": 1, "queues": ["default"], "concurrency": 1, "tasks": []}
    )
    await shard.poll("a-worker-that-died", b"\x91\xa7default", poll, resend=Resend(0.0))
    await plain.shutdown()


async def write_down(store: Store) -> dict[str, Any]:
    """Every key with its type, content and time to live."""
    shard = store.shards[0]
    ask = shard.link.command
    keys: dict[str, Any] = {}
    for key in sorted(await ask("KEYS", shard.keys.every())):
        kind = (await ask("TYPE", key)).decode()
        read = {
            "hash": ("HGETALL", key), "zset": ("ZRANGE", key, 0, -1, "WITHSCORES"), "set": ("SMEMBERS", key),
            "list": ("LRANGE", key, 0, -1), "string": ("GET", key), "stream": ("XRANGE", key, "-", "+"),
        }[kind]  # fmt: skip
        content = await ask(*read)
        keys[key.decode()] = {"type": kind, "content": _text(content), "ttl_ms": await ask("PTTL", key)}
    return keys


def _text(content: Any) -> Any:
    return base64.b64encode(content).decode() if isinstance(content, bytes) else [_text(part) for part in content]


def _bytes(content: Any) -> Any:
    return base64.b64decode(content) if isinstance(content, str) else [_bytes(part) for part in content]


async def put_back(store: Store, recorded: dict[str, Any]) -> None:
    """Restore a recording, with the scheduler's time at the instant at which it was made."""
    shard = store.shards[0]
    ask = shard.link.command
    for name, stored in recorded["keys"].items():
        key = name.replace(f"{{{PREFIX}:0}}:", shard.keys.tag)
        content = _bytes(stored["content"])
        match stored["type"]:
            case "hash":
                await ask("HSET", key, *content)
            case "zset":
                pairs = zip(content[1::2], content[::2], strict=True)
                await ask("ZADD", key, *(part for pair in pairs for part in pair))
            case "set":
                await ask("SADD", key, *content)
            case "list":
                await ask("RPUSH", key, *content)
            case "string":
                await ask("SET", key, content)
            case _:
                for entry_id, fields in content:
                    await ask("XADD", key, entry_id, *fields)
        if stored["ttl_ms"] > 0:
            await ask("PEXPIRE", key, stored["ttl_ms"])
    seconds, _ = map(int, await ask("TIME"))
    now_us = int(await ask("HGET", shard.keys.clock, "now_us"))
    await ask("HSET", shard.keys.clock, "offset_ms", now_us // 1000 - seconds * 1000)


async def record(name: str) -> None:
    with LocalServer() as server:
        await fill(server.url)
        store = Store(server.url, PREFIX)
        keys = await write_down(store)
        await store.close()
    path = FOLDER / f"{name}.json"
    if path.exists():
        raise SystemExit(f"{path} is there already, and is what later versions must read: give another name")
    FOLDER.mkdir(exist_ok=True)
    path.write_text(json.dumps({"version": __version__, "keys": keys}, indent=1) + "\n")


if __name__ == "__main__":
    asyncio.run(record(*sys.argv[1:]))
