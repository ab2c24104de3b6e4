"""The process pool: functions of jobs with `executor="processpool"`, each in a child process.

A child gets the name of a function that this process has registered, the job's arguments as the very msgpack bytes
that are in Redis, and the context of the run. Nothing is pickled (promise 9), which is why this is not
`concurrent.futures`. A child does one call at a time; a cancelled call ends its child, which is how a timeout stops a
plain function that computes.
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
from pathlib import Path
from types import ModuleType
from typing import Any

import msgpack

from redsched.codec.values import MAX_PAYLOAD_BYTES
from redsched.errors import EncodingError, InvalidInputError, SchedulerStateError, TaskFailedError
from redsched.logs import formats as logs
from redsched.runtime import forks
from redsched.runtime.interpreter import python_program

__all__ = ["ProcessPool", "Target", "target_of"]

_LENGTH = struct.Struct(">I")

DRAIN_PIPE_S = 1.0
"""How long a dead child's pipe is still read: what it wrote may be on its way."""

EXIT_TIMEOUT_S = 5.0
"""How long an idle child may take to end by itself before it is killed."""


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
    module = getattr(function, "__module__", None)
    if module is None:
        raise InvalidInputError(f"{function!r} cannot run in a process pool: it is in no module", field="executor")
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

    def __init__(
        self, process: asyncio.subprocess.Process, reader: asyncio.StreamReader, pipes: tuple[Any, Any], writer: Any
    ) -> None:
        self.process = process
        self.reader = reader
        self.writer = writer
        self.begun = 0
        """The number of calls that the child has reported as begun."""
        self._pipes = pipes
        self._gone = asyncio.ensure_future(process.wait())
        forks.register(self)

    def after_fork(self) -> None:
        """A child of the parent's: while another process holds its pipes open, it does not see that they are closed."""
        for pipe in self._pipes:
            if (file := pipe.get_extra_info("pipe")) is not None and not file.closed:
                forks.close_copy(file.fileno())
        forks.keep_for_ever(self)

    @classmethod
    async def start(cls) -> _Child:
        """Start a child. It communicates over two separate pipes: what a task prints goes where ours goes.

        Raises:
            OSError: no process or no pipe can be made.
        """
        loop = asyncio.get_running_loop()
        with contextlib.ExitStack() as on_error, contextlib.ExitStack() as theirs:
            to_child, ours_out = os.pipe()
            theirs.callback(os.close, to_child)
            sink = on_error.enter_context(os.fdopen(ours_out, "wb", 0))
            ours_in, from_child = os.pipe()
            theirs.callback(os.close, from_child)
            source = on_error.enter_context(os.fdopen(ours_in, "rb", 0))
            process = await asyncio.create_subprocess_exec(
                # -P: nothing is imported from the folder in which the worker happens to be, unless it does so itself
                python_program(), "-P", "-m", "redsched.worker.executors.child", str(to_child), str(from_child),
                os.environ.get("PYTHONPATH", ""), logs.for_children(),
                pass_fds=(to_child, from_child), stdin=asyncio.subprocess.DEVNULL,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(path or str(Path.cwd()) for path in sys.path)},
            )  # fmt: skip
            reader = asyncio.StreamReader(limit=2**26)
            reading, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), source)
            writing, protocol = await loop.connect_write_pipe(asyncio.streams.FlowControlMixin, sink)
            on_error.pop_all()
        return cls(process, reader, (reading, writing), asyncio.StreamWriter(writing, protocol, None, loop))

    @property
    def alive(self) -> bool:
        """False: it died, though it had nothing to do."""
        return self.process.returncode is None and not self.reader.at_eof() and not self.writer.is_closing()

    async def call(self, request: bytes) -> bytes:
        """Send a request and wait for its reply.

        Raises:
            OSError: the child died.
            EOFError: the child died.
        """
        exchange = asyncio.ensure_future(self._exchange(request))
        try:
            await asyncio.wait({exchange, self._gone}, return_when=asyncio.FIRST_COMPLETED)
            if not exchange.done():
                # It died. No end of the pipe comes where a process that the task has forked holds it open.
                await asyncio.wait({exchange}, timeout=DRAIN_PIPE_S)
            if not exchange.done():
                raise EOFError("the process has ended")
            return exchange.result()
        finally:
            exchange.cancel()

    async def _exchange(self, request: bytes) -> bytes:
        self.writer.write(_LENGTH.pack(len(request)) + request)
        await self.writer.drain()
        await self.reader.readexactly(1)
        self.begun += 1
        (length,) = _LENGTH.unpack(await self.reader.readexactly(_LENGTH.size))
        return await self.reader.readexactly(length)

    async def end(self, *, kill: bool) -> int:
        """Returns the exit status, negative for a signal."""
        self.writer.close()  # a child without a task ends at the end of its input
        if kill:
            self.kill()
        await asyncio.wait({self._gone}, timeout=EXIT_TIMEOUT_S)
        if not self._gone.done():
            self.kill()
            await asyncio.wait({self._gone})
        for pipe in self._pipes:
            pipe.close()
        return self.process.returncode or 0

    def kill(self) -> None:
        # Not process.kill(): that looks for the exit status itself, and asyncio, which looks as well, finds none.
        if self.process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.process.pid, signal.SIGKILL)


