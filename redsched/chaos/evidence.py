"""The evidence after a chaos run, and the account that is made of it. Pure."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from redsched import Event
from redsched.chaos.clock import Clock
from redsched.chaos.place import LEASE_S, Moment
from redsched.chaos.wishes import Wish
from redsched.testing.ledger import Execution

__all__ = ["COLUMNS", "Evidence", "Told", "Verdict", "fire_ms_of", "percentile", "recoveries"]

COLUMNS = {
    "lost": "accepted, and neither done nor ended for a recorded reason",
    "doubled": "executed again although nothing allowed it (of at_most_once: executed again at all)",
    "fired twice": "two first executions of one fire time of a periodic job",
    "instances": "more executions at once than max_instances",
    "early": "begun before it was due, by Redis' clock",
    "unexplained": "done though refused or never due, reported as done though it was not, or without an end",
}
"""What may not happen: column of the table -> what it means."""

ENDED = frozenset({"dead", "missed", "cancelled", "removed", "skipped", "coalesced"})


@dataclass(slots=True)
class Evidence:
    """Everything that is known after a run."""

    wishes: Sequence[Wish]
    executions: Sequence[Execution]
    events: Sequence[Event]
    stored: Mapping[str, str]
    """Jobs that are still there -> their state."""
    clock: Clock
    moments: Sequence[Moment]
    killed: Mapping[int, float]
    """Process id -> when it was killed."""


@dataclass(slots=True)
class Verdict:
    """The account of one fault."""

    accepted: int = 0
    refused: int = 0
    unknown: int = 0
    """Jobs whose call failed: they may be there or not."""
    fires: int = 0
    """Fires of periodic jobs that were due."""
    executions: int = 0
    effects: int = 0
    reasons: Counter[str] = field(default_factory=Counter[str])
    """How fires ended that have no effect -> how many."""
    again: int = 0
    """Executions that were repeated for a reason: a retry, a lease that ended, a worker that left."""
    stale: int = 0
    """Of those, effects that came after a newer execution had begun: their fencing token is the older one."""
    problems: dict[str, list[str]] = field(default_factory=lambda: {column: list[str]() for column in COLUMNS})
    recoveries: list[float] = field(default_factory=list[float])
    """Seconds from each fault to the start of each run that it hit."""
    in_children: list[float] = field(default_factory=list[float])
    """The same of runs in child processes: with the time that a new process takes to start."""

    def say(self, column: str, text: str) -> None:
        self.problems[column].append(text)


def fire_ms_of(event: Event) -> int:
    return round(event.fire_time.timestamp() * 1000) if event.fire_time is not None else 0


class Told:
    """The events of one job, by what they explain."""

    def __init__(self, events: Iterable[Event]) -> None:
        self.recovered: dict[tuple[int, int], Event] = {}
        self.lost: dict[tuple[int, int], Event] = {}
        """Fire and attempt of executions whose lease ended: what began again, and what ended for that reason."""
        self.over: dict[tuple[int, int], float] = {}
        """Fire and attempt -> when that ended for Redis, whatever came of it, in ms."""
        self.ended: list[tuple[str, int, int, str]] = []
        """Kind, first and last fire (0 = the job as a whole), reason."""
        self.again: set[tuple[int, int]] = set()
        """Fire and attempt of executions after which another one may follow."""
        self.retried: set[tuple[int, int]] = set()
        self.done: set[tuple[int, int]] = set()
        self.anything = False
        for event in events:
            self.anything = True
            key = (fire_ms_of(event), event.attempt or 0)
            if event.attempt:
                self.over[key] = event.at.timestamp() * 1000
            if event.kind in ("recovered", "dead", "cancelled") and event.attempt:
                self.lost[key] = event
            match event.kind:
                case "recovered":
                    self.recovered[key] = event
                    self.again.add(key)
                case "retry":
                    self.again.add(key)
                    self.retried.add(key)
                case "released":
                    self.again.add(key)
                case "done":
                    self.done.add(key)
                case kind if kind in ENDED:
                    last = key[0] if event.last_fire_time is None else round(event.last_fire_time.timestamp() * 1000)
                    self.ended.append((kind, key[0], last, event.reason.value if event.reason else kind))
                case _:
                    pass

    def why(self, fire_ms: int) -> str | None:
        """Why there was no effect of this fire, if that was recorded."""
        for kind, first, last, reason in self.ended:
            if first <= fire_ms <= last:
                return f"{kind}: {reason}" if kind != reason else kind
        return None

    def whole(self) -> str | None:
        """Why the job as a whole ended, if that was recorded."""
        return next((kind for kind, first, _, _ in self.ended if kind in ("cancelled", "removed") and not first), None)


def percentile(values: Sequence[float], share: float) -> float:
    """The percentile of sorted values."""
    return values[min(len(values) - 1, int(len(values) * share))]


def _holds_until(one: Execution, killed: Mapping[int, float]) -> float:
    """How long an execution holds a place of max_instances, at most."""
    return one.end if one.end is not None else killed.get(one.pid, math.inf) + LEASE_S


def recoveries(evidence: Evidence, *, in_children: bool = False) -> list[float]:
    """From each fault to the start of each run that it hit, in another process or again.

    What is hit once more before that counts from then on; what waits for a place of max_instances does not count.

    Args:
        in_children: of those that child processes do, or of all others.
    """
    theirs = {wish.id: wish for wish in evidence.wishes if wish.in_child == in_children}
    jobs: dict[str, dict[int, list[Execution]]] = defaultdict(lambda: defaultdict(list))
    """Job -> fire -> its executions."""
    for one in evidence.executions:
        if one.job_id in theirs:
            jobs[one.job_id][one.fire_ms].append(one)
    return _after_losses(evidence, theirs, jobs) + _after_outages(evidence, jobs)


def _after_losses(
    evidence: Evidence, theirs: Mapping[str, Wish], jobs: Mapping[str, Mapping[int, Sequence[Execution]]]
) -> list[float]:
    losses: dict[tuple[str, int, int], list[Event]] = defaultdict(list)
    """Job, fire, attempt that began -> what was lost since the attempt that began before it."""
    for event in evidence.events:
        if event.kind == "recovered" and event.job_id in jobs:
            fire_ms = fire_ms_of(event)
            after = [one.attempt for one in jobs[event.job_id].get(fire_ms, ()) if one.attempt > (event.attempt or 0)]
            if after:
                losses[event.job_id, fire_ms, min(after)].append(event)
    found: list[float] = []
    for (job_id, fire_ms, attempt), events in losses.items():
        first = next(one for one in jobs[job_id][fire_ms] if one.attempt == attempt)
        # A loss that no fault explains hides none of the time since the last fault.
        workers = {None, *(event.error for event in events)}
        hit = [m.at for m in evidence.moments if m.worker in workers and m.at <= first.start]
        told = evidence.clock.at(max(event.at for event in events).timestamp() * 1000)
        beside = [
            one
            for fire, executions in jobs[job_id].items()
            for one in executions
            if fire != fire_ms
            and one.token != first.token
            and one.start < first.start
            and _holds_until(one, evidence.killed) > told
        ]
        if hit and len(beside) < theirs[job_id].max_instances:
            found.append(first.start - max(hit))
    return found


def _after_outages(evidence: Evidence, jobs: Mapping[str, Mapping[int, Sequence[Execution]]]) -> list[float]:
    found: list[float] = []
    for moment in evidence.moments:
        if moment.began is None:
            continue
        low, high = evidence.clock.latest_ms(moment.began), evidence.clock.latest_ms(moment.at)
        begun: dict[tuple[str, int], float] = {}
        for job_id, fires in jobs.items():
            for fire_ms, executions in fires.items():
                first = min(executions, key=lambda one: one.start)
                if low < fire_ms <= high and first.start > moment.at and first.attempt == 1:
                    # Fires that were due together are one claim: they run in order, and the first one counts.
                    claim = (job_id, first.token)
                    begun[claim] = min(begun.get(claim, first.start), first.start)
        found += [start - moment.at for start in begun.values()]
    return found
