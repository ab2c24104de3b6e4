"""The live display: clocks, counters, workers and recent events. It draws the `Story` and changes nothing."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from redsched.demo.story import Line, Story, local

__all__ = ["draw", "live", "plain_line"]

MOODS = {"": "", "clock": "bold cyan", "trouble": "bold red", "good": "green"}
STATES = {"working": "green", "starting": "yellow", "stopping": "yellow", "stopped": "dim", "killed": "bold red"}
LINES = 6
WIDE = 100
"""Terminals of at least this many columns wrap a line of the story; narrower ones truncate it."""


def plain_line(story: Story, line: Line) -> Text:
    """A line of the story, prefixed with the fleet's time."""
    shown = f"{local(line.at_ms, story.day.home):%H:%M}"
    return Text.assemble((shown, "bold"), "  ", (line.text, MOODS[line.mood]))


def _clocks(story: Story) -> RenderableType:
    table = Table.grid(padding=(0, 1))
    changed = {change.zone: change.at_ms for change in story.day.changes}
    for zone in story.day.walks:
        now = local(story.now_ms, zone)
        moved = zone in changed and story.now_ms >= changed[zone]
        offset = now.strftime("%z")
        table.add_row(
            Text(zone, style="cyan" if zone in changed else ""),
            Text(f"{now:%a %H:%M}", style="bold"),
            Text(f"{offset[:3]}:{offset[3:]}", style="bold cyan" if moved else "dim"),
        )
    return Panel(table, title="clocks", border_style="dim")


def _counters(story: Story) -> RenderableType:
    tally = story.tally
    table = Table.grid(padding=(0, 1))
    table.add_column(justify="right", min_width=6)
    rows: list[tuple[int, str, str]] = [
        (story.due, "due, by an independent list", ""),
        (tally.accounted, "accounted for", "green"),
        (tally.counts["coalesced"], "coalesced", ""),
        (tally.counts["missed"], "missed", ""),
        (tally.counts["recovered"], "recovered after the kill", "yellow"),
        (len(tally.settled), "order steps settled", ""),
        (tally.counts["dead"], "dead", "red" if tally.counts["dead"] else ""),
    ]
    for count, words, style in rows:
        table.add_row(Text(f"{count:,}", style=f"bold {style}".strip()), words)
    return Panel(table, title="fires", border_style="dim")


def _workers(story: Story) -> RenderableType:
    table = Table.grid(padding=(0, 1))
    members = story.fleet.members if story.fleet is not None else []
    for member in members[-7:]:
        held = sum(worker == member.worker_id for worker in story.tally.held.values())
        state = f"holds {held}" if member.state == "working" and held else member.state
        runs = story.tally.runs[member.worker_id]
        pid = Text(f"pid {member.pid}", style="dim")
        table.add_row(member.name, pid, Text(state, style=STATES[member.state]), f"{runs:,} runs")
    return Panel(table, title="worker processes", border_style="dim")


def _latest(story: Story) -> RenderableType:
    table = Table.grid(padding=(0, 1))
    names = {entry.job_id: (entry.expression, entry.zone) for entry in story.entries}
    for event in list(story.tally.latest):
        expression, zone = names.get(event.job_id, ("", ""))
        name = event.job_id if expression else f"pizzeria {(event.task or '').rpartition('.')[2]}"
        table.add_row(
            Text(event.kind, style="green" if event.kind == "done" else "yellow"),
            Text(name, overflow="ellipsis", no_wrap=True),
            Text(expression, style="dim"),
            Text(zone, style="dim"),
        )
    return Panel(table, title="last runs", border_style="dim")


def _recent_lines(story: Story, width: int) -> RenderableType:
    lines = [plain_line(story, line) for line in list(story.lines)[-LINES:]]
    for text in lines:
        text.truncate((2 if width >= WIDE else 1) * (width - 6), overflow="ellipsis")
    return Panel(Group(*lines), title="what happens", border_style="dim")


def draw(story: Story, width: int = 100) -> RenderableType:
    """The whole display for the current state of the story."""
    head = Text.assemble(
        ("redsched demo", "bold"), f"   {story.day.date:%A %Y-%m-%d} in {story.day.home}   ", (story.server, "dim")
    )
    upper, lower = Table.grid(expand=True), Table.grid(expand=True)
    for grid in (upper, lower):
        grid.add_column(ratio=1)
        grid.add_column(ratio=1)
    upper.add_row(_clocks(story), _counters(story))
    lower.add_row(_workers(story), _latest(story))
    bar = Table.grid(expand=True)
    bar.add_row(ProgressBar(total=1.0, completed=story.progress))
    # A short terminal cuts off the bottom, so the events come before the workers.
    return Group(head, bar, upper, _recent_lines(story, width), lower)


@contextlib.asynccontextmanager
async def live(story: Story, console: Console) -> AsyncGenerator[None]:
    """Show the display while the body runs, redrawn eight times a second."""
    with Live(draw(story, console.width), console=console, auto_refresh=False, transient=True) as display:

        async def refresh() -> None:
            while True:
                display.update(draw(story, console.width), refresh=True)
                await asyncio.sleep(0.125)

        drawing = asyncio.create_task(refresh())
        try:
            yield
        finally:
            drawing.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await drawing
    # The lines stay on the screen, above the account.
    for line in story.lines:
        console.print(plain_line(story, line))
