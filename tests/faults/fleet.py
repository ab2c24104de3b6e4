"""A fleet of real worker processes with a ledger outside Redis, for tests that kill and stop them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from tests.servers import ROOT, wait_until


@dataclass(frozen=True)
class Effect:
    """One effect of a task, as it wrote it: each is one atomic append."""

    job_id: str
    fire_ms: int
    attempt: int
    fence: int
    pid: int
    word: str


class Fleet:
    """Worker processes on one server and prefix, and what their tasks did."""

    def __init__(self, url: str, prefix: str, *, lease: float = 2.0, concurrency: int = 50) -> None:
        self.url = url
        self.prefix = prefix
        self._settings = [str(lease), str(concurrency)]
        self._folder = tempfile.TemporaryDirectory(prefix="redsched-fleet-")
        self.ledger = Path(self._folder.name) / "ledger"
        self.ledger.touch()
        self._log = (Path(self._folder.name) / "log").open("ab")
        self.workers: list[subprocess.Popen[bytes]] = []

    def add(self, count: int = 1, *, hours_wrong: float = 0, ignorant: bool = False) -> list[subprocess.Popen[bytes]]:
        """Start workers; they are ready when this returns. An ignorant one knows no task."""
        started = []
        for _ in range(count):
            ready = Path(self._folder.name) / f"ready-{len(self.workers)}"
            worker = subprocess.Popen(
                [sys.executable, "-m", "tests.faults.worker_main", self.url, self.prefix, str(self.ledger), str(ready),
                 *self._settings, str(hours_wrong), str(int(ignorant))],
                cwd=ROOT,
                stderr=self._log,
            )  # fmt: skip
            self.workers.append(worker)
            started.append((worker, ready))
        for worker, ready in started:
            wait_until(
                lambda ready=ready, worker=worker: ready.exists() or worker.poll() is not None, 20, "a worker starts"
            )
            assert worker.poll() is None, self.log()
        return [worker for worker, _ in started]

    def log(self) -> str:
        """What the workers said."""
        return (Path(self._folder.name) / "log").read_text(errors="replace")

    def effects(self, word: str | None = None) -> list[Effect]:
        """What the tasks did, in order."""
        made = []
        for line in self.ledger.read_text().splitlines():
            job_id, fire_ms, attempt, fence, pid, said = line.split("\t")
            if word is None or said == word:
                made.append(Effect(job_id, int(fire_ms), int(attempt), int(fence), int(pid), said))
        return made

    def count(self, word: str) -> Counter[str]:
        """How often each job did it."""
        return Counter(effect.job_id for effect in self.effects(word))

    def close(self) -> None:
        for worker in self.workers:
            if worker.poll() is None:
                os.kill(worker.pid, signal.SIGCONT)
                worker.kill()
            worker.wait()
        self._log.close()
        self._folder.cleanup()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
