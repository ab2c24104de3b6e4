"""An event that comes again: what it did is not done again, what it did not do is done, and nothing is lost."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

from redsched import (
    BackgroundTaskScheduler,
    JobLookupError,
    ReactiveTaskProcessor,
    RetryPolicy,
    StreamEvent,
)
from redsched.testing import Kit, kit
from tests.reactive.orders import Orders, consumer, subscribed

ran: list[Any] = []


async def step(what: str) -> None:
    ran.append(what)


async def delivered_and_failed(orders: Orders, handler: Any, **settings: Any) -> None:
    """One delivery of the event, whose handler raises after its work."""
    raised = asyncio.Event()

    async def handle(event: StreamEvent) -> None:
        await handler(event)
        raised.set()
        raise ConnectionError

    async with await subscribed(orders, handle, **{"redeliver_after": 60, **settings}):
        await asyncio.wait_for(raised.wait(), 10)


async def test_a_handler_that_is_tried_again_at_once_schedules_once(redsched_kit: Kit, orders: Orders) -> None:
    scheduler, tries = redsched_kit.scheduler, list[int]()

    async def handle(event: StreamEvent) -> None:
        tries.append(event.deliveries)
        await scheduler.schedule_delayed_task("step", step, 60, args=["x"])
        if len(tries) < 3:
            raise ConnectionError

    await orders.add(order_id="7")
    async with ReactiveTaskProcessor(scheduler) as processor:
        processor.subscribe(orders.source(), handle, retry=RetryPolicy(max_attempts=5, initial_delay=0))
        await orders.acknowledged()
    assert tries == [1, 1, 1]
    assert len(await scheduler.get_jobs()) == 1


async def test_another_remember_does_not_make_it_forget(redsched_kit: Kit, orders: Orders) -> None:
    ran.clear()

    async def handle(event: StreamEvent) -> None:
        await redsched_kit.scheduler.schedule_immediate_task("step", step, args=["x"])

    await orders.add(order_id="7")
    await delivered_and_failed(orders, handle, remember=1000)
    await redsched_kit.run_due()
    await asyncio.sleep(0.1)
    async with await subscribed(orders, handle, remember=2000):
        await orders.acknowledged()
    await redsched_kit.run_due()
    assert ran == ["x"]


async def test_what_is_done_again_is_not_forgotten_sooner(redsched_kit: Kit, orders: Orders) -> None:
    async def handle(event: StreamEvent) -> None:
        await redsched_kit.scheduler.schedule_delayed_task("step", step, 60, args=["x"])
        if event.deliveries < 2:
            raise ConnectionError

    await orders.add(order_id="7")
    async with await subscribed(orders, handle, remember=86_400):
        await orders.acknowledged()
    [key] = await orders.command("KEYS", f"*{orders.kit.scheduler.prefix}*requests:event/*")
    assert await orders.command("PTTL", key) > 86_000_000


async def test_a_call_that_finds_no_job_any_more_does_not_swallow_the_next(redsched_kit: Kit, orders: Orders) -> None:
    ran.clear()
    scheduler = redsched_kit.scheduler
    await scheduler.schedule_immediate_task("old", step, args=["old"], job_id="old")

    async def handle(event: StreamEvent) -> None:
        with contextlib.suppress(JobLookupError):
            await scheduler.run_now("old")
        if event.deliveries == 1:
            await redsched_kit.run_due()
            raise ConnectionError
        await scheduler.schedule_immediate_task("step", step, args=["new"])

    await orders.add(order_id="7")
    async with await subscribed(orders, handle):
        await orders.acknowledged()
    await redsched_kit.run_due()
    assert ran[-1] == "new"


async def test_a_job_that_was_modified_and_has_ended_is_no_error(redsched_kit: Kit, orders: Orders) -> None:
    """Its consumer died between modifying it and the next call; the job ran before the event came again."""
    ran.clear()
    scheduler = redsched_kit.scheduler
    await scheduler.schedule_delayed_task("old", step, 60, args=["old"], job_id="old")
    names: list[str] = []

    async def handle(event: StreamEvent) -> None:
        names.append((await scheduler.modify_job("old", name=f"name {event.deliveries}")).name)
        await scheduler.reschedule_job("old", run_at=await scheduler.now())
        if event.deliveries == 1:
            await redsched_kit.run_due()
            raise ConnectionError
        await scheduler.schedule_immediate_task("step", step, args=["new"])

    await orders.add(order_id="7")
    async with await subscribed(orders, handle):
        await orders.acknowledged()
    await redsched_kit.run_due()
    assert ran == ["old", "new"]
    assert names == ["name 1", "name 1"], "as it was modified the first time"


async def test_what_was_refused_is_asked_for_again(redsched_kit: Kit, orders: Orders) -> None:
    """An order's `paused` can come before its `placed`: then it waits for it."""
    scheduler = redsched_kit.scheduler

    async def handle(event: StreamEvent) -> None:
        if event.deliveries == 2:
            await scheduler.schedule_delayed_task("step", step, 60, args=["x"], job_id="late")
        await scheduler.pause_job("late")

    await orders.add(order_id="7")
    async with await subscribed(orders, handle):
        await orders.acknowledged()
    job = await scheduler.get_job("late")
    assert job is not None
    assert job.state == "paused"


