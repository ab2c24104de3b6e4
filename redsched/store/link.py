"""The wire to one server: connections, and errors with our names.

redis-py's own retries are off: it would repeat a command silently, and only redsched knows which calls
may be repeated (those whose scripts say `Again`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, Final

import hiredis
import redis.exceptions as redis_errors
from redis.asyncio import BlockingConnectionPool
from redis.asyncio.connection import (
    AbstractConnection,
    Connection,
    DefaultParser,
    SSLConnection,
    UnixDomainSocketConnection,
)
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from redsched.errors import InvalidConfigError, RedschedError, StoreError, StoreReadOnlyError, StoreReplyError
from redsched.runtime.loops import PerLoop
from redsched.settings import default_of
from redsched.store.connections import Connections
from redsched.store.failures import translate
from redsched.store.urls import ServerUrl, parse_url
from redsched.store.wire import Wire
from redsched.tasks.signatures import signature_of

__all__ = ["Link"]

SOCKET_TIMEOUT_S: Final = 10.0
"""How long a command may take before the connection counts as broken. A script takes milliseconds."""

MAX_REPLY_BYTES: Final = 128 * 1024 * 1024
"""The longest reply that is read. The scripts bound their replies at some 20 MB; this bound is for other replies,
such as an entry that another program put into the events."""


class _BoundedParser(DefaultParser):  # type: ignore[misc, valid-type]
    """redis-py's parser of replies, for those that are not endless."""

    _received = 0

    async def read_response(self, *args: Any, **how: Any) -> Any:
        self._received = 0
        return await super().read_response(*args, **how)

    def _count(self, length: int) -> None:
        self._received += length
        if self._received > MAX_REPLY_BYTES:
            raise StoreReplyError(f"Redis began a reply of more than {MAX_REPLY_BYTES:,} bytes; the rest was not read")

    async def read_from_socket(self) -> Any:  # of the parser on hiredis
        before = self._reader.len()
        told = await super().read_from_socket()
        self._count(self._reader.len() - before)
        return told

    async def _read(self, length: int) -> bytes:  # of the parser in Python
        self._count(length)
        return await super()._read(length)


def _pool_options(url: ServerUrl) -> dict[str, Any]:
    """How redis-py connects to one server.

    Raises:
        InvalidConfigError: this redis-py does not know one of the options.
    """
    options = {"socket_timeout": SOCKET_TIMEOUT_S, "socket_connect_timeout": 5.0, **url.options}
    if url.kind == "unix":
        return {"connection_class": UnixDomainSocketConnection, "path": url.path, **options}
    [(host, port)] = url.hosts
    if url.secure:
        known = signature_of(SSLConnection.__init__).parameters
        if unknown := [name for name in options if name.startswith("ssl_") and name not in known]:
            raise InvalidConfigError(
                f"{unknown[0]} needs a newer redis-py: pip install -U redis", field="redis_options"
            )
    return {"connection_class": SSLConnection if url.secure else Connection, "host": host, "port": port, **options}


class Link(Wire):
    """Connections to one server. Made without I/O; connects when first used, and again after `close()`.

    Each event loop that uses it has separate connections.
    """

    def __init__(
        self,
        url: str | ServerUrl,
        options: Mapping[str, Any] | None = None,
        *,
        max_connections: int = default_of("connection_pool_size"),
        health_check_interval: float = default_of("health_check_interval"),
        redirected: bool = False,
    ) -> None:
        """`redirected`: the caller is a cluster, which handles MOVED and ASK itself."""
        if not isinstance(url, ServerUrl):
            url = parse_url(url, options)
        self.max_connections = max_connections
        self._redirected = redirected
        self._checks_health = health_check_interval > 0
        self._pool = BlockingConnectionPool(
            max_connections=max_connections,
            health_check_interval=health_check_interval,
            timeout=SOCKET_TIMEOUT_S,
            retry=Retry(NoBackoff(), 0),
            retry_on_error=[],
            protocol=2,
            decode_responses=False,
            parser_class=_BoundedParser,
            **_pool_options(url),
        )
        self.where: str = url.shown
        self._secure = url.secure
        self._connected = False
        """Whether the server has ever been reached: then the URL is right."""
        self._loops = PerLoop(self._connections)

    def _connections(self) -> Connections:
        """Create the connections of one event loop. They are not connected yet."""
        return Connections(self._another_pool(self._pool.connection_class))

    def _another_pool(self, connection_class: type[AbstractConnection]) -> BlockingConnectionPool:
        """A copy of the first pool, which is never connected and only keeps the settings."""
        settings = dict(self._pool.connection_kwargs)
        return BlockingConnectionPool(self.max_connections, SOCKET_TIMEOUT_S, connection_class, **settings)

    def at(self, key: str) -> Link:
        """The way to a key: one server has them all."""
        return self

    async def close(self) -> None:
        """Close every connection of the running event loop. A later call opens new ones."""
        await self._loops.close()

    async def free(self, name: str) -> None:
        await self._loops.get().free(name)

    def _translated(self, error: BaseException) -> RedschedError:
        return translate(error, self.where, secure=self._secure, connected=self._connected)

    async def _exchange(self, connection: AbstractConnection, command: Sequence[Any]) -> Any:
        # hiredis packs in C what redis-py's async connections pack in Python.
        try:
            packed = hiredis.pack_command(tuple(command))  # pyright: ignore[reportArgumentType]  its stub has one element
        except UnicodeEncodeError:  # a stored name that is not text: send it as it was read
            parts = [part.encode(errors="surrogateescape") if isinstance(part, str) else part for part in command]
            packed = hiredis.pack_command(tuple(parts))  # pyright: ignore[reportArgumentType]
        await connection.send_packed_command(packed, check_health=self._checks_health)
        return await connection.read_response()

    async def command(self, *command: Any, hold: str | None = None, timeout: float | None = None) -> Any:
        own = self._loops.get()
        connection: AbstractConnection | None = None
        clean = False
        try:
            connection = own.held.get(hold) if hold else None
            if connection is None:
                connection = await own.lend()
                self._connected = True
                if hold:
                    own.held[hold] = connection
            async with asyncio.timeout(own.limit if timeout is None else timeout):
                reply = await self._exchange(connection, command)
            clean = True
        except redis_errors.ResponseError as error:
            clean = True  # Redis answered: the connection is in step
            if isinstance(error, redis_errors.NoScriptError):
                raise
            if isinstance(error, redis_errors.AskError):  # MOVED too
                if self._redirected:
                    raise
                raise StoreError(
                    f"Redis at {self.where} is a node of a cluster: use redis+cluster://host:port"
                ) from error
            translated = self._translated(error)
            if isinstance(translated, StoreReadOnlyError):
                clean = False  # after a failover the name may lead to another server: connect again
            raise translated from error
        except (redis_errors.RedisError, OSError, TimeoutError) as error:
            raise self._translated(error) from error
        finally:
            if connection is not None:
                if not clean:
                    # A reply may still arrive: the connection cannot be used again.
                    if hold:
                        await own.drop(hold)
                    else:
                        await own.discard(connection)
                elif not hold:
                    await own.put_aside(connection)
                elif own.is_closed:
                    await own.drop(hold)
        return reply
