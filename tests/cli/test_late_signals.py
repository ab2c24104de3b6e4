"""SIGTERM while the event loop is blocked: handled as soon as it turns again, and its lateness is told."""

from __future__ import annotations

import asyncio
import os
import re
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from redsched.cli.exits import ExitCode
from redsched.testing import Kit

from .harness import Start

BLOCKING_APP = '''
import ctypes, os, pathlib, sys, time
import redsched

scheduler = redsched.BackgroundTaskScheduler(
    os.environ["APP_REDIS"], os.environ["APP_PREFIX"], lease=4, declared_tasks=False
)

@redsched.schedule_task(name="burn")
async def burn() -> None:
    print("it blocks", file=sys.stderr, flush=True)
    while not pathlib.Path("gate").exists():
        pass

@redsched.schedule_task(name="hold")
def hold() -> None:
    """PyDLL: the interpreter's lock is held during the call, until the other end of the pipe is opened."""
    print("it blocks", file=sys.stderr, flush=True)
    ctypes.PyDLL(None).open(b"pipe", os.O_RDONLY)
'''


BLOCKED_S = 1.5
"""More than a quarter of the lease of that application, from which on it is reported."""


def _stand_in() -> Callable[..., Any]:
    async def stand_in() -> None: ...

    return stand_in


@pytest.mark.parametrize("task", ["burn", "hold"])
@pytest.mark.parametrize("options", [("--no-uvloop",), ("--uvloop",), ("--processes", "1"), ("--processes", "2")])
async def test_a_signal_to_a_blocked_worker_is_acted_on_late_and_says_so(
    redsched_kit: Kit, start: Start, app_folder: Path, task: str, options: tuple[str, ...]
) -> None:
    (app_folder / "blocking_app.py").write_text(BLOCKING_APP)
    os.mkfifo(app_folder / "pipe")
    worker = await start("worker", "blocking_app:scheduler", *options)
    await worker.says("runs at once")
    redsched_kit.scheduler.register(_stand_in(), name=task)
    found = redsched_kit.scheduler.registry.find(task)
    assert found is not None
    await redsched_kit.scheduler.schedule_immediate_task(task, found.function, job_id="blocker")
    await worker.says("it blocks")
    await asyncio.sleep(BLOCKED_S)
    worker.signal(signal.SIGTERM)
    if "2" in options:
        await worker.says("worker processes are asked to stop")
    if task == "hold":
        os.close(os.open(app_folder / "pipe", os.O_WRONLY))
    (app_folder / "gate").touch()
    line = await worker.says("is acted on now", timeout=20)
    assert re.search(r"SIGTERM (came|is acted on now and may have come) [\d.]+ s ago|the stop request", line)
    assert task in line or task == "hold"  # a call that uses no processor looks like a stopped process
    assert await worker.ends(timeout=20) == ExitCode.OK
    await redsched_kit.wait_for("done", "blocker")
