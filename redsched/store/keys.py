"""All key names of redsched. No other module contains one.

All keys of a shard have the same hash tag, `{prefix:shard}`, so that each script touches one slot and a cluster
can distribute the shards. The scripts build the keys of single jobs themselves, from the same tag. The table
below is copied into `docs/architecture.md`.
"""

from __future__ import annotations

from dataclasses import dataclass
from zlib import crc32

from redsched.jobs.ids import job_of

LAYOUT_VERSION = 1
"""Grows when older processes can no longer work beside newer ones on the same keys: see docs/upgrading.md."""

__all__ = ["EVERY_CLOCK", "KEY_TABLE", "KINDS", "LAYOUT_VERSION", "Keys", "Kind", "prefix_of", "shard_of"]

KEY_TABLE: tuple[tuple[str, str, str], ...] = (
    ("clock", "HASH", "now_us: highest instant seen; offset_ms: time travel; fence: last token; layout, shards, …"),
    ("due:<queue>", "ZSET", "job id or run id -> when it is due, ms since the epoch"),
    (
        "parked:<place>",
        "ZSET",
        "job id or run id -> when it was due, ms; place: `task:<name> <queue>`, what it waits for",
    ),
    ("parking", "ZSET", "place -> when a worker last claimed a run there that it could not execute, ms"),
    ("job:<id>", "HASH", "record, version, schedule state; for a one-shot job also its only run"),
    ("run:<run id>", "HASH", "a run of a periodic job: fence, owner, attempt, fires; run id = <job id>@<fire ms>"),
    ("leases", "ZSET", "run id -> when its lease expires, ms"),
    ("live:<id>", "ZSET", "run id -> when its lease expires, ms: the running instances of one job"),
    ("waiting:<id>", "SET", "run ids of one job that wait for their next attempt"),
    ("tag:<tag>", "SET", "job ids"),
    ("applications", "SET", "the owners of declared jobs"),
    ("declared:<application>", "HASH", "job id -> its last declaration, and whether it is over or was removed"),
    (
        "declarers:<application>",
        "ZSET",
        "<generation>:<process> -> last sign of life, ms; <generation> -> when a process of it left",
    ),
    (
        "generations:<application>",
        "HASH",
        "digest of a set of declarations -> its generation; last; ids of each; capped",
    ),
    ("dead", "ZSET", "run id -> when it ended, ms; capped by age and number"),
    ("events", "STREAM", "every transition with its reason; capped"),
    ("workers", "ZSET", "worker id -> last heartbeat, ms"),
    ("worker:<id>", "HASH", "what a worker serves, and its last poll, for replay; expires"),
    ("idle:<queue>", "HASH", "the leader and the deputy, and until when they sleep; expires"),
    ("wake:<queue>", "LIST", "a token wakes one idle worker; expires"),
    ("mail:<worker>", "LIST", "messages to one worker; expires"),
    ("requests:<client>", "HASH", "replies to a client's requests that it has not confirmed; expires"),
    ("circuit:<name>", "HASH", "a circuit breaker with failures, or open until an instant; expires"),
    ("result:<run id>", "STRING", "return value of a run; expires"),
    ("ended:<number>", "HASH", "run id, or id of a periodic job -> how the run ended; capped by bytes; expires"),
    (
        "batches:<number>",
        "HASH",
        "name -> rows of plain runs that are done, as sent by a poll; capped as ended; expires",
    ),
    ("index:<number>:<part>", "STRING", "names of these rows, each with the marks of their run ids; expires"),
    ("outcome:<run id>", "STRING", "how a run ended, if its result_ttl is longer than the default; expires"),
    ("answers:<client>", "LIST", "how the runs ended that a process waits for; expires"),
    ("quarantine:<key>", "ANY", "a key that had a wrong type, set aside for inspection; expires"),
)


@dataclass(frozen=True, slots=True)
class Kind:
    """Properties of all keys of a kind."""

    type: str
    has_name: bool
    expires: bool


KINDS = {
    name.partition(":")[0]: Kind(kind, ":" in name, meaning.endswith("expires")) for name, kind, meaning in KEY_TABLE
}
"""By the first part of the key."""


