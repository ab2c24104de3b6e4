"""redsched beside other queues, in one run: the table with the goals, a plot, and JSON."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.peers.harness import (
    PEERS,
    Bench,
    Peer,
    PeerError,
    adding,
    immediate,
    install,
    measure,
    memory,
    server,
    spread,
    storm,
)

__all__ = ["GOALS", "best", "compare", "plot", "ratios", "table"]

Results = dict[str, dict[str, float]]

LOWER_IS_BETTER = ("lateness", "CPU", "memory")
NOT_PYTHON = ("BullMQ (Node)",)
NOT_QUEUES = ("APScheduler 3",)
"""Timers of one process, without locking: compared apart."""

COLUMNS = (
    "immediate, jobs/s", "all due at one instant, jobs/s", "lateness at 300/s, p50 ms", "lateness at 300/s, p99 ms",
    "bulk adding, jobs/s", "one by one, awaited, jobs/s", "worker CPU a job, us", "memory of a pending job, bytes",
)  # fmt: skip

GOALS = (
    ("immediate, against the best Python queue", "immediate, jobs/s", 16.0),
    ("all due at one instant, against the best Python queue", "all due at one instant, jobs/s", 16.0),
    ("bulk adding, against the best Python queue", "bulk adding, jobs/s", 8.0),
    ("one by one, awaited, against the best Python queue", "one by one, awaited, jobs/s", 1.0),
    ("worker CPU a job: the best Python queue's against ours", "worker CPU a job, us", 15.0),
)
"""What, which figure, and the least ratio that is aimed at."""


def compare(*, quick: bool, names: list[str] | None = None, say: Callable[[str], None] = print) -> dict[str, Any]:
    """Run every scenario for every peer. Returns results by peer, what failed, and the versions."""
    results: Results = {}
    failures: dict[str, dict[str, str]] = {}
    versions: dict[str, dict[str, str]] = {}
    peers: list[Peer] = []
    for peer in PEERS:
        if names and peer.name not in names:
            continue
        say(f"environment of {peer.name} ...")
        try:
            versions[peer.name] = install(peer)
            peers.append(peer)
        except PeerError as error:
            failures[peer.name] = {"install": str(error)}
    share = 4 if quick else 1

    if quick:
        say("quick: only what is immediate, and adding; each measured once")

    def jobs(bench: Bench) -> int:
        return max(200, bench.peer.jobs // share)

    scenarios: list[tuple[str, Callable[[Bench], dict[str, float]], bool]] = [
        ("immediate", lambda bench: immediate(bench, jobs(bench)), False),
        ("all due at one instant", lambda bench: storm(bench, jobs(bench)), True),
        ("lateness", lambda bench: spread(bench, 300, 2 if quick else 8), True),
        ("adding", lambda bench: adding(bench, jobs(bench)), False),
        ("memory", lambda bench: memory(bench, 1000 if quick else 5000), False),
    ]
    if quick:
        scenarios = [scenario for scenario in scenarios if scenario[0] in ("immediate", "adding")]
    with server() as port:
        for title, scenario, timed in scenarios:
            say(f"{title} ...")
            able = [peer for peer in peers if (peer.delayed or not timed) and (peer.immediate or title != "immediate")]
            rounds = 1 if quick or title in ("memory", "lateness") else 3
            for name, found in measure(able, scenario, port, rounds).items():
                if isinstance(found, str):
                    failures.setdefault(name, {})[title] = found
                    say(f"  {name}: {found}")
                else:
                    results.setdefault(name, {}).update(found)
                    say(f"  {name}: " + ", ".join(f"{key} {value:,.1f}" for key, value in found.items()))
    return {"results": results, "failures": failures, "versions": versions}


def best(results: Results, figure: str, *, without: tuple[str, ...] = ()) -> tuple[str, float] | None:
    """The best peer of a figure, and its value."""
    able = {n: r[figure] for n, r in results.items() if figure in r and n not in ("redsched", *without)}
    if not able:
        return None
    choose = min if figure.startswith(LOWER_IS_BETTER) or any(w in figure for w in LOWER_IS_BETTER) else max
    name = choose(able, key=able.__getitem__)
    return name, able[name]


def ratios(results: Results) -> list[tuple[str, str, float, float]]:
    """What, the peer that it is compared with, the goal, and what was reached."""
    ours = results["redsched"]
    rows: list[tuple[str, str, float, float]] = []
    for what, figure, goal in GOALS:
        other = best(results, figure, without=(*NOT_PYTHON, *NOT_QUEUES))
        if other is not None and figure in ours:
            lower = "CPU" in figure
            rows.append((what, other[0], goal, other[1] / ours[figure] if lower else ours[figure] / other[1]))
    for figure in ("immediate, jobs/s", "all due at one instant, jobs/s"):
        node = results.get("BullMQ (Node)", {}).get(figure)
        if node:
            rows.append(
                (f"{figure.partition(',')[0]}, against BullMQ on Node", "BullMQ (Node)", 1.0, ours[figure] / node)
            )
    for figure in ("lateness at 300/s, p50 ms", "lateness at 300/s, p99 ms"):
        theirs = results.get("APScheduler 3", {}).get(figure)
        if theirs:
            what = f"{figure.removesuffix(' ms')}: APScheduler's timers in memory against ours"
            rows.append((what, "APScheduler 3", 1.0, theirs / ours[figure]))
    return rows


def table(results: Results, failures: dict[str, dict[str, str]]) -> str:
    """Markdown: the figures of each, then what failed."""
    lines = ["| | " + " | ".join(COLUMNS) + " |", "|---|" + "---|" * len(COLUMNS)]
    for name, row in results.items():
        cells = [f"{row[c]:,.0f}" if row.get(c, 0) >= 100 else f"{row[c]:.2g}" if c in row else "-" for c in COLUMNS]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    for name, why in failures.items():
        lines += [f"\n{name}, {title}: {text}" for title, text in why.items()]
    return "\n".join(lines)


def plot(results: Results, file: Path) -> bool:
    """Bars of the throughput and the CPU of each, as a PNG. Returns False where matplotlib is not installed."""
    with contextlib.suppress(ImportError):
        import matplotlib as mpl

        mpl.use("Agg")
        from matplotlib import pyplot as plt

        figure, axes = plt.subplots(1, 3, figsize=(15, 4.2))
        for axis, column in zip(axes, (COLUMNS[0], COLUMNS[1], COLUMNS[6]), strict=True):
            rows = sorted(((n, r[column]) for n, r in results.items() if column in r), key=lambda row: row[1])
            names, values = [name for name, _ in rows], [value for _, value in rows]
            bars = axis.barh(names, values, color=["#c0392b" if n == "redsched" else "#95a5a6" for n in names])
            axis.bar_label(bars, [f"{value:,.0f}" for value in values], padding=3, fontsize=8)
            axis.set_title(column, fontsize=10)
            axis.margins(x=0.18)
            axis.spines[["top", "right"]].set_visible(False)
        figure.tight_layout()
        file.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(file, dpi=110)
        return True
    return False


def bars(results: Results, figure: str) -> str:
    """The same as text."""
    rows = sorted(((r[figure], n) for n, r in results.items() if figure in r), reverse=True)
    longest = max((value for value, _ in rows), default=1)
    return "\n".join(f"{name:16} {'█' * max(1, round(50 * value / longest))} {value:,.0f}" for value, name in rows)
