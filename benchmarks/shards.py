"""`python -m benchmarks.shards`: throughput on a cluster of three primaries, with 1, 2 and 3 shards, each on its own
primary, and with the 8 of the default.

All jobs are due at one instant; the time is from then until the last is settled. With as many worker processes as the
machine has cores, and Redis beside them: what is left for a second primary is what the first one and the workers leave.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import subprocess
import sys
import time
from datetime import timedelta

import redsched
from redsched.store.cluster import slot_of
from redsched.testing import fresh_prefix
from redsched.testing.clusters import ClusterServers

AHEAD_S = 3.0
"""How long before their instant all jobs must be there, and all workers ready."""


async def noop(number: int) -> None:
    """The task."""


def scheduler(url: str, prefix: str, shards: int) -> redsched.BackgroundTaskScheduler:
    made = redsched.BackgroundTaskScheduler(url, prefix, shards=shards, declared_tasks=False, concurrency=200)
    made.register(noop, name="noop")
    return made


async def work(url: str, prefix: str, shards: int) -> None:
    """One worker process: until its input ends."""
    async with scheduler(url, prefix, shards):
        print("ready", flush=True)
        await asyncio.to_thread(sys.stdin.read)


def prefix_for(servers: ClusterServers, shards: int) -> str:
    """A prefix whose shards lie on as many primaries."""
    while True:
        prefix = fresh_prefix()
        owners = {servers.owner(slot_of(f"{{{prefix}:{number}}}")).port for number in range(shards)}
        if len(owners) == min(shards, len(servers.primaries)):  # the numbers' CRCs allow it for three primaries
            return prefix


async def left(bench: redsched.BackgroundTaskScheduler) -> int:
    store = await bench.store()
    counts = [
        await shard.link.command("ZCARD", key)
        for shard in store.shards
        for key in (shard.keys.due("default"), shard.keys.leases)
    ]
    return sum(counts)


async def measure(shards: int, processes: int, jobs: int) -> float:
    """Jobs a second."""
    with ClusterServers(3) as servers:
        prefix = prefix_for(servers, shards)
        command = [sys.executable, "-m", "benchmarks.shards", "--work", servers.url, prefix, str(shards)]
        bench = scheduler(servers.url, prefix, shards)
        workers: list[subprocess.Popen[bytes]] = []
        try:
            await bench.start(worker=False)
            at = await bench.now() + timedelta(seconds=jobs / 15_000 + AHEAD_S)
            await bench.schedule_many(
                [redsched.JobSpec("noop", noop, run_at=at, args=[n], misfire_grace_time=None) for n in range(jobs)]
            )
            for _ in range(processes):
                workers.append(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE))
            for worker in workers:
                assert worker.stdout is not None
                if worker.stdout.readline() != b"ready\n":
                    raise SystemExit("a worker did not start")
            wait = (at - await bench.now()).total_seconds()
            if wait < 0:
                raise SystemExit("the machine is too slow: not all was there in time")
            due = time.perf_counter() + wait
            await asyncio.sleep(wait)
            while await left(bench):
                await asyncio.sleep(0.01)
            return jobs / (time.perf_counter() - due)
        finally:
            for worker in workers:
                worker.communicate()
            await bench.shutdown()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.shards", description=__doc__)
    parser.add_argument("--jobs", type=int, default=40_000)
    parser.add_argument("--work", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        url, prefix, shards = options.work
        asyncio.run(work(url, prefix, int(shards)))
        return
    cores = os.cpu_count() or 1
    print(f"{options.jobs:,} jobs due at one instant; {cores} cores")
    for processes in dict.fromkeys((1, cores)):
        for shards in (1, 2, 3, 8):
            rate = asyncio.run(measure(shards, processes, options.jobs))
            print(f"{shards} shards, {processes} worker processes: {rate:8,.0f} jobs/s", flush=True)


if __name__ == "__main__":
    main()
