"""An event of a Redis Stream becomes its jobs exactly once, wherever its consumer dies, and however often it comes."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from redsched import (
    BackgroundTaskScheduler,
    InvalidInputError,
    RedisStream,
    StreamEvent,
)
from redsched.testing import Kit, kit
from tests.reactive.orders import Orders, consumer, subscribed

Make = Callable[..., Any]
ran: list[Any] = []


async def step(order_id: str, number: int = 0) -> None:
    ran.append((order_id, number))


@pytest.fixture(autouse=True)
def _fresh() -> None:
    ran.clear()


async def test_what_is_there_and_what_comes_is_handled_and_acknowledged(redsched_kit: Kit, orders: Orders) -> None:
    seen: list[StreamEvent] = []

    async def handle(event: StreamEvent) -> None:
        seen.append(event)

    first = await orders.add(type="order_placed", order_id="1")
    async with await subscribed(orders, handle):
        await orders.acknowledged()
        await orders.add(type="order_placed", order_id="2")
        await orders.acknowledged()
    assert [(event.id == first, event["order_id"], event.type) for event in seen] == [
        (True, "1", "order_placed"), (False, "2", "order_placed"),
    ]  # fmt: skip
    [group] = await orders.command("XINFO", "GROUPS", orders.name)
    assert dict(zip(group[::2], group[1::2], strict=True))[b"consumers"] == 0, "it leaves nothing behind"


async def test_two_consumers_share_the_events(redsched_kit: Kit, redsched_url: str, orders: Orders) -> None:
    seen: list[tuple[int, str]] = []

    def handler(number: int) -> Callable[[Any], Awaitable[None]]:
        async def handle(event: StreamEvent) -> None:
            seen.append((number, event["order_id"]))
            await asyncio.sleep(0)

        return handle

    async with await subscribed(orders, handler(1)), await subscribed(orders, handler(2)):
        for number in range(50):
            await orders.add(order_id=str(number))
        await orders.acknowledged()
    assert Counter(order_id for _, order_id in seen) == Counter({str(n): 1 for n in range(50)})


@pytest.mark.parametrize(
    ("kind", "where"),
    [
        ("order_placed", "before"), ("order_placed", "between 0"), ("order_placed", "between 2"),
        ("order_modified", "between 1"), ("order_modified", "after"),
    ],
)  # fmt: skip
async def test_an_event_becomes_its_jobs_once_wherever_its_consumer_is_killed(
    redsched_kit: Kit, redsched_url: str, orders: Orders, where: str, kind: str
) -> None:
    scheduler = redsched_kit.scheduler
    if kind == "order_modified":
        for number in range(2):
            await scheduler.schedule_delayed_task("old", step, delay_minutes=9, args=["7", number], tags=["7"])
    await orders.add(type=kind, order_id="7")

    first = await consumer(orders, redsched_url, where)
    assert await first.wait() == -9
    # What the first one scheduled may run, and be gone, before the event comes again.
    if where != "before":
        await redsched_kit.wait_for("scheduled")
        scheduler.register(step, name="tests.reactive.consumer_main.step")
        await redsched_kit.run_due()
    second = await consumer(orders, redsched_url, "nowhere")
    try:
        await orders.acknowledged()
    finally:
        second.kill()
        await second.wait()
    scheduler.register(step, name="tests.reactive.consumer_main.step")
    await redsched_kit.advance(minutes=20)
    assert sorted(ran) == [("7", 0), ("7", 1), ("7", 2)]


async def test_an_event_that_comes_again_after_its_job_has_run_does_not_run_it_again(
    redsched_kit: Kit, orders: Orders
) -> None:
    scheduler, deliveries = redsched_kit.scheduler, list[int]()

    async def handle(event: StreamEvent) -> None:
        deliveries.append(event.deliveries)
        await scheduler.schedule_immediate_task("step", step, args=[event["order_id"]])
        await scheduler.schedule_immediate_task("step", step, args=[event["order_id"], 1], job_id="named")
        await redsched_kit.run_due()
        if event.deliveries < 3:
            raise ConnectionError("the handler fails after its work is done")

    await orders.add(order_id="7")
    async with await subscribed(orders, handle):
        await orders.acknowledged()
    assert deliveries == [1, 2, 3]
    assert ran == [("7", 0), ("7", 1)]


async def test_what_a_handler_does_to_jobs_is_done_once(redsched_kit: Kit, orders: Orders) -> None:
    scheduler = redsched_kit.scheduler
    await scheduler.schedule_interval("tick", step, minutes=1, args=["tick"], job_id="tick")
    events: list[Any] = []

    async def handle(event: StreamEvent) -> None:
        await scheduler.modify_job("tick", name=f"tick {event.deliveries}")
        await scheduler.reschedule_job("tick", interval=600)
        await scheduler.pause_job("tick")
        await scheduler.resume_job("tick")
        await scheduler.run_now("tick")
        if event.deliveries < 3:
            raise ConnectionError

    await orders.add(order_id="7")
    async with await subscribed(orders, handle):
        await orders.acknowledged()
    await redsched_kit.run_due()
    events = [event.kind for event in await scheduler.get_history("tick")]
    assert Counter(events)["modified"] == 2
    assert (Counter(events)["paused"], Counter(events)["resumed"]) == (1, 1)
    assert ran == [("tick", 0)], "run_now made it due once"
    job = await scheduler.get_job("tick")
    assert job is not None
    assert job.name == "tick 1"


async def test_other_requests_meanwhile_are_not_taken_for_those_of_the_event(redsched_kit: Kit, orders: Orders) -> None:
    scheduler = redsched_kit.scheduler
    inside, go_on = asyncio.Event(), asyncio.Event()

    async def handle(event: StreamEvent) -> None:
        inside.set()
        await go_on.wait()
        await scheduler.schedule_immediate_task("step", step, args=[event["order_id"]])

    async with await subscribed(orders, handle, redeliver_after=30):
        await orders.add(order_id="7")
        await inside.wait()
        for number in range(3):
            await scheduler.schedule_immediate_task("step", step, args=["mine", number])
        go_on.set()
        await orders.acknowledged()
    await redsched_kit.run_due()
    assert sorted(ran) == [("7", 0), ("mine", 0), ("mine", 1), ("mine", 2)]


async def test_time_that_jumps_while_it_schedules_changes_nothing(redsched_kit: Kit, orders: Orders) -> None:
    scheduler = redsched_kit.scheduler

    async def handle(event: StreamEvent) -> None:
        await scheduler.schedule_interval("tick", step, minutes=1, args=[event["order_id"]], max_runs=1)
        if event.deliveries < 2:
            raise ConnectionError

    await scheduler.now()
    other = BackgroundTaskScheduler(scheduler.redis_url, scheduler.prefix, declared_tasks=False)
    async with kit(other, clean=False) as second:
        await second.travel(hours=1)  # which this process' idea of the time does not know yet
    await orders.add(order_id="7")
    async with await subscribed(orders, handle):
        await orders.acknowledged()
    assert len(await scheduler.get_jobs()) == 1


async def test_an_event_that_always_fails_ends_among_the_dead_with_its_error(redsched_kit: Kit, orders: Orders) -> None:
    deliveries: list[int] = []

    async def handle(event: StreamEvent) -> None:
        deliveries.append(event.deliveries)
        raise LookupError("no such pizza")

    await orders.add(type="order_placed", order_id="7")
    async with await subscribed(orders, handle, max_deliveries=3, redeliver_after=0.02):
        await orders.acknowledged()
    assert deliveries == [1, 2, 3]
    [(_, flat)] = await orders.command("XRANGE", f"{orders.name}:dead", "-", "+")
    dead = dict(zip(flat[::2], flat[1::2], strict=True))
    assert dead[b"order_id"] == b"7"
    assert dead[b"redsched_error"] == b"LookupError: no such pizza"


async def test_what_was_done_is_remembered_as_long_as_the_stream_says(redsched_kit: Kit, orders: Orders) -> None:
    async def handle(event: StreamEvent) -> None:
        await redsched_kit.scheduler.schedule_delayed_task("step", step, 60, args=["x"])

    async with await subscribed(orders, handle, remember=1000):
        await orders.add(order_id="7")
        await orders.acknowledged()
    tag = (await redsched_kit.scheduler.store()).shards[0].keys.tag
    [key] = [k for k in await orders.command("KEYS", "*requests:event/*") if k.decode().startswith(tag)]
    assert 900_000 < await orders.command("PTTL", key) <= 1_000_000


@pytest.mark.parametrize(
    "settings",
    [{"name": ""}, {"group": "a b"}, {"max_deliveries": 0}, {"redeliver_after": -1}, {"remember": 0}, {"start": ""}],
)
def test_a_wrong_setting_of_a_stream_is_named(settings: Any) -> None:
    with pytest.raises(InvalidInputError, match=next(iter(settings))):
        RedisStream(**{"name": "orders", **settings})
