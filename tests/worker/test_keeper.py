"""The keeper of a worker: it reaches Redis whatever the URL, and lives as long as its worker, no longer."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from redsched import BackgroundTaskScheduler
from redsched.store.store import Store
from redsched.testing import fresh_prefix, server
from redsched.testing.clusters import ClusterServers, SentinelServers
from tests.security.test_secrets import certificates, tls_port  # noqa: F401  fixtures
from tests.servers import LocalServer, wait_until
from tests.worker.test_stalls import is_there, keepers_of

KINDS = (
    "redis", "several shards", "password", "database", "unix", "rediss", "rediss, checked by the URL", "embedded",
    "sentinel", "cluster",
)  # fmt: skip


@pytest.fixture(params=KINDS)
def made(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[BackgroundTaskScheduler]:
    """A scheduler for a URL of each kind; its leases are long enough for TLS on a busy machine."""
    options: dict[str, Any] = {}
    with contextlib.ExitStack() as stack:
        match request.param:
            case "unix":
                url = stack.enter_context(server())
            case "rediss":
                url = f"rediss://127.0.0.1:{request.getfixturevalue('tls_port')}"
                options["redis_options"] = {"ssl_ca_certs": str(request.getfixturevalue("certificates") / "ca.pem")}
            case "rediss, checked by the URL":
                ca = request.getfixturevalue("certificates") / "ca.pem"
                url = f"rediss://127.0.0.1:{request.getfixturevalue('tls_port')}?ssl_ca_certs={ca}"
            case "embedded":
                url = f"embedded://{tmp_path / 'data'}"
            case "sentinel":
                url = stack.enter_context(SentinelServers()).url
            case "cluster":
                url = stack.enter_context(ClusterServers()).url
            case "password":
                local = stack.enter_context(LocalServer())
                with local.client() as client:
                    client.execute_command("ACL", "SETUSER", "app", "on", ">p/w?#é", "~*", "&*", "+@all")
                    client.execute_command("ACL", "SETUSER", "default", "off")
                url = f"redis://app:p%2Fw%3F%23%C3%A9@127.0.0.1:{local.port}"
            case kind:
                url = stack.enter_context(LocalServer()).url
                url += "/3?socket_timeout=3" if kind == "database" else ""
                options["shards"] = 4 if kind == "several shards" else None
        yield BackgroundTaskScheduler(url, fresh_prefix(), declared_tasks=False, lease=6.0, **options)


async def test_while_the_loop_is_blocked_the_keeper_vouches_on_each_shard_however_redis_is_reached(
    made: BackgroundTaskScheduler, caplog: pytest.LogCaptureFixture
) -> None:
    await made.start()
    try:
        async with asyncio.timeout(20):
            while made.id not in await made.get_workers():
                await asyncio.sleep(0.05)
        reached_by = (await made.store()).reached_by()
        seen = threading.Event()
        watcher = threading.Thread(target=lambda: asyncio.run(_see_vouching(reached_by, made.id, seen)))
        watcher.start()
        assert seen.wait(30), (
            "the keeper vouched for the worker on no shard, or not on all of them"
        )  # the loop's thread
        watcher.join()
    finally:
        await made.shutdown()
    assert not re.search("keeper process|the keeper of", caplog.text), "it went otherwise than by a process"


async def _see_vouching(reached_by: dict[str, Any], worker: str, seen: threading.Event) -> None:
    reached_by = dict(reached_by)
    store = Store(reached_by.pop("url"), **reached_by)
    try:
        async with asyncio.timeout(30):
            for shard in store.shards:
                while not await shard.link.command("HGET", shard.keys.worker(worker), "vouched_ms"):
                    await asyncio.sleep(0.05)
        seen.set()
    finally:
        await store.close()


# -- it lives as long as its worker ------------------------------------------------------------------------------------

FORKING = """
import asyncio, multiprocessing, os, sys, time, warnings
from redsched import BackgroundTaskScheduler

warnings.simplefilter("ignore", DeprecationWarning)  # this process has threads
how = sys.argv[3]

def child():
    if "starts" in how:
        asyncio.run(serve(None))
    time.sleep(600)

async def serve(act):
    scheduler = BackgroundTaskScheduler(sys.argv[1], sys.argv[2], declared_tasks=False)
    await scheduler.start()
    await asyncio.sleep(0.5)
    if act is not None:
        act()
    await asyncio.sleep(600)

def fork():
    if "multiprocessing" in how:
        process = multiprocessing.get_context("fork").Process(target=child)
        process.start()
        pid = process.pid
    else:
        pid = os.fork()
        if pid == 0:
            if "starts" in how:  # a loop runs here already, of the parent
                asyncio._set_running_loop(None)
            child()
    print(pid, flush=True)

asyncio.run(serve(fork))
"""


@pytest.fixture(params=["os.fork", "multiprocessing", "os.fork, starts", "multiprocessing, starts"])
def forked(request: pytest.FixtureRequest, redsched_url: str) -> Iterator[tuple[subprocess.Popen[bytes], int, str]]:
    """A process with a worker, its child, and how that was made."""
    parent = subprocess.Popen(
        [sys.executable, "-c", FORKING, redsched_url, fresh_prefix(), request.param], stdout=subprocess.PIPE
    )
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    try:
        yield parent, child, request.param
    finally:
        for pid in (parent.pid, child):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        parent.wait()
        parent.stdout.close()


def test_a_forked_child_has_no_keeper_until_it_starts_a_worker_and_holds_its_parents_not_alive(
    forked: tuple[subprocess.Popen[bytes], int, str],
) -> None:
    parent, child, how = forked
    [parents] = keepers_of(parent.pid)
    if "starts" in how:
        wait_until(lambda: len(keepers_of(child)) == 1, 20, "the child's worker has a keeper")
    parent.kill()
    wait_until(lambda: not is_there(parents), 5, "the keeper ended with its worker")
    assert is_there(child)
    assert len(keepers_of(child)) == ("starts" in how)


def test_a_child_that_is_killed_takes_its_own_keeper_with_it_and_no_other(
    forked: tuple[subprocess.Popen[bytes], int, str],
) -> None:
    parent, child, how = forked
    [parents] = keepers_of(parent.pid)
    if "starts" in how:
        wait_until(lambda: len(keepers_of(child)) == 1, 20, "the child's worker has a keeper")
    own = keepers_of(child)
    os.kill(child, signal.SIGKILL)
    wait_until(lambda: not any(is_there(pid) for pid in own), 5, "the child's keeper ended with it")
    assert keepers_of(parent.pid) == [parents]


async def test_a_scheduler_without_a_worker_starts_no_thread_and_no_process(redsched_url: str) -> None:
    """A process that only schedules can fork, under Python 3.12 and newer without a warning too."""
    before = set(threading.enumerate())
    made = BackgroundTaskScheduler(redsched_url, fresh_prefix(), declared_tasks=False)
    await made.start(worker=False)
    await made.schedule_delayed_task("later", _nothing, delay_seconds=600)
    assert set(threading.enumerate()) == before
    assert keepers_of(os.getpid()) == []
    await made.clear_all_jobs()
    await made.shutdown()


def _nothing() -> None:
    pass
