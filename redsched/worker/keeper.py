"""The worker's side of its keeper: starts it, gives it signs of life, and does without where there is none.

While an event loop is blocked nothing of it renews leases, and while one C call holds the interpreter's lock no thread
can either. So a child process does: `keeper_child.py`, which gets one sign of life every few seconds and sends nothing
while they come. Where no process can be started, a thread of the worker does it, as far as it can.
"""

from __future__ import annotations

import contextlib
import inspect
import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
import weakref
from pathlib import Path
from typing import Any

from redsched.runtime import forks
from redsched.runtime.interpreter import python_program
from redsched.worker import keeper_child
from redsched.worker.keeper_child import BEAT, IGNORED, LATE, RUN, Silence
from redsched.worker.vouching import Voucher

__all__ = ["Keeper"]

log = logging.getLogger("redsched.worker")

PRELOADED_LEASE_S = 10.0
"""With a shorter lease the keeper imports what it needs at its start: then it may be too late."""
FIRST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 60.0
EXIT_TIMEOUT_S = 2.0

_open: weakref.WeakSet[Keeper]


class Keeper:
    """The keeper of one worker. `beat` is for the event loop's thread, all else for one other thread.

    Args:
        worker: its id.
        reached_by: see `Store.reached_by`.
        lease: seconds.
        limit: seconds that the event loop may be blocked.
    """

    def __init__(self, worker: str, reached_by: dict[str, Any], lease: float, limit: float) -> None:
        store = {"worker": worker, "timeout": max(0.2, min(5.0, lease / 4)), **reached_by}
        self._store: dict[str, Any] = store
        self._settings = {
            "python_path": [*sys.path, str(Path(keeper_child.__file__).parents[2])],
            "lease": lease, "limit": limit, "preload": lease < PRELOADED_LEASE_S, "store": store,
        }  # fmt: skip
        self._every = lease / 12
        self._beaten = 0.0
        self._process: subprocess.Popen[bytes] | None = None
        self._pipe = -1
        self._lock = threading.Lock()
        self._start_at = 0.0
        self._pause = FIRST_PAUSE_S
        self._fallback: Voucher | None = None
        self._silence = Silence(lease, limit, time.monotonic())
        self._said = b""
        _open.add(self)

    @property
    def pid(self) -> int | None:
        """Of the process, while there is one."""
        return None if self._process is None else self._process.pid

    # -- the event loop's thread ------------------------------------------------------------------------------------

    def beat(self, now: float, *, late: bool = False) -> None:
        """The event loop turned. Costs a system call every now and then."""
        self._silence.beat(now, late=late)
        if late or now - self._beaten >= self._every:
            self._beaten = now
            self._send(b"%s%.3f" % (LATE if late else BEAT, now))

    # -- the other thread -------------------------------------------------------------------------------------------

    def blocked_by(self, run_id: str) -> None:
        """Report the run that blocks the event loop now, so that the runs it holds back are not blamed."""
        self._silence.blocker = run_id
        self._send(RUN + json.dumps(run_id).encode())

    def look(self, now: float) -> None:
        """See that there is a keeper; where none can be, do its work."""
        if self._fallback is None:
            if self._process is None and now >= self._start_at:
                self._start()
            elif self._process is not None and self._process.poll() is not None:
                self._died(now)
            self._hear()
        if self._fallback is not None:
            seconds = self._silence.seconds_to_vouch(now)
            if seconds:
                try:
                    self._fallback.vouch(seconds, self._silence.blocker)
                    self._silence.vouched_until = now + seconds
                except Exception as error:
                    log.warning("the leases of a blocked worker could not be kept: %s", error)

    def close(self) -> None:
        """End it."""
        self._close_pipe()
        if self._process is not None:
            self._hear()
            try:
                self._process.wait(EXIT_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            assert self._process.stdout is not None
            self._process.stdout.close()
            self._process = None
        if self._fallback is not None:
            with contextlib.suppress(Exception):
                self._fallback.close()
        _open.discard(self)

    def forget(self) -> None:
        """In a forked child: the keeper is the parent's, and must see the end of its pipe when the parent ends."""
        self._lock = threading.Lock()  # the parent's may have been held by a thread that is not here
        self._close_pipe()
        self._start_at = float("inf")
        if self._process is not None:
            self._process.returncode = 0  # it is not this process' child
            self._process = None

    # -- the process ------------------------------------------------------------------------------------------------

    def _start(self) -> None:
        try:
            line = json.dumps(self._settings).encode() + b"\n"
            if sys.platform == "win32":
                raise OSError("it needs a POSIX system")
            python = python_program()
            reading, writing = os.pipe()
            # The child inherits the mask of this thread: no signal can end it before it has said which it ignores.
            before = signal.pthread_sigmask(signal.SIG_BLOCK, IGNORED)
            try:
                process = subprocess.Popen(
                    # -I and -S: nothing is imported that was not asked for. A session apart: Ctrl-C is the worker's.
                    [python, "-I", "-S", *_program(), str(os.getpid())],
                    stdin=reading, stdout=subprocess.PIPE, start_new_session=True,
                )  # fmt: skip
            except BaseException:
                os.close(writing)
                raise
            finally:
                signal.pthread_sigmask(signal.SIG_SETMASK, before)
                os.close(reading)
        except (OSError, TypeError, ValueError, subprocess.SubprocessError) as error:
            log.warning(
                "no keeper process can be started (%s): while the event loop is blocked, a thread keeps this worker's "
                "leases, but it cannot while one C call holds the interpreter's lock",
                error,
            )
            self._fallback = Voucher(**self._store)
            return
        assert process.stdout is not None
        os.set_blocking(process.stdout.fileno(), False)
        os.set_blocking(writing, False)
        self._process, self._said, self._pipe = process, b"", writing
        self._send(line, end=b"")

    def _died(self, now: float) -> None:
        assert self._process is not None
        log.warning(
            "the keeper process %d of this worker has ended (%s); another starts in %g s",
            self._process.pid, self._process.returncode, self._pause,
        )  # fmt: skip
        self._hear()
        assert self._process.stdout is not None
        self._process.stdout.close()
        self._process = None
        self._close_pipe()
        self._start_at = now + self._pause
        self._pause = min(2 * self._pause, LONGEST_PAUSE_S)

    def _send(self, message: bytes, *, end: bytes = b"\n") -> None:
        with self._lock:  # or another thread closes the pipe, and its number is that of another file
            if self._pipe >= 0:
                with contextlib.suppress(OSError):  # it has died, or is stopped and its pipe is full
                    os.write(self._pipe, message + end)

    def _hear(self) -> None:
        """Log what it could not do."""
        if self._process is None or self._process.stdout is None:
            return
        with contextlib.suppress(OSError, ValueError):
            self._said += os.read(self._process.stdout.fileno(), 65536)
        *lines, self._said = self._said.split(b"\n")
        for line in lines:
            log.warning("the keeper of this worker could not keep its leases: %s", line.decode(errors="replace"))

    def _close_pipe(self) -> None:
        with self._lock:
            pipe, self._pipe = self._pipe, -1
            if pipe >= 0:
                with contextlib.suppress(OSError):
                    os.close(pipe)


def _program() -> list[str]:
    path = Path(keeper_child.__file__)
    return [str(path)] if path.is_file() else ["-c", inspect.getsource(keeper_child)]  # inside an archive


def _forget_all() -> None:
    for keeper in list(_open):
        keeper.forget()
    _open.clear()


_open = weakref.WeakSet()
forks.on_fork(_forget_all)
