"""The ledger: a file outside of Redis in which tasks note what they do. It is the witness.

One line for each word, written by one `write` on a file opened with O_APPEND: lines of several processes do not mix,
and a process that is killed leaves a whole line or none. Its instants are of the machine's monotonic clock, which all
processes share and which is never set: it is independent of Redis' clock and of any wall clock. libfaketime, in a
worker whose clock is to be wrong, makes that one wrong as well: there the kernel is asked past it.
"""

from __future__ import annotations

import ctypes
import os
import platform
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

__all__ = ["CLOCK_GETTIME", "Execution", "Ledger", "Line", "Word", "busy", "executions", "read"]

TAIL_BYTES = 200_000
"""How much of the ledger's end `busy` looks at."""

CLOCK_GETTIME = {"x86_64": 228, "aarch64": 113} if platform.system() == "Linux" else {}
"""Machine -> the number of that system call."""

Word = Literal["start", "done", "raised", "stopped"]


@dataclass(frozen=True, slots=True)
class Line:
    """A line that a task wrote."""

    word: str
    job_id: str
    fire_ms: int
    attempt: int
    token: int
    """The fencing token of the claim."""
    pid: int
    """Of the worker that holds the claim, wherever the task itself runs."""
    at: float
    """Seconds of the monotonic clock."""


@dataclass(slots=True)
class Execution:
    """One attempt of a run in one worker: from its start to its end, if it came to one."""

    job_id: str
    fire_ms: int
    attempt: int
    token: int
    pid: int
    start: float
    end: float | None = None
    word: str = "start"
    """How it ended: done (the effect happened), raised, stopped (cancelled), or start: it did not."""


def _monotonic_us() -> int:
    return time.monotonic_ns() // 1000


def _machines_clock() -> Callable[[], int]:
    """The machine's monotonic clock, in us."""
    if "FAKETIME" not in os.environ:
        return _monotonic_us
    system_call, number = ctypes.CDLL(None).syscall, CLOCK_GETTIME[platform.machine()]

    def now_us() -> int:
        seconds_and_ns = (ctypes.c_long * 2)()  # one for each call: threads ask at the same time
        if system_call(number, time.CLOCK_MONOTONIC, seconds_and_ns):
            raise OSError("the kernel does not tell its monotonic clock")
        return seconds_and_ns[0] * 1_000_000 + seconds_and_ns[1] // 1000

    return now_us


class Ledger:
    """For writing.

    Args:
        worker: the process id that goes with each line; None = this process'.
    """

    def __init__(self, path: str | Path, worker: int | None = None) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        self._worker = os.getpid() if worker is None else worker
        self._now_us = _machines_clock()

    def write(self, word: Word, job_id: str, fire_ms: int, attempt: int, token: int) -> None:
        """One line, whole or not at all."""
        line = f"{word}\t{job_id}\t{fire_ms}\t{attempt}\t{token}\t{self._worker}\t{self._now_us()}\n"
        os.write(self._file, line.encode())

    def close(self) -> None:
        os.close(self._file)


def read(path: Path) -> list[Line]:
    """All lines, in the order in which they were written."""
    lines: list[Line] = []
    for line in path.read_text(encoding="utf-8").splitlines():
        word, job_id, fire_ms, attempt, token, pid, at_us = line.split("\t")
        lines.append(Line(word, job_id, int(fire_ms), int(attempt), int(token), int(pid), int(at_us) / 1e6))
    return lines


def busy(path: Path) -> set[int]:
    """The workers that are in the middle of an execution just now, as far as the newest lines say."""
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - TAIL_BYTES))
        lines = file.read().decode().splitlines()[size > TAIL_BYTES :]
    under_way: dict[tuple[str, ...], int] = {}
    for line in lines:
        word, job_id, fire_ms, _, token, pid, _ = line.split("\t")
        key = (job_id, fire_ms, token, pid)
        if word == "start":
            under_way[key] = int(pid)
        else:
            under_way.pop(key, None)
    return set(under_way.values())


def executions(lines: Iterable[Line]) -> list[Execution]:
    """The executions, in the order of the starts. Two starts of one claim are two executions."""
    made: list[Execution] = []
    running: dict[tuple[str, int, int, int], Execution] = {}
    for line in lines:
        key = (line.job_id, line.fire_ms, line.token, line.pid)
        if line.word == "start":
            one = Execution(line.job_id, line.fire_ms, line.attempt, line.token, line.pid, line.at)
            made.append(one)
            running[key] = one
        else:
            one = running[key]
            one.end, one.word = line.at, line.word
    return made
