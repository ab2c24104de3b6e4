"""Other users of the machine cannot interfere: an embedded server is in a folder of this user, and follows no link."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from redsched import InvalidConfigError
from redsched.embedded import server as embedded
from redsched.embedded.files import FolderError, make_folder, open_file
from redsched.embedded.process import recorded_pid, signal_server
from tests.servers import wait_until

OTHER = 65534
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can make files of another user")
FILES = ["server.log", "server.pid", "server.lock", "users.lock", "keeper.lock", "start.lock", "redis.sock",
         "appendonlydir/appendonly.aof.manifest", "dump.rdb", "temp-rewriteaof-7.aof"]  # fmt: skip


@pytest.fixture
def shared() -> Iterator[Path]:
    """A folder that every user can enter, and in which each can make files, as in /tmp."""
    folder = Path(tempfile.mkdtemp(prefix="redsched-test-"))
    folder.chmod(0o1777)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def victim() -> Iterator[subprocess.Popen[bytes]]:
    """A process of this user that has nothing to do with it."""
    with subprocess.Popen(["sleep", "60"]) as process:
        yield process
        process.kill()


def as_other(code: str, *arguments: object) -> str:
    """Run as another user; what it printed."""
    # The interpreter may be where only root can read: all is loaded before.
    become = (
        "import os, sys; from redsched.embedded import server as embedded; "
        f"os.setgroups([]); os.setgid({OTHER}); os.setuid({OTHER})"
    )
    done = subprocess.run(
        [sys.executable, "-c", f"{become}\n{code}", *map(str, arguments)], check=True, stdout=subprocess.PIPE, text=True
    )
    return done.stdout


def refused(folder: Path, *words: str) -> None:
    """It is refused with a message that names the folder, the reason and a remedy; nothing was written there."""
    before = sorted(folder.rglob("*")) if folder.is_dir() else []
    with pytest.raises(InvalidConfigError) as caught:
        embedded.start(folder, timeout=3)
    for word in (folder.name, *words):
        assert word in str(caught.value)
    assert (sorted(folder.rglob("*")) if folder.is_dir() else []) == before


def file_in(folder: Path, name: str) -> Path:
    path = folder / name
    path.parent.mkdir(mode=0o700, exist_ok=True)
    return path


# -- folders ----------------------------------------------------------------------------------------------------------


@as_root
def test_a_folder_of_another_user_is_refused(shared: Path) -> None:
    as_other("os.mkdir(sys.argv[1], 0o755)", shared / "shop")
    refused(shared / "shop", "belongs to", f"uid {OTHER}", "use a folder of this user")


@as_root
def test_this_holds_for_other_users_than_root(shared: Path) -> None:
    (shared / "shop").mkdir(0o755)
    code = "try: embedded.start(sys.argv[1])\nexcept Exception as error: print(type(error).__name__, error)"
    told = as_other(code, shared / "shop")
    assert told.startswith("InvalidConfigError")
    assert "belongs to root (uid 0)" in told


@pytest.mark.parametrize("mode", [0o770, 0o775, 0o777, 0o707, 0o1777, 0o702])
def test_a_folder_that_others_may_write_to_is_refused(tmp_path: Path, mode: int) -> None:
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop").chmod(mode)
    refused(tmp_path / "shop", "others may write to", "chmod go-w")


@pytest.mark.parametrize("mode", [0o777, 0o707])
def test_a_folder_in_one_that_others_may_write_to_is_refused(tmp_path: Path, mode: int) -> None:
    (tmp_path / "above" / "shop").mkdir(parents=True)
    (tmp_path / "above").chmod(mode)
    refused(tmp_path / "above" / "shop", "above", "replace what is in it")
    (tmp_path / "above").chmod(0o1777)  # as /tmp is: others cannot replace what is ours
    with embedded.start(tmp_path / "above" / "shop") as server:
        assert server.started


@as_root
def test_a_folder_in_one_of_another_user_is_refused(tmp_path: Path) -> None:
    (tmp_path / "above" / "shop").mkdir(parents=True)
    os.chown(tmp_path / "above", OTHER, OTHER)
    refused(tmp_path / "above" / "shop", "above", f"uid {OTHER}", "elsewhere")


@as_root
def test_a_link_of_another_user_leads_nowhere(shared: Path, tmp_path: Path) -> None:
    as_other("os.symlink(sys.argv[1], sys.argv[2])", tmp_path, shared / "shop")
    refused(shared / "shop", "symbolic link", f"uid {OTHER}")
    refused(shared / "shop" / "inside", "symbolic link")
    assert list(tmp_path.iterdir()) == []


def test_a_link_of_this_user_leads_to_its_folder(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real/../real")
    assert make_folder(tmp_path / "link" / "a" / ".." / "b") == tmp_path / "real" / "b"
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(FolderError, match="too many symbolic links"):
        make_folder(tmp_path / "loop")


def test_what_is_made_on_the_way_is_for_this_user_only(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        made = make_folder(tmp_path / "a" / "b")
    finally:
        os.umask(before)
    assert [each.stat().st_mode & 0o777 for each in (made, made.parent)] == [0o700, 0o700]


# -- files ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [os.symlink, os.link], ids=["symbolic", "hard"])
@pytest.mark.parametrize("name", FILES)
def test_a_file_that_is_a_link_is_refused_and_its_target_is_as_it_was(
    tmp_path: Path, name: str, make: Callable[[Path, Path], None]
) -> None:
    (tmp_path / "precious").write_text("precious")
    path = file_in(tmp_path / "shop", name) if "/" not in name else None
    if path is None:
        (tmp_path / "shop").mkdir()
        path = file_in(tmp_path / "shop", name)
    make(tmp_path / "precious", path)
    refused(tmp_path / "shop", Path(name).name, "link", "remove it")
    assert (tmp_path / "precious").read_text() == "precious"


@pytest.mark.parametrize("name", ["server.log", "appendonlydir", "users.lock"])
def test_a_link_that_leads_nowhere_yet_is_refused_as_well(tmp_path: Path, name: str) -> None:
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop" / name).symlink_to(tmp_path / "made")
    refused(tmp_path / "shop", name, "symbolic link")
    assert not (tmp_path / "made").exists()


@as_root
@pytest.mark.parametrize("name", FILES)
def test_a_file_of_another_user_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "shop").mkdir()
    path = file_in(tmp_path / "shop", name)
    path.touch()
    os.chown(path, OTHER, OTHER)
    refused(tmp_path / "shop", path.name, f"uid {OTHER}")


@pytest.mark.parametrize("name", ["users.lock", "keeper.lock", "start.lock", "server.lock"])
def test_a_fifo_in_the_place_of_a_lock_holds_nobody(tmp_path: Path, name: str) -> None:
    os.mkfifo(tmp_path / name, 0o600)
    with pytest.raises(FolderError, match="not a regular file"):
        open_file(tmp_path, name, os.O_RDWR | os.O_CREAT)


def test_a_link_that_comes_after_the_check_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "shop").mkdir()
    (tmp_path / "precious").write_text("precious")
    (tmp_path / "shop" / "server.log").symlink_to(tmp_path / "precious")
    with pytest.raises(FolderError, match="symbolic link"):
        embedded._start_keeper(tmp_path / "shop", ["/bin/false"])
    assert (tmp_path / "precious").read_text() == "precious"


# -- the server -------------------------------------------------------------------------------------------------------

FOREIGN_SERVER = """
import os, socket, sys
listening = socket.socket(socket.AF_UNIX)
listening.bind(sys.argv[1])
os.setuid(65534)
listening.listen()
print(flush=True)
while True:
    client, _ = listening.accept()
    client.sendall(b"+PONG\\r\\n")
    print(client.recv(100), flush=True)
