"""`JobSpec`: a job as a user describes it, checked before anything is stored.

Every `schedule_…` method of the scheduler creates one; `schedule_many` takes a list of them.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Generic, Unpack, overload

from redsched.checks import check_id, check_name, check_queue, check_tags, seconds_to_ms
from redsched.codec.values import pack_payload
from redsched.context import current_event
from redsched.errors import InvalidInputError, InvalidScheduleError
from redsched.jobs.keywords import ScheduleOptions, SpecOptions, check_names
from redsched.jobs.options import DURABILITIES, JobOptions, check_executor
from redsched.jobs.record import Definition
from redsched.reactive import idempotency as origin
from redsched.schedules import AnyOf, CronSchedule, DateSchedule, IntervalSchedule, Schedule, SecondsOrder
from redsched.schedules.instants import instant_ms
from redsched.schedules.zones import parse_timezone
from redsched.tasks.binding import check_place, check_task
from redsched.tasks.registry import Task
from redsched.tasks.types import AnyTask, AsyncTask, ClassTask, R, T

__all__ = ["JobSpec", "ScheduleOptions", "check_arguments", "check_options"]


_OPTION_NAMES = ScheduleOptions.__optional_keys__

_JOB_WORDS = frozenset(
    {"args", "kwargs", "tags", "job_id", "queue", "replace_existing", "timezone", "next_run_time", "durability"}
)


@dataclass(frozen=True, slots=True)
class Interval:
    """An interval whose start may not be known yet: it is anchored when the job is stored."""

    every_ms: int
    start_ms: int | None = None
    end_ms: int | None = None
    timezone: str = "UTC"
    jitter_ms: int = 0

    def anchored(self, now_ms: int) -> IntervalSchedule:
        """The schedule of a job stored now: without a start, it begins one interval from now (as in APScheduler)."""
        start = now_ms + self.every_ms if self.start_ms is None else self.start_ms
        return IntervalSchedule(self.every_ms, start, self.end_ms, self.timezone, self.jitter_ms)


@dataclass(frozen=True, slots=True)
class JobSpec(Generic[R]):
    """The description of a job: its name, its task, when it runs, and its options.

    >>> import redsched
    >>> spec = redsched.JobSpec("report", print, cron="0 8 * * *", timezone="Europe/Berlin", args=["good morning"])

    Args:
        name: a label; many jobs may share one.
        task: the function.
        run_at: when a one-shot job runs (a naive datetime is read in the job's zone).
        delay: the delay of a one-shot job (seconds or a timedelta). Without run_at, delay and schedule it runs now.
        cron: 5 fields, 6 with the second, or a nickname such as `@daily`.
        interval: seconds or a timedelta between two fires.
        schedule: a schedule object, or several: a fire of any of them is a fire of the job.
        start, end: the first and the last possible fire (inclusive).
        jitter: maximum random delay of each fire, in seconds; the grid of an interval does not drift.
        dst_gap, dst_fold: for cron jobs at a fixed time: see docs/guide/schedules.md.
        seconds: the position of the second in six fields of `cron`: "last" or "first". None = last, and an expression
            that was probably written with the second first is refused.
        options: see `ScheduleOptions`.

    Raises:
        InvalidInputError: an option does not exist. Values are checked when the job is scheduled.
    """

    name: str
    task: AnyTask
    run_at: datetime | str | None = None
    delay: float | timedelta | None = None
    cron: str | None = None
    interval: float | timedelta | None = None
    schedule: Schedule | Sequence[Schedule] | None = None
    start: datetime | str | None = None
    end: datetime | str | None = None
    jitter: float | timedelta | None = None
    dst_gap: str = "shift"
    dst_fold: str = "first"
    seconds: SecondsOrder | None = None
    options: Mapping[str, Any] = field(default_factory=dict[str, Any])

    @overload
    def __init__(
        self: JobSpec[T], name: str, task: AsyncTask[T], *, run_at: datetime | str | None = None,
        delay: float | timedelta | None = None, cron: str | None = None, interval: float | timedelta | None = None,
        schedule: Schedule | Sequence[Schedule] | None = None, start: datetime | str | None = None,
        end: datetime | str | None = None, jitter: float | timedelta | None = None, dst_gap: str = "shift",
        dst_fold: str = "first", seconds: SecondsOrder | None = None, **options: Unpack[ScheduleOptions],
    ) -> None: ...  # fmt: skip
    @overload
    def __init__(
        self: JobSpec[T], name: str, task: ClassTask[T], *, run_at: datetime | str | None = None,
        delay: float | timedelta | None = None, cron: str | None = None, interval: float | timedelta | None = None,
        schedule: Schedule | Sequence[Schedule] | None = None, start: datetime | str | None = None,
        end: datetime | str | None = None, jitter: float | timedelta | None = None, dst_gap: str = "shift",
        dst_fold: str = "first", seconds: SecondsOrder | None = None, **options: Unpack[ScheduleOptions],
    ) -> None: ...  # fmt: skip
    @overload
    def __init__(
        self: JobSpec[T], name: str, task: Callable[..., T], *, run_at: datetime | str | None = None,
        delay: float | timedelta | None = None, cron: str | None = None, interval: float | timedelta | None = None,
        schedule: Schedule | Sequence[Schedule] | None = None, start: datetime | str | None = None,
        end: datetime | str | None = None, jitter: float | timedelta | None = None, dst_gap: str = "shift",
        dst_fold: str = "first", seconds: SecondsOrder | None = None, **options: Unpack[ScheduleOptions],
    ) -> None: ...  # fmt: skip
    def __init__(
        self, name: str, task: AnyTask, *, run_at: datetime | str | None = None,
        delay: float | timedelta | None = None, cron: str | None = None, interval: float | timedelta | None = None,
        schedule: Schedule | Sequence[Schedule] | None = None, start: datetime | str | None = None,
        end: datetime | str | None = None, jitter: float | timedelta | None = None, dst_gap: str = "shift",
        dst_fold: str = "first", seconds: SecondsOrder | None = None, **options: Any,
    ) -> None:  # fmt: skip
        if options and not options.keys() <= _OPTION_NAMES:
            check_names("JobSpec", options, _OPTION_NAMES | {*JobSpec.__slots__} - {"name", "task", "options"})
        put = object.__setattr__  # one after the other: a loop takes twice as long, and bulk adding is bound by this
        put(self, "name", name)
        put(self, "task", task)
        put(self, "run_at", run_at)
        put(self, "delay", delay)
        put(self, "cron", cron)
        put(self, "interval", interval)
        put(self, "schedule", schedule)
        put(self, "start", start)
        put(self, "end", end)
        put(self, "jitter", jitter)
        put(self, "dst_gap", dst_gap)
        put(self, "dst_fold", dst_fold)
        put(self, "seconds", seconds)
        put(self, "options", options)

    def with_options(self, **changes: Unpack[SpecOptions]) -> JobSpec[R]:
        """A copy with other options, another time or another name.

        >>> import redsched
        >>> redsched.JobSpec("report", print).with_options(delay=60, tags=["daily"]).delay
        60
        """
        own = {name: getattr(self, name) for name in JobSpec.__slots__ if name != "options"}
        values: dict[str, Any] = {**own, **self.options, **changes}
        return JobSpec(**values)

    @property
    def _is_for_now(self) -> bool:
        return (
            self.run_at is self.delay is self.cron is self.interval is self.schedule is None
            and self.start is self.end is self.jitter is self.seconds is None
        )

    def definition(
        self, task: Task, defaults: JobOptions, zone: str, queue: str, payload_limit: int, executors: Iterable[str]
    ) -> Draft:
        """Check everything that can be checked without Redis' time.

        Raises:
            InvalidInputError: an argument is wrong; the message names it. Nothing was stored.
        """
        # Most jobs have only arguments. Missing options are not even looked at: bulk adding is bound by this method.
        given = {**task.defaults, **self.options} if task.defaults else self.options
        if "timezone" in given:
            zone = parse_timezone(given["timezone"], zone)
        options = defaults
        if not given.keys() <= _JOB_WORDS:
            options = defaults.with_values({word: value for word, value in given.items() if word not in _JOB_WORDS})
        check_executor(options.executor, executors)
        name = check_name(self.name)
        args, kwargs = check_arguments(given.get("args", ()), given.get("kwargs", {}))
        check_task(task, args, kwargs)
        if options.executor != "default":
            check_place(task, options.executor)
        when = 0 if self._is_for_now else schedule_of(
            run_at=self.run_at, delay=self.delay, cron=self.cron, interval=self.interval, schedule=self.schedule,
            start=self.start, end=self.end, jitter=self.jitter, dst_gap=self.dst_gap, dst_fold=self.dst_fold,
            seconds=self.seconds, zone=zone,
        )  # fmt: skip
        job_id = given.get("job_id")
        mode = "new"
        if job_id is not None or "replace_existing" in given:
            mode = _mode(given.get("replace_existing", False), job_id is not None)
        if mode == "new" and current_event.get() is not None:
            mode = "keep"  # its id is not random, and the event may be repeated when its requests are forgotten
        paused = "next_run_time" in given and given["next_run_time"] is None
        explicit = given.get("next_run_time")
        definition = Definition(
            id=origin.job_id(task.name, name) if job_id is None else check_id(job_id),
            mode=mode,
            name=name,
            task=task.name,
            payload=pack_payload(args, kwargs, limit=payload_limit),
            queue=queue if task.is_local else check_queue(given["queue"]) if "queue" in given else "default",
            options=options,
            timezone=zone,
            tags=check_tags(given["tags"]) if "tags" in given else (),
            at_ms=None if explicit is None else instant_ms(explicit, zone, "next_run_time"),
            paused=paused,
            durability=_durability(given.get("durability")),
        )
        if isinstance(when, int):
            definition.delay_ms = when
        elif isinstance(when, DateSchedule):
            if definition.at_ms is None:
                definition.at_ms = when.run_ms
        elif isinstance(when, Schedule):
            definition.schedule = when
        if options.max_runs is not None and not isinstance(when, Schedule | Interval):
            raise InvalidInputError("max_runs is only for periodic jobs; this job runs once", field="max_runs")
        if paused and isinstance(when, int):
            raise InvalidInputError(
                "a one-shot job that is added paused needs a time: pass run_at as well", field="next_run_time"
            )
        return Draft(definition, when if isinstance(when, Interval) else None)


@dataclass(slots=True)
class Draft:
    """A checked definition. An interval without a start is anchored when the row is made."""

    definition: Definition
    interval: Interval | None

    @property
    def needs_now(self) -> bool:
        return self.interval is not None or self.definition.needs_now

    def digest(self) -> str:
        """The digest by which a redsched that does not know parts recognizes an unchanged declaration."""
        definition = self.definition
        if self.interval is not None:
            definition.unbased = self.interval.anchored(0)
        return definition.digest()

    def row(self, now_ms: int) -> list[Any]:
        """The row to store at this instant."""
        definition = self.definition
        if self.interval is not None:
            definition.schedule = self.interval.anchored(now_ms)
            if self.interval.start_ms is None:
                definition.unbased = self.interval.anchored(0)
        return definition.row(now_ms)


def check_arguments(args: Any, kwargs: Any) -> tuple[Sequence[Any], Mapping[str, Any]]:
    """A task's arguments: a list and a dict.

    Raises:
        InvalidInputError: they are not.
    """
    if type(args) is list and not kwargs and type(kwargs) is dict:
        return args, kwargs  # the usual case; what follows takes ten times as long
    if isinstance(args, str | bytes) or not isinstance(args, Sequence):
        raise InvalidInputError(f"args is {args!r}; pass a list, for example args=[{args!r}]", field="args")
    if not isinstance(kwargs, Mapping) or (kwargs and not all(isinstance(key, str) for key in kwargs)):
        raise InvalidInputError(f"kwargs is {kwargs!r}; pass a dict with str keys", field="kwargs")
    return args, kwargs


def check_options(options: Mapping[str, Any]) -> None:
    """Check options without a job: types and ranges, but not whether an executor exists.

    Raises:
        InvalidInputError: an option does not exist, or has a wrong value.
    """
    given = dict(options)
    JobOptions().with_values({word: given.pop(word) for word in options if word not in _JOB_WORDS})
    pack_payload(*check_arguments(given.get("args", ()), given.get("kwargs", {})), limit=sys.maxsize)
    check_tags(given.get("tags", ()))
    check_queue(given.get("queue", "default"))
    zone = parse_timezone(given.get("timezone"), "UTC")
    _durability(given.get("durability"))
    if given.get("job_id") is not None:
        check_id(given["job_id"])
    _mode(given.get("replace_existing", False), has_id=True)
    if given.get("next_run_time") is not None:
        instant_ms(given["next_run_time"], zone, "next_run_time")


def _durability(value: Any) -> str | None:
    if value is not None and value not in DURABILITIES:
        allowed = " or ".join(map(repr, DURABILITIES))
        raise InvalidInputError(f"durability is {value!r}; it must be {allowed}", field="durability")
    return value


def _mode(replace_existing: Any, has_id: bool) -> str:
    match replace_existing:
        case False:
            return "add" if has_id else "new"
        case True:
            mode = "replace"
        case "keep" | "update":
            mode = str(replace_existing)
        case _:
            raise InvalidInputError(
                f"replace_existing is {replace_existing!r}; it must be True, False, 'keep' or 'update'",
                field="replace_existing",
            )
    if not has_id:
        raise InvalidInputError("replace_existing needs a job_id: a generated id is always new", field="job_id")
    return mode


def schedule_of(
    *, run_at: Any = None, delay: Any = None, cron: Any = None, interval: Any = None, schedule: Any = None,
    start: Any = None, end: Any = None, jitter: Any = None, dst_gap: Any = "shift", dst_fold: Any = "first",
    seconds: Any = None, zone: str,
) -> Schedule | Interval | int:  # fmt: skip
    """The schedule, or the delay in ms (0 = now), from exactly one of the ways to say when a job runs.

    Raises:
        InvalidInputError: several are given, one is wrong, or start, end or jitter do not apply.
    """
    ways = {"run_at": run_at, "delay": delay, "cron": cron, "interval": interval, "schedule": schedule}
    given = [name for name, value in ways.items() if value is not None]
    if len(given) > 1:
        raise InvalidInputError(f"pass only one of {', '.join(ways)}; got {' and '.join(given)}", field=given[1])
    start_ms = None if start is None else instant_ms(start, zone, "start")
    end_ms = None if end is None else instant_ms(end, zone, "end")
    jitter_ms = 0 if jitter is None else seconds_to_ms(jitter, "jitter")
    if start_ms is not None and end_ms is not None and end_ms < start_ms:
        raise InvalidScheduleError(f"end ({end}) is before start ({start})", field="end")
    if (start_ms is not None or end_ms is not None or jitter_ms) and given not in (["cron"], ["interval"]):
        raise InvalidInputError("start, end and jitter require cron= or interval=", field="start")
    if seconds is not None and cron is None:
        raise InvalidInputError(
            "seconds= is the position of the second in a cron expression; pass cron=", field="seconds"
        )
    if cron is not None:
        try:
            return CronSchedule(
                cron,
                timezone=zone,
                dst_gap=dst_gap,
                dst_fold=dst_fold,
                start_ms=start_ms,
                end_ms=end_ms,
                jitter_ms=jitter_ms,
                seconds=seconds,
            )
        except InvalidScheduleError as error:
            if error.field != "expression":
                raise
            raise InvalidScheduleError(f"cron={str(error).removeprefix('expression=')}", field="cron") from None
    if interval is not None:
        every_ms = seconds_to_ms(interval, "interval", minimum_ms=1)
        return Interval(every_ms, start_ms, end_ms, zone, jitter_ms)
    if run_at is not None:
        return DateSchedule(instant_ms(run_at, zone, "run_at"), zone)
    if delay is not None:
        return seconds_to_ms(delay, "delay")
    if schedule is None:
        return 0
    if isinstance(schedule, Schedule):
        return schedule
    if isinstance(schedule, Sequence) and schedule and all(isinstance(member, Schedule) for member in schedule):
        return AnyOf(tuple(schedule))
    raise InvalidScheduleError(
        f"schedule is {schedule!r}; pass a CronSchedule, IntervalSchedule, DateSchedule or AnyOf, or a list of them",
        field="schedule",
    )
