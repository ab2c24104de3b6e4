"""The requests of a chaos run: a mixed load, the same for the same seed. Pure."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from redsched import JobSpec, RetryPolicy
from redsched.chaos.tasks import KNOWN_BY_FEW, TASKS

__all__ = ["GRACE_S", "QUEUES", "RETRY_S", "Change", "Wish", "make_wishes"]

QUEUES = ("default", "mail", "reports")
RETRY_S = 0.3
"""Before the second attempt of a task that fails on purpose, and before the third."""
GRACE_S = 1.0
"""misfire_grace_time of the jobs that have one."""

KINDS = {
    "now": 50, "delayed": 17, "at": 4, "slow": 4, "thread": 3, "process": 1, "retried": 8, "doomed": 1, "graced": 2,
    "cancelled": 6, "paused": 3, "parked": 1, "moved": 3,
}  # fmt: skip
"""Kinds of one-shot jobs, by weight. parked: paused and never resumed. doomed: fails in every attempt.
moved: changed to another time."""
ONE_IN_PERIODIC, MOST_PERIODIC = 200, 100
"""One job in 200 is periodic, up to 100 of them: they fire for as long as the load lasts, and some of them take a slot
all the time."""
INTERVALS_MS = (300, 400, 500, 700, 1000)


@dataclass(slots=True)
class Change:
    """Something done to a job after it was accepted: cancel, pause, resume or move."""

    what: str
    after: float
    """Seconds after the job was accepted."""
    began: float | None = None
    """When it was asked for, by the monotonic clock; None = it was not."""
    ended: float | None = None
    """When the answer was there."""
    by_ms: int = 0
    """move: the job is to run so long after this is asked for."""
    to_ms: int | None = None
    """move: that instant, by Redis' clock."""
    outcome: str = ""
    """done; late: the job had ended before; unknown: there was no answer."""


@dataclass(slots=True)
class Wish:
    """One job: what is asked for, and then what was answered."""

    id: str
    kind: str
    at: float
    """When it is submitted: seconds since the load began."""
    options: dict[str, Any]
    task: str = "work"
    delay_ms: int = 0
    interval_ms: int = 0
    """Of a periodic job."""
    fires: int = 0
    """How many fires it has, unless it is cancelled."""
    changes: list[Change] = field(default_factory=list[Change])

    status: str = "never"
    """accepted; refused: Redis stored nothing and said so; unknown: there was no answer; never: it was not asked."""
    asked: tuple[float, float] = (0.0, 0.0)
    """When the call began and ended, by the monotonic clock."""
    run_ms: int | None = None
    """The instant that was asked for (at), or that of the first fire (periodic), by Redis' clock."""

    @property
    def periodic(self) -> bool:
        return self.interval_ms > 0

    @property
    def in_child(self) -> bool:
        """Whether a child process of its worker does it."""
        return self.options.get("executor") == "processpool"

    @property
    def max_instances(self) -> int:
        return int(self.options.get("max_instances", 1))

    @property
    def at_most_once(self) -> bool:
        return self.options.get("delivery") == "at_most_once"

    def spec(self, now: datetime) -> JobSpec:
        """As the scheduler takes it.

        Args:
            now: Redis' time, from which `at` and the grid of periodic jobs are counted; others do not look at it.
        """
        at_ms = round(now.timestamp() * 1000)
        name, task = f"chaos {self.kind}", TASKS[self.task]
        options: dict[str, Any] = {"job_id": self.id, **self.options}
        if self.periodic:
            self.run_ms = at_ms + self.delay_ms
            start, end = self.run_ms, self.run_ms + (self.fires - 1) * self.interval_ms
            return JobSpec(
                name,
                task,
                interval=self.interval_ms / 1000,
                start=_later(now, start - at_ms),
                end=_later(now, end - at_ms),
                **options,
            )
        if self.kind == "at":
            self.run_ms = at_ms + self.delay_ms
            return JobSpec(name, task, run_at=_later(now, self.delay_ms), **options)
        if self.delay_ms:
            return JobSpec(name, task, delay=self.delay_ms / 1000, **options)
        return JobSpec(name, task, **options)


def _later(now: datetime, milliseconds: int) -> datetime:
    return now + timedelta(milliseconds=milliseconds)


