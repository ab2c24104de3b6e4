"""A proxy with faults, between clients and Redis, in the event loop that opens it.

It reads the protocol, so that a fault meets one request or one reply, exactly, however they are cut into packets and
whatever else is in a pipeline.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from dataclasses import dataclass
from typing import Literal, Self
from urllib.parse import unquote

from redsched.errors import InvalidConfigError
from redsched.store.urls import kind_of, parse_url, split_url

__all__ = ["FaultProxy"]

Kind = Literal["reply", "request", "half"]


@dataclass(frozen=True)
class _Fault:
    kind: Kind
    matching: bytes


class _Messages:
    """Cuts a stream of RESP into whole messages. A line that is not RESP (an inline command) is one as well."""

    def __init__(self) -> None:
        self._data = bytearray()
        self._at = 0
        self._missing = 1
        """Values that the message still lacks, as far as its headers were read."""

    def feed(self, chunk: bytes) -> list[bytes]:
        """The messages that are whole now."""
        self._data += chunk
        whole: list[bytes] = []
        while self._scan():
            whole.append(bytes(self._data[: self._at]))
            del self._data[: self._at]
            self._at, self._missing = 0, 1
        return whole

    def _scan(self) -> bool:
        while self._missing:
            line_end = self._data.find(b"\r\n", self._at)
            if line_end < 0:
                return False
            kind, header = chr(self._data[self._at]), self._data[self._at + 1 : line_end]
            after, inside = line_end + 2, 0
            if kind in "$=!":
                size = int(header)
                after += size + 2 if size >= 0 else 0
                if after > len(self._data):
                    return False
            elif kind in "*~>":
                inside = max(0, int(header))
            elif kind in "%|":
                inside = 2 * int(header) + (kind == "|")  # an attribute goes before a value
            self._at = after
            self._missing += inside - 1
        return True


@dataclass(eq=False)
class _Connection:
    client: asyncio.StreamWriter
    server: asyncio.StreamWriter | None
    expected: deque[_Fault | None]
    """For each request whose reply is still to come: what will happen to that reply."""

    def abort(self) -> None:
        for writer in (self.client, self.server):
            if writer is not None:
                writer.transport.abort()


class FaultProxy:
    """`async with FaultProxy("127.0.0.1", 6379) as proxy:` then connect to `proxy.url`; `FaultProxy("/a/redis.sock")`
    leads to a unix socket.

    latency: seconds added to each chunk, each way. stall(on): pass nothing on, nothing closes. refusing: close each new
    connection. drop_replies: the server gets commands, the client no answer. cut(): close every open connection now.
    accepted: connections so far. dropped: replies and requests that faults have met so far.

    The faults of `drop_next_reply`, `drop_next_request` and `cut_mid_reply` wait for a request that contains the bytes
    `matching`, and each ends its connection. One whose connection ends before its reply came waits for the next.
    Only a subscription is beyond it: there is no telling which request a message of RESP2 belongs to.
    """

    def __init__(self, host: str, port: int | None = None) -> None:
        self.target: str | tuple[str, int] = host if port is None else (host, port)
        self.port: int = 0
        self._around_port = ("redis://127.0.0.1:", "")
        self.accepted: int = 0
        self.dropped: int = 0
        self.latency: float = 0.0
        self.refusing = False
        self.drop_replies = False
        self._faults: list[_Fault] = []
        self._go = asyncio.Event()
        self._go.set()
        self._connections: set[_Connection] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        """Where a client connects to."""
        before, after = self._around_port
        return f"{before}{self.port}{after}"

    @classmethod
    def before(cls, url: str) -> Self:
        """A proxy before the server of a URL; the user, the password, the database and the options stay in its `url`.

        Raises:
            InvalidConfigError: the proxy cannot stand before such a URL: with TLS it cannot read the protocol, and the
                servers of a cluster, and those behind sentinels, give clients addresses that lead past it.
        """
        parsed, parts = parse_url(url), split_url(url)
        kind = kind_of(url)
        if parsed.secure:
            raise InvalidConfigError("the fault proxy reads the protocol, and cannot read TLS", field="url")
        if kind == "server":
            made = cls(*parsed.hosts[0])
        elif kind == "unix":
            made = cls(unquote(parts.path))
        else:
            raise InvalidConfigError(f"the fault proxy stands before one server, not before {kind}", field="url")
        path = parts.path if kind == "server" else ""
        credentials = f"{parts.credentials}@" if parts.credentials else ""
        query = f"?{parts.query}" if parts.query else ""
        made._around_port = (f"redis://{credentials}127.0.0.1:", f"{path}{query}")
        return made

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._server.close()
        self.stall(False)
        self.cut()
        for task in self._tasks:
            task.cancel()  # it may be connecting, or in its latency
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def stall(self, on: bool = True) -> None:
        """Pass nothing on, until `stall(False)`; connections stay open."""
        if on:
            self._go.clear()
        else:
            self._go.set()

    async def black_hole(self, seconds: float) -> None:
        """Pass nothing on for so long; connections stay open."""
        self.stall()
        try:
            await asyncio.sleep(seconds)
        finally:
            self.stall(False)

    def cut(self) -> None:
        """Close every open connection now."""
        for connection in self._connections:
            connection.abort()

    def drop_next_reply(self, n: int = 1, *, matching: bytes = b"") -> None:
        """The server carries out the next `n` requests with these bytes in them; the client gets a cut connection."""
        self._faults += [_Fault("reply", matching)] * n

    def drop_next_request(self, n: int = 1, *, matching: bytes = b"") -> None:
        """The server never sees the next `n` such requests; the client gets a cut connection."""
        self._faults += [_Fault("request", matching)] * n

    def cut_mid_reply(self, n: int = 1, *, matching: bytes = b"") -> None:
        """The client gets the first bytes of the reply, then a cut connection."""
        self._faults += [_Fault("half", matching)] * n

    @property
    def pending(self) -> int:
        """Faults that are still to come; those whose request has passed and whose reply has not, too."""
        expected = (fault for connection in self._connections for fault in connection.expected)
        return len(self._faults) + sum(fault is not None for fault in expected)

    def _fault_for(self, request: bytes) -> _Fault | None:
        for index, fault in enumerate(self._faults):
            if fault.matching in request:
                return self._faults.pop(index)
        return None

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.accepted += 1
        connection = _Connection(writer, None, deque())
        self._connections.add(connection)
        try:
            if not self.refusing:
                if isinstance(self.target, str):
                    answers, connection.server = await asyncio.open_unix_connection(self.target)
                else:
                    answers, connection.server = await asyncio.open_connection(*self.target)
                await asyncio.gather(
                    self._pass_requests(reader, connection.server, connection), self._pass_replies(answers, connection)
                )
        except (OSError, asyncio.CancelledError):
            pass  # the server is not there, or this is the end: as a cut for the client
        finally:
            self._faults[:0] = [fault for fault in connection.expected if fault is not None]
            self._connections.discard(connection)
            connection.abort()
            self._tasks.discard(task)

    async def _chunk(self, reader: asyncio.StreamReader) -> bytes:
        data = await reader.read(2**20)
        if data and self.latency:
            await asyncio.sleep(self.latency)
        await self._go.wait()
        return data

    async def _pass_requests(
        self, reader: asyncio.StreamReader, server: asyncio.StreamWriter, connection: _Connection
    ) -> None:
        requests = _Messages()
        with contextlib.suppress(OSError):
            while data := await self._chunk(reader):
                for request in requests.feed(data):
                    fault = self._fault_for(request)
                    if fault is not None and fault.kind == "request":
                        self.dropped += 1
                        connection.abort()
                        return
                    connection.expected.append(fault)
                    server.write(request)
                await server.drain()
        server.transport.abort()  # the client is gone; the replies end as well

    async def _pass_replies(self, reader: asyncio.StreamReader, connection: _Connection) -> None:
        replies, client = _Messages(), connection.client
        with contextlib.suppress(OSError):
            while data := await self._chunk(reader):
                if not all(self._pass_reply(reply, connection) for reply in replies.feed(data)):
                    break
                await client.drain()
        client.close()  # after what was written

    def _pass_reply(self, reply: bytes, connection: _Connection) -> bool:
        """False: a fault has met it."""
        pushed = reply.startswith(b">")
        fault = connection.expected.popleft() if connection.expected and not pushed else None
        if fault is None:
            if not self.drop_replies:
                connection.client.write(reply)
            return True
        self.dropped += 1
        if fault.kind == "half":
            connection.client.write(reply[: len(reply) // 2])
        return False
