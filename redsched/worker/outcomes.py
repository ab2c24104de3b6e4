"""How runs of one shard ended: what it means for each, and the rows that the next poll takes along."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from operator import itemgetter
from typing import TYPE_CHECKING, Any

from redsched.codec.values import pack_result
from redsched.errors import EncodingError, TaskTimeoutError
from redsched.jobs.options import DEFAULT_RESULT_TTL_MS
from redsched.model import Outcome, Reason
from redsched.store.rows import PollRequest, Settled, done_row, settle_row
from redsched.worker import run_log
from redsched.worker.executors.registry import Skipped
from redsched.worker.held import HeldRuns
from redsched.worker.places import Places
from redsched.worker.runs import Run
from redsched.worker.tracebacks import begin_with_users_frames, traceback_of
from redsched.worker.troubles import clean, postponement_ms, shortened, text_of

if TYPE_CHECKING:
    from redsched.worker.state import WorkerState

__all__ = ["Outcomes"]

FINAL = frozenset({Outcome.DONE, Outcome.DEAD, Outcome.MISSED, Outcome.CANCELLED})
_DURATION_MS = itemgetter(Settled.DURATION_MS)


class Outcomes:
    """Ends runs: each ending is a row of `lua/include/settle.lua`, with what belongs to it.

    Args:
        worker: that holds the runs.
        held: the runs that it holds on this shard.
        places: where runs are parked that lack something here.
        wake: called when there is something to settle.
    """

    def __init__(self, worker: WorkerState, held: HeldRuns, places: Places, wake: Callable[[], None]) -> None:
        self._worker = worker
        self._held = held
        self._places = places
        self._wake = wake
        self._sealer = worker.store.sealer
        self._rows: list[Any] = []
        self._ended: list[Any] = []
        """Rows of plain claims that are done; of each its run id and fence, flat, in `_tokens`."""
        self._tokens: list[Any] = []
        self._of_batch: dict[str, int] = {}
        """Batches, of which more fires are left -> their latest row in `_rows`."""
        self._found: list[str] = []
        self._deaths: list[Any] = []
        self._results: list[Any] = []

    @property
    def are_there(self) -> bool:
        """Whether runs ended that Redis does not know yet."""
        return bool(self._rows or self._ended)

    # -- what an ending means for its run -----------------------------------------------------------------------

    def done(self, run: Run, result: Any, late_ms: int) -> None:
        """The task has returned."""
        if self._worker.handlers:
            self._worker.handlers.succeeded(run, result, time.monotonic() - run.started)
        error = reason = None
        if type(result) is Skipped:
            reason, error, result = Reason.EXECUTOR_SKIPPED, clean(result.why), result.result
        ttl_ms = run.job.options.result_ttl_ms
        if result is not None and ttl_ms > 0:
            try:
                self._keep_result(run, result, ttl_ms)
            except ValueError as problem:
                error = f"the result is not kept: {problem}"
                run_log.not_kept(run, problem)
        self.finish(run, Outcome.DONE, reason, late_ms=late_ms, error=error)

    def failed(self, run: Run, error: BaseException, late_ms: int) -> None:
        """The task has raised: try again, by its retry policy, or end the run as dead."""
        begin_with_users_frames(error)
        text = text_of(error)
        retry = run.job.options.retry
        reason = Reason.TIMEOUT if isinstance(error, TaskTimeoutError) else Reason.TASK_FAILED
        if isinstance(error, EncodingError) and error.field == "payload":
            reason, retry = Reason.UNREADABLE, None  # another attempt would find the same bytes
        again = retry is not None and run.attempt < retry.max_attempts and retry.retries(error)
        if self._worker.handlers:
            self._worker.handlers.failed(run, error, time.monotonic() - run.started, will_retry=again)
        if retry is not None and again:
            delay = retry.delay(run.attempt)
            run_log.tried_again(run, error, text, reason, delay)
            self.finish(run, Outcome.RETRY, reason, late_ms=late_ms, delay_ms=round(delay * 1000), error=text)
            return
        if retry is not None and run.attempt >= retry.max_attempts:
            reason = Reason.ATTEMPTS_USED_UP
        self.bury(run, reason, error, late_ms=late_ms)
        run_log.dead(run, error, text, reason)

    def bury(self, run: Run, reason: Reason, error: BaseException, *, late_ms: int = 0) -> None:
        """The run is dead: keep its error, with a traceback."""
        text = text_of(error)
        self.died(run, text, traceback_of(error))
        self.finish(run, Outcome.DEAD, reason, late_ms=late_ms, error=text)

    def cancelled(self, run: Run, late_ms: int, error: BaseException | None) -> None:
        """The run was stopped, by `Run.stop` or by its own task."""
        match run.stop_reason:
            case "lost":
                self._held.forget(run)  # another worker has the run now, and settles it
            case "shutdown":
                self.finish(run, Outcome.RELEASED, Reason.SHUTDOWN, late_ms=late_ms)
            case "cancelled":
                self.finish(run, Outcome.CANCELLED, Reason.CANCELLED, late_ms=late_ms)
            case _:
                itself = asyncio.CancelledError("the task cancelled itself")
                self.failed(run, itself.with_traceback(error.__traceback__ if error else None), late_ms)

    def finish(
        self, run: Run, outcome: Outcome, reason: Reason | None, *, late_ms: int = 0, delay_ms: int = 0,
        error: str | None = None,
    ) -> None:  # fmt: skip
        """One fire has its outcome. The run has ended, unless it is a batch with fires left."""
        remaining: list[int] | None = None
        if run.batch is not None and outcome not in (Outcome.RELEASED, Outcome.CANCELLED):
            run.batch = run.batch[1:]
            remaining = run.batch or None
        if remaining is None:
            self._held.forget(run)
            if run.task is not None and run.task.is_local and run.job.schedule is None and outcome in FINAL:
                self._worker.registry.release(run.task)
        self.settle(run, outcome, reason, late_ms=late_ms, delay_ms=delay_ms, error=error, remaining=remaining)

    def postpone(
        self, run: Run, reason: Reason, why: str, *, delay_ms: int | None = None, need: str | None = None
    ) -> None:
        """Put it off without using an attempt: until a worker has what it needs, or else later each time."""
        self._held.forget(run)
        if need:
            self._places.refuse(f"{need} {run.queue}")
        run_log.put_off(run, reason, why)
        self.settle(
            run,
            Outcome.POSTPONED,
            reason,
            delay_ms=postponement_ms(run.postponed) if delay_ms is None else delay_ms,
            error=clean(why),
            postponed=run.postponed + 1,
            need=need,
        )

    # -- rows for the next poll ---------------------------------------------------------------------------------

    def settle(
        self, run: Run, outcome: Outcome, reason: Reason | None = None, *, late_ms: int = 0, delay_ms: int = 0,
        error: str | None = None, remaining: list[int] | None = None, postponed: int = 0, need: str | None = None,
    ) -> None:  # fmt: skip
        """A fire of a run has its outcome."""
        duration_ms = round((time.monotonic() - run.started) * 1000) if run.started else 0
        ttl_ms = run.job.options.result_ttl_ms
        if run.plain and outcome is Outcome.DONE and not error and not reason and ttl_ms <= DEFAULT_RESULT_TTL_MS:
            done = done_row(
                run_id=run.id,
                fence=run.fence,
                fire_ms=run.fire_ms,
                attempt=run.attempt,
                lateness_ms=late_ms,
                duration_ms=duration_ms,
                task=run.job.record.task,
            )
            self._tokens += (run.id, run.fence)
            if ttl_ms:
                self._ended.append(done)
                self._found.append(run.id)
            else:
                self._ended.append((*done, 0))
        else:
            row = settle_row(
                run_id=run.id,
                fence=run.fence,
                verb=outcome.value,
                fire_ms=run.fire_ms,
                attempt=run.attempt,
                lateness_ms=late_ms,
                duration_ms=duration_ms,
                task=run.job.record.task,
                reason=reason.value if reason else None,
                delay_ms=delay_ms,
                error=shortened(error) if error else None,
                remaining=remaining,
                postponed=postponed,
                need=need,
            )
            if remaining and outcome is not Outcome.RELEASED:
                self._shorten_before(run.id)
            usual = ttl_ms == DEFAULT_RESULT_TTL_MS or outcome not in FINAL
            self._rows.append(row if usual else (*row, ttl_ms))
        self._wake()

    def _shorten_before(self, run_id: str) -> None:
        """The row that comes says which fires are left of a batch: one before it, in the same poll, need not.

        Otherwise a batch of n short fires takes n*n/2 instants: too many for one entry of the events to be read.
        """
        before = self._of_batch.get(run_id)
        if before is not None:
            row = self._rows[before]
            at = Settled.REMAINING
            self._rows[before] = (*row[:at], row[at][:1], *row[at + 1 :])
        self._of_batch[run_id] = len(self._rows)

    def died(self, run: Run, error: str, traceback: str = "") -> None:
        """The run is about to be settled as dead: it keeps more of its error than the events do."""
        self._deaths += (run.public_id, error, traceback)

    def _keep_result(self, run: Run, result: Any, ttl_ms: int) -> None:
        """The run is about to be settled as done: keep what its task returned.

        Raises:
            EncodingError: it cannot be kept.
        """
        run_id, data = run.public_id, pack_result(result)
        self._results += (run_id, data if self._sealer is None else self._sealer.seal_result(run_id, data), ttl_ms)

    def hand_over(self, request: PollRequest) -> float | None:
        """Let a poll take all of it along. Returns how long the runs took on average, ms; None if none ended."""
        settled = request.settled = self._ended + self._rows
        request.done, request.found = self._tokens, self._found
        request.deaths, request.results = self._deaths, self._results
        self._rows, self._ended, self._tokens, self._found, self._deaths, self._results = [], [], [], [], [], []
        if self._of_batch:
            self._of_batch = {}
        return sum(map(_DURATION_MS, settled)) / len(settled) if settled else None
