"""The loop of a worker on one shard: poll, start what was claimed, settle what is finished, sleep.

All that a worker does to Redis while it works is one call, `poll`. While one poll is under way, finished runs
gather; the next takes them all. So batches grow with the load, and under a light load nothing waits.

Where runs are short, the next poll is sent before those of the last one are begun, and claims some ahead of free
slots, so that Redis and this worker work at the same time. How many ahead, what waits for a slot tells: see `_pace`.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from redsched.codec.values import Record
from redsched.errors import (
    CircuitOpenError,
    EncodingError,
    RunLostError,
    StoreError,
    TaskTimeoutError,
)
from redsched.jobs.ids import job_of, run_id_of
from redsched.jobs.options import JobOptions
from redsched.jobs.record import Job
from redsched.model import Outcome, Reason
from redsched.schedules import MAX_MS
from redsched.schedules.plan import is_misfire
from redsched.store.transitions import PollReply, PollRequest, Shard
from redsched.store.wire import Resend, WrongTypeError
from redsched.worker import run_log
from redsched.worker.agreement import check_agreement
from redsched.worker.circuits import failed_trial_delay
from redsched.worker.execution import call_within_policies, is_on_loop, slot_is_closed
from redsched.worker.executors.registry import Skipped
from redsched.worker.outcomes import Outcomes
from redsched.worker.places import Places
from redsched.worker.planning import plan_row
from redsched.worker.runs import Run
from redsched.worker.stall_report import StallReport
from redsched.worker.tracebacks import begin_with_users_frames, log_error, traceback_of
from redsched.worker.troubles import (
    FOR_OTHERS,
    clean,
    need_of,
    no_executor,
    no_key,
    postponement_ms,
    reason_of,
    text_of,
)

if TYPE_CHECKING:
    from redsched.store.clock import StoreClock
    from redsched.worker.state import WorkerState

__all__ = ["ShardLoop"]

log = logging.getLogger("redsched.worker")

FOREVER = Resend(None)
MAX_CLAIMS = 250
"""Runs claimed in one poll: enough to amortise the trip, few enough that the script stays in the milliseconds."""
FIRST_AHEAD, MAX_AHEAD = 8, 2 * MAX_CLAIMS
SHORT_WAIT_S = 0.005
"""Runs that were claimed ahead should not wait for a slot longer than this."""
LONG_WAIT_S = 0.2
"""Runs that do so all the same are given back to other workers."""
_OVER = frozenset({Outcome.DONE, Outcome.DEAD, Outcome.MISSED, Outcome.CANCELLED})


class ShardLoop:
    """The loop of one worker on one shard."""

    def __init__(self, worker: WorkerState, shard: Shard) -> None:
        self.worker = worker
        self.shard = shard
        self.clock: StoreClock = shard.clock
        self.held: dict[str, Run] = {}
        # Grows over the lives of this worker: Redis takes a lower number for a copy of an old poll.
        self._sequence = int(time.monotonic() * 1_000_000)
        self._following: list[Any] = []
        self.places: Places = Places(worker)
        self._wake = asyncio.Event()
        self.outcomes: Outcomes = Outcomes(self._wake.set, worker.store.sealer)
        self.stalls: StallReport = StallReport(self._wake.set)
        self._idle = asyncio.Event()
        self._renew_at = 0.0
        self._heartbeat_at = 0.0
        self.hungry: bool = False
        """It can claim nothing, since other shards' loops have taken all the room: they wake it."""

    # -- the turn -----------------------------------------------------------------------------------------------

    async def serve(self) -> None:
        """Work until the worker is stopping and holds no more runs."""
        while True:
            self._wake.clear()
            reply = await self.turn()
            if self.places.take_new():
                await self._listen_anew()
                continue
            if self.worker.stopping and not self.held and not self.outcomes.are_there:
                return
            if reply.more and self.worker.room > 0 and not self.worker.stopping:
                continue
            if not self.outcomes.are_there:
                await self._sleep(reply)

    async def turn(self, *, claim: bool = True) -> PollReply:
        """One poll, and all that follows from its reply."""
        now = time.monotonic()
        self.worker.turned(now)
        self.worker.give_back(now - LONG_WAIT_S)
        request = self._request(now, claim=claim)
        self.hungry = claim and request.capacity == 0
        self.worker.reserved += request.capacity
        try:
            reply = await self.shard.poll(self.worker.id, self.worker.packed_queues, request, resend=FOREVER)
            self._sequence = request.sequence
        finally:
            self.worker.reserved -= request.capacity
        if request.heartbeat is not None:
            self.places.replace(reply.places)
        self.worker.tally.settled(request.settled, reply.refused)
        if reply.tally:
            self.worker.tally.moved(reply.tally)
        for run_id in reply.lost:
            self._stop(run_id.decode("utf-8", "surrogateescape"), "lost")
        for run_id in reply.stop:
            self._stop(run_id.decode("utf-8", "surrogateescape"), "cancelled")
        if reply.refused:
            self.worker.refused += len(reply.refused)
            run_log.refused(self.worker.id, len(reply.refused))
        if reply.claims:
            now = time.monotonic()
            self._pace(now, more=bool(reply.more))
            for row in reply.claims:
                self._accept(row, now)
        self.worker.feed()
        if reply.plans:
            await self._plan(reply.plans)
        return reply

    async def flush(self) -> None:
        """Settle what is finished, and claim nothing."""
        if self.outcomes.are_there or self._following:
            await self.turn(claim=False)

    def _request(self, now: float, *, claim: bool) -> PollRequest:
        self._sequence += 1
        worker = self.worker
        # A fair share: of several shards one may be dead, and its poll must not keep all the room for itself.
        share = -(-(worker.concurrency + worker.ahead) // len(worker.loops))
        capacity = 0 if worker.stopping or not claim else max(0, min(worker.room, share, MAX_CLAIMS))
        request = PollRequest(self._sequence, capacity)
        lately = self.outcomes.hand_over(request)
        if lately is not None:
            worker.duration_ms = (worker.duration_ms + lately) / 2
        request.following, self._following = self._following, []
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
            self._heartbeat_at = now + self.shard.limits.nap_ms / 1000
        return request

    async def _sleep(self, reply: PollReply) -> None:
        """Until something is finished, a token comes, the next instant is there, or leases want renewal."""
        if not self.worker.holding and not self.worker.reserved:
            self.worker.ahead = 0  # what comes next may be of another kind
        seconds = self.clock.seconds_until(reply.sleep_until_ms)
        if self.worker.room <= 0 or self.worker.stopping:
            seconds = self.shard.limits.nap_ms / 1000
            self.hungry = True
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
        if self.worker.room > 0 and not self.worker.stopping:
            self._idle.set()
        try:
            await self._wake.wait()
        finally:
            self._idle.clear()
            timer.cancel()

    def wake(self) -> None:
        """Take the next turn now."""
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
            if await self._blocking_pop(keys, "wake", self.shard.limits.nap_ms / 1000) is not None:
                self.wake()

    async def _listen_anew(self) -> None:
        """Let `listen_for_work` begin again, for tokens of other names: by one for this worker alone."""
        key = self.shard.keys.wake(self.worker.queues[-1])
        try:
            await self.shard.link.command("RPUSH", key, "1")
            await self.shard.link.command("PEXPIRE", key, 60_000)
        except StoreError as error:
            self.worker.say_once("listen", "cannot listen: %s", error, every=10.0)

    async def listen_for_mail(self) -> None:
        """Take messages to this worker: a run was cancelled, the clock moved, something is parked."""
        keys = [self.shard.keys.mail(self.worker.id)]
        while True:
            message = await self._blocking_pop(keys, "mail", 3 * self.shard.limits.nap_ms / 1000)
            if message is None:
                continue
            word, _, what = message.partition(" ")
            if word == "parked":
                self.places.add(what)
                if not self.places.is_new:
                    continue
            elif word == "cancel":
                self._stop(what, "cancelled")
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
            self.worker.say_once("listen", "cannot listen: %s", error, every=10.0)
            await asyncio.sleep(0.2)
            # A token may have been lost with the connection: look.
            self.wake()
            return None
        return None if reply is None else reply[1].decode(errors="surrogateescape")

    # -- claims -------------------------------------------------------------------------------------------------

    def _pace(self, now: float, *, more: bool) -> None:
        """Claim more ahead of free slots if they ran out of runs while Redis had some, and fewer if runs wait long; no
        more than begin in a short time, if they take as long as those before."""
        slots = self.worker.slots
        if slots.are_free:
            if more:
                begin = round(SHORT_WAIT_S * 1000 * self.worker.concurrency / max(self.worker.duration_ms, 0.01))
                self.worker.ahead = min(MAX_AHEAD, max(FIRST_AHEAD, 2 * self.worker.ahead), begin)
        elif slots.waiting and now - slots.waiting[0].claimed > SHORT_WAIT_S:
            self.worker.ahead //= 2

    def _accept(self, row: Sequence[Any], now: float) -> None:
        """Hold a claimed run, and execute it when there is a slot. Its record is decoded then."""
        run = Run(row[0].decode("utf-8", "surrogateescape"), row[1], self, now, row)
        run.plain = type(row) is tuple
        self._hold(run)

    def _hold(self, run: Run) -> None:
        if (old := self.held.get(run.id)) is not None:
            old.stop("lost")  # claimed again by this worker: the old claim's lease had expired
            self._let_go(old)
        self.held[run.id] = run
        self.worker.holding += 1
        self.worker.slots.put(run)

    def _read(self, run: Run) -> bool:
        """Decode a claim and look up its task. False if this worker cannot execute it: then it is settled."""
        if run.row and not self._decode(run, run.row):
            return False
        run.row = ()
        run.task = self.worker.registry.find(run.job.record.task)
        if run.task is None:
            why = f"worker {self.worker.id} knows no task {run.job.record.task!r}"
            self._postpone(run, Reason.UNKNOWN_TASK, why, need=f"task:{run.job.record.task}")
            return False
        if run.job.options.executor not in self.worker.executors:
            need = f"executor:{run.job.options.executor}"
            self._postpone(run, Reason.UNKNOWN_EXECUTOR, no_executor(self.worker.id, run.job), need=need)
            return False
        return True

    def _decode(self, run: Run, row: Sequence[Any]) -> bool:
        job_id = job_of(run.id)
        try:
            _, _, run.attempt, fire_ms, record, queue, fires, following_of, version, run.postponed, begun, *said = row
            queue = queue.decode()
            if not 0 <= fire_ms <= MAX_MS:
                raise EncodingError(f"its fire time is {fire_ms} ms since the epoch")
            job = Job.decode(job_id, record, self.worker.store.sealer, queue=queue, version=version)
            if job.record.locked == "encrypted":
                raise no_key(job)
            if job.record.label and not job.record.locked:
                check_agreement(job, *said)
        except Exception as error:  # whatever is stored there must not end the worker
            run.job = Job(job_id, Record("?", "?", b"", {}), JobOptions(), None)
            fire_ms = row[3] if len(row) > 3 else 0
            run.fire_ms = fire_ms if isinstance(fire_ms, int) and 0 <= fire_ms <= MAX_MS else 0
            if isinstance(error, FOR_OTHERS):
                run.queue = row[5].decode()
                self._postpone(run, Reason.UNREADABLE, str(error), need=need_of(error))
            else:
                self._forget(run)
                text = text_of(error)
                self.outcomes.died(run, text)
                self.outcomes.settle(run, Outcome.DEAD, reason_of(error), error=text)
            return False
        run.job, run.queue, run.fire_ms, run.begun = job, queue, fire_ms, bool(begun)
        if following_of and job.schedule is not None:
            self._follow(job, following_of, version)
        if fires:
            run.batch = fires
        return True

    def _follow(self, job: Job, fire_ms: int, version: int) -> None:
        """Find the fire after the next one, so that the next claim needs no plan. The next poll takes it along."""
        assert job.schedule is not None
        try:
            after = job.schedule.next(fire_ms)
        except Exception as error:  # the next claim plans, and ends the job with the reason
            log_error(error, "the schedule of job %r raised", job.id, level=logging.WARNING, extra={"job": job.id})
            return
        self._following += [job.id, version, fire_ms, after or 0]

    # -- execution ----------------------------------------------------------------------------------------------

    async def execute(self, run: Run) -> None:
        """Execute a run in a slot. Whatever goes wrong, a run that is no longer executed is no longer held."""
        if self.held.get(run.id) is not run:
            return  # it was given back, cancelled or lost while it waited
        try:
            if self._read(run):
                self.worker.started += 1
                if self.worker.giving_back:
                    self._finish(run, Outcome.RELEASED, Reason.SHUTDOWN)
                elif run.batch is None:
                    await self._execute(run)
                else:
                    await self._execute_batch(run)
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt) or slot_is_closed(run, error):
                raise  # the process is to end; what is held still is given back, or recovered
            self._broken(run, error)

    def _broken(self, run: Run, error: BaseException) -> None:
        if self.held.get(run.id) is run:
            self._bury(run, Reason.TASK_FAILED, error)
        run_log.broken(run, error)

    def drop(self, run: Run) -> None:
        """A run that was stopped while it waited for a slot is over."""
        if run.stop_reason == "lost":
            self._forget(run)
        else:
            self._end_unbegun(run, lambda: self._cancelled(run, 0, None))

    def give_back(self, run: Run) -> None:
        """A run that waits too long for a slot: another worker may have one."""
        self._end_unbegun(run, lambda: self._finish(run, Outcome.RELEASED, Reason.BUSY))

    def _end_unbegun(self, run: Run, end: Callable[[], None]) -> None:
        if self.held.get(run.id) is run:
            try:
                if self._read(run):
                    end()
            except KeyboardInterrupt:
                raise
            except BaseException as error:  # such as one of a service provider that is asked for the task's instance
                self._broken(run, error)

    async def _execute(self, run: Run) -> None:
        options = run.job.options
        late_ms = self.clock.now_ms() - run.fire_ms
        grace = options.misfire_grace_ms
        # A further attempt started in time: its lateness is the retry policy's doing.
        first = run.attempt == 1 and not run.begun
        if grace is not None and first and is_misfire(run.fire_ms, run.fire_ms + late_ms, grace):
            self._finish(run, Outcome.MISSED, Reason.MISFIRE, late_ms=late_ms)
            return
        run.started = time.monotonic()
        try:
            if options.circuit_breaker is None and options.timeout_ms is None:
                result = await self.worker.executors.call(run)
            else:
                result = await call_within_policies(run, resend=FOREVER)
        except asyncio.CancelledError as error:
            self._cancelled(run, late_ms, error)
        except CircuitOpenError as error:
            self._postpone(run, Reason.CIRCUIT_OPEN, str(error), delay_ms=max(1, round(error.retry_after * 1000)))
        except BaseException as error:  # SystemExit and GeneratorExit too: a task must not end its worker, or its slot
            if slot_is_closed(run, error):
                raise
            delay = failed_trial_delay(error)
            if delay is None or options.delivery == "at_most_once":
                self._failed(run, error, late_ms)
            else:
                why = f"a trial call of a circuit failed: {text_of(error)}"
                self._postpone(run, Reason.CIRCUIT_OPEN, why, delay_ms=max(1, round(delay * 1000)))
            if isinstance(error, KeyboardInterrupt) and is_on_loop(run):
                raise  # Ctrl-C, in the middle of a coroutine: the process is to end
        else:
            self._done(run, result, late_ms)

    async def _execute_batch(self, run: Run) -> None:
        """Fires that were due together (coalesce=False): in order, as one instance, each with its own outcome."""
        assert run.batch is not None
        while run.batch:
            run.fire_ms = run.batch[0]
            held_before = run.stop_reason
            await self._execute(run)
            if run.stop_reason is not None or held_before is not None:
                return
            run.attempt, run.begun = 1, False

    def _done(self, run: Run, result: Any, late_ms: int) -> None:
        if self.worker.handlers:
            self.worker.handlers.succeeded(run, result, time.monotonic() - run.started)
        error = reason = None
        if type(result) is Skipped:
            reason, error, result = Reason.EXECUTOR_SKIPPED, clean(result.why), result.result
        ttl_ms = run.job.options.result_ttl_ms
        if result is not None and ttl_ms > 0:
            try:
                self.outcomes.keep_result(run, result, ttl_ms)
            except ValueError as problem:
                error = f"the result is not kept: {problem}"
                run_log.not_kept(run, problem)
        self._finish(run, Outcome.DONE, reason, late_ms=late_ms, error=error)

    def _failed(self, run: Run, error: BaseException, late_ms: int) -> None:
        begin_with_users_frames(error)
        text = text_of(error)
        retry = run.job.options.retry
        reason = Reason.TIMEOUT if isinstance(error, TaskTimeoutError) else Reason.TASK_FAILED
        if isinstance(error, EncodingError) and error.field == "payload":
            reason, retry = Reason.UNREADABLE, None  # another attempt would find the same bytes
        again = retry is not None and run.attempt < retry.max_attempts and retry.retries(error)
        if self.worker.handlers:
            self.worker.handlers.failed(run, error, time.monotonic() - run.started, will_retry=again)
        if retry is not None and again:
            delay = retry.delay(run.attempt)
            run_log.tried_again(run, error, text, reason, delay)
            self._finish(run, Outcome.RETRY, reason, late_ms=late_ms, delay_ms=round(delay * 1000), error=text)
            return
        if retry is not None and run.attempt >= retry.max_attempts:
            reason = Reason.ATTEMPTS_USED_UP
        self._bury(run, reason, error, late_ms=late_ms)
        run_log.dead(run, error, text, reason)

    def _bury(self, run: Run, reason: Reason, error: BaseException, *, late_ms: int = 0) -> None:
        text = text_of(error)
        self.outcomes.died(run, text, traceback_of(error))
        self._finish(run, Outcome.DEAD, reason, late_ms=late_ms, error=text)

    def _cancelled(self, run: Run, late_ms: int, error: BaseException | None) -> None:
        match run.stop_reason:
            case "lost":
                self._forget(run)  # the run is another's now: nothing to say of it
            case "shutdown":
                self._finish(run, Outcome.RELEASED, Reason.SHUTDOWN, late_ms=late_ms)
            case "cancelled":
                self._finish(run, Outcome.CANCELLED, Reason.CANCELLED, late_ms=late_ms)
            case _:
                own = asyncio.CancelledError("the task cancelled itself")
                self._failed(run, own.with_traceback(error.__traceback__ if error else None), late_ms)

    # -- settling -----------------------------------------------------------------------------------------------

    def _finish(
        self, run: Run, outcome: Outcome, reason: Reason | None, *, late_ms: int = 0, delay_ms: int = 0,
        error: str | None = None,
    ) -> None:  # fmt: skip
        """One fire has its outcome. The run is over, unless it is a batch with fires left."""
        remaining: list[int] | None = None
        if run.batch is not None and outcome not in (Outcome.RELEASED, Outcome.CANCELLED):
            run.batch = run.batch[1:]
            remaining = run.batch or None
        if remaining is None:
            self._forget(run)
            if run.task is not None and run.task.is_local and run.job.schedule is None and outcome in _OVER:
                self.worker.registry.release(run.task)
        self.outcomes.settle(run, outcome, reason, late_ms=late_ms, delay_ms=delay_ms, error=error, remaining=remaining)

    def _postpone(
        self, run: Run, reason: Reason, why: str, *, delay_ms: int | None = None, need: str | None = None
    ) -> None:
        """Put it off without using an attempt: until a worker has what it needs, or else later each time."""
        self._forget(run)
        if need:
            self.places.refuse(f"{need} {run.queue}")
        run_log.put_off(run, reason, why)
        self.outcomes.settle(
            run,
            Outcome.POSTPONED,
            reason,
            delay_ms=postponement_ms(run.postponed) if delay_ms is None else delay_ms,
            error=clean(why),
            postponed=run.postponed + 1,
            need=need,
        )

    def _forget(self, run: Run) -> None:
        if self.held.get(run.id) is run:
            self._let_go(run)
            self.worker.feed()
            self._wake.set()

    def _let_go(self, run: Run) -> None:
        if self.held.get(run.id) is run:
            del self.held[run.id]
            self.worker.holding -= 1

    def _stop(self, run_id: str, reason: str) -> None:
        if (run := self.held.get(run_id)) is not None:
            if reason == "lost":
                self.worker.lost += 1
                run_log.lease_ended(run)
            run.stop(reason)

    async def report(self, run: Run, value: Any) -> None:
        """Store how far a task is.

        Raises:
            RunLostError: the run is not ours any more.
        """
        if not await self.shard.progress(self.worker.id, run.id, run.fence, value):
            raise RunLostError(f"the lease on run {run.id} ended")

    # -- planning -----------------------------------------------------------------------------------------------

    async def _plan(self, rows: list[list[Any]]) -> None:
        """Jobs of which something was missed, or whose following fire is not known."""
        planned = [made for row in rows if (made := plan_row(self.worker, self.clock, row)) is not None]
        outcomes, tally = await self.shard.commit(self.worker.id, [commit for commit, _ in planned], resend=FOREVER)
        self.worker.tally.moved(tally)
        for (commit, job), outcome in zip(planned, outcomes, strict=True):
            if outcome == "started" and job is not None:
                fires: list[int] = commit[2]
                run = Run(run_id_of(job.id, fires[-1]), commit[1], self, time.monotonic())
                run.fire_ms, run.queue, run.job = fires[0], job.queue, job
                if len(fires) > 1:
                    run.batch = fires
                self._hold(run)
