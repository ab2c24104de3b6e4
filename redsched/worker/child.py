"""A child of the process pool: `python -m redsched.worker.child IN OUT`, two pipes of length-prefixed msgpack.

Ends when its input ends, that is, when its parent ends, even in the middle of a task.
"""

from __future__ import annotations

import asyncio
import importlib
import inspect
import os
import queue
import runpy
import signal
import struct
import sys
import threading
import traceback
from functools import reduce
from types import ModuleType
from typing import Any, BinaryIO

import msgpack

from redsched.codec import pack_result, unpack_payload
from redsched.errors import InvalidInputError

_LENGTH = struct.Struct(">I")


def _find(module: str, qualname: str, main_path: str | None) -> Any:
    if main_path is not None and module not in sys.modules:
        # As multiprocessing does: under a name that is not __main__, so that `if __name__ == "__main__"` stays off.
        loaded = ModuleType(module)
        loaded.__dict__.update(runpy.run_path(main_path, run_name=module))
        sys.modules[module] = loaded
    return reduce(getattr, qualname.split("."), importlib.import_module(module))


def _answer(request: bytes) -> bytes:
    module, qualname, main_path, payload, limit = msgpack.unpackb(request, raw=False)
    try:
        function = _find(module, qualname, main_path)
        args, kwargs = unpack_payload(payload)
        result = function(*args, **kwargs)
        if inspect.iscoroutine(result):
            result = asyncio.run(result)
    except BaseException as error:  # SystemExit too: it fails the task, not the child
        reply: list[Any] = ["error", type(error).__name__, str(error), traceback.format_exc()]
    else:
        try:
            reply = ["ok", pack_result(result, limit=limit)]
        except InvalidInputError as error:
            reply = ["unencodable", type(error).__name__, str(error), ""]
    return msgpack.packb(reply) or b""


def _read(source: BinaryIO, requests: queue.SimpleQueue[bytes]) -> None:
    while True:
        head = source.read(_LENGTH.size)
        if len(head) < _LENGTH.size:
            os._exit(0)  # the parent is gone, or wants us to go; a task that is still under way is nobody's
        (length,) = _LENGTH.unpack(head)
        requests.put(source.read(length))


def main() -> None:
    """Answer calls until the input ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    requests: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    source, sink = os.fdopen(int(sys.argv[1]), "rb"), os.fdopen(int(sys.argv[2]), "wb")
    os.set_inheritable(source.fileno(), False)
    os.set_inheritable(sink.fileno(), False)
    threading.Thread(target=_read, args=(source, requests), daemon=True).start()
    while True:
        reply = _answer(requests.get())
        sys.stdout.flush()
        sink.write(_LENGTH.pack(len(reply)) + reply)
        sink.flush()


if __name__ == "__main__":
    main()
