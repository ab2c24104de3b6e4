"""The fixtures in each mode of the plugins that run coroutine tests, each in a pytest of its own."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path
from urllib.parse import quote

import pytest
from redis.asyncio import Redis

from redsched import BackgroundTaskScheduler
from redsched.errors import InvalidConfigError
from redsched.testing import ClusterServers, FaultProxy, LocalServer, SentinelServers, fresh_prefix
from tests.servers import ROOT

TEST = """
import datetime
import pytest

ran = []


async def note(value):
    ran.append(value)


{mark}
async def test_time_travel(redsched_kit, redsched_scheduler):
    assert redsched_kit.scheduler is redsched_scheduler
    await redsched_scheduler.schedule_delayed_task("job", note, 3600, args=["x"])
    await redsched_kit.advance(minutes=59)
    assert ran == []
    await redsched_kit.travel_to(await redsched_kit.now() + datetime.timedelta(minutes=1))
    assert await redsched_kit.run_due() == 1
    assert ran == ["x"]


{mark}
async def test_a_lost_reply(redsched_proxy, redsched_server):
    from redsched import BackgroundTaskScheduler

    scheduler = BackgroundTaskScheduler(redsched_proxy.url, declared_tasks=False)
    redsched_proxy.drop_next_reply(matching=b"EVALSHA")
    await scheduler.schedule_delayed_task("job", note, 3600, args=["x"])
    assert redsched_proxy.dropped == 1
    assert len(await scheduler.get_jobs()) == 1
    await scheduler.shutdown()
    assert redsched_server.process.poll() is None
"""
SCOPE = ["-o", "asyncio_default_fixture_loop_scope=function"]
"""Without it some versions of pytest-asyncio warn, and each warning is an error here."""
MODES = {
    "strict": ("@pytest.mark.asyncio", [*SCOPE, "-o", "asyncio_mode=strict"]),
    "auto": ("", [*SCOPE, "-o", "asyncio_mode=auto"]),
    "anyio": ("@pytest.mark.anyio", ["-p", "no:asyncio"]),
    "anyio beside strict": ("@pytest.mark.anyio", [*SCOPE, "-o", "asyncio_mode=strict"]),
}
BACKEND = "import pytest\n\n@pytest.fixture\ndef anyio_backend():\n    return 'asyncio'\n"


@pytest.mark.parametrize("mode", [*MODES])
def test_the_kit_works(mode: str, redsched_url: str, tmp_path: Path) -> None:
    mark, options = MODES[mode]
    (tmp_path / "conftest.py").write_text(BACKEND if "anyio" in mode else "")
    (tmp_path / "test_it.py").write_text(TEST.replace("{mark}", mark))
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-W", "error", "-p", "no:cacheprovider", *options, str(tmp_path)],
        cwd=tmp_path, env={"PYTHONPATH": str(ROOT), "REDSCHED_TEST_URL": redsched_url, "PATH": "/usr/bin:/bin"},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 passed" in done.stdout


async def test_the_cluster_fixture_is_a_cluster_that_fails_over(redsched_cluster: ClusterServers) -> None:
    async with BackgroundTaskScheduler(redsched_cluster.url, fresh_prefix(), declared_tasks=False) as scheduler:
        await scheduler.schedule_delayed_task("job", print, 3600, job_id="kept")
        await asyncio.to_thread(redsched_cluster.fail_over, 0, kill=False)
        assert [job.id for job in await scheduler.get_jobs()] == ["kept"]


async def test_the_sentinel_fixture_leads_to_a_primary(redsched_sentinel: SentinelServers) -> None:
    async with BackgroundTaskScheduler(redsched_sentinel.url, fresh_prefix(), declared_tasks=False) as scheduler:
        await scheduler.schedule_delayed_task("job", print, 3600, job_id="kept")
        assert [job.id for job in await scheduler.get_jobs()] == ["kept"]


@pytest.mark.parametrize("kind", ["port", "socket"])
async def test_a_proxy_before_a_url_keeps_its_user_password_and_database(kind: str) -> None:
    password = "p@ss/{port}"
    with LocalServer("--requirepass", password, unix=kind == "socket") as server:
        scheme, _, where = server.url.partition("://")
        url = f"{scheme}://:{quote(password, safe='')}@{where}" + ("/3" if kind == "port" else "?db=3")
        async with FaultProxy.before(url) as proxy, Redis.from_url(proxy.url) as client:
            await client.set("here", 1)
            assert (await client.info("keyspace")).keys() == {"db3"}
            assert proxy.accepted == 1


@pytest.mark.parametrize("url", ["rediss://host", "redis+cluster://a,b", "redis+sentinel://a/jobs", "embedded:///a"])
def test_a_proxy_before_what_it_cannot_stand_before_is_refused(url: str) -> None:
    with pytest.raises(InvalidConfigError, match="the fault proxy"):
        FaultProxy.before(url)
