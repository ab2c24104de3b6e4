"""The loop of a worker on one shard: poll, start what was claimed, settle what is finished, sleep.

All that a worker does to Redis while it works is one call, `poll`. While one poll is under way, finished runs
gather; the next takes them all. So batches grow with the load, and under a light load nothing waits.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import time
from typing import TYPE_CHECKING, Any

from redsched.codec import Record, pack_result
from redsched.errors import (
    CircuitOpenError,
    EncodingError,
    RecordVersionError,
    RunLostError,
    StoreError,
    TaskFailedError,
    TaskTimeoutError,
    UnknownKeyError,
    UntrustedRecordError,
)
from redsched.ids import job_of
from redsched.job import Job
from redsched.model import Outcome, Reason
from redsched.options import JobOptions
from redsched.plan import is_misfire, plan
from redsched.schedules import MAX_MS
from redsched.store.transitions import PollReply, PollRequest, Shard
from redsched.store.wire import Resend
from redsched.worker.executors import Skipped
from redsched.worker.runs import Run, current

if TYPE_CHECKING:
    from redsched.circuit import CircuitBreakerPolicy
    from redsched.worker.worker import Worker

__all__ = ["ShardLoop"]

log = logging.getLogger("redsched.worker")

FOREVER = Resend(None)
MAX_CLAIMS = 250
"""Runs claimed in one poll: enough to amortise the trip, few enough that the script stays in the milliseconds."""
UNKNOWN_FIRST_MS, UNKNOWN_LONGEST_MS = 200, 300_000
ERROR_LENGTH = 1000
_FOR_OTHERS = (RecordVersionError, UnknownKeyError)
"""What this worker cannot read, but a newer one, or one with more keys, can."""
_OVER = frozenset({Outcome.DONE, Outcome.DEAD, Outcome.MISSED, Outcome.CANCELLED})


class ShardLoop:
    """What one worker does on one shard."""

    def __init__(self, worker: Worker, shard: Shard) -> None:
        self.worker = worker
        self.shard = shard
        self.clock = shard.clock
        self.held: dict[str, Run] = {}
        # Grows over the lives of this worker: Redis takes a lower number for a copy of an old poll.
        self._sequence = int(time.monotonic() * 1_000_000)
        self._settled: list[Any] = []
        self._results: list[Any] = []
        self._following: list[Any] = []
        self._wake = asyncio.Event()
        self._idle = asyncio.Event()
        self._renew_at = 0.0
        self._heartbeat_at = 0.0
        self.hungry = False
        """It could claim nothing, since other shards' loops had taken all the room: they wake it."""

    # -- the turn -----------------------------------------------------------------------------------------------

    async def serve(self) -> None:
        """Work until the worker is told to stop and nothing is held any more."""
        while True:
            self._wake.clear()
            reply = await self.turn()
            if self.worker.stopping and not self.held and not self._settled:
                return
            if reply.more and self.worker.room > 0 and not self.worker.stopping:
                # Let the claimed tasks start, and finish if they are short, before the next trip.
                await asyncio.sleep(0)
                continue
            if not self._settled:
                await self._sleep(reply)

    async def turn(self, *, claim: bool = True) -> PollReply:
        """One poll, and all that follows from its reply."""
        now = time.monotonic()
        request = self._request(now, claim=claim)
        self.hungry = claim and request.capacity == 0
        self.worker.reserved += request.capacity
        try:
            reply = await self.shard.poll(self.worker.id, self.worker.packed_queues, request, resend=FOREVER)
        finally:
            self.worker.reserved -= request.capacity
        self.worker.tally.settled(request.settled, reply.refused)
        if reply.tally:
            self.worker.tally.moved(reply.tally)
        for run_id in reply.lost:
            self._stop(run_id.decode(), "lost")
        for run_id in reply.stop:
            self._stop(run_id.decode(), "cancelled")
        if reply.refused:
            self.worker.refused += len(reply.refused)
            log.warning("Redis refused to settle %d runs: their leases had ended", len(reply.refused))
        for row in reply.claims:
            self._accept(row)
        self.worker.feed()
        if reply.plans:
            await self._plan(reply.plans)
        return reply

    async def flush(self) -> None:
        """Settle what is finished, and claim nothing."""
        if self._settled or self._following:
            await self.turn(claim=False)

    def _request(self, now: float, *, claim: bool) -> PollRequest:
        self._sequence += 1
        worker = self.worker
        # A fair share: of several shards one may be dead, and its poll must not keep all the room for itself.
        share = -(-worker.concurrency // len(worker.loops))
        capacity = 0 if worker.stopping or not claim else max(0, min(worker.room, share, MAX_CLAIMS))
        settled, self._settled = self._settled, []
        results, self._results = self._results, []
        following, self._following = self._following, []
        request = PollRequest(self._sequence, capacity, settled, results, following)
        if self.held and now >= self._renew_at:
            request.held = [part for run in self.held.values() for part in (run.id, run.fence)]
            self._renew_at = now + self.shard.limits.lease_ms / 3000
        elif not self.held:
            self._renew_at = now + self.shard.limits.lease_ms / 3000
        if now >= self._heartbeat_at:
            request.heartbeat = worker.describe()
            self._heartbeat_at = now + self.shard.limits.nap_ms / 1000
        return request

    async def _sleep(self, reply: PollReply) -> None:
        """Until something is finished, a token comes, the next instant is there, or leases want renewal."""
        seconds = self.clock.seconds_until(reply.sleep_until_ms)
        if self.worker.room <= 0 or self.worker.stopping:
            seconds = self.shard.limits.nap_ms / 1000
        if self.held:
            seconds = min(seconds, self._renew_at - time.monotonic())
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

    # -- listening ----------------------------------------------------------------------------------------------

    async def listen_for_work(self) -> None:
        """Take wake tokens while this worker is idle: a full one must not take a token that wakes another, and one
        that polls anyway needs none."""
        keys = [self.shard.keys.wake(queue) for queue in self.worker.queues]
        while True:
            await self._idle.wait()
            if await self._blocking_pop(keys, "wake", self.shard.limits.nap_ms / 1000) is not None:
                self.wake()

    async def listen_for_mail(self) -> None:
        """Take messages to this worker: a run was cancelled, the clock moved."""
        keys = [self.shard.keys.mail(self.worker.id)]
        while True:
            message = await self._blocking_pop(keys, "mail", 3 * self.shard.limits.nap_ms / 1000)
            if message is None:
                continue
            word, _, run_id = message.partition(" ")
            if word == "cancel":
                self._stop(run_id, "cancelled")
            self.wake()

    async def _blocking_pop(self, keys: list[str], name: str, seconds: float) -> str | None:
        try:
            reply = await self.shard.link.command(
                "BLPOP", *keys, seconds, hold=f"{name}:{self.shard.keys.shard}", timeout=seconds + 10
            )
        except StoreError as error:
            self.worker.say_once("listen", "cannot listen: %s", error, every=10.0)
            await asyncio.sleep(0.2)
            # A token may have been lost with the connection: look.
            self.wake()
            return None
        return None if reply is None else reply[1].decode(errors="replace")

    # -- claims -------------------------------------------------------------------------------------------------

    def _accept(self, row: list[Any]) -> None:
        """A claimed run: start it, or say at once why not."""
        name = row[0].decode("utf-8", "surrogateescape")
        job_id = job_of(name)
        fence, attempt, fire_ms, postponed, queue = row[1], 1, 0, 0, "default"
        try:
            _, _, attempt, fire_ms, record, queue, fires, following_of, version, postponed, begun = row
            queue = queue.decode()
            if not 0 <= fire_ms <= MAX_MS:
                raise EncodingError(f"its fire time is {fire_ms} ms since the epoch")
            job = Job.decode(job_id, record, self.worker.store.sealer, queue=queue, version=version)
            if job.record.locked == "encrypted":
                raise _no_key(job)
        except Exception as error:  # whatever is stored there must not end the worker
            job = Job(job_id, Record("?", "?", b"", {}), JobOptions(), None)
            fire_ms = fire_ms if isinstance(fire_ms, int) and 0 <= fire_ms <= MAX_MS else 0
            run = Run(name, fence, attempt, fire_ms, str(queue), job, self.worker.id)
            run.postponed = postponed
            if isinstance(error, _FOR_OTHERS):
                self._postpone(run, Reason.UNREADABLE, str(error))
            else:
                self._settle(run, Outcome.DEAD, _reason_of(error), error=_text(error))
            return
        run = Run(name, fence, attempt, fire_ms, job.queue, job, self.worker.id)
        run.postponed = postponed
        run.begun = bool(begun)
        if following_of and job.schedule is not None:
            self._follow(job, following_of, version)
        if fires:
            run.batch = fires
        self._start(run)

    def _follow(self, job: Job, fire_ms: int, version: int) -> None:
        """Find the fire after the next one, so that the next claim needs no plan. The next poll takes it along."""
        assert job.schedule is not None
        try:
            after = job.schedule.next(fire_ms)
        except Exception:  # the next claim plans, and ends the job with the reason
            log.warning("the schedule of job %r raised", job.id, exc_info=True)
            return
        self._following += [job.id, version, fire_ms, after or 0]

    def _start(self, run: Run) -> None:
        task = self.worker.registry.find(run.job.record.task)
        if task is None:
            self._postpone(run, Reason.UNKNOWN_TASK, f"worker {self.worker.id} knows no task {run.job.record.task!r}")
            return
        if run.job.options.executor not in self.worker.executors:
            self._postpone(run, Reason.UNKNOWN_EXECUTOR, self._no_executor(run.job))
            return
        if self.worker.giving_back:
            self._settle(run, Outcome.RELEASED, Reason.SHUTDOWN)
            return
        run.task = task
        run.clock = self.clock
        run.report = self._report
        old = self.held.get(run.id)
        if old is not None:
            old.stop("lost")  # claimed anew by ourselves: the old claim's lease had ended
            self.worker.holding -= 1
        self.held[run.id] = run
        self.worker.holding += 1
        if run.batch is None:
            run.waiter = asyncio.create_task(self._execute(run))
        else:
            run.waiter = asyncio.create_task(self._execute_batch(run))
        run.waiter.add_done_callback(functools.partial(self._ended, run))

    def _no_executor(self, job: Job) -> str:
        return f"worker {self.worker.id} has no executor {job.options.executor!r}"

    # -- execution ----------------------------------------------------------------------------------------------

    def _ended(self, run: Run, waiter: asyncio.Task[None]) -> None:
        """Whatever went wrong, a run that nobody executes any more is not held on to."""
        if waiter.cancelled():
            if self.held.get(run.id) is run:
                self._cancelled(run, 0)  # before its first step
        elif (error := waiter.exception()) is not None:
            log.error("run %s could not be ended as it should", run.id, exc_info=error)
            if self.held.get(run.id) is run:
                self._finish(run, Outcome.DEAD, Reason.TASK_FAILED, late_ms=0, error=_text(error))

    async def _execute(self, run: Run) -> None:
        current.set(run)
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
            if options.circuit_breaker is not None:
                result = await self._guarded(run, options.circuit_breaker)
            elif options.timeout_ms is None:
                result = await self.worker.executors.call(run)
            else:
                result = await self._with_timeout(run)
        except asyncio.CancelledError:
            self._cancelled(run, late_ms)
        except CircuitOpenError as error:
            self._forget(run)
            self._postpone(run, Reason.CIRCUIT_OPEN, str(error), delay_ms=max(1, round(error.retry_after * 1000)))
        except (KeyboardInterrupt, GeneratorExit):
            raise
        except BaseException as error:  # SystemExit too: a task must not end its worker
            self._failed(run, error, late_ms)
        else:
            self._done(run, result, late_ms)

    async def _guarded(self, run: Run, policy: CircuitBreakerPolicy) -> Any:
        return await policy.guard(
            self.worker.store, run.job.record.task, functools.partial(self._with_timeout, run), resend=FOREVER
        )

    async def _with_timeout(self, run: Run) -> Any:
        timeout_ms = run.job.options.timeout_ms
        seconds = None if timeout_ms is None else timeout_ms / 1000
        limit = asyncio.timeout(seconds)
        try:
            async with limit:
                return await self.worker.executors.call(run)
        except TimeoutError as error:
            if limit.expired():
                raise TaskTimeoutError(f"the task ran longer than its timeout of {seconds:g} s") from error
            raise

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
            reason, error, result = Reason.EXECUTOR_SKIPPED, _clean(result.why), result.result
        ttl_ms = run.job.options.result_ttl_ms
        if result is not None and ttl_ms > 0:
            try:
                data = pack_result(result)
            except ValueError as problem:
                error = f"the result is not kept: {problem}"
            else:
                run_id = run.id if run.batch is None else f"{run.job.id}@{run.fire_ms}"
                sealer = self.worker.store.sealer
                self._results += [run_id, data if sealer is None else sealer.seal_result(run_id, data), ttl_ms]
        self._finish(run, Outcome.DONE, reason, late_ms=late_ms, error=error)

    def _failed(self, run: Run, error: BaseException, late_ms: int) -> None:
        text = _text(error)
        retry = run.job.options.retry
        reason = Reason.TIMEOUT if isinstance(error, TaskTimeoutError) else Reason.TASK_FAILED
        if isinstance(error, EncodingError) and error.field == "payload":
            reason, retry = Reason.UNREADABLE, None  # another attempt would find the same bytes
        again = retry is not None and run.attempt < retry.max_attempts and retry.retries(error)
        if self.worker.handlers:
            self.worker.handlers.failed(run, error, time.monotonic() - run.started, will_retry=again)
        if retry is not None and again:
            delay = retry.delay(run.attempt)
            log.info("job %r (%s) failed in attempt %d: %s; again in %.1f s", run.job.record.name, run.job.id,
                     run.attempt, text, delay)  # fmt: skip
            self._finish(run, Outcome.RETRY, reason, late_ms=late_ms, delay_ms=round(delay * 1000), error=text)
            return
        if retry is not None and run.attempt >= retry.max_attempts:
            reason = Reason.ATTEMPTS_USED_UP
        log.error("job %r (%s) failed: %s", run.job.record.name, run.job.id, text, exc_info=error)
        self._finish(run, Outcome.DEAD, reason, late_ms=late_ms, error=text)

    def _cancelled(self, run: Run, late_ms: int) -> None:
        match run.stop_reason:
            case "lost":
                self._forget(run)  # the run is another's now: nothing to say of it
            case "shutdown":
                self._finish(run, Outcome.RELEASED, Reason.SHUTDOWN, late_ms=late_ms)
            case "cancelled":
                self._finish(run, Outcome.CANCELLED, Reason.CANCELLED, late_ms=late_ms)
            case _:
                self._failed(run, asyncio.CancelledError("the task cancelled itself"), late_ms)

    # -- settling -----------------------------------------------------------------------------------------------

    def _finish(
        self, run: Run, outcome: Outcome, reason: Reason | None, *, late_ms: int, delay_ms: int = 0,
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
        self._settle(run, outcome, reason, late_ms=late_ms, delay_ms=delay_ms, error=error, remaining=remaining)

    def _settle(
        self, run: Run, outcome: Outcome, reason: Reason | None = None, *, late_ms: int = 0, delay_ms: int = 0,
        error: str | None = None, remaining: list[int] | None = None, postponed: int = 0,
    ) -> None:  # fmt: skip
        """The row of `lua/include/settle.lua`; the next poll takes it along."""
        duration_ms = round((time.monotonic() - run.started) * 1000) if run.started else 0
        self._settled.append(
            (run.id, run.fence, outcome.value, run.fire_ms, run.attempt, late_ms, duration_ms, run.job.record.task,
             reason.value if reason else False, delay_ms, error or False, remaining or False, postponed)
        )  # fmt: skip
        self._wake.set()

    def _postpone(self, run: Run, reason: Reason, why: str, *, delay_ms: int | None = None) -> None:
        """Put it off without using an attempt. For what others can do: later each time, so that nobody spins."""
        self.worker.say_once(f"{reason}:{run.job.record.task}", "%s; its runs are put off (%s)", why, reason)
        self._settle(
            run,
            Outcome.POSTPONED,
            reason,
            delay_ms=_postponement_ms(run.postponed) if delay_ms is None else delay_ms,
            error=_clean(why),
            postponed=run.postponed + 1,
        )

    def _forget(self, run: Run) -> None:
        if self.held.get(run.id) is run:
            del self.held[run.id]
            self.worker.holding -= 1
            self.worker.feed()
            self._wake.set()

    def _stop(self, run_id: str, reason: str) -> None:
        run = self.held.get(run_id)
        if run is not None:
            if reason == "lost":
                self.worker.lost += 1
                log.warning("the lease on run %s ended; its task is cancelled", run_id)
            run.stop(reason)

    async def _report(self, run: Run, value: Any) -> None:
        if not await self.shard.progress(self.worker.id, run.id, run.fence, value):
            raise RunLostError(f"the lease on run {run.id} ended")

    # -- planning -----------------------------------------------------------------------------------------------

    async def _plan(self, rows: list[list[Any]]) -> None:
        """Jobs of which something was missed, or whose following fire is not known."""
        commits: list[Any] = []
        jobs: list[Job | None] = []
        for row in rows:
            commit, job = self._plan_one(row)
            commits.append(commit)
            jobs.append(job)
        outcomes, tally = await self.shard.commit(self.worker.id, commits, resend=FOREVER)
        self.worker.tally.moved(tally)
        for commit, job, outcome in zip(commits, jobs, outcomes, strict=True):
            if outcome == "started" and job is not None:
                fires: list[int] = commit[2]
                run = Run(f"{job.id}@{fires[-1]}", commit[1], 1, fires[0], job.queue, job, self.worker.id)
                if len(fires) > 1:
                    run.batch = fires
                self._start(run)

    def _plan_one(self, row: list[Any]) -> tuple[list[Any], Job | None]:
        job_id, fence, next_ms, version, running, runs_left, record, queue, times = row
        name = job_id.decode(errors="surrogateescape")
        postponed = False
        try:
            if not 0 <= next_ms <= MAX_MS:
                raise EncodingError(f"its next fire time is {next_ms} ms since the epoch")
            known = {"queue": queue.decode(), "version": version, "next_run_time": next_ms}
            job = Job.decode(name, record, self.worker.store.sealer, **known)
            if job.record.locked == "encrypted":
                raise _no_key(job)
        except _FOR_OTHERS as error:
            self.worker.say_once(f"unreadable:{name}", "job %s: %s", name, error)
            later = [_postponement_ms(times), times + 1, Reason.UNREADABLE.value]
            return [name, fence, [], 0, 0, False, False, False, False, later], None
        except Exception as error:
            return [name, fence, [], 0, 0, False, False, False, _text(error), False, _reason_of(error).value], None
        if self.worker.registry.find(job.record.task) is None:
            self.worker.say_once(
                f"unknown_task:{job.record.task}", "worker %s knows no task %r; job %s is left to others",
                self.worker.id, job.record.task, name,
            )  # fmt: skip
            postponed = [_postponement_ms(times), times + 1, Reason.UNKNOWN_TASK.value]
        elif job.options.executor not in self.worker.executors:
            self.worker.say_once(f"unknown_executor:{job.options.executor}", "%s", self._no_executor(job))
            postponed = [_postponement_ms(times), times + 1, Reason.UNKNOWN_EXECUTOR.value]
        made = plan(job, self.clock.now_ms(), running=running, max_catch_up=self.worker.max_catch_up)
        following = -1 if made.next_run_time is None else made.following or 0
        fires = list(made.fires)
        missed = made.missed
        if made.skipped is not None:
            # Redis has the last word on how many instances run: give it the batch as it is without that limit.
            made = plan(job, self.clock.now_ms(), running=0, max_catch_up=self.worker.max_catch_up)
            fires, missed = list(made.fires), made.missed
        if runs_left is not False:
            # Redis counts: only fires that run use up the bound, and a batch that max_instances refuses does not.
            fires = fires[:runs_left]
        return [
            name, fence, fires, made.next_run_time or 0, following, _span(missed), _span(made.coalesced),
            _span(made.cut), _clean(made.error) if made.error else False, postponed,
        ], job  # fmt: skip


def _no_key(job: Job) -> UnknownKeyError:
    return UnknownKeyError(f"job {job.id!r} is encrypted, and this worker has no payload_security")


def _reason_of(error: Exception) -> Reason:
    return Reason.UNTRUSTED if isinstance(error, UntrustedRecordError) else Reason.UNREADABLE


def _clean(text: str) -> str:
    """What Redis can keep of a text: not too long, and no lone surrogates (they come from odd file names)."""
    return text[:ERROR_LENGTH].encode("utf-8", "replace").decode()


def _text(error: BaseException) -> str:
    """What is kept of an error. Its `__str__` is the application's code too, and may raise."""
    kind = error.error_type if isinstance(error, TaskFailedError) else type(error).__name__
    try:
        return _clean(f"{kind}: {error}")
    except (Exception, SystemExit) as problem:
        return f"{kind}: (its text cannot be had: {type(problem).__name__})"


def _postponement_ms(times: int) -> int:
    return min(UNKNOWN_LONGEST_MS, UNKNOWN_FIRST_MS * 2 ** min(times, 16))


def _span(span: Any) -> list[Any] | bool:
    return [span.first_ms, span.last_ms, span.count if span.count is not None else False] if span else False
