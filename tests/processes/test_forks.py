"""A scheduler that was made before a fork works in each child and goes on in the parent, whatever its state and URL."""

from __future__ import annotations

import asyncio
import contextlib
import json
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from redsched import BackgroundTaskScheduler, ReactiveTaskProcessor, TaskMetrics, current_scheduler
from redsched.integrations.prometheus import serve
from redsched.jobs.ids import new_id
from redsched.testing import fresh_prefix, server
from redsched.testing.clusters import ClusterServers, SentinelServers
from redsched.worker.executors.processes import EXIT_TIMEOUT_S
from tests.processes import c_forks, shared
from tests.processes.harness import fork, in_children, sockets
from tests.security.test_secrets import certificates, tls_port  # noqa: F401  fixtures
from tests.servers import ROOT, LocalServer, free_port

COUNT = 25


def nothing() -> None:
    pass


async def schedule(scheduler: BackgroundTaskScheduler, count: int = COUNT) -> list[str]:
    return [(await scheduler.schedule_delayed_task("later", nothing, delay_seconds=600)).id for _ in range(count)]


@pytest.fixture(scope="module")
def sentinels() -> Iterator[SentinelServers]:
    with SentinelServers() as servers:
        yield servers


@pytest.fixture(scope="module")
def cluster() -> Iterator[ClusterServers]:
    with ClusterServers() as servers:
        yield servers


