"""The command `redsched demo`."""

from __future__ import annotations

import asyncio
import contextlib
import json
import tempfile
from collections.abc import Generator
from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from redsched import BackgroundTaskScheduler, RedschedError
from redsched.demo import report, screen
from redsched.demo.agenda import PastDateError, Settings, choose_day
from redsched.demo.director import Director
from redsched.demo.worker import EVENTS_MAX, LEASE_S
from redsched.embedded import server as embedded
from redsched.testing import fresh_prefix, remove_prefix
from redsched.testing.fleet import FleetError

__all__ = ["register"]

PLAIN_WIDTH = 140
"""Columns of the output if it does not go to a terminal."""


def register(app: typer.Typer) -> None:
    """Add the command `demo`."""
    app.command("demo")(demo)


def demo(
    seconds: Annotated[float, typer.Option(min=1, help="Target duration. A slow machine may need longer.")] = 60.0,
    date: Annotated[
        datetime | None,
        typer.Option(formats=["%Y-%m-%d"], help="The day to play. Default: the next DST change in Berlin."),
    ] = None,
    workers: Annotated[int, typer.Option(min=1, max=32, help="Worker processes.")] = 3,
    url: Annotated[str | None, typer.Option(help="Use this Redis instead of starting an embedded server.")] = None,
    seed: Annotated[int, typer.Option(help="Seed for the choice of zones, options and order times.")] = 0,
    json_: Annotated[
        bool, typer.Option("--json", help="Print the account as JSON to stdout and the progress to stderr.")
    ] = False,
    plain: Annotated[bool, typer.Option("--plain", help="Print lines instead of the live display.")] = False,
) -> None:
    """A whole day in a minute: real cron entries, a DST change, a killed worker, an outage, and an account of it all.

    Needs no server. The exit code is 0 only if the account adds up: no fire was lost, and none ran twice without a
    reason.
    """
    settings = Settings(seconds, date.date() if date is not None else None, workers, seed)
    console = Console(stderr=json_, highlight=False)
    if not console.is_terminal:
        console = Console(stderr=json_, highlight=False, width=PLAIN_WIDTH, no_color=True)
        plain = True
    try:
        result = asyncio.run(_run(settings, url, console, plain=plain))
    except PastDateError as error:
        raise typer.BadParameter(str(error), param_hint="--date") from None
    except (RedschedError, FleetError) as error:
        typer.echo(f"the demo failed: {error}", err=True)
        raise typer.Exit(3) from None
    except KeyboardInterrupt:
        raise typer.Exit(130) from None
    if json_:
        typer.echo(json.dumps(report.as_json(result), indent=2))
    else:
        report.show(console, result)
    raise typer.Exit(0 if result.account.adds_up else 1)


@contextlib.contextmanager
def _server(url: str | None) -> Generator[tuple[str, str]]:
    """Yields the server's URL and a description of it."""
    if url is not None:
        yield url, "your Redis"
        return
    with embedded.start() as server:
        yield server.url, f"embedded server, pid {server.pid}"


async def _run(settings: Settings, url: str | None, console: Console, *, plain: bool) -> report.Report:
    with tempfile.TemporaryDirectory(prefix="redsched-demo-") as folder, _server(url) as (at, words):
        # A separate prefix: the demo moves the prefix's clock, and must not disturb other users of a given Redis.
        scheduler = BackgroundTaskScheduler(
            at, fresh_prefix("redsched-demo"), lease=LEASE_S, events_max=EVENTS_MAX, declared_tasks=False
        )
        try:
            await scheduler.start(worker=False)
        except RedschedError:
            await scheduler.shutdown()
            raise
        try:
            day = await choose_day(scheduler, settings.date)
            director = Director(scheduler, day, settings, at, Path(folder, "ledger"), words)
            story = director.story
            if plain:
                story.listener = lambda line: console.print(screen.plain_line(story, line), soft_wrap=True)
                return await director.perform()
            async with screen.live(story, console):
                return await director.perform()
        finally:
            if url is not None:
                await remove_prefix(scheduler)
            await scheduler.shutdown()
