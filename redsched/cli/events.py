"""`redsched events`: the transitions of jobs, past and live, with their reasons."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Collection
from typing import Annotated

import typer

from redsched import BackgroundTaskScheduler, Event
from redsched.cli import output
from redsched.cli.session import Prefix, Url, place, run
from redsched.errors import InvalidInputError
from redsched.logs.formats import setup

__all__ = ["KINDS", "events"]

KINDS = (
    "scheduled", "replaced", "claimed", "done", "retry", "dead", "missed", "coalesced", "skipped", "recovered",
    "released", "postponed", "cancelled", "removed", "paused", "resumed", "modified", "requeued", "refused", "ended",
    "dropped", "stalled", "quarantined", "worker_failed",
)  # fmt: skip
"""Every `Event.kind`."""

FOLLOW_SHOWS = 10
SHOWS = 100
MOST = 10_000_000
"""More events than a stream ever holds."""


def line(event: Event) -> str:
    """One event as one line: time, kind, job and details."""
    parts = [f"{event.at:%Y-%m-%d %H:%M:%S}.{event.at.microsecond // 1000:03d}Z", f"{event.kind:<9}", event.job_id]
    if event.task:
        parts.append(event.task)
    if event.fire_time is not None and event.last_fire_time is not None:
        number = "" if event.count is None else f"{event.count} "
        parts.append(f"{number}fires {event.fire_time:%Y-%m-%dT%H:%M:%SZ} to {event.last_fire_time:%Y-%m-%dT%H:%M:%SZ}")
    if event.attempt is not None and event.attempt > 1:
        parts.append(f"attempt {event.attempt}")
    if event.execution_time is not None and event.kind in ("done", "retry", "dead"):
        parts.append(f"took {output.lasting(event.execution_time)}")
    if event.lateness is not None and event.lateness >= 1:
        parts.append(f"started {output.lasting(event.lateness)} late")
    if event.reason is not None:
        parts.append(f"({event.reason})")
    if event.error:
        parts.append(event.error)
    return output.one_line("  ".join(parts))


def _show(event: Event, json: bool) -> None:
    if json:
        output.print_json(event, line=True)
    else:
        typer.echo(line(event))


async def _newest(
    scheduler: BackgroundTaskScheduler, job_id: str | None, kinds: Collection[str], limit: int
) -> list[Event]:
    """The newest `limit` events of some kinds. How far back they reach is unknown, so each try reads more."""
    asked = limit
    while True:
        found = await scheduler.get_history(job_id, limit=asked)
        chosen = [event for event in found if not kinds or event.kind in kinds]
        if len(chosen) >= limit or len(found) < asked or asked >= MOST:
            return chosen[-limit:]
        asked = min(asked * 8, MOST)


def events(
    ctx: typer.Context,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Print new events until Ctrl-C.")] = False,
    job: Annotated[str | None, typer.Option("--job", metavar="ID", help="Only events of this job.")] = None,
    kind: Annotated[
        list[str] | None, typer.Option("--kind", metavar="KIND", help=f"Only these kinds: {', '.join(KINDS)}.")
    ] = None,
    limit: Annotated[
        int | None,
        typer.Option(
            "--limit", min=0, show_default=False, help=f"Number of past events ({SHOWS}; with --follow {FOLLOW_SHOWS})."
        ),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object per line, for programs.")] = False,
    url: Url = None,
    prefix: Prefix = None,
) -> None:
    """Print events, the newest last: each transition of each job, with its reason. Times are UTC."""
    kinds = frozenset(kind or ())
    for word in kind or ():
        if word not in KINDS:
            raise InvalidInputError(f"--kind is {word!r}; it must be one of {', '.join(KINDS)}", field="kind")
    number = limit if limit is not None else FOLLOW_SHOWS if follow else SHOWS

    async def show(scheduler: BackgroundTaskScheduler) -> None:
        arrived: asyncio.Queue[Event] = asyncio.Queue()
        if follow:
            # Listen first, then read the past: events in between arrive twice, and are shown once.
            scheduler.add_listener(arrived.put_nowait)
            await scheduler.start(worker=False)
        shown: set[tuple[object, ...]] = set()
        for event in await _newest(scheduler, job, kinds, number) if number else ():
            shown.add(_identity(event))
            _show(event, json)
        while follow:
            event = await arrived.get()
            wanted = (job is None or event.job_id == job) and (not kinds or event.kind in kinds)
            if wanted and _identity(event) not in shown:
                _show(event, json)

    if follow:
        setup(sys.stderr, level="warning")  # a user who follows events should see that Redis is away
    try:
        run(place(ctx, url, prefix), show, quiet=not follow)
    except KeyboardInterrupt:
        if not follow:
            raise


def _identity(event: Event) -> tuple[object, ...]:
    return event.stream_id, event.kind, event.job_id, event.fire_time
