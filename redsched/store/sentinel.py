"""The wire to whichever server the sentinels call the primary."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, cast
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit

from redis.asyncio.connection import Connection
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel
from redis.backoff import NoBackoff

from redsched.errors import InvalidConfigError
from redsched.store.link import Link, without_password
from redsched.store.urls import hosts_of

__all__ = ["SENTINEL_SCHEMES", "SentinelLink"]

SENTINEL_SCHEMES = ("redis+sentinel", "rediss+sentinel")
ASK_S = 1.0
"""How long one sentinel is waited for, before the next is asked."""

Find = Callable[[], Awaitable[tuple[str, int]]]


class SentinelLink(Link):
    """`redis+sentinel://[user:password@]host:port,host:port/service[/db]`.

    Each new connection asks the sentinels anew. A connection ends when its server dies, is demoted (the sentinels see
    to that), or refuses a write; so a failover is followed by the resends that a lost connection has anyway.

    Args:
        url: of the sentinels. The user and password are the servers'; those of the sentinels are its parameters
            `sentinel_username` and `sentinel_password`.

    Raises:
        InvalidConfigError: the URL names no service, or is broken otherwise.
    """

    def __init__(self, url: str, options: Mapping[str, Any] | None = None, **settings: Any) -> None:
        parts = urlsplit(url)
        names = [name for name in parts.path.split("/") if name]
        if len(names) not in (1, 2) or (len(names) == 2 and not names[1].isdigit()):
            raise InvalidConfigError(
                f"redis_url {without_password(url)!r} does not say which service: write "
                "redis+sentinel://host:26379,host:26379/service, or …/service/db",
                field="redis_url",
            )
        service = unquote(names[0])
        query = dict(parse_qsl(parts.query, keep_blank_values=True))
        user, password = query.pop("sentinel_username", None), query.pop("sentinel_password", None)
        secure = parts.scheme.startswith("rediss")
        credentials = parts.netloc.rpartition("@")[0]
        inner = f"{'rediss' if secure else 'redis'}://{credentials}{'@' if credentials else ''}primary"
        inner += f"/{names[1] if len(names) == 2 else 0}" + (f"?{urlencode(query)}" if query else "")
        super().__init__(inner, options, **settings)
        self.where = without_password(url)
        tls = {key: value for key, value in self._pool.connection_kwargs.items() if key.startswith("ssl_")}
        self._sentinels = Sentinel(
            hosts_of(url, 26379),
            sentinel_kwargs={
                "username": user, "password": password, "socket_timeout": ASK_S, "socket_connect_timeout": ASK_S,
                "retry": Retry(NoBackoff(), 0), **({"ssl": True, **tls} if secure else {}),
            },
        )  # fmt: skip

        one_asks = asyncio.Lock()

        async def find() -> tuple[str, int]:
            async with one_asks:  # redis-py puts the one that answered first in its list; two at once lose one of them
                return await self._sentinels.discover_master(service)

        self._pool.connection_class = _to_primary(cast("type[Connection]", self._pool.connection_class), find)

    async def close(self) -> None:
        await super().close()
        for client in self._sentinels.sentinels:
            await client.aclose()


def _to_primary(base: type[Connection], find: Find) -> type[Connection]:
    """Connections that look for their server when they connect."""

    class ToPrimary(base):
        async def _connect(self) -> None:
            self.host, self.port = await find()
            await super()._connect()

    return ToPrimary
