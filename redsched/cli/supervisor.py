"""`redsched worker --processes N`: keeps N worker processes alive.

A child that dies is replaced after a pause, which doubles as long as it keeps dying. A child that ends because of
a wrong target or password ends them all, because a retry would not help. The first child starts alone, so that an
error in the target is reported once.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import platform
import signal
import socket
import sys
import time

from redsched.cli.child import DRAIN, NOW
from redsched.cli.exits import ExitCode
from redsched.cli.service import Settings
from redsched.cli.stopping import Stop
from redsched.logs.formats import setup

__all__ = ["run"]

log = logging.getLogger("redsched.cli.supervisor")

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 30.0
HEALTHY_S = 30.0
"""A child that lived this long was not broken from the start: its successor starts after the shortest pause."""
OVERTIME_S = 10.0
"""Time that a child has beyond the grace time before it is killed."""
DEFAULT_GRACE_S = 30.0
"""Grace time of a child that has not reported its own yet."""


class _Child:
    """One worker process, and the socket to it."""

    def __init__(self, process: asyncio.subprocess.Process, link: socket.socket) -> None:
        self.process = process
        self.link = link
        self.started = time.monotonic()
        self.grace = DEFAULT_GRACE_S

    def tell(self, word: bytes) -> None:
        try:
            self.link.send(word)
        except OSError:
            return  # it is ending


class _Supervisor:
    def __init__(self, settings: Settings, number: int) -> None:
        self.settings = settings
        self.number = number
        self.stop = Stop()
        self.children: dict[int, _Child] = {}
        self.code: int = ExitCode.OK
        self.first_ready = asyncio.Event()

    async def run(self) -> int:
        self.stop.listen()
        log.info("%d worker processes for %s on %s", self.number, self.settings.target, platform.node())
        keeping = [asyncio.create_task(self._keep(slot)) for slot in range(1, self.number + 1)]
        all_ended = asyncio.gather(*keeping)
        if await self.stop.before(all_ended):
            await self._end(all_ended)
        await all_ended
        log.info("all worker processes have ended")
        return self.code

    async def _keep(self, slot: int) -> None:
        """Keep one of the children alive, until a stop."""
        pause = FIRST_PAUSE_S
        if slot > 1:
            first = asyncio.create_task(self.first_ready.wait())
            await self.stop.before(first)
            first.cancel()
        while not self.stop.asked.is_set():
            child = await self._start(slot)
            listening = asyncio.create_task(self._listen(child))
            code = await child.process.wait()
            listening.cancel()
            await asyncio.wait((listening,))
            child.link.close()
            del self.children[slot]
            if code in (ExitCode.USAGE, ExitCode.REFUSED):
                self.code = code
                self.stop.asked.set()
            if self.stop.asked.is_set():
                return
            if time.monotonic() - child.started >= HEALTHY_S:
                pause = FIRST_PAUSE_S
            log.error(
                "worker process %d (pid %d) %s; another starts in %g s", slot, child.process.pid, _ending(code), pause
            )
            await self.stop.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE_S)

    async def _start(self, slot: int) -> _Child:
        ours, theirs = socket.socketpair()
        with theirs:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "redsched.cli.child",
                str(theirs.fileno()),
                stdin=asyncio.subprocess.DEVNULL,
                pass_fds=(theirs.fileno(),),
                process_group=0,  # Ctrl-C goes to the parent, which then asks the children
            )
        ours.setblocking(False)
        child = self.children[slot] = _Child(process, ours)
        child.tell(self._settings(slot).to_json() + b"\n")
        if self.stop.asked.is_set():
            child.tell(NOW if self.stop.urged.is_set() else _drain())
        return child

    def _settings(self, slot: int) -> Settings:
        """The settings of one child: each has its own metrics port."""
        port = self.settings.metrics_port
        return self.settings if port is None else dataclasses.replace(self.settings, metrics_port=port + slot - 1)

    async def _listen(self, child: _Child) -> None:
        """Receive a child's messages that it is ready."""
        while True:
            try:
                message = await asyncio.get_running_loop().sock_recv(child.link, 256)
            except OSError:
                return
            if not message:
                return
            _, _, grace = message.splitlines()[-1].partition(b" ")
            child.grace = float(grace)
            self.first_ready.set()

    async def _end(self, all_ended: asyncio.Future[list[None]]) -> None:
        """Ask the children to drain, and after a second signal to end immediately; kill those that do neither."""
        self._tell(_drain())
        grace = max((child.grace for child in self.children.values()), default=0.0)
        log.info("%d worker processes are asked to stop; they have %g s", len(self.children), grace)
        try:
            async with asyncio.timeout(grace + OVERTIME_S):
                if await self.stop.urged_before(all_ended):
                    self._tell(NOW)
                    async with asyncio.timeout(OVERTIME_S):
                        await asyncio.wait((all_ended,))
        except TimeoutError:
            for slot, child in self.children.items():
                log.error(  # noqa: TRY400  nothing was raised: time is up
                    "worker process %d (pid %d) did not end; it was killed, and its leases will expire",
                    slot,
                    child.process.pid,
                )
                child.process.kill()

    def _tell(self, word: bytes) -> None:
        for child in self.children.values():
            child.tell(word)


def _drain() -> bytes:
    """The message with its time, so that a child whose event loop is blocked can log how late it was handled."""
    return b"%s %f\n" % (DRAIN, time.monotonic())


def _ending(code: int) -> str:
    """An exit status in words; it is negative if a signal ended the process."""
    if code >= 0:
        return f"ended with exit code {code}"
    try:
        return f"was killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"was killed by signal {-code}"


def run(settings: Settings, number: int) -> int:
    """Keep `number` worker processes alive until a stop. Returns the exit code."""
    setup(sys.stderr, form=settings.log_format, level=settings.log_level, process=True)

    async def main() -> int:
        return await _Supervisor(settings, number).run()

    # Python's own loop: speed does not matter here.
    with asyncio.Runner() as runner:
        code = runner.run(main())
    sys.stderr.flush()
    return code
