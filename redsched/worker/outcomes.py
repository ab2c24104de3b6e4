"""The outcomes of one shard since the last poll, in the form in which the next poll sends them."""

from __future__ import annotations

import time
from collections.abc import Callable
from operator import itemgetter
from typing import Any

from redsched.codec.payload_security import Sealer
from redsched.codec.values import pack_result
from redsched.jobs.options import DEFAULT_RESULT_TTL_MS
from redsched.model import Outcome, Reason
from redsched.store.rows import PollRequest
from redsched.worker.runs import Run
from redsched.worker.troubles import shortened

__all__ = ["Outcomes"]

FINAL = frozenset({Outcome.DONE, Outcome.DEAD, Outcome.MISSED, Outcome.CANCELLED})
_DURATION_MS = itemgetter(6)
_DONE = Outcome.DONE.value


class Outcomes:
    """Rows of `lua/include/settle.lua`, with what belongs to them."""

    __slots__ = ("_deaths", "_ended", "_found", "_of_batch", "_results", "_rows", "_sealer", "_tokens", "_wake")

    def __init__(self, wake: Callable[[], None], sealer: Sealer | None) -> None:
        """`wake` is called when there is something to tell."""
        self._wake = wake
        self._sealer = sealer
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

    def settle(
        self, run: Run, outcome: Outcome, reason: Reason | None = None, *, late_ms: int = 0, delay_ms: int = 0,
        error: str | None = None, remaining: list[int] | None = None, postponed: int = 0, need: str | None = None,
    ) -> None:  # fmt: skip
        """A fire of a run has its outcome."""
        duration_ms = round((time.monotonic() - run.started) * 1000) if run.started else 0
        ttl_ms = run.job.options.result_ttl_ms
        if run.plain and outcome is Outcome.DONE and not error and not reason and ttl_ms <= DEFAULT_RESULT_TTL_MS:
            # The usual case; `outcome.value` alone would take a quarter of what this does.
            done = (
                run.id, run.fence, _DONE, run.fire_ms, run.attempt, late_ms, duration_ms, run.job.record.task, False, 0,
                False, False, 0,
            )  # fmt: skip
            self._tokens += (run.id, run.fence)
            if ttl_ms:
                self._ended.append(done)
                self._found.append(run.id)
            else:
                self._ended.append((*done, 0))
        else:
            row = (
                run.id, run.fence, outcome.value, run.fire_ms, run.attempt, late_ms, duration_ms, run.job.record.task,
                reason.value if reason else False, delay_ms, shortened(error) if error else False, remaining or False,
                postponed, *((need,) if need else ()),
            )  # fmt: skip
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
            self._rows[before] = (*row[:11], row[11][:1], *row[12:])
        self._of_batch[run_id] = len(self._rows)

    def died(self, run: Run, error: str, traceback: str = "") -> None:
        """The run is about to be settled as dead: it keeps more of its error than the events do."""
        self._deaths += (run.public_id, error, traceback)

    def keep_result(self, run: Run, result: Any, ttl_ms: int) -> None:
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
