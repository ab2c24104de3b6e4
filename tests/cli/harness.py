"""What the tests of the command line share: the command line in this process, workers and Redis in others."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import time
from collections.abc import Awaitable, Callable
from typing import Any

from typer.testing import CliRunner, Result

from redsched.cli.root import build
from redsched.testing import Kit

APP = '''
import asyncio, os, pathlib, sys, time
import redsched

scheduler = redsched.BackgroundTaskScheduler(
    os.environ["APP_REDIS"], os.environ["APP_PREFIX"], lease=30, retry_for=0.3, declared_tasks=False
)

@redsched.schedule_task(name="quick")
async def quick() -> str:
    return "quick"

@redsched.schedule_task(name="gated")
async def gated() -> None:
    """Ends as soon as the file `gate` is there."""
    print("gated has begun", file=sys.stderr, flush=True)
    while not pathlib.Path("gate").exists():
        await asyncio.sleep(0.01)

@redsched.schedule_task(name="blocked")
def blocked() -> None:
    """A plain function that cannot be stopped."""
    print("blocked has begun", file=sys.stderr, flush=True)
    while not pathlib.Path("gate").exists():
        time.sleep(0.01)

async def make():
    return scheduler
'''


async def until(check: Callable[[], Awaitable[Any]], *, timeout: float = 15.0, what: str = "") -> Any:
    """Ask again and again until the answer is true; returns it."""
    deadline = time.monotonic() + timeout
    while not (answer := await check()):
        assert time.monotonic() < deadline, f"not within {timeout} s: {what}"
        await asyncio.sleep(0.02)
    return answer


class Process:
    """A command line in a separate process, and its stderr."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.pid = process.pid
        self.lines: list[str] = []
        self._heard = asyncio.Condition()
        self._reader = asyncio.create_task(self._read())

    async def _read(self) -> None:
        assert self.process.stderr is not None
        async for line in self.process.stderr:
            async with self._heard:
                self.lines.append(line.decode().rstrip())
                self._heard.notify_all()

    async def says(self, text: str, *, timeout: float = 15.0) -> str:
        """Wait for a line that contains this."""
        try:
            async with asyncio.timeout(timeout), self._heard:
                await self._heard.wait_for(lambda: any(text in line for line in self.lines))
        except TimeoutError:
            raise AssertionError(f"it did not say {text!r} but:\n" + "\n".join(self.lines)) from None
        return next(line for line in self.lines if text in line)

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    async def ends(self, *, timeout: float = 15.0) -> int:
        """Wait until it has ended; the exit code."""
        try:
            async with asyncio.timeout(timeout):
                await self._reader
                return await self.process.wait()
        except TimeoutError:
            raise AssertionError("it did not end; it said:\n" + "\n".join(self.lines)) from None

    async def close(self) -> None:
        if self.process.returncode is None:
            self.process.kill()
        await self.process.wait()
        self._reader.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._reader


Start = Callable[..., Awaitable[Process]]


class Shell:
    """The command line in this process, on the kit's jobs."""

    def __init__(self, kit: Kit) -> None:
        self._env = {"REDSCHED_URL": kit.scheduler.redis_url, "REDSCHED_PREFIX": kit.scheduler.prefix}

    async def __call__(self, *arguments: str, **env: str) -> Result:
        # In a thread: a command runs its own event loop.
        return await asyncio.to_thread(
            CliRunner().invoke, build(), list(arguments), env={**self._env, **env}, prog_name="redsched"
        )

    async def json(self, *arguments: str) -> Any:
        result = await self(*arguments, "--json")
        assert result.exit_code == 0, result.output
        return json.loads(result.stdout)
