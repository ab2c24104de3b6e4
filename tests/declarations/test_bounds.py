"""What is kept of jobs that are over, and that no code declares any more, is bounded."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from redsched.declarations import pruning
from redsched.store.declared import read_declared

from .conftest import Apps, at

EVERY: dict[str, Any] = {"name": "every", "interval": 60}


def once(*numbers: int) -> list[dict[str, Any]]:
    return [{"name": f"once-{number}", "run_at": at(-number - 1)} for number in numbers]


async def kept(apps: Apps) -> set[str]:
    return set(await read_declared(await apps.client.scheduler.store(), "shop"))


async def test_entries_of_jobs_that_no_code_declares_go_after_a_while(apps: Apps) -> None:
    kit = await apps.start(EVERY, *once(1, 2))
    await kit.run_due()
    await apps.rollback(EVERY)
    assert await kept(apps) == {"every", "once-1", "once-2"}
    await apps.client.travel(days=89)
    await apps.restart(EVERY, *once(2))
    assert await kept(apps) == {"every", "once-1", "once-2"}
    await apps.client.travel(timedelta(days=1, minutes=2))
    await apps.restart(EVERY)  # once-2 was declared again meanwhile: its time begins now
    assert await kept(apps) == {"every", "once-2"}


async def test_the_oldest_entries_go_first_and_those_that_are_declared_stay(
    apps: Apps, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pruning, "KEPT_ENTRIES", 2)
    kit = await apps.start(*once(1, 2, 3, 4))
    await kit.run_due()
    await apps.rollback(*once(3, 4))
    assert await kept(apps) == {"once-1", "once-2", "once-3", "once-4"}
    await apps.rollback(*once(4))
    left = await kept(apps)
    assert len(left) == 3
    assert left >= {"once-3", "once-4"}
    kit = await apps.restart(*once(4))
    assert await kit.run_due() == 0


async def test_a_job_that_is_stored_keeps_its_entry_until_it_is_pruned(
    apps: Apps, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pruning, "KEPT_ENTRIES", 0)
    await apps.start(EVERY, {"name": "more", "interval": 60})
    await apps.rollback(EVERY)
    assert await kept(apps) == {"every", "more"}
    await apps.rollback(EVERY, prune=True)
    assert await kept(apps) == {"every"}


async def test_what_another_process_still_declares_is_not_forgotten(
    apps: Apps, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pruning, "KEPT_ENTRIES", 0)
    kit = await apps.start(*once(1))
    await kit.run_due()
    await apps.start(EVERY)
    assert await kept(apps) == {"every", "once-1"}
