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
from collections.abc import Awaitable, Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NoReturn

from redsched.checks import check_name, check_queue, int_between, seconds_to_ms
from redsched.client.core import Client
from redsched.context import current_event
from redsched.errors import StoreError
from redsched.jobs.ids import new_id
from redsched.reactive.idempotency import Origin
from redsched.reactive.subscription import Subscription
from redsched.store.scripts import load

if TYPE_CHECKING:
    from redsched.store.wire import Wire

__all__ = ["RedisStream", "StreamEvent", "consume", "once_for_each"]

log = logging.getLogger("redsched.reactive")

Handler = Callable[[Any], Awaitable[Any]]

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
    """How often an event is given to a handler; then it goes to the stream `<name>:dead`, with the error."""
    redeliver_after: float = 30.0
    """Seconds after which an event whose handler raised, or whose consumer died, is given to a consumer again."""
    remember: float = 7 * 86_400.0
    """Seconds for which it is remembered what an event did, so that it is not done again."""

    def __post_init__(self) -> None:
        check_name(self.name, "name")
        check_queue(self.group, "group")
        check_queue(self.start, "start")
        int_between(self.max_deliveries, "max_deliveries", 1)
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
        """The field `type`."""
        return self.fields.get("type")

    def __getitem__(self, name: str) -> str:
        return self.fields[name]

    def get(self, name: str, default: str | None = None) -> str | None:
        """A field, if it is there."""
        return self.fields.get(name, default)


def once_for_each(stream: RedisStream, handle: Handler) -> Handler:
    """The handler, with each call of it acting for its event from the start: also when it is tried again at once."""

    async def handle_once(event: StreamEvent) -> None:
        with _acting_for(Origin(stream.name, stream.group, event.id, round(stream.remember * 1000))):
            await handle(event)

    return handle_once


async def consume(client: Client, stream: RedisStream, handle: Handler, subscription: Subscription) -> None:
    """Read and handle events until cancelled; goes on after Redis was away."""
    store = await client.store()
    consumer = _Consumer(store.wire.at(stream.name), stream, handle, subscription)
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
    def __init__(self, link: Wire, stream: RedisStream, handle: Handler, subscription: Subscription) -> None:
        self._subscription = subscription
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
                await self._take_over()
                look_again_at = time.monotonic() + pause
            await self._read(min(BLOCK_S, max(0.01, look_again_at - time.monotonic())))

    async def _read(self, seconds: float) -> None:
        stream = self._stream
        reply = await self._link.command(
            "XREADGROUP", "GROUP", stream.group, self._name, "COUNT", BATCH, "BLOCK", max(1, round(seconds * 1000)),
            "STREAMS", stream.name, ">", hold=self._hold, timeout=seconds + 10,
        )  # fmt: skip
        for _, entries in reply or ():
            await self._all(entries, 1)

    async def _take_over(self) -> None:
        """Events that were not acknowledged for too long, because their consumer died or their handler raised.

        One after the other, so that an event whose handler kills its process is alone in being counted as delivered.
        """
        stream, start = self._stream, "-"
        idle_ms = round(stream.redeliver_after * 1000)
        while left := await self._link.command(
            "XPENDING", stream.name, stream.group, "IDLE", idle_ms, start, "+", BATCH
        ):
            for entry_id, _, _, deliveries in left:
                claimed = await self._link.command(
                    "XCLAIM", stream.name, stream.group, self._name, idle_ms, entry_id
                )  # empty if another consumer was first, or it is no longer in the stream
                await self._all(claimed, deliveries + 1)
            start = f"({left[-1][0].decode()}"

    async def _all(self, entries: Sequence[tuple[bytes, list[bytes]]], deliveries: int) -> None:
        """Handle events one after the other; meanwhile other consumers must not take them for abandoned."""
        waiting = [entry_id for entry_id, _ in entries]
        keeper = asyncio.create_task(self._keep(waiting))
        try:
            for entry_id, flat in entries:
                async with self._subscription.one():
                    await self._one(entry_id.decode(), flat, deliveries)
                waiting.remove(entry_id)
        finally:
            keeper.cancel()

    async def _keep(self, waiting: Sequence[bytes]) -> None:
        stream = self._stream
        while True:
            await asyncio.sleep(stream.redeliver_after / 3)
            with contextlib.suppress(StoreError):
                await self._link.command(
                    "XCLAIM", stream.name, stream.group, self._name, 0, *waiting, "IDLE", 0, "JUSTID"
                )

    async def _one(self, entry_id: str, flat: list[bytes], deliveries: int) -> None:
        stream = self._stream
        texts = [value.decode(errors="replace") for value in flat]
        event = StreamEvent(stream.name, entry_id, dict(zip(texts[::2], texts[1::2], strict=True)), deliveries)
        if deliveries > stream.max_deliveries:
            await self._bury(entry_id, flat, f"given {deliveries - 1} times, and its consumers ended without a word")
            return
        try:
            await self._handle(event)
        except Exception as error:
            if deliveries < stream.max_deliveries:
                log.warning(
                    "the handler raised for the event %s of %r, in delivery %d; it comes again",
                    entry_id, stream.name, deliveries, exc_info=True,
                )  # fmt: skip
                return
            await self._bury(entry_id, flat, f"{type(error).__name__}: {error}")
        else:
            await self._link.command("XACK", stream.name, stream.group, entry_id)

    async def _bury(self, entry_id: str, flat: Sequence[bytes], why: str) -> None:
        stream = self._stream
        log.error("the event %s of %r is put to %r: %s", entry_id, stream.name, f"{stream.name}:dead", why)
        told = ["redsched_id", entry_id, "redsched_error", why[:1000]]
        await self._link.command("XADD", f"{stream.name}:dead", "*", *flat, *told)
        await self._link.command("XACK", stream.name, stream.group, entry_id)

    async def leave(self) -> None:
        """Take this consumer from the group, if it owes nothing."""
        await self._link.free(self._hold)
        script = load("forget")
        with contextlib.suppress(StoreError):
            packed = script.pack({"stream": self._stream.name}, {"group": self._stream.group, "consumer": self._name})
            await self._link.script(script, packed)


@contextlib.contextmanager
def _acting_for(origin: Origin) -> Generator[None]:
    token = current_event.set(origin)
    try:
        yield
    finally:
        current_event.reset(token)