@pytest.fixture(params=["redis", "unix", "rediss", "embedded", "sentinel", "cluster"])
def made(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[BackgroundTaskScheduler]:
    """A scheduler for a URL of each kind."""
    options: dict[str, Any] = {}
    with contextlib.ExitStack() as stack:
        match request.param:
            case "redis":
                url = stack.enter_context(LocalServer()).url
            case "unix":
                url = stack.enter_context(server())
            case "rediss":
                url = f"rediss://127.0.0.1:{request.getfixturevalue('tls_port')}"
                options["redis_options"] = {"ssl_ca_certs": str(request.getfixturevalue("certificates") / "ca.pem")}
            case "embedded":
                url = f"embedded://{tmp_path / 'data'}"
            case kind:
                url = request.getfixturevalue({"sentinel": "sentinels", "cluster": "cluster"}[kind]).url
        scheduler = BackgroundTaskScheduler(url, fresh_prefix(), declared_tasks=False, **options)
        yield scheduler
        asyncio.run(scheduler.shutdown())


def test_each_child_stores_what_it_accepted_and_so_does_the_parent(made: BackgroundTaskScheduler) -> None:
    ids = [*asyncio.run(schedule(made))]
    for accepted in in_children(lambda: asyncio.run(schedule(made))):
        ids += accepted
    ids += asyncio.run(schedule(made))
    assert len(set(ids)) == 6 * COUNT
    assert {job.id for job in asyncio.run(made.get_jobs())} == set(ids)


def test_a_fork_in_a_loop_that_runs_leaves_the_parents_connections_as_they_are(made: BackgroundTaskScheduler) -> None:
    """The child closes its copies only: the parent's next commands go over the same connections."""

    async def main() -> None:
        ids = await schedule(made, 3)
        store = await made.store()
        links = [shard.link for shard in store.shards]
        connections = [await link.command("CLIENT", "ID", hold="test") for link in links]

        def child() -> list[str]:
            mine = asyncio.run(schedule(made))
            return [*mine, *asyncio.run(schedule(made, 1))]

        for accepted in (
            await asyncio.to_thread(lambda: [wait() for wait in waiting])
            if (waiting := [fork(child) for _ in range(3)])
            else []
        ):
            ids += accepted
        assert [await link.command("CLIENT", "ID", hold="test") for link in links] == connections
        for link in links:
            await link.free("test")
        ids += await schedule(made, 3)
        assert {job.id for job in await made.get_jobs()} == set(ids)
        assert len(ids) == 3 * (COUNT + 1) + 6

    asyncio.run(main())


def test_a_child_has_none_of_the_parents_sockets(made: BackgroundTaskScheduler) -> None:
    async def main() -> None:
        before = sockets()
        await asyncio.gather(*(schedule(made, 2) for _ in range(4)))
        parents = sockets() - before
        assert parents
        assert await asyncio.to_thread(fork(lambda: sorted(sockets() & parents))) == []
        await schedule(made, 1)

    asyncio.run(main())


@pytest.fixture
def scheduler(redsched_url: str) -> Iterator[BackgroundTaskScheduler]:
    made = BackgroundTaskScheduler(redsched_url, fresh_prefix(), declared_tasks=False, lease=2.0)
    yield made
    asyncio.run(made.shutdown())


def test_a_child_of_a_started_scheduler_is_not_started_and_can_start_its_own(
    scheduler: BackgroundTaskScheduler, tmp_path: Path
) -> None:
    ledger = tmp_path / "ledger"
    scheduler.register(shared.note, name="note")

    async def order(count: int) -> None:
        for _ in range(count):
            await scheduler.schedule_immediate_task("note", shared.note, args=[str(ledger)])

    async def childs_life() -> int:
        await scheduler.start()
        await order(5)
        workers = await scheduler.get_workers()
        await scheduler.shutdown()
        return len(workers)

    async def main() -> None:
        await scheduler.start()
        parents_id = scheduler.id

        def child() -> list[Any]:
            state = [scheduler.running, scheduler.worker is None, scheduler.id != parents_id]
            return [*state, asyncio.run(childs_life())]

        waiting = [fork(child) for _ in range(2)]
        found = await asyncio.to_thread(lambda: [wait() for wait in waiting])
        assert [state[:3] for state in found] == [[False, True, True]] * 2
        assert all(state[3] >= 2 for state in found)
        assert scheduler.running
        assert scheduler.id == parents_id
        await order(5)
        async with asyncio.timeout(20):
            while not ledger.exists() or len(ledger.read_text().splitlines()) < 15:
                await asyncio.sleep(0.02)
        assert list(await scheduler.get_workers()) == [parents_id]
        await scheduler.shutdown()

    asyncio.run(main())
    assert len(ledger.read_text().splitlines()) == 15


def test_a_child_that_leaves_the_parents_context_managers_stops_nothing(scheduler: BackgroundTaskScheduler) -> None:
    """As after sys.exit() in a child that was forked in `async with scheduler`."""

    async def main() -> None:
        async with scheduler:
            wait = fork(lambda: scheduler.shutdown().send(None))
            with pytest.raises(AssertionError, match="StopIteration"):  # it had nothing to wait for
                await asyncio.to_thread(wait)
            handle = await scheduler.schedule_immediate_task("nothing", nothing)
            assert (await handle.result(timeout=10)).outcome == "done"

    asyncio.run(main())


def test_a_fork_from_a_thread_while_another_schedules(scheduler: BackgroundTaskScheduler) -> None:
    """Locks may be held, and connections half made, when a thread forks."""
    stop = threading.Event()
    ids: list[str] = []

    def busy() -> None:
        while not stop.is_set():
            ids.extend(asyncio.run(schedule(scheduler, 2)))
            scheduler.metrics.increment("busy")

    threads = [threading.Thread(target=busy) for _ in range(3)]
    for thread in threads:
        thread.start()
    children: list[str] = []
    try:
        for _ in range(10):
            children += in_children(lambda: [*asyncio.run(schedule(scheduler, 3)), str(scheduler.metrics)], 1)[0][:3]
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert {job.id for job in asyncio.run(scheduler.get_jobs())} == {*ids, *children}


def test_a_child_of_a_child_has_ids_of_its_own(scheduler: BackgroundTaskScheduler) -> None:
    def child() -> list[str]:
        mine = asyncio.run(schedule(scheduler))
        [grandchilds] = in_children(lambda: asyncio.run(schedule(scheduler)), 1)
        return [scheduler.id, *mine, *grandchilds, *asyncio.run(schedule(scheduler))]

    ids: list[str] = []
    for worker, *accepted in in_children(child):
        assert worker != scheduler.id
        ids += accepted
    assert len(set(ids)) == 4 * 3 * COUNT
    assert {job.id for job in asyncio.run(scheduler.get_jobs())} == set(ids)


@pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])
def test_each_process_of_multiprocessing_stores_what_it_accepted(redsched_url: str, method: str) -> None:
    prefix = fresh_prefix()
    context = multiprocessing.get_context(method)
    shared.configure(redsched_url, prefix)
    if method == "fork":
        asyncio.run(shared.schedule(1))  # connected before
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12: this process has threads
        with context.Pool(4, initializer=shared.configure, initargs=(redsched_url, prefix)) as pool:
            ids = [one for made in pool.map(shared.run_schedule, [COUNT] * 8) for one in made]
    assert len(set(ids)) == 8 * COUNT
    assert set(ids) <= {job.id for job in asyncio.run(shared.schedulers[-1].get_jobs())}


