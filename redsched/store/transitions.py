"""The bridge to the Lua scripts: one coroutine for each `lua/*.lua`, of the same name.

Nothing is decided here. A `Shard` packs arguments, calls the script, keeps the clock, and turns reply words
into values or exceptions.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, cast

import msgpack

from redsched.codec import pack_result
from redsched.errors import (
    ConflictingIdError,
    DurabilityError,
    JobLookupError,
    StoreError,
    StoreUnavailableError,
)
from redsched.ids import new_id
from redsched.origin import Origin, current_origin
from redsched.store.clock import StoreClock
from redsched.store.durability import Promise
from redsched.store.keys import Keys
from redsched.store.limits import Limits
from redsched.store.requests import Requests
from redsched.store.rows import PollReply, PollRequest, claimed_rows
from redsched.store.scripts import load
from redsched.store.wire import Resend, Wire

__all__ = [
    "ClockMovedError",
    "LeftBehindError",
    "Limits",
    "PollReply",
    "PollRequest",
    "Shard",
    "claimed_rows",
    "conflict",
]


Target = Sequence[str]
Count = Callable[[Sequence[str], int], Awaitable[Mapping[str, Any]]]
"""Ids, and how often they were counted before -> for each its cursor and spans: `account` of `lua/cancel.lua`."""


class ClockMovedError(Exception):
    """The fire times were computed for an instant that Redis has left behind: compute them again."""


class LeftBehindError(Exception):
    """Jobs of these ids would be replaced, and leave fires behind that have to be counted first."""

    def __init__(self, ids: Sequence[str]) -> None:
        super().__init__(*ids)
        self.ids = list(ids)


def _pack(value: Any) -> bytes:
    # use_bin_type=False: Lua's cmsgpack reads the old raw type, in which text and bytes are one.
    try:
        return cast("bytes", msgpack.packb(value, use_bin_type=False))
    except UnicodeEncodeError:
        # An id that somebody else put into Redis may be no UTF-8: it goes back as it came.
        return cast("bytes", msgpack.packb(value, use_bin_type=False, unicode_errors="surrogateescape"))


class Shard:
    """One hash tag's worth of keys, and the scripts on them."""

    def __init__(self, link: Wire, prefix: str, number: int, limits: Limits, lock_prefix: str | None = None) -> None:
        self.link = link
        self.keys = Keys(prefix, number, lock_prefix)
        self.limits = limits
        self.clock = StoreClock()
        self.resend = Resend(10.0)
        """For calls of a client, which wants to know at some time that Redis is not there."""
        self._hold = f"poll:{number}"
        self._requests = Requests()
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

    async def _call(
        self, name: str, hold: str | None = None, resend: Resend | None = None, /, **args: str | int | bytes
    ) -> list[Any]:
        script = load(name)
        packed = script.pack(self._names, {"prefix": self.keys.tag, **args})
        reply = await self.link.script(script, packed, hold=hold, resend=resend or self.resend)
        word = reply[0]
        if word == b"OK":
            self.clock.observe(reply[1])
        elif word == b"CLOCK":
            self.clock.observe(reply[1])
            raise ClockMovedError
        elif word.decode() not in script.replies:
            raise StoreError(f"{name}.lua answered {word!r}, which its header does not name")
        return reply

    async def _request_call(
        self, name: str, target: Target, promise: Promise | None = None, /, **args: str | int | bytes
    ) -> list[Any]:
        """A client's call: sent again with the same number until it is answered, and carried out once.

        `target` says which jobs it is about, and how, as far as that is the same whenever an event is handled.
        """
        origin = current_origin.get()
        if origin is not None:
            return await self._event_call(origin, name, target, promise, **args)
        number, request, confirmed = self._requests.begin()
        try:
            return await self._kept_call(name, promise, request=request, confirmed=confirmed, **args)
        finally:
            self._requests.end(number)

    async def _event_call(
        self, origin: Origin, name: str, target: Target, promise: Promise | None, **args: str | int | bytes
    ) -> list[Any]:
        """A request for an event that may be handled again: never confirmed, so that it is answered alike then."""
        what = (name, self.keys.shard, *target)
        request = f"{origin.client}:{origin.number(*what)}"
        try:
            reply = await self._kept_call(name, promise, request=request, confirmed=-origin.remember_ms, **args)
        except ClockMovedError:
            origin.take_back(*what)
            raise
        if reply[0] != b"OK":
            origin.take_back(*what)
        return reply

    async def _kept_call(self, name: str, promise: Promise | None, /, **args: str | int | bytes) -> list[Any]:
        """A call that is answered when what it wrote is as safe as promised."""
        args.update(self._bounds)
        if promise is None:
            return await self._call(name, None, None, **args)
        hold = f"sure:{new_id()}"
        try:
            while True:
                reply = await self._call(name, hold, None, **args)
                if reply[0] != b"OK" or await self._is_kept(promise, hold):
                    return reply
        finally:
            await self.link.free(hold)

    async def _is_kept(self, promise: Promise, hold: str) -> bool:
        """Wait for it. False if the connection broke meanwhile: on another, it has to be written about anew first."""
        try:
            await promise.wait(self.link, hold)
        except StoreUnavailableError:
            return False
        except DurabilityError:
            raise
        except StoreError as error:
            raise DurabilityError(f"the job is stored, but it is not known how safely: {error}", stored=True) from error
        return True

    async def schedule(
        self, rows: Sequence[Any], *, assumed_ms: int = 0, owner: str = "", promise: Promise | None = None
    ) -> list[str]:
        """Add, replace or keep a batch of jobs, all or none. Returns `added`, `kept` or `replaced` for each.

        Raises:
            DurabilityError: they are stored, but not as safely as `promise` says.
            ConflictingIdError: a job of one of the ids is there already; nothing was stored.
            ClockMovedError: `assumed_ms` is not Redis' time any more; nothing was stored.
            LeftBehindError: jobs that would be replaced leave fires behind, for which their rows have no account, or an
                old one; nothing was stored.
        """
        reply = await self._request_call(
            "schedule", [row[0] for row in rows], promise, jobs=_pack(rows), assumed_ms=assumed_ms, owner=owner
        )
        if reply[0] == b"CONFLICT":
            raise conflict([job_id.decode() for job_id in reply[1]])
        if reply[0] == b"BEHIND":
            raise LeftBehindError([job_id.decode() for job_id in reply[1]])
        return [status.decode() for status in reply[2]] or ["added"] * len(rows)

    async def poll(self, worker: str, queues: bytes, request: PollRequest, *, resend: Resend) -> PollReply:
        """The worker's one call. Only one at a time for each worker."""
        limits = self.limits
        reply = await self._call(
            "poll",
            self._hold,
            resend,
            worker=worker,
            sequence=request.sequence,
            capacity=request.capacity,
            queues=queues,
            lease_ms=limits.lease_ms,
            nap_ms=limits.nap_ms,
            settled=_pack(request.settled) if request.settled else b"",
            done=_pack(request.done) if request.done else b"",
            others=len(request.settled) - len(request.done) // 3,
            deaths=_pack(request.deaths) if request.deaths else b"",
            results=_pack(request.results) if request.results else b"",
            following=_pack(request.following) if request.following else b"",
            held=_pack(request.held) if request.held else b"",
            heartbeat=_pack(request.heartbeat) if request.heartbeat is not None else b"",
            stalled=_pack(request.stalled) if request.stalled else b"",
            gone_ms=limits.gone_ms,
            dead_age_ms=limits.dead_age_ms,
            dead_max=limits.dead_max,
            dead_max_bytes=limits.dead_max_bytes,
            **self._bounds,
            record_max=limits.record_max,
            places=request.places,
        )
        return PollReply(reply[1], reply[2], claimed_rows(reply[3]), *reply[4:])

    async def commit(self, worker: str, rows: Sequence[Any], *, resend: Resend) -> tuple[list[str], list[Any]]:
        """Store plans. Returns started, skipped, nothing, postponed or STALE for each, and a tally as `poll`."""
        reply = await self._call(
            "commit",
            self._hold,
            resend,
            worker=worker,
            lease_ms=self.limits.lease_ms,
            rows=_pack(rows),
            **self._bounds,
        )
        return [outcome.decode() for outcome in reply[2]], reply[3]

    async def cancel(
        self,
        *,
        ids: Sequence[str] = (),
        tag: str = "",
        how: str = "cancel",
        count: Count | None = None,
        application: str = "",
    ) -> list[str]:
        """End jobs by id, or all of a tag. Returns the ids that were there.

        `count` accounts for the fires that jobs leave behind; without it these are not told of.
        """
        ended, left, tries, account = list[str](), list(ids), 0, dict[str, Any]()
        while True:
            reply = await self._request_call(
                "cancel", (how, tag, *left), ids=_pack(left) if left else b"", tag="" if left else tag, how=how,
                application=application, account=_pack(account) if account else b"",
            )  # fmt: skip
            ended += [job_id.decode() for job_id in reply[2]]
            behind = [job_id.decode() for job_id in reply[4]] if len(reply) > 4 else []  # an older version's has none
            if behind:
                nothing: Mapping[str, Any] = {job_id: [False, []] for job_id in behind}
                account = {**nothing, **(await count(behind, tries) if count else {})}
                tries += 1
            elif tag and (left or reply[3]):
                tries, account = 0, {}
            else:
                return ended
            left = behind

    async def pause(self, job_id: str) -> bool:
        """Keep a job from becoming due. Returns False where its last run has been claimed.

        Raises:
            JobLookupError: there is no such job.
        """
        reply = await self._request_call("pause", [job_id], id=job_id)
        self._found(reply, job_id)
        return reply[0] == b"OK"

    async def modify(
        self, job_id: str, version: int, change: Mapping[str, Any], *, assumed_ms: int = 0
    ) -> tuple[bytes | None, list[Any] | None] | None:
        """Change a job, if it is still at `version`. Returns None if it is not: read it again.

        Else the record that was stored (for an event only: the job may be gone when that comes again), and the job
        as it is then: a row of `inspect` without id and record, or None if the change ended it.

        Raises:
            JobLookupError: there is no such job.
            ClockMovedError: `assumed_ms` is not Redis' time any more.
        """
        reply = await self._request_call(
            "modify", [job_id], id=job_id, version=version, change=_pack(change), assumed_ms=assumed_ms
        )
        self._found(reply, job_id)
        if reply[0] != b"OK":
            return None
        record = reply[2] if len(reply) > 2 else None
        row = reply[3] if len(reply) > 3 else [[], None, 0, 0]  # what an older version answered to an event
        return record or None, row or None

    async def run(self, job_id: str) -> str:
        """Make a job due now, once. Returns the run's id.

        Raises:
            JobLookupError: there is no such job.
        """
        reply = await self._request_call("run", [job_id], id=job_id)
        self._found(reply, job_id)
        return reply[2].decode()

    async def requeue(self, run_ids: Sequence[str]) -> list[str]:
        """Give dead runs another life. Returns the ids of those that were dead."""
        reply = await self._request_call("requeue", run_ids, ids=_pack(list(run_ids)))
        return [run_id.decode() for run_id in reply[2]]

    async def leave(self, worker: str, queues: bytes, *, keep: bool) -> None:
        """Say that a worker goes. Not sent again: if Redis is away, the heartbeat ends by itself."""
        more = 1
        while more:
            _, _, more = await self._call("leave", None, Resend(0.0), worker=worker, queues=queues, keep=int(keep))

    async def vouch(self, worker: str, for_ms: int, blocker: str = "", *, resend: Resend) -> bool:
        """Keep the leases of a worker from ending for so long from now; 0 = no more. False if it is not there."""
        reply = await self._call("vouch", None, resend, worker=worker, for_ms=for_ms, blocker=blocker)
        return bool(reply[2])

    async def progress(self, worker: str, run_id: str, fence: int, value: Any) -> bool:
        """Keep what a task tells of itself. Returns False if the worker no longer holds the run."""
        reply = await self._call("progress", worker=worker, run_id=run_id, fence=fence, progress=pack_result(value))
        return reply[0] == b"OK"

    async def declare(self, process: str, how: str, owners: Sequence[Sequence[Any]]) -> list[list[Any]]:
        """Tell which jobs a process declares, or only that it is there, or leaves. Rows as `lua/declare.lua` says."""
        gone_ms = self.limits.gone_ms
        reply = await self._call("declare", process=process, how=how, owners=_pack(owners), gone_ms=gone_ms)
        return reply[2]

    async def travel(self, *, ahead_ms: int = 0, until_ms: int = 0) -> int:
        """Move the time of this shard ahead (tests), or ask for it. Returns the instant, ms since the epoch."""
        reply = await self._call("travel", ahead_ms=ahead_ms, until_ms=until_ms)
        return reply[1] // 1000

    async def circuit(
        self, name: str, verb: str, token: str, threshold: int, recovery_ms: int, successes: int, *,
        resend: Resend | None = None,
    ) -> tuple[str, int]:  # fmt: skip
        """Ask or tell a circuit breaker. Returns closed, open or half_open, and for open how many ms to wait."""
        reply = await self._call(
            "circuit", None, resend, circuit=name, verb=verb, token=token, threshold=threshold,
            recovery_ms=recovery_ms, successes=successes,
        )  # fmt: skip
        return reply[2].decode(), reply[3]

    async def outcome(self, ids: Sequence[str], waiter: str = "") -> tuple[list[list[Any]], int, int]:
        """How runs ended, by ids of jobs or runs. Of those that have not, `waiter` is told when they do.

        Returns an answer of `lua/outcome.lua` for each id; the instant of Redis, and the one since when outcomes are
        kept (0 = none was yet), in ms.
        """
        left, answers = list(ids), list[list[Any]]()
        while True:
            reply = await self._call("outcome", ids=_pack(left), waiter=waiter, record_max=self.limits.record_max)
            answers += reply[3]
            left = left[max(1, reply[4]) :]
            if not left:
                return answers, reply[1] // 1000, reply[2]

    async def inspect(
        self, ids: Sequence[str], *, queue: str = "", state: str = "", undue: bool = False
    ) -> list[list[Any]]:
        """Read jobs or runs. Rows: id, fields (flat), due or None, running, waiting.

        Args:
            queue, state: only jobs of this queue, in this state: the others are not read.
            undue: only jobs that have no instant at which they are due.
        """
        left, found = list(ids), []
        while left:
            reply = await self._call(
                "inspect",
                ids=_pack(left),
                queue=queue,
                state=state,
                undue=int(undue),
                record_max=self.limits.record_max,
            )
            found += reply[2]
            left = left[max(1, reply[3]) :]
        return found

    def _found(self, reply: Sequence[Any], job_id: str) -> None:
        if reply[0] == b"NOTFOUND":
            raise JobLookupError(f"there is no job of the id {job_id!r}: it has ended, was removed, or never was")


def conflict(ids: Sequence[str]) -> ConflictingIdError:
    """The error for ids that other jobs have."""
    return ConflictingIdError(
        f"there is a job of the id {', '.join(map(repr, ids[:10]))} already; nothing was stored. "
        "Pass replace_existing=True to replace it, or another job_id."
    )
