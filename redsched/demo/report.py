"""Prints the account: tables for people, JSON for programs."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from redsched.demo.account import Account, OrderLine
from redsched.demo.expected import Day
from redsched.demo.story import local

__all__ = ["Report", "WorkerLine", "as_json", "show", "verdict"]

COLUMNS = ("due", "ran", "coalesced", "missed", "doubled", "lost")
RARE = ("again", "skipped", "extra", "contradicted")
"""These columns are shown only if one of their values is not 0."""
FAULTS = frozenset({"doubled", "lost", "extra", "contradicted"})
WIDE = 136
"""A terminal of at least this many columns shows the whole table."""
NARROW = 104
"""A terminal of fewer columns gets abbreviated headings."""
SHORT = {"coalesced": "coal", "missed": "miss", "doubled": "dbl", "contradicted": "contra", "again": "agn"}


@dataclass(frozen=True, slots=True)
class WorkerLine:
    """How a worker process ended, and how many runs it settled."""

    name: str
    pid: int
    state: str
    runs: int


@dataclass(frozen=True, slots=True)
class Report:
    """The result of a performance."""

    account: Account
    day: Day
    workers: Sequence[WorkerLine]
    seconds: float

    @property
    def hours(self) -> float:
        return (self.day.end_ms - self.day.start_ms) / 3_600_000


def _number(value: int, column: str, style: str = "") -> Text:
    if value and column in FAULTS:
        style = "bold red"
    elif not value:
        style = "green" if column in FAULTS else "dim"
    return Text("·" if not value and column not in FAULTS else f"{value:,}", style=style)


def _schedules(account: Account, width: int) -> RenderableType:
    columns = [*COLUMNS, *(column for column in RARE if account.total(column))]
    wide, narrow = width >= WIDE, width < NARROW
    table = Table(
        title=f"{len(account.schedules)} schedules",
        title_justify="left",
        title_style="bold",
        header_style="dim",
        box=None,
        padding=(0, 1, 0, 0),
    )
    for name, least in (("package", 16), ("entry", 13), ("zone", 8)):
        table.add_column(name, no_wrap=True, overflow="ellipsis", width=least if narrow else None)
    if wide:
        table.add_column("if late", no_wrap=True)
    for name in columns:
        least = 5 if name in ("due", "ran") else 4
        table.add_column(SHORT.get(name, name) if narrow else name, justify="right", min_width=least, no_wrap=True)
    for line in account.schedules:
        words = [
            Text.assemble((line.package, "" if line.adds_up else "bold red"), (f" {line.number}", "dim")),
            Text(line.expression),
            Text(line.zone if wide else line.zone.rpartition("/")[2]),
        ]
        if wide:
            words.append(Text(line.lateness, style="dim"))
        table.add_row(*words, *(_number(getattr(line, column), column) for column in columns))
    blanks = [""] * (len(table.columns) - len(columns) - 1)
    table.add_row(Text("total", style="bold"), *blanks, *(_number(account.total(c), c, "bold") for c in columns))
    return table


def _order_in_words(order: OrderLine) -> Text:
    if order.faults:
        return Text("; ".join(order.faults), style="bold red")
    if order.cancelled:
        return Text(f"cancelled after 20 minutes: {' and '.join(order.stopped)} did not run", style="yellow")
    return Text("all five steps ran", style="green")


def _orders(account: Account, day: Day) -> RenderableType:
    table = Table(
        title="Mario's Pizzeria",
        title_justify="left",
        title_style="bold",
        header_style="dim",
        box=None,
        padding=(0, 1, 0, 0),
    )
    for name in ("order", "placed", "steps"):
        table.add_column(name, no_wrap=True)
    table.add_column("")
    for order in account.orders:
        placed = f"{local(order.place_ms, day.home):%H:%M}"
        table.add_row(order.order_id, placed, f"{len(order.ran)} of 5", _order_in_words(order))
    return table


def verdict(account: Account) -> str:
    """One sentence: whether the account adds up, and the totals."""
    due, orders = account.total("due"), account.orders
    if account.adds_up:
        reasons = ", ".join(f"{account.total(c):,} {c}" for c in ("coalesced", "missed", "skipped") if account.total(c))
        again = f" {account.again} ran again after the kill;" if account.again else ""
        steps, stopped = sum(len(order.ran) for order in orders), sum(len(order.stopped) for order in orders)
        return (
            f"It adds up: {due:,} fires due, all accounted for: {account.total('ran'):,} ran"
            f"{', ' + reasons if reasons else ''}, 0 lost, 0 doubled;{again} "
            f"{steps} steps of orders ran, {stopped} were cancelled."
        )
    return (
        f"It does NOT add up: of {due:,} fires due {account.total('lost'):,} are lost, {account.total('doubled'):,} "
        f"doubled; {account.total('extra') + account.strangers:,} were never due; {account.total('contradicted'):,} "
        f"contradict the events; {sum(not order.adds_up for order in orders)} orders have errors."
    )


def show(console: Console, report: Report) -> None:
    """Print the whole report."""
    account = report.account
    soft = not console.is_terminal  # keeps a sentence on one line, for grep
    workers = [f"{worker.name} {worker.state} after {worker.runs:,} runs" for worker in report.workers]
    console.print()
    console.print(_schedules(account, console.width))
    console.print()
    console.print(_orders(account, report.day))
    console.print()
    console.print(Text(f"{', '.join(workers)}.", style="dim"), soft_wrap=soft)
    console.print()
    console.print(Text(verdict(account), style="bold green" if account.adds_up else "bold red"), soft_wrap=soft)
    if account.again:
        explanation = (
            "Ran again: their worker was killed after it did the work and before it reported the outcome. That is "
            'at-least-once delivery. With delivery="at_most_once" they would have ended dead instead; with the '
            "fencing token a task can detect the repetition."
        )
        console.print(Text(explanation, style="dim"), soft_wrap=soft)
    console.print(Text(f"{report.hours:g} hours in {report.seconds:.0f} seconds.", style="dim"))


def as_json(report: Report) -> dict[str, Any]:
    """The report as plain data."""
    account = report.account
    return {
        "adds_up": account.adds_up,
        "verdict": verdict(account),
        "date": report.day.date.isoformat(),
        "home": report.day.home,
        "hours": report.hours,
        "seconds": round(report.seconds, 1),
        "totals": {column: account.total(column) for column in (*COLUMNS, *RARE)},
        "again": account.again,
        "strangers": account.strangers,
        "schedules": [dataclasses.asdict(line) | {"adds_up": line.adds_up} for line in account.schedules],
        "orders": [dataclasses.asdict(order) | {"adds_up": order.adds_up} for order in account.orders],
        "workers": [dataclasses.asdict(worker) for worker in report.workers],
    }
