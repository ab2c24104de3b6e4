"""The wire to a Redis or Valkey Cluster: each shard's calls go to the node that owns its slot.

redis-py's own cluster client repeats commands by itself. Here a command is sent once, and a command that was not
executed (MOVED) is distinguished from one that perhaps was (a lost reply), as on one server.
"""

from __future__ import annotations

import asyncio
import random
from typing import Any

import redis.exceptions as redis_errors
from redis.crc import key_slot

from redsched.errors import StoreAccessError, StoreError, StoreReadOnlyError, StoreUnavailableError
from redsched.runtime.loops import LoopLock, PerLoop
from redsched.settings import default_of
from redsched.store.link import Link
from redsched.store.urls import ServerUrl
from redsched.store.wire import Wire

__all__ = ["Cluster", "SlotLink", "slot_of"]

ASK_S = 2.0
"""How long to wait for a node's answer about the slots before the next node is asked."""
REDIRECTIONS = 5
SAME_CONNECTION = ("WAIT", "WAITAOF")
"""Commands about the writes of a connection: on another one, their answer would be immediate and wrong."""

Address = tuple[str, int]


def slot_of(key: str) -> int:
    """The slot of a key, of 16,384."""
    return key_slot(key.encode())


class Cluster:
    """`redis+cluster://[user:password@]host:port,host:port`: any nodes of it; the others are found.

    Args:
        max_connections: to each node.
    """

    def __init__(self, url: ServerUrl, **settings: Any) -> None:
        self._url = url
        self.where: str = url.shown
        self.max_connections: int = settings.get("max_connections", default_of("connection_pool_size"))
        self._settings = settings
        self._seeds = url.hosts
        self._nodes: dict[Address, Link] = {}
        self._owners: dict[range, Address] = {}
        self._moved: dict[int, Address] = {}
        self._alone: set[Address] = set()
        self._stale = True
        self._asking = PerLoop(LoopLock)
        self._node(self._seeds[0])  # reports an invalid option now

    def at(self, key: str) -> SlotLink:
        """The way to a key, wherever its slot is."""
        return SlotLink(self, slot_of(key))

    async def close(self) -> None:
        """Close every connection of the running event loop. A later call opens new ones."""
        for link in list(self._nodes.values()):
            await link.close()
        await self._asking.close()

    async def without_replica(self) -> list[str]:
        """The primaries without a replica, as host:port.

        Raises:
            StoreError: no node answers.
        """
        self._stale = True
        await self._ask()
        return sorted(f"{host}:{port}" for host, port in self._alone)

    def _node(self, address: Address) -> Link:
        if address not in self._nodes:
            self._nodes[address] = Link(self._url.at(*address), redirected=True, **self._settings)
        return self._nodes[address]

    def doubt(self) -> None:
        """A slot has moved: ask for the slots again before the next call."""
        self._stale = True

    def moved(self, slot: int, to: str) -> None:
        """A node said that another has the slot now; `to` is host:port."""
        host, _, port = to.rpartition(":")
        if host:
            self._moved[slot] = (host, int(port))
        else:
            self._stale = True  # a node that does not know its own name

    async def owner(self, slot: int) -> Link:
        """The node that owns a slot.

        Raises:
            StoreUnavailableError: no node owns it, or no node answers.
        """
        if self._stale:
            await self._ask()
        address = self._moved.get(slot)
        if address is None:
            address = next((node for slots, node in self._owners.items() if slot in slots), None)
        if address is None:
            self._stale = True
            raise StoreUnavailableError(f"no node of the cluster at {self.where} owns slot {slot}")
        return self._node(address)

    async def _ask(self) -> None:
        async with self._asking.get():
            if not self._stale:
                return
            addresses = list({*self._seeds, *self._nodes, *self._owners.values()})
            # Not always the same first: one that was cut off from the others may know only what was.
            random.shuffle(addresses)
            error: Exception | None = None
            for address in addresses:
                try:
                    async with asyncio.timeout(ASK_S):
                        rows = await self._node(address).command("CLUSTER", "SLOTS")
                except StoreAccessError:
                    raise  # not down: it will not tell this user
                except (StoreError, TimeoutError) as problem:
                    error = problem
                    continue
                self._owners = {range(row[0], row[1] + 1): _address(row[2], address) for row in rows}
                self._alone = {_address(row[2], address) for row in rows if len(row) < 4}
                self._moved.clear()
                self._stale = False
                return
            raise StoreUnavailableError(
                f"no node of the cluster at {self.where} answers which node owns which slot: {error}"
            )


def _address(node: Any, asked: Address) -> Address:
    """Where a node is; one that does not know its own name is the one that was asked."""
    host = node[0].decode() if node[0] else ""
    return (host if host not in ("", "?") else asked[0], node[1])


class SlotLink(Wire):
    """The way to the node that has one slot, whichever that is."""

    def __init__(self, cluster: Cluster, slot: int) -> None:
        self._cluster = cluster
        self._slot = slot
        self.where: str = cluster.where
        self._held: dict[str, Link] = {}

    async def command(self, *command: Any, hold: str | None = None, timeout: float | None = None) -> Any:
        for _ in range(REDIRECTIONS):
            link = await self._cluster.owner(self._slot)
            self.where = link.where
            if hold is not None and self._held.get(hold) is not link:
                if command[0] in SAME_CONNECTION:
                    raise StoreUnavailableError(f"the slot {self._slot} moved to {link.where} meanwhile")
                await self.free(hold)
                self._held[hold] = link
            try:
                return await link.command(*command, hold=hold, timeout=timeout)
            except redis_errors.MovedError as error:
                self._cluster.moved(self._slot, error.message.split(" ")[1])
            except redis_errors.AskError as error:
                # A part of the shard is there, and a part here: no script could see all of it.
                raise StoreUnavailableError(
                    f"the slot {self._slot} is being moved away from {link.where}; its shard waits until that is done"
                ) from error
            except (StoreUnavailableError, StoreReadOnlyError):
                self._cluster.doubt()
                raise
        self._cluster.doubt()
        raise StoreUnavailableError(
            f"the nodes of the cluster at {self._cluster.where} send each other slot {self._slot}"
        )

    async def free(self, name: str) -> None:
        link = self._held.pop(name, None)
        if link is not None:
            await link.free(name)
