"""What a look at few of many jobs costs: a process that starts, not what is stored."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import redis

from redsched import BackgroundTaskScheduler, JobSpec
from redsched.testing import fresh_prefix

FEW, MANY = 20, 20_000
SLOW_US = 10_000


def task(number: int) -> None: ...


def seconds(command: Sequence[str], cache: Path) -> float:
    """Processor time of a process: others of the machine count little."""
    env = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, env={**env, "PYTHONPYCACHEPREFIX": str(cache)}, check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


async def filled(url: str, number: int) -> str:
    scheduler = BackgroundTaskScheduler(url, fresh_prefix(), declared_tasks=False)
    await scheduler.start(worker=False)
    await scheduler.schedule_many([JobSpec("job", task, delay=3600 + n, args=[n]) for n in range(number)])
    await scheduler.shutdown()
    return scheduler.prefix


async def test_a_few_of_many_jobs_are_listed_for_little_more_than_python_takes_to_start(
    redsched_url: str, tmp_path: Path
) -> None:
    few, many = await filled(redsched_url, FEW), await filled(redsched_url, MANY)
    listing = [sys.executable, "-m", "redsched.cli", "--url", redsched_url, "jobs", "list", "--limit", str(FEW)]
    bare = [sys.executable, "-c", "import redis.asyncio, typer"]
    took: dict[str, list[float]] = {"bare": [], "few": [], "many": []}
    slow: list[list[bytes]] = []  # of each round: a busy machine makes any command slow once
    with redis.Redis.from_url(redsched_url) as admin:
        kept = admin.config_get("slowlog-log-slower-than")["slowlog-log-slower-than"]
        admin.config_set("slowlog-log-slower-than", SLOW_US)
        try:
            for _ in range(5):
                took["bare"].append(seconds(bare, tmp_path))
                took["few"].append(seconds([*listing, "--prefix", few], tmp_path))
                admin.slowlog_reset()
                took["many"].append(seconds([*listing, "--prefix", many], tmp_path))
                entries = [entry["command"] for entry in admin.slowlog_get(100)]
                slow.append([command for command in entries if many.encode() in command])
        finally:
            admin.config_set("slowlog-log-slower-than", kept)
    best = {name: min(values) for name, values in took.items()}
    assert best["many"] <= 1.5 * best["few"], took
    assert best["many"] <= 3 * best["bare"], took
    assert [] in slow, slow
