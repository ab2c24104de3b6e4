"""Redis Streams as a source of events, whose effect on jobs comes once for each event.

A consumer may die at any point between reading an event and acknowledging it; then another one gets it again. What its
handler asks of the scheduler is numbered by the event (`origin.py`), so that what was done the first time is not
done again.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Generator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NoReturn

from redsched.errors import InvalidInputError, StoreError
from redsched.ids import new_id
from redsched.options import check_name, check_queue, seconds_to_ms
from redsched.origin import Origin, current_origin

if TYPE_CHECKING:
    from redsched.scheduler import BackgroundTaskScheduler
    from redsched.store.link import Link

__all__ = ["RedisStream", "StreamEvent", "consume"]

log = logging.getLogger("redsched.reactive")

BATCH = 10
BLOCK_S = 5.0


@dataclass(frozen=True, slots=True)
class RedisStream:
    """A Redis Stream read by a consumer group: each event goes to one consumer of the group.

    >>> orders = RedisStream("orders", group="scheduler")
    >>> orders.max_deliveries
    5

    Raises:
        InvalidInputError: an argument is wrong.
    """

    name: str
    """The key of the stream, on the scheduler's Redis. It is made if it is not there."""
    group: str = "redsched"
    """Consumers of one group share the events."""
    start: str = "0"
    """Where a new group begins: `0` with what is there already, `$` with what comes."""
    max_deliveries: int = 5
    """How often an event is given to its handler; then it goes to the stream `<name>:dead`, with the error."""
    redeliver_after: float = 30.0
    """Seconds after which an event that was not acknowledged is given to another consumer (or the same)."""
    remember: float = 7 * 86_400.0
    """Seconds for which it is remembered what an event did, so that it is not done again."""

    def __post_init__(self) -> None:
        check_name(self.name, "name")
        check_queue(self.group, "group")
        check_queue(self.start, "start")
        if isinstance(self.max_deliveries, bool) or not isinstance(self.max_deliveries, int) or self.max_deliveries < 1:
            raise InvalidInputError(
                f"max_deliveries is {self.max_deliveries!r}; it must be an int of 1 or more", field="max_deliveries"
            )
        for name in ("redeliver_after", "remember"):
            seconds_to_ms(getattr(self, name), name, minimum_ms=10)


@dataclass(frozen=True, slots=True)
class StreamEvent:
    """An entry of a stream.

    >>> event = StreamEvent("orders", "1700000000000-0", {"type": "order_placed", "order_id": "order-1"})
    >>> event.type, event["order_id"], event.get("amount")
    ('order_placed', 'order-1', None)
    """

    stream: str
    id: str
    fields: Mapping[str, str] = field(default_factory=dict[str, str])
    deliveries: int = 1
    """How often it was given to a handler, this time included."""

    @property
    def type(self) -> str | None:
        """Its field `type`."""
        return self.fields.get("type")

    def __getitem__(self, name: str) -> str:
        return self.fields[name]

    def get(self, name: str, default: str | None = None) -> str | None:
        """A field, if it is there."""
        return self.fields.get(name, default)


async def consume(
    scheduler: BackgroundTaskScheduler, stream: RedisStream, handle: Callable[[Any], Awaitable[Any]]
) -> None:
    """Read and handle events until cancelled; goes on after Redis was away."""
    store = await scheduler.store()
    consumer = _Consumer(store.link, stream, handle)
    try:
        while True:
            try:
                await consumer.run()
            except StoreError as error:
                log.warning("cannot read the stream %r: %s", stream.name, error)
                await asyncio.sleep(0.5)
    finally:
        await consumer.leave()


class _Consumer:
    def __init__(self, link: Link, stream: RedisStream, handle: Callable[[Any], Awaitable[Any]]) -> None:
        self._link = link
        self._stream = stream
        self._handle = handle
        self._name = new_id()
        self._hold = f"stream:{self._name}"

    async def run(self) -> NoReturn:
        stream = self._stream
        try:
            await self._link.command("XGROUP", "CREATE", stream.name, stream.group, stream.start, "MKSTREAM")
        except StoreError as error:
            if "BUSYGROUP" not in str(error):
                raise
        look_again_at = 0.0
        pause = stream.redeliver_after / 2
        while True:
            if time.monotonic() >= look_again_at:
                while await self._take_over():
                    pass
                look_again_at = time.monotonic() + pause
            await self._read(min(BLOCK_S, max(0.01, look_again_at - time.monotonic())))

    async def _read(self, seconds: float) -> None:
        stream = self._stream
        reply = await self._link.command(
            "XREADGROUP", "GROUP", stream.group, self._name, "COUNT", BATCH, "BLOCK", max(1, round(seconds * 1000)),
            "STREAMS", stream.name, ">", hold=self._hold, timeout=seconds + 10,
        )  # fmt: skip
        for _, entries in reply or ():
            for entry_id, flat in entries:
                await self._one(entry_id.decode(), flat, 1)

    async def _take_over(self) -> bool:
        """Events that nobody acknowledged for too long. Returns whether there may be more."""
        stream = self._stream
        idle_ms = round(stream.redeliver_after * 1000)
        claimed = await self._link.command(
            "XAUTOCLAIM", stream.name, stream.group, self._name, idle_ms, "0-0", "COUNT", BATCH
        )
        for entry_id, flat in claimed[1]:
            if flat is None:
                continue  # it was deleted from the stream
            pending = await self._link.command("XPENDING", stream.name, stream.group, entry_id, entry_id, 1)
            await self._one(entry_id.decode(), flat, pending[0][3] if pending else 1)
        return bool(claimed[1])

    async def _one(self, entry_id: str, flat: list[bytes], deliveries: int) -> None:
        stream = self._stream
        texts = [value.decode(errors="replace") for value in flat]
        event = StreamEvent(stream.name, entry_id, dict(zip(texts[::2], texts[1::2], strict=True)), deliveries)
        try:
            with _acting_for(Origin(stream.name, stream.group, entry_id, round(stream.remember * 1000))):
                await self._handle(event)
        except Exception as error:
            if deliveries < stream.max_deliveries:
                log.warning(
                    "the handler raised for the event %s of %r, in delivery %d; it comes again",
                    entry_id, stream.name, deliveries, exc_info=True,
                )  # fmt: skip
                return
            log.exception("the event %s of %r is put to %r", entry_id, stream.name, f"{stream.name}:dead")
            told = ["redsched_id", entry_id, "redsched_error", f"{type(error).__name__}: {error}"[:1000]]
            await self._link.command("XADD", f"{stream.name}:dead", "*", *flat, *told)
        await self._link.command("XACK", stream.name, stream.group, entry_id)

    async def leave(self) -> None:
        """Take this consumer from the group, if it owes nothing."""
        stream = self._stream
        with contextlib.suppress(StoreError):
            owed = await self._link.command("XPENDING", stream.name, stream.group, "-", "+", 1, self._name)
            if not owed:
                await self._link.command("XGROUP", "DELCONSUMER", stream.name, stream.group, self._name)


@contextlib.contextmanager
def _acting_for(origin: Origin) -> Generator[None]:
    token = current_origin.set(origin)
    try:
        yield
    finally:
        current_origin.reset(token)
