"""The keeper of an embedded server: `python -m redsched.embedded_keeper FOLDER SOCKET BINARY [option …]`.

Runs the server, restarts it if it dies, and stops it when no user is left. See `redsched.embedded`.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import FrameType

_PR_SET_PDEATHSIG = 1
USERS_LOOK_S = 0.3
"""How often it looks whether a user is left."""


def _die_with_parent() -> None:
    """In the server's process before it starts: if the keeper is killed, so is the server (Linux only)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def _serve(folder: Path, listening: str, binary: str, args: list[str]) -> subprocess.Popen[bytes]:
    Path(listening).unlink(missing_ok=True)  # of a server that was killed; nobody else serves this folder
    command = [
        binary, "--port", "0", "--unixsocket", listening, "--unixsocketperm", "700", "--dir", str(folder),
        "--appendonly", "yes", "--appendfsync", "everysec", "--save", "", "--maxmemory-policy", "noeviction", *args,
    ]  # fmt: skip
    # This process has one thread, so preexec_fn is safe.
    server = subprocess.Popen(command, stdin=subprocess.DEVNULL, preexec_fn=_die_with_parent)  # noqa: PLW1509
    (folder / "server.pid").write_text(str(server.pid))
    return server


def main() -> int:
    """Keep the server until it is not needed any more."""
    if os.fork():
        return 0
    os.setsid()  # Ctrl-C in the first user's terminal must not end the server for the others
    folder, listening, binary, *args = sys.argv[1:]
    home = Path(folder)
    asked_to_stop = False

    def stop(number: int, frame: FrameType | None) -> None:
        nonlocal asked_to_stop
        asked_to_stop = True

    signal.signal(signal.SIGTERM, stop)
    with (home / "keeper.lock").open("w") as keeping, (home / "users.lock").open("r+") as users:
        try:
            fcntl.flock(keeping, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return 0  # another keeper is there
        server = _serve(home, listening, binary, args)
        while not asked_to_stop:
            time.sleep(USERS_LOOK_S)
            try:
                fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break  # nobody is left; who comes now waits for this lock until the server has stopped
            except BlockingIOError:
                pass
            if server.poll() is not None:
                print(f"the server ended with status {server.returncode}; starting it again", flush=True)  # noqa: T201
                server = _serve(home, listening, binary, args)
        server.send_signal(signal.SIGTERM)
        try:
            server.wait(30)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()
        (home / "server.pid").unlink(missing_ok=True)
        Path(listening).unlink(missing_ok=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
