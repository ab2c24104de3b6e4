"""Faults while only some of the workers know a task."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import ClassVar

from redsched import Reason
from redsched.chaos.evidence import Evidence
from redsched.chaos.faults.base import Fault
from redsched.chaos.place import LEASE_S, Layout, Place
from redsched.chaos.tasks import KNOWN_BY_FEW, UNKNOWN

__all__ = ["TaskKnownByFew"]

WITHOUT = {UNKNOWN: KNOWN_BY_FEW}


class TaskKnownByFew(Fault):
    """SIGKILL for those that know a task."""

    name = "task-known-by-few"
    elsewhere = True
    shows = (
        "Two of four workers know the task of half of the jobs; one of the two, or both, get SIGKILL, and others come. "
        "Each job runs in the end, and is claimed in vain once at most, and once more after a change of it."
    )
    layout: ClassVar[Layout] = Layout(worker_environments=({}, {}, WITHOUT, WITHOUT))
    known_by_few: ClassVar[float] = 0.6  # of the ordinary ones
    in_short: ClassVar[bool] = False
    at_least_s: ClassVar[float] = 4.0
    recovers_in_s: ClassVar[float | None] = LEASE_S + 3
    """Where both were killed, a worker that knows the task has to start."""

    async def strike(self, place: Place) -> None:
        both = True
        while await place.pause(0.5, 1.0):
            knowing = [member for member in place.fleet.working if not member.environment]
            victims = knowing if both else [place.rng.choice(knowing)]
            for member in victims:
                place.hit(member)
                await place.fleet.kill(member)
            await asyncio.sleep(place.rng.uniform(0.0, 0.6))
            async with asyncio.TaskGroup() as group:
                for member in victims:
                    group.create_task(place.replace(member))
            both = not both

    def examine(self, evidence: Evidence) -> list[str]:
        in_vain = Counter(
            event.job_id
            for event in evidence.events
            if event.kind == "postponed" and event.reason is Reason.UNKNOWN_TASK
        )
        wrong = [] if in_vain else ["no worker claimed a job of a task that it does not know"]
        for wish in evidence.wishes:
            changes = sum(change.began is not None for change in wish.changes)
            allowed = 1 + changes if wish.task == KNOWN_BY_FEW else 0
            if in_vain[wish.id] > allowed:
                wrong.append(f"{wish.id} was claimed in vain {in_vain[wish.id]} times, and {allowed} are allowed")
        return wrong
