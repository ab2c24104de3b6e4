"""The schedules of the demo: 61 real cron entries of Debian packages, each with a time zone and misfire options."""

from __future__ import annotations

import random
from dataclasses import dataclass
from importlib.resources import files

from redsched.demo.expected import Day, Expectation, expect

__all__ = ["GRACE_S", "ZONES", "Entry", "load"]

ZONES = (
    "Europe/Berlin",
    "Europe/London",
    "America/New_York",
    "Australia/Lord_Howe",
    "Asia/Kolkata",
    "Pacific/Apia",
    "UTC",
)
"""Whole-hour, half-hour (Kolkata) and extreme offsets. Lord Howe moves its clocks by half an hour. Berlin and London
change theirs at the same instant, which is a different local hour in each."""

GRACE_S = 600

SUNDAY_NIGHT = "opa-fastfabric"
"""The one real entry in the hour that a DST change skips or repeats (`0 2 * * sun`). It gets the zone of the change."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A cron entry of a package, as a job."""

    package: str
    number: int
    expression: str
    zone: str
    coalesce: bool
    grace_s: float | None
    """misfire_grace_time."""
    expected: Expectation

    @property
    def job_id(self) -> str:
        return f"{self.package}-{self.number}"

    @property
    def lateness(self) -> str:
        """A few words about how its overdue fires are handled."""
        if self.grace_s is not None:
            return "10 min grace" if self.coalesce else "all, 10 min grace"
        return "newest" if self.coalesce else "all"


def load(day: Day, seed: int = 0) -> list[Entry]:
    """The entries, spread over zones and misfire options: the same for the same seed."""
    rows = (files("redsched.demo") / "data" / "schedules.tsv").read_text(encoding="utf-8").splitlines()[1:]
    zones = list(day.walks)
    random.Random(seed).shuffle(zones)  # the same day again by the same seed  # nosec B311
    entries: list[Entry] = []
    for index, row in enumerate(row for row in rows if row.strip()):
        package, number, expression = row.split("\t")
        zone = day.home if package == SUNDAY_NIGHT else zones[index % len(zones)]
        # Most entries have the defaults (coalesce, no grace limit); some want every fire; some must not be late.
        way = (index + seed) % 6
        entry = Entry(
            package=package,
            number=int(number),
            expression=expression,
            zone=zone,
            coalesce=way not in (2, 5),
            grace_s=GRACE_S if way in (4, 5) else None,
            expected=expect(expression, day.walks[zone]),
        )
        entries.append(entry)
    return entries
