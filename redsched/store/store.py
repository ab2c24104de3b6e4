"""A Redis with its shards: what a scheduler, a worker and the command line hold on to."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from redsched.errors import InvalidConfigError
from redsched.store.keys import shard_of
from redsched.store.link import Link, Resend
from redsched.store.transitions import Limits, Shard

__all__ = ["Store"]


class Store:
    """Made without I/O. `redis_url` is a URL that redis-py knows."""

    def __init__(
        self,
        redis_url: str,
        prefix: str,
        *,
        shards: int = 1,
        limits: Limits | None = None,
        options: Mapping[str, Any] | None = None,
        max_connections: int = 50,
        retry_for: float = 10.0,
    ) -> None:
        if not isinstance(prefix, str) or not prefix or any(c in prefix for c in "{}") or not prefix.isprintable():
            raise InvalidConfigError(
                f"job_store_prefix is {prefix!r}; it must be printable text without braces", field="job_store_prefix"
            )
        if isinstance(shards, bool) or not isinstance(shards, int) or not 1 <= shards <= 1024:
            raise InvalidConfigError(f"shards is {shards!r}; it must be an int from 1 to 1024", field="shards")
        self.prefix = prefix
        self.link = Link(redis_url, options, max_connections=max_connections)
        self.limits = limits or Limits()
        self.shards = [Shard(self.link, prefix, number, self.limits) for number in range(shards)]
        for shard in self.shards:
            shard.resend = Resend(retry_for)

    def shard(self, job_id: str) -> Shard:
        """Where a job of this id lives."""
        return self.shards[shard_of(job_id, len(self.shards))]

    def by_shard(self, ids: Iterable[str]) -> list[tuple[Shard, list[str]]]:
        """Ids grouped by the shard that they live in."""
        groups: dict[int, list[str]] = {}
        for job_id in ids:
            groups.setdefault(shard_of(job_id, len(self.shards)), []).append(job_id)
        return [(self.shards[number], members) for number, members in groups.items()]

    async def close(self) -> None:
        """Close the connections. A later call opens new ones."""
        await self.link.close()
