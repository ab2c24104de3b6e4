"""Faults of worker processes."""

from __future__ import annotations

import asyncio
import signal
from typing import ClassVar

from redsched.chaos.faults.base import Fault
from redsched.chaos.place import LEASE_S, Place
from redsched.chaos.worker import BLOCKED_LEASES

__all__ = ["GilHeld", "LoopBlocked", "Nothing", "WorkerKill", "WorkerLeave", "WorkerStop"]


class Nothing(Fault):
    """The control: the load alone."""

    name = "none"
    elsewhere = True
    shows = "No fault: the load itself adds up."

    async def strike(self, place: Place) -> None:
        del place


class WorkerKill(Fault):
    """SIGKILL."""

    name = "worker-kill"
    elsewhere = True
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
    elsewhere = True
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


class LoopBlocked(Fault):
    """A step of the event loop that takes longer than a lease."""

    name = "loop-blocked"
    elsewhere = True
    shows = (
        "A worker's event loop is blocked for longer than its lease; its process lives, so it keeps all that it holds, "
        "and nothing starts elsewhere."
    )
    at_least_s: ClassVar[float] = 10.0
    slower: ClassVar[float] = 1.5
    number: ClassVar[signal.Signals] = signal.SIGUSR1

    async def strike(self, place: Place) -> None:
        await asyncio.sleep(1.0)  # the keepers load what they need
        while await place.pause(0.2, 1.0):
            member = await place.victim()
            member.send(self.number)
            await asyncio.sleep(place.lease_s * BLOCKED_LEASES + 0.5)

    async def verify(self, place: Place) -> list[str]:
        log = place.fleet.log.read_text(encoding="utf-8", errors="replace")
        wrong = [] if "the event loop was blocked for" in log else ["no worker said that it was blocked"]
        # A keeper is a process: on a machine that gives it no time for most of a lease it is too late, and says so.
        if (refused := log.count("Redis refused to settle")) and "left the keeper no time" not in log:
            wrong.append(f"leases of blocked workers ended: {refused} settles were refused")
        return wrong


class GilHeld(LoopBlocked):
    """A C call that takes longer than a lease and holds the interpreter's lock."""

    name = "gil-held"
    shows = (
        "One C call holds a worker's interpreter for longer than its lease, so that no thread of it can run; it keeps "
        "all that it holds."
    )
    number: ClassVar[signal.Signals] = signal.SIGUSR2


class WorkerLeave(Fault):
    """SIGTERM."""

    name = "worker-leave"
    elsewhere = True
    shows = "Workers are asked to leave (SIGTERM) one after the other and replaced, as in a rolling deployment."

    async def strike(self, place: Place) -> None:
        while await place.pause(0.3, 0.8):
            member = await place.victim()
            await place.fleet.stop(member)
            await place.replace(member)
