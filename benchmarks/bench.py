"""One queue on one server, with a ledger: its producer and its workers are processes in its own environment."""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import redis

from benchmarks.environments import HERE, command_of, folder_of
from redsched import RedschedError
from redsched.testing import LocalServer

__all__ = ["Bench", "Peer", "PeerError", "rss_of", "server"]

LINE = 24
PEERS = HERE / "peers"
_PR_SET_PDEATHSIG = 1


class PeerError(Exception):
    """It did not do its work: told in the table."""


@dataclass(frozen=True)
class Peer:
    """A queue that is measured."""

    name: str
    program: str
    jobs: int
    """How many jobs take it about two seconds."""
    requires: tuple[str, ...] = ()
    """None: it runs in this process' own environment."""
    concurrency: int = 100
    """With which of 10, 32 and 100 it ran the most jobs a second, measured."""
    least: tuple[int, int] = (3, 11)
    """The oldest Python that it takes."""
    delayed: bool = True
    """Whether a job can be given its time."""
    worker_first: bool = True
    """Whether a worker that runs hears of a job that another process adds."""
    queue: bool = True
    """Whether more than one worker may run: what `best peer queue` means."""
    python: bool = True


def _die_with_parent() -> None:
    """In a child before it is executed: if the benchmark is killed, so are its children (Linux).

    It forks from the main thread while no other runs, so that `preexec_fn` is safe.
    """
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


@contextlib.contextmanager
def server() -> Iterator[int]:
    """A Redis of our own on a free loopback port, without persistence, the same for all."""

    def preexec() -> None:
        os.setsid()
        _die_with_parent()

    try:
        started = LocalServer(preexec_fn=preexec)
    except (RedschedError, RuntimeError) as error:
        raise SystemExit(f"the benchmarks need a server: {error}") from None
    with started:
        yield started.port


