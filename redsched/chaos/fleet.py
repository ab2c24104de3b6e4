"""The worker processes of a chaos run: started, killed, stopped, replaced, and what is known of each."""

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

__all__ = ["Fleet", "FleetError", "Member"]

READY_S = 60.0
"""How long a worker may take to start: it waits for its Redis."""
END_S = 20.0


class FleetError(RuntimeError):
    """A worker process did not start, or died by itself."""


@dataclass(slots=True, eq=False)
class Member:
    """One worker process."""

    number: int
    process: asyncio.subprocess.Process
    queues: Sequence[str]
    environment: Mapping[str, str]
    worker_id: str = ""
    state: str = "starting"
    """starting, working, frozen, ended."""
    ended: float | None = None
    """When it was killed, by the monotonic clock."""

    @property
    def pid(self) -> int:
        return self.process.pid

    def send(self, number: signal.Signals) -> None:
        """Send it a signal, if it is still there."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)


class Fleet:
    """All of them, in the order in which they were started."""

    def __init__(self, url: str, prefix: str, ledger: Path, lease_s: float, concurrency: int) -> None:
        self.members: list[Member] = []
        self._environment = {**os.environ, "REDSCHED_URL": url}  # a command line can be read by others
        self._arguments = [prefix, str(ledger), str(lease_s), str(concurrency)]
        self.log = ledger.with_name("workers.log")

    @property
    def working(self) -> list[Member]:
        return [member for member in self.members if member.state == "working"]

    async def start(self, queues: Sequence[str], environment: Mapping[str, str] | None = None) -> Member:
        """Start a worker, and wait until it serves.

        Args:
            environment: added to this process' own.

        Raises:
            FleetError: it does not.
        """
        with self.log.open("ab") as log:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "redsched.chaos.worker", *self._arguments, *queues,
                stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=log,
                env={**self._environment, **(environment or {})},
                # Ctrl-C is for the run itself, which then ends its workers.
                start_new_session=True,
            )  # fmt: skip
        member = Member(len(self.members), process, queues, environment or {})
        self.members.append(member)
        assert process.stdout is not None
        try:
            line = await asyncio.wait_for(process.stdout.readline(), READY_S)
        except TimeoutError:
            line = b""
        word, _, member.worker_id = line.decode().strip().partition(" ")
        if word != "ready":
            raise FleetError(f"worker {member.number} did not start:\n{self.log_tail()}")
        member.state = "working"
        return member

    async def kill(self, member: Member) -> None:
        """SIGKILL: no goodbye, no clean-up."""
        member.state = "ended"
        member.ended = time.monotonic()
        member.send(signal.SIGKILL)
        await member.process.wait()

    async def ask_to_leave(self, member: Member) -> None:
        """SIGTERM, and wait until it has ended in good order."""
        member.state = "ended"
        member.send(signal.SIGTERM)
        try:
            await asyncio.wait_for(member.process.wait(), END_S)
        except TimeoutError:
            member.ended = time.monotonic()
            member.send(signal.SIGKILL)
            await member.process.wait()
            raise FleetError(f"worker {member.number} did not end within {END_S:g} s of its SIGTERM") from None

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
                raise FleetError(
                    f"worker {member.number} ended by itself ({member.process.returncode}):\n{self.log_tail()}"
                )

    def log_tail(self) -> str:
        """The end of what the workers logged."""
        try:
            return self.log.read_text(encoding="utf-8", errors="replace")[-3000:]
        except FileNotFoundError:
            return ""
