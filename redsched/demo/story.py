"""The story of the demo: lines of text with the fleet's time, and the state that the display draws."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from redsched.demo.entries import Entry
from redsched.demo.expected import Change, Day
from redsched.demo.tally import Tally
from redsched.testing.fleet import Fleet

__all__ = ["Line", "Story", "change_in_words", "local"]


def local(at_ms: int, zone: str) -> datetime:
    """The local time in that zone."""
    return datetime.fromtimestamp(at_ms / 1000, UTC).astimezone(ZoneInfo(zone))


@dataclass(frozen=True, slots=True)
class Line:
    """One thing that happened, as text."""

    at_ms: int
    text: str
    mood: str = ""
    """"" (neutral), "clock", "trouble" or "good"."""


@dataclass(slots=True)
class Story:
    """The state of the demo, as an onlooker sees it."""

    day: Day
    entries: Sequence[Entry]
    tally: Tally
    server: str
    now_ms: int = 0
    due: int = 0
    """Fires that are due by now, by the independent list."""
    due_all: int = 0
    fleet: Fleet | None = None
    lines: deque[Line] = field(default_factory=lambda: deque[Line](maxlen=50))
    listener: Callable[[Line], None] | None = None

    def say(self, text: str, mood: str = "") -> None:
        """Add a line at the fleet's current time."""
        line = Line(self.now_ms, text, mood)
        self.lines.append(line)
        if self.listener is not None:
            self.listener(line)

    @property
    def progress(self) -> float:
        """The part of the day that is over, 0 to 1."""
        length = self.day.end_ms - self.day.start_ms
        return min(1.0, max(0.0, (self.now_ms - self.day.start_ms) / length))


def change_in_words(change: Change, entries: Sequence[Entry]) -> str:
    """Describe a change of the clock and its effect on the entries of its zone."""
    place = change.zone
    before, after = f"{change.before:%H:%M}", f"{change.after:%H:%M}"
    mine = [entry for entry in entries if entry.zone == place]
    if change.forward:
        text = f"{before} {place} does not exist today: the clock jumps to {after}."
        moved = [entry for entry in mine if change.at_ms in entry.expected.moved]
        if moved:
            named = ", ".join(f"{entry.package} ({entry.expression})" for entry in moved)
            text += f" {named} is due in the gap: it runs once, at {after}."
        else:
            text += " No entry has a fixed time in the gap."
        return text + " Entries with a * for minute or hour follow the clock: they have no fire in the gap."
    text = f"{before} {place}: the clock goes back to {after}, and the time in between comes twice."
    dropped = [entry for entry in mine if any(at_ms >= change.at_ms for at_ms in entry.expected.dropped)]
    if dropped:
        named = ", ".join(f"{entry.package} ({entry.expression})" for entry in dropped)
        text += f" {named} ran the first time and does not run again."
    return text + " Entries with a * for minute or hour follow the clock: they run in both."
