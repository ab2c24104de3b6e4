"""The demo's worker processes: started, stopped, killed, and what is known of each."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Fleet", "FleetError", "Member"]

READY_S = 30.0


class FleetError(RuntimeError):
    """A worker process did not start, or ended unexpectedly."""


@dataclass(slots=True)
class Member:
    """One worker process."""

    name: str
    process: asyncio.subprocess.Process
    worker_id: str = ""
    state: str = "starting"
    """starting, working, stopping, stopped, killed."""

    @property
    def pid(self) -> int:
        return self.process.pid


class Fleet:
    """The worker processes, in the order in which they were started."""

    def __init__(self, url: str, prefix: str, ledger: Path, slow_ms: int, slow_s: float) -> None:
        self.members: list[Member] = []
        # Not as an argument: others can read a command line, and the URL may have a password.
        self._environment = {**os.environ, "REDSCHED_URL": url}
        self._arguments = [prefix, str(ledger), str(slow_ms), str(slow_s)]
        self._log = ledger.with_suffix(".log")

    @property
    def working(self) -> list[Member]:
        return [member for member in self.members if member.state == "working"]

    def by_worker(self, worker_id: str | None) -> Member | None:
        return next((member for member in self.members if member.worker_id == worker_id), None)

    async def start(self, count: int) -> list[Member]:
        """Start workers and wait until they are ready.

        Raises:
            FleetError: a worker is not ready in time.
        """
        started: list[Member] = []
        for _ in range(count):
            with self._log.open("ab") as log:
                process = await asyncio.create_subprocess_exec(
                    sys.executable, "-m", "redsched.demo.worker", *self._arguments,
                    stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=log, env=self._environment,
                    # Ctrl-C is for the director, which then stops its workers in order.
                    start_new_session=True,
                )  # fmt: skip
            member = Member(f"worker {len(self.members) + 1}", process)
            self.members.append(member)
            started.append(member)
        for member in started:
            assert member.process.stdout is not None
            try:
                line = await asyncio.wait_for(member.process.stdout.readline(), READY_S)
            except TimeoutError:
                line = b""
            word, _, member.worker_id = line.decode().strip().partition(" ")
            if word != "ready":
                raise FleetError(f"{member.name} did not start:\n{self.log_tail()}")
            member.state = "working"
        return started

    async def stop(self) -> None:
        """Ask all workers to finish, and wait until they have."""
        leaving = self.working
        for member in leaving:
            member.state = "stopping"
            _send(member, signal.SIGTERM)
        for member in leaving:
            try:
                await asyncio.wait_for(member.process.wait(), 15)
            except TimeoutError:
                _send(member, signal.SIGKILL)
                await member.process.wait()
            member.state = "stopped"

    async def kill(self, member: Member) -> None:
        """SIGKILL: no goodbye, no clean-up."""
        member.state = "killed"
        _send(member, signal.SIGKILL)
        await member.process.wait()

    async def end(self) -> None:
        """Kill every process that is still running."""
        for member in self.members:
            if member.process.returncode is None:
                _send(member, signal.SIGKILL)
                await member.process.wait()

    def check(self) -> None:
        """Raises FleetError if a worker ended that was neither killed nor stopped."""
        for member in self.working:
            if member.process.returncode is not None:
                raise FleetError(
                    f"{member.name} ended unexpectedly (exit code {member.process.returncode}):\n{self.log_tail()}"
                )

    def log_tail(self) -> str:
        """The end of the workers' log."""
        try:
            return self._log.read_text(encoding="utf-8", errors="replace")[-3000:]
        except FileNotFoundError:
            return ""


def _send(member: Member, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(member.pid, number)
