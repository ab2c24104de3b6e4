"""The protocol without a scheduler around it: rows as the scripts take them, workers that are only a name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgpack

from redsched.store.store import Store
from redsched.store.transitions import Limits, PollReply, PollRequest, Shard
from redsched.store.wire import Resend

LIMITS = Limits(lease_ms=5_000, max_idle_ms=1_000, worker_ttl_ms=60_000, dead_age_ms=3_600_000, dead_max=3)
ONCE = Resend(0.0)
HOUR = 3_600_000


def row(
    job_id: str,
    mode: str = "add",
    *,
    queue: str = "default",
    at: int | None = None,
    delay: int | None = 0,
    record: bytes = b"record",
    fields: list[Any] | None = None,
    tags: list[str] | None = None,
) -> list[Any]:
    """A row of schedule.lua; `delay=None` without `at` adds the job paused."""
    wait = False if at is not None or delay is None else delay
    return [job_id, mode, queue, at if at is not None else False, wait, record, fields or False, tags or False]


def periodic(job_id: str, first: int, after: int | None, mode: str = "add", **more: Any) -> list[Any]:
    """A periodic job that fires at `first`, then at `after` (0: never again; None: it must be planned)."""
    known = [] if after is None else ["after_ms", after]
    fields = ["periodic", 1, "next_ms", first, *known, *more.pop("fields", [])]
    return row(job_id, mode, at=first, fields=fields, **more)


@dataclass(slots=True)
class Claim:
    """A row of include/claim.lua."""

    run: str
    fence: int
    attempt: int
    fire_ms: int
    record: bytes
    queue: str
    fires: list[int] | bool | None
    following_of: int | None
    version: int
    postponed: int
    begun: int
    plain: bool = False
    """Its token alone settles it, once it is done."""

    @classmethod
    def of(cls, claimed: Sequence[Any]) -> Claim:
        run, fence, attempt, fire_ms, record, queue, *rest = claimed
        return cls(run.decode(), fence, attempt, fire_ms, record, queue.decode(), *rest, plain=type(claimed) is tuple)

    def settled(self, verb: str = "done", reason: str | None = None, **more: Any) -> list[Any]:
        """The row that ends it. What did not end well has a reason, as the worker gives one."""
        if reason is None and verb not in ("done", "cancelled"):
            reason = {"missed": "misfire", "released": "shutdown", "postponed": "unknown_task"}.get(verb, "task_failed")
        return [
            self.run, self.fence, verb, more.get("fire_ms", self.fire_ms), self.attempt, 0, 0, "task", reason or False,
            more.get("delay_ms", 0), more.get("error", False), more.get("remaining", False), self.postponed + 1,
        ]  # fmt: skip


class Raw:
    """One shard, the calls made to it, and what lies in it."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.shard: Shard = store.shards[0]
        self.keys = self.shard.keys
        self.sent: tuple[Any, Any] = (None, None)
        self.answered: Any = None
        self.workers: dict[str, RawWorker] = {}
        self._script = self.shard.link.script
        self.shard.link.script = self._remember  # type: ignore[method-assign]

    async def _remember(self, script: Any, arguments: Any, **how: Any) -> Any:
        self.sent = (script, list(arguments))
        self.answered = await self._script(script, arguments, **how)
        return self.answered

    async def resend(self) -> Any:
        """The last call once more, byte for byte, as after a lost reply."""
        return await self._script(*self.sent)

    async def command(self, *command: Any) -> Any:
        return await self.shard.link.command(*command)

    async def now(self) -> int:
        return await self.shard.travel()

    async def freeze(self, ahead_ms: int = HOUR) -> int:
        """Let the clock stand still, by the rule that it never goes back: an instant ahead of Redis' is kept."""
        now_ms = await self.now() + ahead_ms
        await self.command("HSET", self.keys.clock, "now_us", now_ms * 1000)
        return now_ms

    async def names(self) -> list[str]:
        """Every key of the shard, without its tag."""
        found = await self.command("KEYS", self.keys.every())
        return sorted(key.decode().removeprefix(self.keys.tag) for key in found)

    async def dump(self, *but: str) -> dict[str, Any]:
        """Every key with what is in it."""
        return {name: await self._content(self.keys.tag + name) for name in await self.names() if name not in but}

    async def _content(self, key: str) -> Any:
        match await self.command("TYPE", key):  # the order in a hash or a set says nothing, and may change
            case b"hash":
                flat = await self.command("HGETALL", key)
                return dict(zip(flat[::2], flat[1::2], strict=True))
            case b"set":
                return set(await self.command("SMEMBERS", key))
            case _:
                return await self.command("DUMP", key)

    async def fields(self, key: str) -> dict[str, str]:
        flat = await self.command("HGETALL", key)
        return {flat[i].decode(): flat[i + 1].decode(errors="replace") for i in range(0, len(flat), 2)}

    async def job(self, job_id: str) -> dict[str, str]:
        return await self.fields(self.keys.job(job_id))

    async def run(self, run_id: str) -> dict[str, str]:
        return await self.fields(self.keys.run(run_id))

    async def scores(self, key: str) -> dict[str, int]:
        flat = await self.command("ZRANGE", key, 0, -1, "WITHSCORES")
        return {flat[i].decode(): int(float(flat[i + 1])) for i in range(0, len(flat), 2)}

    async def due(self, queue: str = "default") -> dict[str, int]:
        return await self.scores(self.keys.due(queue))

    async def events(self) -> list[tuple[str, str, str | None]]:
        """Kind, job or run id, reason, of what the scripts themselves noted."""
        found: list[tuple[str, str, str | None]] = []
        for _, flat in await self.command("XRANGE", self.keys.events, "-", "+"):
            entry = dict(zip(flat[::2], flat[1::2], strict=True))
            if b"moved" in entry:
                for kind, job_id, reason, *_ in msgpack.unpackb(entry[b"moved"], raw=False):
                    found.append((kind, job_id, reason or None))
        return found

    async def spans(self, kind: str) -> list[tuple[str, int | None, int | None, int | None]]:
        """Job, first and last fire, and count (None = not counted), of what the scripts noted of that kind."""
        found: list[tuple[str, int | None, int | None, int | None]] = []
        for _, flat in await self.command("XRANGE", self.keys.events, "-", "+"):
            entry = dict(zip(flat[::2], flat[1::2], strict=True))
            for row in msgpack.unpackb(entry[b"moved"], raw=False) if b"moved" in entry else ():
                if row[0] == kind:
                    first, last, count = (None if value is False else value for value in row[3:6])
                    found.append((row[1], first, last, count))
        return found

    async def expire(self, run_id: str) -> None:
        """Let the lease of a run be over, as when its worker has been dead for so long."""
        past = await self.now() - 1
        await self.command("ZADD", self.keys.leases, "XX", past, run_id)
        job_id, _, fire = run_id.rpartition("@")
        if fire.isdigit():
            await self.command("ZADD", self.keys.live(job_id), "XX", past, run_id)

    def worker(self, name: str, *queues: str) -> RawWorker:
        """The worker of that name: the same one each time, since its polls are numbered."""
        return self.workers.setdefault(name, RawWorker(self, name, queues or ("default",)))


