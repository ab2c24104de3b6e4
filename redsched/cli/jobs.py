"""`redsched jobs`: commands that inspect jobs. Those that change jobs are in `changes.py`."""

from __future__ import annotations

import contextlib
from typing import Annotated, Any

import typer

from redsched import BackgroundTaskScheduler, Event, JobLookupError, JobPage, JobView, State, StoreError
from redsched.cli import changes, output
from redsched.cli.events import line
from redsched.cli.serving import Fleet, read_fleet
from redsched.cli.session import JsonFlag, Prefix, Url, place, run

__all__ = ["app", "described"]

TABLE_SHOWS = 100
EVENTS_SHOWN = 10
PREFIXES_SHOWN = 20

app = typer.Typer(no_args_is_help=True, help="Inspect, pause, resume, run, cancel, remove and requeue jobs.")


def described(job: JobView, unserved: str | None = None) -> dict[str, Any]:
    """A job for programs: the fields of `JobView`, and `unserved`: why no live worker can run it, or null."""
    return {**output.plain(job), "unserved": unserved}


def _note(job: JobView, unserved: str | None) -> str:
    parts = [
        unserved,
        job.reason.value if job.reason is not None else None,
        job.error,
        f"{job.running} running" if job.running > 1 else None,
        f"attempt {job.attempt}" if job.attempt > 1 else None,
        f"{job.waiting} waiting for a retry" if job.waiting else None,
    ]
    return "; ".join(part for part in parts if part)


def _named(prefixes: list[str]) -> str:
    if not prefixes:
        return "this Redis has no redsched prefix: is it the right server?"
    more = f" and {len(prefixes) - PREFIXES_SHOWN} more" if len(prefixes) > PREFIXES_SHOWN else ""
    return f"--prefix may be {', '.join(map(repr, prefixes[:PREFIXES_SHOWN]))}{more}"


@app.command("list")
def list_jobs(
    ctx: typer.Context,
    tag: Annotated[str | None, typer.Option("--tag", help="Only jobs with this tag.")] = None,
    queue: Annotated[str | None, typer.Option("--queue", "-q", help="Only jobs of this queue.")] = None,
    state: Annotated[State | None, typer.Option("--state", help="Only jobs in this state.")] = None,
    limit: Annotated[
        int | None,
        typer.Option("--limit", min=0, show_default=False, help=f"Maximum number (table: {TABLE_SHOWS}); 0 = all."),
    ] = None,
    json: JsonFlag = False,
    url: Url = None,
    prefix: Prefix = None,
) -> None:
    """List jobs, ordered by next run time. NOTE says why a job cannot run.

    With --json: a list of objects with the fields of JobView, and `unserved`: why no live worker can run it, or null.
    """

    most = limit if limit is not None else 0 if json else TABLE_SHOWS
    others: list[str] = []

    async def read(scheduler: BackgroundTaskScheduler) -> tuple[Fleet, JobPage]:
        found = await scheduler.get_jobs(tag=tag, queue=queue, state=state, limit=most or None)
        if not found and not json:
            with contextlib.suppress(StoreError):  # an ACL may allow only this prefix
                prefixes = await scheduler.find_prefixes()
                if scheduler.prefix not in prefixes:
                    others[:] = [f"nothing is stored under the prefix {scheduler.prefix!r}", _named(prefixes)]
        return await read_fleet(scheduler), found

    fleet, found = run(place(ctx, url, prefix), read)
    shown = found
    if json:
        output.print_json([described(job, fleet.why_unserved(job)) for job in shown])
        return
    if not found:
        output.say("no jobs match" if tag or queue or state else "there are no jobs")
        if others:
            output.say("; ".join(others))
        return
    output.print_table(
        ["ID", "NAME", "TASK", "QUEUE", "STATE", "NEXT RUN", "SCHEDULE", "NOTE"],
        [
            (
                job.id,
                "" if job.name == job.task else job.name,
                job.task,
                job.queue,
                job.state.value,
                output.instant(job.next_run_time),
                "once" if job.schedule.startswith("once") else job.schedule,
                _note(job, fleet.why_unserved(job)),
            )
            for job in shown
        ],
    )
    if found.cursor is not None:
        output.say("… and more; use --limit 0 to show all")


