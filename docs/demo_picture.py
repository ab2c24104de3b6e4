"""Draws README's picture: `python docs/demo_picture.py` plays the real demo and writes `docs/demo.svg`.

The picture shows the demo's live display as it was after the outage, and below it the last sentence of the account. It
is written only if the account adds up.
"""

from __future__ import annotations

import asyncio
import io
import re
import sys
import tempfile
from datetime import date
from pathlib import Path

from rich.console import Console, RenderableType
from rich.text import Text

from redsched import BackgroundTaskScheduler
from redsched.demo import report, screen
from redsched.demo.agenda import Settings, choose_day
from redsched.demo.director import Director
from redsched.demo.worker import EVENTS_MAX, LEASE_S
from redsched.embedded import server as embedded

PICTURE = Path(__file__).parent / "demo.svg"
DAY = date(2027, 3, 28)
"""A day on which Berlin and London skip an hour."""
WIDTH = 110
HOUR = 20
"""The fleet's hour at which the display is captured."""
FONT_FACE = re.compile(r"@font-face \{.*?\}\n", re.DOTALL)


async def _play(seconds: float) -> tuple[RenderableType, report.Report]:
    """Play the day. Returns the display at `HOUR` and the report."""
    with tempfile.TemporaryDirectory(prefix="redsched-picture-") as folder, embedded.start() as server:
        scheduler = BackgroundTaskScheduler(
            server.url, "redsched-demo", lease=LEASE_S, events_max=EVENTS_MAX, declared_tasks=False
        )
        await scheduler.start(worker=False)
        try:
            day = await choose_day(scheduler, DAY)
            words = f"embedded server, pid {server.pid}"
            director = Director(scheduler, day, Settings(seconds), server.url, Path(folder, "ledger"), words)
            playing = asyncio.create_task(director.perform())
            while director.story.now_ms < day.at(HOUR) and not playing.done():  # noqa: ASYNC110 (the story has no event for this)
                await asyncio.sleep(0.02)
            return screen.draw(director.story, WIDTH), await playing
        finally:
            await scheduler.shutdown()


def as_svg(display: RenderableType, verdict: str) -> str:
    """The display and the verdict as a terminal picture. It loads no fonts from elsewhere."""
    console = Console(record=True, width=WIDTH, file=io.StringIO(), force_terminal=True, color_system="truecolor")
    console.print(Text.assemble(("$ ", "dim"), "redsched demo"))
    console.print(display)
    console.print(Text(verdict, style="bold green"))
    return FONT_FACE.sub("", console.export_svg(title="redsched demo", unique_id="demo"))


def main() -> int:
    """Play the demo and write the picture. Returns 1 if the account does not add up."""
    display, result = asyncio.run(_play(seconds=45.0))
    verdict = report.verdict(result.account)
    if not result.account.adds_up:
        print(verdict, file=sys.stderr)  # noqa: T201
        return 1
    PICTURE.write_text(as_svg(display, verdict), encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
