"""redsched beside other queues in one run: each scenario goes round all of them, so that noise hits all alike."""

from __future__ import annotations

import asyncio
import contextlib
import statistics
import time
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass, field
from typing import Any

from benchmarks.bench import Bench, Peer, PeerError
from benchmarks.environments import InstallError, install

__all__ = ["OURS", "PEERS", "PRODUCER", "Figures", "Run", "compare", "immediate", "in_a_loop", "spread"]

Figures = dict[str, float]

OURS = Peer("redsched", "redsched_peer.py", 60_000)
PEERS = (
    OURS,
    Peer("arq", "arq_peer.py", 4000, ("arq==0.28.0", "uvloop", "hiredis")),
    Peer("SAQ", "saq_peer.py", 4000, ("saq[redis]==0.26.4", "typing_extensions", "uvloop", "hiredis")),
    Peer("streaQ", "streaq_peer.py", 3000, ("streaq==7.2.0", "uvloop"), 32),
    Peer(
        "taskiq", "taskiq_peer.py", 8000, ("taskiq==0.13.0", "taskiq-redis==1.2.4", "uvloop", "hiredis"), 10,
        delayed=False,
    ),
    Peer("ArdiQ", "ardiq_peer.py", 20_000, ("ardiq==1.2.0", "uvloop"), 100, (3, 12)),
    Peer("Threadmill", "threadmill_peer.py", 6000, ("threadmill[redis]==0.8.4", "uvloop"), 10, (3, 14)),
    Peer("dramatiq", "dramatiq_peer.py", 8000, ("dramatiq[redis]==2.2.1", "hiredis"), 10),
    Peer("huey", "huey_peer.py", 8000, ("huey[redis]==3.5.4", "hiredis"), 1),
    Peer("docket", "docket_peer.py", 3000, ("pydocket==0.27.0", "uvloop", "hiredis")),
    Peer("Celery", "celery_peer.py", 2500, ("celery[redis]==5.7.0", "hiredis"), 10),
    Peer("RQ", "rq_peer.py", 800, ("rq==3.0.0", "hiredis"), 1),
    Peer("BullMQ (Python)", "bullmq_py_peer.py", 5000, ("bullmq==3.4.4", "uvloop", "hiredis"), 10),
    Peer("BullMQ (Node)", "bullmq_node_peer.mjs", 25_000, ("node:bullmq@6.7.0", "node:ioredis@5.11.1"), python=False),
    Peer(
        "APScheduler 3", "apscheduler_peer.py", 3000, ("apscheduler==3.11.3", "redis==8.1.0", "uvloop", "hiredis"),
        worker_first=False, queue=False,
    ),
)  # fmt: skip

RATE_HOLDS = "at_rate"
"""A figure for our own use: how many jobs with a time it adds a second."""


PRODUCER = "bulk producer, process start to exit, jobs/s"
PRODUCED = 50_000
"""The same number for all: the start of the process counts, and is shared by so many."""

ADDING_S = 20.0
"""A queue that needs longer to add 100,000 jobs is not measured with so many pending."""

QUICK_S = 100.0
"""After so long, --quick begins nothing any more."""


def in_a_loop(work: Coroutine[Any, Any, Figures]) -> Figures:
    """Run in an event loop of uvloop's, where there is one."""
    with contextlib.suppress(ImportError):
        import uvloop

        return uvloop.run(work)
    return asyncio.run(work)


