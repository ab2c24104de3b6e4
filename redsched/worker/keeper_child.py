"""The keeper: `python keeper_child.py PARENT`, a process that vouches for a worker while its event loop is blocked.

It reads its settings (one line of JSON) and the worker's signs of life from its input, and answers on its output. It
is run by its path, with the standard library alone, and is 8 MB large until it is needed; then it imports redsched, and
tells Redis that the worker lives. It ends when its input ends or its parent is gone: it never keeps a dead one alive.

The rules are in `Silence`, which the worker uses itself where it cannot start a process.
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

__all__ = ["BEAT", "IGNORED", "LATE", "RUN", "Silence", "main"]

BEAT, LATE, RUN = b"+", b"-", b"="
"""Messages, a line each: the event loop turned in time; it turned, but late; the run named after it blocks it.
Behind the first two stands when it turned: a keeper that was given no processor time reads them late."""
IGNORED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
"""Ctrl-C and a service manager's SIGTERM reach the keeper as well, but it is needed until its parent has ended."""
PRELOAD_AFTER_S = 0.1
NO_TIME = "this machine left the keeper no time"
"""The beginning of what it says when it was too late."""


class Silence:
    """When a worker is to be vouched for, and for how long. Times are seconds of time.monotonic().

    Args:
        lease: how long a lease lasts. A third of it is what passes at most between two renewals.
        limit: how long an event loop may be blocked before its runs are recovered.
        now: when the first sign of life came.
    """

    def __init__(self, lease: float, limit: float, now: float) -> None:
        self.lease = lease
        self.limit = limit
        self.patience: float = lease / 4
        self.on_time: float = now
        """The last sign of life that came in time."""
        self.last = now
        """The last one of any kind: a loop that is late each time is slow, and not hung."""
        self.vouched_until: float = 0.0
        self.blocker: str = ""

    def beat(self, now: float, *, late: bool) -> None:
        """The event loop turned."""
        self.last: float = now
        if not late:
            self.on_time = now
            self.blocker = ""

    def seconds_to_vouch(self, now: float) -> float:
        """How long to vouch from now on; 0 = do not vouch now."""
        is_silent = now - self.on_time >= self.patience and now - self.last < self.limit
        until = min(now + self.lease, self.last + self.limit)
        if not is_silent or self.vouched_until - now > self.lease * 0.6 or self.vouched_until >= until - 0.001:
            return 0.0
        return until - now

    def gap(self, now: float) -> float:
        """For how many seconds nothing kept the leases up to now; 0 = it is not so long that one may have ended.

        The last renewal may have been a third of the lease before the last sign of life.
        """
        since = max(self.on_time - self.lease / 3, self.vouched_until - self.lease)
        return now - since if now - since >= self.lease else 0.0

    def wait(self, now: float) -> float:
        """How long there is nothing to do, if no sign of life comes."""
        due = self.on_time + self.patience - now
        return due if due > 0 else self.patience / 2


def is_working(pid: int) -> bool:
    """Whether a process runs, or could: one that is stopped (SIGSTOP) or dead would be kept alive in Redis only."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:  # noqa: PTH123  this file imports as little as it can
            state = file.read().rpartition(b")")[2].split()[0].decode()
    except OSError:
        if os.path.isdir("/proc/self"):  # noqa: PTH112
            return False
        shown = subprocess.run(["ps", "-o", "state=", "-p", str(pid)], capture_output=True, check=False)  # nosec B607
        state = shown.stdout.decode().strip()[:1]
    return state not in ("", "T", "t", "Z", "X", "x")


class _Client:
    """Vouches for the worker in Redis. Imports redsched when it is first used."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self._settings = settings
        self._vouch: Callable[[float, str], None] | None = None

    def load(self) -> None:
        """Import what it needs.

        Raises:
            ImportError: it cannot.
        """
        sys.path[:] = self._settings["python_path"]
        try:
            from redsched.worker.vouching import Voucher
        except ImportError:
            import site

            site.main()  # what is installed by way of hooks, such as editable packages
            from redsched.worker.vouching import Voucher
        self._vouch = Voucher(**self._settings["store"]).vouch

    def vouch(self, seconds: float, blocker: str) -> None:
        """Vouch for so long; 0 = take it back."""
        if self._vouch is None:
            self.load()
        assert self._vouch is not None
        self._vouch(seconds, blocker)


class _Keeper:
    def __init__(self, parent: int, settings: dict[str, Any]) -> None:
        self.parent = parent
        self.client = _Client(settings)
        self.silence = Silence(settings["lease"], settings["limit"], time.monotonic())
        self._rest = b""
        self._failed = False
        self._was_stopped = False
        self._load_at = time.monotonic() + (PRELOAD_AFTER_S if settings["preload"] else float("inf"))

    def read(self) -> bool:
        """Take the messages that are there. False at the end of the input."""
        data = os.read(0, 65536)
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            if line[:1] == RUN:
                self.silence.blocker = json.loads(line[1:])
            else:
                now = time.monotonic()
                late = line[:1] == LATE
                self.silence.beat(min(now, float(line[1:])), late=late)
                self._was_stopped = self._was_stopped and late
        return bool(data)

    def run(self) -> None:
        while True:
            now = time.monotonic()
            timeout = min(self.silence.wait(now), max(0.0, self._load_at - now))
            if select.select([0], [], [], timeout)[0] and not self.read():
                break
            if os.getppid() != self.parent:
                break  # its end of the pipe may be open still, in a process that it forked
            if time.monotonic() >= self._load_at:
                self._load_at = float("inf")
                self._preload()
            seconds = self.silence.seconds_to_vouch(time.monotonic())
            if seconds and is_working(self.parent):
                self._try(seconds)
            elif seconds:
                self._was_stopped = True
        if self.silence.vouched_until > time.monotonic():
            self._try(0.0)

    def _preload(self) -> None:
        """Import what it needs now, since the leases are so short that it would be too late."""
        try:
            self.client.load()
        except Exception as error:
            self._say(f"{type(error).__name__}: {error}")

    def _try(self, seconds: float) -> None:
        now = time.monotonic()
        try:
            self.client.vouch(seconds, self.silence.blocker)
            gap = self.silence.gap(time.monotonic())
            if seconds and gap and not self._failed and not self._was_stopped:
                self._say(f"{NO_TIME}: nothing renewed them for {gap:.1f} s, and they last {self.silence.lease:g} s")
        except Exception as error:
            if not self._failed:
                self._say(f"{type(error).__name__}: {error}")
            self._failed = True
        else:
            self.silence.vouched_until = now + seconds
            self._failed = False

    def _say(self, text: str) -> None:
        """Send a line that the parent logs when it can."""
        try:
            os.write(1, text.replace("\n", " ").encode()[:2000] + b"\n")
        except OSError:
            return


def main() -> None:
    """Watch the parent until it ends."""
    for number in IGNORED:
        signal.signal(number, signal.SIG_IGN)
    line = b""
    while not line.endswith(b"\n"):
        byte = os.read(0, 1)  # not more: what follows are signs of life
        if not byte:
            return
        line += byte
    settings = json.loads(line)
    _Keeper(int(sys.argv[1]), settings).run()


if __name__ == "__main__":
    main()
