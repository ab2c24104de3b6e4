"""How a run is executed: one attempt is made, and its outcome goes to the shard's `Outcomes`."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from redsched.errors import CircuitOpenError, RunLostError
from redsched.model import Outcome, Reason
from redsched.schedules.plan import is_misfire
from redsched.store.transitions import Shard
from redsched.store.wire import FOREVER
from redsched.worker import run_log
from redsched.worker.attempt import attempt, slot_is_closed
from redsched.worker.circuits import failed_trial_delay
from redsched.worker.claims import Claims
from redsched.worker.held import HeldRuns
from redsched.worker.outcomes import Outcomes
from redsched.worker.runs import Run
from redsched.worker.troubles import text_of

if TYPE_CHECKING:
    from redsched.worker.state import WorkerState

__all__ = ["Execution"]


class Execution:
    """Executes the runs that a worker holds on one shard, or ends those that do not begin.

    Args:
        worker: whose executors call the tasks.
        shard: where the runs were claimed.
        held: the runs that the loop holds.
        claims: decode a run when its turn comes.
        outcomes: take how the runs ended.
    """

    def __init__(self, worker: WorkerState, shard: Shard, held: HeldRuns, claims: Claims, outcomes: Outcomes) -> None:
        self._worker = worker
        self._shard = shard
        self._clock = shard.clock
        self._held = held
        self._claims = claims
        self._outcomes = outcomes
        self.started: int = 0
        """Runs that a slot began."""

    async def execute(self, run: Run) -> None:
        """Execute a run in a slot. Whatever goes wrong, a run that is no longer executed is no longer held."""
        if not self._held.has(run):
            return  # it was given back, cancelled or lost while it waited
        try:
            if self._claims.read(run):
                self.started += 1
                if self._worker.giving_back:
                    self._outcomes.finish(run, Outcome.RELEASED, Reason.SHUTDOWN)
                elif run.batch is None:
                    await self._execute(run)
                else:
                    await self._execute_batch(run)
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt) or slot_is_closed(run, error):
                raise  # the process is to end; what is held still is given back, or recovered
            self._broken(run, error)

    async def _execute(self, run: Run) -> None:
        options = run.job.options
        late_ms = self._clock.now_ms() - run.fire_ms
        grace = options.misfire_grace_ms
        # A further attempt started in time: its lateness is the retry policy's doing.
        first = run.attempt == 1 and not run.begun
        if grace is not None and first and is_misfire(run.fire_ms, run.fire_ms + late_ms, grace):
            self._outcomes.finish(run, Outcome.MISSED, Reason.MISFIRE, late_ms=late_ms)
            return
        run.started = time.monotonic()
        try:
            result = await attempt(run, resend=FOREVER)
        except asyncio.CancelledError as error:
            self._outcomes.cancelled(run, late_ms, error)
        except CircuitOpenError as error:
            delay_ms = max(1, round(error.retry_after * 1000))
            self._outcomes.postpone(run, Reason.CIRCUIT_OPEN, str(error), delay_ms=delay_ms)
        except BaseException as error:  # SystemExit and GeneratorExit too: a task must not end its worker, or its slot
            if slot_is_closed(run, error):
                raise
            delay = failed_trial_delay(error)
            if delay is None or options.delivery == "at_most_once":
                self._outcomes.failed(run, error, late_ms)
            else:
                why = f"a trial call of a circuit failed: {text_of(error)}"
                self._outcomes.postpone(run, Reason.CIRCUIT_OPEN, why, delay_ms=max(1, round(delay * 1000)))
            if isinstance(error, KeyboardInterrupt) and is_on_loop(run):
                raise  # Ctrl-C, in the middle of a coroutine: the process is to end
        else:
            self._outcomes.done(run, result, late_ms)

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

    # -- runs that do not begin ---------------------------------------------------------------------------------

    def drop(self, run: Run) -> None:
        """End a run that was stopped while it waited for a slot."""
        if run.stop_reason == "lost":
            self._held.forget(run)
        else:
            self._end_unbegun(run, lambda: self._outcomes.cancelled(run, 0, None))

    def give_back(self, run: Run) -> None:
        """Release a run that waits too long for a slot: another worker may have one."""
        self._end_unbegun(run, lambda: self._outcomes.finish(run, Outcome.RELEASED, Reason.BUSY))

    def _end_unbegun(self, run: Run, end: Callable[[], None]) -> None:
        if self._held.has(run):
            try:
                if self._claims.read(run):
                    end()
            except KeyboardInterrupt:
                raise
            except BaseException as error:  # such as one of a service provider that is asked for the task's instance
                self._broken(run, error)

    def _broken(self, run: Run, error: BaseException) -> None:
        if self._held.has(run):
            self._outcomes.bury(run, Reason.TASK_FAILED, error)
        run_log.broken(run, error)

    # -- runs under way -----------------------------------------------------------------------------------------

    def stop(self, run_id: str, reason: str) -> None:
        """Cancel a run, if it is held: `reason` is lost, cancelled or shutdown."""
        run = self._held.get(run_id)
        if run is not None:
            if reason == "lost":
                self._worker.count_lost()
                run_log.lease_ended(run)
            run.stop(reason)

    async def report(self, run: Run, value: Any) -> None:
        """Store the progress of a task.

        Raises:
            RunLostError: the worker no longer holds the run.
        """
        if not await self._shard.progress(self._worker.id, run.id, run.fence, value):
            raise RunLostError(f"the lease on run {run.id} ended")


def is_on_loop(run: Run) -> bool:
    """Whether the task is a coroutine function, in which the event loop's thread is interrupted."""
    return run.task is not None and run.task.is_async
