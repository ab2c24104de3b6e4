"""`BackgroundTaskScheduler`, the entry point for users: signatures, documentation and delegation."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta, tzinfo
from types import TracebackType
from typing import TYPE_CHECKING, Any, NoReturn, Self, Unpack

from redsched import context
from redsched.client import schedule as scheduling
from redsched.client.core import Client
from redsched.client.event_reader import Listener
from redsched.client.handle import JobHandle
from redsched.client.job_methods import JobMethods
from redsched.client.listeners import Listeners
from redsched.client.schedule_methods import ScheduleMethods
from redsched.codec.payload_security import PayloadSecurity
from redsched.codec.values import MAX_PAYLOAD_BYTES
from redsched.declarations import definition as declarations
from redsched.declarations.reconcile import Reconciler
from redsched.errors import SchedulerStateError
from redsched.jobs.keywords import ScheduleOptions, check_names
from redsched.jobs.spec import JobSpec, check_options
from redsched.metrics.collector import TaskMetrics
from redsched.model import DeclaredJob
from redsched.runtime import forks
from redsched.runtime.loops import Owner
from redsched.settings import checked
from redsched.store import queries
from redsched.store.store import Store
from redsched.tasks.class_based import ServiceProvider
from redsched.tasks.executor import CustomTaskExecutor, check_executors
from redsched.tasks.registry import Task, TaskRegistry, default_registry
from redsched.tasks.types import AnyTask, T
from redsched.worker.executors.registry import Executors
from redsched.worker.handlers import Handlers
from redsched.worker.hook_methods import HookMethods
from redsched.worker.hooks import Hooks
from redsched.worker.tally import Tally

if TYPE_CHECKING:  # what few processes need is imported where it is used
    from redsched.config import SchedulerConfig
    from redsched.worker.serving import Serving
    from redsched.worker.worker import Worker

__all__ = ["BackgroundTaskScheduler"]

log = logging.getLogger("redsched")


class BackgroundTaskScheduler(ScheduleMethods, JobMethods, HookMethods):
    """Schedules jobs in Redis, and runs them, in this process and any other.

    Nothing is connected before the first call that needs Redis. Any event loop in any thread may call the coroutine
    methods; only the loop that called `start` may call `shutdown`. For forked processes see docs/guide/processes.md.

    >>> import asyncio, redsched
    >>> async def main():
    ...     async with redsched.BackgroundTaskScheduler("redis://localhost:6379", "mario_pizzeria") as scheduler:
    ...         await scheduler.schedule_delayed_task("reminder", remind, delay_minutes=15, args=["order-1"])

    Args:
        redis_url: `redis://`, `rediss://` (TLS), `unix:///path/redis.sock`, `redis+sentinel://host,host/service`,
            `redis+cluster://host,host`, or `embedded:///folder`, which starts a server with its data there.
        job_store_prefix: the prefix of all its keys; schedulers with the same prefix share their jobs.
        timezone: the zone of jobs that name none, and of naive datetimes.
        job_defaults: default options of jobs: coalesce, max_instances, misfire_grace_time, timeout, …
        queues: the queues that this process's worker serves, the preferred first.
        concurrency: the number of runs that this process's worker executes at once.
        threads: the number of plain functions that run at once, each in a thread.
        processes: the number of functions with executor="processpool" that run at once, each in a child process.
        executors: further executors by name, or replacements of `default` and `processpool`:
            `{"type": "threadpool" or "processpool", "max_workers": …}`, a `CustomTaskExecutor`, or None for one that
            only other processes have.
        lease: seconds without a sign of life after which the runs of a worker are given to others.
        stall_limit: seconds that a worker's event loop may be blocked before others take over its runs; 0 = as if dead.
        shards: the number of hash tags for the jobs. The first process of a prefix stores it; None = the stored
            number, else 1, or 8 in a cluster. A number other than the stored one is refused.
        max_catch_up: with coalesce=False, the maximum number of overdue fires of one job that are run.
        shutdown_grace: seconds that runs have to finish when the scheduler is shut down.
        task_packages: modules and packages that a worker imports when it starts, for their functions that are
            decorated with `@schedule_task`.
        service_provider: provides the instances for methods as tasks: an object with `get_service(class)`.
        application: the owner of the jobs that `@schedule_task` declares here; None = the top-level package of the
            function's module. Only the owner prunes or renames them.
        declared_tasks: whether `start` stores the jobs of functions decorated with `@schedule_task`.
        dead_max, dead_max_bytes, dead_age: limits on the dead runs of each shard: their number, their bytes, and their
            age in seconds. The oldest go first.
        events_max, events_max_bytes: limits on the events stream of each shard: entries and bytes. An entry carries a
            batch of up to 250 transitions.
        outcomes_max_bytes: limit on the outcomes of runs that each shard keeps for `result()`; 90 to 150 bytes per run.
            They are kept for `result_ttl`, or until they exceed this limit.
        max_payload_bytes: the maximum size of a job's arguments, encoded. A worker does not read a much longer record
            (it ends dead): use the same value in all processes of a prefix.
        retry_for: seconds for which a call is retried while Redis does not answer.
        connection_pool_size: the maximum number of connections of this process; a worker holds three for each shard.
        health_check_interval: seconds after which an idle connection is checked before it is used; 0 = never.
        lock_prefix: the name of the leases key. The first process of a prefix stores it; None = the stored name.
        redis_options: further options for redis-py's connections (ssl_ca_certs, username, …).
        payload_security: keys with which jobs and results are signed, or encrypted: see `PayloadSecurity`.
        durability_replicas: the number of replicas that must have a job that is scheduled with durability="replicated".
        durability_timeout: seconds that a call with `durability` waits; then DurabilityError says that it is stored.

    Raises:
        InvalidConfigError: a setting is wrong; the message names it.
    """

    def __init__(
        self,
        redis_url: str = "redis://localhost:6379",
        job_store_prefix: str = "redsched",
        *,
        timezone: str | tzinfo = "UTC",
        job_defaults: Mapping[str, Any] | None = None,
        queues: Sequence[str] = ("default",),
        concurrency: int = 100,
        threads: int = 20,
        processes: int = 2,
        executors: Mapping[str, Any] | None = None,
        lease: float | timedelta = 30.0,
        stall_limit: float | timedelta = 60.0,
        shards: int | None = None,
        max_catch_up: int = 1000,
        shutdown_grace: float = 30.0,
        task_packages: Sequence[str] = (),
        service_provider: ServiceProvider | None = None,
        application: str | None = None,
        declared_tasks: bool = True,
        dead_max: int = 10_000,
        dead_max_bytes: int = 67_108_864,
        dead_age: float | timedelta = 7 * 86_400.0,
        events_max: int = 10_000,
        events_max_bytes: int = 67_108_864,
        outcomes_max_bytes: int = 134_217_728,
        max_payload_bytes: int = MAX_PAYLOAD_BYTES,
        retry_for: float = 10.0,
        connection_pool_size: int = 50,
        health_check_interval: float = 0.0,
        lock_prefix: str | None = None,
        redis_options: Mapping[str, Any] | None = None,
        payload_security: PayloadSecurity | None = None,
        durability_replicas: int = 1,
        durability_timeout: float | timedelta = 5.0,
    ) -> None:
        given = checked(locals())
        self._executors = Executors(threads, processes, executors)
        self.registry: TaskRegistry = TaskRegistry(default_registry)
        self.registry.provider = service_provider
        self.registry.packages = tuple(task_packages)
        self.client: Client = Client.of_settings(given, self.registry, self._executors.names)
        """What the functions that ask Redis take; no part of the public API."""
        self.declared: list[JobSpec] = []
        self.shutdown_grace: float = given["shutdown_grace"]
        self.application: str | None = given["application"]
        self._declared_tasks = declared_tasks
        self._handlers = Handlers()
        self._hooks = Hooks()
        self._metrics = TaskMetrics()
        self._tally = Tally()
        self._worker_settings: dict[str, Any] = {
            "queues": queues, "concurrency": concurrency, "max_catch_up": max_catch_up, "executors": self._executors,
            "handlers": self._handlers, "hooks": self._hooks, "tally": self._tally,
            "stall_limit_ms": round(given["stall_limit"] * 1000),
        }  # fmt: skip
        self._listeners = Listeners(self.client)
        self._owner = Owner()
        self._begin()
        context.schedulers[self.id] = self
        forks.register(self)

    def _begin(self) -> None:
        """Be one that is not started."""
        self._serving: Serving | None = None
        self._reconciler: Reconciler | None = None
        self._keeping: asyncio.Task[None] | None = None
        self._started = False
        self._listeners.forget()
        self._owner.release()

    def after_fork(self) -> None:
        """Be a scheduler of the child, not started; the parent's goes on in the parent. Python calls it."""
        forks.keep_for_ever(self._serving, self._keeping, self._listeners.starting)
        self._begin()
        self.client.after_fork()
        context.schedulers[self.id] = self  # beside the old one, which a run that forked knows it by
        self._tally.clear()
        self._metrics.clear()

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            "a BackgroundTaskScheduler cannot be pickled: make it at module level, where a process that is spawned "
            "makes its own by importing, or pass its URL and prefix"
        )

    @classmethod
    def from_config(cls, config: SchedulerConfig) -> Self:
        """A scheduler with the settings of a configuration object.

        Raises:
            InvalidConfigError: a setting is wrong; the message names it.
        """
        return cls(**config.settings())

    def observer(self, *, retry_for: float = 10.0) -> BackgroundTaskScheduler:
        """Another scheduler of the same jobs, with the same Redis, prefix and keys, that runs and declares nothing: to
        inspect and change them, as the command line does.

        Args:
            retry_for: seconds for which a call is retried while Redis does not answer.
        """
        settings = self.client.store_settings
        return BackgroundTaskScheduler(
            self.redis_url, self.prefix, timezone=self.timezone, declared_tasks=False, retry_for=retry_for,
            shards=settings["shards"], lock_prefix=settings["lock_prefix"], redis_options=settings["options"],
            payload_security=settings["security"], max_payload_bytes=self.max_payload_bytes,
        )  # fmt: skip

    def __repr__(self) -> str:
        state = "running" if self.running else "not running"
        return f"<BackgroundTaskScheduler {self.prefix!r} {self.id} {state}>"

    # -- life -----------------------------------------------------------------------------------------------------

    @property
    def running(self) -> bool:
        """Whether `start` was called in this process, in a loop that is still there, and `shutdown` was not; and its
        worker, where it has one, serves. A worker that ended with an error is started again after a pause."""
        return self._is_started and (self._serving is None or self._serving.is_well)

    @property
    def _is_started(self) -> bool:
        forks.notice()
        return self._started and self._owner.is_there

    @property
    def worker(self) -> Worker | None:
        """The worker of this process, if it has one."""
        return None if self._serving is None else self._serving.worker

    async def store(self) -> Store:
        """The store, which knows how the jobs of the prefix are stored; starts the embedded server if the URL asks for
        one.

        Raises:
            InvalidConfigError: this scheduler's number of shards, or lock_prefix, differs from the stored one.
            StoreError: Redis does not answer.
        """
        return await self.client.store()

    async def start(self, *, worker: bool = True, prune: bool = False) -> None:
        """Connect, store the declared jobs, and run a worker in this process.

        A declared job that cannot be stored is logged as an error and listed in `declared_jobs`; the others are stored,
        and the worker runs.

        Args:
            worker: False = this process only schedules, and others run its jobs.
            prune: end the jobs that an earlier version of this application declared and this one does not, as soon as
                no live process declares them.

        Raises:
            SchedulerStateError: it was started already.
            StoreError: Redis does not answer, or refuses.
        """
        if self._is_started:
            raise SchedulerStateError("the scheduler was started already")
        if self._started:
            self._begin()  # its loop was closed, which cancelled the worker
        store = await self.store()
        self._owner.take()
        self._started = True
        try:
            if worker and not self.registry.is_loaded:
                await asyncio.to_thread(self.registry.load)  # before the declared jobs: these modules declare some
            if worker:
                await store.agree()  # one that only follows leaves it to those that store jobs
            for shard in store.shards:
                await shard.travel()  # asks for the time: says early and clearly if Redis is not there
            for where, policy in (await queries.read_eviction_policy(store)).items():
                log.warning(
                    "Redis at %s has maxmemory-policy %s: when full it throws jobs away; set noeviction", where, policy
                )
            self._reconciler = await self._make_reconciler(store)
            self._reconciler.prune_wanted = prune
            await self._reconciler.settle()
            added = sum(job.status in ("added", "updated") for job in self._reconciler.jobs.values())
            self._metrics.increment("jobs_scheduled_total", added)
            if self._reconciler.owners:
                self._keeping = asyncio.create_task(self._reconciler.keep(), name="redsched declarations")
            if self._listeners:
                await self._listeners.ensure()
            if worker:
                from redsched.worker.serving import Serving

                self._serving = Serving(self._make_serving_worker)
                await self._serving.start()
        except BaseException:
            await self.shutdown(wait=False)
            raise

    def _make_serving_worker(self) -> Worker:
        worker = self.make_worker()
        if self._reconciler is not None:
            worker.failed_declarations = self._reconciler.failed
        return worker

    async def _make_reconciler(self, store: Store) -> Reconciler:
        reconciler = Reconciler(self.client, store, self.application)
        await reconciler.take([*(declarations.declared if self._declared_tasks else ()), *self.declared])
        return reconciler

    @property
    def declared_jobs(self) -> list[DeclaredJob]:
        """The jobs that `@schedule_task` declares, with their status since the last start, failed ones included."""
        return [] if self._reconciler is None else list(self._reconciler.jobs.values())

    async def prune(self, *, dry_run: bool = False) -> tuple[list[str], list[str]]:
        """End the jobs that an earlier version of this application declared and this one does not. Returns their ids,
        and those of jobs that are held back because a live process still declares them.

        Args:
            dry_run: only return the ids.
        """
        reconciler = (
            self._reconciler if self._started and self._reconciler else await self._make_reconciler(await self.store())
        )
        await reconciler.announce("start" if self._started else "look")
        return await reconciler.prune(dry_run=dry_run)

    def configure(
        self,
        *,
        redis_url: str | None = None,
        job_store_prefix: str | None = None,
        queues: Sequence[str] | None = None,
        concurrency: int | None = None,
    ) -> None:
        """Use other settings than it was made with, before `start`: the options of `redsched worker`. None = as it is.

        Raises:
            SchedulerStateError: it was started already.
            InvalidConfigError: a setting is wrong; queues and concurrency are checked when the worker is made.
        """
        if self._is_started or self.client.embedded is not None:
            raise SchedulerStateError("the scheduler was started already: configure it before")
        changed = {"queues": queues, "concurrency": concurrency}
        self._worker_settings.update((name, value) for name, value in changed.items() if value is not None)
        if redis_url is not None or job_store_prefix is not None:
            self.client.connect_to(redis_url or self.redis_url, job_store_prefix or self.prefix)

    async def wait_until_stopped(self) -> None:
        """Wait until this process's worker has ended, and raise its error. Returns at once without a worker."""
        self._owner.check("wait_until_stopped")
        if self._serving is not None:
            await self._serving.wait()

    def make_worker(self) -> Worker:
        """A worker of this scheduler that is not yet serving: for `run_once`, and for those who serve it themselves.

        Raises:
            SchedulerStateError: the store is not open yet (`await scheduler.store()` first).
        """
        if (store := self.client.opened) is None:
            raise SchedulerStateError("the store is not open yet: await scheduler.store() first")
        store.check_pool()
        from redsched.worker.worker import Worker

        return Worker(store, self.registry, worker_id=self.id, **self._worker_settings)

    async def shutdown(self, wait: bool = True, *, grace: float | None = None) -> None:
        """Stop claiming, let runs finish, give the rest back, and disconnect.

        Args:
            wait: False = do not let runs finish: they are cancelled and start immediately elsewhere.
            grace: seconds that runs have to finish, instead of the scheduler's `shutdown_grace`.

        Raises:
            SchedulerStateError: it was started in another event loop, which still runs.
        """
        forks.notice()
        self._owner.check("shutdown")
        if self._started and not self._owner.is_there:
            self._begin()
        self._started = False
        if self._serving is not None:
            await self._serving.stop((self.shutdown_grace if grace is None else grace) if wait else 0.0)
            self._serving = None
        if self._keeping is not None and self._reconciler is not None:
            self._keeping.cancel()
            self._keeping = None
            await self._reconciler.leave()
        await self._executors.close(kill=True)
        self._owner.release()
        await self._listeners.close()
        await self.client.close()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.shutdown(wait=kind is None)

    # -- tasks ----------------------------------------------------------------------------------------------------

    def register(self, function: AnyTask, *, name: str | None = None, **defaults: Unpack[ScheduleOptions]) -> Task:
        """Let this process's worker run a function, under its own name or the given one.

        Args:
            defaults: default options of its jobs.

        Raises:
            InvalidInputError: it is not callable, a closure without a name, a name that is taken, or a wrong option.
        """
        check_names("register", defaults, ScheduleOptions.__optional_keys__ | {"name"})
        check_options(defaults)
        return self.registry.register(function, name=name, defaults=defaults)

    def bind(self, instance: Any, kind: type[Any] | None = None) -> None:
        """Let this process's worker call methods of this instance's class on this instance."""
        self.registry.bind(instance, kind)

    @property
    def executors(self) -> frozenset[str]:
        """The names that the option `executor` of a job may have."""
        return self._executors.names

    def add_executor(self, name: str, executor: CustomTaskExecutor | Mapping[str, Any] | None) -> None:
        """Add an executor, as in the setting `executors`. Call it before `start`, or while none of its runs is active.

        Raises:
            InvalidConfigError: it is not an executor.
        """
        self._executors.add(name, check_executors({name: executor})[name])
        self.client.executors = self._executors.names

    # -- scheduling -----------------------------------------------------------------------------------------------

    async def schedule_many(self, specs: Iterable[JobSpec[T]]) -> list[JobHandle[T]]:
        """Store many jobs in few round trips. All jobs and ids are checked before any is stored. Each batch of 1,000 of
        a shard is stored entirely or not at all, in case another process takes an id at the same moment.

        Raises: as `schedule_immediate_task`.
        """
        handles = await scheduling.schedule_many(self.client, list(specs))
        self._metrics.increment("jobs_scheduled_total", sum(handle.status != "kept" for handle in handles))
        return handles

    async def _schedule(self, spec: JobSpec[T]) -> JobHandle[T]:
        handle = await scheduling.schedule(self.client, spec)
        self._metrics.increment("jobs_scheduled_total", handle.status != "kept")
        return handle

    # -- what happens --------------------------------------------------------------------------------------------------

    def add_listener(self, listener: Listener, kinds: Sequence[str] | None = None) -> None:
        """Call `listener(event)` for each event of the whole fleet, or for those of some kinds (see `Event.kind`).

        Begins with `start`, or now if it has started. A coroutine function is awaited concurrently with the others.
        """
        self._listeners.add(listener, kinds, self._owner if self._is_started else None)

    def remove_listener(self, listener: Listener) -> None:
        """Stop calling this listener."""
        self._listeners.remove(listener)

    @property
    def metrics(self) -> TaskMetrics:
        """The metrics of this process: the standard set of docs/guide/metrics.md, without the values that only Redis
        has. You may add your own metrics to it.
        """
        self._tally.fold(self._metrics)
        return self._metrics

    async def collect_metrics(self) -> TaskMetrics:
        """The current standard set, including the values of the queues in Redis: the metrics that Prometheus gets."""
        from redsched.metrics.standard import standard

        return await standard(self.client, self.metrics, self.worker)

    async def clear_all_jobs(self) -> int:
        """Remove every job, run, result and event of the prefix, also after `shutdown`. Returns the number of jobs."""
        store = await self.store()
        count = await queries.clear(store)
        if not self._started:
            await store.close()
        return count
