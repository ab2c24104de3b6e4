"""The embedded server: data is kept, processes share it, the last one out stops it, whatever is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from redsched import BackgroundTaskScheduler, InvalidConfigError, embedded
from tests.servers import wait_until

USER = """
import sys, time
from redsched import embedded
server = embedded.start(sys.argv[1])
print(server.started, flush=True)
time.sleep(60)
"""


def user(folder: Path) -> subprocess.Popen[str]:
    """Another process that uses the folder's server, until it is killed."""
    return subprocess.Popen([sys.executable, "-c", USER, str(folder)], stdout=subprocess.PIPE, text=True)


def alive(pid: int | None) -> bool:
    try:
        return pid is not None and Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"
    except OSError:
        return False


@pytest.fixture
def users() -> Iterator[list[subprocess.Popen[str]]]:
    started: list[subprocess.Popen[str]] = []
    yield started
    for process in started:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


def client(server: embedded.EmbeddedServer) -> redis.Redis:
    return redis.Redis.from_url(server.url)


def test_data_is_kept_from_one_use_to_the_next(tmp_path: Path) -> None:
    with embedded.start(tmp_path) as server, client(server) as connection:
        connection.set("key", "value")
        first = server.pid
    wait_until(lambda: not alive(first))
    with embedded.start(tmp_path) as server, client(server) as connection:
        assert connection.get("key") == b"value"
        assert server.pid != first


def test_the_last_one_out_stops_the_server(tmp_path: Path, users: list[subprocess.Popen[str]]) -> None:
    with embedded.start(tmp_path) as server:
        users.append(user(tmp_path))
        assert users[0].stdout is not None
        assert users[0].stdout.readline() == "False\n"  # it joined
        pid = server.pid
    assert alive(pid)
    users[0].kill()
    wait_until(lambda: not alive(pid))


def test_a_killed_first_user_does_not_take_the_server_with_it(
    tmp_path: Path, users: list[subprocess.Popen[str]]
) -> None:
    users.append(user(tmp_path))
    assert users[0].stdout is not None
    assert users[0].stdout.readline() == "True\n"  # it started the server
    with embedded.start(tmp_path) as server, client(server) as connection:
        users[0].send_signal(signal.SIGKILL)
        users[0].wait()
        pid = server.pid
        connection.set("still", "here")
        assert not server.started
    wait_until(lambda: not alive(pid))


def test_five_that_start_at_once_share_one_server(tmp_path: Path, users: list[subprocess.Popen[str]]) -> None:
    users += [user(tmp_path) for _ in range(5)]
    for process in users:
        assert process.stdout is not None
        assert process.stdout.readline().strip() in {"True", "False"}
    with embedded.start(tmp_path) as server, client(server) as connection:
        assert connection.info("server")["process_id"] == server.pid
        assert not server.started


def test_a_server_that_is_killed_is_started_again_with_its_data(tmp_path: Path) -> None:
    with embedded.start(tmp_path, args=("--appendfsync", "always")) as server:
        with client(server) as connection:
            connection.set("key", "value")
        pid = server.pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: server.pid != pid and embedded.answers(embedded.socket_path(server.path)))
        with client(server) as connection:
            assert connection.get("key") == b"value"


def test_leftovers_of_a_killed_keeper_are_no_obstacle(tmp_path: Path) -> None:
    (tmp_path / "server.pid").write_text("999999")
    (tmp_path / "redis.sock").touch()
    (tmp_path / "keeper.lock").touch()
    with embedded.start(tmp_path) as server, client(server) as connection:
        assert connection.ping()


def test_a_path_that_is_too_long_for_a_socket_works_all_the_same(tmp_path: Path) -> None:
    folder = tmp_path / ("long" * 30)
    with embedded.start(folder) as server, client(server) as connection:
        assert connection.ping()
        assert (folder / "users.lock").exists()


def test_a_temporary_server_leaves_nothing(tmp_path: Path) -> None:
    server = embedded.start()
    pid = server.pid
    server.stop()
    assert not server.path.exists()
    wait_until(lambda: not alive(pid))


def test_two_folders_are_two_servers(tmp_path: Path) -> None:
    with embedded.start(tmp_path / "a") as a, embedded.start(tmp_path / "b") as b:
        assert a.pid != b.pid


@pytest.mark.parametrize("url", ["embedded://host/folder", "embedded:folder", "embedded:///folder?x=1"])
def test_an_embedded_url_that_means_nothing_is_refused(url: str) -> None:
    with pytest.raises(InvalidConfigError, match="embedded:///absolute/folder"):
        embedded.resolve(url)


def test_a_folder_that_cannot_be_made_is_named() -> None:
    with pytest.raises(InvalidConfigError, match="/proc/nowhere"):
        embedded.start("/proc/nowhere")


async def test_a_scheduler_keeps_its_jobs_in_the_folder(tmp_path: Path) -> None:
    async def greet(name: str) -> str:
        return f"hello {name}"

    url = f"embedded://{tmp_path}"
    first = BackgroundTaskScheduler(url, declared_tasks=False)
    first.register(greet, name="greet")
    await first.start(worker=False)
    handle = await first.schedule_immediate_task("greet", greet, args=["you"])
    await first.shutdown()
    second = BackgroundTaskScheduler(url, declared_tasks=False)
    second.register(greet, name="greet")
    async with second:
        result = await second.wait_for_result(handle.id, timeout=10)
    assert result.result == "hello you"
