"""The connections of one event loop to one server. Nothing here is shared with another loop, thread or process."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Final

from redis.asyncio import BlockingConnectionPool, ConnectionPool
from redis.asyncio.connection import AbstractConnection

from redsched.runtime import forks
from redsched.runtime.loops import LoopBound

__all__ = ["Connections", "abandon", "forsake"]

MAX_SPARE: Final = 8


class Connections(LoopBound):
    """A pool, the connections that are held under a name, and some that are ready for the next commands.

    Args:
        pool: of this loop alone.
    """

    def __init__(self, pool: BlockingConnectionPool) -> None:
        self.pool = pool
        self.max_connections: int = pool.max_connections
        # One limit for a command and its reply, in Link: redis-py makes a task for each command that it gives a limit,
        # and so sends it only when all else that can run has run. It keeps its own while a connection is made: one
        # that is broken off half way through the greeting must not come back to the pool.
        self.limit: float | None = pool.connection_kwargs.get("socket_timeout")
        self.held: dict[str, AbstractConnection] = {}
        self._spare: list[AbstractConnection] = []
        """Connections for the next commands: taking one from the pool costs as much as the rest of a command."""
        self._out = 0
        """Connections that the pool has lent, plus those that commands wait for."""
        self.is_closed: bool = False

    async def lend(self) -> AbstractConnection:
        """Borrow a connection for exclusive use."""
        while self._spare:
            connection = self._spare.pop()
            if not _is_over(connection):
                return connection
            await self.discard(connection)
        self._out += 1
        try:
            connection = await self.pool.get_connection()
        except BaseException:
            self._out -= 1
            # A connection whose creation was cancelled is among these, half way through the greeting: the next reply
            # on it would be the greeting's.
            await self.pool.disconnect(inuse_connections=False)
            raise
        connection.socket_timeout = None
        return connection

    async def put_aside(self, connection: AbstractConnection) -> None:
        """Return a connection. A command that waits for the pool gets it."""
        if self.is_closed:  # in the meantime: it will not be used again
            await self.discard(connection)
        elif self._out < self.max_connections and len(self._spare) < MAX_SPARE:
            self._spare.append(connection)
        else:
            await self._return(connection)

    async def discard(self, connection: AbstractConnection) -> None:
        """Close a connection on which a reply may still arrive: it cannot be used again."""
        await connection.disconnect(nowait=True)
        await self._return(connection)

    async def drop(self, name: str) -> None:
        """Discard a held connection."""
        connection = self.held.pop(name, None)
        if connection is not None:
            await self.discard(connection)

    async def free(self, name: str) -> None:
        """Give a held connection back."""
        connection = self.held.pop(name, None)
        if connection is not None:
            await self.put_aside(connection)

    async def _return(self, connection: AbstractConnection) -> None:
        self._out -= 1
        connection.socket_timeout = self.limit
        await self.pool.release(connection)

    async def close(self) -> None:
        """Close every connection; one that is being made, or in use, once its command is over."""
        self.is_closed = True
        for name in list(self.held):
            await self.drop(name)
        while self._spare:
            await self._return(self._spare.pop())
        await self.pool.disconnect(inuse_connections=True)

    def abandon(self) -> None:
        """Drop the connections of a loop that was closed before they were."""
        abandon(self.pool)

    def forsake(self) -> None:
        """Close this child's copies of the sockets. The connections belong to the parent."""
        forsake(self.pool)


def abandon(pool: ConnectionPool) -> None:
    """Close the connections of a pool whose event loop is closed."""
    for connection in _connections(pool):
        if (writer := connection._writer) is not None:
            connection._reader = connection._writer = None
            _end_without_loop(writer.transport)


def forsake(pool: ConnectionPool) -> None:
    """Close a forked child's copies of the sockets of a pool: see `forks.close_copy`."""
    for connection in _connections(pool):
        writer = connection._writer
        socket = None if writer is None else writer.get_extra_info("socket")
        if socket is not None:
            forks.close_copy(socket.fileno())
            forks.keep_for_ever(connection)


def _connections(pool: ConnectionPool) -> Iterator[AbstractConnection]:
    yield from [*pool._available_connections, *pool._in_use_connections]  # those that are being made, too


def _end_without_loop(transport: object) -> None:
    """Do what the loop would do in its next turn. It is closed, so it accepts no callbacks."""
    inner = getattr(getattr(transport, "_ssl_protocol", None), "_transport", None)  # under TLS
    for each in (transport, inner):
        for name, arguments in (("abort", ()), ("_call_connection_lost", (None,))):  # the second: of asyncio's own
            with contextlib.suppress(RuntimeError):
                getattr(each, name, lambda *_: None)(*arguments)


def _is_over(connection: AbstractConnection) -> bool:
    """Whether the server closed it while it was idle."""
    reader, writer = connection._reader, connection._writer
    return reader is None or writer is None or reader.at_eof() or writer.is_closing()
