"""Real servers for tests: redis-server from PATH, the embedded Valkey, or a container. All on loopback.

Each has its port and its data to itself, and keeps both while it is killed, stopped and started again.
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, Literal, Protocol, Self

import pytest
import redis

from redsched.embedded import server_binary

ROOT = Path(__file__).resolve().parents[1]
STARTS_S = 20.0
"""How long a server may take to start or to end."""


def free_port() -> int:
    """A loopback port that nobody listens on just now."""
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


def answers(port: int) -> bool:
    """Whether a server that has loaded its data is there."""
    # Not with a client of redis-py: that tries again by itself, for a long time.
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=2) as connection:
        connection.sendall(b"PING\r\n")
        return connection.recv(64).startswith((b"+PONG", b"-NOAUTH"))
    return False


class Server(Protocol):
    """What a test does to a server; its port and data stay over kill, stop, start and restart."""

    url: str
    port: int

    def start(self) -> None: ...
    def stop(self) -> None: ...
    def kill(self) -> None: ...
    def restart(self) -> None: ...
    def close(self) -> None: ...


class LocalServer:
    """A redis-server of this machine, started on a free port, with its data in a folder of its own.

    Args:
        args: further options, as on its command line.
        aof: how its data is kept: "no", or what `appendfsync` is.
        binary: another program than the redis-server on PATH.
        port: a port of the caller's choice.
    """

    def __init__(
        self,
        *args: str,
        aof: Literal["no", "everysec", "always"] = "no",
        binary: str | None = None,
        port: int | None = None,
    ) -> None:
        found = binary or shutil.which("redis-server") or server_binary()
        self.port = port or free_port()
        self.url = f"redis://127.0.0.1:{self.port}"
        self.folder = Path(tempfile.mkdtemp(prefix="redsched-test-"))
        persistence = ["--appendonly", "no"] if aof == "no" else ["--appendonly", "yes", "--appendfsync", aof]
        self._command = [
            found, "--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.folder), "--save", "",
            *persistence, *args,
        ]  # fmt: skip
        self.process: subprocess.Popen[bytes] | None = None
        try:
            self.start()
        except BaseException:
            self.close()
            raise

    @property
    def pid(self) -> int:
        """Its process id."""
        assert self.process is not None, "it is not running"
        return self.process.pid

    def start(self) -> None:
        """Start it, and wait until it answers."""
        assert self.process is None, "it is running"
        with (self.folder / "log").open("ab") as log:
            process = self.process = subprocess.Popen(self._command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        wait_until(lambda: process.poll() is not None or answers(self.port), STARTS_S, f"{self._command[0]} answers")
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

    def client(self) -> redis.Redis:
        """A connection to it; close it."""
        return redis.Redis("127.0.0.1", self.port, socket_timeout=None)

    def close(self) -> None:
        """Kill it and remove its data."""
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class ValkeyServer(LocalServer):
    """The embedded Valkey's program, on a port."""

    def __init__(self, *args: str, aof: Literal["no", "everysec", "always"] = "no") -> None:
        super().__init__(*args, aof=aof, binary=server_binary())


class ContainerServer:
    """A server in a container, through testcontainers, on a fixed port so that it keeps it over restarts.

    Args:
        image: one of `IMAGES`; see `docker_ready`.
        args: the command in it, where that is not the image's own.
    """

    def __init__(self, image: str, *args: str) -> None:
        # Imported here: without containers, tests should not pay for it.
        from testcontainers.core.config import testcontainers_config
        from testcontainers.core.container import DockerContainer

        # It would remove containers after a killed test run, but its image would have to be pulled.
        testcontainers_config.ryuk_disabled = True
        self.image = image
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}"
        self._container = DockerContainer(image)
        # As with_bind_ports, which would open a Redis without a password to the network.
        self._container.ports["6379/tcp"] = ("127.0.0.1", self.port)  # pyright: ignore[reportArgumentType]
        if args:
            self._container.with_command(list(args))
        try:
            self._container.start()
            self._wait()
        except BaseException:
            self.close()
            raise

    def _wait(self) -> None:
        wait_until(lambda: answers(self.port), 30, f"{self.image} answers")

    def start(self) -> None:
        """Start it again, with its data."""
        self._container.get_wrapped_container().start()
        self._wait()

    def stop(self) -> None:
        """In good order."""
        self._container.get_wrapped_container().stop()

    def kill(self) -> None:
        """kill -9."""
        self._container.get_wrapped_container().kill()

    def restart(self) -> None:
        """Stop and start."""
        self.stop()
        self.start()

    def close(self) -> None:
        """Remove it, and its data."""
        self._container.stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


IMAGES = ("redis:7", "valkey/valkey:9")
SCRIPTS = ROOT / ".ci" / "containers"


def _why_it_fails(*command: str) -> str | None:
    try:
        # The images' script needs a Python with pip, which the system's own may lack.
        python = {**os.environ, "PYTHON": sys.executable}
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False, env=python)
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"{' '.join(command)}: {error}"
    if done.returncode == 0:
        return None
    return ((done.stderr or done.stdout).strip().splitlines() or [f"{command[0]} failed"])[-1]


@cache
def docker_ready() -> str | None:
    """None if containers of `IMAGES` can be made here; else why not.

    As root it starts a daemon if none answers, and makes the images; anybody else needs both to be there, or a daemon
    that can get the images.
    """
    if os.geteuid() == 0:
        steps = [("bash", str(SCRIPTS / script)) for script in ("start-docker.sh", "build-redis-image.sh")]
        return next((why for step in steps if (why := _why_it_fails(*step))), None)
    if why := _why_it_fails("docker", "info"):
        return why
    for image in IMAGES:
        if _why_it_fails("docker", "image", "inspect", image) and (why := _why_it_fails("docker", "pull", image)):
            return why
    return None


def need_containers() -> None:
    """Skip the test where containers cannot be made; with REDSCHED_REQUIRE_CONTAINERS=1 it fails instead."""
    reason = docker_ready()
    if reason is not None:
        (pytest.fail if os.environ.get("REDSCHED_REQUIRE_CONTAINERS") == "1" else pytest.skip)(
            f"no containers here: {reason}"
        )
