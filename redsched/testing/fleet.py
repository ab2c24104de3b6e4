"""Worker processes of a test: started, killed, stopped, replaced, and what is known of each.

A `Fleet` starts `python -m MODULE ARGUMENTS…` with REDSCHED_URL. The module makes its scheduler and awaits `serve`.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from redsched import BackgroundTaskScheduler

__all__ = ["Fleet", "FleetError", "Member", "serve"]

READY_S = 60.0
"""How long a worker may take to start: it waits for its Redis."""
END_S = 20.0
"""How long a worker may take to end after SIGTERM."""
READY = "ready"
"""The word that a worker prints, with its id, when it serves."""


async def serve(scheduler: BackgroundTaskScheduler, *, grace: float = 5.0) -> None:
    """The main part of a fleet's worker: serve until SIGTERM, or until the process that started the fleet is gone.

    Args:
        grace: seconds that runs have to end in after that.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    parent = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(parent), sys.stdin)
    orphaned = asyncio.create_task(parent.read())
    orphaned.add_done_callback(lambda _: stop.set())
    await scheduler.start()
    sys.stdout.write(f"{READY} {scheduler.id}\n")
    sys.stdout.flush()
    await stop.wait()
    await scheduler.shutdown(grace=grace)
    orphaned.cancel()


class FleetError(RuntimeError):
    """A worker process did not start, or died by itself."""


@dataclass(slots=True, eq=False)
class Member:
    """One worker process."""

    number: int
    process: asyncio.subprocess.Process
    arguments: Sequence[str]
    environment: Mapping[str, str]
    worker_id: str = ""
    state: str = "starting"
    """starting, working, frozen, stopping, stopped, killed."""
    ended: float | None = None
    """When it was killed, by the monotonic clock."""

    @property
    def name(self) -> str:
        """A name for people, such as `worker 1`."""
        return f"worker {self.number + 1}"

    @property
    def pid(self) -> int:
        """The process id."""
        return self.process.pid

    def send(self, number: signal.Signals) -> None:
        """Send it a signal, if it is still there."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)


class Fleet:
    """Worker processes, in the order in which they were started.

    Args:
        module: the module that each of them runs; see `serve`.
        arguments: the arguments of each, before those of `start`.
        url: of the server; a worker finds it in REDSCHED_URL, since others can read a command line.
        log: the file that gets what the workers log.
    """

    def __init__(self, module: str, arguments: Sequence[str], *, url: str, log: Path) -> None:
        self.members: list[Member] = []
        self.log = log
        self._command = [sys.executable, "-m", module, *arguments]
        self._environment = {**os.environ, "REDSCHED_URL": url}

    @property
    def working(self) -> list[Member]:
        """The processes that serve."""
        return [member for member in self.members if member.state == "working"]

    def by_worker(self, worker_id: str | None) -> Member | None:
        """The process of a worker's id."""
        return next((member for member in self.members if member.worker_id == worker_id), None)

    async def start(self, *arguments: str, environment: Mapping[str, str] | None = None) -> Member:
        """Start a worker, and wait until it serves.

        Args:
            environment: added to this process' own.

        Raises:
            FleetError: it does not.
        """
        return await self._ready(await self._launch(arguments, environment or {}))

    async def start_many(self, count: int) -> list[Member]:
        """Start workers at once, and wait until all serve.

        Raises:
            FleetError: one does not.
        """
        launched = [await self._launch((), {}) for _ in range(count)]
        return [await self._ready(member) for member in launched]

    async def _launch(self, arguments: Sequence[str], environment: Mapping[str, str]) -> Member:
        with self.log.open("ab") as log:
            process = await asyncio.create_subprocess_exec(
                *self._command,
                *arguments,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
                env={**self._environment, **environment},
                # Ctrl-C is for the run itself, which then ends its workers.
                start_new_session=True,
            )
        member = Member(len(self.members), process, arguments, environment)
        self.members.append(member)
        return member

    async def _ready(self, member: Member) -> Member:
        assert member.process.stdout is not None
        try:
            line = await asyncio.wait_for(member.process.stdout.readline(), READY_S)
        except TimeoutError:
            line = b""
        word, _, member.worker_id = line.decode().strip().partition(" ")
        if word != READY:
            raise FleetError(f"{member.name} did not start:\n{self.log_tail()}")
        member.state = "working"
        return member

    async def replace(self, member: Member) -> Member:
        """Start another worker in the place of one that has ended, with its arguments and its environment."""
        return await self.start(*member.arguments, environment=member.environment)

    async def kill(self, member: Member) -> None:
        """SIGKILL: no goodbye, no clean-up."""
        member.state = "killed"
        member.ended = time.monotonic()
        member.send(signal.SIGKILL)
        await member.process.wait()

    async def stop(self, *members: Member) -> None:
        """SIGTERM to some at once, or to all that serve, and wait until they have ended in good order.

        Raises:
            FleetError: one did not end in time, and was killed.
        """
        leaving = members or self.working
        for member in leaving:
            member.state = "stopping"
            member.send(signal.SIGTERM)
        for member in leaving:
            await self._wait_for_the_end(member)

    async def _wait_for_the_end(self, member: Member) -> None:
        try:
            await asyncio.wait_for(member.process.wait(), END_S)
        except TimeoutError:
            await self.kill(member)
            raise FleetError(f"{member.name} did not end within {END_S:g} s of its SIGTERM") from None
        member.state = "stopped"

    def freeze(self, member: Member) -> None:
        """SIGSTOP: it is there, and does nothing."""
        member.state = "frozen"
        member.send(signal.SIGSTOP)

    def thaw(self, member: Member) -> None:
        """The end of `freeze`."""
        member.send(signal.SIGCONT)
        member.state = "working"

    async def end(self) -> None:
        """Whatever happened, leave no process behind."""
        for member in self.members:
            if member.process.returncode is None:
                member.send(signal.SIGKILL)
                await member.process.wait()

    def check(self) -> None:
        """Raises FleetError if a worker died without being killed."""
        for member in self.working:
            if member.process.returncode is not None:
                raise FleetError(f"{member.name} ended by itself ({member.process.returncode}):\n{self.log_tail()}")

    def log_tail(self) -> str:
        """The end of what the workers logged."""
        try:
            return self.log.read_text(encoding="utf-8", errors="replace")[-3000:]
        except FileNotFoundError:
            return ""
