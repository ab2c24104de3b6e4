"""Runs the cases recorded from APScheduler (cases.json) against a scheduler, wake-up by wake-up.

`play` knows the schema (semantics/README.md) and nothing of redsched; a `Driver` adds a job, wakes up and looks.
`PlanDriver` is the pure core with a list of running batches; a driver for a live scheduler would move its clock by the
offset instead, and read outcomes from its events.
"""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

from redsched.schedules import CronSchedule, DateSchedule, IntervalSchedule, Schedule
from redsched.schedules.plan import Span, first_fires, is_misfire, plan
from redsched.schedules.zones import instant_ms

Instants = list[int]  # ms since the epoch


@dataclass
class Outcome:
    """The effects of one wake-up. All fires are listed: a case is small."""

    ran: Instants = field(default_factory=list)
    missed: Instants = field(default_factory=list)
    max_instances_skipped: Instants = field(default_factory=list)
    coalesced_away: Instants = field(default_factory=list)
    executed_at: Instants = field(default_factory=list)
    running_before: int = 0


class Driver(Protocol):
    """The interface that `play` needs of a scheduler with one job in it."""

    def add(self, case: dict[str, Any], now: int) -> None: ...

    def operate(self, op: dict[str, Any], now: int) -> str | None:
        """Apply an operation; the error's name if it was refused."""
        ...

    def wake(self, now: int, running: int | None) -> Outcome:
        """Process what is due. `running` instances are set from outside; None: count the batches not yet finished."""
        ...

    @property
    def next_run(self) -> int | None: ...

    @property
    def job_state(self) -> str: ...


def ms(text: str | None, timezone: str = "UTC") -> int | None:
    return None if text is None else instant_ms(datetime.fromisoformat(text), timezone)


def play(case: dict[str, Any], driver: Driver) -> dict[str, Any]:
    """The driver's result for the case, in the form of `expectation`."""
    driver.add(case, ms(case["start"]))
    seen: dict[str, Any] = {"first_run": driver.next_run, "expected": [], "op_results": []}
    ops = list(case.get("ops", []))

    def operate_until(now: int) -> None:
        while ops and ms(ops[0]["at"]) <= now:
            op = ops.pop(0)
            error = driver.operate(op, ms(op["at"]))
            seen["op_results"].append((op["op"], driver.next_run, driver.job_state, error is not None))

    for index, wake in enumerate(case["wake_times"]):
        now = ms(wake)
        operate_until(now)
        running = case["running_instances"][index] if "running_instances" in case else None
        outcome = driver.wake(now, running)
        result = {
            "at": now,
            "ran": outcome.ran,
            "missed": outcome.missed,
            "max_instances_skipped": outcome.max_instances_skipped,
            "coalesced_away": outcome.coalesced_away,
            "next_run": driver.next_run,
            "job_state": driver.job_state,
        }
        if running is None:
            result |= {"running_before": outcome.running_before, "executed_at": outcome.executed_at}
        seen["expected"].append(result)
    return seen


def expectation(case: dict[str, Any]) -> dict[str, Any]:
    """The recorded outcome, with instants as ms; an error counts as one, whatever its name."""
    expected = []
    for wake in case["expected"]:
        converted = {}
        for name, value in wake.items():
            if isinstance(value, list):
                converted[name] = [ms(each) for each in value]
            else:
                converted[name] = ms(value) if name in ("at", "next_run") else value
        expected.append(converted)
    return {
        "first_run": ms(case["first_run"]),
        "expected": expected,
        "op_results": [
            (op["op"], ms(op["next_run"]), op["job_state"], "error" in op) for op in case.get("op_results", [])
        ],
    }


def schedule_of(trigger: dict[str, Any], timezone: str, now: int, dst_fold: str = "first") -> Schedule:
    match trigger:
        case {"type": "cron", "expr": expression}:
            return CronSchedule(expression, timezone, dst_fold=dst_fold)
        case {"type": "interval", "seconds": seconds}:
            step = round(seconds * 1000)
            start = ms(trigger.get("start_date"))
            return IntervalSchedule(step, now + step if start is None else start, ms(trigger.get("end_date")), timezone)
        case {"type": "date"}:
            return DateSchedule(ms(trigger.get("run_date_local") or trigger["run_date"], timezone), timezone)
    raise AssertionError(f"unknown trigger {trigger}")


DEFAULTS = {
    "coalesce": True,
    "max_instances": 1,
    "misfire_grace_time": 1,
}  # job_defaults, as README.md says for group J


@dataclass
class SimulatedJob:
    schedule: Schedule
    next_run_time: int | None
    coalesce: bool
    misfire_grace_ms: int | None
    max_instances: int
    runs_left: int | None = None