def test_children_never_make_the_same_ids() -> None:
    new_id()
    made = [one for ids in in_children(lambda: [new_id() for _ in range(200)], 8) for one in ids]
    assert len(set(made)) == 8 * 200


def test_a_process_that_python_does_not_know_to_be_forked_is_noticed(scheduler: BackgroundTaskScheduler) -> None:
    """uWSGI forks in C and runs no hooks: there the C library's fork is called likewise, four times."""
    command = [sys.executable, "-m", c_forks.__name__, scheduler.redis_url, scheduler.prefix]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    accepted = json.loads(done.stdout)
    assert [len(ids) for ids in accepted.values()] == [c_forks.COUNT] * 4
    stored = {job.id for job in asyncio.run(scheduler.get_jobs())}
    assert len(stored) == 4 * c_forks.COUNT + 1, "no two processes made the same ids"
    assert {one for ids in accepted.values() for one in ids} <= stored


def test_a_closure_that_was_scheduled_before_the_fork_runs_in_the_child_that_schedules_it(
    scheduler: BackgroundTaskScheduler,
) -> None:
    def here() -> int:
        return os.getpid()

    async def once() -> int:
        async with scheduler:
            handle = await scheduler.schedule_immediate_task("here", here)
            return (await handle.result(timeout=10)).result

    async def before() -> None:
        await scheduler.schedule_delayed_task("here", here, delay_seconds=600)

    asyncio.run(before())
    pids = in_children(lambda: [os.getpid(), asyncio.run(once())], 2)
    assert [ran for _, ran in pids] == [own for own, _ in pids]
    assert asyncio.run(once()) == os.getpid()


def test_current_scheduler_in_a_fork_of_a_task_is_the_childs(scheduler: BackgroundTaskScheduler) -> None:
    def task() -> list[str]:
        [ids] = in_children(lambda: asyncio.run(schedule(current_scheduler(), 3)), 1)
        return ids

    async def main() -> None:
        async with scheduler:
            ids = (await (await scheduler.schedule_immediate_task("forks", task)).result(timeout=20)).result
            assert set(ids) == {job.id for job in await scheduler.get_jobs()}

    asyncio.run(main())


def test_a_child_counts_from_zero_and_a_lock_that_a_thread_held_is_free(scheduler: BackgroundTaskScheduler) -> None:
    own = TaskMetrics()
    own.increment("kept")
    scheduler.metrics.increment("jobs_scheduled_total", 5)
    with own._lock, scheduler.metrics._lock:
        found = in_children(lambda: [scheduler.metrics.get_counter("jobs_scheduled_total"), own.get_counter("kept")], 1)
    assert found == [[0, 1]]


