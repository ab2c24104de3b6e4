"""Web servers and workers in separate processes."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx

from tests.servers import ROOT, free_port, wait_until


def environment(**more: str) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), **more}


class Web:
    """A real uvicorn that serves an application."""

    def __init__(self, application: str, log: Path, **variables: str) -> None:
        self.url = f"http://127.0.0.1:{free_port()}"
        self._log = log
        with log.open("w") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "uvicorn", application, "--port", self.url.rpartition(":")[2]],
                env=environment(**variables), stdout=output, stderr=subprocess.STDOUT,
            )  # fmt: skip

    @property
    def log(self) -> str:
        return self._log.read_text()

    def post(self, path: str) -> httpx.Response:
        return httpx.post(self.url + path, timeout=20)

    def wait(self) -> None:
        def ready() -> bool:
            assert self.process.poll() is None, self.log
            with contextlib.suppress(httpx.TransportError):
                httpx.get(self.url + "/", timeout=5)
                return True
            return False

        wait_until(ready, 60, self.log)

    def terminate(self) -> int:
        """SIGTERM, until it has ended."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(20)


@contextlib.contextmanager
def web(application: str, log: Path, **variables: str) -> Iterator[Web]:
    server = Web(application, log, **variables)
    try:
        server.wait()
        yield server
    finally:
        server.process.kill()
        server.process.wait()


@contextlib.contextmanager
def worker(target: str, log: Path, **variables: str) -> Iterator[subprocess.Popen[bytes]]:
    """`redsched worker` of the same jobs."""
    with log.open("w") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "redsched.cli", "worker", target],
            env=environment(**variables), stdout=output, stderr=subprocess.STDOUT,
        )  # fmt: skip
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
