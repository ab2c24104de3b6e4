"""The interface between a shard and any kind of server: commands, scripts, and safe resends."""

from __future__ import annotations

import asyncio
import logging
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, NoReturn

import redis.exceptions as redis_errors

from redsched.errors import StoreError, StoreReadOnlyError, StoreUnavailableError
from redsched.store.scripts import Script

__all__ = ["FOREVER", "Resend", "Wire", "WrongTypeError"]

log = logging.getLogger("redsched.store")


class WrongTypeError(StoreError):
    """A key has a type that redsched does not store there: another program wrote it. See `quarantine.py`."""


class Resend:
    """How long a call whose reply is missing is sent again, and how often."""

    __slots__ = ("for_seconds", "longest_pause")

    def __init__(self, for_seconds: float | None, longest_pause: float = 0.5) -> None:
        self.for_seconds: float | None = for_seconds
        """None = until there is a reply: a worker can do nothing else."""
        self.longest_pause: float = longest_pause


FOREVER = Resend(None)


class Wire(ABC):
    """The way to the server that holds some keys."""

    where: str
    """That server, for messages: without a password."""

    @abstractmethod
    async def command(self, *command: Any, hold: str | None = None, timeout: float | None = None) -> Any:
        """Send one command, once.

        Args:
            hold: the name of a connection that is kept for one caller, for whom commands follow each other.
            timeout: seconds to wait for the reply, where that is longer than usual (a blocking command).

        Raises:
            StoreError: one of its kinds.
        """

    @abstractmethod
    async def free(self, name: str) -> None:
        """Return a held connection: later commands no longer need this one."""

    async def script(
        self,
        script: Script,
        arguments: Sequence[str | int | bytes],
        *,
        hold: str | None = None,
        resend: Resend | None = None,
    ) -> Any:
        """Call a script, and send it again where its reply is missing and `resend` allows it."""
        return await self._resent(("EVALSHA", script.sha, len(script.keys), *arguments), hold, resend, script)

    async def repeated(self, *command: Any, resend: Resend) -> Any:
        """Send a command that may be carried out twice, again where its reply is missing.

        Raises:
            StoreError: one of its kinds.
        """
        return await self._resent(command, None, resend, None)

    async def _resent(
        self, command: Sequence[Any], hold: str | None, resend: Resend | None, script: Script | None
    ) -> Any:
        started = time.monotonic()
        pause = 0.01
        say_at = started + 0.1  # a connection that was only cut is not worth a word
        while True:
            try:
                try:
                    reply = await self.command(*command, hold=hold)
                except redis_errors.NoScriptError:
                    if script is None:
                        raise
                    # A new or flushed server. EVAL stores it as well.
                    reply = await self.command("EVAL", script.source, *command[2:], hold=hold)
                if pause > 0.1:  # it was logged that there was no answer
                    log.info("Redis at %s answers again, after %.1f s", self.where, time.monotonic() - started)
                return reply
            except WrongTypeError:
                raise  # the same again would give the same answer
            except StoreError as error:
                # A worker continues whatever Redis says: its outcomes must not be lost. For a client it is an error.
                passing = isinstance(error, StoreUnavailableError | StoreReadOnlyError)
                if resend is None or (resend.for_seconds is not None and not passing):
                    raise
                waited = time.monotonic() - started
                if resend.for_seconds is not None and waited + pause > resend.for_seconds:
                    _give_up(error, waited)
                if time.monotonic() >= say_at:
                    log.warning("%s; sending again", error)
                    say_at = time.monotonic() + 10
                await asyncio.sleep(pause)
                pause = min(pause * 2, resend.longest_pause)


def _give_up(error: StoreError, waited: float) -> NoReturn:
    raise type(error)(f"{error} (tried for {waited:.1f} s)") from error
