"""`@schedule_task`: makes a function a task, and with a schedule also a job. No scheduler is needed yet."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, Protocol, Self, TypeVar, Unpack, overload

from redsched.checks import check_name, check_tags
from redsched.declarations import definition as declarations
from redsched.errors import InvalidInputError
from redsched.jobs.keywords import DeclareOptions, WhenOptions, check_names
from redsched.jobs.spec import JobSpec, check_arguments, check_options, schedule_of
from redsched.schedules import Schedule
from redsched.schedules.zones import parse_timezone
from redsched.tasks.binding import check_task
from redsched.tasks.class_based import BackgroundTask
from redsched.tasks.registry import default_registry

if TYPE_CHECKING:
    from redsched.scheduler import BackgroundTaskScheduler

__all__ = ["TaskFunction", "schedule_task"]

P = ParamSpec("P")
Q = ParamSpec("Q")
R = TypeVar("R", covariant=True)
S = TypeVar("S")
T = TypeVar("T")
B = TypeVar("B", bound=BackgroundTask)

_NAMES = DeclareOptions.__optional_keys__ | {"cron", "interval", "run_at", "schedule", "name", "scheduler"}


class TaskFunction(Protocol[P, R]):
    """A function that `@schedule_task` decorated: unchanged, with an additional method `job`."""

    __name__: str
    __qualname__: str
    __module__: str

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call the function directly."""
        ...

    @overload
    def job(self: TaskFunction[Q, Awaitable[T]], *args: Q.args, **kwargs: Q.kwargs) -> JobSpec[T]:
        """A job with these arguments, for `scheduler.submit` and `schedule_many`; type checkers check the arguments."""
        ...

    @overload
    def job(self: TaskFunction[Q, T], *args: Q.args, **kwargs: Q.kwargs) -> JobSpec[T]: ...

    @overload
    def __get__(self, instance: None, owner: Any, /) -> Self: ...
    @overload
    def __get__(self: TaskFunction[Concatenate[S, Q], R], instance: S, owner: Any, /) -> Callable[Q, R]: ...


class Decorator(Protocol):
    """The decorator of `@schedule_task(…)`: it keeps a function's signature, and returns a class unchanged."""

    @overload
    def __call__(self, function: type[B], /) -> type[B]: ...  # pyright: ignore[reportOverlappingOverload]
    @overload
    def __call__(self, function: Callable[P, R], /) -> TaskFunction[P, R]: ...


@overload
def schedule_task(function: type[B], /) -> type[B]: ...  # pyright: ignore[reportOverlappingOverload]
@overload
def schedule_task(function: Callable[P, R], /) -> TaskFunction[P, R]: ...
@overload
def schedule_task(
    *,
    cron: str | None = None,
    interval: float | timedelta | None = None,
    run_at: datetime | str | None = None,
    schedule: Schedule | Sequence[Schedule] | None = None,
    name: str | None = None,
    scheduler: BackgroundTaskScheduler | None = None,
    **options: Unpack[DeclareOptions],
) -> Decorator: ...
def schedule_task(
    function: Callable[..., Any] | None = None,
    /,
    *,
    cron: str | None = None,
    interval: float | timedelta | None = None,
    run_at: datetime | str | None = None,
    schedule: Schedule | Sequence[Schedule] | None = None,
    name: str | None = None,
    scheduler: BackgroundTaskScheduler | None = None,
    **options: Any,
) -> Any:
    """Register a function as a task; with a schedule, also as a job that is stored when a scheduler starts.

    The job's id is the task's name (or `job_id`), so that there is one job, however many processes import the function.
    When a scheduler starts, a job whose declaration is unchanged keeps its next run time: fires that became due in the
    meantime are caught up by the job's own rules. If the declaration changed, only the changed parts are written: the
    next run time, the runs that are left and a pause stay if the schedule did not change. See
    docs/guide/processes.md for deploys.

    Args:
        cron, interval, run_at, schedule: when it runs; none = it is only a task. Also `start`, `end`, `jitter`,
            `dst_gap`, `dst_fold` and `seconds`, as in `JobSpec`.
        name: the task's name; default: `module.function`.
        aliases: earlier names of the task, and ids of its job. A job that is stored under one of them continues under
            the new name.
        scheduler: the scheduler that stores it; default: every scheduler of the process.
        options: default options of its jobs (`ScheduleOptions`), also when it is scheduled by a call.

    Raises:
        InvalidInputError: an option or the schedule is wrong; raised at import.

    >>> import redsched
    >>> @redsched.schedule_task(cron="0 8 * * *", timezone="Europe/Berlin")
    ... async def daily_inventory_check() -> None: ...

    A task without a schedule is scheduled by calls; `job` takes its arguments, which type checkers check:

    >>> @redsched.schedule_task(max_attempts=3)
    ... async def remind(order_id: str) -> None: ...
    >>> async def order_placed(scheduler: redsched.BackgroundTaskScheduler) -> None:
    ...     await scheduler.submit(remind.job("order-1").with_options(delay=900, tags=["order"]))
    """

    check_names("schedule_task", options, _NAMES)
    aliases = check_tags(options.pop("aliases", ()), "aliases")
    when = {key: options.pop(key) for key in WhenOptions.__optional_keys__ if key in options}
    check_options(options)

    def decorate(function: Any) -> Any:
        registry = default_registry if scheduler is None else scheduler.registry
        if name is not None:
            check_name(name)
        task = registry.register(
            function, name=name, defaults={k: v for k, v in options.items() if k not in ("args", "kwargs", "job_id")}
        )
        if aliases:
            registry.alias(task, aliases)
        if any(value is not None for value in (cron, interval, run_at, schedule)):
            zone = parse_timezone(options.get("timezone"), "UTC")
            schedule_of(run_at=run_at, cron=cron, interval=interval, schedule=schedule, zone=zone, **when)
            job_options: dict[str, Any] = {"job_id": task.name, **options, "replace_existing": "update"}
            spec = JobSpec(
                task.name,
                function,
                cron=cron,
                interval=interval,
                run_at=run_at,
                schedule=schedule,
                **when,
                **job_options,
            )
            check_task(task, *check_arguments(options.get("args", ()), options.get("kwargs", {})), early=True)
            (declarations.declared if scheduler is None else scheduler.declared).append(spec)
        elif when:
            raise InvalidInputError(f"{', '.join(sorted(when))} requires a schedule: cron= or interval=", field="cron")
        if inspect.isfunction(function):
            function.job = functools.partial(_job, function, task.name)  # pyright: ignore[reportFunctionMemberAccess]
        return function

    return decorate if function is None else decorate(function)


def _job(function: Callable[..., Any], name: str, /, *args: Any, **kwargs: Any) -> JobSpec:
    return JobSpec(name, function, args=args, kwargs=kwargs)
