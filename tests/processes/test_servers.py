"""gunicorn and uWSGI, as users start them: each order that was accepted runs once, whichever process accepted it."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from redsched import BackgroundTaskScheduler
from redsched.testing import fresh_prefix
from tests.processes.harness import free_port, orders_run, post_many, python, service
from tests.servers import wait_until
from tests.worker.test_stalls import is_there, keepers_of

ORDERS = 60
WORKERS = 4


@pytest.fixture
def environment(redsched_url: str, tmp_path: Path) -> dict[str, str]:
    return {
        "SERVICE_URL": redsched_url,
        "SERVICE_PREFIX": fresh_prefix(),
        "SERVICE_LEDGER": str(tmp_path / "ledger.txt"),
    }


def scheduler_of(environment: Mapping[str, str]) -> BackgroundTaskScheduler:
    return BackgroundTaskScheduler(environment["SERVICE_URL"], environment["SERVICE_PREFIX"], declared_tasks=False)


def expect_each_order_once(environment: Mapping[str, str], number: int) -> None:
    ledger = Path(environment["SERVICE_LEDGER"])
    extra = [-1] if environment.get("SERVICE_CONNECTED") else []
    wait_until(lambda: len([n for n in orders_run(ledger) if n >= 0]) >= number, 30, "all orders ran")
    assert sorted(set(orders_run(ledger)) | set(extra)) == [*extra, *range(number)]
    assert [n for n in orders_run(ledger) if n >= 0] == [*range(number)]


def pids_shown(environment: Mapping[str, str]) -> set[int]:
    return {worker["pid"] for worker in asyncio.run(scheduler_of(environment).get_workers()).values()}


def gunicorn(port: int, *options: str, flags: Sequence[str] = ()) -> list[str]:
    return python(
        *flags, "-m", "gunicorn", "tests.processes.service:app", "-w", str(WORKERS),
        "-k", "uvicorn_worker.UvicornWorker", "--bind", f"127.0.0.1:{port}", "--graceful-timeout", "20", *options,
    )  # fmt: skip


@pytest.mark.parametrize("connected", ["", "yes"], ids=["fresh", "connected"])
@pytest.mark.parametrize("options", [["--preload"], []], ids=["preload", "each-imports"])
def test_under_gunicorn_each_accepted_order_runs_once_and_all_workers_are_shown(
    environment: dict[str, str], options: list[str], connected: str
) -> None:
    environment["SERVICE_CONNECTED"] = connected
    port = free_port()
    with service(gunicorn(port, *options), environment, port) as url:
        answers = post_many(url, ORDERS)
        assert len({answer["id"] for answer in answers}) == ORDERS
        expect_each_order_once(environment, ORDERS)
        assert len({(answer["pid"], answer["scheduler"]) for answer in answers}) == len(
            {answer["pid"] for answer in answers}
        )
        # The orders may be over before the last of the processes has imported the service.
        wait_until(lambda: len(pids_shown(environment)) == WORKERS, 30, "all workers are shown")
        shown = asyncio.run(scheduler_of(environment).get_workers())
        assert {answer["scheduler"] for answer in answers} <= set(shown)


def test_under_gunicorn_a_fork_raises_no_warning(environment: dict[str, str]) -> None:
    """Python 3.12 and newer warn of a fork in a process with threads: a scheduler that was used has none left."""
    environment["SERVICE_CONNECTED"] = "yes"
    port = free_port()
    with service(gunicorn(port, "--preload", flags=["-W", "error"]), environment, port) as url:
        post_many(url, ORDERS)
        expect_each_order_once(environment, ORDERS)
        log = Path(environment["SERVICE_LEDGER"]).with_suffix(".log").read_text()
        assert "Warning" not in log


def test_under_gunicorn_the_workers_share_the_embedded_server(environment: dict[str, str], tmp_path: Path) -> None:
    environment["SERVICE_URL"] = f"embedded://{tmp_path / 'data'}"
    environment["SERVICE_CONNECTED"] = "yes"
    port = free_port()
    with service(gunicorn(port, "--preload"), environment, port) as url:
        post_many(url, ORDERS)
        expect_each_order_once(environment, ORDERS)


@pytest.mark.parametrize("connected", ["", "yes"], ids=["fresh", "connected"])
@pytest.mark.parametrize(
    "options",
    [
        ["--master"],
        ["--master", "--enable-threads", "--threads", "2"],
        ["--master", "--lazy-apps"],
        ["--master", "--enable-threads", "--threads", "2", "--py-call-osafterfork"],
    ],
    ids=["fork-after-import", "threads", "lazy-apps", "osafterfork"],
)
def test_under_uwsgi_each_accepted_order_is_stored_and_runs_once(
    environment: dict[str, str], options: list[str], connected: str
) -> None:
    program = shutil.which("uwsgi", path=str(Path(sys.executable).parent)) or shutil.which("uwsgi")
    if program is None:
        pytest.skip("there is no uwsgi program: pip install pyuwsgi")
    if "--py-call-osafterfork" in options and sys.version_info >= (3, 13):
        # "Fatal Python error: _PyRecursiveMutex_Unlock", in each worker, whatever the application.
        pytest.skip("uWSGI 2.0.30 dies at --py-call-osafterfork with threads on Python 3.13")
    environment["SERVICE_CONNECTED"] = connected
    port = free_port()
    command = [
        program, "--http-socket", f"127.0.0.1:{port}", "--module", "tests.processes.service:application",
        "--processes", str(WORKERS), "--home", sys.prefix, "--pythonpath", ".", "--die-on-term", "--need-app",
        "--worker-reload-mercy", "1",  # asyncio.run replaces the handler of SIGINT, by which uWSGI ends its workers
        *options,
    ]  # fmt: skip
    with service(command, environment, port) as url:
        answers = post_many(url, ORDERS)
        assert len({answer["id"] for answer in answers}) == ORDERS
        assert len({(answer["pid"], answer["scheduler"]) for answer in answers}) == len(
            {answer["pid"] for answer in answers}
        )
        stored = asyncio.run(scheduler_of(environment).get_jobs())
        assert {answer["id"] for answer in answers} <= {job.id for job in stored}
        asyncio.run(_work(environment))


@pytest.mark.parametrize("when", ["--master", "--lazy-apps"], ids=["fork-after-import", "lazy-apps"])
def test_under_uwsgi_a_worker_finds_the_python_to_start_its_keeper_with(environment: dict[str, str], when: str) -> None:
    program = shutil.which("uwsgi", path=str(Path(sys.executable).parent)) or shutil.which("uwsgi")
    if program is None:
        pytest.skip("there is no uwsgi program: pip install pyuwsgi")
    environment["SERVICE_PROGRAM"] = program
    port = free_port()
    command = [
        program, "--http-socket", f"127.0.0.1:{port}", "--module", "tests.processes.working:application", "--master",
        "--enable-threads", "--threads", "2", "--processes", "2", "--home", sys.prefix, "--pythonpath", ".",
        "--die-on-term", "--need-app", "--worker-reload-mercy", "1", when,
    ]  # fmt: skip
    with service(command, environment, port) as url:
        pids = {answer["pid"] for answer in post_many(url, 12)}
        expect_each_order_once(environment, 12)
        wait_until(lambda: all(len(keepers_of(pid)) == 1 for pid in pids), 20, "each that works has a keeper")
        log = Path(environment["SERVICE_LEDGER"]).with_suffix(".log").read_text()
        assert "no keeper process can be started" not in log
        keepers = [keepers_of(pid)[0] for pid in pids]
    wait_until(lambda: not any(is_there(pid) for pid in keepers), 10, "the keepers ended with their workers")


async def _work(environment: Mapping[str, str]) -> None:
    """A worker beside the service, as `redsched worker` is: uWSGI's processes have no event loop that stays."""

    def record(number: int) -> None:
        with Path(environment["SERVICE_LEDGER"]).open("a") as ledger:
            ledger.write(f"{number} 0\n")

    scheduler = scheduler_of(environment)
    scheduler.register(record, name="tests.processes.service.record")
    async with scheduler:
        await asyncio.to_thread(expect_each_order_once, environment, ORDERS)


