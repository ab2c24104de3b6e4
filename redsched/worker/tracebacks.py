"""Tracebacks as people need them: from the task's own frame on, and of a long one the end.

What led to the task (frames of redsched, of the event loop, of a thread's or a child process' main function) is cut off
of an error, of its causes and contexts, and of the errors in a group. Where all of an error is inside redsched, all of
it is kept: then the frames are what it takes to find the fault.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import sysconfig
import traceback
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

import redsched
from redsched.errors import TaskFailedError

__all__ = ["begin_with_users_frames", "formatted", "log_error", "traceback_of", "users_frames"]

log = logging.getLogger("redsched.worker")

TRACEBACK_BYTES = 8192
_OURS = f"{Path(redsched.__file__).parent}/"
_TASKS = tuple(f"{_OURS}{part}" for part in ("demo/", "chaos/"))
"""Parts of redsched that hold tasks."""


@functools.cache
def _between() -> tuple[str, ...]:
    """Where the code is that calls tasks for redsched: event loops, threads, imports."""
    import anyio

    stdlib = sysconfig.get_path("stdlib")
    folders = [f"{stdlib}/{part}" for part in ("asyncio/", "concurrent/", "importlib/")]
    modules = [f"{stdlib}/{part}.py" for part in ("contextlib", "functools", "runpy", "threading")]
    return (*folders, *modules, f"{Path(anyio.__file__).parent}/", "<frozen ")


def _leads_to_task(path: str) -> bool:
    return path.startswith((_OURS, *_between())) and not path.startswith(_TASKS)


def users_frames(frames: TracebackType | None) -> TracebackType | None:
    """A traceback without the frames that led to the application's code; all of it where none of that is there."""
    return _own(frames) or frames


def _own(frames: TracebackType | None) -> TracebackType | None:
    while frames is not None and _leads_to_task(frames.tb_frame.f_code.co_filename):
        frames = frames.tb_next
    return frames


def _family(error: BaseException) -> Iterator[BaseException]:
    """The error, what it came from, and what it groups; each once."""
    seen: set[int] = set()
    left: list[BaseException | None] = [error]
    while left:
        one = left.pop()
        if not isinstance(one, BaseException) or id(one) in seen:
            continue
        seen.add(id(one))
        yield one
        left += [one.__cause__, one.__context__]
        if isinstance(one, BaseExceptionGroup):
            left += one.exceptions


def begin_with_users_frames(error: BaseException) -> None:
    """Remove the frames before the application's code from the error itself, so that every output shows the same."""
    with contextlib.suppress(Exception):  # its class is the application's, and may have overridden anything
        family = list(_family(error))
        has_users = any(_own(one.__traceback__) is not None for one in family)
        for one in family:
            # Where a timeout was noticed says nothing, if its cause tells where the task was.
            drop = has_users and isinstance(one, TimeoutError)
            own = _own(one.__traceback__)
            one.__traceback__ = own if own is not None or drop else one.__traceback__


def formatted(error: BaseException) -> str:
    """The traceback as text: of an error from a child process the one that was made there.

    Raises:
        BaseException: whatever the error's `__str__` raises, which is the application's code.
    """
    if isinstance(error, TaskFailedError) and error.traceback:
        return error.traceback
    begin_with_users_frames(error)
    return "".join(traceback.format_exception(error))


def traceback_of(error: BaseException) -> str:
    """The part of a traceback that a dead run keeps: its end, from the task's own frame on."""
    try:
        text = formatted(error)
    except BaseException as problem:
        return f"(the traceback cannot be had: {type(problem).__name__})"
    data = text.encode("utf-8", "replace")
    if len(data) > TRACEBACK_BYTES:
        _, _, data = data[-TRACEBACK_BYTES:].partition(b"\n")
        data = b"...\n" + data
    return data.decode("utf-8", "ignore")


def log_error(
    error: BaseException,
    message: str,
    *values: object,
    to: logging.Logger = log,
    level: int = logging.ERROR,
    extra: dict[str, Any] | None = None,
) -> None:
    """Log an error with its traceback, which begins with the application's own frame.

    To format it calls the error's `__str__`, which may raise anything: then the line says so.
    """
    if not to.isEnabledFor(level):
        return
    path, line, function, _ = to.findCaller(stacklevel=2)
    try:
        begin_with_users_frames(error)
        info = (type(error), error, error.__traceback__)
        record = to.makeRecord(to.name, level, path, line, message, values, info, function, extra)
        if isinstance(error, TaskFailedError) and error.traceback:
            record.exc_text = error.traceback.rstrip("\n")
        to.handle(record)
    except BaseException as problem:
        text = message + " (its traceback cannot be had: %s)"
        to.log(level, text, *values, type(problem).__name__, extra=extra, stacklevel=2)
