"""The process pool: functions of jobs with `executor="processpool"`, each in a child process.

A child gets the name of a function that this process has registered, and the job's arguments as the very msgpack
bytes that are in Redis. Nothing is pickled (promise 9), which is why this is not `concurrent.futures`. A child does
one call at a time; a cancelled call ends its child, which is how a timeout stops a plain function that computes.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import inspect
import os
import signal
import struct
import sys
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import msgpack

from redsched.codec import MAX_PAYLOAD_BYTES
from redsched.errors import EncodingError, InvalidInputError, TaskFailedError

__all__ = ["ProcessPool", "Target", "target_of"]

_LENGTH = struct.Struct(">I")


@dataclass(frozen=True, slots=True)
class Target:
    """A function that a child can find."""

    module: str
    qualname: str
    main_path: str | None = None
    """For a function of `__main__`: the file to load."""


def target_of(function: Callable[..., Any]) -> Target:
    """How a child finds the function.

    Raises:
        InvalidInputError: it exists in this process only (a lambda, a closure, a bound method, a partial).
    """
    qualname = getattr(function, "__qualname__", "")
    bound = getattr(function, "__self__", None)
    of_an_object = bound is not None and not isinstance(bound, ModuleType)
    if of_an_object or isinstance(function, functools.partial) or "<" in qualname or not inspect.isroutine(function):
        raise InvalidInputError(
            f"{function!r} cannot run in a process pool: a child process finds only functions of a module, by name",
            field="executor",
        )
    module = function.__module__
    if module != "__main__":
        return Target(module, qualname)
    main = sys.modules["__main__"]
    spec = getattr(main, "__spec__", None)
    if spec is not None:
        return Target(spec.name, qualname)
    path = getattr(main, "__file__", None)
    if path is None:
        raise InvalidInputError(f"{qualname} of an interactive session cannot run in a process pool", field="executor")
    return Target("__mp_main__", qualname, os.path.abspath(path))  # noqa: PTH100  a child may have another cwd


class _Child:
    """One child process and its two pipes."""

    def __init__(self, process: asyncio.subprocess.Process, reader: asyncio.StreamReader, writer: Any) -> None:
        self.process = process
        self.reader = reader
        self.writer = writer

    @classmethod
    async def start(cls) -> _Child:
        """Start a child. It speaks over two pipes of its own: what a task prints goes where ours goes."""
        loop = asyncio.get_running_loop()
        to_child, ours_out = os.pipe()
        ours_in, from_child = os.pipe()
        try:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "redsched.worker.child", str(to_child), str(from_child),
                pass_fds=(to_child, from_child), stdin=asyncio.subprocess.DEVNULL,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
            )  # fmt: skip
        except BaseException:
            os.close(ours_out)
            os.close(ours_in)
            raise
        finally:
            os.close(to_child)
            os.close(from_child)
        reader = asyncio.StreamReader(limit=2**26)
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(ours_in, "rb", 0))
        transport, protocol = await loop.connect_write_pipe(
            asyncio.streams.FlowControlMixin, os.fdopen(ours_out, "wb", 0)
        )
        return cls(process, reader, asyncio.StreamWriter(transport, protocol, None, loop))

    async def call(self, request: bytes) -> bytes:
        self.writer.write(_LENGTH.pack(len(request)) + request)
        await self.writer.drain()
        (length,) = _LENGTH.unpack(await self.reader.readexactly(_LENGTH.size))
        return await self.reader.readexactly(length)

    async def end(self, *, kill: bool) -> int:
        self.writer.close()  # a child without a task ends at the end of its input
        if kill:
            self._kill()
        try:
            return await asyncio.wait_for(self.process.wait(), 5)
        except TimeoutError:
            self._kill()
            return await self.process.wait()

    def _kill(self) -> None:
        # Not process.kill(): that looks for the exit status itself, and asyncio, which looks as well, finds none.
        if self.process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.process.pid, signal.SIGKILL)


class ProcessPool:
    """At most `max_workers` children, started when they are needed and used again."""

    def __init__(self, max_workers: int, *, max_result_bytes: int = MAX_PAYLOAD_BYTES) -> None:
        self._places = asyncio.Semaphore(max_workers)
        self._idle: list[_Child] = []
        self._busy: set[_Child] = set()
        self._max_result_bytes = max_result_bytes
        self._closed = False

    async def run(self, target: Target, payload: bytes) -> bytes:
        """Call the function in a child; returns its result as msgpack bytes.

        Args:
            payload: msgpack of `[args, kwargs]`, as it is in Redis.

        Raises:
            TaskFailedError: the function raised, or its process died (`error_type` WorkerProcessDied).
            EncodingError: what it returned cannot be encoded.
        """
        async with self._places:
            child = self._idle.pop() if self._idle else await _Child.start()
            self._busy.add(child)
            request: bytes = msgpack.packb(
                [target.module, target.qualname, target.main_path, payload, self._max_result_bytes]
            ) or b""  # fmt: skip
            try:
                reply = await child.call(request)
            except (OSError, asyncio.IncompleteReadError):
                status = await child.end(kill=False)
                raise TaskFailedError(
                    f"the process of the task ended in the middle of it, with {_status(status)}",
                    error_type="WorkerProcessDied",
                ) from None
            except BaseException:
                # Cancelled: the child goes on with the call and must not be used again.
                await asyncio.shield(child.end(kill=True))
                raise
            else:
                if self._closed:
                    await child.end(kill=False)
                else:
                    self._idle.append(child)
            finally:
                self._busy.discard(child)
        kind, *rest = msgpack.unpackb(reply, raw=False)
        if kind == "ok":
            return rest[0]
        error_type, message, trace = rest
        if kind == "unencodable":
            raise EncodingError(message, field="result")
        raise TaskFailedError(message, error_type=error_type, traceback=trace)

    async def aclose(self, *, kill: bool = False) -> None:
        """End the children. With `kill`, those that are in a call as well."""
        self._closed = True
        children, self._idle = self._idle, []
        if kill:
            children = [*children, *self._busy]
        await asyncio.gather(*(child.end(kill=kill) for child in children))


def _status(status: int) -> str:
    return f"signal {-status}" if status < 0 else f"exit status {status}"
