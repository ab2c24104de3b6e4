"""The `schedule_…` methods of a scheduler: when a job runs, in the words of each, typed by what the task returns."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any, Unpack, overload

from redsched.client.handle import JobHandle
from redsched.errors import InvalidInputError, InvalidScheduleError
from redsched.jobs.keywords import CronOptions, DelayOptions, IntervalOptions, ScheduleOptions
from redsched.jobs.spec import JobSpec
from redsched.schedules import Schedule, SecondsOrder
from redsched.schedules.instants import delay_ms
from redsched.tasks.types import AnyTask, AsyncTask, ClassTask, T

__all__ = ["ScheduleMethods"]


class ScheduleMethods(ABC):
    """Each makes a `JobSpec` of its arguments, and has it stored."""

    @abstractmethod
    async def _schedule(self, spec: JobSpec[T]) -> JobHandle[T]:
        """Store one job."""

    async def submit(self, spec: JobSpec[T]) -> JobHandle[T]:
        """Store one job, as `JobSpec` describes it; `task.job(…)` of a decorated task makes one with typed arguments.

        Raises: as `schedule_immediate_task`.
        """
        return await self._schedule(spec)

    @overload
    async def schedule_immediate_task(
        self, name: str, task: AsyncTask[T], **options: Unpack[ScheduleOptions]
    ) -> JobHandle[T]: ...
    @overload
    async def schedule_immediate_task(
        self, name: str, task: ClassTask[T], **options: Unpack[ScheduleOptions]
    ) -> JobHandle[T]: ...
    @overload
    async def schedule_immediate_task(
        self, name: str, task: Callable[..., T], **options: Unpack[ScheduleOptions]
    ) -> JobHandle[T]: ...
    async def schedule_immediate_task(
        self, name: str, task: AnyTask, **options: Unpack[ScheduleOptions]
    ) -> JobHandle[Any]:
        """Run a task once, as soon as a worker is free.

        Raises:
            InvalidInputError: an argument is wrong; nothing was stored.
            ConflictingIdError: a job of that `job_id` is there already.
            StoreError: Redis did not store it.
        """
        return await self._schedule(JobSpec(name, task, **options))

    @overload
    async def schedule_delayed_task(
        self, name: str, task: AsyncTask[T], delay: float | timedelta | None = None, **options: Unpack[DelayOptions]
    ) -> JobHandle[T]: ...
    @overload
    async def schedule_delayed_task(
        self, name: str, task: ClassTask[T], delay: float | timedelta | None = None, **options: Unpack[DelayOptions]
    ) -> JobHandle[T]: ...
    @overload
    async def schedule_delayed_task(
        self, name: str, task: Callable[..., T], delay: float | timedelta | None = None, **options: Unpack[DelayOptions]
    ) -> JobHandle[T]: ...
    async def schedule_delayed_task(
        self,
        name: str,
        task: AnyTask,
        delay: float | timedelta | None = None,
        *,
        delay_minutes: float | None = None,
        delay_seconds: float | None = None,
        **options: Unpack[ScheduleOptions],
    ) -> JobHandle[Any]:
        """Run a task once, after a delay from now (by Redis' clock): minutes, seconds, or a timedelta.

        Raises: as `schedule_immediate_task`.
        """
        milliseconds = delay_ms(delay, delay_seconds, delay_minutes)
        return await self._schedule(JobSpec(name, task, delay=timedelta(milliseconds=milliseconds), **options))

    @overload
    async def schedule_at(
        self, name: str, task: AsyncTask[T], scheduled_time: datetime | str, **options: Unpack[ScheduleOptions]
    ) -> JobHandle[T]: ...
    @overload
    async def schedule_at(
        self, name: str, task: ClassTask[T], scheduled_time: datetime | str, **options: Unpack[ScheduleOptions]
    ) -> JobHandle[T]: ...
    @overload
    async def schedule_at(
        self, name: str, task: Callable[..., T], scheduled_time: datetime | str, **options: Unpack[ScheduleOptions]
    ) -> JobHandle[T]: ...
    async def schedule_at(
        self, name: str, task: AnyTask, scheduled_time: datetime | str, **options: Unpack[ScheduleOptions]
    ) -> JobHandle[Any]:
        """Run a task once, at an instant. One that has passed is due at once (misfire_grace_time applies).

        Raises: as `schedule_immediate_task`.
        """
        if scheduled_time is None:
            raise InvalidInputError("scheduled_time is None; pass a datetime", field="scheduled_time")
        return await self._schedule(JobSpec(name, task, run_at=scheduled_time, **options))

    @overload
    async def schedule_cron(
        self, name: str, task: AsyncTask[T], cron: str, **options: Unpack[CronOptions]
    ) -> JobHandle[T]: ...
    @overload
    async def schedule_cron(
        self, name: str, task: ClassTask[T], cron: str, **options: Unpack[CronOptions]
    ) -> JobHandle[T]: ...
    @overload
    async def schedule_cron(
        self, name: str, task: Callable[..., T], cron: str, **options: Unpack[CronOptions]
    ) -> JobHandle[T]: ...
    async def schedule_cron(
        self,
        name: str,
        task: AnyTask,
        cron: str,
        *,
        start: datetime | str | None = None,
        end: datetime | str | None = None,
        jitter: float | timedelta | None = None,
        dst_gap: str = "shift",
        dst_fold: str = "first",
        seconds: SecondsOrder | None = None,
        **options: Unpack[ScheduleOptions],
    ) -> JobHandle[Any]:
        """Run a task by a cron expression, in the job's time zone.

        Args:
            start, end: no fire before, no fire after (inclusive).
            jitter: seconds by which each fire may be late at random.
            dst_gap, dst_fold: what the days mean on which the clocks change: see docs/guide/schedules.md.
            seconds: where the second is among six fields: "last" or "first".

        Raises: as `schedule_immediate_task`; InvalidScheduleError names the field of the expression.
        """
        if cron is None:
            raise InvalidScheduleError("cron is None; pass an expression such as '0 8 * * *'", field="cron")
        spec = JobSpec(
            name, task, cron=cron, start=start, end=end, jitter=jitter, dst_gap=dst_gap, dst_fold=dst_fold,
            seconds=seconds, **options,
        )  # fmt: skip
        return await self._schedule(spec)

    @overload
    async def schedule_interval(
        self,
        name: str,
        task: AsyncTask[T],
        interval: float | timedelta | None = None,
        **options: Unpack[IntervalOptions],
    ) -> JobHandle[T]: ...
    @overload
    async def schedule_interval(
        self,
        name: str,
        task: ClassTask[T],
        interval: float | timedelta | None = None,
        **options: Unpack[IntervalOptions],
    ) -> JobHandle[T]: ...
    @overload
    async def schedule_interval(
        self,
        name: str,
        task: Callable[..., T],
        interval: float | timedelta | None = None,
        **options: Unpack[IntervalOptions],
    ) -> JobHandle[T]: ...
    async def schedule_interval(
        self,
        name: str,
        task: AnyTask,
        interval: float | timedelta | None = None,
        *,
        weeks: float = 0,
        days: float = 0,
        hours: float = 0,
        minutes: float = 0,
        seconds: float = 0,
        start: datetime | str | None = None,
        end: datetime | str | None = None,
        jitter: float | timedelta | None = None,
        **options: Unpack[ScheduleOptions],
    ) -> JobHandle[Any]:
        """Run a task again and again, on a grid from `start` (default: one interval from now) that never drifts.

        Raises: as `schedule_immediate_task`.
        """
        every = _interval(interval, weeks=weeks, days=days, hours=hours, minutes=minutes, seconds=seconds)
        return await self._schedule(JobSpec(name, task, interval=every, start=start, end=end, jitter=jitter, **options))

    @overload
    async def schedule(
        self, name: str, task: AsyncTask[T], schedule: Schedule | Sequence[Schedule], **options: Unpack[ScheduleOptions]
    ) -> JobHandle[T]: ...
    @overload
    async def schedule(
        self, name: str, task: ClassTask[T], schedule: Schedule | Sequence[Schedule], **options: Unpack[ScheduleOptions]
    ) -> JobHandle[T]: ...
    @overload
    async def schedule(
        self,
        name: str,
        task: Callable[..., T],
        schedule: Schedule | Sequence[Schedule],
        **options: Unpack[ScheduleOptions],
    ) -> JobHandle[T]: ...
    async def schedule(
        self,
        name: str,
        task: AnyTask,
        schedule: Schedule | Sequence[Schedule],
        **options: Unpack[ScheduleOptions],
    ) -> JobHandle[Any]:
        """Run a task by a schedule object, or by several: a fire of any of them is a fire of the job.

        Raises: as `schedule_immediate_task`.
        """
        if schedule is None:
            raise InvalidScheduleError("schedule is None; pass a schedule, or a list of them", field="schedule")
        return await self._schedule(JobSpec(name, task, schedule=schedule, **options))


def _interval(
    interval: float | timedelta | None, *, weeks: float, days: float, hours: float, minutes: float, seconds: float
) -> float | timedelta:
    parts = {"weeks": weeks, "days": days, "hours": hours, "minutes": minutes, "seconds": seconds}
    given = {name: value for name, value in parts.items() if value}
    if (interval is None) == (not given):
        raise InvalidInputError(
            f"pass either interval= (seconds or a timedelta) or some of {', '.join(parts)}", field="interval"
        )
    if interval is not None:
        return interval
    try:
        return timedelta(**given)
    except (TypeError, ValueError, OverflowError) as error:
        raise InvalidInputError(f"the interval {given} is not usable: {error}", field="interval") from None
