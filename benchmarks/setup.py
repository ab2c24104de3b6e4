"""A server for the run, a ledger that the tasks write to, and what machine this is."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import os
import platform
import resource
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import redis

from redsched import BackgroundTaskScheduler, testing

LINE = b"x" * 23 + b"\n"


class Ledger:
    """One 24-byte O_APPEND write for each effect: what was run is counted outside Redis."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        self.written = 0

    def write(self) -> None:
        os.write(self.descriptor, LINE)
        self.written += 1

    def count(self) -> int:
        """Effects on disk."""
        return self.path.stat().st_size // len(LINE)

    def reset(self) -> None:
        os.ftruncate(self.descriptor, 0)
        self.written = 0


@contextlib.contextmanager
def bench_server() -> Iterator[str]:
    """A server without persistence; the same for every measurement of the run."""
    with testing.server() as url:
        yield url


@contextlib.contextmanager
def ledger() -> Iterator[Ledger]:
    with tempfile.TemporaryDirectory(prefix="redsched-bench-") as folder:
        made = Ledger(Path(folder) / "ledger")
        yield made
        os.close(made.descriptor)


@contextlib.asynccontextmanager
async def scheduler(url: str, **settings: Any) -> AsyncIterator[BackgroundTaskScheduler]:
    """A scheduler with a prefix of its own, not started; its jobs are removed at the end."""
    made = BackgroundTaskScheduler(url, testing.fresh_prefix(), declared_tasks=False, **settings)
    await made.store()
    try:
        yield made
    finally:
        await made.shutdown()
        await made.clear_all_jobs()


def client(url: str) -> redis.Redis:
    """A plain client, for INFO."""
    return redis.Redis.from_url(url)


def cpu_seconds() -> float:
    """CPU time of this process, both modes."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


async def until(condition: Any, seconds: float) -> None:
    """Wait for a condition that this process itself will make true.

    Raises:
        TimeoutError: it did not become true: a measurement must not hang.
    """
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.005)


def machine(url: str) -> dict[str, Any]:
    """Where and with what this was measured."""
    info = client(url).info("server")
    cpu = platform.processor() or platform.machine()
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                cpu = line.partition(":")[2].strip()
                break
    loop = "asyncio"
    if importlib.util.find_spec("uvloop") is not None:
        loop = f"uvloop {version('uvloop')}"
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    return {
        "cpu": cpu,
        "cores": os.cpu_count(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "loop": loop,
        "redsched": version("redsched"),
        "commit": commit.stdout.strip() or None,
        "redis-py": version("redis"),
        "hiredis": version("hiredis"),
        "server": f"{info.get('server_name', 'redis')} {info.get('valkey_version', info['redis_version'])}",
        "command": " ".join(["python -m benchmarks", *sys.argv[1:]]),
    }
