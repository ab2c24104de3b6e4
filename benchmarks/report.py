"""A run as tables (Markdown), as bars of text, as JSON."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from typing import Any

from benchmarks.compare import OURS, PEERS, PRODUCER, RATE_HOLDS, Run
from benchmarks.goals import goals

__all__ = ["PLOTTED", "as_json", "as_markdown", "as_text"]

COLUMNS = (
    "immediate, jobs/s", "all due at one instant, jobs/s", "lateness at 300/s, p50 ms", "lateness at 300/s, p99 ms",
    "bulk adding, jobs/s", PRODUCER, "one by one, awaited, jobs/s", "worker CPU a job, us",
    "memory of a pending job, bytes", "immediate with 100,000 pending, jobs/s", "lateness at 3,000/s, p99 ms",
)  # fmt: skip
PLOTTED = ("immediate, jobs/s", "all due at one instant, jobs/s", "bulk adding, jobs/s", "worker CPU a job, us")
NOT_ITS_OWN = {
    "taskiq": "has no delayed jobs; its memory is that of a job that waits for a worker",
    "APScheduler 3": "not a queue: one process, timers in its memory",
}


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _rows(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return [f"| {' | '.join(head)} |", "|---" * len(head) + "|", *(f"| {' | '.join(row)} |" for row in rows)]


def as_markdown(run: Run, machine: dict[str, Any]) -> str:
    """The table of the goals, of all queues, of redsched's own scenarios, and what failed."""
    names = [peer.name for peer in PEERS if peer.name in run.figures or peer.name in run.failures]
    rows = [[name, *(_number(run.figures.get(name, {}).get(column)) for column in COLUMNS)] for name in names]
    lines = [
        "### Goals\n",
        *_rows(
            ("", "goal", "measured", "reached", "compared with"),
            [
                (goal.what, goal.bound, _number(goal.value), "yes" if goal.reached else "**no**", goal.beside)
                for goal in goals(run.figures)
            ],
        ),
        "\n### All queues\n",
        *_rows(("", *COLUMNS), rows),
        "",
        *(f"- {name}: {why}." for name, why in NOT_ITS_OWN.items() if name in names),
        *(f"- {name}, {title}: {why}" for name, by in run.failures.items() for title, why in by.items()),
        "\n### redsched alone\n",
        *_rows(
            ("", "measured"),
            [
                (what, _number(value))
                for name in (OURS.name, "script alone")
                for what, value in run.figures.get(name, {}).items()
                if what not in COLUMNS and what != RATE_HOLDS
            ],
        ),
        "",
        ", ".join(f"{key} {value}" for key, value in machine.items()) + ".",
        "Peers: " + ", ".join(f"{name} {_version(run, name)}" for name in names if name in run.versions) + ".",
    ]  # fmt: skip
    return "\n".join(lines) + "\n"


def _version(run: Run, name: str) -> str:
    package = {
        "docket": "pydocket",
        "APScheduler 3": "APScheduler",
        "BullMQ (Python)": "bullmq",
        "BullMQ (Node)": "bullmq",
    }
    versions = {each.lower(): version for each, version in run.versions[name].items()}
    own = ".".join(platform.python_version_tuple()[:2])
    python = versions.get("python", own)
    other = "" if python.startswith(f"{own}.") or python == own else f" (Python {python})"
    return versions.get(package.get(name, name).lower(), "?") + other


def as_text(run: Run) -> str:
    """Bars, the longest first."""
    lines: list[str] = []
    for figure in PLOTTED:
        rows = sorted(
            ((run.figures[p.name][figure], p.name) for p in PEERS if figure in run.figures.get(p.name, {})),
            reverse=True,
        )
        lines.append(f"\n{figure}")
        for value, name in rows:
            lines.append(f"  {name:16} {'█' * max(1, round(48 * value / rows[0][0]))} {_number(value)}")
    return "\n".join(lines)


def as_json(run: Run, machine: dict[str, Any]) -> dict[str, Any]:
    """All of it."""
    return {
        "machine": machine,
        "versions": run.versions,
        "figures": run.figures,
        "rounds": run.rounds,
        "failures": run.failures,
        "plotted": list(PLOTTED),
        "goals": [vars(goal) for goal in goals(run.figures)],
    }
