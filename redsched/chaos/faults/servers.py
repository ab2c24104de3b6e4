"""Faults of Redis itself."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import ClassVar

from redsched.chaos.faults.base import EVERYTHING, Fault
from redsched.chaos.place import Layout, Place

__all__ = [
    "ClientKill", "Failover", "FailoverLosing", "PowerLossEverysec", "RedisKillAlways", "RedisKillEverysec",
    "RedisRestart", "ScriptFlush",
]  # fmt: skip

AWAY_S = (0.2, 1.5)
"""How long it is away."""


class _Down(Fault):
    """The server goes, and comes back with its data."""

    def end(self, place: Place) -> None:
        """Let it go; called in a thread."""
        place.server.kill()

    async def strike(self, place: Place) -> None:
        while await place.pause(1.0, 2.5):
            began = time.monotonic()
            await asyncio.to_thread(self.end, place)
            await asyncio.sleep(place.rng.uniform(*AWAY_S))
            await asyncio.to_thread(place.server.start)
            place.back(began)


class RedisRestart(_Down):
    """SIGTERM."""

    name = "redis-restart"
    shows = "Redis is stopped in good order and started again, every few seconds (AOF, everysec)."

    def end(self, place: Place) -> None:
        place.server.stop()


class RedisKillAlways(_Down):
    """SIGKILL, AOF always."""

    name = "redis-kill-always"
    shows = "Redis gets SIGKILL every few seconds and starts again from its AOF (appendfsync always)."
    layout: ClassVar[Layout] = Layout(aof="always")


class RedisKillEverysec(_Down):
    """SIGKILL, AOF everysec."""

    name = "redis-kill-everysec"
    in_short: ClassVar[bool] = False
    shows = (
        "Redis gets SIGKILL every few seconds and starts again from its AOF (appendfsync everysec): the process is "
        "lost, and what it had written is not."
    )


class PowerLossEverysec(Fault):
    """The machine is lost, AOF everysec."""

    name = "power-loss-everysec"
    shows = (
        "As after a power failure with appendfsync everysec: Redis gets SIGKILL, and the last second of its AOF is "
        "cut off before it starts again."
    )
    cannot_keep: ClassVar[Mapping[str, str]] = dict.fromkeys(
        EVERYTHING,
        "a second of acknowledged writes is gone; `appendfsync always` removes it",
    )
    layout: ClassVar[Layout] = Layout(server_args=("--auto-aof-rewrite-percentage", "0"))  # one file, to be cut off
    sizes: list[tuple[float, dict[str, int]]]

    def _look(self, place: Place) -> None:
        files = {str(path): path.stat().st_size for path in (place.server.folder / "appendonlydir").glob("*.incr.aof")}
        self.sizes.append((time.monotonic(), files))

    async def strike(self, place: Place) -> None:
        while True:
            self.sizes = []
            until = time.monotonic() + place.rng.uniform(1.5, 2.5)
            while time.monotonic() < until:
                self._look(place)
                await asyncio.sleep(0.05)
            if place.left < 0.5:
                return
            began = time.monotonic()
            await asyncio.to_thread(place.server.kill)
            await asyncio.to_thread(self._cut)
            await asyncio.to_thread(place.server.start)
            place.back(began)

    def _cut(self) -> None:
        last = self.sizes[-1][0]
        _, files = next(seen for seen in reversed(self.sizes) if seen[0] <= last - 1.0)
        for path, size in files.items():
            with open(path, "r+b") as file:  # noqa: PTH123 - a name from a listing
                file.truncate(size)


class ClientKill(Fault):
    """CLIENT KILL."""

    name = "client-kill"
    shows = "CLIENT KILL ends every connection, five times a second."

    async def strike(self, place: Place) -> None:
        while await place.pause(0.1, 0.3):
            await place.admin("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")


class ScriptFlush(Fault):
    """SCRIPT FLUSH."""

    name = "script-flush"
    shows = "SCRIPT FLUSH makes Redis forget every script, twenty times a second."

    async def strike(self, place: Place) -> None:
        while await place.pause(0.02, 0.08):
            await place.admin("SCRIPT", "FLUSH")


class Failover(Fault):
    """A failover that waits for the replica."""

    name = "failover"
    shows = (
        "A planned failover (FAILOVER): the primary becomes a read-only replica of its replica, to which clients are "
        "led a second later; until then they meet READONLY."
    )
    layout: ClassVar[Layout] = Layout(proxied=True, spare=True)
    at_least_s: ClassVar[float] = 8.0

    async def strike(self, place: Place) -> None:
        while await place.pause(1.0, 2.0):
            await place.admin_until("INFO", "replication", wanted=b"state=online")
            began = time.monotonic()
            await place.admin("FAILOVER", "TO", "127.0.0.1", place.spare.port, "TIMEOUT", 5000)
            await place.admin_until("INFO", "replication", wanted=b"role:slave")
            await asyncio.sleep(place.rng.uniform(0.5, 1.0))
            place.swap()
            place.proxy.cut()
            place.back(began)


class FailoverLosing(Fault):
    """A failover to a replica that lacks the newest writes."""

    name = "failover-losing"
    shows = (
        "The primary gets SIGKILL while its replica lags behind, and the replica is promoted: replication is "
        "asynchronous."
    )
    layout: ClassVar[Layout] = Layout(proxied=True, spare=True)
    at_least_s: ClassVar[float] = 8.0
    cannot_keep: ClassVar[Mapping[str, str]] = dict.fromkeys(
        EVERYTHING,
        "what the replica had not got is gone; writes that wait for the replica (WAIT) are not",
    )

    async def strike(self, place: Place) -> None:
        while await place.pause(1.0, 2.0):
            await place.admin_until("INFO", "replication", wanted=b"state=online")
            place.spare.pause()
            await asyncio.sleep(0.2)
            began = time.monotonic()
            await asyncio.to_thread(place.server.kill)
            place.spare.resume()
            await place.admin_until("REPLICAOF", "NO", "ONE", wanted=b"OK", server=place.spare)  # it may be loading
            place.swap()
            await asyncio.to_thread(place.spare.start)
            await place.admin("REPLICAOF", "127.0.0.1", place.server.port, server=place.spare)
            place.back(began)
