"""A subscription ends when it is closed, not before, and finishes the events that it has accepted."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from typing import Any

import pytest

from redsched import ReactiveTaskProcessor, StreamEvent
from redsched.testing import Kit
from tests.reactive.orders import Orders, subscribed
from tests.reactive.test_sources import Plain


async def cancelled_inside() -> None:
    """What a handler may await: something that is cancelled, without the handler being cancelled itself."""
    future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    future.cancel()
    await future


async def test_events_from_other_threads_that_have_just_been_given_are_handled(redsched_kit: Kit) -> None:
    seen: list[int] = []

    async def handle(event: int) -> None:
        seen.append(event)

    source = Plain()
    async with ReactiveTaskProcessor(redsched_kit.scheduler) as processor:
        processor.subscribe(source, handle)
        await asyncio.sleep(0)
        thread = threading.Thread(target=lambda: [source.on_next(number) for number in range(10)])
        thread.start()
        thread.join()
    assert seen == list(range(10))


async def test_the_handler_of_an_async_iterator_finishes(redsched_kit: Kit) -> None:
    seen: list[int] = []
    started = asyncio.Event()

    async def numbers() -> AsyncIterator[int]:
        for number in range(9):
            yield number

    async def handle(event: int) -> None:
        started.set()
        await asyncio.sleep(0.05)
        seen.append(event)

    async with ReactiveTaskProcessor(redsched_kit.scheduler) as processor:
        processor.subscribe(numbers(), handle)
        await started.wait()
    assert seen == [0], "what was begun is finished, and nothing else begun"


async def test_the_handler_of_a_stream_finishes_and_its_event_is_acknowledged(
    redsched_kit: Kit, orders: Orders
) -> None:
    seen: list[str] = []
    started = asyncio.Event()

    async def handle(event: StreamEvent) -> None:
        started.set()
        await asyncio.sleep(0.05)
        seen.append(event["order_id"])

    await orders.add(order_id="1")
    await orders.add(order_id="2")
    async with await subscribed(orders, handle, redeliver_after=30):
        await started.wait()
    assert seen == ["1"]
    assert await orders.pending() <= 1


@pytest.mark.parametrize("ticks", range(12))
async def test_it_can_be_closed_at_any_moment(redsched_kit: Kit, orders: Orders, ticks: int) -> None:
    async def handle(event: Any) -> None: ...

    processor = await subscribed(orders, handle)
    for _ in range(ticks):
        await asyncio.sleep(0)
    await asyncio.wait_for(processor.close(drain=False), 5)


async def test_something_that_is_cancelled_inside_a_handler_does_not_end_its_subscription(
    redsched_kit: Kit, caplog: pytest.LogCaptureFixture
) -> None:
    seen: list[int] = []

    async def handle(event: int) -> None:
        if event == 0:
            await cancelled_inside()
        seen.append(event)

    source = Plain()
    async with ReactiveTaskProcessor(redsched_kit.scheduler) as processor:
        processor.subscribe(source, handle)
        source.on_next(0)
        source.on_next(1)
    assert seen == [1]
    assert "was cancelled" in caplog.text


async def test_the_event_of_a_handler_in_which_something_is_cancelled_comes_again(
    redsched_kit: Kit, orders: Orders
) -> None:
    deliveries: list[int] = []

    async def handle(event: StreamEvent) -> None:
        deliveries.append(event.deliveries)
        if event.deliveries == 1:
            await cancelled_inside()

    await orders.add(order_id="1")
    async with await subscribed(orders, handle):
        await orders.acknowledged()
    assert deliveries == [1, 2]


async def test_a_subscription_that_ended_holds_no_connection(redsched_kit: Kit, orders: Orders) -> None:
    async def handle(event: StreamEvent) -> None:
        await asyncio.sleep(30)

    link = (await redsched_kit.scheduler.store()).link
    for _ in range(link.max_connections + 5):
        await orders.add(order_id="1")
        processor = await subscribed(orders, handle)
        async with asyncio.timeout(10):
            while not await _pending(orders):
                await asyncio.sleep(0.002)
        await processor.close(drain=False)
        await orders.command("DEL", orders.name)


async def _pending(orders: Orders) -> int:
    groups = await orders.command("XINFO", "GROUPS", orders.name)
    return int(groups[0][groups[0].index(b"pending") + 1]) if groups else 0
