"""A Redis with its shards: what a scheduler, a worker and the command line hold on to."""

from __future__ import annotations

import logging
import re
from collections.abc import Collection, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from redsched.checks import check_queue, is_int
from redsched.codec.payload_security import PayloadSecurity, Sealer
from redsched.errors import InvalidConfigError, RecordVersionError, StoreError
from redsched.settings import default_of
from redsched.store.durability import DurabilityLevel
from redsched.store.keys import LAYOUT_VERSION, shard_of
from redsched.store.link import Link
from redsched.store.transitions import Limits, Shard
from redsched.store.urls import ServerUrl, parse_url
from redsched.store.wire import Resend, Wire

if TYPE_CHECKING:  # a service has one server, or many
    from redsched.store.cluster import Cluster

__all__ = ["Store"]

CLUSTER_SHARDS = 8
"""In a cluster, where the application names no number. The slots of the numbers 0 to 7 differ in bits that CRC16 puts
high up, and are spread evenly whatever the prefix."""


log = logging.getLogger("redsched.store")

_warned: set[str] = set()
"""URLs of which the log has said that their certificates are not verified."""


def _connect(url: ServerUrl, **settings: Any) -> Link | Cluster:
    match url.kind:
        case "cluster":
            from redsched.store.cluster import Cluster

            return Cluster(url, **settings)
        case "sentinel":
            from redsched.store.sentinel import SentinelLink

            return SentinelLink(url, **settings)
        case _:
            return Link(url, **settings)


