"""Faults of clocks. libfaketime makes them wrong."""

from __future__ import annotations

import asyncio
import platform
import sys
import time
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import ClassVar

from redsched.chaos.faults.base import Fault, Unavailable
from redsched.chaos.place import LEASE_S, Layout, Place
from redsched.testing.ledger import CLOCK_GETTIME

__all__ = ["RedisClockBack", "WorkerClockAhead", "WorkerClockBehind"]

FAKETIME = "libfaketime (Debian and Ubuntu: apt install faketime)"


@cache
def _library() -> str | None:
    """libfaketime; not its MT form, which takes a lock for each look at a clock."""
    places = ("/usr/lib/*/faketime", "/usr/lib/faketime", "/usr/local/lib/faketime", "/opt/homebrew/lib/faketime")
    for place in places:
        for name in ("libfaketime.so.1", "libfaketime.so", "libfaketime.1.dylib"):
            found = sorted(Path("/").glob(f"{place[1:]}/{name}"))
            if found:
                return str(found[0])
    return None


def _environment(**more: str) -> dict[str, str]:
    library = _library()
    if library is None:
        raise Unavailable(f"needs {FAKETIME}")
    return {"LD_PRELOAD": library, **more}


class _Faked(Fault):
    needs: ClassVar[str] = FAKETIME

    def check(self) -> None:
        _environment()


class _WorkerClock(_Faked):
    elsewhere = True
    shift: ClassVar[str]
    slower: ClassVar[float] = 2.0  # libfaketime stands in the way of each look at a clock and each poll
    recovers_in_s: ClassVar[float | None] = LEASE_S + 1

    def check(self) -> None:
        super().check()
        if platform.machine() not in CLOCK_GETTIME:
            raise Unavailable("needs Linux on x86-64 or arm64: the ledger asks the kernel past libfaketime")

    def place_layout(self, folder: Path) -> Layout:
        del folder
        # The monotonic clock is another one as well, and runs on: with one that libfaketime leaves alone, it counts the
        # absolute limits of waits wrong. `time.sleep` fails then, and threads that wait for the interpreter spin.
        wrong = _environment(FAKETIME=self.shift)
        return replace(self.layout, worker_environments=(wrong, {}))

    async def strike(self, place: Place) -> None:
        while await place.pause(1.0, 2.0):
            member = await place.victim()
            place.hit(member)
            await place.fleet.kill(member)
            await place.replace(member)


class WorkerClockAhead(_WorkerClock):
    """An hour ahead."""

    name = "worker-clock-ahead"
    shows = "Every second worker has a clock that is an hour ahead; now and then one is killed. Nothing is early."
    shift = "+1h"


class WorkerClockBehind(_WorkerClock):
    """An hour behind."""

    name = "worker-clock-behind"
    shows = "Every second worker has a clock that is an hour behind; now and then one is killed. Nothing is lost."
    shift = "-1h"


class RedisClockBack(_Faked):
    """Redis' own clock is set back."""

    name = "redis-clock-back"
    shows = (
        "Redis' clock steps back by 3 s, three times: the scheduler's time stands still until it is reached again; "
        "nothing fires twice."
    )
    at_least_s: ClassVar[float] = 12.0

    def place_layout(self, folder: Path) -> Layout:
        self._file = folder / "clock"
        self._file.write_text("+0")
        clock = _environment(FAKETIME_TIMESTAMP_FILE=str(self._file), FAKETIME_NO_CACHE="1")
        # Redis' monotonic clock stays true: nothing but a wall clock can be set.
        clock |= {"DONT_FAKE_MONOTONIC": "1", "FAKETIME_DONT_FAKE_MONOTONIC": "1"}
        if sys.platform == "linux":
            # jemalloc asks for the time while it starts, before libfaketime is ready: libc's malloc goes before it.
            clock["LD_PRELOAD"] += ":libc.so.6"
        return Layout(server_environment=clock)

    async def strike(self, place: Place) -> None:
        for seconds in (3, 6, 9):
            if not await place.pause(1.0, 1.5):
                return
            began = time.monotonic()
            self._file.write_text(f"-{seconds}")
            await asyncio.sleep(3.0)
            place.back(began)