@dataclass
class Run:
    """What a run of the benchmark found."""

    port: int
    quick: bool
    say: Callable[[str], None]
    figures: dict[str, Figures] = field(default_factory=dict[str, Figures])
    """The medians, by who and what."""
    rounds: dict[str, dict[str, list[float]]] = field(default_factory=dict[str, dict[str, list[float]]])
    """Every round's."""
    failures: dict[str, dict[str, str]] = field(default_factory=dict[str, dict[str, str]])
    versions: dict[str, dict[str, str]] = field(default_factory=dict[str, dict[str, str]])

    began: float = 0.0

    @property
    def is_over(self) -> bool:
        """Whether the time of --quick is used up."""
        return self.quick and time.monotonic() - self.began > QUICK_S

    def note(self, name: str, found: Figures) -> None:
        """Take the figures of a round."""
        for what, value in found.items():
            values = self.rounds.setdefault(name, {}).setdefault(what, [])
            values.append(value)
            self.figures.setdefault(name, {})[what] = statistics.median(values)
        told = ", ".join(f"{what} {value:,.1f}" for what, value in found.items() if what != RATE_HOLDS)
        self.say(f"  {name}: {told}")

    def fail(self, name: str, title: str, why: str) -> None:
        """Note that it did not do it."""
        self.failures.setdefault(name, {})[title] = why
        self.say(f"  {name}: {why}")

    def scenario(
        self,
        title: str,
        peers: Iterable[Peer],
        work: Callable[[Bench], Figures],
        rounds: int = 1,
        raw: Callable[[], Figures] | None = None,
        limit_s: float = 60.0,
    ) -> None:
        """One scenario for each queue in turn, so many times over, in the other direction each second time.

        `raw` is the script alone, in the same rounds; `limit_s` is for one queue in one round.
        """
        self.say(f"{title} …")
        order = list(peers)
        for _ in range(rounds):
            if raw is not None:
                self.note("script alone", raw())
            for peer in order:
                if title in self.failures.get(peer.name, ()):
                    continue
                if self.is_over:
                    self.fail(peer.name, title, f"left out: the {QUICK_S:.0f} s of --quick were over")
                    continue
                with Bench(peer, self.port, 10.0 if self.quick else limit_s) as bench:
                    try:
                        self.note(peer.name, work(bench))
                    except PeerError as error:
                        self.fail(peer.name, title, str(error))
                    except Exception as error:  # one that goes wrong must not cost the others their figures
                        self.fail(peer.name, title, f"{type(error).__name__}: {error}")
            order.reverse()


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def immediate(bench: Bench, jobs: int) -> Figures:
    """All jobs are there when the worker starts: from the first that runs to the last."""
    adding_s = bench.produce("bulk", jobs)
    if not bench.peer.queue:  # jobs without a time are none of its own: see storm
        return {"bulk adding, jobs/s": jobs / adding_s}
    bench.work()
    bench.wait(1)
    cpu, redis, seen = bench.cpu(), bench.redis_cpu(), bench.written()
    bench.wait(jobs)
    cpu, redis = bench.cpu() - cpu, bench.redis_cpu() - redis
    rows = bench.effects(jobs)
    left = max(1, jobs - seen)
    return {
        "immediate, jobs/s": (jobs - 1) / ((rows[-1][1] - rows[0][1]) / 1e6),
        "bulk adding, jobs/s": jobs / adding_s,
        "worker CPU a job, us": cpu / left * 1e6,
        "Redis CPU a job, us": redis / left * 1e6,
    }


def one_by_one(bench: Bench, jobs: int) -> Figures:
    """Jobs added one by one, each awaited."""
    return {"one by one, awaited, jobs/s": (jobs - 1) / bench.produce("single", jobs)}


def producer(bench: Bench, jobs: int) -> Figures:
    """A process that adds jobs in bulk and ends: its start and end count."""
    bench.produce("bulk", jobs)
    return {PRODUCER: jobs / bench.process_s}


def memory(bench: Bench, jobs: int) -> Figures:
    """Redis memory of a job that waits for its time (where there is no such thing: for a worker)."""
    mode = ["at", now_ms() + 3_600_000, 0] if bench.peer.delayed else ["bulk"]
    bench.produce(str(mode[0]), 10, *mode[1:])  # what is there once: scripts, streams, indexes
    before = int(bench.redis.info("memory")["used_memory"])
    seconds = bench.produce(str(mode[0]), jobs, *mode[1:])
    grown = int(bench.redis.info("memory")["used_memory"]) - before
    if bench.peer is OURS:  # the stream of events is trimmed to a fixed length: it is no part of a job
        events = list(bench.redis.scan_iter(match="*:events", count=10_000))
        grown -= sum(int(bench.redis.memory_usage(key, samples=0) or 0) for key in events)
    return {"memory of a pending job, bytes": grown / jobs, RATE_HOLDS: jobs / seconds}


