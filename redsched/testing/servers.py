"""Real servers on loopback. Each has its port and its data to itself, and keeps both over kill, stop and start.

The one place that starts a redis-server for tests, chaos runs and benchmarks. (The embedded server of an application
has a keeper, and data that stays: `redsched.embedded`.)
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol, Self
from urllib.parse import quote

from redsched.embedded.server import server_binary

__all__ = ["Aof", "LocalServer", "Server", "ValkeyServer", "answers", "find_server", "free_port", "version_of"]
__all__ += ["wait_until"]

Aof = Literal["no", "everysec", "always"]

STARTS_S = 20.0
"""How long a server may take to start or to end."""


def free_port() -> int:
    """A loopback port that is free at the moment."""
    # Below the range from which systems take ports for outgoing connections. While a server is down, a client that
    # tries its port again and again would else be given that very port at some time, reach itself, and keep the
    # server from coming back.
    while True:
        port = random.SystemRandom().randrange(10_000, 32_000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def wait_until(condition: Callable[[], Any], seconds: float = 10.0, what: str = "") -> None:
    """Look until it is true.

    Raises:
        TimeoutError: it did not become true.
    """
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {seconds} s: {what or condition}")
        time.sleep(0.01)


def answers(at: int | Path) -> bool:
    """Whether a server that has loaded its data is at a loopback port, or at a unix socket."""
    # Not with a client of redis-py: that tries again by itself, for a long time.
    family, address = (socket.AF_UNIX, str(at)) if isinstance(at, Path) else (socket.AF_INET, ("127.0.0.1", at))
    with contextlib.suppress(OSError), socket.socket(family) as connection:
        connection.settimeout(2)
        connection.connect(address)
        connection.sendall(b"PING\r\n")
        return connection.recv(64).startswith((b"+PONG", b"-NOAUTH"))
    return False


def find_server(name: str | None = None) -> str:
    """A server's program: the named one, else redis-server or valkey-server on PATH, else the embedded one.

    Args:
        name: a path, or a name on PATH; "embedded": that of the `embedded` extra.

    Raises:
        StoreUnavailableError: there is none.
        FileNotFoundError: the named one is not there.
    """
    if name == "embedded":
        return server_binary()
    if name is not None:
        found = shutil.which(name)
        if found is None:
            raise FileNotFoundError(f"there is no program {name!r}")
        return found
    return shutil.which("redis-server") or shutil.which("valkey-server") or server_binary()


def version_of(binary: str) -> str:
    """A server's name and version, such as `Redis 7.0.15`."""
    said = subprocess.run([binary, "--version"], capture_output=True, text=True, timeout=10, check=False).stdout
    words = said.split()
    number = next((word[2:] for word in words if word.startswith("v=")), "of an unknown version")
    return f"{words[0].capitalize() if words else Path(binary).name} {number}"


class Server(Protocol):
    """The operations of a test on a server; its port and data stay over kill, stop, start and restart."""

    url: str
    port: int

    def start(self) -> None: ...
    def stop(self) -> None: ...
    def kill(self) -> None: ...
    def restart(self) -> None: ...
    def close(self) -> None: ...


class LocalServer:
    """A server of this machine, started on a free port, with its data in a separate folder.

    >>> with LocalServer(aof="always") as server:
    ...     server.kill()
    ...     server.start()

    Args:
        args: further options, as on its command line.
        aof: how its data is kept: "no", or what `appendfsync` is.
        binary: the program; None = what `find_server` finds.
        port: a port of the caller's choice.
        unix: listen on a unix socket in its folder, and on no port (`port` is 0 then).
        environment: added to this process' own.
        preexec_fn: called in the new process before the program is executed, as `subprocess.Popen` does it.

    Raises:
        RuntimeError: the server did not start; its last words are in the message.
        StoreUnavailableError: there is no server program.
    """

    def __init__(
        self,
        *args: str,
        aof: Aof = "no",
        binary: str | None = None,
        port: int | None = None,
        unix: bool = False,
        environment: Mapping[str, str] | None = None,
        preexec_fn: Callable[[], None] | None = None,
    ) -> None:
        self.binary: str = binary or find_server()
        self.folder: Path = Path(tempfile.mkdtemp(prefix="redsched-server-"))
        self.port: int = 0 if unix else port or free_port()
        self._socket = self.folder / "redis.sock" if unix else None
        self.url: str = f"unix://{quote(str(self._socket))}" if unix else f"redis://127.0.0.1:{self.port}"
        self.environment: dict[str, str] = dict(environment or {})
        self.process: subprocess.Popen[bytes] | None = None
        self._preexec_fn = preexec_fn
        self._owner = os.getpid()
        self._command = self._make_command(aof, args)
        try:
            self.start()
        except BaseException:
            self.close()
            raise

    def _make_command(self, aof: Aof, args: Sequence[str]) -> list[str]:
        where = ["--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.folder), "--save", ""]
        if self._socket is not None:
            where += ["--unixsocket", str(self._socket)]
        persistence = ["--appendonly", "no"] if aof == "no" else ["--appendonly", "yes", "--appendfsync", aof]
        return [self.binary, *where, *persistence, *args]

    @property
    def pid(self) -> int:
        """The process id."""
        assert self.process is not None, "it is not running"
        return self.process.pid

    def start(self) -> None:
        """Start it, and wait until it answers.

        Raises:
            RuntimeError: it ended instead; its last words are in the message.
        """
        assert self.process is None, "it is running"
        with (self.folder / "log").open("ab") as log:
            process = self.process = subprocess.Popen(
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, **self.environment},
                preexec_fn=self._preexec_fn,  # noqa: PLW1509 - the caller's choice
            )
        at = self._socket or self.port
        wait_until(lambda: process.poll() is not None or answers(at), STARTS_S, f"{self._command[0]} answers")
        if process.poll() is not None:
            self.process = None
            raise RuntimeError(f"{self._command} ended: {(self.folder / 'log').read_text()[-1000:]}")

    def _end(self, number: int) -> None:
        process, self.process = self.process, None
        if process is not None:
            process.send_signal(number)
            process.send_signal(signal.SIGCONT)  # a paused one takes notice of nothing else
            process.wait(STARTS_S)

    def stop(self) -> None:
        """In good order."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """kill -9."""
        self._end(signal.SIGKILL)

    def restart(self) -> None:
        """Stop and start."""
        self.stop()
        self.start()

    def pause(self) -> None:
        """SIGSTOP: it is there, and answers nothing."""
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """The end of `pause`."""
        os.kill(self.pid, signal.SIGCONT)

    def close(self) -> None:
        """Kill it and remove its data. In a child that was forked meanwhile it does nothing."""
        if self._owner != os.getpid():
            return
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class ValkeyServer(LocalServer):
    """The Valkey of the `embedded` extra, on a free port."""

    def __init__(self, *args: str, aof: Aof = "no") -> None:
        super().__init__(*args, aof=aof, binary=find_server("embedded"))
