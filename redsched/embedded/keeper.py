"""The keeper of an embedded server: `python keeper.py FOLDER SOCKET BINARY [option …]`.

Runs the server, restarts it if it dies, and stops it when no user is left. See `redsched.embedded.server`. Imports the
standard library only (and two modules that do so too), so that it starts at once and stays small.

Its locks are files in the folder. `users.lock`: shared by users, locked exclusively by the keeper when none is left.
`keeper.lock`: held by the one keeper. `server.lock`: held by the server's own process, for as long as it lives, which
is named in it.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType, ModuleType

if __name__ == "__main__":
    # The package without its __init__, which would import all of redsched.
    _package = ModuleType("redsched")
    _package.__path__ = [str(Path(__file__).parents[1])]
    sys.modules["redsched"] = _package

from redsched.embedded.files import FolderError, check_contents, check_folder, open_file
from redsched.embedded.process import ask_to_end, record_server, signal_server

_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None
USERS_LOOK_S = 0.3
"""How often it looks whether a user is left."""
OTHER_KEEPER_S = 1.0
"""How long `keeper.lock` is tried: users who look whether a keeper is there hold it for a moment as well."""
ENDS_S = 30.0
"""How long a server may take to end; it writes what it has not yet written."""
LASTS_S = 5.0
"""A server that ended sooner will do so again: the next start waits, longer each time, up to this."""


def _lock(folder: Path, name: str, seconds: float) -> int | None:
    """The file, locked for us alone; None if another has it all the time."""
    descriptor = open_file(folder, name, os.O_RDWR | os.O_CREAT)
    deadline = time.monotonic() + seconds
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return descriptor
        except BlockingIOError:
            if time.monotonic() >= deadline:
                os.close(descriptor)
                return None
            time.sleep(0.02)


def _place(folder: Path, listening: str) -> int:
    """`server.lock`, once no other server is in the folder: two would spoil the data, and each other's socket.

    One exists only if its keeper was killed. It was asked to end then, or (not on Linux) does not know about it.

    Raises:
        FolderError: another process keeps the lock, and is not proven to be a server of the folder.
    """
    for number in (signal.SIGTERM, signal.SIGKILL):
        place = _lock(folder, "server.lock", 0)
        if place is None:
            if not signal_server(folder, number):
                ask_to_end(listening)
            place = _lock(folder, "server.lock", ENDS_S)
        if place is not None:
            os.ftruncate(place, 0)
            return place
    raise FolderError(f"another process holds {folder / 'server.lock'}; end it (`fuser` names it), then try again")


def _serve(folder: Path, listening: str, binary: str, args: list[str]) -> subprocess.Popen[bytes]:
    check_folder(folder)
    check_contents(folder)
    place = _place(folder, listening)
    Path(listening).unlink(missing_ok=True)  # of a server that was killed
    keeper = os.getpid()

    def before() -> None:
        """In the server's process, before it becomes one."""
        if _LIBC is not None:
            _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)  # if the keeper is killed, the server ends
            if os.getppid() != keeper:
                os._exit(1)  # it was killed just now
        record_server(place)

    command = [
        binary, "--port", "0", "--unixsocket", listening, "--unixsocketperm", "700", "--dir", str(folder),
        "--appendonly", "yes", "--appendfsync", "everysec", "--save", "", "--maxmemory-policy", "noeviction", *args,
    ]  # fmt: skip
    try:
        # This process has one thread, so preexec_fn is safe.
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            preexec_fn=before,  # noqa: PLW1509
            pass_fds=(place,),
        )
    finally:
        os.close(place)


def main() -> int:
    """Keep the server until it is not needed any more."""
    if os.fork():
        return 0
    os.setsid()  # Ctrl-C in the first user's terminal must not end the server for the others
    os.umask(0o077)  # other users must not read the data of jobs
    os.chdir("/")  # the first user's working directory is not needed for as long as the server is
    folder, listening, binary, *args = sys.argv[1:]
    home = Path(folder)
    asked_to_stop = False

    def stop(number: int, frame: FrameType | None) -> None:
        nonlocal asked_to_stop
        asked_to_stop = True

    signal.signal(signal.SIGTERM, stop)
    try:
        return _keep(home, listening, binary, args, lambda: asked_to_stop)
    except FolderError as error:
        print(error, flush=True)  # noqa: T201  the log
        return 1


def _keep(home: Path, listening: str, binary: str, args: list[str], asked_to_stop: Callable[[], bool]) -> int:
    keeping = _lock(home, "keeper.lock", OTHER_KEEPER_S)
    if keeping is None:
        return 0  # another keeper is there
    users = open_file(home, "users.lock", os.O_RDWR | os.O_CREAT)
    server, started, pause = _serve(home, listening, binary, args), time.monotonic(), 0.0
    while not asked_to_stop():
        time.sleep(USERS_LOOK_S)
        try:
            fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break  # no user is left; a new user waits for this lock until the server has stopped
        except BlockingIOError:
            pass
        if server.poll() is None:
            continue
        now = time.monotonic()
        if now - started > LASTS_S:
            pause = 0.0
        elif now - started < pause:
            continue
        print(f"the server ended with status {server.returncode}; starting it again", flush=True)  # noqa: T201
        server, started, pause = _serve(home, listening, binary, args), now, min(max(2 * pause, 0.5), LASTS_S)
    server.send_signal(signal.SIGTERM)
    try:
        server.wait(ENDS_S)
    except subprocess.TimeoutExpired:
        server.kill()
        server.wait()
    if (place := _lock(home, "server.lock", 0)) is not None:
        os.ftruncate(place, 0)
        os.close(place)
    Path(listening).unlink(missing_ok=True)
    # In this order: a user who comes in then finds no keeper, and does not wait for this one.
    os.close(keeping)
    os.close(users)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
