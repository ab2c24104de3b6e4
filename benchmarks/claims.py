"""README's figures, computed from the tables of docs/performance.md, so that both say the same.

`python -m benchmarks --docs` writes both; a test compares them.
"""

from __future__ import annotations

import math
import re

from benchmarks.compare import OURS, PEERS, PRODUCER, Figures
from benchmarks.goals import PYTHON_QUEUES, SMALLER, best

__all__ = ["BEGIN", "END", "between", "claims", "figures_of", "put_between"]

BEGIN, END = "<!-- measured -->", "<!-- /measured -->"

IMMEDIATE, STORM = "immediate, jobs/s", "all due at one instant, jobs/s"
BULK, SINGLE = "bulk adding, jobs/s", "one by one, awaited, jobs/s"
SCRIPT = "bare script, batch 100, jobs/s"
P50, P99 = "lateness at 300/s, p50 ms", "lateness at 300/s, p99 ms"


def between(page: str) -> str:
    """The text between the marks."""
    return page.partition(BEGIN)[2].partition(END)[0]


def put_between(page: str, text: str) -> str:
    """The page with this text between its marks.

    Raises:
        ValueError: the page has no marks.
    """
    head, begin, rest = page.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"the page must have {BEGIN} and {END}")
    return f"{head}{BEGIN}\n{text}{END}{tail}"


def figures_of(page: str) -> dict[str, Figures]:
    """The figures in a page's tables, by queue and column. Those of the table "redsched alone" count as redsched's."""
    text = between(page)
    rows = [_cells(line) for line in _section(text, "All queues") if line.startswith("|")]
    columns = rows[0][1:]
    figures = {
        row[0]: {column: value for column, cell in zip(columns, row[1:], strict=True) if (value := _number(cell))}
        for row in rows[2:]
    }
    for line in _section(text, "redsched alone"):
        if line.startswith("|") and (value := _number(_cells(line)[1])):
            figures.setdefault(OURS.name, {})[_cells(line)[0]] = value
    return figures


def _section(text: str, title: str) -> list[str]:
    return text.partition(f"### {title}\n")[2].partition("\n### ")[0].splitlines()


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip().strip("|").split("|")]


def _number(cell: str) -> float | None:
    return float(cell.replace(",", "")) if re.fullmatch(r"-?[\d,]*\.?\d+(e[-+]?\d+)?", cell) else None


def _shown(value: float) -> str:
    """Three significant digits: no run is more precise."""
    if value >= 1000:
        return f"{round(value, 2 - math.floor(math.log10(value))):,.0f}"
    return f"{value:.3g}"


def claims(figures: dict[str, Figures]) -> str:
    """README's table. A row that was not measured is left out; where another queue is faster, the row says so."""
    ours = figures[OURS.name]
    rows: list[tuple[str, str]] = []

    def row(what: str, *parts: str | None) -> None:
        said = [part for part in parts if part]
        if said:
            rows.append((what, "; ".join(said)))

    def per_second(figure: str) -> str | None:
        return f"{_shown(ours[figure])}/s{_beside(figures, figure)}" if figure in ours else None

    script = ours.get(SCRIPT)
    share = f"{ours[IMMEDIATE] / script:.0%} of the bare script calls in the same run" if script else None
    row("Jobs run, each with a lease, a fencing token and a record of its claim and end", per_second(IMMEDIATE), share)
    row("Jobs run, all due at the same instant", per_second(STORM))
    if (cpu := "worker CPU a job, us") in ours:
        row("Worker CPU per job", f"{_shown(ours[cpu])} µs{_beside(figures, cpu)}")
    row("Jobs added with `schedule_many`", per_second(BULK))
    row("Jobs added by a process that starts, adds 50,000 and ends", per_second(PRODUCER))
    row("Jobs added one by one, each awaited", per_second(SINGLE))
    if P50 in ours and P99 in ours:
        row("Lateness at 300 jobs/s", f"p50 {_shown(ours[P50])} ms, p99 {_shown(ours[P99])} ms", _least_late(figures))
    if (memory := "memory of a pending job, bytes") in ours:
        row("Redis memory of a pending job", f"{_shown(ours[memory])} bytes")
    if (idle := "idle worker, commands/s") in ours:
        row("Idle worker", f"{_shown(ours[idle])} commands/s")
    names = ", ".join(peer.name for peer in PEERS if peer is not OURS and peer.name in figures)
    table = "".join(f"| {what} | {said} |\n" for what, said in rows)
    return f"| | |\n|---|---|\n{table}\nAll in one run, beside {names}.\n"


def _beside(figures: dict[str, Figures], figure: str) -> str:
    """A comparison such as `: 3.2 times the best other Python queue (taskiq, 5,140)`."""
    other = best(figures, figure, PYTHON_QUEUES)
    if other is None:
        return ""
    name, value = other
    smaller = any(word in figure for word in SMALLER)
    ratio = figures[OURS.name][figure] / value
    if smaller:
        return f"; the best other Python queue needs {1 / ratio:.2g} times that ({name}, {_shown(value)})"
    times = f"{ratio:.0f}" if ratio >= 10 else f"{ratio:.2g}"
    return f": {times} times the best other Python queue ({name}, {_shown(value)}/s)"


def _least_late(figures: dict[str, Figures]) -> str | None:
    other = best(figures, P99, PYTHON_QUEUES)
    if other is None:
        return None
    name, p99 = other
    return f"the best other Python queue ({name}): p50 {_shown(figures[name][P50])} ms, p99 {_shown(p99)} ms"
