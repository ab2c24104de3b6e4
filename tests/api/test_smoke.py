"""The shortest way through everything: schedule, travel, run."""

from redsched.testing import Kit

ran: list[str] = []


async def note(text: str) -> str:
    ran.append(text)
    return text


async def test_a_delayed_task_runs_when_its_time_has_come(redsched_kit: Kit) -> None:
    ran.clear()
    handle = await redsched_kit.scheduler.schedule_delayed_task("reminder", note, delay_minutes=15, args=["order-1"])
    assert await redsched_kit.advance(minutes=14) == 0
    assert await redsched_kit.advance(minutes=1) == 1
    assert ran == ["order-1"]
    result = await handle.result(timeout=5)
    assert result.success
    assert result.result == "order-1"
