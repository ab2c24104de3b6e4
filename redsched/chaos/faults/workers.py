"""What happens to worker processes."""

from __future__ import annotations

import asyncio
from typing import ClassVar

from redsched.chaos.faults.base import Fault
from redsched.chaos.place import LEASE_S, Place

__all__ = ["Nothing", "WorkerKill", "WorkerLeave", "WorkerStop"]


class Nothing(Fault):
    """The control: the load alone."""

    name = "none"
    shows = "No fault: the load itself adds up."

    async def strike(self, place: Place) -> None:
        del place


class WorkerKill(Fault):
    """SIGKILL."""

    name = "worker-kill"
    shows = "A worker gets SIGKILL every second or two, in the middle of its runs; they start elsewhere."
    at_least_s: ClassVar[float] = 4.0
    recovers_in_s: ClassVar[float | None] = LEASE_S + 1

    async def strike(self, place: Place) -> None:
        while await place.pause(0.7, 1.5):
            member = await place.victim()
            place.hit(member)
            await place.fleet.kill(member)
            await place.replace(member)


class WorkerStop(Fault):
    """SIGSTOP and SIGCONT."""

    name = "worker-stop"
    shows = (
        "A worker is stopped (SIGSTOP) for longer than its lease, and goes on (SIGCONT): its runs are others' by then, "
        "and what it says of them is refused."
    )
    at_least_s: ClassVar[float] = 8.0
    recovers_in_s: ClassVar[float | None] = LEASE_S + 1

    async def strike(self, place: Place) -> None:
        while await place.pause(0.2, 1.0):
            member = await place.victim()
            place.hit(member)
            place.fleet.freeze(member)
            try:
                await asyncio.sleep(place.lease_s + place.rng.uniform(0.5, 1.5))
            finally:
                place.fleet.thaw(member)


class WorkerLeave(Fault):
    """SIGTERM."""

    name = "worker-leave"
    shows = "Workers are asked to leave (SIGTERM) one after the other and replaced, as in a rolling deployment."

    async def strike(self, place: Place) -> None:
        while await place.pause(0.3, 0.8):
            member = await place.victim()
            await place.fleet.ask_to_leave(member)
            await place.replace(member)
