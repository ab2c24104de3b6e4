"""Tracebacks as people need them: from the task's own frame on, and of a long one the end."""

from __future__ import annotations

import traceback
from pathlib import Path
from types import TracebackType

import redsched
from redsched.errors import TaskFailedError

__all__ = ["traceback_of", "users_frames"]

TRACEBACK_BYTES = 8192
_OURS = str(Path(redsched.__file__).parent) + "/"
_BETWEEN = ("/asyncio/", "/concurrent/futures/", "/threading.py", "/contextlib.py", "/anyio/")
"""Parts of the standard library and of what redsched stands on that call a task."""


def users_frames(frames: TracebackType | None) -> TracebackType | None:
    """A traceback without the frames of redsched that called the task; all of it where no other is there."""
    first = frames
    while first is not None:
        path = first.tb_frame.f_code.co_filename
        if not path.startswith(_OURS) and not any(part in path for part in _BETWEEN):
            return first
        first = first.tb_next
    return frames


def traceback_of(error: BaseException) -> str:
    """What a dead run keeps of a traceback: its end, where the error was raised, from the task's own frame on."""
    if isinstance(error, TaskFailedError):
        text = error.traceback
    else:
        try:
            text = "".join(traceback.format_exception(type(error), error, users_frames(error.__traceback__)))
        except BaseException as problem:  # the text of an error is made by the application's code
            return f"(the traceback cannot be had: {type(problem).__name__})"
    data = text.encode("utf-8", "replace")
    if len(data) > TRACEBACK_BYTES:
        _, _, data = data[-TRACEBACK_BYTES:].partition(b"\n")
        data = b"...\n" + data
    return data.decode("utf-8", "ignore")
