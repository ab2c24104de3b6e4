"""`redsched worker --processes N`: children that are replaced, and that end with their parent."""

from __future__ import annotations

import os
import signal

from redsched.cli.exits import ExitCode
from redsched.testing import Kit

from .harness import Start, until
from .test_worker import TARGET, schedule


async def pids(kit: Kit) -> set[int]:
    return {info["pid"] for info in (await kit.scheduler.get_workers()).values()}


async def children(kit: Kit, number: int, *, without: int = 0) -> set[int]:
    """Wait until that number of workers serve."""

    async def enough() -> set[int]:
        found = await pids(kit) - {without}
        return found if len(found) == number else set()

    return await until(enough, what=f"{number} workers")


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


async def test_a_child_that_is_killed_is_replaced_and_all_end_with_the_parent(redsched_kit: Kit, start: Start) -> None:
    parent = await start("worker", TARGET, "--processes", "2")
    first = await children(redsched_kit, 2)
    assert parent.pid not in first
    victim = min(first)
    os.kill(victim, signal.SIGKILL)
    line = await parent.says("was killed by SIGKILL")
    assert f"pid {victim}" in line
    assert "another starts in 0.5 s" in line
    second = await children(redsched_kit, 2, without=victim)
    await schedule(redsched_kit, "quick", "a")
    await redsched_kit.wait_for("done", "a")
    parent.signal(signal.SIGTERM)
    assert await parent.ends() == ExitCode.OK
    assert not any(alive(pid) for pid in second)


async def test_runs_finish_when_the_whole_group_gets_the_signal(redsched_kit: Kit, start: Start, app_folder) -> None:
    """systemd signals the children too, so each hears of the stop twice: that must not count as a second signal."""
    parent = await start("worker", TARGET, "--processes", "2", "--grace", "60")
    found = await children(redsched_kit, 2)
    await schedule(redsched_kit, "gated", "g")
    await parent.says("gated has begun")
    for pid in (parent.pid, *found):
        os.kill(pid, signal.SIGTERM)
    await parent.says("stopping: 1 run has")
    (app_folder / "gate").touch()
    await redsched_kit.wait_for("done", "g")
    assert await parent.ends() == ExitCode.OK


async def test_a_second_signal_to_the_parent_ends_the_children_at_once(redsched_kit: Kit, start: Start) -> None:
    parent = await start("worker", TARGET, "--processes", "2", "--grace", "60")
    await children(redsched_kit, 2)
    await schedule(redsched_kit, "gated", "g")
    await parent.says("gated has begun")
    parent.signal(signal.SIGTERM)
    await parent.says("stopping: 1 run has")
    parent.signal(signal.SIGTERM)
    await redsched_kit.wait_for("released", "g")
    assert await parent.ends(timeout=8) == ExitCode.OK


async def test_children_drain_when_the_parent_is_killed(redsched_kit: Kit, start: Start) -> None:
    parent = await start("worker", TARGET, "--processes", "2")
    found = await children(redsched_kit, 2)
    parent.signal(signal.SIGKILL)

    async def gone() -> bool:
        return not any(alive(pid) for pid in found)

    await until(gone, what="the children end")


async def test_a_wrong_target_is_said_once(start: Start) -> None:
    parent = await start("worker", "shop_app:schedular", "--processes", "3")
    assert await parent.ends() == ExitCode.USAGE
    assert sum("its schedulers are" in line for line in parent.lines) == 1
