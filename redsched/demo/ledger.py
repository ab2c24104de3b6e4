"""The ledger: a file outside of Redis in which the tasks record what they did. It is the demo's witness.

Each effect is one line, written with one `write` to a file opened with O_APPEND. Lines of several processes do not mix,
and a killed process leaves a whole line or none.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Effect", "Ledger", "read"]


@dataclass(frozen=True, slots=True)
class Effect:
    """One execution of a task's work."""

    job_id: str
    fire_ms: int
    attempt: int
    token: int
    """The fencing token of the claim."""
    pid: int


class Ledger:
    """A ledger that is open for writing."""

    def __init__(self, path: str) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def write(self, effect: Effect) -> None:
        line = f"{effect.job_id}\t{effect.fire_ms}\t{effect.attempt}\t{effect.token}\t{effect.pid}\n"
        os.write(self._file, line.encode())

    def close(self) -> None:
        os.close(self._file)


def read(path: Path) -> Sequence[Effect]:
    """All effects, in the order in which they happened."""
    effects: list[Effect] = []
    for line in path.read_text(encoding="utf-8").splitlines():
        job_id, fire_ms, attempt, token, pid = line.split("\t")
        effects.append(Effect(job_id, int(fire_ms), int(attempt), int(token), int(pid)))
    return effects
