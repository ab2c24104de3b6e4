"""The pizzeria: an order's workflow of five steps, several orders over the day, and one of them is cancelled."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from redsched import BackgroundTaskScheduler
from redsched.demo import tasks
from redsched.demo.expected import MINUTE_MS, Day

__all__ = ["CANCEL_MINUTE", "WORKFLOW", "Order", "Step", "orders_of", "schedule_order_workflow"]

WORKFLOW: tuple[tuple[str, int, Callable[[str], Awaitable[None]]], ...] = (
    ("inventory_check", 0, tasks.check_inventory),
    ("kitchen_queue", 5, tasks.add_to_kitchen_queue),
    ("preparation_start", 15, tasks.start_preparation),
    ("quality_check", 25, tasks.perform_quality_check),
    ("delivery_ready", 35, tasks.mark_ready_for_delivery),
)
CANCEL_MINUTE = 20
"""Between the third step and the fourth: exactly the last two must not run."""


@dataclass(frozen=True, slots=True)
class Step:
    """A scheduled step. Its due instant lies between `from_ms` and `upto_ms`: the clock before and after the call."""

    name: str
    job_id: str
    from_ms: int
    upto_ms: int
    minute: int


@dataclass(slots=True)
class Order:
    """One order."""

    order_id: str
    place_ms: int
    """When it is placed, to the minute."""
    cancelled: bool = False
    """Whether it is cancelled, 20 minutes after it was placed."""
    steps: list[Step] = field(default_factory=list[Step])
    ended: list[str] = field(default_factory=list[str])
    """Ids of the jobs that the cancellation ended."""


def orders_of(day: Day, outage_ms: int, seed: int = 0) -> list[Order]:
    """The day's orders: the same for the same seed. One order is in progress when the outage begins."""
    draw = random.Random(seed + 1)  # the same day again by the same seed  # nosec B311

    def around(hour: int) -> int:
        return day.at(hour, draw.randrange(5, 55))

    places = [around(9), around(12), outage_ms - 10 * MINUTE_MS, around(18), around(19), around(20)]
    return [
        Order(f"order-{number}", place_ms, cancelled=number == 4) for number, place_ms in enumerate(places, start=1)
    ]


async def schedule_order_workflow(
    scheduler: BackgroundTaskScheduler, order: Order, now_ms: Callable[[], Awaitable[int]]
) -> None:
    """As an application would do it: a delayed task for each step, all with the order's tag."""
    for name, delay_minutes, task in WORKFLOW:
        before_ms = await now_ms()
        handle = await scheduler.schedule_delayed_task(
            f"{name}_{order.order_id}",
            task,
            delay_minutes=delay_minutes,
            args=[order.order_id],
            tags=["workflow", order.order_id],
        )
        after_ms = await now_ms()
        delay_ms = delay_minutes * MINUTE_MS
        order.steps.append(Step(name, handle.id, before_ms + delay_ms, after_ms + delay_ms, delay_minutes))