"""


@as_root
def test_a_server_of_another_user_is_not_joined_and_hears_nothing(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", FOREIGN_SERVER, str(tmp_path / "redis.sock")], stdout=subprocess.PIPE
    ) as foreign:
        assert foreign.stdout is not None
        foreign.stdout.readline()
        try:
            with pytest.raises(InvalidConfigError, match=f"is one of uid {OTHER}"):
                embedded.start(tmp_path, timeout=3)
        finally:
            foreign.kill()
        assert foreign.stdout.read().strip() in (b"", b"b''")


HOLDER = """
import fcntl, sys, time
lock = open(sys.argv[1], "w")
fcntl.flock(lock, fcntl.LOCK_EX)
print(flush=True)
time.sleep(1)
"""


def started(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]


@pytest.mark.parametrize(
    "record",
    ["-1 0", "0 0", "1 {init}", "{own} {own_start}", "{pid} {start}", "{pid} 0", "99999999999999999999 1",
     "4294967295 1", "2147483648 1",
     "not a number", "", "{pid}", "\0\0", "+{pid} {start}", "{pid} {start}\n{pid} {start}"],
)  # fmt: skip
def test_only_the_process_that_has_the_lock_is_signalled(
    tmp_path: Path, victim: subprocess.Popen[bytes], record: str
) -> None:
    """Every number in the file, of a process that does not have it open: nothing is signalled."""
    text = record.format(
        pid=victim.pid, start=started(victim.pid), own=os.getpid(), own_start=started(os.getpid()), init=started(1)
    )
    (tmp_path / "server.lock").write_text(text + "\n")
    assert signal_server(tmp_path, signal.SIGKILL) is False
    assert victim.poll() is None


def test_the_number_of_a_server_that_is_given_to_another_process_is_not_signalled(tmp_path: Path) -> None:
    """It has the lock open, but began at another time than the one that wrote it."""
    with (tmp_path / "server.lock").open("w+b") as lock, subprocess.Popen(
        ["sleep", "60"], pass_fds=[lock.fileno()]
    ) as other:  # fmt: skip
        os.pwrite(lock.fileno(), f"{other.pid} {int(started(other.pid)) - 1}\n".encode(), 0)
        assert signal_server(tmp_path, signal.SIGKILL) is False
        assert other.poll() is None
        os.pwrite(lock.fileno(), f"{other.pid} {started(other.pid)}\n".encode(), 0)
        assert signal_server(tmp_path, signal.SIGKILL) is True
        assert other.wait(10) == -signal.SIGKILL


@pytest.mark.parametrize("number", ["-1", "0", "1", "{pid}", "text"])
def test_the_pid_file_of_an_older_version_is_not_trusted(
    tmp_path: Path, victim: subprocess.Popen[bytes], number: str
) -> None:
    (tmp_path / "server.pid").write_text(number.format(pid=victim.pid))
    (tmp_path / "server.pid").chmod(0o600)
    held = str(tmp_path / "server.lock")
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, held], stdout=subprocess.PIPE)
    with holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        with embedded.start(tmp_path) as server:
            assert server.pid not in (None, victim.pid)
            assert holder.wait(10) == 0  # it was not signalled either
            assert victim.poll() is None


def test_the_server_is_named_while_it_runs(tmp_path: Path) -> None:
    with embedded.start(tmp_path) as server:
        pid = server.pid
        assert pid is not None
        assert b"redis.sock" in Path(f"/proc/{pid}/cmdline").read_bytes()
        assert not (tmp_path / "server.pid").exists()
        with (tmp_path / "server.lock").open() as lock, pytest.raises(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    with contextlib.suppress(OSError):
        wait_until(lambda: recorded_pid(tmp_path) is None)
