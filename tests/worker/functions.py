"""Functions that the tests run in child processes."""

from __future__ import annotations

import contextlib
import os
import time
from contextvars import ContextVar
from dataclasses import asdict
from pathlib import Path
from typing import Any

from redsched import SchedulerStateError, current_run

left_behind: ContextVar[str] = ContextVar("left_behind", default="nothing")


def add(a: int, b: int = 0) -> int:
    return a + b


async def add_async(a: int, b: int) -> int:
    return a + b


def fail() -> None:
    raise ValueError("of no use")


def chained() -> None:
    try:
        try:
            fail()
        except ValueError as error:
            raise KeyError("second") from error
    except KeyError:
        raise OSError("third")  # noqa: B904  for its context


def grouped() -> None:
    errors: list[Exception] = []
    for one in (fail, chained):
        try:
            one()
        except Exception as error:
            errors.append(error)
    raise ExceptionGroup("several, of ValueError and KeyError", errors)


async def in_a_loop() -> None:
    fail()


def die(status: int) -> None:
    os._exit(status)


def leave() -> None:
    raise SystemExit(3)


def pid() -> int:
    return os.getpid()


def unencodable() -> Any:
    return object()


def large(size: int) -> bytes:
    return b"x" * size


def talk() -> str:
    print("to stdout, which is nobody's protocol")
    os.write(1, b"\x00\x00\x00\x05hello")
    return "said"


def tell_and_hang(path: str) -> None:
    Path(path).write_text(str(os.getpid()))
    time.sleep(60)


def meet(mine: str, other: str) -> bool:
    """True once the other call has come as well: only if both run at once."""
    Path(mine).touch()
    deadline = time.monotonic() + 20
    while not Path(other).exists():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def tell_run() -> dict[str, Any]:
    """The facts that a task can know about its run, and of that of the call before."""
    run = current_run()
    alike = (run.job_id, run.fire_time, run.attempt, run.fencing_token)
    told = asdict(run.context) | {"zone": str(run.fire_time.tzinfo), "pid": os.getpid(), "left": left_behind.get()}
    left_behind.set("something")
    assert alike == tuple(told[name] for name in ("job_id", "fire_time", "attempt", "fencing_token"))
    return told


async def tell_attempt() -> int:
    if current_run().attempt == 1:
        raise ValueError("only the second attempt")
    return current_run().attempt


def has_run() -> bool:
    with contextlib.suppress(SchedulerStateError):
        return bool(current_run())
    return False


async def report() -> None:
    await current_run().report_progress("half done")