@pytest.mark.parametrize("options", [["--preload"], []], ids=["preload", "each-imports"])
def test_a_gunicorn_worker_that_is_killed_takes_its_keeper_with_it_and_the_next_one_has_its_own(
    environment: dict[str, str], options: list[str]
) -> None:
    port = free_port()
    with service(gunicorn(port, *options), environment, port):
        wait_until(lambda: len(pids_of(environment)) == WORKERS, 30, "all workers are up")
        before = pids_of(environment)
        wait_until(lambda: all(len(keepers_of(pid)) == 1 for pid in before), 20, "each has a keeper")
        keepers = {pid: keepers_of(pid)[0] for pid in before}
        killed = min(before)
        os.kill(killed, signal.SIGKILL)
        wait_until(lambda: not is_there(keepers[killed]), 10, "its keeper ended")
        wait_until(lambda: len(pids_of(environment) - before) == 1, 30, "another worker is up")
        (new,) = pids_of(environment) - before
        wait_until(lambda: len(keepers_of(new)) == 1, 20, "that has a keeper too")
        assert all(is_there(keepers[pid]) for pid in before - {killed})
    assert not any(is_there(pid) for pid in keepers.values())


def pids_of(environment: Mapping[str, str]) -> set[int]:
    return {worker["pid"] for worker in asyncio.run(scheduler_of(environment).get_workers()).values()}
