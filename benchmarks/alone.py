"""The scenarios that only redsched runs: how it behaves as the load, the size or the number of processes grows."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from typing import Any

import redsched
from benchmarks.bench import Bench, PeerError, rss_of
from benchmarks.compare import OURS, Figures, Run, immediate, in_a_loop, spread
from benchmarks.peers.burn import burn
from benchmarks.scenarios import idle
from redsched import testing
from redsched.worker.poll import ShardLoop

__all__ = ["alone"]

RATE = 20_000.0
"""Jobs that it surely adds a second: how long before its time a job must be added."""


def throughput(bench: Bench, jobs: int, processes: int = 1, task: str = "noop") -> Figures:
    """Jobs a second from the first effect to the last, and who used the CPU meanwhile."""
    adding_s = bench.produce("bulk", jobs, BENCH_TASK=task)
    bench.work(processes)
    bench.wait(1)
    redis, cpu = bench.redis_cpu(), bench.cpu()
    bench.wait(jobs)
    redis, cpu = bench.redis_cpu() - redis, bench.cpu() - cpu
    rows = bench.effects(jobs)
    return {
        "jobs/s": (jobs - 1) / ((rows[-1][1] - rows[0][1]) / 1e6),
        "adding, jobs/s": jobs / adding_s,
        "Redis' share of the CPU, %": 100 * redis / max(redis + cpu, 1e-9),
    }


def pending(run: Run, waiting: int) -> Callable[[Bench], Figures]:
    """Throughput and lateness, while so many jobs wait for a later time."""

    def work(bench: Bench) -> Figures:
        name = f"{waiting:,} pending"
        if waiting:
            bench.produce("at", waiting, time.time_ns() // 1_000_000 + 7_200_000, 1)
        jobs = OURS.jobs // (4 if run.quick else 1)
        found = {f"{name}: immediate, jobs/s": immediate(bench, jobs)["immediate, jobs/s"]}
        time.sleep(0.5)  # what it still has to settle
        bench.stop()
        if not run.quick:
            late = spread(bench, 300, 8, RATE, keep=True)
            found |= {f"{name}: {what}": value for what, value in late.items()}
        return found

    return work


def processes(run: Run, count: int) -> Callable[[Bench], Figures]:
    """The same jobs for so many worker processes."""

    def work(bench: Bench) -> Figures:
        found = throughput(bench, 20_000 if run.quick else 120_000, count)
        return {f"worker processes: {count}, {what}": found[what] for what in ("jobs/s", "Redis' share of the CPU, %")}

    return work


def jobs_of(title: str, task: str, jobs: int) -> Callable[[Bench], Figures]:
    """Throughput of one kind of job."""

    def work(bench: Bench) -> Figures:
        found = throughput(bench, jobs, task=task)
        figures = {f"{title}: {what}": found[what] for what in ("jobs/s", "adding, jobs/s")}
        if task == "cpu":
            started = time.perf_counter()
            for _ in range(20):
                burn()
            figures[f"{title}: calls/s of it in one process, without jobs"] = 20 / (time.perf_counter() - started)
        return figures

    return work


def periodic(run: Run) -> Callable[[Bench], Figures]:
    """10,000 jobs, each due each second, 3 workers: every fire once."""
    jobs, seconds = (1000, 3) if run.quick else (10_000, 60)

    def work(bench: Bench) -> Figures:
        bench.work(3)
        first = time.time_ns() // 1_000_000 + 3000 + jobs // 2
        # The jobs of a second are spread evenly over it.
        bench.produce("at", jobs, first, 1000 / jobs, BENCH_TASK=f"tick:{seconds}")
        expected = jobs * seconds
        time.sleep(max(0.0, first / 1000 - time.time()))
        redis, cpu, begun = bench.redis_cpu(), bench.cpu(), time.monotonic()
        bench.wait(expected, first / 1000 + seconds + 10)
        spent = time.monotonic() - begun
        redis, cpu = bench.redis_cpu() - redis, bench.cpu() - cpu
        time.sleep(0.5)  # a doubled fire could still come
        rows = bench.rows()
        fires = {number for number, _ in rows}
        late = sorted(at / 1000 - (first + int(n % 10_000 * 1000 / jobs) + n // 10_000 * 1000) for n, at in rows)
        title = f"{jobs:,} periodic jobs each second for {seconds} s, 3 workers"
        return {
            f"{title}: fires doubled": float(len(rows) - len(fires)),
            f"{title}: fires missed": float(expected - len(fires)),
            f"{title}: lateness p50 ms": late[len(late) // 2],
            f"{title}: lateness p99 ms": late[int(len(late) * 0.99)],
            f"{title}: lateness max ms": late[-1],
            f"{title}: CPU of Redis, %": 100 * redis / spent,
            f"{title}: CPU of the workers, %": 100 * cpu / spent,
        }

    return work


def order(run: Run) -> Callable[[Bench], Figures]:
    """A burst, and one job that comes while it is worked off: it overtakes none, and is not held back."""
    burst = 30_000 if run.quick else 150_000

    def work(bench: Bench) -> Figures:
        bench.produce("bulk", burst)
        bench.work()
        bench.wait(1)
        bench.produce("single", 1, BENCH_FIRST=burst)
        if bench.written() >= burst:
            raise PeerError("the burst was over before the new job was there")
        bench.wait(burst + 1)
        place = [number for number, _ in bench.effects(burst + 1)].index(burst)
        return {"one new job in a burst: jobs of the burst that it overtook": float(burst - place)}

    return work


def worker_memory(run: Run) -> Callable[[Bench], Figures]:
    """What a worker holds after many jobs, against what it held after the first part of them."""
    parts, part = (3, 10_000) if run.quick else (10, 100_000)

    def work(bench: Bench) -> Figures:
        [worker] = bench.work()
        held: list[int] = []
        for number in range(1, parts + 1):
            bench.produce("bulk", part, BENCH_FIRST=(number - 1) * part)
            bench.wait(part * number)
            held.append(rss_of(worker))
        bench.effects(parts * part)
        return {
            f"worker's memory after {part:,} jobs, MB": held[0] / 1e6,
            f"worker's memory after {parts * part:,} jobs, MB": held[-1] / 1e6,
        }

    return work


async def woken(url: str, workers: int, jobs: int) -> Figures:
    """How many of many idle workers look for work when one job comes, beyond those whose heartbeat is due anyway."""
    looked: set[str] = set()
    turn = ShardLoop.turn

    async def noted(loop: ShardLoop, **options: Any) -> Any:
        looked.add(loop.worker.id)
        return await turn(loop, **options)

    async def nothing() -> None:
        pass

    prefix = testing.fresh_prefix()
    async with contextlib.AsyncExitStack() as stack:
        fleet = [redsched.BackgroundTaskScheduler(url, prefix, declared_tasks=False) for _ in range(workers)]
        for each in fleet:
            each.register(nothing, name="nothing")
            await stack.enter_async_context(each)
        await asyncio.sleep(1)
        ShardLoop.turn = noted  # type: ignore[method-assign]
        try:
            counts = {True: 0, False: 0}
            for round_ in range(2 * jobs):
                looked.clear()
                with_job = round_ % 2 == 0
                if with_job:
                    await fleet[0].schedule_immediate_task("nothing", nothing)
                await asyncio.sleep(0.04)
                counts[with_job] += len(looked)
                await asyncio.sleep(0.06)
        finally:
            ShardLoop.turn = turn  # type: ignore[method-assign]
    return {f"{workers} idle workers: woken for one job": (counts[True] - counts[False]) / jobs}


def alone(run: Run) -> None:
    """Every scenario of redsched's own."""
    url = f"redis://127.0.0.1:{run.port}/0"

    def one(title: str, work: Callable[[Bench], Figures], rounds: int = 1) -> None:
        run.scenario(title, [OURS], work, rounds, limit_s=240)

    quick = run.quick
    if quick:  # else it was measured beside the others
        one("lateness at 3,000/s", lambda bench: spread(bench, 3000, 1, RATE))
    for waiting in (0, 20_000) if quick else (0, 100_000, 1_000_000, 0):
        one(f"{waiting:,} pending", pending(run, waiting))
    one("a burst", order(run))
    one("periodic jobs", periodic(run))
    for _ in range(1 if quick else 2):
        for count in (1, 2) if quick else (1, 2, 3, 4):
            one(f"{count} worker processes", processes(run, count))
    one("memory of a worker", worker_memory(run))
    for title, task, jobs in (
        ("jobs that wait 10 ms", "wait:0.01", 20_000), ("arguments of 10 kB", "blob:10000", 8000),
        ("jobs that wait 1 ms", "wait:0.001", 40_000), ("CPU jobs in 2 child processes", "cpu", 2000),
        ("arguments of 100 B", "blob:100", 40_000), ("arguments of 200 kB", "blob:200000", 600),
    )[: 2 if quick else None]:  # fmt: skip
        one(title, jobs_of(title, task, jobs // (8 if quick else 1)))
    run.say("idle …")
    run.note(OURS.name, in_a_loop(idle(url, 3 if quick else 30)))
    run.note(OURS.name, in_a_loop(woken(url, 20 if quick else 100, 5 if quick else 30)))
