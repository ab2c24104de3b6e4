"""The base class of faults."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from redsched.chaos.evidence import COLUMNS, Evidence
from redsched.chaos.place import Layout, Place

__all__ = ["EVERYTHING", "Fault", "Unavailable"]

EVERYTHING = tuple(COLUMNS)
"""All columns: where Redis loses what it acknowledged, nothing that is built on it holds."""


class Unavailable(Exception):  # noqa: N818 - it says what it is
    """The fault cannot be made on this machine; the text says what is missing and how to get it."""


class Fault(ABC):
    """One row of the matrix: where it happens, what is done there, and which promises cannot be kept meanwhile."""

    name: ClassVar[str]
    """As `--fault` takes it."""
    shows: ClassVar[str]
    """One sentence: what is broken, and what must hold."""
    elsewhere: ClassVar[bool] = False
    """Whether it can be made on a server that others use as well: it does nothing to the server itself."""
    needs: ClassVar[str] = ""
    """What it needs beyond a server program, in words."""
    layout: ClassVar[Layout] = Layout()
    in_short: ClassVar[bool] = True
    """Whether the short form makes it; it leaves out what takes long and is much like another."""
    at_least_s: ClassVar[float] = 0.0
    """Seconds of load that it needs."""
    slower: ClassVar[float] = 1.0
    """How many times as long its load lasts, because it slows workers down."""
    known_by_few: ClassVar[float] = 0.0
    """The share of the ordinary jobs that are of a task which not all workers have."""
    recovers_in_s: ClassVar[float | None] = None
    """Seconds (p99) within which each run that it hit has begun elsewhere; None = no such promise."""
    cannot_keep: ClassVar[Mapping[str, str]] = {}
    """Column of the verdict -> why it cannot be kept under this fault, and which setting removes it."""

    def check(self) -> None:  # noqa: B027 - most faults can be made everywhere
        """Raises Unavailable if it cannot be made here."""

    def place_layout(self, folder: Path) -> Layout:
        """Where it happens; asked once for each run, with a folder that is there as long as the run is."""
        del folder
        return self.layout

    @abstractmethod
    async def strike(self, place: Place) -> None:
        """Break things, again and again, until the load is nearly over; and mend them."""

    async def verify(self, place: Place) -> list[str]:
        """Further problems after the fault, in words, when everything has settled."""
        del place
        return []

    def examine(self, evidence: Evidence) -> list[str]:
        """Further problems in the evidence after the run, in words."""
        del evidence
        return []