@app.command("show")
def show_job(
    ctx: typer.Context,
    job_id: Annotated[str, typer.Argument(metavar="ID", help="The id of a job or of a dead run.")],
    json: JsonFlag = False,
    url: Url = None,
    prefix: Prefix = None,
) -> None:
    """Show all fields of one job, and its last events.

    With --json: the fields of JobView, `unserved`, and `events`, the newest last.
    """

    async def read(scheduler: BackgroundTaskScheduler) -> tuple[Fleet, JobView, list[Event]]:
        job = await scheduler.get_job(job_id)
        past = await scheduler.get_history(job_id, limit=EVENTS_SHOWN)
        if job is None:
            known = f" Its last event: {line(past[-1])}" if past else ""
            raise JobLookupError(f"no job with id {job_id!r}: it has ended or never existed.{known}")
        return await read_fleet(scheduler), job, past

    fleet, job, past = run(place(ctx, url, prefix), read)
    unserved = fleet.why_unserved(job)
    if json:
        output.print_json({**described(job, unserved), "events": past})
        return
    seconds = None if job.next_run_time is None else (job.next_run_time - fleet.now).total_seconds()
    output.fields(
        {
            "id": job.id,
            "name": job.name,
            "task": job.task,
            "queue": job.queue,
            "state": job.state.value,
            "not served": unserved,
            "next run": None if seconds is None else f"{output.instant(job.next_run_time)} ({output.until(seconds)})",
            "schedule": job.schedule,
            "time zone": job.timezone,
            "tags": ", ".join(job.tags),
            "args": "(encrypted)" if job.encrypted else job.args,
            "kwargs": dict(job.kwargs),
            "running": job.running or None,
            "waiting": job.waiting or None,
            "attempt": f"{job.attempt} of {job.max_attempts}" if job.attempt else None,
            "progress": job.progress,
            "reason": job.reason,
            "error": job.error,
            "coalesce": "yes" if job.coalesce else "no",
            "max_instances": job.max_instances,
            "misfire_grace_time": _seconds(job.misfire_grace_time),
            "timeout": _seconds(job.timeout),
            "max_attempts": job.max_attempts,
            "delivery": job.delivery.value,
            "executor": job.executor,
            "runs left": job.runs_left,
            "declared by": job.application,
            "not as declared": ", ".join(
                (*job.modified, *(["paused"] if job.application and job.state == "paused" else []))
            ),
            "version": job.version,
        }
    )
    if job.traceback:
        _print_traceback(job)
    if past:
        typer.echo("\nlast events:")
        for event in past:
            typer.echo(f"  {line(event)}")


def _print_traceback(job: JobView) -> None:
    typer.echo(f"\ntraceback of {output.one_line(job.id)}:")
    for text in (job.traceback or "").splitlines():
        typer.echo(f"  {output.one_line(text)}")


def _seconds(value: float | None) -> str:
    return "no limit" if value is None else f"{value:g} s"


@app.command("dead")
def list_dead(
    ctx: typer.Context,
    limit: Annotated[int, typer.Option("--limit", min=1, help="Maximum number.")] = 100,
    tracebacks: Annotated[bool, typer.Option("--tracebacks", help="Show the end of each run's traceback.")] = False,
    json: JsonFlag = False,
    url: Url = None,
    prefix: Prefix = None,
) -> None:
    """List dead runs, which ended without success, the newest first. `requeue` makes them due again.

    With --json: a list of objects with the fields of JobView; `id` is the run's id.
    """

    async def read(scheduler: BackgroundTaskScheduler) -> list[JobView]:
        return (await scheduler.get_dead(limit))[:limit]

    found = run(place(ctx, url, prefix), read)
    if json:
        output.print_json(found)
    elif not found:
        output.say("there are no dead runs")
    else:
        output.print_table(
            ["RUN ID", "NAME", "TASK", "QUEUE", "ATTEMPTS", "REASON", "ERROR"],
            [(j.id, j.name, j.task, j.queue, j.attempt, j.reason, j.error) for j in found],
        )
        for job in found:
            if tracebacks and job.traceback:
                _print_traceback(job)


changes.register(app)
