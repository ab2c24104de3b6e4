"""The bridge to the Lua scripts: one coroutine for each `lua/*.lua`, of the same name.

Nothing is decided here. A `Shard` packs arguments, calls the script, keeps the clock, and turns reply words
into values or exceptions.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from redsched.codec.values import pack_result
from redsched.errors import (
    ConflictingIdError,
    JobLookupError,
    StoreAccessError,
)
from redsched.store.calls import ClockMovedError, pack, pack_settled
from redsched.store.durability import DurabilityLevel
from redsched.store.limits import Limits
from redsched.store.marks import index_of
from redsched.store.quarantine import KEEP_MS, suspects
from redsched.store.reads import Reads
from redsched.store.rows import PollReply, PollRequest, Scheduled, claimed_rows
from redsched.store.scripts import load
from redsched.store.wire import Resend

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


log = logging.getLogger("redsched.store")

Count = Callable[[Sequence[str], int], Awaitable[Mapping[str, Any]]]
"""Ids, and how often they were counted before -> for each its cursor and spans: `account` of `lua/cancel.lua`."""


class LeftBehindError(Exception):
    """Jobs of these ids would be replaced, and leave fires behind that have to be counted first."""

    def __init__(self, ids: Sequence[str]) -> None:
        super().__init__(*ids)
        self.ids: list[str] = list(ids)


class Shard(Reads):
    """One hash tag's worth of keys, and the scripts on them."""

    async def schedule(
        self, rows: Sequence[Any], *, assumed_ms: int = 0, owner: str = "", level: DurabilityLevel | None = None
    ) -> list[str]:
        """Add, replace or keep a batch of jobs, all or none. Returns `added`, `kept` or `replaced` for each.

        Raises:
            DurabilityError: they are stored, but not as safely as `level` says.
            ConflictingIdError: a job of one of the ids is there already; nothing was stored.
            ClockMovedError: `assumed_ms` is not Redis' time any more; nothing was stored.
            LeftBehindError: jobs that would be replaced leave fires behind, for which their rows have no account, or an
                old one; nothing was stored.
        """
        reply = await self._request_call(
            "schedule", [row[Scheduled.ID] for row in rows], level, jobs=pack(rows), assumed_ms=assumed_ms, owner=owner
        )
        if reply[0] == b"CONFLICT":
            raise conflict([job_id.decode() for job_id in reply[1]])
        if reply[0] == b"BEHIND":
            raise LeftBehindError([job_id.decode() for job_id in reply[1]])
        return [status.decode() for status in reply[2]] or ["added"] * len(rows)

    async def poll(self, worker: str, queues: bytes, request: PollRequest, *, resend: Resend) -> PollReply:
        """The worker's one call. Only one at a time for each worker."""
        limits = self.limits
        done = len(request.done) // 2
        settled, done_bytes = pack_settled(request.settled, done)
        reply = await self._call(
            "poll",
            self._hold,
            resend,
            worker=worker,
            sequence=request.sequence,
            capacity=request.capacity,
            queues=queues,
            lease_ms=limits.lease_ms,
            max_idle_ms=limits.max_idle_ms,
            settled=settled,
            done=pack(request.done) if request.done else b"",
            done_bytes=done_bytes,
            index=index_of(request.found) if request.found else b"",
            others=len(request.settled) - done,
            deaths=pack(request.deaths) if request.deaths else b"",
            results=pack(request.results) if request.results else b"",
            following=pack(request.following) if request.following else b"",
            held=pack(request.held) if request.held else b"",
            heartbeat=pack(request.heartbeat) if request.heartbeat is not None else b"",
            stalled=pack(request.stalled) if request.stalled else b"",
            worker_ttl_ms=limits.worker_ttl_ms,
            dead_age_ms=limits.dead_age_ms,
            dead_max=limits.dead_max,
            dead_max_bytes=limits.dead_max_bytes,
            **self._bounds,
            record_max=limits.record_max,
            places=request.places,
        )
        if len(reply) > PollReply.PARTS:
            request.sequence = reply[PollReply.PARTS] + 1  # another wrote it, and nothing was done: beyond it
            return await self.poll(worker, queues, request, resend=resend)
        return PollReply(reply[1], reply[2], claimed_rows(reply[3]), *reply[4:])

    async def commit(self, worker: str, rows: Sequence[Any], *, resend: Resend) -> tuple[list[str], list[Any]]:
        """Store plans. Returns started, skipped, nothing, postponed or STALE for each, and a tally as `poll`."""
        reply = await self._call(
            "commit",
            self._hold,
            resend,
            worker=worker,
            lease_ms=self.limits.lease_ms,
            rows=pack(rows),
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

        `count` accounts for the fires that jobs leave behind; without it these are not recorded.
        """
        ended, left, tries, account = list[str](), list(ids), 0, dict[str, Any]()
        while True:
            reply = await self._request_call(
                "cancel", (how, tag, *left), ids=pack(left) if left else b"", tag="" if left else tag, how=how,
                application=application, account=pack(account) if account else b"",
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
            JobLookupError: the job does not exist.
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
            JobLookupError: the job does not exist.
            ClockMovedError: `assumed_ms` is not Redis' time any more.
        """
        reply = await self._request_call(
            "modify", [job_id], id=job_id, version=version, change=pack(change), assumed_ms=assumed_ms
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
            JobLookupError: the job does not exist.
        """
        reply = await self._request_call("run", [job_id], id=job_id)
        self._found(reply, job_id)
        return reply[2].decode()

    async def requeue(self, run_ids: Sequence[str]) -> list[str]:
        """Give dead runs another life. Returns the ids of those that were dead."""
        reply = await self._request_call("requeue", run_ids, ids=pack(list(run_ids)))
        return [run_id.decode() for run_id in reply[2]]

    async def leave(self, worker: str, queues: bytes, *, keep: bool, failed: str = "") -> None:
        """Say that a worker goes, and with `failed` the error that ended it. Not sent again: if Redis is away, the
        heartbeat ends by itself."""
        more = 1
        while more:
            _, _, more = await self._call(
                "leave", None, Resend(0.0), worker=worker, queues=queues, keep=int(keep), failed=failed, **self._bounds
            )  # fmt: skip
            failed = ""

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
        worker_ttl_ms = self.limits.worker_ttl_ms
        reply = await self._call("declare", process=process, how=how, owners=pack(owners), worker_ttl_ms=worker_ttl_ms)
        return reply[2]

    async def quarantine(self, args: Mapping[str, Any], *, resend: Resend | None = None) -> list[str]:
        """Put aside the keys of another type than redsched keeps there, of those that such a call needs.

        Returns the names of those keys, without the shard's tag.
        """
        script = load("quarantine")
        given = {
            "prefix": self.keys.tag, "worker": str(args.get("worker", "a client")), "keep_ms": KEEP_MS,
            "names": pack(suspects(self.keys, args)), **self._bounds,
        }  # fmt: skip
        try:
            reply = await self.link.script(script, script.pack(self._names, given), resend=resend or self.resend)
        except StoreAccessError:
            return []  # this user may not; a worker will
        found = [name.decode(errors="replace") for name in reply[2]]
        for name in found:
            log.error(
                "the key %s%s is of another type than redsched keeps there: another program writes to this prefix. "
                "What it wrote is kept as quarantine:%s for 7 days: see `redsched doctor`", self.keys.tag, name, name,
            )  # fmt: skip
        return found

    async def travel(self, *, ahead_ms: int = 0, until_ms: int = 0) -> int:
        """Move the time of this shard ahead (tests), or ask for it. Returns the instant, ms since the epoch."""
        move = functools.partial(self._call, "travel", ahead_ms=ahead_ms, until_ms=until_ms)
        reply = await (move() if ahead_ms or until_ms else self._read(move, self._plain_now))
        return reply[1] // 1000

    async def repair(self, queues: Sequence[str]) -> tuple[int, int]:
        """Set the clock of this shard back to Redis' TIME. Returns how far ahead it was, ms, and how many instants that
        were computed from it were moved."""
        reply = await self._call("repair", queues=pack(list(queues)))
        return reply[2], reply[3]

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

    def _found(self, reply: Sequence[Any], job_id: str) -> None:
        if reply[0] == b"NOTFOUND":
            raise JobLookupError(f"no job with id {job_id!r}: it has ended, was removed, or never existed")


def conflict(ids: Sequence[str]) -> ConflictingIdError:
    """The error for ids that other jobs have."""
    return ConflictingIdError(
        f"there is a job of the id {', '.join(map(repr, ids[:10]))} already; nothing was stored. "
        "Pass replace_existing=True to replace it, or another job_id."
    )
