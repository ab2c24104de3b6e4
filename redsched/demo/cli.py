"""The command `redsched demo`."""

from __future__ import annotations

import asyncio
import contextlib
import json
import tempfile
from collections.abc import Generator
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from redsched import BackgroundTaskScheduler, RedschedError, embedded
from redsched.demo import report, screen
from redsched.demo.agenda import PastDateError, Settings, choose_day
from redsched.demo.director import Director
from redsched.demo.fleet import FleetError
from redsched.demo.worker import EVENTS_MAX, LEASE_S
from redsched.ids import new_id

__all__ = ["register"]

PLAIN_WIDTH = 140
"""Columns where the output is no terminal."""


def register(app: typer.Typer) -> None:
    """Add the command `demo`."""
    app.command("demo")(demo)


def demo(
    seconds: Annotated[
        float, typer.Option(min=1, help="How long it shall take. A slow machine takes what it needs.")
    ] = 60.0,
    date: Annotated[
        datetime | None,
        typer.Option(formats=["%Y-%m-%d"], help="Which day; by default the next one with a DST change in Berlin."),
    ] = None,
    workers: Annotated[int, typer.Option(min=1, max=32, help="Worker processes.")] = 3,
    url: Annotated[str | None, typer.Option(help="A Redis to use, instead of a server that the demo starts.")] = None,
    seed: Annotated[int, typer.Option(help="Spreads zones, settings and orders differently.")] = 0,
    json_: Annotated[
        bool, typer.Option("--json", help="Print the account as JSON; what happens goes to stderr.")
    ] = False,
    plain: Annotated[bool, typer.Option("--plain", help="Lines instead of the live display.")] = False,
) -> None:
    """A whole day in a minute: real cron entries, a DST change, a killed worker, an outage, and an account of it all.

    Needs no server. Exit code 0 only if the account adds up: no fire was lost, and none was done twice.
    """
    settings = Settings(seconds, date.date() if date is not None else None, workers, seed)
    console = Console(stderr=json_, highlight=False)
    if not console.is_terminal:
        console = Console(stderr=json_, highlight=False, width=PLAIN_WIDTH, no_color=True)
        plain = True
    try:
        told = asyncio.run(_run(settings, url, console, plain=plain))
    except PastDateError as error:
        raise typer.BadParameter(str(error), param_hint="--date") from None
    except (RedschedError, FleetError) as error:
        typer.echo(f"the demo could not go on: {error}", err=True)
        raise typer.Exit(3) from None
    except KeyboardInterrupt:
        raise typer.Exit(130) from None
    if json_:
        typer.echo(json.dumps(report.as_json(told), indent=2))
    else:
        report.show(console, told)
    raise typer.Exit(0 if told.account.adds_up else 1)


@contextlib.contextmanager
def _server(url: str | None) -> Generator[tuple[str, str]]:
    """A URL, and in words what is there."""
    if url is not None:
        yield url, "your Redis"
        return
    with embedded.start() as server:
        yield server.url, f"embedded server, pid {server.pid}"


async def _run(settings: Settings, url: str | None, console: Console, *, plain: bool) -> report.Report:
    with tempfile.TemporaryDirectory(prefix="redsched-demo-") as folder, _server(url) as (at, words):
        # A prefix of its own: the clock that is moved is that of the prefix, so a given Redis is not disturbed.
        scheduler = BackgroundTaskScheduler(
            at, f"redsched-demo-{new_id()}", lease=LEASE_S, events_max=EVENTS_MAX, declared_tasks=False
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
                await _remove_all(scheduler)
            await scheduler.shutdown()


async def _remove_all(scheduler: BackgroundTaskScheduler) -> None:
    """Leave nothing in a Redis that is not ours: `clear_all_jobs` keeps the clock, since time must never go back."""
    for shard in (await scheduler.store()).shards:
        cursor: Any = 0
        while True:
            cursor, keys = await shard.link.command("SCAN", cursor, "MATCH", f"{shard.keys.tag}*", "COUNT", 500)
            if keys:
                await shard.link.command("UNLINK", *keys)
            if int(cursor) == 0:
                break
