"""The same with real processes: workers of two versions that are stopped, killed and started, and the command line."""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from redsched import BackgroundTaskScheduler, JobView
from redsched.testing import fresh_prefix

APP = """
import os
import redsched

scheduler = redsched.BackgroundTaskScheduler(os.environ["APP_REDIS"], os.environ["APP_PREFIX"], lease=2)

@redsched.schedule_task(name="job", interval=3, timeout={timeout})
async def job() -> None: ...
"""
MORE = """
@redsched.schedule_task(name="{name}", cron="0 3 * * *", aliases={aliases})
async def more() -> None: ...
"""


class Machine:
    def __init__(self, folder: Path, url: str, prefix: str) -> None:
        self.folder = folder
        self.environment = {**os.environ, "APP_REDIS": url, "APP_PREFIX": prefix}
        self.up: list[asyncio.subprocess.Process] = []

    def deploy(self, version: str, *, timeout: int, name: str | None = None, aliases: tuple[str, ...] = ()) -> str:
        """A version of the code. Its target."""
        (self.folder / version).mkdir()
        more = MORE.format(name=name, aliases=list(aliases)) if name else ""
        (self.folder / version / "shop.py").write_text(APP.format(timeout=timeout) + more)
        return version

    async def start(self, version: str) -> asyncio.subprocess.Process:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "redsched.cli", "worker", "shop:scheduler",
            cwd=self.folder / version, env=self.environment, stderr=subprocess.PIPE,
        )  # fmt: skip
        self.up.append(process)
        assert process.stderr is not None
        while True:
            line = await asyncio.wait_for(process.stderr.readline(), 30)
            assert line, "the worker ended"
            if b"serves" in line or b"ready" in line or b"started" in line:
                return process

    async def stop(self, process: asyncio.subprocess.Process, how: int = signal.SIGTERM) -> None:
        process.send_signal(how)
        await asyncio.wait_for(process.communicate(), 30)
        self.up.remove(process)

    async def command(self, version: str, *arguments: str) -> tuple[int, str]:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "redsched.cli", *arguments,
            cwd=self.folder / version, env=self.environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        said, _ = await asyncio.wait_for(process.communicate(), 30)
        assert process.returncode is not None
        return process.returncode, said.decode()


@pytest.fixture
async def client(redsched_url: str) -> AsyncIterator[BackgroundTaskScheduler]:
    made = BackgroundTaskScheduler(redsched_url, fresh_prefix(), declared_tasks=False)
    yield made
    await made.clear_all_jobs()
    await made.shutdown()


@pytest.fixture
async def machine(client: BackgroundTaskScheduler, tmp_path: Path) -> AsyncIterator[Machine]:
    made = Machine(tmp_path, client.redis_url, client.prefix)
    yield made
    for process in list(made.up):
        await made.stop(process, signal.SIGKILL)


async def job(client: BackgroundTaskScheduler, job_id: str = "job") -> JobView:
    found = await client.get_job(job_id)
    assert found is not None
    return found


async def test_a_rolling_deploy(machine: Machine, client: BackgroundTaskScheduler) -> None:
    one = machine.deploy("one", timeout=5, name="report")
    two = machine.deploy("two", timeout=6, name="daily report", aliases=("report",))
    old = [await machine.start(one), await machine.start(one)]
    assert ((await job(client)).timeout, (await job(client)).application) == (5, "shop")
    report = await job(client, "report")
    new = await machine.start(two)
    await machine.stop(old[0], signal.SIGKILL)  # and its supervisor starts it again
    old[0] = await machine.start(one)
    assert (await job(client)).timeout == 6
    assert await client.get_job("report") is None
    assert (await job(client, "daily report")).next_run_time == report.next_run_time
    for process in old:
        await machine.stop(process)
    await machine.stop(new)
    await machine.start(two)
    assert sorted(found.id for found in await client.get_jobs()) == ["daily report", "job"]
    assert (await job(client)).timeout == 6
    fires = [event.fire_time for event in await client.get_history("job") if event.kind == "claimed"]
    assert all(fires)
    apart = {(b - a).total_seconds() for a, b in itertools.pairwise(fires) if a and b}
    assert all(seconds % 3 == 0 for seconds in apart), apart


async def test_prune_of_the_command_line(machine: Machine, client: BackgroundTaskScheduler) -> None:
    one = machine.deploy("one", timeout=5, name="report")
    two = machine.deploy("two", timeout=5)
    old = await machine.start(one)
    where: list[Any] = ["--app", "shop:scheduler"]
    code, said = await machine.command(two, "prune", *where, "--dry-run")
    assert (code, "report is held back" in said) == (1, True), said
    await machine.stop(old)
    code, said = await machine.command(two, "prune", *where, "--dry-run")
    assert (code, said.strip()) == (0, "would end report")
    assert await client.get_job("report") is not None
    code, said = await machine.command(two, "prune", *where, "--yes")
    assert (code, said.strip()) == (0, "ended report")
    assert await client.get_job("report") is None
    code, said = await machine.command(two, "--url", client.redis_url, "--prefix", client.prefix, "jobs", "show", "job")
    assert code == 0
    assert "shop" in said
