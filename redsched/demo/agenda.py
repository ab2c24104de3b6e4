"""The settings of the demo, the choice of its day, and the items of that day's agenda."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date
from enum import IntEnum

from redsched import BackgroundTaskScheduler
from redsched.demo.entries import ZONES
from redsched.demo.expected import MINUTE_MS, Day, day_of, next_change_day
from redsched.demo.pizzeria import Order
from redsched.store.clock import to_ms

__all__ = ["Item", "PastDateError", "Settings", "What", "choose_day"]


class PastDateError(ValueError):
    """The fleet's clock never goes back."""


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings from the command line."""

    seconds: float = 60.0
    date: date | None = None
    workers: int = 3
    seed: int = 0


class What(IntEnum):
    """The kinds of agenda items. Items at the same instant are played in this order."""

    TICK = 0
    STEP_DUE = 1
    CHANGE = 2
    CANCEL = 3
    PLACE = 4
    KILL = 5
    OUTAGE = 6
    TALLY = 7


@dataclass(order=True, slots=True)
class Item:
    """An entry of the agenda."""

    at_ms: int
    what: What
    number: int = 0
    order: Order | None = field(default=None, compare=False)
    text: str = field(default="", compare=False)


async def choose_day(scheduler: BackgroundTaskScheduler, wanted: date | None) -> Day:
    """The wanted day, or the next day on which Berlin changes its clocks.

    Raises:
        PastDateError: the day has already begun, by the server's clock.
    """
    now = await scheduler.now()
    following = next_change_day(ZONES[0], now)
    day = day_of(wanted or following, ZONES)
    if day.start_ms < to_ms(now) + 3 * MINUTE_MS:
        raise PastDateError(
            f"{day.date} is not ahead of the server's clock ({now:%Y-%m-%d %H:%M} UTC), and the fleet's time never "
            f"goes back; the next day on which {ZONES[0]} changes its clocks is {following}"
        )
    return day
