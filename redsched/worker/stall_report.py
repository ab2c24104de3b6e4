"""The report of a stall of the event loop in a shard's next poll."""

from __future__ import annotations

from collections.abc import Callable, Set
from typing import Any

__all__ = ["StallReport"]


class StallReport:
    """Of one shard.

    Args:
        wake: called when there is something to tell.
    """

    def __init__(self, wake: Callable[[], None]) -> None:
        self._wake = wake
        self._stall: list[Any] | None = None
        self._blamed: set[str] = set()

    def __bool__(self) -> bool:
        return self._stall is not None or bool(self._blamed)

    def add(self, stall: list[Any], run_id: str | None = None) -> None:
        """A stall has ended. If a run of this shard blocked the loop, that run pays for its own recovery."""
        self._stall = stall
        if run_id is not None:
            self._blamed.add(run_id)
        self._wake()

    def take(self, held: Set[str]) -> list[Any]:
        """The argument `stalled` of poll. Runs are named as long as they are held, and once more."""
        told = [self._stall or False, *self._blamed]
        self._stall, self._blamed = None, self._blamed & held
        return told
