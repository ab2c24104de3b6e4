"""`BackgroundTaskScheduler`: the door that users come in by. Signatures, docs and delegation."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from datetime import datetime, timedelta, tzinfo
from types import TracebackType
from typing import TYPE_CHECKING, Any, NoReturn, Self, Unpack

from redsched import declare, forks, jobs, running, scheduling
from redsched.background import ServiceProvider
from redsched.codec import MAX_PAYLOAD_BYTES, RECORD_OVERHEAD_BYTES
from redsched.errors import InvalidConfigError, SchedulerStateError, StoreError
from redsched.events import history
from redsched.executors import CustomTaskExecutor, check_executors
from redsched.feed import EventFeed, Listener
from redsched.handle import JobHandle
from redsched.handlers import Handlers, TaskFailureHandler
from redsched.ids import new_id
from redsched.keywords import (
    JobChanges,
    ScheduleOptions,
    WhenOptions,
    check_names,
)
from redsched.listing import JobPage, check_state, get_page, iter_jobs
from redsched.loops import Owner, PerLoop
from redsched.metrics import TaskMetrics
from redsched.model import DeclaredJob, Event, JobView, State, TaskExecutionResult
from redsched.options import JobOptions, check_id, check_name, check_settings, seconds_to_ms
from redsched.reconcile import Reconciler
from redsched.results import get_result, past_results, wait_for_result
from redsched.schedule_methods import ScheduleMethods
from redsched.schedules import Schedule
from redsched.sealing import PayloadSecurity
from redsched.spec import JobSpec, check_options
from redsched.store import queries
from redsched.store.clock import from_ms
from redsched.store.store import Store
from redsched.store.transitions import Limits
from redsched.store.urls import parse_url
from redsched.task_types import AnyTask, T
from redsched.tasks import Task, TaskRegistry, default_registry
from redsched.waiting import ResultWaiter
from redsched.worker.executors import Executors
from redsched.worker.tally import Tally
from redsched.zones import parse_timezone

if TYPE_CHECKING:  # what few processes need is imported where it is used
    from redsched.config import SchedulerConfig
    from redsched.doctor import Finding
    from redsched.embedded import EmbeddedServer
    from redsched.worker.worker import Worker

__all__ = ["BackgroundTaskScheduler"]

log = logging.getLogger("redsched")


class BackgroundTaskScheduler(ScheduleMethods):
    """Schedules jobs in Redis, and runs them, in this process and any other.

    Nothing is connected before the first call that needs Redis. Any event loop may call the coroutine methods, in any
    thread; once it is started, `shutdown` is for the loop that called `start`. A process that is forked has a scheduler
    of its own, which is not started: see docs/guide/processes.md.

    >>> import asyncio, redsched
    >>> async def main():
    ...     async with redsched.BackgroundTaskScheduler("redis://localhost:6379", "mario_pizzeria") as scheduler:
    ...         await scheduler.schedule_delayed_task("reminder", remind, delay_minutes=15, args=["order-1"])

    Args:
        redis_url: `redis://`, `rediss://` (TLS), `unix:///path/redis.sock`, `redis+sentinel://host,host/service`,
            `redis+cluster://host,host`, or `embedded:///folder`, which starts a server of its own with its data there.
        job_store_prefix: what all its keys start with: schedulers of one prefix share their jobs.
        timezone: of jobs that name none, and of naive datetimes.
        job_defaults: options of jobs that give none: coalesce, max_instances, misfire_grace_time, timeout, …
        queues: which queues this process' worker serves, the preferred first.
        concurrency: how many runs this process' worker holds at once.
        threads: how many plain functions run at once, each in a thread.
        processes: how many functions with executor="processpool" run at once, each in a child process.
        executors: further executors by name, or other ones in the place of `default` and `processpool`:
            `{"type": "threadpool" or "processpool", "max_workers": …}`, a `CustomTaskExecutor`, or None for one that
            only other processes have.
        lease: seconds after which a run whose worker gave no sign of life is given to another.
        stall_limit: seconds that a worker's event loop may be blocked until others take over its runs; 0 = as if dead.
        shards: into how many hash tags the jobs are spread. The first process of a prefix says it; None = as it is
            stored, and where nothing is, 1, in a cluster 8. Another number than what is stored is refused.
        max_catch_up: with coalesce=False, how many overdue fires of one job are run at most.
        shutdown_grace: seconds that runs have to finish when the scheduler is shut down.
        task_packages: modules and packages that a worker imports when it starts, for the functions in them that are
            decorated with `@schedule_task`.
        service_provider: where instances come from for methods as tasks: an object with `get_service(class)`.
        application: who owns the jobs that `@schedule_task` declares here; None = the top-level package of the
            function's module. Only the owner prunes or renames them.
        declared_tasks: whether `start` stores the jobs of functions decorated with `@schedule_task`.
        dead_max, dead_max_bytes, dead_age: how many dead runs are kept, how many bytes they may take on each shard
            (the oldest go first), and for how long (seconds).
        events_max, events_max_bytes: entries of the events stream of each shard, and bytes that they may take. An
            entry carries a batch of up to 250 transitions.
        outcomes_max_bytes: what is kept, on each shard, of how runs ended, for `result()`; 90 to 150 bytes a run. It is
            kept for `result_ttl`, or until there is more of it than this.
        max_payload_bytes: the largest arguments of a job, encoded. A worker reads no record that is much longer (it
            ends dead): let all processes of a prefix name the same.
        retry_for: seconds for which a call is sent again while Redis does not answer.
        connection_pool_size: how many connections this process opens at most; a worker holds three for each shard.
        health_check_interval: seconds after which an unused connection is tried before it is used; 0 = not.
        lock_prefix: names the key of the leases. The first process of a prefix says it; None = as it is stored.
        redis_options: further options for redis-py's connections (ssl_ca_certs, username, …).
        payload_security: keys with which jobs and results are signed, or encrypted: see `PayloadSecurity`.
        durability_replicas: how many replicas must have a job that is scheduled with durability="replicated".
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
        check_settings(
            queues=queues, concurrency=concurrency, max_catch_up=max_catch_up, dead_max=dead_max, events_max=events_max,
            dead_max_bytes=dead_max_bytes, events_max_bytes=events_max_bytes, max_payload_bytes=max_payload_bytes,
            connection_pool_size=connection_pool_size, outcomes_max_bytes=outcomes_max_bytes,
            durability_replicas=durability_replicas, shutdown_grace=shutdown_grace, retry_for=retry_for,
            job_defaults=job_defaults, redis_options=redis_options, task_packages=task_packages,
            service_provider=service_provider,
        )  # fmt: skip
        if payload_security is not None and not isinstance(payload_security, PayloadSecurity):
            raise InvalidConfigError("payload_security must be a PayloadSecurity([key, …])", field="payload_security")
        lease_ms = seconds_to_ms(lease, "lease", minimum_ms=200)
        limits = Limits(
            lease_ms=lease_ms,
            nap_ms=min(10_000, max(100, lease_ms // 3)),
            gone_ms=max(60_000, 2 * lease_ms),
            dead_age_ms=seconds_to_ms(dead_age, "dead_age"),
            dead_max=dead_max,
            dead_max_bytes=dead_max_bytes,
            events_max=events_max,
            events_max_bytes=events_max_bytes,
            outcomes_max_bytes=outcomes_max_bytes,
            record_max=max_payload_bytes + RECORD_OVERHEAD_BYTES,
        )
        self.id = new_id()
        """This process' part of the fleet: the id of its worker, and of its own queue."""
        self.redis_url: str = redis_url
        self.prefix: str = job_store_prefix
        self.timezone: str = parse_timezone(timezone, "UTC")
        self.options: JobOptions = JobOptions.from_wire({}).with_values(job_defaults or {}, "job_defaults: ")
        self.registry: TaskRegistry = TaskRegistry(default_registry)
        self.registry.provider = service_provider
        self.registry.packages = tuple(task_packages)
        self.declared: list[JobSpec] = []
        self.shutdown_grace = shutdown_grace
        self.max_payload_bytes = max_payload_bytes
        self.application: str | None = None if application is None else check_name(application, "application")
        self._declared_tasks = declared_tasks
        self._embedded: EmbeddedServer | None = None
        self._store: Store | None = None
        self._store_settings: dict[str, Any] = {
            "shards": shards, "limits": limits, "options": redis_options, "retry_for": retry_for,
            "max_connections": connection_pool_size, "lock_prefix": lock_prefix,
            "health_check_interval": seconds_to_ms(health_check_interval, "health_check_interval") / 1000,
            "security": payload_security, "durability_replicas": durability_replicas,
            "durability_timeout_ms": seconds_to_ms(durability_timeout, "durability_timeout", minimum_ms=1),
        }  # fmt: skip
        if parse_url(redis_url, redis_options).kind != "embedded":
            self._store = Store(redis_url, job_store_prefix, **self._store_settings)
        self._executors = Executors(threads, processes, executors)
        self._handlers = Handlers()
        self._metrics = TaskMetrics()
        self._tally = Tally()
        self._worker_settings: dict[str, Any] = {
            "queues": queues, "concurrency": concurrency, "max_catch_up": max_catch_up, "executors": self._executors,
            "handlers": self._handlers, "tally": self._tally,
            "stall_limit_ms": seconds_to_ms(stall_limit, "stall_limit"),
        }  # fmt: skip
        self._feeds = PerLoop(self._make_feed)
        self._feed: EventFeed | None = None
        """Of the feeds, one a loop, that which the listeners get."""
        self._waiters = PerLoop(self._make_waiter)
        self._listeners: list[tuple[Listener, Sequence[str] | None]] = []
        self._owner = Owner()
        self._opening = threading.Lock()
        self._begin()
        running.schedulers[self.id] = self
        forks.register(self)

    def _begin(self) -> None:
        """Be one that is not started."""
        self._worker: Worker | None = None
        self._serving: asyncio.Task[None] | None = None
        self._reconciler: Reconciler | None = None
        self._keeping: asyncio.Task[None] | None = None
        self._listening: asyncio.Task[EventFeed] | None = None  # kept, or the loop would forget it
        self._started = False
        self._feed = None
        self._owner.release()

    def after_fork(self) -> None:
        """Be a scheduler of the child, not started; the parent's goes on in the parent. Python calls it."""
        forks.keep_for_ever(self._worker, self._serving, self._keeping, self._listening)
        self._opening = threading.Lock()
        self._begin()
        self.id: str = new_id()
        running.schedulers[self.id] = self  # beside the old one, which a run that forked knows it by
        self._tally.clear()
        self._metrics.clear()
        if self._embedded is not None:
            self._embedded = self._store = None  # the child has to hold the server itself: see `store`

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
        look at them and change them, as the command line does.

        Args:
            retry_for: seconds for which a call is sent again while Redis does not answer.
        """
        settings = self._store_settings
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
        return self._is_started and (self._worker is None or self._worker.ended_with is None) and not self._has_ended

    @property
    def _is_started(self) -> bool:
        forks.notice()
        return self._started and self._owner.is_there

    @property
    def _has_ended(self) -> bool:
        return self._serving is not None and self._serving.done()

    @property
    def worker(self) -> Worker | None:
        """This process' worker, if it has one."""
        return self._worker

    async def _open(self) -> Store:
        """The store, without a word to Redis; starts the embedded server if the URL asks for one."""
        forks.notice()
        return self._store or await asyncio.to_thread(self._resolve)

    def _resolve(self) -> Store:
        from redsched.embedded import resolve

        with self._opening:
            if self._store is None:
                url, self._embedded = resolve(self.redis_url)
                self._store = Store(url, self.prefix, **self._store_settings)
            return self._store

    async def store(self) -> Store:
        """The store, which knows how the jobs of the prefix are stored; starts the embedded server if the URL asks for
        one.

        Raises:
            InvalidConfigError: this scheduler names another number of shards, or lock_prefix, than is stored.
            StoreError: Redis does not tell.
        """
        store = await self._open()
        if not store.agreed:
            await store.learn()
        return store

    async def start(self, *, worker: bool = True, prune: bool = False) -> None:
        """Connect, store the declared jobs, and run a worker in this process.

        A declared job that cannot be stored is logged as an error and listed in `declared_jobs`; the others are stored,
        and the worker runs.

        Args:
            worker: False = this process only schedules; its jobs are run by others.
            prune: end the jobs that an earlier version of this application declared and this one does not, as soon as
                no process that declares them is there any more.

        Raises:
            SchedulerStateError: it was started already.
            StoreError: Redis is not there, or refuses.
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
            self._reconciler = self._make_reconciler(store)
            self._reconciler.prune_wanted = prune
            await self._reconciler.settle()
            added = sum(job.status in ("added", "updated") for job in self._reconciler.jobs.values())
            self._metrics.increment("jobs_scheduled_total", added)
            if self._reconciler.owners:
                self._keeping = asyncio.create_task(self._reconciler.keep(), name="redsched declarations")
            if self._listeners:
                await self._ensure_feed()
            if worker:
                self._renew_worker()
                ready = asyncio.get_running_loop().create_future()
                self._serving = asyncio.create_task(self._serve(_Ready(ready)), name="redsched worker")
                self._serving.add_done_callback(_tell_of_error)
                await asyncio.wait((ready, self._serving), return_when=asyncio.FIRST_COMPLETED)
                if self._serving.done():
                    await self._serving
        except BaseException:
            await self.shutdown(wait=False)
            raise

    def _renew_worker(self) -> None:
        self._worker = self.make_worker()
        if self._reconciler is not None:
            self._worker.failed_declarations = self._reconciler.failed

    async def _serve(self, ready: _Ready) -> None:
        from redsched.worker.revival import serve_on

        def current() -> Worker:
            assert self._worker is not None
            return self._worker

        await serve_on(current, self._renew_worker, ready)

    def _make_reconciler(self, store: Store) -> Reconciler:
        reconciler = Reconciler(self, store, self.application)
        reconciler.take([*(declare.declared if self._declared_tasks else ()), *self.declared])
        return reconciler

    @property
    def declared_jobs(self) -> list[DeclaredJob]:
        """What became of the jobs that `@schedule_task` declares, as of the last start; those that failed too."""
        return [] if self._reconciler is None else list(self._reconciler.jobs.values())

    async def prune(self, *, dry_run: bool = False) -> tuple[list[str], list[str]]:
        """End the jobs that an earlier version of this application declared and this one does not. Returns their ids,
        and those of jobs that are held back, since a process that still declares them is there.

        Args:
            dry_run: only tell which they are.
        """
        reconciler = (
            self._reconciler if self._started and self._reconciler else self._make_reconciler(await self.store())
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
        if self._is_started or self._embedded is not None:
            raise SchedulerStateError("the scheduler was started already: configure it before")
        changed = {"queues": queues, "concurrency": concurrency}
        self._worker_settings.update((name, value) for name, value in changed.items() if value is not None)
        if redis_url is not None or job_store_prefix is not None:
            embedded = parse_url(redis_url or self.redis_url, self._store_settings["options"]).kind == "embedded"
            self.redis_url = redis_url or self.redis_url
            self.prefix = job_store_prefix or self.prefix
            self._store = None if embedded else Store(self.redis_url, self.prefix, **self._store_settings)

    async def wait_until_stopped(self) -> None:
        """Wait until this process' worker has ended, and raise what ended it. Returns at once if it has none."""
        self._owner.check("wait_until_stopped")
        serving = self._serving  # shutdown forgets it
        if serving is not None:
            await asyncio.wait((serving,))
            if not serving.cancelled():
                serving.result()

    def make_worker(self) -> Worker:
        """A worker of this scheduler that is not yet serving: for `run_once`, and for those who serve it themselves.

        Raises:
            SchedulerStateError: the store is not open yet (`await scheduler.store()` first).
        """
        if self._store is None:
            raise SchedulerStateError("the store is not open yet: await scheduler.store() first")
        self._store.check_pool()
        from redsched.worker.worker import Worker

        return Worker(self._store, self.registry, worker_id=self.id, **self._worker_settings)

    async def shutdown(self, wait: bool = True, *, grace: float | None = None) -> None:
        """Stop claiming, let runs finish, give the rest back, and disconnect.

        Args:
            wait: False = do not let runs finish: they are cancelled and start at once elsewhere.
            grace: seconds that runs have to finish, instead of the scheduler's `shutdown_grace`.

        Raises:
            SchedulerStateError: it was started in another event loop, which still runs.
        """
        forks.notice()
        self._owner.check("shutdown")
        if self._started and not self._owner.is_there:
            self._begin()
        self._started = False
        if self._worker is not None and self._serving is not None:
            seconds = (self.shutdown_grace if grace is None else grace) if wait else 0.0
            stopping = asyncio.create_task(self._worker.stop(grace=seconds))
            await asyncio.wait((stopping, self._serving), return_when=asyncio.FIRST_COMPLETED)
            if not self._serving.done():
                await stopping
            stopping.cancel()
            serving, self._serving, self._worker = self._serving, None, None
            await asyncio.wait((serving,))
        if self._keeping is not None and self._reconciler is not None:
            self._keeping.cancel()
            self._keeping = None
            await self._reconciler.leave()
        await self._executors.close(kill=True)
        self._owner.release()
        self._feed = None
        await self._feeds.close()
        await self._waiters.close()
        if self._store is not None:
            await self._store.close()
        if self._embedded is not None:
            await asyncio.to_thread(self._embedded.stop)
            self._embedded = None
            self._store = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.shutdown(wait=kind is None)

    # -- tasks ----------------------------------------------------------------------------------------------------

    def register(self, function: AnyTask, *, name: str | None = None, **defaults: Unpack[ScheduleOptions]) -> Task:
        """Let this process' worker run a function, by its name or the given one.

        Args:
            defaults: options of its jobs, where a call gives none.

        Raises:
            InvalidInputError: not callable, a closure without a name, a name that is taken, or a wrong option.
        """
        check_names("register", defaults, ScheduleOptions.__optional_keys__ | {"name"})
        check_options(defaults)
        return self.registry.register(function, name=name, defaults=defaults)

    def bind(self, instance: Any, kind: type[Any] | None = None) -> None:
        """Let this process' worker call methods of this instance's class on this instance."""
        self.registry.bind(instance, kind)

    @property
    def executors(self) -> frozenset[str]:
        """The names that the option `executor` of a job may have."""
        return self._executors.names

    def add_executor(self, name: str, executor: CustomTaskExecutor | Mapping[str, Any] | None) -> None:
        """One more executor, as in the setting `executors`. Before `start`, or no run of it is under way.

        Raises:
            InvalidConfigError: it is no executor.
        """
        self._executors.add(name, check_executors({name: executor})[name])

    # -- scheduling -----------------------------------------------------------------------------------------------

    async def schedule_many(self, specs: Iterable[JobSpec[T]]) -> list[JobHandle[T]]:
        """Store many jobs in few trips. All are checked before any is stored, the ids that are taken too; each 1,000
        of a shard are stored all or none, should another process take an id in that very moment.

        Raises: as `schedule_immediate_task`.
        """
        handles = await scheduling.schedule_many(self, list(specs))
        self._metrics.increment("jobs_scheduled_total", sum(handle.status != "kept" for handle in handles))
        return handles

    async def submit(self, spec: JobSpec[T]) -> JobHandle[T]:
        """Store one job, as `JobSpec` describes it; `task.job(…)` of a decorated task makes one with typed arguments.

        Raises: as `schedule_immediate_task`.
        """
        return await self._schedule(spec)

    async def _schedule(self, spec: JobSpec[T]) -> JobHandle[T]:
        handle = await scheduling.schedule(self, spec)
        self._metrics.increment("jobs_scheduled_total", handle.status != "kept")
        return handle

    # -- jobs -----------------------------------------------------------------------------------------------------

    async def get_job(self, job_id: str) -> JobView | None:
        """A job as it is now, or None: it has ended, was removed, or never was."""
        return await jobs.get_job(await self.store(), job_id)

    async def get_jobs(
        self,
        *,
        tag: str | None = None,
        queue: str | None = None,
        state: State | str | None = None,
        limit: int | None = None,
        cursor: str | None = None,
    ) -> JobPage:
        """All jobs, or those with a tag, of a queue, in a state; by next run time, then id.

        Args:
            limit: at most so many: a page. The list has the `cursor` of the next one, or None. What has no next run
                time comes last, in no order, as do the jobs of a tag. A job that changes meanwhile may come twice, or
                not at all.
            cursor: that of the page before; `tag`, `queue` and `state` must be the same.

        Raises:
            InvalidInputError: there is no such state, the limit is below 1, or the cursor is not one of a page.
        """
        wanted, store = check_state(state), await self.store()
        if limit is None and cursor is None:
            return await jobs.get_jobs(store, tag, queue, wanted)
        return await get_page(store, tag, queue, wanted, 1000 if limit is None else limit, cursor)

    async def iter_jobs(
        self, *, tag: str | None = None, queue: str | None = None, state: State | str | None = None
    ) -> AsyncIterator[JobView]:
        """The same jobs one after the other, in no order, a few at a time in memory: `async for job in
        scheduler.iter_jobs()`. A job that changes meanwhile may come twice, or not.

        Raises:
            InvalidInputError: there is no such state.
        """
        wanted = check_state(state)
        async for job in iter_jobs(await self.store(), tag, queue, wanted):
            yield job

    async def pause_job(self, job_id: str) -> None:
        """Keep a job from becoming due. Runs that go on are not touched; what passes meanwhile is recorded
        when it is resumed, as one span (`dropped`, reason `paused`).

        Raises:
            JobLookupError: there is no such job.
            SchedulerStateError: its last run has been claimed: nothing is left to pause.
        """
        check_id(job_id)
        if not await (await self.store()).shard(job_id).pause(job_id):
            raise SchedulerStateError(f"job {job_id!r} runs for the last time: there is nothing left to pause")

    async def resume_job(self, job_id: str) -> JobView | None:
        """Let a paused job become due again: at its schedule's next fire from now, without catching up; a one-shot
        job at its time, even if that has passed (all as APScheduler). Returns None if its schedule has ended.

        Raises:
            JobLookupError: there is no such job.
        """
        return await jobs.resume(await self.store(), job_id)

    async def reschedule_job(
        self,
        job_id: str,
        *,
        cron: str | None = None,
        interval: float | timedelta | None = None,
        run_at: datetime | str | None = None,
        schedule: Schedule | Sequence[Schedule] | None = None,
        timezone: str | tzinfo | None = None,
        **when: Unpack[WhenOptions],
    ) -> JobView | None:
        """Give a job another schedule, with its next run computed from now. Overdue runs are dropped, which is
        recorded (reason `rescheduled`), and a paused job is resumed (as APScheduler). `when`: start, end, jitter,
        dst_gap, dst_fold, seconds.

        Raises:
            JobLookupError: there is no such job.
            InvalidInputError: the schedule is wrong; nothing was changed.
        """
        store = await self.store()
        ways = {"cron": cron, "interval": interval, "run_at": run_at, "schedule": schedule}
        return await jobs.reschedule(store, job_id, ways, timezone, when)

    async def modify_job(self, job_id: str, **changes: Unpack[JobChanges]) -> JobView:
        """Change a job: name, task, args, kwargs, tags, queue, timezone, next_run_time, or any option. Its id stays,
        and so does what is not named. `next_run_time=None` pauses it. In another `timezone` a cron expression has its
        next run computed from now; intervals and dates keep their instants.

        Raises:
            JobLookupError: there is no such job.
            InvalidInputError: a change is wrong; nothing was changed.
        """
        return await jobs.modify(self, job_id, changes)

    async def remove_job(self, job_id: str) -> None:
        """End a job. Instances that run go on, but are not tried again.

        Raises:
            JobLookupError: there is no such job.
        """
        await jobs.remove(await self.store(), job_id)

    async def cancel(self, job_id: str | None = None, *, tag: str | None = None) -> bool:
        """End a job, or all jobs with a tag, and stop their running instances. Returns whether any was there.

        Raises:
            InvalidInputError: neither or both are given.
        """
        return bool(await self.cancel_jobs(ids=None if job_id is None else [job_id], tag=tag))

    async def cancel_jobs(self, *, ids: Sequence[str] | None = None, tag: str | None = None) -> list[str]:
        """As `cancel`, for several ids; returns the ids of the jobs that were there."""
        return await jobs.cancel(await self.store(), ids, tag)

    async def run_now(self, job_id: str) -> str:
        """Make a job due now, once, beside its schedule. Returns the run's id.

        Raises:
            JobLookupError: there is no such job.
        """
        check_id(job_id)
        return await (await self.store()).shard(job_id).run(job_id)

    async def get_dead(self, limit: int = 1000) -> list[JobView]:
        """Runs that ended without success, the newest first. Their `id` is what `requeue` takes."""
        return await jobs.get_dead(await self.store(), limit)

    async def requeue(self, *run_ids: str) -> list[str]:
        """Give dead runs another life, with all their attempts. Returns the ids of those that were dead."""
        return await jobs.requeue(await self.store(), run_ids)

    async def find_prefixes(self) -> list[str]:
        """The prefixes under which this Redis has jobs, as far as a look at some of its keys tells."""
        return await queries.find_prefixes(await self._open())

    async def examine_server(self) -> list[Finding]:
        """See whether the server is set up so that the promises hold: `redsched doctor` as a call. Changes nothing.

        Raises:
            StoreUnavailableError: no answer from Redis.
            StoreAccessError: it does not let this user in.
            InvalidConfigError: the jobs are stored with another number of shards than this scheduler names.
        """
        store = await self._open()
        with contextlib.suppress(StoreError):  # what is wrong with the server is what it is asked for
            await store.learn()
        from redsched.doctor import examine

        return await examine(store)

    async def reseal_jobs(self) -> int:
        """Seal all jobs with the first key that are not yet: after a rotation of keys, or when a fleet begins to use
        them. Returns how many were. Those that cannot be trusted or read are left as they are, with a warning.

        Raises:
            InvalidInputError: this scheduler has no `payload_security`.
        """
        return await jobs.reseal(await self.store())

    async def clear_all_jobs(self) -> int:
        """Remove every job, run, result and event of this prefix. Returns how many jobs there were.

        It may be called after `shutdown`.
        """
        store = await self.store()
        count = await queries.clear(store)
        if not self._started:
            await store.close()
        return count

    # -- what happens ---------------------------------------------------------------------------------------------

    async def now(self) -> datetime:
        """The time by which everything is decided: Redis' clock, and the testing kit's offset (UTC)."""
        return from_ms(await (await self.store()).shards[0].travel())

    async def wait_for_result(
        self, job_id: str, *, timeout: float | timedelta | None = None
    ) -> TaskExecutionResult[Any]:
        """Wait until a run of the job has ended, and tell how. For one that has ended already: how it ended.

        `job_id` may be a run's id too, such as `run_now` returned. Of a periodic job it is the next run that ends. The
        wait costs nothing that grows with other jobs.

        Raises:
            ResultTimeoutError: it did not within `timeout` (seconds, or a timedelta).
            JobLookupError: there is no such job, and how it ended is not known (any more).
            SchedulerStateError: the scheduler was shut down meanwhile.
        """
        seconds = timeout.total_seconds() if isinstance(timeout, timedelta) else timeout
        check_name(job_id, "job_id")
        store = await self.store()
        return await wait_for_result(store, self._waiters.get(), job_id, seconds)

    async def get_result(self, job_id: str) -> TaskExecutionResult[Any] | None:
        """How a one-shot job ended, how the last run of a periodic job that is over did, or how a run did, by its id.
        None: it has not ended, or that is not known (any more); `wait_for_result` tells these two apart.
        """
        check_name(job_id, "job_id")
        return await get_result(await self.store(), job_id)

    def _make_waiter(self) -> ResultWaiter:
        assert self._store is not None
        return ResultWaiter(self._store)

    def add_listener(self, listener: Listener, kinds: Sequence[str] | None = None) -> None:
        """Call `listener(event)` for each event of the whole fleet, or for those of some kinds (see `Event.kind`).

        From `start` on, or from now if it has started. A coroutine function is awaited beside the others.
        """
        self._listeners.append((listener, kinds))
        if self._feed is not None:
            self._feed.add(listener, kinds)
        elif self._is_started:
            self._owner.call(self._listen)

    def remove_listener(self, listener: Listener) -> None:
        """Call it no more."""
        self._listeners = [(known, kinds) for known, kinds in self._listeners if known is not listener]
        if self._feed is not None:
            self._feed.remove(listener)

    def add_failure_handler(self, handler: TaskFailureHandler) -> None:
        """Tell it how each run of this process' worker ends.

        Raises:
            InvalidInputError: it is no `TaskFailureHandler`.
        """
        self._handlers.add(handler)

    def remove_failure_handler(self, handler: TaskFailureHandler) -> None:
        """Tell it no more."""
        self._handlers.remove(handler)

    def _listen(self) -> None:
        self._listening = asyncio.create_task(self._ensure_feed())

    def _make_feed(self) -> EventFeed:
        assert self._store is not None
        return EventFeed(self._store)

    async def _ensure_feed(self) -> EventFeed:
        """The feed of the running loop. That of the loop which asks first is the listeners'."""
        await self.store()
        feed = self._feeds.get()
        if self._feed is None or self._feed.is_over:
            self._feed = feed
            for listener, kinds in self._listeners:
                feed.add(listener, kinds)
        await feed.ensure()
        return feed

    async def get_history(self, job_id: str | None = None, *, limit: int = 1000) -> list[Event]:
        """The newest events, oldest first: of one job, or of all."""
        return await history(await self.store(), limit=limit, job_id=job_id)

    @property
    def metrics(self) -> TaskMetrics:
        """What this process has counted so far: the standard set of docs/guide/metrics.md, without what only Redis
        knows. Add metrics of your own to it as you like.
        """
        self._tally.fold(self._metrics)
        return self._metrics

    async def collect_metrics(self) -> TaskMetrics:
        """The standard set, with what Redis knows of the queues, as it is now. It is what Prometheus gets."""
        from redsched.standard import standard

        return await standard(self)

    async def get_results(self, job_id: str | None = None, *, limit: int = 100) -> list[TaskExecutionResult[Any]]:
        """How the newest runs ended, oldest first: of one job, or of all. What a task returned is there for as long as
        `result_ttl` says, the rest for as long as the events are kept.

        It is for looking back: of one job too, it reads the events from the newest on until it has `limit` of them, for
        which runs a periodic job had is known to the events alone. How one run ended is `get_result`'s to say.
        """
        return await past_results(await self.store(), job_id, limit)

    async def get_workers(self) -> dict[str, dict[str, Any]]:
        """The workers that gave a sign of life lately: what they serve, by their ids."""
        return await queries.read_workers(await self.store())


def _tell_of_error(serving: asyncio.Task[None]) -> None:
    if not serving.cancelled() and (error := serving.exception()):
        log.critical("the worker ended with an error: this process runs no jobs any more", exc_info=error)


class _Ready:
    """What anyio's `start` passes as `task_status`, for a plain task."""

    def __init__(self, future: asyncio.Future[None]) -> None:
        self._future = future

    @property
    def is_told(self) -> bool:
        return self._future.done()

    def started(self, value: object = None) -> None:
        if not self._future.done():
            self._future.set_result(None)
