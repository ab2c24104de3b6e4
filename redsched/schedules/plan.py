"""plan(job, now): what becomes of the fires that are due. All of coalesce, misfire, max_instances and catch-up; no I/O.

The order of the checks is APScheduler's (semantics/SEMANTICS.md):

1. Collect the fires from next_run_time up to now. They are never listed: the newest one and the number are asked for.
2. coalesce: of several, only the newest stays.
3. max_instances: too many instances are running: the whole batch is refused. It is not run later.
4. misfire_grace_time: a fire that is later than that, strictly, is missed. The executor asks again (`is_misfire`) just
   before each run, because time went on; what is too late already now need not be handed out, since it can only get
   later.
5. max_catch_up: of what is left (coalesce=False), the newest are kept, and what was cut is recorded.

So the cost grows with the fires that run, at most max_catch_up, and never with those that were missed.

All instants and durations are integer milliseconds, instants since the epoch (UTC).
"""

from dataclasses import dataclass
from typing import Protocol

from redsched.schedules import DateSchedule, Schedule
from redsched.settings import default_of

__all__ = ["Plan", "Plannable", "Span", "first_fires", "is_misfire", "plan", "span"]


@dataclass(frozen=True, slots=True)
class Span:
    """A set of fires of one job that share an outcome: the first, the last, and how many, or None if not countable."""

    first_ms: int
    last_ms: int
    count: int | None


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do with a job now. The fires due are divided without rest among fires, missed, coalesced, skipped and
    cut.

    The exception is a job with runs_left: fires after the last of its runs do not exist.
    """

    fires: tuple[int, ...] = ()
    """To run now, in this order, as one instance."""
    missed: Span | None = None
    """Later than misfire_grace_time."""
    coalesced: Span | None = None
    """Merged into the newest one."""
    skipped: Span | None = None
    """The whole batch, refused because running >= max_instances."""
    cut: Span | None = None
    """The oldest ones, dropped by max_catch_up (coalesce=False)."""
    next_run_time: int | None = None
    """The next fire, later than now; None: the schedule has ended."""
    following: int | None = None
    """The fire after next_run_time, so that the next claim needs no plan; None: there is none."""
    error: str | None = None
    """The schedule raised this: the job ends, and no other one is affected."""


class Plannable(Protocol):
    """The properties of a job that plan() needs."""

    @property
    def schedule(self) -> Schedule | None:
        """Rebased, if next_run_time was given explicitly; None: next_run_time is the only fire."""
        ...

    @property
    def next_run_time(self) -> int | None:
        """Ms since the epoch; None: paused, or ended."""
        ...

    @property
    def coalesce(self) -> bool: ...

    @property
    def misfire_grace_ms(self) -> int | None:
        """None: never too late."""
        ...

    @property
    def max_instances(self) -> int: ...

    @property
    def runs_left(self) -> int | None:
        """How many more fires may run before the schedule ends; None: no bound."""
        ...


def is_misfire(fire_ms: int, now_ms: int, misfire_grace_ms: int | None) -> bool:
    """Is it too late to run that fire now? Exactly misfire_grace_ms late is not yet; None is never."""
    return misfire_grace_ms is not None and now_ms - fire_ms > misfire_grace_ms


def first_fires(schedule: Schedule, now_ms: int, next_run_time: int | None = None) -> tuple[int | None, int | None]:
    """The first two fires of a job that is added or resumed now, as (next_run_time, following).

    An explicit next_run_time (ms) fires whatever the schedule says; the schedule, rebased to it, goes on from there.
    """
    if next_run_time is not None:
        return next_run_time, schedule.rebased(next_run_time).next(next_run_time)
    first = schedule.first(now_ms)
    return first, None if first is None else schedule.next(first)


def plan(job: Plannable, now_ms: int, *, running: int = 0, max_catch_up: int = default_of("max_catch_up")) -> Plan:
    """What becomes of the job's fires up to now, and when it is due next.

    Args:
        job: its settings and its next_run_time. An explicit next_run_time need not be a fire of the schedule.
        now_ms: the instant of the claim; a fire exactly now is due.
        running: how many instances of the job are running elsewhere.
        max_catch_up: how many overdue fires may run at once with coalesce=False, at least 1.

    A schedule that raises gives a Plan with `error` instead of an exception: one broken job must not stop the others.
    """
    due_ms = job.next_run_time
    if due_ms is None:
        return Plan()
    runs_left = job.runs_left
    if runs_left is not None and runs_left <= 0:
        return Plan()
    schedule = job.schedule or DateSchedule(due_ms)
    try:
        if due_ms > now_ms:
            only_run = runs_left == 1
            return Plan(next_run_time=due_ms, following=None if only_run else schedule.next(due_ms))
        newest = _last(schedule, due_ms, now_ms)
        batch = _batch(job, schedule, due_ms, newest, now_ms, running, max_catch_up)
    except Exception as problem:
        return Plan(error=_reason(problem))
    used_up = runs_left is not None and runs_left <= len(batch.fires)
    error = next_run_time = following = None
    if not used_up:
        try:
            next_run_time = schedule.next(newest)
            if next_run_time is not None and (runs_left is None or runs_left - len(batch.fires) > 1):
                following = schedule.next(next_run_time)
        except Exception as problem:
            # What is due runs nevertheless: only the future of the job is lost.
            error, next_run_time = _reason(problem), None
    return Plan(
        fires=batch.fires,
        missed=batch.missed,
        coalesced=batch.coalesced,
        skipped=batch.skipped,
        cut=batch.cut,
        next_run_time=next_run_time,
        following=following,
        error=error,
    )


def _batch(
    job: Plannable, schedule: Schedule, due_ms: int, newest: int, now_ms: int, running: int, max_catch_up: int
) -> Plan:
    """The checks 2 to 5 on the fires from due_ms to newest."""
    coalesced = missed = cut = None
    oldest = due_ms
    if job.coalesce and newest > due_ms:
        coalesced = span(schedule, due_ms, newest - 1)
        oldest = newest
    if running >= job.max_instances:
        return Plan(coalesced=coalesced, skipped=span(schedule, oldest, newest))

    if is_misfire(oldest, now_ms, job.misfire_grace_ms):
        in_time_ms = now_ms - (job.misfire_grace_ms or 0)
        missed = span(schedule, oldest, min(in_time_ms - 1, newest))
        if newest < in_time_ms:
            return Plan(missed=missed, coalesced=coalesced)
        following = schedule.next(missed.last_ms)
        oldest = newest if following is None else following

    runs_left = job.runs_left
    limit = max(max_catch_up, 1)
    if oldest == newest:
        fires = [newest]
    elif runs_left is not None and runs_left <= limit:
        # The schedule ends with these, so nothing needs to be cut to bound the work.
        fires = _oldest(schedule, oldest, newest, runs_left)
    else:
        fires = _newest(schedule, oldest, newest, limit)
        if fires[0] > oldest:
            cut = span(schedule, oldest, fires[0] - 1)
    return Plan(fires=tuple(fires), missed=missed, coalesced=coalesced, cut=cut)


def _last(schedule: Schedule, from_ms: int, upto_ms: int) -> int:
    """The latest fire up to upto_ms of those that start with from_ms, which may be none of the schedule's own."""
    last = schedule.last(upto_ms)
    return from_ms if last is None or last < from_ms else last


def span(schedule: Schedule, first_ms: int, upto_ms: int) -> Span:
    """The fires from first_ms, which is one whatever the schedule says, up to upto_ms."""
    last = _last(schedule, first_ms, upto_ms)
    if last == first_ms:
        return Span(first_ms, first_ms, 1)
    more = schedule.count(first_ms + 1, last)
    return Span(first_ms, last, None if more is None else more + 1)


def _oldest(schedule: Schedule, oldest: int, newest: int, limit: int) -> list[int]:
    fires = [oldest]
    while len(fires) < limit and (at := schedule.next(fires[-1])) is not None and at <= newest:
        fires.append(at)
    return fires


def _newest(schedule: Schedule, oldest: int, newest: int, limit: int) -> list[int]:
    fires = [newest]
    while len(fires) < limit and fires[-1] > oldest:
        fires.append(_last(schedule, oldest, fires[-1] - 1))
    fires.reverse()
    return fires


def _reason(problem: Exception) -> str:
    return f"{type(problem).__name__}: {problem}"
