"""Runs the adapters: an environment for each, one Redis for all, and what the ledger says of each scenario."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import redis

HERE = Path(__file__).parent
ENVIRONMENTS = HERE.parent / ".environments"
LINE = 24
READY_S = 60.0
"""How long a worker may take to run its first job."""


@dataclass(frozen=True)
class Peer:
    """A queue that is measured."""

    name: str
    requires: tuple[str, ...]
    program: str
    jobs: int
    """How many jobs take it about two seconds."""
    delayed: bool = True
    """Whether it can be given the time of a job."""
    jobs_first: bool = False
    """Whether its worker finds delayed jobs only if they are there when it starts."""
    immediate: bool = True
    """Whether it is a queue: jobs that are due at once run as soon as a worker is free."""
    environment: tuple[tuple[str, str], ...] = ()
    """Further environment variables for its program."""


PEERS = (
    Peer("redsched", (), "redsched_peer.py", 60_000),
    Peer("arq", ("arq",), "arq_peer.py", 5000),
    Peer("SAQ", ("saq[redis]", "typing_extensions"), "saq_peer.py", 5000),
    Peer("streaQ", ("streaq",), "streaq_peer.py", 3000),
    Peer("taskiq", ("taskiq", "taskiq-redis"), "taskiq_peer.py", 4000, delayed=False),
    Peer(
        "taskiq, no results", ("taskiq", "taskiq-redis"), "taskiq_peer.py", 6000, delayed=False,
        environment=(("BENCH_NO_RESULTS", "1"),),
    ),
    Peer("docket", ("pydocket",), "docket_peer.py", 400, environment=(("BENCH_CONCURRENCY", "32"),)),
    Peer("Celery", ("celery[redis]",), "celery_peer.py", 3000),
    Peer("RQ", ("rq",), "rq_peer.py", 800),
    Peer(
        "APScheduler 3", ("apscheduler<4", "redis"), "apscheduler_peer.py", 3000, jobs_first=True, immediate=False,
    ),
    Peer("BullMQ (Python)", ("bullmq",), "bullmq_py_peer.py", 4000, jobs_first=True),
    Peer("BullMQ (Node)", ("node:bullmq", "node:ioredis"), "bullmq_node_peer.mjs", 12_000),
)  # fmt: skip


class PeerError(Exception):
    """It cannot be installed, or did not do its work: told in the table."""


def folder_of(peer: Peer) -> Path:
    return ENVIRONMENTS / peer.program.rpartition("_peer")[0]


def install(peer: Peer) -> dict[str, str]:
    """Make its environment if there is none. Returns the versions in it.

    Raises:
        PeerError: it cannot be installed; the message is the installer's.
    """
    folder = folder_of(peer)
    done = folder / "installed.json"
    if done.exists():
        return dict(json.loads(done.read_text()))
    if not peer.requires:
        return {}
    shutil.rmtree(folder, ignore_errors=True)
    node = [name.removeprefix("node:") for name in peer.requires if name.startswith("node:")]
    if node:
        folder.mkdir(parents=True)
        (folder / "package.json").write_text('{"private": true}')
        _call(["npm", "install", "--silent", "--no-audit", "--no-fund", *node], folder)
        versions = {n: json.loads((folder / "node_modules" / n / "package.json").read_text())["version"] for n in node}
    else:
        _call([sys.executable, "-m", "venv", str(folder)], HERE)
        python = str(folder / "bin" / "python")
        _call([python, "-m", "pip", "install", "-q", *peer.requires, "uvloop", "hiredis"], HERE)
        told = _call([python, "-m", "pip", "list", "--format", "json"], HERE)
        versions = {row["name"]: row["version"] for row in json.loads(told) if row["name"] not in ("pip", "setuptools")}
    done.write_text(json.dumps(versions))
    return versions


def _call(command: list[str], folder: Path) -> str:
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=300)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise PeerError(f"cannot be installed: {error}") from None
    if done.returncode:
        raise PeerError(f"cannot be installed: {(done.stderr or done.stdout).strip()[-200:]}")
    return done.stdout


@contextlib.contextmanager
def server() -> Iterator[int]:
    """A Redis of our own on a loopback port, without persistence."""
    from tests.servers import free_port, wait_until

    port = free_port()
    with tempfile.TemporaryDirectory(prefix="redsched-bench-") as folder:
        command = ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", folder]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        try:
            client = redis.Redis(port=port)

            def answers() -> bool:
                try:
                    return bool(client.ping())
                except redis.ConnectionError:
                    return False

            wait_until(answers, 10)
            yield port
        finally:
            process.terminate()
            process.wait(10)


@dataclass
class Bench:
    """One peer on one server, with a ledger."""

    peer: Peer
    port: int
    folder: Path

    def __post_init__(self) -> None:
        self.ledger = self.folder / "ledger"
        self.ledger.write_bytes(b"")
        self.epoch = time.time_ns() // 1000
        self.redis = redis.Redis(port=self.port)
        self.redis.flushall()
        self.environment = {
            **os.environ, "BENCH_URL": f"redis://127.0.0.1:{self.port}/0", "BENCH_LEDGER": str(self.ledger),
            "BENCH_EPOCH": str(self.epoch), "BENCH_NODE_MODULES": str(folder_of(self.peer)),
            "PYTHONPATH": str(HERE.parents[1]) if not self.peer.requires else "",
            **dict(self.peer.environment),
        }  # fmt: skip

    @property
    def _program(self) -> list[str]:
        if self.peer.program.endswith(".mjs"):
            return ["node", self.peer.program]
        python = sys.executable if not self.peer.requires else str(folder_of(self.peer) / "bin" / "python")
        return [python, self.peer.program]

    def produce(self, mode: str, count: int, *more: object) -> float:
        """Let it add jobs. Returns the seconds that it took."""
        command = [*self._program, "produce", mode, str(count), *map(str, more)]
        try:
            done = subprocess.run(
                command, cwd=HERE, env=self.environment, capture_output=True, text=True, check=False, timeout=120
            )
        except subprocess.TimeoutExpired:
            raise PeerError(f"{mode} {count} takes more than 120 s") from None
        if done.returncode:
            raise PeerError(f"cannot add jobs: {done.stderr.strip()[-300:]}")
        return float(json.loads(done.stdout.strip().splitlines()[-1])["seconds"])

    @contextlib.contextmanager
    def working(self) -> Iterator[subprocess.Popen[bytes]]:
        """Its worker, until the context is left."""
        with (self.folder / "log").open("wb") as log:
            worker = subprocess.Popen(
                [*self._program, "work"], cwd=HERE, env=self.environment, stdout=log, stderr=log, start_new_session=True
            )
        try:
            yield worker
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(worker.pid, signal.SIGKILL)
            worker.wait()

    def written(self) -> int:
        return self.ledger.stat().st_size // LINE

    def wait(self, count: int, seconds: float) -> None:
        """Until so many jobs have run.

        Raises:
            PeerError: they did not, in time.
        """
        deadline = time.monotonic() + seconds
        while self.written() < count:
            if time.monotonic() > deadline:
                log = (self.folder / "log").read_text(errors="replace").strip()[-200:]
                raise PeerError(f"{self.written()} of {count} jobs ran within {seconds:.0f} s {log}")
            time.sleep(0.002)

    def effects(self, count: int) -> list[tuple[int, int]]:
        """Each job's number and the microsecond (since 1970) at which it ran, in the order in which they did.

        Raises:
            PeerError: one is missing, or ran twice.
        """
        data = self.ledger.read_bytes()
        rows = [(int(line[:10]), int(line[11:]) + self.epoch) for line in data.splitlines()]
        numbers = {number for number, _ in rows}
        if len(rows) != count or len(numbers) != count:
            raise PeerError(f"{count - len(numbers)} of {count} jobs lost, {len(rows) - len(numbers)} doubled")
        return rows


def cpu_of(pid: int) -> float:
    """CPU seconds of a process and all its descendants."""
    parents: dict[int, list[int]] = {}
    used: dict[int, float] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
                parents.setdefault(int(fields[1]), []).append(int(entry.name))
                used[int(entry.name)] = sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")
    total, todo = 0.0, [pid]
    while todo:
        each = todo.pop()
        total += used.get(each, 0.0)
        todo += parents.get(each, [])
    return total


def immediate(bench: Bench, jobs: int) -> dict[str, float]:
    """All jobs are there when the worker starts: from the first that runs to the last."""
    bench.produce("bulk", jobs)
    with bench.working() as worker:
        bench.wait(1, READY_S)
        before, seen = cpu_of(worker.pid), bench.written()
        bench.wait(jobs, 40)
        cpu = cpu_of(worker.pid) - before
    rows = bench.effects(jobs)
    seconds = (rows[-1][1] - rows[0][1]) / 1e6
    return {"immediate, jobs/s": (jobs - 1) / seconds, "worker CPU a job, us": cpu / max(1, jobs - seen) * 1e6}


def _at(bench: Bench, jobs: int, step_us: float, seconds: float) -> int:
    """Run jobs that are due from an instant on, one after the other. Returns that instant, in microseconds."""
    lead = 3 + jobs / 1500 if bench.peer.requires else 5
    first = (time.time_ns() // 1_000_000 + round(lead * 1000)) * 1000
    if bench.peer.jobs_first:
        bench.produce("at", jobs, first, step_us)
    with bench.working():
        if not bench.peer.jobs_first:
            bench.produce("at", jobs, first, step_us)
        if time.time_ns() // 1000 > first:
            raise PeerError(f"adding {jobs} jobs takes longer than {lead:.0f} s")
        bench.wait(jobs, lead + seconds + 40)
    return first


def storm(bench: Bench, jobs: int) -> dict[str, float]:
    """All due at one instant, and the worker idle before: from that instant to the last."""
    first = _at(bench, jobs, 0, 0)
    rows = bench.effects(jobs)
    return {"all due at one instant, jobs/s": jobs / ((rows[-1][1] - first) / 1e6)}


def spread(bench: Bench, per_second: int, seconds: int) -> dict[str, float]:
    """Due one after the other, the worker idle otherwise: how late each starts."""
    jobs = per_second * seconds
    first = _at(bench, jobs, 1e6 / per_second, seconds)
    # Times are whole milliseconds in most of them: a job is due at the beginning of its millisecond.
    late = sorted(at - (first + n * 1_000_000 // per_second) // 1000 * 1000 for n, at in bench.effects(jobs))
    name = f"lateness at {per_second}/s"
    return {
        f"{name}, p50 ms": late[len(late) // 2] / 1000,
        f"{name}, p99 ms": late[int(len(late) * 0.99)] / 1000,
    }


def adding(bench: Bench, jobs: int) -> dict[str, float]:
    """Jobs added, in bulk and one by one."""
    bulk = jobs / bench.produce("bulk", jobs)
    bench.redis.flushall()
    single = max(100, min(jobs // 4, 2000))
    return {"bulk adding, jobs/s": bulk, "one by one, awaited, jobs/s": single / bench.produce("single", single)}


def memory(bench: Bench, jobs: int) -> dict[str, float]:
    """Redis memory of a job that waits for its time (or, where there is no such thing, for a worker)."""
    mode = ["at", str(time.time_ns() // 1000 + 3_600_000_000), "0"] if bench.peer.delayed else ["bulk"]
    bench.produce(mode[0], 10, *mode[1:])
    before = int(bench.redis.info("memory")["used_memory"])
    bench.produce(mode[0], jobs, *mode[1:])
    return {"memory of a pending job, bytes": (int(bench.redis.info("memory")["used_memory"]) - before) / jobs}


def measure(
    peers: list[Peer], scenario: Callable[[Bench], dict[str, float]], port: int, rounds: int
) -> dict[str, dict[str, float] | str]:
    """A scenario for each peer in turn, so many times over; the median of each figure, or what went wrong."""
    found: dict[str, list[dict[str, float]]] = {}
    failed: dict[str, str] = {}
    for _ in range(rounds):
        for peer in peers:
            if peer.name in failed:
                continue
            with tempfile.TemporaryDirectory(prefix="redsched-bench-") as folder:
                try:
                    found.setdefault(peer.name, []).append(scenario(Bench(peer, port, Path(folder))))
                except PeerError as error:
                    failed[peer.name] = str(error)
    results: dict[str, dict[str, float] | str] = dict(failed)
    for name, many in found.items():
        if name not in failed:
            results[name] = {key: statistics.median(each[key] for each in many) for key in many[0]}
    return results
