"""Real servers for tests: redis-server from PATH, the embedded Valkey, or a container. All on loopback.

Each has its port and its data to itself, and keeps both while it is killed, stopped and started again.
"""

from __future__ import annotations

import os
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Literal, Protocol, Self

import pytest
import redis

from redsched.chaos import servers
from redsched.chaos.servers import answers, free_port, wait_until
from redsched.embedded.server import server_binary

ROOT = Path(__file__).resolve().parents[1]


class Server(Protocol):
    """The operations of a test on a server; its port and data stay over kill, stop, start and restart."""

    url: str
    port: int

    def start(self) -> None: ...
    def stop(self) -> None: ...
    def kill(self) -> None: ...
    def restart(self) -> None: ...
    def close(self) -> None: ...


class LocalServer(servers.LocalServer):
    """A redis-server of this machine, and a connection to it."""

    def client(self) -> redis.Redis:
        """A connection to it; close it."""
        return redis.Redis("127.0.0.1", self.port, socket_timeout=None)


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
        done = subprocess.run(command, capture_output=True, text=True, timeout=900, check=False, env=python)
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"{' '.join(command)}: {error}"
    if done.returncode == 0:
        return None
    return ((done.stderr or done.stdout).strip().splitlines() or [f"{command[0]} failed"])[-1]


@cache
def docker_ready() -> str | None:
    """None if containers of `IMAGES` can be made here; else why not. REDSCHED_REQUIRE_CONTAINERS=0 forbids them.

    As root it starts a daemon if none answers, and makes the images; anybody else needs both to be there, or a daemon
    that can get the images. What fails is tried once again, as the machine may have been too busy for it; then the
    answer stands for the whole run.
    """
    if os.environ.get("REDSCHED_REQUIRE_CONTAINERS") == "0":
        return "REDSCHED_REQUIRE_CONTAINERS is 0"
    return make_ready() and make_ready()


def make_ready() -> str | None:
    """One attempt of `docker_ready`."""
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
