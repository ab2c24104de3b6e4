"""Forks by the C library, as uWSGI does, so that no hook of Python runs. Prints what each process accepted, as JSON.

In a process of one thread: a thread that waits for the interpreter's lock just then is not there in the child, which
would wait for it for ever. Arguments: a URL, a prefix.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import json
import os
import signal
import sys

from tests.processes import shared

COUNT = 25


def in_a_child() -> tuple[int, int]:
    """Its process id, and the pipe on which it tells its scheduler's id and those of its jobs."""
    source, sink = os.pipe()
    pid = ctypes.PyDLL(None).fork()
    if pid == 0:
        with contextlib.suppress(BaseException):
            signal.alarm(30)
            ids = shared.run_schedule(COUNT)
            os.write(sink, " ".join([shared.schedulers[-1].id, *ids]).encode())
        os._exit(0)
    os.close(sink)
    return pid, source


def main(url: str, prefix: str) -> None:
    shared.configure(url, prefix)
    shared.run_schedule(1)
    waiting = [in_a_child() for _ in range(4)]
    accepted: dict[str, list[str]] = {}
    for pid, source in waiting:
        with os.fdopen(source) as pipe:
            worker, *accepted[str(pid)] = pipe.read().split()
        os.waitpid(pid, 0)
        assert worker != shared.schedulers[-1].id
    asyncio.run(shared.schedulers[-1].shutdown())
    print(json.dumps(accepted))


if __name__ == "__main__":
    main(*sys.argv[1:])
