"""How a task is called: on the event loop, in a thread, in a child process, or by an executor of the user's.

A coroutine function runs on the event loop, a plain function in a thread; any function of a job whose executor is a
process pool runs in a child process, which gets the task's name and the same msgpack bytes.
"""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any

from redsched.checks import int_between
from redsched.codec.values import unpack_payload, unpack_result
from redsched.errors import InvalidConfigError, TaskFailedError
from redsched.runtime import forks
from redsched.settings import default_of
from redsched.tasks.executor import CustomTaskExecutor, check_executors
from redsched.tasks.learning import learned
from redsched.tasks.registry import Task, refuse_generator
from redsched.worker.current import CurrentRun
from redsched.worker.executors.child_context import pack_context
from redsched.worker.executors.threads import Threads
from redsched.worker.runs import Run

if TYPE_CHECKING:  # few services have child processes
    from redsched.worker.executors.processes import ProcessPool

__all__ = ["Executors", "Skipped"]


class Skipped:
    """The result of a run that its executor skipped."""

    __slots__ = ("result", "why")

    def __init__(self, result: Mapping[str, Any]) -> None:
        self.result: Mapping[str, Any] = result
        self.why: str = f"skipped: {result.get('reason', 'its executor did not say why')}"


class _Threads:
    """Coroutine functions on the event loop, others in one of a number of threads."""

    def __init__(self, size: int) -> None:
        self.threads = Threads(size)

    async def call(self, run: Run) -> Any:
        task = run.task
        assert task is not None
        args, kwargs = unpack_payload(run.job.record.payload)
        if task.is_async:
            result = await task.function(*args, **kwargs)
        else:
            result = await self.in_thread(run, task.function, *args, **kwargs)
        if result is None:
            return None
        if hasattr(result, "__await__"):
            result = await result  # of a coroutine function behind a plain decorator, or of a function that calls one
        return refuse_generator(result)

    async def in_thread(self, run: Run, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        return await self.threads.call(run, functools.partial(function, *args, **kwargs))

    async def close(self, *, kill: bool) -> None:
        pass


class _Processes:
    """Child processes, started when they are first needed."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._pool: ProcessPool | None = None
        forks.register(self)

    def after_fork(self) -> None:
        """The children are the parent's."""
        self._pool = None

    async def call(self, run: Run) -> Any:
        assert run.task is not None
        from redsched.worker.executors.processes import ProcessPool, target_of

        if self._pool is None:
            self._pool = ProcessPool(self._size)
        context = pack_context(CurrentRun(run).context, run.job.timezone)
        target = target_of(run.task.function)
        with run.timeout_paused() as begin:
            result = await self._pool.run(target, run.job.record.payload, context, begin=begin)
        return unpack_result(result)

    async def close(self, *, kill: bool) -> None:
        if self._pool is not None:
            await self._pool.aclose(kill=kill)
            self._pool = None


class _Custom:
    """An executor of the user's, and what its answers mean."""

    def __init__(self, executor: CustomTaskExecutor, threads: _Threads) -> None:
        self._executor = executor
        self._threads = threads

    async def call(self, run: Run) -> Any:
        assert run.task is not None
        args, kwargs = unpack_payload(run.job.record.payload)
        answer = await self._executor.execute_task(self._awaitable(run, run.task), *args, **kwargs)
        status = answer.get("status") if isinstance(answer, dict) else None
        if status == "failed":
            raise TaskFailedError(str(answer.get("error", "its executor says so")))
        if status == "skipped":
            return Skipped(answer)
        return answer.get("result") if status == "completed" else answer

    def _awaitable(self, run: Run, task: Task) -> Callable[..., Awaitable[Any]]:
        return task.function if task.is_async else functools.partial(self._threads.in_thread, run, task.function)

    async def close(self, *, kill: bool) -> None:
        pass


class Executors:
    """The executors of one scheduler, by name. `default`, `threadpool` and `processpool` are always there.

    Args:
        threads: the size of the thread pool; `executors` may say otherwise.
        processes: the size of the process pool; `executors` may say otherwise.
        executors: see `check_executors`.
    """

    def __init__(
        self,
        threads: int = default_of("threads"),
        processes: int = default_of("processes"),
        executors: Mapping[str, Any] | None = None,
    ) -> None:
        for name, value in (("threads", threads), ("processes", processes)):
            int_between(value, name, 1, error=InvalidConfigError)
        self._sizes = {"threadpool": threads, "processpool": processes}
        self._threads = _Threads(threads)
        self._by_name: dict[str, _Threads | _Processes | _Custom] = {
            "default": self._threads, "threadpool": self._threads, "processpool": _Processes(processes),
        }  # fmt: skip
        self._elsewhere: set[str] = set()
        self._names: frozenset[str] | None = None
        """What `names` gives, until there is one more."""
        for name, value in check_executors({} if executors is None else executors).items():
            self.add(name, value)

    @property
    def names(self) -> frozenset[str]:
        """The executors that a job may name: those of this process, and those declared to exist elsewhere."""
        if self._names is None:
            self._names = frozenset(self._by_name) | self._elsewhere
        return self._names

    def add(self, name: str, value: Any) -> None:
        """One more, or another in the place of one. What it is was checked.

        A thread pool under the name `default` is that of all jobs that name none.
        """
        self._names = None
        if value is None:
            self._elsewhere.add(name)
        elif isinstance(value, CustomTaskExecutor):
            self._by_name[name] = _Custom(value, self._threads)
        else:
            kind = value.get("type", "threadpool")
            size = value.get("max_workers", self._sizes[kind])
            self._by_name[name] = _Threads(size) if kind == "threadpool" else _Processes(size)
        learned()

    def __contains__(self, name: str) -> bool:
        return name in self._by_name

    def is_process_pool(self, name: str) -> bool:
        """Whether tasks of this executor run in child processes."""
        return isinstance(self._by_name.get(name), _Processes)

    def here(self) -> list[str]:
        """The names of those that this process has."""
        return sorted(self._by_name)

    @property
    def threads(self) -> list[Threads]:
        """The threads of all thread pools."""
        return [
            executor.threads for executor in dict.fromkeys(self._by_name.values()) if isinstance(executor, _Threads)
        ]

    @property
    def abandoned_threads(self) -> int:
        """How many threads execute a function whose run is over: it timed out, or was cancelled."""
        return sum(len(threads.abandoned) for threads in self.threads)

    def call(self, run: Run) -> Awaitable[Any]:
        """Call the run's task with its arguments; what it returns is to be awaited.

        Raises:
            EncodingError: the stored arguments cannot be decoded.
            Exception: whatever the task raises.
        """
        return self._by_name[run.job.options.executor].call(run)

    async def close(self, *, kill: bool = False) -> None:
        """Stop the children."""
        for executor in set(self._by_name.values()):
            await executor.close(kill=kill)
