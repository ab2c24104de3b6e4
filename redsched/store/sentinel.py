"""The wire to whichever server the sentinels call the primary."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, cast

from redis.asyncio import BlockingConnectionPool
from redis.asyncio.connection import Connection
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel
from redis.backoff import NoBackoff

from redsched.store.connections import Connections, abandon, forsake
from redsched.store.link import Link
from redsched.store.urls import ServerUrl

__all__ = ["SentinelLink"]

ASK_S = 1.0
"""How long one sentinel is waited for, before the next is asked."""

Find = Callable[[], Awaitable[tuple[str, int]]]


class SentinelLink(Link):
    """`redis+sentinel://[user:password@]host:port,host:port/service[/db]`.

    Each new connection asks the sentinels again. A connection ends when its server dies, is demoted (the sentinels see
    to that), or refuses a write; so a failover is followed by the resends that a lost connection has anyway.

    Args:
        url: of the sentinels. The user and password are the servers'; those of the sentinels are its parameters
            `sentinel_username` and `sentinel_password`.
    """

    def __init__(self, url: ServerUrl, **settings: Any) -> None:
        super().__init__(url.at("primary", 6379), **settings)
        self.where: str = url.shown
        tls = {key: value for key, value in self._pool.connection_kwargs.items() if key.startswith("ssl_")}
        self._url = url
        self._sentinel_settings: dict[str, Any] = {
            **url.sentinel_options,
            "socket_timeout": ASK_S,
            "socket_connect_timeout": ASK_S,
            "retry": Retry(NoBackoff(), 0),
            **({"ssl": True, **tls} if url.secure else {}),
        }

    def _connections(self) -> Connections:
        sentinels = Sentinel(self._url.hosts, sentinel_kwargs=self._sentinel_settings)
        one_asks = asyncio.Lock()

        async def find() -> tuple[str, int]:
            async with one_asks:  # redis-py puts the one that answered first in its list; two at once lose one of them
                return await sentinels.discover_master(self._url.service)

        base = cast("type[Connection]", self._pool.connection_class)
        return _ConnectionsToPrimary(self._another_pool(_to_primary(base, find)), sentinels)


class _ConnectionsToPrimary(Connections):
    """The connections of one event loop to the primary and to the sentinels."""

    def __init__(self, pool: BlockingConnectionPool, sentinels: Sentinel) -> None:
        super().__init__(pool)
        self.sentinels = sentinels

    async def close(self) -> None:
        await super().close()
        for client in self.sentinels.sentinels:
            await client.aclose()

    def abandon(self) -> None:
        super().abandon()
        for client in self.sentinels.sentinels:
            abandon(client.connection_pool)

    def forsake(self) -> None:
        super().forsake()
        for client in self.sentinels.sentinels:
            forsake(client.connection_pool)


def _to_primary(base: type[Connection], find: Find) -> type[Connection]:
    """Connections that look for their server when they connect."""

    class ToPrimary(base):
        async def _connect(self) -> None:
            self.host, self.port = await find()
            await super()._connect()

    return ToPrimary