async def test_calls_side_by_side_are_each_done_once_while_time_jumps(redsched_kit: Kit, orders: Orders) -> None:
    scheduler = redsched_kit.scheduler

    async def handle(event: StreamEvent) -> None:
        names = ["c", "a", "b"] if event.deliveries == 1 else ["b", "c", "a"]
        await asyncio.gather(*(scheduler.schedule_interval(n, step, minutes=1, args=[n]) for n in names))
        if event.deliveries < 3:
            raise ConnectionError

    await scheduler.now()
    other = BackgroundTaskScheduler(scheduler.redis_url, scheduler.prefix, declared_tasks=False)
    async with kit(other, clean=False) as second:
        await second.travel(hours=1)  # which this process' idea of the time does not know yet
    await orders.add(order_id="7")
    async with await subscribed(orders, handle):
        await orders.acknowledged()
    assert sorted(job.name for job in await scheduler.get_jobs()) == ["a", "b", "c"]


async def test_a_slow_handler_is_not_called_by_another_consumer_meanwhile(redsched_kit: Kit, orders: Orders) -> None:
    seen: list[str] = []

    async def handle(event: StreamEvent) -> None:
        seen.append(event["order_id"])
        await asyncio.sleep(0.5)

    await orders.add(order_id="1")
    await orders.add(order_id="2")
    settings = {"redeliver_after": 0.15}
    async with await subscribed(orders, handle, **settings), await subscribed(orders, handle, **settings):
        await orders.acknowledged()
    assert sorted(seen) == ["1", "2"]


async def test_an_event_that_kills_its_consumer_ends_among_the_dead_alone(
    redsched_kit: Kit, redsched_url: str, orders: Orders
) -> None:
    await orders.add(type="order_placed", order_id="poison")
    for number in range(3):
        await orders.add(type="order_placed", order_id=str(number))
    for _ in range(3):
        process = await consumer(orders, redsched_url, "poison")
        assert await process.wait() == -9
        await asyncio.sleep(0.1)
    process = await consumer(orders, redsched_url, "poison")
    try:
        await orders.acknowledged()
    finally:
        process.kill()
        await process.wait()
    [(_, flat)] = await orders.command("XRANGE", f"{orders.name}:dead", "-", "+")
    dead = dict(zip(flat[::2], flat[1::2], strict=True))
    assert dead[b"order_id"] == b"poison"
    assert b"3 times" in dead[b"redsched_error"]
    tags = {job.tags[0] for job in await redsched_kit.scheduler.get_jobs()}
    assert tags == {"0", "1", "2"}


async def test_what_a_dead_consumer_left_is_found_behind_what_others_hold(redsched_kit: Kit, orders: Orders) -> None:
    seen: list[str] = []

    async def handle(event: StreamEvent) -> None:
        seen.append(event["order_id"])

    await orders.command("XGROUP", "CREATE", orders.name, "orders", "0", "MKSTREAM")
    ids = [await orders.add(order_id=str(number)) for number in range(130)]
    await orders.command("XREADGROUP", "GROUP", "orders", "gone", "COUNT", 130, "STREAMS", orders.name, ">")
    await asyncio.sleep(2)
    await orders.command("XCLAIM", orders.name, "orders", "alive", 0, *ids[:120], "JUSTID")
    async with await subscribed(orders, handle, redeliver_after=2):
        await orders.acknowledged(120)
    assert seen == [str(number) for number in range(120, 130)]


async def test_an_event_that_reaches_a_consumer_as_it_leaves_is_not_lost(
    redsched_kit: Kit, orders: Orders, monkeypatch: Any
) -> None:
    """Its read was given up here, but Redis does not know yet, and gives it an event."""
    link = (await redsched_kit.scheduler.store()).link
    seen: list[str] = []

    async def handle(event: StreamEvent) -> None:
        seen.append(event["order_id"])

    await orders.add(order_id="1")
    processor = await subscribed(orders, handle)
    await orders.acknowledged()
    [row] = await orders.command("XINFO", "CONSUMERS", orders.name, "orders")
    name, forget = dict(zip(row[::2], row[1::2], strict=True))[b"name"], link.script

    async def late(script: Any, *args: Any, **kwargs: Any) -> Any:
        if script.name == "forget":
            await orders.add(order_id="2")
            await link.command("XREADGROUP", "GROUP", "orders", name, "COUNT", 1, "STREAMS", orders.name, ">")
        return await forget(script, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(link, "script", late)
        await processor.close()
    async with await subscribed(orders, handle):
        await orders.acknowledged()
    assert seen == ["1", "2"]


async def test_a_stream_that_is_deleted_is_made_anew(redsched_kit: Kit, orders: Orders) -> None:
    seen: list[str] = []

    async def handle(event: StreamEvent) -> None:
        seen.append(event["order_id"])

    await orders.add(order_id="1")
    async with await subscribed(orders, handle):
        await orders.acknowledged()
        await orders.command("DEL", orders.name)
        await orders.add(order_id="2")
        await orders.acknowledged()
    assert seen == ["1", "2"]
