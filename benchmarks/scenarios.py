"""What is measured. Each scenario returns figures by name; ratios are taken within one run."""

from __future__ import annotations

import asyncio
import time

import redis

import redsched
from benchmarks.setup import Ledger, client, cpu_seconds, scheduler, until
from redsched.model import Event
from redsched.store.link import Resend
from redsched.store.transitions import PollRequest

Figures = dict[str, float]


async def bare_script(url: str, jobs: int, batch: int) -> Figures:
    """The raw call: claim and settle through `poll` alone, without tasks, decoding or an event loop's work."""
    async with scheduler(url) as bench:
        await bench.schedule_many([redsched.JobSpec("noop", print, args=[n, "x"]) for n in range(jobs)])
        shard = (await bench.store()).shards[0]
        worker = bench.make_worker()
        settled: list[object] = []
        sequence = done = 0
        started = time.perf_counter()
        while done < jobs or settled:
            sequence += 1
            request = PollRequest(sequence, batch, settled=settled)
            reply = await shard.poll("bare", worker.packed_queues, request, resend=Resend(1.0))
            done += len(reply.claims)
            settled = [
                (row[0], row[1], "done", row[3], row[2], 0, 0, "noop", False, 0, False, False, 0)
                for row in reply.claims
            ]
        return {f"bare script, batch {batch}, jobs/s": jobs / (time.perf_counter() - started)}


async def whole_path(url: str, ledger: Ledger, jobs: int, concurrency: int) -> Figures:
    """Everything real: fences, leases, the events stream, one asyncio task a job with an O_APPEND write in it."""
    ledger.reset()

    async def noop(number: int, text: str) -> None:
        ledger.write()

    async with scheduler(url, concurrency=concurrency) as bench:
        bench.register(noop, name="noop")
        await bench.schedule_many([redsched.JobSpec("noop", noop, args=[n, "x"]) for n in range(jobs)])
        cpu, started = cpu_seconds(), time.perf_counter()
        await bench.start()
        await until(lambda: ledger.written >= jobs, 300)
        seconds, cpu = time.perf_counter() - started, cpu_seconds() - cpu
        await bench.shutdown()
        if ledger.count() != jobs:
            raise SystemExit(f"{ledger.count()} effects for {jobs} jobs: lost or doubled")
    name = f"whole path, concurrency {concurrency}"
    return {f"{name}, jobs/s": jobs / seconds, f"{name}, worker CPU us/job": cpu / jobs * 1e6}


async def scheduling(url: str, jobs: int) -> Figures:
    """Jobs added: in bulk, and one by one, each awaited."""
    async with scheduler(url) as bench:
        specs = [redsched.JobSpec("noop", print, delay=3600, args=[n, "x"]) for n in range(jobs)]
        started = time.perf_counter()
        await bench.schedule_many(specs)
        bulk = jobs / (time.perf_counter() - started)
        single = min(jobs, 3000)
        started = time.perf_counter()
        for n in range(single):
            await bench.schedule_delayed_task("noop", print, delay_minutes=60, args=[n, "x"])
        return {"bulk adding, jobs/s": bulk, "one by one, awaited, jobs/s": single / (time.perf_counter() - started)}


async def lateness(url: str, per_second: int, seconds: int) -> Figures:
    """Jobs due in the future, spread evenly, one worker that is idle otherwise: how late each starts."""
    late: list[float] = []
    done = 0

    async def tick(due_us: int) -> None:
        nonlocal done
        done += 1

    def note(event: Event) -> None:
        if event.kind == "done" and event.lateness is not None:
            late.append(event.lateness * 1000)

    jobs = per_second * seconds
    async with scheduler(url) as bench:
        bench.register(tick, name="tick")
        shard = (await bench.store()).shards[0]
        measured: list[float] = []

        async def measured_tick(due_ms: int) -> None:
            nonlocal done
            measured.append(shard.clock.now_us() / 1000 - due_ms)
            done += 1

        await bench.start()
        first_ms = await shard.travel() + 500
        from redsched.store.clock import from_ms

        due = [first_ms + n * 1000 // per_second for n in range(jobs)]
        await bench.schedule_many(
            [redsched.JobSpec("tick", measured_tick, run_at=from_ms(at), args=[at]) for at in due]
        )
        await until(lambda: done >= jobs, seconds + 30)
    measured.sort()
    name = f"lateness at {per_second}/s"
    return {
        f"{name}, p50 ms": measured[len(measured) // 2],
        f"{name}, p99 ms": measured[int(len(measured) * 0.99)],
        f"{name}, max ms": measured[-1],
    }


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


async def memory(url: str, jobs: int) -> Figures:
    """Redis memory of a pending one-shot job with two small arguments."""
    async with scheduler(url) as bench:
        redis_client = client(url)
        await bench.schedule_many([redsched.JobSpec("noop", print, delay=3600, args=[0, "x"])])
        before = int(redis_client.info("memory")["used_memory"])
        stream = int(redis_client.memory_usage((await bench.store()).shards[0].keys.events) or 0)
        await bench.schedule_many(
            [redsched.JobSpec("send_reminder", print, delay=3600, args=[n, "order"]) for n in range(jobs)]
        )
        after = int(redis_client.info("memory")["used_memory"])
        grown = int(redis_client.memory_usage((await bench.store()).shards[0].keys.events, samples=0) or 0) - stream
        return {"memory of a pending job, bytes": (after - before - grown) / jobs}