class ProcessPool:
    """At most `max_workers` children, started when they are needed and used again.

    Args:
        max_result_bytes: limit of an encoded result.
        on_child_start: modules that a child imports before its first task.
    """

    def __init__(
        self, max_workers: int, *, max_result_bytes: int = MAX_PAYLOAD_BYTES, on_child_start: tuple[str, ...] = ()
    ) -> None:
        self._max_workers = max_workers
        self._places = asyncio.Semaphore(max_workers)
        self._idle: list[_Child] = []
        self._busy: set[_Child] = set()
        self._max_result_bytes = max_result_bytes
        self._on_child_start = on_child_start
        self._closed = False

    async def run(
        self, target: Target, payload: bytes, context: bytes = b"", *, begin: Callable[[], None] | None = None
    ) -> bytes:
        """Call the function in a child; returns its result as msgpack bytes. A cancelled call kills its child.

        Args:
            payload: msgpack of `[args, kwargs]`, as it is in Redis.
            context: of the run (`pack_context`), for the function's `current_run()`.
            begin: called when the call has a child that is ready for it.

        Raises:
            TaskFailedError: the function raised, or its process died (`error_type` WorkerProcessDied).
            EncodingError: what it returned cannot be encoded, or is above the limit.
            SchedulerStateError: the pool is closed.
            OSError: no process can be started.
        """
        request: bytes = msgpack.packb(
            [
                target.module, target.qualname, target.main_path, payload, self._max_result_bytes, self._on_child_start,
                context,
            ]
        ) or b""  # fmt: skip
        async with self._places:
            reply = await self._call(request, begin)
        kind, *rest = msgpack.unpackb(reply, raw=False)
        if kind == "ok":
            return rest[0]
        error_type, message, trace = rest
        if kind == "unencodable":
            raise EncodingError(message, field="result")
        raise TaskFailedError(message, error_type=error_type, traceback=trace)

    async def _call(self, request: bytes, begin: Callable[[], None] | None) -> bytes:
        while True:
            child = await self._free_child()
            if begin is not None:
                begin()
            before = child.begun
            self._busy.add(child)
            try:
                reply = await child.call(request)
            except (OSError, EOFError):
                status = await asyncio.shield(child.end(kill=False))  # not killed: it may be writing a core file
                if child.begun == before > 0:
                    continue  # it died while it was idle, and we only see it now
                raise TaskFailedError(
                    f"the process of the task ended in the middle of it, with {_status(status)}",
                    error_type="WorkerProcessDied",
                ) from None
            except BaseException:
                # Cancelled: the child goes on with the call and must not be used again.
                await asyncio.shield(child.end(kill=True))
                raise
            else:
                self._idle.append(child)
                return reply
            finally:
                self._busy.discard(child)

    async def _free_child(self) -> _Child:
        while not self._closed and self._idle:
            child = self._idle.pop()
            if child.alive:
                return child
            await asyncio.shield(child.end(kill=True))
        if self._closed:
            raise SchedulerStateError("the process pool is closed")
        starting = asyncio.ensure_future(_Child.start())
        try:
            child = await asyncio.shield(starting)
        except asyncio.CancelledError:
            # Takes milliseconds, and half a child could not be ended.
            while not starting.done():
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.wait({starting})
            if not starting.cancelled() and starting.exception() is None:
                self._idle.append(starting.result())
            raise
        if self._closed:  # meanwhile
            self._idle.append(child)
            raise SchedulerStateError("the process pool is closed")
        return child

    async def aclose(self, *, kill: bool = False) -> None:
        """End the children, and wait until they are gone. Calls under way are waited for, or killed with `kill`."""
        self._closed = True
        if kill:
            for child in self._busy:
                child.kill()
        held = 0
        try:
            while held < self._max_workers:  # with every place held, no call is under way
                await self._places.acquire()
                held += 1
        finally:
            for _ in range(held):
                self._places.release()
        children, self._idle = self._idle, []
        await asyncio.gather(*(child.end(kill=kill) for child in children))


def _status(status: int) -> str:
    return f"signal {-status}" if status < 0 else f"exit status {status}"