def _possible(shards: int) -> bool:
    return 1 <= shards <= 1024


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
        max_connections: int = default_of("connection_pool_size"),
        health_check_interval: float = default_of("health_check_interval"),
        lock_prefix: str | None = None,
        retry_for: float = default_of("retry_for"),
        security: PayloadSecurity | None = None,
        durability_replicas: int = default_of("durability_replicas"),
        durability_timeout_ms: int = round(default_of("durability_timeout") * 1000),
    ) -> None:
        if isinstance(prefix, str) and "://" in prefix:
            raise InvalidConfigError("job_store_prefix is a URL; redis_url comes first", field="job_store_prefix")
        if isinstance(prefix, str) and re.search(":[0-9]", prefix):
            # Its keys would match the ACL pattern of another prefix: {shop:0:1}: that of shop, {shop:[0-9]*}:
            text = f"job_store_prefix is {prefix!r}; a colon must not be followed by a digit, as before a shard"
            raise InvalidConfigError(text, field="job_store_prefix")
        if not isinstance(prefix, str) or not prefix or any(c in prefix for c in "{}") or not prefix.isprintable():
            raise InvalidConfigError(
                f"job_store_prefix is {prefix!r}; it must be printable text without braces", field="job_store_prefix"
            )
        url = parse_url(redis_url, options)
        if shards is not None and (not is_int(shards) or not _possible(shards)):
            raise InvalidConfigError(f"shards is {shards!r}; it must be an int from 1 to 1024", field="shards")
        self.prefix = prefix
        if lock_prefix is not None:
            check_queue(lock_prefix, "lock_prefix")
        self.sealer: Sealer | None = None if security is None else Sealer(security, prefix)
        self.secure: bool = url.secure
        """Whether there is TLS."""
        self.unverified: str = url.unverified
        """Which check of TLS is switched off; empty when all are made."""
        if url.unverified and url.shown not in _warned:
            _warned.add(url.shown)
            log.warning("TLS to %s is not verified; %s", url.shown, url.unverified)
        self.wire: Link | Cluster = _connect(
            url, max_connections=max_connections, health_check_interval=health_check_interval
        )
        """The server, or the cluster."""
        self._url, self._options = redis_url, options
        self.limits: Limits = limits or Limits()
        self._durability = (durability_replicas, durability_timeout_ms)
        self._named = {
            name: value for name, value in (("shards", shards), ("lock_prefix", lock_prefix)) if value is not None
        }
        """What the application says; the rest is learned from Redis."""
        self._retry_for = retry_for
        self._agreed = False
        self.shards: list[Shard] = []
        self._divide(shards or (CLUSTER_SHARDS if url.kind == "cluster" else 1), lock_prefix)
        self.link: Wire = self.shards[0].link
        """The way to the first shard: for what is asked once."""

    def _divide(self, shards: int, lock_prefix: str | None) -> None:
        """Set the number of shards."""
        self.lock_prefix = lock_prefix
        self.shards = [
            Shard(self.wire.at(f"{{{self.prefix}:{number}}}"), self.prefix, number, self.limits, lock_prefix)
            for number in range(shards)
        ]
        for shard in self.shards:
            shard.resend = Resend(self._retry_for)

    def reached_by(self) -> dict[str, Any]:
        """How another process reaches the same keys. The URL has its password: this is not for a log."""
        return {
            "url": self._url, "prefix": self.prefix, "shards": len(self.shards), "lock_prefix": self.lock_prefix,
            "options": self._options,
        }  # fmt: skip

    def durability_level(self, levels: Collection[str | None]) -> DurabilityLevel:
        """The level that jobs with these options of `durability` need: it must be reached before their call returns."""
        return DurabilityLevel(frozenset(level for level in levels if level), *self._durability)

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

    @property
    def agreed(self) -> bool:
        """Whether it is known from Redis how the jobs are stored; False: nothing was, when it was asked."""
        return self._agreed

    async def learn(self) -> None:
        """Find out how the jobs of the prefix are stored: into how many shards, and with which lock_prefix. Takes over
        what the application does not name; asks until something is stored, and then no more.

        Raises:
            InvalidConfigError: the application names others: it would not find what is stored.
            RecordVersionError: the keys are laid out as a newer redsched does.
            StoreError: Redis does not tell.
        """
        if self._agreed:
            return
        key, resend = self.shards[0].keys.clock, self.shards[0].resend
        values = await self.link.repeated("HMGET", key, "layout", "shards", "lock_prefix", resend=resend)
        layout, shards, lock_prefix = (None if value is None else value.decode(errors="replace") for value in values)
        if layout is not None and (not layout.isdecimal() or len(layout) > 9 or int(layout) > LAYOUT_VERSION):
            raise RecordVersionError(
                f"the keys of the prefix {self.prefix!r} have the layout {layout}; this redsched knows up to "
                f"{LAYOUT_VERSION}. Upgrade this process."
            )
        for name, theirs in (("shards", shards), ("lock_prefix", lock_prefix)):
            mine = str(self._named.get(name, theirs))
            if theirs is not None and mine != theirs:
                raise InvalidConfigError(
                    f"{name} is {mine!r}, but the jobs of the prefix {self.prefix!r} are stored with {theirs!r}: name "
                    "the same or none. To change it, clear_all_jobs() first.",
                    field=name,
                )
        if shards is not None:
            if not shards.isdecimal() or len(shards) > 4 or not _possible(int(shards)):
                raise StoreError(f"the field shards of {key} is {shards!r}; it must be a number from 1 to 1024")
            learned = int(shards), (lock_prefix or None if lock_prefix is not None else self.lock_prefix)
            if learned != (len(self.shards), self.lock_prefix):
                self._divide(*learned)
        self._agreed = None not in (layout, shards, lock_prefix)

    async def agree(self) -> None:
        """See that all processes of the prefix have the same shards and lock_prefix; the first one says which.

        Raises:
            InvalidConfigError: this one has others: it would not find what they stored.
            RecordVersionError: its keys are laid out as a newer redsched does.
        """
        await self.learn()
        if self._agreed:
            return
        key, resend = self.shards[0].keys.clock, self.shards[0].resend
        mine = {"layout": LAYOUT_VERSION, "shards": len(self.shards), "lock_prefix": self.lock_prefix or ""}
        for name, value in mine.items():
            await self.link.repeated("HSETNX", key, name, value, resend=resend)
        await self.learn()

    def forget_agreement(self) -> None:
        """Forget the agreement, which is no longer stored: the next call that stores a job makes it again."""
        self._agreed = False

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
