"""How a script is called: its arguments packed, the clock kept, lost replies asked for again, each word understood."""

from __future__ import annotations

import asyncio
import functools
import logging
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, cast

import msgpack

from redsched.context import ActiveEvent, current_event
from redsched.errors import DurabilityError, StoreAccessError, StoreError, StoreUnavailableError
from redsched.jobs.ids import new_id
from redsched.store.clock import StoreClock
from redsched.store.durability import DurabilityLevel
from redsched.store.keys import Keys
from redsched.store.limits import Limits
from redsched.store.requests import Requests
from redsched.store.scripts import load
from redsched.store.wire import Resend, Wire, WrongTypeError

__all__ = ["Calls", "ClockMovedError", "pack", "pack_settled"]

log = logging.getLogger("redsched")

FORGED_AT_MOST = 5
"""How often a request is asked again whose number another program wrote as confirmed."""

Call = Callable[[], Awaitable[Any]]
Target = Sequence[str]


class ClockMovedError(Exception):
    """The fire times were computed for an instant that Redis has left behind: compute them again."""


def pack(value: Any) -> bytes:
    # use_bin_type=False: Lua's cmsgpack reads the old raw type, in which text and bytes are one.
    try:
        return cast("bytes", msgpack.packb(value, use_bin_type=False))
    except UnicodeEncodeError:
        # An id that another program put into Redis may not be UTF-8: it is sent back unchanged.
        return cast("bytes", msgpack.packb(value, use_bin_type=False, unicode_errors="surrogateescape"))


def pack_settled(rows: Sequence[Any], done: int) -> tuple[bytes, int]:
    """The rows of a poll, and how many bytes it is up to the end of the first ones, of plain runs that are done."""
    packed = pack(rows) if rows else b""
    others = rows[done:]
    if not others:
        return packed, len(packed)
    head = 1 if len(others) < 16 else 3 if len(others) < 65536 else 5
    return packed, len(packed) - (len(pack(others)) - head)


class Calls(ABC):
    """Calls of the scripts on one hash tag's worth of keys."""

    def __init__(self, link: Wire, prefix: str, number: int, limits: Limits, lock_prefix: str | None = None) -> None:
        self.link = link
        self.keys: Keys = Keys(prefix, number, lock_prefix)
        self.limits = limits
        self.clock: StoreClock = StoreClock()
        self.resend: Resend = Resend(10.0)
        """For calls of a client, which wants to know at some time that Redis is not there."""
        self._hold = f"poll:{number}"
        self._requests = Requests()
        self._reads_plainly = False
        self._bounds = {
            "events_max": limits.events_max,
            "events_max_bytes": limits.events_max_bytes,
            "outcomes_max_bytes": limits.outcomes_max_bytes,
        }
        self._names = {
            "clock": self.keys.clock,
            "events": self.keys.events,
            "leases": self.keys.leases,
            "dead": self.keys.dead,
            "workers": self.keys.workers,
        }

    async def _read(self, script: Call, plain: Call) -> Any:
        """Read by a script, or by plain commands for a user who may call none (`plain_reads.py`)."""
        if not self._reads_plainly:
            try:
                return await script()
            except StoreAccessError:
                read = await plain()  # or it raises: this user may not read either
                self._reads_plainly = True
                return read
        return await plain()

    async def _call(
        self, name: str, hold: str | None = None, resend: Resend | None = None, /, **args: str | int | bytes
    ) -> list[Any]:
        script = load(name)
        packed = script.pack(self._names, {"prefix": self.keys.tag, **args})
        call = functools.partial(self.link.script, script, packed, hold=hold, resend=resend or self.resend)
        try:
            reply = await call()
        except WrongTypeError as error:
            reply = await self._call_past(error, call, args, resend or self.resend)
        word = reply[0]
        if word == b"OK":
            self.clock.observe(reply[1])
        elif word == b"CLOCK":
            self.clock.observe(reply[1])
            raise ClockMovedError
        elif word.decode() not in script.replies:
            raise StoreError(f"{name}.lua answered {word!r}, which its header does not name")
        return reply

    async def _call_past(self, error: WrongTypeError, call: Call, args: Mapping[str, Any], resend: Resend) -> Any:
        """Put aside what lies in the way of a call, and call again; a worker does so for as long as it takes."""
        while True:
            if not await self.quarantine(args, resend=resend):
                if resend.for_seconds is not None:
                    raise error
                await asyncio.sleep(resend.longest_pause)
            try:
                return await call()
            except WrongTypeError as again:
                error = again

    async def _request_call(
        self, name: str, target: Target, level: DurabilityLevel | None = None, /, **args: str | int | bytes
    ) -> list[Any]:
        """A client's call: sent again with the same number until it is answered, and carried out once.

        `target` says which jobs it is about, and how, as far as that is the same whenever an event is handled.
        """
        origin = current_event.get()
        if origin is not None:
            return await self._event_call(origin, name, target, level, **args)
        for _ in range(FORGED_AT_MOST):
            number, request, confirmed = self._requests.begin()
            try:
                reply = await self._kept_call(name, level, request=request, confirmed=confirmed, **args)
            finally:
                self._requests.end(number)
            if reply[0] != b"LATE":
                return reply
            self._requests.renew()
            log.error("another program wrote to the requests of this client under %s: its request is sent again under "
                      "another name; see `redsched doctor`", self.keys.tag)  # fmt: skip
        raise StoreError(
            f"another program writes to the requests of this client under {self.keys.tag}: {name} did nothing"
        )

    async def _event_call(
        self, origin: ActiveEvent, name: str, target: Target, level: DurabilityLevel | None, **args: str | int | bytes
    ) -> list[Any]:
        """A request for an event that may be handled again: never confirmed, so that it is answered alike then."""
        what = (name, self.keys.shard, *target)
        request = f"{origin.client}:{origin.number(*what)}"
        try:
            reply = await self._kept_call(name, level, request=request, confirmed=-origin.remember_ms, **args)
        except ClockMovedError:
            origin.take_back(*what)
            raise
        if reply[0] != b"OK":
            origin.take_back(*what)
        return reply

    async def _kept_call(self, name: str, level: DurabilityLevel | None, /, **args: str | int | bytes) -> list[Any]:
        """A call that is answered when what it wrote is as safe as promised."""
        args.update(self._bounds)
        if level is None:
            return await self._call(name, None, None, **args)
        hold = f"sure:{new_id()}"
        try:
            while True:
                reply = await self._call(name, hold, None, **args)
                if reply[0] != b"OK" or await self._is_kept(level, hold):
                    return reply
        finally:
            await self.link.free(hold)

    async def _is_kept(self, level: DurabilityLevel, hold: str) -> bool:
        """Wait for it. False if the connection broke: on a new one, the write has to be repeated first."""
        try:
            await level.wait(self.link, hold)
        except StoreUnavailableError:
            return False
        except DurabilityError:
            raise
        except StoreError as error:
            raise DurabilityError(f"the job is stored, but it is not known how safely: {error}", stored=True) from error
        return True

    @abstractmethod
    async def quarantine(self, args: Mapping[str, Any], *, resend: Resend | None = None) -> list[str]:
        """Put aside the keys of another type than redsched keeps there; see `Shard`."""