class RawWorker:
    """A worker that does only what the test calls."""

    def __init__(self, raw: Raw, name: str, queues: tuple[str, ...]) -> None:
        self.raw = raw
        self.name = name
        self.queues: bytes = msgpack.packb(list(queues))
        self.sequence = 0

    async def poll(
        self,
        *settled: list[Any],
        capacity: int = 10,
        held: list[Claim] | None = None,
        heartbeat: Mapping[str, Any] | None = None,
        **more: Any,
    ) -> PollReply:
        self.sequence += 1
        request = PollRequest(self.sequence, capacity, list(settled), heartbeat=heartbeat, **more)
        request.held = [part for claim in held or [] for part in (claim.run, claim.fence)]
        return await self.raw.shard.poll(self.name, self.queues, request, resend=ONCE)

    async def claim(self, **more: Any) -> list[Claim]:
        return [Claim.of(claimed) for claimed in (await self.poll(**more)).claims]

    async def one(self, **more: Any) -> Claim:
        (claim,) = await self.claim(**more)
        return claim

    async def commit(
        self, job_id: str, fence: int, fires: list[int], next_ms: int = 0, after_ms: int = -1, **more: Any
    ) -> str:
        spans = [more.get(name, False) for name in ("missed", "coalesced", "cut", "error", "postpone")]
        (outcome,), _ = await self.raw.shard.commit(
            self.name, [[job_id, fence, fires, next_ms, after_ms, *spans]], resend=ONCE
        )
        return outcome