def _due(
    bench: Bench, jobs: int, step_ms: float, rate: float, *, keep: bool = False
) -> tuple[int, list[tuple[int, int]], float]:
    """Let jobs become due, the worker idle before. Returns when the first was due, the effects, and the CPU seconds
    that the worker used from then on."""
    lead_ms = round(1000 * ((1.5 if bench.peer.worker_first else 3.5) + 1.5 * jobs / rate))
    for _ in range(3):
        bench.reset(keep=keep)
        first = -(-(now_ms() + lead_ms) // 1000) * 1000  # a whole second: some know no other times
        if bench.peer.worker_first:
            bench.work()
        bench.produce("at", jobs, first, step_ms)
        late = now_ms() - first
        if late < (-200 if bench.peer.worker_first else -1500):
            break
        bench.stop()
        if keep:
            raise PeerError("adding took too long: the machine is busy")
        lead_ms = 2 * (late + lead_ms)  # slower than it was before: once more, with more time
    else:
        raise PeerError(f"adding {jobs} jobs took longer than {lead_ms / 2000:.0f} s")
    if not bench.peer.worker_first:
        bench.work()
    time.sleep(max(0.0, (first - now_ms()) / 1000 - 0.05))
    cpu = bench.cpu()
    bench.wait(jobs)
    return first, bench.effects(jobs), bench.cpu() - cpu


def storm(bench: Bench, jobs: int, rate: float) -> Figures:
    """All due at one instant: from that instant to the last."""
    first, rows, cpu = _due(bench, jobs, 0, rate)
    found = {"all due at one instant, jobs/s": jobs / (rows[-1][1] / 1e6 - first / 1e3)}
    if not bench.peer.queue:
        found["worker CPU a job, us"] = cpu / jobs * 1e6
    return found


def spread(bench: Bench, per_second: int, seconds: float, rate: float, *, keep: bool = False) -> Figures:
    """Due one after the other, the worker idle otherwise: how late each starts. `keep`: among what is stored."""
    jobs, step = round(per_second * seconds), 1000 / per_second
    first, rows, _ = _due(bench, jobs, step, rate, keep=keep)
    late = sorted(at / 1000 - (first + int(number * step)) for number, at in rows)
    if late[0] < -1:
        raise PeerError(f"a job ran {-late[0]:.0f} ms before its time")
    name = f"lateness at {per_second:,}/s"
    return {
        f"{name}, p50 ms": late[len(late) // 2],
        f"{name}, p99 ms": late[int(len(late) * 0.99)],
        f"{name}, max ms": late[-1],
    }


def pending(bench: Bench, jobs: int, waiting: int) -> Figures:
    """The same as immediate, while so many jobs wait for a later time."""
    bench.produce("at", waiting, now_ms() + 7_200_000, 1)
    return {f"immediate with {waiting:,} pending, jobs/s": immediate(bench, jobs)["immediate, jobs/s"]}


def install_all(run: Run, names: set[str] | None) -> list[Peer]:
    """Make the environments. Returns those that can be measured."""
    able: list[Peer] = []
    for peer in PEERS:
        if names is not None and peer.name not in names and peer is not OURS:
            continue
        try:
            if peer.requires:
                run.say(f"environment of {peer.name} …")
                run.versions[peer.name] = install(peer.program.rpartition("_peer")[0], peer.requires, peer.least)
            able.append(peer)
        except InstallError as error:
            run.fail(peer.name, "install", str(error))
    return able


def compare(run: Run, peers: list[Peer], raw: Callable[[], Figures]) -> None:
    """Every scenario that other queues have as well."""
    share = 8 if run.quick else 1

    def jobs(bench: Bench) -> int:
        return max(100, bench.peer.jobs // share)

    def rate(bench: Bench) -> float:
        return run.figures[bench.peer.name].get(RATE_HOLDS, 500.0)

    rounds = 1 if run.quick else 3
    delayed = [peer for peer in peers if peer.delayed]
    run.scenario("immediate", peers, lambda bench: immediate(bench, jobs(bench)), rounds, raw)
    run.scenario("one by one", peers, lambda bench: one_by_one(bench, max(100, min(2000, jobs(bench) // 4))), rounds)
    if not run.quick:
        run.scenario("bulk producer", peers, lambda bench: producer(bench, PRODUCED), 2)
    run.scenario("memory", peers, lambda bench: memory(bench, max(200, min(20_000, jobs(bench)))))
    able = [peer for peer in delayed if "memory" not in run.failures.get(peer.name, ())]
    run.scenario("storm", able, lambda bench: storm(bench, jobs(bench), rate(bench)), 1 if run.quick else 2)
    seconds = 1 if run.quick else 8
    run.scenario("lateness at 300/s", able, lambda bench: spread(bench, 300, seconds, rate(bench)))
    if not run.quick:
        fast = [p for p in able if run.figures[p.name].get("all due at one instant, jobs/s", 0) > 3000]
        fast = [peer for peer in fast if 24_000 / run.figures[peer.name][RATE_HOLDS] < ADDING_S]
        run.scenario("lateness at 3,000/s", fast, lambda bench: spread(bench, 3000, 8, rate(bench)))
        waiting = 100_000
        queues = [peer for peer in able if peer.queue]
        quick_to_add = [peer for peer in queues if waiting / run.figures[peer.name][RATE_HOLDS] < ADDING_S]
        run.scenario("100,000 pending", quick_to_add, lambda bench: pending(bench, jobs(bench), waiting))
        for peer in queues:
            if peer not in quick_to_add:
                seconds = waiting / run.figures[peer.name][RATE_HOLDS]
                run.fail(peer.name, "100,000 pending", f"left out: adding them would take {seconds:.0f} s")
