"""A TCP proxy with faults, between a client and Redis, in the test's own event loop."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass
from typing import Self


@dataclass
class _Fault:
    kind: str
    matching: bytes


class FaultProxy:
    """`async with FaultProxy("127.0.0.1", 6379) as proxy:` then connect to `proxy.url`.

    latency: seconds added to each chunk, each way. stall(on): pass nothing on, nothing closes. refusing: close each new
    connection. drop_replies: the server gets commands, the client no answer. cut(): close every open connection now.
    accepted: connections so far. dropped: replies and requests swallowed so far.
    """

    def __init__(self, host: str, port: int) -> None:
        self.target = (host, port)
        self.port = 0
        self.accepted = 0
        self.dropped = 0
        self.latency = 0.0
        self.refusing = False
        self.drop_replies = False
        self._faults: list[_Fault] = []
        self._go = asyncio.Event()
        self._go.set()
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}"

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._server.close()
        self.stall(False)
        self.cut()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def stall(self, on: bool = True) -> None:
        if on:
            self._go.clear()
        else:
            self._go.set()

    async def black_hole(self, seconds: float) -> None:
        """Pass nothing on for so long; connections stay open."""
        self.stall()
        await asyncio.sleep(seconds)
        self.stall(False)

    def cut(self) -> None:
        for writer in self._writers:
            writer.transport.abort()

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
        """Faults that are still to come."""
        return len(self._faults)

    def _fault_for(self, data: bytes) -> str | None:
        for index, fault in enumerate(self._faults):
            if fault.matching in data:
                del self._faults[index]
                return fault.kind
        return None

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.accepted += 1
        mine = {writer}
        with contextlib.suppress(OSError):
            if not self.refusing:
                up_reader, up = await asyncio.open_connection(*self.target)
                mine.add(up)
                self._writers |= mine
                state = {"fault": ""}
                await asyncio.gather(
                    self._pump(reader, up, state, replies=False), self._pump(up_reader, writer, state, replies=True)
                )
        for each in mine:
            each.transport.abort()
        self._writers -= mine
        self._tasks.discard(task)

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, state: dict[str, str], *, replies: bool
    ) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(2**20):
                if self.latency:
                    await asyncio.sleep(self.latency)
                await self._go.wait()
                if not replies:
                    fault = self._fault_for(data)
                    if fault == "request":
                        self.dropped += 1
                        break
                    state["fault"] = fault or state["fault"]
                elif state["fault"]:
                    self.dropped += 1
                    if state["fault"] == "half":
                        writer.write(data[: max(1, len(data) // 2)])
                        await writer.drain()
                    break
                elif self.drop_replies:
                    continue
                writer.write(data)
        # One side is gone, or a fault cut it: so the other side ends too.
        for each in list(self._writers):
            if each is writer:
                each.close() if replies and state["fault"] == "half" else each.transport.abort()
