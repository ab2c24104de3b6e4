"""A worker: claims due runs, executes them, settles them; one task group for all that it does.

A shutdown stops claiming, lets runs finish for a grace time, then cancels them and gives them back, so that
another worker starts them at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from typing import Any

import anyio

from redsched.errors import SchedulerStateError, StoreError
from redsched.runtime.loops import Owner
from redsched.settings import default_of
from redsched.store.store import Store
from redsched.tasks.learning import unwatch, watch
from redsched.tasks.registry import TaskRegistry
from redsched.worker.hooks import Lifespans
from redsched.worker.poll import ShardLoop
from redsched.worker.runs import RunState
from redsched.worker.slots import Slots
from redsched.worker.stalls import StallWatch
from redsched.worker.state import WorkerState
from redsched.worker.troubles import failure_of

__all__ = ["Worker"]

log = logging.getLogger("redsched.worker")

CANCEL_TIMEOUT_S = 2.0
"""How long a cancelled task may take to end at a shutdown; then its lease is left to run out."""


class Worker(WorkerState):
    """One worker of one process."""

    def __init__(
        self,
        store: Store,
        registry: TaskRegistry,
        *,
        stall_limit_ms: int = round(default_of("stall_limit") * 1000),
        **settings: Any,
    ) -> None:
        super().__init__(store, registry, **settings)
        self.stalls: StallWatch | None = None
        """While it serves."""
        self._stall_limit_ms = stall_limit_ms
        self._serving = False
        self._owner = Owner()
        self._stopped: anyio.Event | None = None
        self._scope: anyio.CancelScope | None = None
        self._entering: asyncio.Task[Any] | None = None
        """The task that serves, while its lifespans start."""
        self._loops: list[ShardLoop] = []

    @property
    def loops(self) -> list[ShardLoop]:
        """One for each shard."""
        return self._loops

    def turned(self, now: float) -> None:
        """The event loop turns; `now` is time.monotonic()."""
        if self.stalls is not None:
            self.stalls.turned(now)

    @property
    def serving(self) -> bool:
        """Whether `serve` is under way."""
        return self._serving

    async def _load(self) -> None:
        """Import the modules of tasks. In a thread: their imports must not hold up the event loop."""
        if not self.registry.is_loaded:
            await anyio.to_thread.run_sync(self.registry.load)

    def _prepare(self) -> None:
        self._loops = [ShardLoop(self, shard) for shard in self.store.shards]
        self.slots: Slots = Slots(self.concurrency)

    async def serve(self, *, task_status: Any = anyio.TASK_STATUS_IGNORED) -> None:
        """Work until `stop` is called and what was held is settled.

        Raises:
            SchedulerStateError: it serves already.
        """
        if self._serving:
            raise SchedulerStateError(f"worker {self.id} serves already")
        self._serving = True
        self._owner.take()
        self.stopping: bool = False
        self.giving_back: bool = False
        stopped = self._stopped = anyio.Event()
        here = asyncio.get_running_loop()
        failed = ""

        def learned() -> None:
            with contextlib.suppress(RuntimeError):  # the loop was closed
                here.call_soon_threadsafe(self._look_again)

        watch(learned)
        try:
            await self._load()
            self._prepare()
            self._entering = asyncio.current_task()
            lifespans = Lifespans(self.hooks.lifespans)
            self.state: RunState = lifespans.state
            async with lifespans:
                self._entering = None
                await self._turn(task_status)
        except asyncio.CancelledError:
            if self._entering is None or not self.stopping:
                raise
            self._entering.uncancel()  # `stop` came while it started, which may take for ever
        except BaseException as error:
            failed = failure_of(error)
            raise
        finally:
            unwatch(learned)
            with anyio.CancelScope(shield=True), anyio.move_on_after(5):
                await self._say_goodbye(failed)
            self._serving = False
            self._entering = None
            self._owner.release()
            stopped.set()

    async def _turn(self, task_status: Any) -> None:
        """Claim, execute and settle, until `stop`; then all that was held is settled, or given back."""
        self.stalls = StallWatch(self, lease=self.store.limits.lease_ms / 1000, limit=self._stall_limit_ms / 1000)
        self.stalls.start()
        try:
            with anyio.CancelScope() as self._scope:
                async with anyio.create_task_group() as listening:
                    for loop in self.loops:
                        listening.start_soon(loop.listen_for_work, name="redsched listen_for_work")
                        listening.start_soon(loop.listen_for_mail, name="redsched listen_for_mail")
                    async with anyio.create_task_group() as turning:
                        for loop in self.loops:
                            turning.start_soon(loop.serve, name=f"redsched shard {loop.shard.keys.shard}")
                        task_status.started()
                    listening.cancel_scope.cancel()
        finally:
            self._scope = None
            for loop in self.loops:
                for run in list(loop.held.values()):
                    run.stop("shutdown")
            with anyio.CancelScope(shield=True), anyio.move_on_after(5):
                await self.executors.close(kill=True)
                await self.handlers.drain(CANCEL_TIMEOUT_S)
            self.stalls.stop()
            self.stalls = None

    def _look_again(self) -> None:
        """Claim parked runs immediately, because this process can run more than before."""
        for loop in self.loops:
            loop.look_again()

    async def _say_goodbye(self, failed: str) -> None:
        if failed:
            self.tally.worker_failed()
        for loop in self.loops:
            try:
                keep = any(task.is_local for task in self.registry.tasks())
                await loop.shard.leave(self.id, self.packed_queues, keep=keep, failed=failed)
                failed = ""  # it is one event, however many shards there are
            except StoreError as error:
                log.info("could not say goodbye: %s", error)

    async def stop(self, *, grace: float | None = None) -> None:
        """Stop claiming, let runs finish for `grace` seconds (None = as long as they take), give the rest back.

        Raises:
            SchedulerStateError: it serves in another event loop.
        """
        self._owner.check("worker.stop")
        self.stopping = True
        if self._entering is not None:
            self._entering.cancel()
        if self.slots.busy >= self.slots.limit:  # else they begin now
            for run in list(self.slots.waiting):
                run.stop("shutdown")
        for loop in self.loops:
            loop.wake()
        if self._stopped is None:
            return
        began = time.monotonic()
        with anyio.move_on_after(grace):
            # For runs, and for a poll under way that may bring some; but a Redis that is away is not worth the grace.
            while not self._stopped.is_set():
                if not self.capacity.holding and (
                    not self.capacity.reserved or time.monotonic() - began > CANCEL_TIMEOUT_S
                ):
                    break
                await anyio.sleep(0.02)
        self.giving_back = True
        for loop in self.loops:
            for run in list(loop.held.values()):
                run.stop("shutdown")
        with anyio.move_on_after(CANCEL_TIMEOUT_S):
            await self._stopped.wait()
            return
        if self.capacity.holding:
            log.warning(
                "%d tasks do not end though they were cancelled; their leases will expire", self.capacity.holding
            )
        if self._scope is not None:
            self._scope.cancel()
        await self._stopped.wait()

    async def run_once(self) -> int:
        """Run all that is due now, to its end, and settle it; for tests. Returns how many runs were started.

        Raises:
            SchedulerStateError: the worker serves already, and does this by itself.
        """
        if self._serving:
            raise SchedulerStateError(f"worker {self.id} serves already: what is due runs by itself")
        await self._load()
        if not self.loops:
            self._prepare()
        lifespans = Lifespans(self.hooks.lifespans)
        self.state: RunState = lifespans.state
        async with lifespans:
            return await self._run_due()

    async def _run_due(self) -> int:
        started = self._started_runs()
        for loop in self.loops:
            loop.announce()
        while True:
            before = self._started_runs()
            for loop in self.loops:
                await loop.turn()
                if loop.places.take_new():
                    await loop.turn()
                await self.slots.idle()
                await loop.flush()
                await self.handlers.drain(CANCEL_TIMEOUT_S)
            if self._started_runs() == before:
                return before - started

    def _started_runs(self) -> int:
        return sum(loop.execution.started for loop in self.loops)
