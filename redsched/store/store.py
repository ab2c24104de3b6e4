"""A Redis with its shards: what a scheduler, a worker and the command line hold on to."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

from redsched.errors import InvalidConfigError, RecordVersionError
from redsched.options import check_queue
from redsched.sealing import PayloadSecurity, Sealer
from redsched.store.cluster import Cluster
from redsched.store.durability import Promise
from redsched.store.keys import LAYOUT_VERSION, shard_of
from redsched.store.link import Link
from redsched.store.sentinel import SentinelLink
from redsched.store.transitions import Limits, Shard
from redsched.store.urls import ServerUrl, parse_url
from redsched.store.wire import Resend

__all__ = ["Store"]

CLUSTER_SHARDS = 8
"""In a cluster, where the application names no number. The slots of the numbers 0 to 7 differ in bits that CRC16 puts
high up, and are spread evenly whatever the prefix."""


def _connect(url: ServerUrl, **settings: Any) -> Link | Cluster:
    match url.kind:
        case "cluster":
            return Cluster(url, **settings)
        case "sentinel":
            return SentinelLink(url, **settings)
        case _:
            return Link(url, **settings)


class Store:
    """Made without I/O. `redis_url` is one of `redsched.store.urls.URL_FORMS`, but not an embedded one."""

    def __init__(
        self,
        redis_url: str,
        prefix: str,
        *,
        shards: int | None = None,
        limits: Limits | None = None,
        options: Mapping[str, Any] | None = None,
        max_connections: int = 50,
        health_check_interval: float = 0.0,
        lock_prefix: str | None = None,
        retry_for: float = 10.0,
        security: PayloadSecurity | None = None,
        durability_replicas: int = 1,
        durability_timeout_ms: int = 5000,
    ) -> None:
        if not isinstance(prefix, str) or not prefix or any(c in prefix for c in "{}") or not prefix.isprintable():
            raise InvalidConfigError(
                f"job_store_prefix is {prefix!r}; it must be printable text without braces", field="job_store_prefix"
            )
        url = parse_url(redis_url, options)
        if shards is None:
            shards = CLUSTER_SHARDS if url.kind == "cluster" else 1
        if isinstance(shards, bool) or not isinstance(shards, int) or not 1 <= shards <= 1024:
            raise InvalidConfigError(f"shards is {shards!r}; it must be an int from 1 to 1024", field="shards")
        self.prefix = prefix
        if lock_prefix is not None:
            check_queue(lock_prefix, "lock_prefix")
        self.sealer = None if security is None else Sealer(security, prefix)
        self.wire = _connect(url, max_connections=max_connections, health_check_interval=health_check_interval)
        """The server, or the cluster."""
        self.limits = limits or Limits()
        self.lock_prefix = lock_prefix
        self._durability = (durability_replicas, durability_timeout_ms)
        self._agreed = False
        self.shards = [
            Shard(self.wire.at(f"{{{prefix}:{number}}}"), prefix, number, self.limits, lock_prefix)
            for number in range(shards)
        ]
        self.link = self.shards[0].link
        """The way to the first shard: for what is asked once."""
        for shard in self.shards:
            shard.resend = Resend(retry_for)

    def promise(self, levels: Collection[str | None]) -> Promise:
        """What is to be true of jobs with these levels of `durability` before their caller is told of them."""
        return Promise(frozenset(level for level in levels if level), *self._durability)

    def check_pool(self) -> None:
        """See that a worker has the connections that it holds: three for each shard, and some for its tasks.

        Raises:
            InvalidConfigError: the pool is too small.
        """
        least = 3 * len(self.shards) + 2
        if self.wire.max_connections < least:
            shards = "1 shard" if len(self.shards) == 1 else f"{len(self.shards)} shards"
            raise InvalidConfigError(
                f"connection_pool_size is {self.wire.max_connections}; a worker of {shards} needs at least {least}",
                field="connection_pool_size",
            )

    async def agree(self) -> None:
        """See that all processes of the prefix have the same shards and lock_prefix; the first one says which.

        Raises:
            InvalidConfigError: this one has others: it would not find what they stored.
            RecordVersionError: its keys are laid out as a newer redsched does.
        """
        if self._agreed:
            return
        link, key = self.link, self.shards[0].keys.clock
        await link.command("HSETNX", key, "layout", LAYOUT_VERSION)
        layout = (await link.command("HGET", key, "layout")).decode(errors="replace")
        if not layout.isdigit() or int(layout) > LAYOUT_VERSION:
            raise RecordVersionError(
                f"the keys of the prefix {self.prefix!r} have the layout {layout}; this redsched knows up to "
                f"{LAYOUT_VERSION}. Upgrade this process."
            )
        for name, mine in (("shards", str(len(self.shards))), ("lock_prefix", self.lock_prefix or "")):
            await link.command("HSETNX", key, name, mine)
            theirs = (await link.command("HGET", key, name)).decode()
            if theirs != mine:
                raise InvalidConfigError(
                    f"{name} is {mine!r}, but the jobs of the prefix {self.prefix!r} are stored with {theirs!r}: every "
                    "process of a prefix needs the same. To change it, clear_all_jobs() first.",
                    field=name,
                )
        self._agreed = True

    def shard(self, job_id: str) -> Shard:
        """Where a job of this id lives, and its runs."""
        return self.shards[shard_of(job_id, len(self.shards))]

    def by_shard(self, ids: Iterable[str]) -> list[tuple[Shard, list[str]]]:
        """Ids of jobs or runs, grouped by the shard that they live in."""
        groups: dict[int, list[str]] = {}
        for job_id in ids:
            groups.setdefault(shard_of(job_id, len(self.shards)), []).append(job_id)
        return [(self.shards[number], members) for number, members in groups.items()]

    async def close(self) -> None:
        """Close the connections. A later call opens new ones."""
        await self.wire.close()
