"""Faults between clients and Redis: producers and workers all go through a proxy."""

from __future__ import annotations

import asyncio
import time
from abc import abstractmethod
from typing import ClassVar

from redsched.chaos.faults.base import Fault
from redsched.chaos.place import Layout, Place

__all__ = ["BlackHole", "Latency", "ReplyCut", "ReplyDropped", "RequestDropped"]

SCRIPTS = b"EVALSHA"
"""What is in each request that changes something."""


class _Messages(Fault):
    """One message after the other meets the fault."""

    elsewhere = True
    layout: ClassVar[Layout] = Layout(proxied=True)

    @abstractmethod
    def spoil(self, place: Place) -> None:
        """Let one message meet it."""

    async def strike(self, place: Place) -> None:
        while await place.pause(0.005, 0.06):
            if not place.proxy.pending:
                self.spoil(place)

    async def verify(self, place: Place) -> list[str]:
        return [] if place.proxy.dropped >= 10 else [f"only {place.proxy.dropped} messages met the fault"]


class ReplyDropped(_Messages):
    """The command is carried out; its reply never comes."""

    name = "reply-dropped"
    shows = "Redis carries a command out, and the connection ends instead of its reply, some 30 times a second."

    def spoil(self, place: Place) -> None:
        place.proxy.drop_next_reply(matching=SCRIPTS)


class RequestDropped(_Messages):
    """The command never arrives."""

    name = "request-dropped"
    shows = "A command never reaches Redis, and its connection ends, some 30 times a second."

    def spoil(self, place: Place) -> None:
        place.proxy.drop_next_request(matching=SCRIPTS)


class ReplyCut(_Messages):
    """Half of a reply."""

    name = "reply-cut"
    shows = "The connection ends half way through a reply, some 30 times a second."

    def spoil(self, place: Place) -> None:
        place.proxy.cut_mid_reply(matching=SCRIPTS)


class Latency(Fault):
    """A slow line."""

    name = "latency"
    elsewhere = True
    shows = "Each request and each reply takes 100 ms: 200 ms a round trip."
    layout: ClassVar[Layout] = Layout(proxied=True)

    async def strike(self, place: Place) -> None:
        place.proxy.latency = 0.1
        await asyncio.sleep(max(0.0, place.left))
        place.proxy.latency = 0.0


class BlackHole(Fault):
    """Packets vanish; no connection ends."""

    name = "black-hole"
    elsewhere = True
    shows = "For 10 s (five leases) nothing passes in either direction, and no connection ends; then all goes on."
    layout: ClassVar[Layout] = Layout(proxied=True)
    at_least_s: ClassVar[float] = 14.0

    async def strike(self, place: Place) -> None:
        await place.pause(1.0, 2.0)
        began = time.monotonic()
        await place.proxy.black_hole(10.0)
        place.back(began)
