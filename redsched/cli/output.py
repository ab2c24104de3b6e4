"""Output of the command line: tables and sentences for people, JSON for programs. Messages go to stderr."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

import typer

from redsched.logs.escaping import one_line, plain, to_json

__all__ = ["fields", "instant", "lasting", "one_line", "plain", "print_json", "print_table", "say", "until"]

PIPE_WIDTH = 1000
"""Width if the output is not a terminal: nothing is cut or folded, so that grep and awk see whole rows."""
UNBROKEN = frozenset({"NEXT RUN", "FIRES", "STATE", "PID", "RUNNING", "LAST SEEN", "WHEN"})
"""Columns that would be unreadable if folded."""


def say(message: str) -> None:
    """Print a message for people on stderr, without control characters that could affect the terminal."""
    typer.echo("\n".join(map(one_line, message.split("\n"))), err=True)


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print rows under their headings. A column without values is left out."""
    cells = [[one_line("" if value is None else value) for value in row] for row in rows]
    kept = [i for i in range(len(columns)) if i == 0 or any(row[i] for row in cells)]
    lines = [[columns[i] for i in kept], *([row[i] for i in kept] for row in cells)]
    if not sys.stdout.isatty() and all(text.isascii() for line in lines for text in line):
        _print_plain(lines)
    else:
        _print_rich(lines)


def _print_plain(lines: Sequence[Sequence[str]]) -> None:
    """For programs such as grep: rich takes as long to import as Redis to answer, and would add nothing."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        typer.echo("  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip())


def _print_rich(lines: Sequence[Sequence[str]]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    stdout = sys.stdout
    width = None if stdout.isatty() else PIPE_WIDTH
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for heading in lines[0]:
        table.add_column(heading, overflow="fold", no_wrap=heading in UNBROKEN)
    for line in lines[1:]:
        table.add_row(*map(Text, line))
    Console(file=stdout, markup=False, highlight=False, emoji=False, width=width).print(table)


def fields(pairs: Mapping[str, object]) -> None:
    """Print names with their values, one per line, without those that have none."""
    width = max(map(len, pairs), default=0)
    for name, value in pairs.items():
        if value is not None and value not in ("", (), {}):
            typer.echo(f"{name:<{width}}  {one_line(value)}")


def print_json(value: Any, *, line: bool = False) -> None:
    """Print one JSON document on stdout; with `line`, on a single line."""
    typer.echo(to_json(value, indent=None if line else 2))


def instant(at: datetime | None) -> str:
    """An instant for people: local time with the zone's abbreviation and offset."""
    if at is None:
        return ""
    if at.tzname() == "UTC":
        abbreviation, offset = "UTC", ""
    else:
        abbreviation, offset = at.tzname() or "", at.strftime(" %z")
    # If a zone has no abbreviation, tzdata repeats the offset instead.
    name = "" if not abbreviation or abbreviation[0] in "+-" else f" {abbreviation}"
    fraction = f".{at.microsecond // 1000:03d}" if at.microsecond else ""
    return f"{at:%Y-%m-%d %H:%M:%S}{fraction}{name}{offset[:4]}{offset[4:] and ':'}{offset[4:6]}"


def lasting(seconds: float) -> str:
    """A duration (in seconds) for people, in its two largest units."""
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 10:
        return f"{seconds:.1f} s"
    left = round(seconds)
    parts: list[str] = []
    for size, unit in ((86_400, "d"), (3600, "h"), (60, "min"), (1, "s")):
        if left >= size and len(parts) < 2:
            parts.append(f"{left // size} {unit}")
            left %= size
        elif parts:
            break
    return " ".join(parts)


def until(seconds: float) -> str:
    """How far ahead an instant is (in seconds), or how long it is overdue."""
    return f"in {lasting(seconds)}" if seconds >= 0 else f"overdue for {lasting(-seconds)}"
