"""Servers of our tests: `redsched.testing.servers` with a connection, and the images of containers."""

from __future__ import annotations

import os
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
import redis

from redsched.testing import servers
from redsched.testing.servers import Server, answers, free_port, wait_until

__all__ = ["Server", "answers", "free_port", "wait_until"]

ROOT = Path(__file__).resolve().parents[1]


class LocalServer(servers.LocalServer):
    """A redis-server of this machine, and a connection to it."""

    def client(self) -> redis.Redis:
        """A connection to it; close it."""
        return redis.Redis("127.0.0.1", self.port, socket_timeout=None)


class ValkeyServer(servers.ValkeyServer, LocalServer):
    """The embedded Valkey's program, on a port."""


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
