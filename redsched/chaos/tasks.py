"""The tasks of a chaos run: they note in the ledger that they start, and how they end."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any

from redsched import current_run
from redsched.testing.ledger import Ledger, Word

__all__ = ["KNOWN_BY_FEW", "TASKS", "UNKNOWN", "open_ledger"]

_ledger: list[Ledger] = []
LEDGER, WORKER = "CHAOS_LEDGER", "CHAOS_WORKER"
"""Environment variables by which a child of the process pool finds the ledger, and knows whose child it is."""
UNKNOWN = "CHAOS_UNKNOWN"
"""Environment variable: the tasks that a worker does not register, with spaces between them."""


class WantedError(Exception):
    """The exception of tasks that fail on purpose."""


def open_ledger(path: str) -> None:
    """Where the tasks of this process and of its children write to."""
    os.environ[LEDGER], os.environ[WORKER] = path, str(os.getpid())
    _ledger[:] = [Ledger(path)]


def _opened() -> Ledger:
    if not _ledger:  # in a child
        _ledger.append(Ledger(os.environ[LEDGER], int(os.environ[WORKER])))
    return _ledger[0]


@contextmanager
def _noted() -> Generator[int]:
    """Start and end of an execution; gives the attempt."""
    run = current_run().context
    about = (run.job_id, round(run.fire_time.timestamp() * 1000), run.attempt, run.fencing_token)
    ledger = _opened()
    ledger.write("start", *about)
    word: Word = "done"
    try:
        yield run.attempt
    except asyncio.CancelledError:
        word = "stopped"
        raise
    except WantedError:
        word = "raised"
        raise
    finally:
        ledger.write(word, *about)


async def work(seconds: float) -> None:
    """Takes so long; 0 = done at once."""
    with _noted():
        if seconds:
            await asyncio.sleep(seconds)


async def work_known_by_few(seconds: float) -> None:
    """As `work`, for a fault where only some of the workers have it."""
    await work(seconds)


def work_in_thread(seconds: float) -> None:
    """A plain function: nothing can stop it while it runs."""
    with _noted():
        time.sleep(seconds)


def work_in_process(seconds: float) -> None:
    """For a child of the process pool, which ends with its worker."""
    with _noted():
        time.sleep(seconds)


async def fail_first(times: int) -> None:
    """Raises in its first attempts."""
    with _noted() as attempt:
        if attempt <= times:
            raise WantedError(f"attempt {attempt} is to fail")


TASKS: dict[str, Callable[..., Any]] = {
    task.__name__: task for task in (work, work_known_by_few, work_in_thread, work_in_process, fail_first)
}
KNOWN_BY_FEW = work_known_by_few.__name__
