"""Starts of old and changed code, pauses, operators and time in any order: each fire has one outcome."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import pytest

from .conftest import MAY, MINUTE, Apps, at

EVERY = {"name": "job", "cron": "* * * * *"}
VERSIONS: list[dict[str, Any]] = [{}, {"timeout": 5}, {"timeout": 6, "tags": ["t"]}, {"args": ["x"]}]


@pytest.mark.parametrize("seed", range(8))
async def test_each_fire_of_a_declared_job_has_one_outcome(apps: Apps, seed: int) -> None:
    """Its schedule stays, so that each minute is a fire: run, coalesced or dropped; never two of them, nor none."""
    dice, operator = random.Random(seed), apps.client.scheduler
    kits = [await apps.start(EVERY)]

    async def start() -> None:
        kits.append(await apps.start({**EVERY, **dice.choice(VERSIONS)}))
        if len(kits) > 2:
            await apps.stop(kits.pop(0))

    async def run() -> None:
        await kits[-1].run_due()

    steps: list[Callable[[], Awaitable[Any]]] = [
        start, start, start,
        run, run,
        lambda: operator.pause_job("job"), lambda: operator.resume_job("job"),
        lambda: operator.modify_job("job", timeout=dice.randint(1, 99)),
    ]  # fmt: skip
    now = 0
    for _ in range(25):
        await dice.choice(steps)()
        now += dice.choice([0, 0, 1, 1, 5])
        await apps.client.travel_to(at(now) + timedelta(seconds=2 + dice.random()))
    await operator.resume_job("job")
    await kits[-1].run_due()
    seen: list[int] = []
    for event in await apps.events("job", "claimed", "coalesced", "dropped", "missed", "skipped"):
        assert event.fire_time is not None
        first = round((event.fire_time - MAY) / MINUTE)
        last = first if event.last_fire_time is None else round((event.last_fire_time - MAY) / MINUTE)
        assert event.kind == "claimed" or event.reason is not None
        seen += range(first, last + 1)
    assert sorted(seen) == list(range(1, now + 1))