class Keys:
    """The key names of one shard."""

    __slots__ = ("clock", "dead", "events", "leases", "parking", "shard", "tag", "workers")

    def __init__(self, prefix: str, shard: int = 0, lock_prefix: str | None = None) -> None:
        self.shard: int = shard
        self.tag: str = f"{{{prefix}:{shard}}}:"
        self.clock: str = f"{self.tag}clock"
        self.events: str = f"{self.tag}events"
        self.leases: str = f"{self.tag}{lock_prefix}:leases" if lock_prefix else f"{self.tag}leases"
        self.dead: str = f"{self.tag}dead"
        self.workers: str = f"{self.tag}workers"
        self.parking: str = f"{self.tag}parking"

    def due(self, queue: str) -> str:
        return f"{self.tag}due:{queue}"

    def parked(self, place: str) -> str:
        return f"{self.tag}parked:{place}"

    def job(self, job_id: str) -> str:
        return f"{self.tag}job:{job_id}"

    def run(self, run_id: str) -> str:
        return f"{self.tag}run:{run_id}"

    def live(self, job_id: str) -> str:
        return f"{self.tag}live:{job_id}"

    def waiting(self, job_id: str) -> str:
        return f"{self.tag}waiting:{job_id}"

    def tagged(self, tag: str) -> str:
        return f"{self.tag}tag:{tag}"

    def declared(self, application: str) -> str:
        return f"{self.tag}declared:{application}"

    def worker(self, worker_id: str) -> str:
        return f"{self.tag}worker:{worker_id}"

    def wake(self, queue: str) -> str:
        return f"{self.tag}wake:{queue}"

    def wake_place(self, place: str) -> str:
        return self.wake(f"parked:{place}")

    def mail(self, worker_id: str) -> str:
        return f"{self.tag}mail:{worker_id}"

    def result(self, run_id: str) -> str:
        return f"{self.tag}result:{run_id}"

    def answers(self, client: str) -> str:
        return f"{self.tag}answers:{client}"

    def samples(self) -> list[tuple[str | int, ...]]:
        """One sample of each command that a worker and its scripts execute, on keys of this shard."""
        job, due = self.job("sample"), self.due("default")
        return [
            ("EVALSHA", "0" * 40, 1, self.clock), ("EVAL", "return 1", 1, self.clock), ("TIME",), ("INFO",),
            ("HSET", job, "a", "b"), ("HSETNX", job, "a", "b"), ("HGET", job, "a"), ("HMGET", job, "a"),
            ("HGETALL", job), ("HDEL", job, "a"), ("HINCRBY", job, "a", 1), ("HEXISTS", job, "a"), ("DEL", job),
            ("EXISTS", job), ("ZADD", due, 1, "a"), ("ZREM", due, "a"), ("ZSCORE", due, "a"), ("ZRANGE", due, 0, 1),
            ("ZCARD", due), ("ZCOUNT", due, 0, 1), ("ZINCRBY", self.leases, 1, "a"), ("SADD", self.tagged("a"), "b"),
            ("SREM", self.tagged("a"), "b"), ("SMEMBERS", self.waiting("a")), ("SCARD", self.waiting("a")),
            ("SRANDMEMBER", self.tagged("a"), 1), ("SSCAN", self.tagged("a"), 0), ("LLEN", self.wake("default")),
            ("RPUSH", self.wake("default"), "a"), ("BLPOP", self.mail("a"), 1), ("LPOP", self.answers("a"), 1),
            ("PEXPIRE", self.mail("a"), 1),
            ("SET", self.result("a"), "b"), ("GETRANGE", self.result("a"), 0, 1), ("XADD", self.events, "*", "a", "b"),
            ("XREAD", "STREAMS", self.events, 0), ("XREVRANGE", self.events, "+", "-"), ("SCAN", 0),
            ("ZADD", self.parking, 1, "a"), ("ZADD", self.parked("a"), 1, "a"),
            ("APPEND", f"{self.tag}index:1:1", ""),
        ]  # fmt: skip

    def every(self, kind: str = "") -> str:
        """A pattern for SCAN: all keys of the shard, or all of one kind (`job:`)."""
        escaped = self.tag.replace("[", "\\[").replace("*", "\\*").replace("?", "\\?")
        return f"{escaped}{kind}*"


EVERY_CLOCK = "{*:0}:clock"
"""A pattern for SCAN: the clocks of the first shards, one for each prefix."""


def prefix_of(clock: str) -> str:
    """The prefix of the clock of a first shard."""
    return clock[1 : -len(EVERY_CLOCK) + 2]


def shard_of(job_id: str, shards: int) -> int:
    """The shard of a job with this id, and of its runs: stable, and the same on every client."""
    return crc32(job_of(job_id).encode()) % shards if shards > 1 else 0
