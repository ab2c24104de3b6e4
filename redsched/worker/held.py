"""The runs that a worker holds on one shard."""

from __future__ import annotations

from collections.abc import Callable

from redsched.worker.capacity import Capacity
from redsched.worker.runs import Run

__all__ = ["HeldRuns"]


class HeldRuns(dict[str, Run]):
    """Run id -> the run, from its claim until its outcome is a row for the next poll. Each takes one place of the
    capacity.

    Args:
        capacity: of the worker.
        freed: called when a run has ended, and its place is free.
    """

    def __init__(self, capacity: Capacity, freed: Callable[[], None]) -> None:
        super().__init__()
        self._capacity = capacity
        self._freed = freed

    def has(self, run: Run) -> bool:
        """Whether this claim of the run is held: the same run may have been claimed again since."""
        return self.get(run.id) is run

    def add(self, run: Run) -> None:
        """Hold it, instead of an older claim of the same run, whose lease has expired."""
        old = self.get(run.id)
        if old is not None:
            old.stop("lost")
            self._remove(old)
        self[run.id] = run
        self._capacity.take()

    def forget(self, run: Run) -> None:
        """Hold it no longer."""
        if self.get(run.id) is run:
            self._remove(run)
            self._freed()

    def _remove(self, run: Run) -> None:
        if self.get(run.id) is run:
            del self[run.id]
            self._capacity.free()
