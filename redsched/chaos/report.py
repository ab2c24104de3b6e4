"""The report of a chaos run: a table for people, JSON for programs, Markdown for the docs."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from typing import Any

import redsched
from redsched.chaos.cell import Outcome
from redsched.chaos.evidence import COLUMNS, percentile

__all__ = ["Report", "headings", "row"]


def _recovery(outcome: Outcome) -> str:
    times = sorted(outcome.verdict.recoveries)
    if not times:
        return "–"
    return f"{percentile(times, 0.5):.2f} / {percentile(times, 0.99):.2f} / {times[-1]:.2f}"


def headings() -> list[str]:
    """Of the table."""
    return ["fault", "accepted", "executions", *COLUMNS, "again", "recovery, s (p50 / p99 / max)", "verdict"]


def verdict_word(outcome: Outcome) -> str:
    """In short."""
    if outcome.skipped is not None:
        return "skipped"
    if outcome.violations:
        return "VIOLATED"
    return "measured" if outcome.fault.cannot_keep else "kept"


def row(outcome: Outcome) -> list[str]:
    """Of the table."""
    verdict = outcome.verdict
    if outcome.skipped is not None:
        return [outcome.fault.name, *[""] * (len(headings()) - 2), f"skipped: {outcome.skipped}"]
    counts = [f"{len(texts):,}" for texts in verdict.problems.values()]
    return [
        outcome.fault.name, f"{verdict.accepted:,}", f"{verdict.executions:,}", *counts, f"{verdict.again:,}",
        _recovery(outcome), verdict_word(outcome),
    ]  # fmt: skip


@dataclass(slots=True)
class Report:
    """All faults of a run."""

    command: str
    seed: int
    server: str
    outcomes: list[Outcome]

    @property
    def versions(self) -> str:
        return f"{self.server}, Python {platform.python_version()}, redsched {redsched.__version__}"

    def as_json(self) -> dict[str, Any]:
        """As plain data."""
        return {
            "command": self.command,
            "seed": self.seed,
            "server": self.server,
            "python": platform.python_version(),
            "redsched": redsched.__version__,
            "kept": not any(outcome.violations for outcome in self.outcomes),
            "faults": [_fault_json(outcome) for outcome in self.outcomes],
        }

    def as_markdown(self) -> str:
        """The table, with the command and the versions that made it."""
        lines = [f"`{self.command}`, seed {self.seed}: {self.versions}.", ""]
        lines += [f"| {' | '.join(headings())} |", f"|{'---|' * len(headings())}"]
        lines += [f"| {' | '.join(row(outcome))} |" for outcome in self.outcomes]
        return "\n".join(lines) + "\n"


def _fault_json(outcome: Outcome) -> dict[str, Any]:
    verdict, times = outcome.verdict, sorted(outcome.verdict.recoveries)
    return {
        "fault": outcome.fault.name,
        "shows": outcome.fault.shows,
        "verdict": verdict_word(outcome),
        "skipped": outcome.skipped,
        "jobs": outcome.jobs,
        "accepted": verdict.accepted,
        "refused": verdict.refused,
        "unknown": verdict.unknown,
        "fires": verdict.fires,
        "executions": verdict.executions,
        "effects": verdict.effects,
        **{column: len(texts) for column, texts in verdict.problems.items()},
        "cannot_keep": dict(outcome.fault.cannot_keep),
        "again": verdict.again,
        "stale": verdict.stale,
        "reasons": dict(verdict.reasons),
        "faults_made": outcome.moments,
        "recoveries": len(times),
        "recovery_s": None if not times else [percentile(times, 0.5), percentile(times, 0.99), times[-1]],
        "recovery_in_children_s": sorted(round(seconds, 3) for seconds in verdict.in_children),
        "quiet_s": round(outcome.quiet_s, 2),
        "seconds": round(outcome.seconds, 2),
        "violations": outcome.violations[:100],
    }