class PlanDriver:
    """The pure core as a scheduler: one job, a list of the batches that run, and an executor that takes its time."""

    def __init__(self, dst_fold: str = "first") -> None:
        self.dst_fold = dst_fold
        self.job: SimulatedJob | None = None
        self.paused = False
        self.scheduler_paused = False
        self.busy_until: list[int] = []

    @property
    def next_run(self) -> int | None:
        return self.job.next_run_time if self.job else None

    @property
    def job_state(self) -> str:
        if self.job is None:
            return "removed"
        return "paused" if self.paused else "scheduled"

    def add(self, case: dict[str, Any], now: int) -> None:
        self.case = case
        option = {name: default if case[name] == "default" else case[name] for name, default in DEFAULTS.items()}
        explicit = ms(case.get("next_run_time"))
        schedule = self._schedule(case["trigger"], now)
        first, _ = first_fires(schedule, now, explicit)
        grace = option["misfire_grace_time"]
        self.job = SimulatedJob(
            schedule if explicit is None else schedule.rebased(explicit),
            first,
            option["coalesce"],
            None if grace is None else round(grace * 1000),
            option["max_instances"],
        )
        self.paused = False

    def _schedule(self, trigger: dict[str, Any], now: int) -> Schedule:
        return schedule_of(trigger, self.case["timezone"], now, self.dst_fold)

    def operate(self, op: dict[str, Any], now: int) -> str | None:
        job = self.job
        match op:
            case {"op": "scheduler_pause"}:
                self.scheduler_paused = True
            case {"op": "scheduler_resume"}:
                self.scheduler_paused = False
            case {"op": "readd"} if job and not op["replace_existing"]:
                return "ConflictingIdError"
            case {"op": "readd"}:
                self.add(self.case, now)
            case {"op": "remove"}:
                self.job = None
            case {"op": "pause"} if job:
                self.paused, job.next_run_time = True, None
            case {"op": "resume"} if job:
                job.schedule = job.schedule.unbased()
                self.paused, (job.next_run_time, _) = False, first_fires(job.schedule, now)
                if job.next_run_time is None:
                    self.job = None
            case {"op": "reschedule"} if job:
                job.schedule = self._schedule(op["trigger"], now).unbased()
                self.paused, (job.next_run_time, _) = False, first_fires(job.schedule, now)
            case {"op": "modify", "changes": changes} if job:
                return self._modify(job, changes, now)
            case _:
                raise AssertionError(f"unknown operation {op}")
        return None

    def _modify(self, job: SimulatedJob, changes: dict[str, Any], now: int) -> str | None:
        for name, value in changes.items():
            if name == "trigger":
                # The old next_run_time stays, as one given explicitly would.
                job.schedule = self._schedule(value, now)
                if job.next_run_time is not None:
                    job.schedule = job.schedule.rebased(job.next_run_time)
            elif name == "misfire_grace_time":
                if value is not None and value <= 0:
                    return "InvalidConfigError"
                job.misfire_grace_ms = None if value is None else round(value * 1000)
            elif name in ("coalesce", "max_instances"):
                setattr(job, name, value)
            else:
                raise AssertionError(f"unknown change {name}")
        return None

    def wake(self, now: int, running: int | None) -> Outcome:
        outcome = Outcome()
        timed = running is None
        if running is None:
            running = sum(end > now for end in self.busy_until)
        outcome.running_before = running
        job = self.job
        if self.scheduler_paused or job is None or job.next_run_time is None or job.next_run_time > now:
            return outcome
        planned = plan(job, now, running=running)
        assert planned.error is None and planned.cut is None
        due = job.next_run_time
        outcome.missed = listed(job.schedule, due, planned.missed)
        outcome.coalesced_away = listed(job.schedule, due, planned.coalesced)
        outcome.max_instances_skipped = listed(job.schedule, due, planned.skipped)
        clock = now + round(self.case.get("queue_delay_s", 0) * 1000) if timed else now
        for fire in planned.fires:
            if is_misfire(fire, clock, job.misfire_grace_ms):
                outcome.missed.append(fire)
                continue
            outcome.ran.append(fire)
            outcome.executed_at.append(clock)
            clock += round(self.case.get("run_duration_s", 0) * 1000) if timed else 0
        if planned.fires:
            self.busy_until.append(clock)
        # The fire after the next one, handed out with the plan, has to be what a later plan would find.
        following = None if planned.next_run_time is None else job.schedule.next(planned.next_run_time)
        assert planned.following == following
        job.next_run_time = planned.next_run_time
        if job.next_run_time is None:
            self.job = None
        return outcome


def listed(schedule: Schedule, due: int, span: Span | None) -> Instants:
    """The fires of a span one by one; its ends and its count have to be those of the list."""
    if span is None:
        return []
    fires = [span.first_ms]
    while fires[-1] < span.last_ms:
        fires.append(schedule.next(fires[-1]))
    assert fires[-1] == span.last_ms and span.count == len(fires) and fires[0] >= due
    return fires


def has_microseconds(case: dict[str, Any]) -> bool:
    def texts(value: Any):
        if isinstance(value, dict):
            for each in value.values():
                yield from texts(each)
        elif isinstance(value, list):
            for each in value:
                yield from texts(each)
        elif isinstance(value, str) and value[:4].isdecimal():
            yield value

    return any(datetime.fromisoformat(text).microsecond % 1000 for text in texts(case))


def span_of(case: dict[str, Any]) -> tuple[int, int]:
    """The minutes from the case's start to the last instant that it names, for a look at the clock."""
    start = ms(case["start"])
    ends = [ms(wake["next_run"] or wake["at"]) for wake in case["expected"]]
    return start // 60_000, max(ends) // 60_000 + 1
