"""Real servers for tests: redis-server from PATH, the embedded Valkey, or a container. All on loopback."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, Protocol, Self

import redis

from redsched.embedded import server_binary

ROOT = Path(__file__).resolve().parents[1]


def free_port() -> int:
    """A loopback port that nobody listens on just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


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


def _answers(port: int) -> bool:
    try:
        with contextlib.closing(redis.Redis("127.0.0.1", port, socket_timeout=2)) as client:
            return bool(client.ping())
    except redis.RedisError:
        return False


class Server(Protocol):
    """What a test does to a server; its port and data stay over kill, stop, start and restart."""

    url: str

    def start(self) -> None: ...
    def stop(self) -> None: ...
    def kill(self) -> None: ...
    def restart(self) -> None: ...
    def close(self) -> None: ...


class LocalServer:
    """A redis-server of this machine on a free port, with its data in a folder of its own."""

    def __init__(self, *args: str, aof: str = "no", binary: str | None = None) -> None:
        found = binary or shutil.which("redis-server") or server_binary()
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}"
        self.folder = Path(tempfile.mkdtemp(prefix="redsched-test-"))
        persistence = ["--appendonly", "no"] if aof == "no" else ["--appendonly", "yes", "--appendfsync", aof]
        self._command = [
            found, "--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.folder), "--save", "",
            *persistence, *args,
        ]  # fmt: skip
        self.process: subprocess.Popen[bytes] | None = None
        self.start()

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def start(self) -> None:
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(self._command, stdout=log, stderr=log)
        wait_until(lambda: _answers(self.port), 20, f"{self._command[0]} answers")

    def _end(self, number: int) -> None:
        if self.process is not None:
            self.process.send_signal(number)
            self.process.wait(20)
            self.process = None

    def stop(self) -> None:
        """In good order."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """kill -9."""
        self._end(signal.SIGKILL)

    def restart(self) -> None:
        self.stop()
        self.start()

    def pause(self) -> None:
        """SIGSTOP: it is there, and answers nothing."""
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def client(self) -> redis.Redis:
        return redis.Redis("127.0.0.1", self.port)

    def close(self) -> None:
        if self.process is not None:
            self.process.send_signal(signal.SIGCONT)
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class ValkeyServer(LocalServer):
    """The embedded Valkey's program, on a port."""

    def __init__(self, *args: str, aof: str = "no") -> None:
        super().__init__(*args, aof=aof, binary=server_binary())


class ContainerServer:
    """A server in a container, through testcontainers, on a fixed port so that it keeps it over restarts."""

    def __init__(self, image: str, *args: str) -> None:
        from testcontainers.core.config import testcontainers_config
        from testcontainers.core.container import DockerContainer

        testcontainers_config.ryuk_disabled = True  # its image would have to be pulled
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}"
        self._container = DockerContainer(image).with_bind_ports(6379, self.port)
        if args:
            self._container = self._container.with_command(list(args))
        self._container.start()
        wait_until(lambda: _answers(self.port), 30, f"{image} answers")

    def start(self) -> None:
        self._container.get_wrapped_container().start()
        wait_until(lambda: _answers(self.port), 30, "the container answers")

    def stop(self) -> None:
        self._container.get_wrapped_container().stop()

    def kill(self) -> None:
        self._container.get_wrapped_container().kill()

    def restart(self) -> None:
        self.stop()
        self.start()

    def close(self) -> None:
        self._container.stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@cache
def docker_ready() -> str | None:
    """None if containers can be made here; else why not. As root it starts a daemon and makes the images."""
    scripts = ROOT / ".ci" / "containers"
    for script in ("start-docker.sh", "build-redis-image.sh"):
        try:
            done = subprocess.run(
                ["bash", str(scripts / script)], capture_output=True, text=True, timeout=300, check=False
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            return f"{script}: {error}"
        if done.returncode:
            return (done.stderr or done.stdout).strip().splitlines()[-1]
    return None
