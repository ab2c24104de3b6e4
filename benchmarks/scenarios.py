"""What is measured. Each scenario returns figures by name; ratios are taken within one run."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import redis

import redsched
from benchmarks.setup import Ledger, client, cpu_seconds, scheduler, until
from redsched.store.transitions import PollRequest
from redsched.store.wire import Resend

Figures = dict[str, float]


async def bare_script(url: str, jobs: int, batch: int) -> Figures:
    """The raw call: claim and settle through `poll` alone, without tasks, decoding or an event loop's work."""
    async with scheduler(url) as bench:
        await bench.schedule_many([redsched.JobSpec("noop", print, args=[n, "x"]) for n in range(jobs)])
        shard = (await bench.store()).shards[0]
        worker = bench.make_worker()
        settled: list[Any] = []
        tokens: list[Any] = []
        sequence = done = 0
        started = time.perf_counter()
        while done < jobs or settled:
            sequence += 1
            request = PollRequest(sequence, batch, settled=settled, done=tokens, found=tokens[::2])
            reply = await shard.poll("bare", worker.packed_queues, request, resend=Resend(1.0))
            done += len(reply.claims)
            settled = [
                (row[0].decode(), row[1], "done", row[3], row[2], 0, 0, "noop", False, 0, False, False, 0)
                for row in reply.claims
            ]
            tokens = [part for row in settled for part in (row[0], row[1])]
        return {f"bare script, batch {batch}, jobs/s": jobs / (time.perf_counter() - started)}


async def whole_path(url: str, ledger: Ledger, jobs: int, concurrency: int, shards: int = 1) -> Figures:
    """Everything real: fences, leases, the events stream, one asyncio task a job with an O_APPEND write in it."""
    ledger.reset()

    async def noop(number: int, text: str) -> None:
        ledger.write()

    async with scheduler(url, concurrency=concurrency, shards=shards) as bench:
        bench.register(noop, name="noop")
        await bench.schedule_many([redsched.JobSpec("noop", noop, args=[n, "x"]) for n in range(jobs)])
        cpu, started = cpu_seconds(), time.perf_counter()
        await bench.start()
        await until(lambda: ledger.written >= jobs, 300)
        seconds, cpu = time.perf_counter() - started, cpu_seconds() - cpu
        await bench.shutdown()
        if ledger.count() != jobs:
            raise SystemExit(f"{ledger.count()} effects for {jobs} jobs: lost or doubled")
    name = f"whole path, concurrency {concurrency}{'' if shards == 1 else f', {shards} shards'}"
    return {f"{name}, jobs/s": jobs / seconds, f"{name}, worker CPU us/job": cpu / jobs * 1e6}


def sent_until(redis_client: redis.Redis, end: str) -> int:
    """How many commands clients send until one of them sends `end`; those that scripts call are not counted."""
    with redis_client.monitor() as monitor:
        count = 0
        for command in monitor.listen():
            if end in command["command"]:
                return count
            count += command["client_type"] != "lua"
    return count


async def idle(url: str, seconds: int) -> Figures:
    """What one idle worker costs: commands a second, and its CPU."""
    async with scheduler(url) as bench:
        await bench.start()
        await asyncio.sleep(1)
        watcher = redis.Redis.from_url(url, socket_timeout=None)
        counting = asyncio.create_task(asyncio.to_thread(sent_until, watcher, "the end"))
        cpu = cpu_seconds()
        await asyncio.sleep(seconds)
        spent = cpu_seconds() - cpu
        client(url).echo("the end")
        return {
            "idle worker, commands/s": await counting / seconds,
            "idle worker, CPU %": spent / seconds * 100,
        }