def _stat(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def _family(pid: int) -> list[int]:
    """A process and all its descendants."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                children.setdefault(int(_stat(int(entry.name))[1]), []).append(int(entry.name))
    found = [pid]
    for each in found:
        found += children.get(each, [])
    return found


def _cpu_of(pid: int) -> float:
    """CPU seconds of a process and its descendants, those that ended included."""
    total = 0
    for each in _family(pid):
        with contextlib.suppress(OSError):
            total += sum(map(int, _stat(each)[11:15]))
    return total / os.sysconf("SC_CLK_TCK")


def rss_of(pid: int) -> int:
    """Bytes of memory that a process and its descendants hold."""
    total = 0
    for each in _family(pid):
        with contextlib.suppress(OSError):
            total += int(_stat(each)[21])
    return total * os.sysconf("SC_PAGESIZE")


class Bench:
    """A queue, an empty server and an empty ledger; whatever was started is ended when the context is left."""

    def __init__(self, peer: Peer, port: int, limit_s: float) -> None:
        self.peer = peer
        self.redis = redis.Redis(port=port)
        self.limit_s = limit_s
        self.process_s = 0.0
        self._deadline = time.monotonic() + limit_s
        self._url = f"redis://127.0.0.1:{port}/0"
        self._workers: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Self:
        self._folder = tempfile.TemporaryDirectory(prefix="redsched-bench-")
        self.ledger = Path(self._folder.name) / "ledger"
        self._log = Path(self._folder.name) / "log"
        self._log.touch()
        self.reset()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()
        self.redis.close()
        self._folder.cleanup()

    def reset(self, *, keep: bool = False) -> None:
        """Forget all effects, and all jobs (keep: not these)."""
        if not keep:
            self.redis.flushall()
        self.ledger.write_bytes(b"")
        self.epoch_us = time.time_ns() // 1000

    def _command(self, *words: object) -> list[str]:
        if self.peer.program.endswith(".mjs"):
            return ["node", self.peer.program, *map(str, words)]
        own = command_of(_environment(self.peer)) if self.peer.requires else [sys.executable]
        return [*own, self.peer.program, *map(str, words)]

    def _variables(self, more: dict[str, Any]) -> dict[str, str]:
        given = {
            "BENCH_URL": self._url, "BENCH_LEDGER": self.ledger, "BENCH_EPOCH": self.epoch_us,
            "BENCH_CONCURRENCY": self.peer.concurrency, "BENCH_NODE": folder_of(_environment(self.peer)),
            "PYTHONPATH": "" if self.peer.requires else HERE.parent, "PYTHONDONTWRITEBYTECODE": 1, **more,
        }  # fmt: skip
        return {**os.environ, **{name: str(value) for name, value in given.items()}}

    @property
    def left_s(self) -> float:
        """Seconds of the limit that are left.

        Raises:
            PeerError: none.
        """
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise PeerError(f"not finished within {self.limit_s:.0f} s")
        return left

    def produce(self, mode: str, count: int, *more: object, **variables: object) -> float:
        """Let it add jobs. Returns the seconds that the adding took, without the start of the process; `process_s` is
        then with it, and with its end.

        Raises:
            PeerError: it failed, or the limit is over.
        """
        started = time.perf_counter()
        try:
            done = subprocess.run(
                self._command("produce", mode, count, *more), cwd=PEERS, env=self._variables(variables),
                capture_output=True, text=True, check=False, timeout=self.left_s, preexec_fn=_die_with_parent,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            raise PeerError(f"adding {count} jobs ({mode}) did not end within {self.limit_s:.0f} s") from None
        self.process_s = time.perf_counter() - started
        if done.returncode:
            raise PeerError(f"cannot add jobs: {_last(done.stderr)}")
        return float(json.loads(done.stdout.strip().splitlines()[-1])["seconds"])

    def work(self, processes: int = 1, **variables: object) -> list[int]:
        """Start its workers. Returns their process ids."""
        with self._log.open("ab") as log:
            for _ in range(processes):
                self._workers.append(
                    subprocess.Popen(
                        self._command("work"), cwd=PEERS, env=self._variables(variables), stdout=log, stderr=log,
                        stdin=subprocess.DEVNULL, start_new_session=True, preexec_fn=_die_with_parent,  # noqa: PLW1509
                    )
                )  # fmt: skip
        return [worker.pid for worker in self._workers]

    def stop(self) -> None:
        """End its workers, and what they started."""
        for worker in self._workers:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(worker.pid, signal.SIGKILL)
            worker.wait()
        self._workers.clear()

    def written(self) -> int:
        """How many effects there are."""
        return self.ledger.stat().st_size // LINE

    def wait(self, count: int, until_s: float = float("inf")) -> None:
        """Until there are so many effects, or that instant (seconds since 1970) is over.

        Raises:
            PeerError: the limit is over, or a worker ended.
        """
        while self.written() < count and time.time() < until_s:
            ended = any(worker.poll() is not None for worker in self._workers)
            if ended or self._deadline < time.monotonic():
                why = "its worker ended" if ended else f"the limit is {self.limit_s:.0f} s"
                told = _last(self._log.read_text(errors="replace"))
                raise PeerError(f"{self.written()} of {count} jobs ran; {why}" + (f": {told}" if told else ""))
            time.sleep(0.002)

    def effects(self, count: int) -> list[tuple[int, int]]:
        """Each job's number and the microsecond (since 1970) at which it ran, in the order in which they did.

        Raises:
            PeerError: one is missing, or ran twice.
        """
        rows = self.rows()
        numbers = {number for number, _ in rows}
        if len(rows) != count or len(numbers) != count:
            raise PeerError(f"{count - len(numbers)} of {count} jobs lost, {len(rows) - len(numbers)} doubled")
        return rows

    def rows(self) -> list[tuple[int, int]]:
        """The ledger as it is."""
        return [(int(line[:10]), int(line[11:]) + self.epoch_us) for line in self.ledger.read_bytes().splitlines()]

    def cpu(self) -> float:
        """CPU seconds of the workers."""
        return sum(_cpu_of(worker.pid) for worker in self._workers)

    def redis_cpu(self) -> float:
        """CPU seconds of the server."""
        told = self.redis.info("cpu")
        return float(told["used_cpu_user"]) + float(told["used_cpu_sys"])


def _last(log: str) -> str:
    """The last line of a log."""
    return log.strip().rpartition("\n")[2][-200:]


def _environment(peer: Peer) -> str:
    return peer.program.rpartition("_peer")[0]
