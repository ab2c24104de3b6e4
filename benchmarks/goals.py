"""What is aimed at, as ratios within one run, and what was reached."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from benchmarks.compare import OURS, PEERS, PRODUCER, Figures

__all__ = ["PYTHON_QUEUES", "Goal", "best", "goals"]

PYTHON_QUEUES = tuple(peer.name for peer in PEERS if peer.python and peer.queue and peer is not OURS)

Results = dict[str, Figures]

SMALLER = ("lateness", "CPU", "memory")


@dataclass(frozen=True)
class Goal:
    """One row: what, the bound, and the value; `reached` is None where the bound is none."""

    what: str
    bound: str
    value: float
    reached: bool | None
    beside: str = ""
    """Which queue it was compared with."""


def best(results: Results, figure: str, names: Iterable[str]) -> tuple[str, float] | None:
    """The best of some queues in a figure, and its value."""
    able = {name: results[name][figure] for name in names if figure in results.get(name, {})}
    if not able:
        return None
    choose = min if any(word in figure for word in SMALLER) else max
    name = choose(able, key=able.__getitem__)
    return name, able[name]


def goals(results: Results) -> list[Goal]:
    """The goals that this run has figures for."""
    ours = results.get(OURS.name, {})
    found: list[Goal] = []

    def at_least(what: str, bound: float, value: float | None, beside: str = "", unit: str = "×") -> None:
        if value is not None:
            found.append(Goal(what, f"≥ {bound:g}{unit}", value, value >= bound, beside))

    def at_most(what: str, bound: float, value: float | None, beside: str = "", unit: str = "") -> None:
        if value is not None:
            found.append(Goal(what, f"≤ {bound:g}{unit}", value, value <= bound, beside))

    def against(what: str, figure: str, bound: float, names: Iterable[str]) -> None:
        other = best(results, figure, names)
        if other is not None and figure in ours:
            ratio = ours[figure] / other[1]
            at_least(what, bound, 1 / ratio if any(word in figure for word in SMALLER) else ratio, other[0])

    for what, figure in (("immediate", "immediate, jobs/s"), ("storm", "all due at one instant, jobs/s")):
        against(f"{what}, against the best Python queue", figure, 16, PYTHON_QUEUES)
        against(f"{what}, against BullMQ on Node", figure, 1, ["BullMQ (Node)"])
        raw = results.get("script alone", {}).get("bare script, batch 100, jobs/s")
        if raw and figure in ours:
            at_least(f"{what}, against the script alone", 0.5, ours[figure] / raw)
    against("storm, against APScheduler 3 (one process)", "all due at one instant, jobs/s", 1, ["APScheduler 3"])
    against("bulk adding, against the best Python queue", "bulk adding, jobs/s", 8, PYTHON_QUEUES)
    against("bulk producer, process start to exit, against the best Python queue", PRODUCER, 1, PYTHON_QUEUES)
    against("one by one, against the best Python queue", "one by one, awaited, jobs/s", 1, PYTHON_QUEUES)
    at_most("worker CPU a no-op job, us", 25, ours.get("worker CPU a job, us"))
    against("worker CPU a job: the best Python queue's against ours", "worker CPU a job, us", 15, PYTHON_QUEUES)
    for part, bound in (("p50", 1), ("p99", 3)):
        figure = f"lateness at 300/s, {part} ms"
        at_most(figure, bound, ours.get(figure))
        against(f"{figure}: APScheduler's against ours", figure, 1, ["APScheduler 3"])
    at_most("lateness at 3,000/s, p99 ms", 10, ours.get("lateness at 3,000/s, p99 ms"))
    none, many = (ours.get(f"{waiting} pending: immediate, jobs/s") for waiting in ("0", "1,000,000"))
    if none and many:
        at_least("throughput with 1,000,000 pending, against none", 0.9, many / none)
    none, many = (ours.get(f"{waiting} pending: lateness at 300/s, p99 ms") for waiting in ("0", "1,000,000"))
    if none and many:
        at_most("lateness p99 with 1,000,000 pending, against none", 1.1, many / none, unit="×")
    at_most("memory of a pending job, bytes", 350, ours.get("memory of a pending job, bytes"))
    for figure, value in ours.items():
        if figure.endswith(("fires doubled", "fires missed", "that it overtook")):
            at_most(figure, 0, value)
        elif figure.endswith("woken for one job"):
            at_most(figure, 1.5, value)
    at_most("idle worker, commands/s", 0.5, ours.get("idle worker, commands/s"))
    one = ours.get("worker processes: 1, jobs/s")
    for count in (2, 3, 4):
        several = ours.get(f"worker processes: {count}, jobs/s")
        if one and several:
            at_least(f"{count} worker processes against 1", 1, several / one)
    held = [value for figure, value in ours.items() if figure.startswith("worker's memory after")]
    if len(held) == 2:
        at_most("worker's memory after all jobs, against the first part of them", 1.1, held[1] / held[0], unit="×")
    return found
