"""The loop of a worker on one shard: poll, start what was claimed, settle what is finished, sleep.

All that a worker does to Redis while it works is one call, `poll`. While one poll is under way, finished runs
gather; the next takes them all. So batches grow with the load, and under a light load nothing waits.

Where runs are short, the next poll is sent before those of the last one are begun, and claims some ahead of free
slots, so that Redis and this worker work at the same time. How many ahead, `Capacity.pace` decides.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from redsched.errors import StoreError
from redsched.store.transitions import PollReply, PollRequest, Shard
from redsched.store.wire import FOREVER, WrongTypeError
from redsched.worker import run_log
from redsched.worker.claims import Claims
from redsched.worker.execution import Execution
from redsched.worker.held import HeldRuns
from redsched.worker.outcomes import Outcomes
from redsched.worker.places import Places
from redsched.worker.stall_report import StallReport

if TYPE_CHECKING:
    from redsched.store.clock import StoreClock
    from redsched.worker.state import WorkerState

__all__ = ["ShardLoop"]

LONG_WAIT_S = 0.2
"""Runs that were claimed ahead, and wait for a slot longer than this, are given back to other workers."""


class ShardLoop:
    """The loop of one worker on one shard."""

    def __init__(self, worker: WorkerState, shard: Shard) -> None:
        self.worker = worker
        self.shard = shard
        self.clock: StoreClock = shard.clock
        self.held: HeldRuns = HeldRuns(worker.capacity, self._run_ended)
        # Grows over the lives of this worker: Redis takes a lower number for a copy of an old poll.
        self._sequence = int(time.monotonic() * 1_000_000)
        self.places: Places = Places(worker)
        self._wake = asyncio.Event()
        self.outcomes: Outcomes = Outcomes(worker, self.held, self.places, self._wake.set)
        self.claims: Claims = Claims(worker, shard, self, self.held, self.outcomes)
        self.execution: Execution = Execution(worker, shard, self.held, self.claims, self.outcomes)
        self.stalls: StallReport = StallReport(self._wake.set)
        self._idle = asyncio.Event()
        self._renew_at = 0.0
        self._heartbeat_at = 0.0
        self.starved: bool = False
        """It can claim nothing, since other shards' loops have taken all the room: they wake it."""

    def _run_ended(self) -> None:
        self.worker.wake_starved()
        self._wake.set()

    # -- the turn -----------------------------------------------------------------------------------------------

    async def serve(self) -> None:
        """Work until the worker is stopping and holds no more runs."""
        while True:
            self._wake.clear()
            reply = await self.turn()
            if self.places.take_new():
                await self._restart_listening()
                continue
            if self.worker.stopping and not self.held and not self.outcomes.are_there:
                return
            if reply.more and self.worker.capacity.room > 0 and not self.worker.stopping:
                continue
            if not self.outcomes.are_there:
                await self._sleep(reply)

    async def turn(self, *, claim: bool = True) -> PollReply:
        """One poll, and all that follows from its reply."""
        now = time.monotonic()
        self.worker.turned(now)
        self.worker.give_back(now - LONG_WAIT_S)
        request = self._request(now, claim=claim)
        self.starved = claim and request.capacity == 0
        self.worker.capacity.reserve(request.capacity)
        try:
            reply = await self.shard.poll(self.worker.id, self.worker.packed_queues, request, resend=FOREVER)
            self._sequence = request.sequence
        finally:
            self.worker.capacity.cancel_reservation(request.capacity)
        if request.heartbeat is not None:
            self.places.replace(reply.places)
        self.worker.tally.settled(request.settled, reply.refused)
        if reply.tally:
            self.worker.tally.moved(reply.tally)
        for run_id in reply.lost:
            self.execution.stop(run_id.decode("utf-8", "surrogateescape"), "lost")
        for run_id in reply.stop:
            self.execution.stop(run_id.decode("utf-8", "surrogateescape"), "cancelled")
        if reply.refused:
            self.worker.count_refused(len(reply.refused))
            run_log.refused(self.worker.id, len(reply.refused))
        if reply.claims:
            now = time.monotonic()
            self.worker.capacity.pace(self.worker.slots, now, more=bool(reply.more))
            for row in reply.claims:
                self.claims.accept(row, now)
        self.worker.wake_starved()
        if reply.plans:
            await self.claims.plan(reply.plans)
        return reply

    async def flush(self) -> None:
        """Settle what is finished, and claim nothing."""
        if self.outcomes.are_there or self.claims.has_following:
            await self.turn(claim=False)

    def _request(self, now: float, *, claim: bool) -> PollRequest:
        self._sequence += 1
        worker = self.worker
        capacity = 0 if worker.stopping or not claim else worker.capacity.share(len(worker.loops))
        request = PollRequest(self._sequence, capacity)
        lately = self.outcomes.hand_over(request)
        if lately is not None:
            worker.capacity.observe_duration(lately)
        request.following = self.claims.take_following()
        request.places = self.places.packed()
        if self.held and now >= self._renew_at:
            request.held = [part for run in self.held.values() for part in (run.id, run.fence)]
            self._renew_at = now + self.shard.limits.lease_ms / 3000
        elif not self.held:
            self._renew_at = now + self.shard.limits.lease_ms / 3000
        if self.stalls:
            request.stalled = self.stalls.take(self.held.keys())
        if now >= self._heartbeat_at:
            request.heartbeat = worker.describe()
            self._heartbeat_at = now + self.shard.limits.max_idle_ms / 1000
        return request

    async def _sleep(self, reply: PollReply) -> None:
        """Until something is finished, a token comes, the next instant is there, or leases want renewal."""
        if self.worker.capacity.is_unused:
            self.worker.capacity.stop_ahead()  # what comes next may be of another kind
        seconds = self.clock.seconds_until(reply.sleep_until_ms)
        if self.worker.capacity.room <= 0 or self.worker.stopping:
            seconds = self.shard.limits.max_idle_ms / 1000
            self.starved = True
        if self.held:
            now = time.monotonic()
            seconds = min(seconds, self._renew_at - now)
            if self.worker.slots.waiting:
                seconds = min(seconds, self.worker.slots.waiting[0].claimed + LONG_WAIT_S - now)
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        if self._wake.is_set():
            return
        timer = asyncio.get_running_loop().call_later(seconds, self._wake.set)
        if self.worker.capacity.room > 0 and not self.worker.stopping:
            self._idle.set()
        try:
            await self._wake.wait()
        finally:
            self._idle.clear()
            timer.cancel()

    def wake(self) -> None:
        """Take the next turn now, which finds out whether there is room for this loop."""
        self.starved = False
        self._wake.set()

    def announce(self) -> None:
        """Send a heartbeat with the next turn: it says what this worker can run, and brings what is parked."""
        self._heartbeat_at = 0.0

    def look_again(self) -> None:
        """Check which parked runs this worker can run, because the process has learned something."""
        self.places.look_again()
        if self.places.is_new:
            self.announce()
            self.wake()

    # -- listening ----------------------------------------------------------------------------------------------

    async def listen_for_work(self) -> None:
        """Take wake tokens while this worker is idle: a full one must not take a token that wakes another, and one
        that polls anyway needs none."""
        while True:
            await self._idle.wait()
            keys = [self.shard.keys.wake(queue) for queue in self.worker.queues]
            keys += map(self.shard.keys.wake_place, self.places.served)
            if await self._blocking_pop(keys, "wake", self.shard.limits.max_idle_ms / 1000) is not None:
                self.wake()

    async def _restart_listening(self) -> None:
        """Let `listen_for_work` begin again, for tokens of other names: by one for this worker alone."""
        key = self.shard.keys.wake(self.worker.queues[-1])
        try:
            await self.shard.link.command("RPUSH", key, "1")
            await self.shard.link.command("PEXPIRE", key, 60_000)
        except StoreError as error:
            self.worker.warn_throttled("listen", "cannot listen: %s", error, every=10.0)

    async def listen_for_mail(self) -> None:
        """Take messages to this worker: a run was cancelled, the clock moved, something is parked."""
        keys = [self.shard.keys.mail(self.worker.id)]
        while True:
            message = await self._blocking_pop(keys, "mail", 3 * self.shard.limits.max_idle_ms / 1000)
            if message is None:
                continue
            word, _, what = message.partition(" ")
            if word == "parked":
                self.places.add(what)
                if not self.places.is_new:
                    continue
            elif word == "cancel":
                self.execution.stop(what, "cancelled")
            self.wake()

    async def _blocking_pop(self, keys: list[str], name: str, seconds: float) -> str | None:
        try:
            reply = await self.shard.link.command(
                "BLPOP", *keys, seconds, hold=f"{name}:{self.shard.keys.shard}", timeout=seconds + 10
            )
        except WrongTypeError:
            await self.shard.quarantine({"worker": self.worker.id, "queues": self.worker.packed_queues}, resend=FOREVER)
            return None
        except StoreError as error:
            self.worker.warn_throttled("listen", "cannot listen: %s", error, every=10.0)
            await asyncio.sleep(0.2)
            # A token may have been lost with the connection: look.
            self.wake()
            return None
        return None if reply is None else reply[1].decode(errors="surrogateescape")
