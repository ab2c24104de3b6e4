"""The declarations of one application in this process, and the other processes that declare jobs of it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from redsched.declarations.definition import Declaration

__all__ = ["Owner", "ids_of"]

Others = Sequence[Sequence[Any]]
"""Generation, seen_ms, 1 if a process of it is there, ids: of `lua/declare.lua`."""


@dataclass(slots=True)
class Owner:
    """The declarations of one application, in this process and in others."""

    name: str
    declared: list[Declaration] = field(default_factory=list[Declaration])
    generation: int = 0
    newer: dict[int, frozenset[str]] = field(default_factory=dict[int, frozenset[str]])
    """Generations that came later, and of which a process was there lately -> ids and aliases that they declare."""
    alive: frozenset[str] = frozenset()
    """Ids and aliases that other processes declare, of any generation, that are there now."""

    @property
    def ids(self) -> list[str]:
        return sorted({name for one in self.declared for name in (one.id, *one.aliases)})

    @property
    def digest(self) -> str:
        parts = b"".join(one.id.encode() + b"\0" + one.digest for one in sorted(self.declared, key=lambda d: d.id))
        return hashlib.blake2b(parts, digest_size=12).hexdigest()

    def observe(self, generation: int, others: Others) -> None:
        """Take over the reply of `lua/declare.lua`."""
        self.generation = generation
        self.newer = {number: ids_of(ids) for number, _, _, ids in others if number > generation}
        self.alive = frozenset(job_id for _, _, there, ids in others if there for job_id in ids_of(ids))


def ids_of(ids: Iterable[bytes]) -> frozenset[str]:
    return frozenset(job_id.decode(errors="replace") for job_id in ids)
