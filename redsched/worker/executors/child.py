"""A child of the process pool: `python -m redsched.worker.executors.child IN OUT PYTHONPATH LOG`.

IN and OUT are file descriptors of two pipes that carry length-prefixed msgpack, PYTHONPATH is what tasks see of it.
LOG is how the log of its parent looks, where redsched set that up (`redsched.logs`): then its own looks so as well.

Ends when its input ends, that is, when its parent ends, even in the middle of a task.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import importlib
import inspect
import os
import queue
import runpy
import signal
import struct
import sys
import threading
from collections.abc import Callable
from functools import partial, reduce
from types import FrameType, ModuleType
from typing import Any, BinaryIO

import msgpack

from redsched.codec.values import pack_result, unpack_payload
from redsched.context import parent_run
from redsched.errors import InvalidInputError
from redsched.logs import formats as logs
from redsched.tasks.registry import refuse_generator
from redsched.worker.executors.child_context import ToldRun, unpack_context
from redsched.worker.tracebacks import formatted

_LENGTH = struct.Struct(">I")

BEGUN = b"+"
"""Goes before the reply, as soon as the request is there: the parent may give a call that was not begun to another."""

MAX_TEXT = 100_000
"""Characters of an error's message, and of its traceback: a message may quote whatever was too large."""


def _find(module: str, qualname: str, main_path: str | None) -> Any:
    if main_path is not None and module not in sys.modules:
        # As multiprocessing does: under a name that is not __main__, so that `if __name__ == "__main__"` stays off.
        loaded = ModuleType(module)
        loaded.__dict__.update(runpy.run_path(main_path, run_name=module))
        sys.modules[module] = loaded
    return reduce(getattr, qualname.split("."), importlib.import_module(module))


def _text(make: Callable[[], str]) -> str:
    """A text of the task's making: it may be too long, no valid Unicode (a file's name), or fail to be made."""
    try:
        text = make()
    except BaseException as error:  # it must not end the child in the place of an answer
        text = f"<no text: {type(error).__name__}>"
    return text[:MAX_TEXT].encode(errors="backslashreplace").decode()


def _answer(request: bytes) -> bytes:
    module, qualname, main_path, payload, limit, first, context = msgpack.unpackb(request, raw=False)
    try:
        if context:
            parent_run.set(ToldRun(unpack_context(context)))
        for name in first:
            importlib.import_module(name)
        function = _find(module, qualname, main_path)
        args, kwargs = unpack_payload(payload)
        result = function(*args, **kwargs)
        if inspect.iscoroutine(result):
            result = asyncio.run(result)
        refuse_generator(result)
        try:
            reply: list[Any] = ["ok", pack_result(result, limit=limit)]
        except InvalidInputError as error:
            reply = ["unencodable", type(error).__name__, _text(error.__str__), ""]
    except BaseException as error:  # SystemExit too: it fails the task, not the child
        reply = ["error", _text(type(error).__name__.__str__), _text(error.__str__), _text(partial(formatted, error))]
    return msgpack.packb(reply) or b""


def _read(source: BinaryIO, requests: queue.SimpleQueue[bytes]) -> None:
    while True:
        head = source.read(_LENGTH.size)
        if len(head) < _LENGTH.size:
            os._exit(0)  # the parent is gone, or wants us to go; a task that still runs belongs to no run
        (length,) = _LENGTH.unpack(head)
        requests.put(source.read(length))


def _take_no_notice(number: int, frame: FrameType | None) -> None:
    """A handler that does nothing; not SIG_IGN, which the programs that a task starts would inherit."""


def main() -> None:
    """Answer calls until the input ends."""
    signal.signal(signal.SIGINT, _take_no_notice)  # Ctrl-C is the parent's to handle
    given_in, given_out, python_path, log = sys.argv[1:5]
    logs.setup_as_parent(sys.stderr, log)
    # What was there before our parent put its own sys.path there, for the programs that a task starts.
    os.environ.pop("PYTHONPATH", None)
    if python_path:
        os.environ["PYTHONPATH"] = python_path
    source, sink = os.fdopen(int(given_in), "rb"), os.fdopen(int(given_out), "wb")
    os.set_inheritable(source.fileno(), False)
    os.set_inheritable(sink.fileno(), False)
    requests: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    threading.Thread(target=_read, args=(source, requests), daemon=True).start()
    while True:
        request = requests.get()
        sink.write(BEGUN)
        sink.flush()
        reply = contextvars.copy_context().run(_answer, request)  # a call must feel nothing of the one before it
        with contextlib.suppress(Exception):  # the task may have closed or replaced it
            sys.stdout.flush()
        sink.write(_LENGTH.pack(len(reply)) + reply)
        sink.flush()


if __name__ == "__main__":
    main()