def make_wishes(seed: int, jobs: int, seconds: float, known_by_few: float = 0.0) -> list[Wish]:
    """A load of `jobs` jobs over `seconds` seconds, in the order in which they are to be submitted.

    Args:
        known_by_few: the share of the ordinary jobs that are of a task which not all workers have.
    """
    rng = random.Random(seed)  # the same jobs again by the same seed  # nosec B311
    periodic = max(6, min(jobs // ONE_IN_PERIODIC, MOST_PERIODIC))
    wishes = [_periodic(rng, number, seconds) for number in range(min(jobs, periodic))]
    kinds, weights = list(KINDS), list(KINDS.values())
    for number in range(len(wishes), jobs):
        wishes.append(_one_shot(rng, number, rng.choices(kinds, weights)[0], seconds))
    # Apart, so that the load is otherwise the same.
    draw = random.Random(f"{seed} known by few")  # the same jobs again by the same seed  # nosec B311
    for wish in wishes:
        if known_by_few and wish.task == "work" and draw.random() < known_by_few:
            wish.task = KNOWN_BY_FEW
    return sorted(wishes, key=lambda wish: wish.at)


def _one_shot(rng: random.Random, number: int, kind: str, seconds: float) -> Wish:
    options: dict[str, Any] = {"queue": rng.choice(QUEUES), "args": [0.0]}
    wish = Wish(f"{kind}-{number}", kind, rng.uniform(0, seconds), options)
    if rng.random() < 0.2:
        options["delivery"] = "at_most_once"
    if rng.random() < 0.1:
        options["tags"] = [f"tag-{rng.randrange(20)}"]
    match kind:
        case "delayed" | "at":
            wish.delay_ms = rng.randrange(50, 4000)
        case "graced":
            wish.delay_ms = rng.randrange(50, 3000)
            options["misfire_grace_time"] = GRACE_S
        case "slow":
            options["args"] = [rng.uniform(0.3, 1.5)]
        case "thread":
            wish.task, options["args"] = "work_in_thread", [rng.uniform(0.0, 0.05)]
        case "process":
            wish.task, options["args"] = "work_in_process", [rng.uniform(0.0, 0.2)]
            options["executor"] = "processpool"
        case "retried" | "doomed":
            wish.task, options["args"] = "fail_first", [99 if kind == "doomed" else rng.choice((1, 2))]
            options["retry"] = RetryPolicy(max_attempts=3, backoff_factor=1.0, initial_delay=RETRY_S, jitter=0)
        case "cancelled":
            wish.delay_ms = rng.randrange(0, 2000)
            options["args"] = [rng.choice((0.0, 0.0, 0.8))]
            wish.changes = [Change("cancel", rng.uniform(0, 1.5))]
        case "paused" | "parked":
            wish.delay_ms = rng.randrange(400, 2500)
            wish.changes = [Change("pause", rng.uniform(0, 1.0))]
            if kind == "paused":
                wish.changes.append(Change("resume", rng.uniform(1.5, 3.5)))
        case "moved":
            wish.delay_ms = rng.randrange(100, 2500)
            wish.changes = [Change("move", rng.uniform(0, 1.5), by_ms=rng.randrange(100, 2500))]
        case _:
            pass
    return wish


def _periodic(rng: random.Random, number: int, seconds: float) -> Wish:
    interval_ms = rng.choice(INTERVALS_MS)
    options: dict[str, Any] = {
        "queue": rng.choice(QUEUES),
        "max_instances": rng.choice((1, 1, 2, 3)),
        "coalesce": rng.random() < 0.6,
        "args": [rng.choice((0.0, 0.1, 1.2 * interval_ms / 1000))],
    }
    if rng.random() < 0.2:
        options["delivery"] = "at_most_once"
    at = rng.uniform(0, seconds * 0.2)
    wish = Wish(f"periodic-{number}", "periodic", at, options)
    wish.interval_ms, wish.delay_ms = interval_ms, rng.randrange(200, 1500)
    wish.fires = max(2, int((seconds - at) * 900 / interval_ms))
    draw = rng.random()
    if draw < 0.15:
        wish.changes = [Change("cancel", rng.uniform(0.3, 0.8) * seconds)]
    elif draw < 0.35:
        paused = rng.uniform(0.2, 0.5) * seconds
        wish.changes = [Change("pause", paused), Change("resume", paused + rng.uniform(0.5, 2.0))]
    return wish
