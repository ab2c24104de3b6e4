"""`Client`: what every function that asks Redis needs: the store, the registry of tasks, the settings of jobs.

A scheduler holds one. The client knows nothing of workers, of the life of a scheduler, or of the scheduler itself.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from redsched.client.results import ResultWaiter
from redsched.client.scheduling_middleware import SchedulingMiddleware
from redsched.codec.values import RECORD_OVERHEAD_BYTES
from redsched.jobs.ids import new_id
from redsched.jobs.options import JobOptions
from redsched.runtime import forks
from redsched.runtime.loops import PerLoop
from redsched.store.limits import Limits
from redsched.store.store import Store
from redsched.store.transitions import Shard
from redsched.store.urls import parse_url
from redsched.tasks.registry import TaskRegistry
from redsched.worker.circuits import guard

if TYPE_CHECKING:  # what few processes need is imported where it is used
    from redsched.embedded.server import EmbeddedServer
    from redsched.policies.circuit_breaker import CircuitBreakerPolicy

__all__ = ["BATCH", "TRIES", "Client", "instant_of"]

R = TypeVar("R")

BATCH = 1000
"""Jobs stored, or ended, by one call of a script: about 5 ms of Redis' time."""
TRIES = 20
"""How often what depends on Redis' state is computed again because that changed meanwhile."""

_LIMITS = ("dead_max", "dead_max_bytes", "events_max", "events_max_bytes", "outcomes_max_bytes")
_OF_STORE = ("shards", "retry_for", "lock_prefix", "health_check_interval", "durability_replicas")


async def instant_of(shard: Shard) -> int:
    """Redis' time as this process knows it; asks if it does not. The scripts refuse one that is too old."""
    if not shard.clock.known:
        await shard.travel()
    return shard.clock.now_ms()


class Client:
    """Made without I/O.

    Args:
        redis_url, prefix: where the jobs are. An embedded server is started by the first call that needs it.
        timezone: of jobs that name none, by name.
        options: of jobs that give none.
        registry: the tasks of this process.
        executors: the names that the option `executor` of a job may have.
        max_payload_bytes: the largest arguments of a job.
        store_settings: the further arguments of `Store`.
    """

    def __init__(
        self,
        redis_url: str,
        prefix: str,
        *,
        timezone: str,
        options: JobOptions,
        registry: TaskRegistry,
        executors: frozenset[str],
        max_payload_bytes: int,
        store_settings: Mapping[str, Any],
    ) -> None:
        self.id: str = new_id()
        """The id of this process in the fleet: that of its worker and of its local queue."""
        self.timezone: str = timezone
        self.options: JobOptions = options
        self.registry: TaskRegistry = registry
        self.executors: frozenset[str] = executors
        self.max_payload_bytes: int = max_payload_bytes
        self.store_settings: Mapping[str, Any] = store_settings
        self.middleware: tuple[SchedulingMiddleware, ...] = ()
        """What sees each job before it is checked, the first first."""
        self.waiters: PerLoop[ResultWaiter] = PerLoop(self._make_waiter)
        """Who waits for runs to end, in each event loop."""
        self._opening = threading.Lock()
        self.embedded: EmbeddedServer | None = None
        """The server that this client has started, if its URL asks for one."""
        self._store: Store | None = None
        self.connect_to(redis_url, prefix)

    @classmethod
    def of_settings(cls, given: Mapping[str, Any], registry: TaskRegistry, executors: frozenset[str]) -> Client:
        """The client of a scheduler with these settings, which are checked (`settings.checked`).

        Raises:
            InvalidInputError: the URL, the prefix or the defaults of jobs are wrong.
        """
        lease_ms = round(given["lease"] * 1000)
        limits = Limits(
            lease_ms=lease_ms,
            max_idle_ms=min(10_000, max(100, lease_ms // 3)),
            worker_ttl_ms=max(60_000, 2 * lease_ms),
            dead_age_ms=round(given["dead_age"] * 1000),
            record_max=given["max_payload_bytes"] + RECORD_OVERHEAD_BYTES,
            **{name: given[name] for name in _LIMITS},
        )
        return cls(
            given["redis_url"],
            given["job_store_prefix"],
            timezone=given["timezone"],
            options=JobOptions.from_wire({}).with_values(given["job_defaults"] or {}, "job_defaults: "),
            registry=registry,
            executors=executors,
            max_payload_bytes=given["max_payload_bytes"],
            store_settings={
                "limits": limits,
                "options": given["redis_options"],
                "max_connections": given["connection_pool_size"],
                "security": given["payload_security"],
                "durability_timeout_ms": round(given["durability_timeout"] * 1000),
                **{name: given[name] for name in _OF_STORE},
            },
        )

    def connect_to(self, redis_url: str, prefix: str) -> None:
        """Ask another Redis, or under another prefix, from now on. Nothing is connected yet.

        Raises:
            InvalidConfigError: one of them is wrong.
        """
        is_embedded = parse_url(redis_url, self.store_settings["options"]).kind == "embedded"
        self._store = None if is_embedded else Store(redis_url, prefix, **self.store_settings)
        self.redis_url: str = redis_url
        self.prefix: str = prefix

    def after_fork(self) -> None:
        """Be a client of the child; the parent's goes on in the parent."""
        self._opening = threading.Lock()
        self.id = new_id()
        if self.embedded is not None:
            self.embedded = self._store = None  # the child has to hold the server itself: see `open`

    # -- the store --------------------------------------------------------------------------------------------------

    @property
    def opened(self) -> Store | None:
        """The store, if it is known already where it is."""
        return self._store

    async def open(self) -> Store:
        """The store, without a word to Redis; starts the embedded server if the URL asks for one."""
        forks.notice()
        return self._store or await asyncio.to_thread(self._resolve)

    def _resolve(self) -> Store:
        from redsched.embedded.server import resolve

        with self._opening:
            if self._store is None:
                url, self.embedded = resolve(self.redis_url)
                self._store = Store(url, self.prefix, **self.store_settings)
            return self._store

    async def store(self) -> Store:
        """The store, which knows how the jobs of the prefix are stored.

        Raises:
            InvalidConfigError: this client names another number of shards, or lock_prefix, than is stored.
            StoreError: Redis does not tell.
        """
        store = await self.open()
        if not store.agreed:
            await store.learn()
        return store

    async def close(self) -> None:
        """Disconnect, and stop the embedded server. A later call connects again."""
        await self.waiters.close()
        if self._store is not None:
            await self._store.close()
        if self.embedded is not None:
            await asyncio.to_thread(self.embedded.stop)
            self.embedded = self._store = None

    # -- what asking has in common ----------------------------------------------------------------------------------

    async def guard(self, policy: CircuitBreakerPolicy, name: str, call: Callable[[], Awaitable[R]]) -> R:
        """Make one call through a circuit.

        Raises:
            CircuitOpenError: the circuit is open; nothing was called.
        """
        return await guard(policy, await self.store(), name, call)

    def _make_waiter(self) -> ResultWaiter:
        assert self._store is not None
        return ResultWaiter(self._store)
