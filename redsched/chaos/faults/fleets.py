"""Faults of several servers: a cluster's nodes, and those that sentinels watch."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import ClassVar

from redsched.chaos.faults.base import EVERYTHING, Fault
from redsched.chaos.place import Layout, Place

__all__ = ["ClusterFailover", "ClusterKill", "ClusterSlotMoved", "SentinelFailover"]

ASYNCHRONOUS = dict.fromkeys(
    EVERYTHING, 'replication is asynchronous; what waits for the replica (`durability="replicated"`) is not lost'
)


class SentinelFailover(Fault):
    """SIGKILL of the primary that sentinels watch."""

    name = "sentinel-failover"
    shows = (
        "The primary gets SIGKILL; sentinels put its replica in its place, and it comes back as a replica of that "
        "(`min-replicas-to-write 1`)."
    )
    layout: ClassVar[Layout] = Layout(kind="sentinel")
    in_short: ClassVar[bool] = False
    at_least_s: ClassVar[float] = 25.0
    slower: ClassVar[float] = 2.0  # for half of the time there is no primary that takes writes
    cannot_keep: ClassVar[Mapping[str, str]] = ASYNCHRONOUS

    async def strike(self, place: Place) -> None:
        # A primary that comes back is left alone for 8 s before it is made a replica, without which none takes writes.
        while await place.pause(6.0, 10.0):
            began = time.monotonic()
            await asyncio.to_thread(place.sentinels.fail_over)
            place.back(began)


class ClusterFailover(Fault):
    """CLUSTER FAILOVER."""

    name = "cluster-failover"
    shows = "CLUSTER FAILOVER of one primary after the other: its replica takes its place, as at an upgrade."
    layout: ClassVar[Layout] = Layout(kind="cluster")
    at_least_s: ClassVar[float] = 10.0
    kill: ClassVar[bool] = False

    async def strike(self, place: Place) -> None:
        while await place.pause(0.5, 1.5):
            number = place.rng.randrange(len(place.cluster.primaries))
            began = time.monotonic()
            await asyncio.to_thread(place.cluster.fail_over, number, kill=self.kill)
            place.back(began)


class ClusterKill(ClusterFailover):
    """SIGKILL of a cluster's primary."""

    name = "cluster-kill"
    shows = "A primary of the cluster gets SIGKILL; the others put its replica in its place."
    in_short: ClassVar[bool] = False
    at_least_s: ClassVar[float] = 15.0
    slower: ClassVar[float] = 2.0  # for a part of the time a third of the shards has no primary
    kill: ClassVar[bool] = True
    cannot_keep: ClassVar[Mapping[str, str]] = ASYNCHRONOUS


class ClusterSlotMoved(Fault):
    """SETSLOT and MIGRATE."""

    name = "cluster-slot-moved"
    shows = (
        "The slot of a shard moves to another primary, twenty keys at a time, while its jobs run: MOVED, ASK and "
        "TRYAGAIN, as at a resharding."
    )
    layout: ClassVar[Layout] = Layout(kind="cluster")
    at_least_s: ClassVar[float] = 10.0

    async def strike(self, place: Place) -> None:
        while await place.pause(0.3, 1.0):
            slot = place.rng.choice(place.slots)
            source = place.cluster.owner(slot)
            others = [node for node in place.cluster.primaries if node is not source]
            began = time.monotonic()
            await asyncio.to_thread(place.cluster.move, slot, place.rng.choice(others), 0.001)
            place.back(began)
