"""Where the time goes from due to settled: `python -m benchmarks --profile`.

py-spy samples the worker, in an environment of its own; the server tells what its commands cost, and its latency.
"""

from __future__ import annotations

import subprocess
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.bench import Bench, server
from benchmarks.compare import OURS
from benchmarks.environments import InstallError, folder_of, install

__all__ = ["profile"]

REQUIRES = ("py-spy==0.4.1",)
JOBS, SECONDS = 300_000, 5
LATENCY_MS = 5


def _table(title: str, rows: Iterable[tuple[str, float]], say: Callable[[str], None]) -> None:
    say(f"\n{title}")
    for what, value in rows:
        say(f"  {value:6.2f}  {what}")


def _samples(raw: Path, say: Callable[[str], None]) -> None:
    """py-spy's `raw` format: frames with semicolons between, then how many samples had them."""
    own: Counter[str] = Counter()
    inclusive: Counter[str] = Counter()
    for line in raw.read_text().splitlines():
        stack, _, count = line.rpartition(" ")
        frames = [frame.strip().rpartition(":")[0].replace(" (", "  (") for frame in stack.split(";")]
        own[frames[-1]] += int(count)
        inclusive.update({frame: int(count) for frame in set(frames)})
    total = max(1, sum(own.values()))
    _table("% of the samples in the function itself", [(f, 100 * n / total) for f, n in own.most_common(20)], say)
    _table("% with what it calls", [(f, 100 * n / total) for f, n in inclusive.most_common(30)], say)


def _server(bench: Bench, jobs: int, say: Callable[[str], None]) -> None:
    told: dict[str, dict[str, Any]] = bench.redis.info("commandstats")
    rows = sorted(
        ((float(row["usec"]) / jobs, name.removeprefix("cmdstat_")) for name, row in told.items()), reverse=True
    )
    _table("us a job in Redis' commands (evalsha has all that its scripts call)", [(n, us) for us, n in rows[:12]], say)
    latest: list[list[Any]] = bench.redis.execute_command("LATENCY", "LATEST")
    _table(f"the longest ms of events above {LATENCY_MS} ms", [(row[0].decode(), row[3]) for row in latest], say)


def profile(say: Callable[[str], None] = print) -> None:
    """Run jobs, sample the worker meanwhile, and tell.

    Raises:
        SystemExit: py-spy cannot be installed, or may not look into other processes.
    """
    try:
        install("profile", REQUIRES)
    except InstallError as error:
        raise SystemExit(f"py-spy {error}") from None
    with server() as port, Bench(OURS, port, 120) as bench, TemporaryDirectory() as folder:
        bench.produce("bulk", JOBS)
        bench.redis.config_resetstat()
        bench.redis.config_set("latency-monitor-threshold", LATENCY_MS)
        [worker] = bench.work()
        bench.wait(2000)
        before = bench.written(), bench.cpu(), bench.redis_cpu()
        raw = Path(folder) / "raw"
        spy = [folder_of("profile") / "bin" / "py-spy", "record", "-d", SECONDS, "-r", 400, "-f", "raw", "-o", raw]
        done = subprocess.run([*map(str, spy), "-p", str(worker)], capture_output=True, text=True, check=False)
        jobs = bench.written() - before[0]
        if done.returncode or not raw.exists() or not jobs:
            raise SystemExit(f"py-spy: {done.stderr.strip()[-300:]}")
        say(f"worker {(bench.cpu() - before[1]) / jobs * 1e6:.1f} us of CPU a job,")
        say(f"Redis {(bench.redis_cpu() - before[2]) / jobs * 1e6:.1f} us")
        _samples(raw, say)
        _server(bench, bench.written(), say)
