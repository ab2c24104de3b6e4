"""`CustomTaskExecutor`: a way of one's own to call tasks."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from redsched.checks import check_queue, is_int
from redsched.errors import InvalidConfigError

__all__ = ["CustomTaskExecutor", "check_executors"]

KINDS = ("threadpool", "processpool")


class CustomTaskExecutor:
    """Calls the tasks of jobs that name it: `executors={"pizza": PizzaOrderExecutor()}`, then `executor="pizza"`.

    Override `execute_task`. What it returns is the run's result, unless it is a dict with a `status` (the
    specification, "Custom Task Executors"):

    - `{"status": "completed", "result": …}`: the run's result is that of the key `result`.
    - `{"status": "skipped", …}`: the run is done, with the reason `executor_skipped`, and the dict is its result.
    - `{"status": "failed", "error": …}`: the run failed with that text; its retry policy applies.

    >>> class OneAtATime(CustomTaskExecutor):
    ...     def __init__(self) -> None:
    ...         super().__init__()
    ...         self.lock = asyncio.Lock()
    ...     async def execute_task(self, task_func, *args, **kwargs):
    ...         async with self.lock:
    ...             return await task_func(*args, **kwargs)
    >>> async def main() -> None:
    ...     async with BackgroundTaskScheduler(url, executors={"single": OneAtATime()}) as scheduler:
    ...         handle = await scheduler.schedule_immediate_task("sum", sum, args=[[1, 2]], executor="single")
    ...         print((await handle.result(timeout=10)).result)
    >>> asyncio.run(main())
    3
    """

    def __init__(self) -> None:
        """Takes nothing."""

    async def execute_task(self, task_func: Callable[..., Awaitable[Any]], *args: Any, **kwargs: Any) -> Any:
        """Call the task with its arguments, on the worker's event loop. `task_func` can be awaited whatever the task
        is: a plain function runs in a thread.
        """
        return await task_func(*args, **kwargs)


def check_executors(executors: Any) -> Mapping[str, Any]:
    """Executors by name, as a user gives them.

    Raises:
        InvalidConfigError: a value is not an executor; the message names it.
    """
    if not isinstance(executors, Mapping):
        raise InvalidConfigError(f"executors is {executors!r}; pass a dict", field="executors")
    for name, value in executors.items():
        check_queue(name, "executors")
        if isinstance(value, CustomTaskExecutor) or (value is None and name not in ("default", *KINDS)):
            continue
        given: Mapping[str, Any] = value if isinstance(value, Mapping) else {"type": None}
        kind = given.get("type", "threadpool")
        unknown = sorted(set(given) - {"type", "max_workers"})
        if kind not in KINDS or unknown:
            what = f"has {unknown[0]!r}, which is unknown" if unknown else f"is {value!r}"
            raise InvalidConfigError(
                f"executors: {name!r} {what}; pass {{'type': 'threadpool' or 'processpool', 'max_workers': …}}, a "
                "CustomTaskExecutor, or None for one that only other processes have",
                field="executors",
            )
        workers = given.get("max_workers", 1)
        if not is_int(workers) or workers < 1:
            raise InvalidConfigError(
                f"executors: max_workers of {name!r} is {workers!r}; it must be an int of 1 or more", field="executors"
            )
    return executors
