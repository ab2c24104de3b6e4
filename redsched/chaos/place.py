"""Where a fault is made: one or two servers, perhaps a proxy before them, and worker processes."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Self

from redsched.chaos.given import Given, remove_keys
from redsched.chaos.wishes import QUEUES
from redsched.errors import StoreError
from redsched.store.cluster import slot_of
from redsched.store.keys import Keys
from redsched.store.link import Link
from redsched.store.store import CLUSTER_SHARDS
from redsched.testing import ledger
from redsched.testing.clusters import ClusterServers, SentinelServers
from redsched.testing.fleet import Fleet, Member
from redsched.testing.proxy import FaultProxy
from redsched.testing.servers import Aof, LocalServer

__all__ = ["Layout", "Moment", "Place"]

LEASE_S = 2.0
"""Short, since each fault waits for it several times; the default is 30 s."""
CONCURRENCY = 100
PREFIX = "redsched-chaos"
SERVED: tuple[Sequence[str], ...] = (QUEUES, ("reports", "default", "mail"), ("mail", "reports"), ("default",))
"""Which queues each worker serves, the preferred first: each queue by several."""


@dataclass(frozen=True, slots=True)
class Layout:
    """What a fault wants to find.

    Args:
        aof: how the server keeps its data.
        proxied: whether all clients go through a proxy.
        spare: whether a second server replicates the first one.
        kind: one server, one with a replica and sentinels, or a cluster of three primaries with a replica each.
        server_args: further options of the servers, as on their command lines.
        server_environment, worker_environments: added to the environment; of the workers, one after the other.
    """

    aof: Aof = "everysec"
    proxied: bool = False
    spare: bool = False
    kind: Literal["server", "sentinel", "cluster"] = "server"
    server_args: Sequence[str] = ()
    server_environment: Mapping[str, str] = field(default_factory=dict[str, str])
    worker_environments: Sequence[Mapping[str, str]] = ()


@dataclass(frozen=True, slots=True)
class Moment:
    """When something was broken.

    Args:
        at: from when on others could take over: the kill of a worker, or the end of an outage (monotonic seconds).
        worker: the id of the worker that it hit; None = it hit all.
        began: when the outage began.
    """

    at: float
    worker: str | None = None
    began: float | None = None


class Place:
    """`async with Place(layout, folder, binary, rng) as place:` then everything runs.

    Args:
        binary: the program of the servers that it starts; or a given server, of which it uses one prefix.
    """

    def __init__(self, layout: Layout, folder: Path, binary: str | Given, rng: random.Random) -> None:
        self.layout = layout
        self.rng = rng
        self.lease_s = LEASE_S
        self._given = binary if isinstance(binary, Given) else None
        self.prefix = self._given.prefix if self._given is not None else PREFIX
        self.ledger = folder / "ledger"
        self.moments: list[Moment] = []
        self.over = 0.0
        """When the load ends (monotonic seconds); faults end in time before."""
        self._binary = binary if isinstance(binary, str) else ""
        self._links: dict[str, Link] = {}
        self._proxy: FaultProxy | None = None
        self._spare: LocalServer | None = None
        self._several: ClusterServers | SentinelServers | None = None

    async def __aenter__(self) -> Self:
        try:
            await self._serve_all()
            if self.layout.spare:
                self._spare = await self._serve("--replicaof", "127.0.0.1", str(self.server.port))
            if self.layout.proxied:
                self._proxy = await FaultProxy.before(self.direct_url).__aenter__()
                self.url = self._proxy.url
            self.fleet = Fleet(
                "redsched.chaos.worker",
                [self.prefix, str(self.ledger), str(self.lease_s), str(CONCURRENCY)],
                url=self.url,
                log=self.ledger.with_name("workers.log"),
            )
            self.ledger.touch()
            environments = self.layout.worker_environments or ({},)
            async with asyncio.TaskGroup() as group:
                for number, queues in enumerate(SERVED):
                    environment = environments[number % len(environments)]
                    group.create_task(self.fleet.start(*queues, environment=environment))
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        if hasattr(self, "fleet"):
            await self.fleet.end()
        for link in self._links.values():
            await link.close()
        if self._proxy is not None:
            await self._proxy.__aexit__()
        for server in (self._spare, getattr(self, "server", None)):
            if server is not None:
                await asyncio.to_thread(server.close)
        if self._several is not None:
            await asyncio.to_thread(self._several.close)
        if self._given is not None:
            await remove_keys(self._given)

    async def _serve_all(self) -> None:
        if self._given is not None:
            self.url = self._given.url
            return
        match self.layout.kind:
            case "server":
                self.server = await self._serve()
                self.url = self.server.url
            case "sentinel":
                self._several = await asyncio.to_thread(SentinelServers, self._binary)
                self.url = self._several.url
            case "cluster":
                self._several = await asyncio.to_thread(ClusterServers, replicas=True, binary=self._binary)
                self.url = self._several.url

    async def _serve(self, *args: str) -> LocalServer:
        return await asyncio.to_thread(
            LocalServer,
            *self.layout.server_args,
            *args,
            aof=self.layout.aof,
            binary=self._binary,
            environment=self.layout.server_environment,
        )

    @property
    def proxy(self) -> FaultProxy:
        """The proxy that all clients go through."""
        assert self._proxy is not None, "this layout has no proxy"
        return self._proxy

    @property
    def direct_url(self) -> str:
        """Of the server that counts now, past the proxy; of all of them, where there are several."""
        if self._given is not None:
            return self._given.url
        return self.url if self._several is not None else self.server.url

    @property
    def cluster(self) -> ClusterServers:
        """The cluster of this layout."""
        assert isinstance(self._several, ClusterServers), "this layout has no cluster"
        return self._several

    @property
    def sentinels(self) -> SentinelServers:
        """The servers with sentinels of this layout."""
        assert isinstance(self._several, SentinelServers), "this layout has no sentinels"
        return self._several

    @property
    def slots(self) -> list[int]:
        """Where the shards are in a cluster."""
        return [slot_of(Keys(self.prefix, number).clock) for number in range(CLUSTER_SHARDS)]

    @property
    def spare(self) -> LocalServer:
        """The second server."""
        assert self._spare is not None, "this layout has no second server"
        return self._spare

    def swap(self) -> None:
        """The second server is the one that counts from now on: what a DNS entry or Sentinel would tell clients."""
        self.server, self._spare = self.spare, self.server
        self.proxy.target = ("127.0.0.1", self.server.port)

    async def admin(self, *command: Any, server: LocalServer | None = None) -> Any:
        """A command to the server itself, past the proxy.

        Raises:
            StoreError: it did not do it.
        """
        url = (server or self.server).url
        link = self._links.get(url)
        if link is None:
            link = self._links[url] = Link(url)
        return await link.command(*command)

    async def admin_until(
        self, *command: Any, wanted: bytes, server: LocalServer | None = None, seconds: float = 20.0
    ) -> None:
        """Ask until the answer contains those bytes.

        Raises:
            TimeoutError: it never did.
        """
        async with asyncio.timeout(seconds):
            while True:
                with suppress(StoreError):
                    if wanted in await self.admin(*command, server=server):
                        return
                await asyncio.sleep(0.05)

    @property
    def left(self) -> float:
        """Seconds until the load ends."""
        return self.over - time.monotonic()

    async def pause(self, shortest: float, longest: float) -> bool:
        """Let the load go on undisturbed for a while. False: so little is left of it that no fault should follow."""
        await asyncio.sleep(min(self.rng.uniform(shortest, longest), max(0.0, self.left)))
        return self.left > 0.5

    async def victim(self) -> Member:
        """A worker that is in the middle of something; after a second without one, any."""
        until = time.monotonic() + 1.0
        while True:
            working = self.fleet.working
            busy = ledger.busy(self.ledger)
            chosen = [member for member in working if member.pid in busy]
            if chosen or time.monotonic() > until:
                return self.rng.choice(chosen or working)
            await asyncio.sleep(0.01)

    def hit(self, member: Member) -> None:
        """Note that something was done to a worker just now."""
        self.moments.append(Moment(time.monotonic(), member.worker_id))

    def back(self, began: float) -> None:
        """Note that an outage that hit all is over just now."""
        self.moments.append(Moment(time.monotonic(), None, began))

    async def replace(self, member: Member) -> None:
        """Start another worker in the place of one that has ended, with its queues and its environment."""
        await self.fleet.replace(member)
