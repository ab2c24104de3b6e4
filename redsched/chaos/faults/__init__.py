"""The fault matrix: each fault is a small class, and `ALL` has them in the order of the table."""

from __future__ import annotations

from redsched.chaos.faults.base import Fault, Unavailable
from redsched.chaos.faults.clocks import RedisClockBack, WorkerClockAhead, WorkerClockBehind
from redsched.chaos.faults.fleets import ClusterFailover, ClusterKill, ClusterSlotMoved, SentinelFailover
from redsched.chaos.faults.memory import MemoryFull, WrongEviction
from redsched.chaos.faults.network import BlackHole, Latency, ReplyCut, ReplyDropped, RequestDropped
from redsched.chaos.faults.parking import TaskKnownByFew
from redsched.chaos.faults.servers import (
    ClientKill,
    Failover,
    FailoverLosing,
    PowerLossEverysec,
    RedisKillAlways,
    RedisKillEverysec,
    RedisRestart,
    ScriptFlush,
)
from redsched.chaos.faults.workers import GilHeld, LoopBlocked, Nothing, WorkerKill, WorkerLeave, WorkerStop

__all__ = ["ALL", "Fault", "Unavailable", "register"]

ALL: dict[str, type[Fault]] = {}
"""Name -> fault."""


def register(*faults: type[Fault]) -> None:
    """Add faults to the matrix: in the order of the table.

    Raises:
        ValueError: there is one of that name already.
    """
    for fault in faults:
        if fault.name in ALL:
            raise ValueError(f"there are two faults of the name {fault.name!r}")
        ALL[fault.name] = fault


register(
    Nothing, WorkerKill, WorkerStop, LoopBlocked, GilHeld, WorkerLeave,
    TaskKnownByFew, WorkerClockAhead, WorkerClockBehind, ReplyDropped, RequestDropped,
    ReplyCut, Latency, BlackHole, RedisRestart, RedisKillAlways, RedisKillEverysec, PowerLossEverysec, ClientKill,
    ScriptFlush, MemoryFull, WrongEviction, Failover, FailoverLosing, SentinelFailover,
    ClusterFailover, ClusterKill, ClusterSlotMoved, RedisClockBack,
)  # fmt: skip
