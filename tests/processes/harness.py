"""Forks for tests: code that runs in a child and says what it found; servers that fork by themselves."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tests.servers import ROOT, free_port, wait_until

Work = Callable[[], Any]


class Fork:
    """A child of this process. Called, it waits until the child has ended, and gives what its work returned."""

    def __init__(self, pid: int, source: int) -> None:
        self._pid = pid
        self._source = source

    def __call__(self) -> Any:
        with os.fdopen(self._source, "rb") as pipe:
            said = json.loads(pipe.read() or b"{}")
        status = os.waitstatus_to_exitcode(os.waitpid(self._pid, 0)[1])
        assert "error" not in said, f"in the child:\n{said['error']}"
        assert status == 0, f"the child ended with {status}"
        return said["value"]

    def kill(self) -> None:
        os.kill(self._pid, signal.SIGKILL)
        os.waitpid(self._pid, 0)
        os.close(self._source)


def fork(work: Work) -> Fork:
    """Run `work`, which returns plain data, in a child that `os.fork` makes."""
    source, sink = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12: this process has threads
        pid = os.fork()
    if pid == 0:
        code = 1
        with contextlib.suppress(BaseException):
            os.close(source)
            signal.alarm(30)
            try:
                said = {"value": work()}
                code = 0
            except BaseException:
                said = {"error": traceback.format_exc()}
            os.write(sink, json.dumps(said).encode())
        os._exit(code)
    os.close(sink)
    return Fork(pid, source)


def in_children(work: Work, number: int = 4) -> list[Any]:
    """Run `work` in children that are forked one after the other and work at once. Returns what each returned."""
    return [wait() for wait in [fork(work) for _ in range(number)]]


def in_threads(work: Work, number: int = 4) -> list[Any]:
    """Run `work` in threads at once. Returns what each returned."""
    with ThreadPoolExecutor(number) as pool:
        start = threading.Barrier(number)

        def one() -> Any:
            start.wait(10)
            return work()

        return [future.result(60) for future in [pool.submit(one) for _ in range(number)]]


def sockets() -> set[str]:
    """The sockets that this process has open, by their inodes."""
    found: set[str] = set()
    for descriptor in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            target = os.readlink(descriptor)
            if target.startswith("socket:"):
                found.add(target)
    return found


@contextlib.contextmanager
def service(command: Sequence[str], environment: Mapping[str, str], port: int) -> Iterator[str]:
    """A server that runs `tests.processes.service`; its URL. Its log is shown if it does not come up."""
    with Path(environment["SERVICE_LEDGER"]).with_suffix(".log").open("w+") as log:
        process = subprocess.Popen(
            command, cwd=ROOT, env={**os.environ, **environment}, stdout=log, stderr=log, start_new_session=True
        )
        try:
            wait_until(lambda: process.poll() is not None or _listens(port), 60, "the service listens")
            assert process.poll() is None, Path(log.name).read_text()
            yield f"http://127.0.0.1:{port}"
            assert "Traceback" not in Path(log.name).read_text(), Path(log.name).read_text()
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                raise AssertionError("the service does not end:\n" + Path(log.name).read_text()) from None


def _listens(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=2):
        return True
    return False


def post_many(url: str, number: int, at_once: int = 8) -> list[dict[str, Any]]:
    """Place orders, each on a separate connection, several at once. Returns the answers."""

    def one(order: int) -> dict[str, Any]:
        # Not httpx: each of its clients reads the certificates of all authorities, which is most of such a test.
        connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=30)
        with contextlib.closing(connection):
            connection.request("POST", f"/orders/{order}")
            answer = connection.getresponse()
            said = answer.read().decode()
        assert answer.status == 200, said
        return json.loads(said)

    with ThreadPoolExecutor(at_once) as pool:
        return list(pool.map(one, range(number)))


def orders_run(ledger: Path) -> list[int]:
    """The orders whose task ran, as often as it did."""
    return sorted(int(line.split()[0]) for line in ledger.read_text().splitlines()) if ledger.exists() else []


def python(*arguments: str) -> list[str]:
    return [sys.executable, *arguments]


__all__ = ["fork", "free_port", "in_children", "in_threads", "orders_run", "post_many", "python", "service", "sockets"]