def test_the_embedded_server_stays_the_parents_and_the_child_holds_it_too(tmp_path: Path) -> None:
    scheduler = BackgroundTaskScheduler(f"embedded://{tmp_path / 'data'}", "x", declared_tasks=False)
    asyncio.run(schedule(scheduler, 1))
    assert scheduler.client.embedded is not None
    pid = scheduler.client.embedded.pid

    async def use_and_leave() -> int:
        await schedule(scheduler, 1)
        await scheduler.shutdown()
        return len(await scheduler.get_jobs())

    assert in_children(lambda: asyncio.run(use_and_leave()), 2)[-1] >= 2
    in_children(lambda: None, 1)  # one that does not use it
    assert scheduler.client.embedded.pid == pid
    assert len(asyncio.run(scheduler.get_jobs())) == 3

    # A child that holds it keeps it when the parent goes; one that does not hold it holds nothing of the parent's.
    ready_source, ready = os.pipe()
    go, go_sink = os.pipe()

    def stays() -> list[int]:
        os.close(go_sink)
        asyncio.run(schedule(scheduler, 1))
        os.write(ready, b"x")
        os.read(go, 1)
        return [
            len(asyncio.run(scheduler.get_jobs())),
            scheduler.client.embedded.pid if scheduler.client.embedded else 0,
        ]

    idle = fork(lambda: (os.close(go_sink), os.read(go, 1), None)[-1])
    wait = fork(stays)
    os.read(ready_source, 1)
    asyncio.run(scheduler.shutdown())
    os.write(go_sink, b"x")
    os.close(go_sink)
    assert wait() == [4, pid]
    idle()
    for descriptor in (ready_source, ready, go):
        os.close(descriptor)


def test_a_child_does_not_end_the_server_of_the_testing_kit() -> None:
    context = server()
    url = context.__enter__()
    try:
        in_children(lambda: context.__exit__(None, None, None), 1)
        asyncio.run(schedule(BackgroundTaskScheduler(url, "x", declared_tasks=False), 1))
    finally:
        context.__exit__(None, None, None)


def test_a_child_does_not_hold_the_pipes_of_the_process_pool(scheduler: BackgroundTaskScheduler) -> None:
    """Else a process of the pool would not see that its worker is gone."""

    async def main() -> None:
        await scheduler.start()
        handle = await scheduler.schedule_immediate_task("pid", shared.pid, executor="processpool")
        assert (await handle.result(timeout=20)).outcome == "done"
        child = fork(signal.pause)
        began = time.monotonic()
        await scheduler._executors.close(kill=False)  # closes the pipes, at which it ends by itself
        took = time.monotonic() - began
        child.kill()
        await scheduler.shutdown()
        assert took < EXIT_TIMEOUT_S / 2

    asyncio.run(main())


def test_a_subscription_stays_the_parents(scheduler: BackgroundTaskScheduler) -> None:
    handled: list[int] = []

    class Source:
        def subscribe(self, on_next: Any) -> Any:
            self.on_next = on_next

    async def handle(event: int) -> None:
        handled.append(event)

    async def main() -> None:
        source = Source()
        async with ReactiveTaskProcessor(scheduler) as processor:
            processor.subscribe(source, handle)

            def child() -> int:
                source.on_next(1)
                asyncio.run(processor.close())
                return len(handled)

            assert await asyncio.to_thread(fork(child)) == 0
            source.on_next(2)
        assert handled == [2]

    asyncio.run(main())


def test_a_scheduler_says_why_it_cannot_be_pickled(scheduler: BackgroundTaskScheduler) -> None:
    import pickle

    with pytest.raises(TypeError, match="at module level"):
        pickle.dumps(scheduler)


def test_a_child_frees_the_port_of_the_metrics(scheduler: BackgroundTaskScheduler) -> None:
    port = free_port()

    async def main() -> None:
        await scheduler.start()
        with serve(scheduler, port):
            child = fork(signal.pause)
        with socket.socket() as again:
            again.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            again.bind(("127.0.0.1", port))
            again.listen()
        child.kill()
        await scheduler.shutdown()

    asyncio.run(main())
