"""`redsched jobs pause|resume|run|cancel|remove|requeue`: commands that change jobs, selected by ids or by a tag."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Annotated

import typer

from redsched import BackgroundTaskScheduler, InvalidInputError, JobLookupError, SchedulerStateError
from redsched.cli import output
from redsched.cli.exits import ExitCode
from redsched.cli.session import JsonFlag, Place, Prefix, Url, place, run

__all__ = ["register"]

BATCH = 1000
EVERY = 1_000_000
"""More dead runs than are ever kept."""

Ids = Annotated[list[str] | None, typer.Argument(metavar="[ID]...", show_default=False, help="Job ids.")]
Tag = Annotated[str | None, typer.Option("--tag", help="All jobs with this tag, instead of ids.")]
One = Callable[[BackgroundTaskScheduler, str], Awaitable[str]]


@dataclass(slots=True)
class Report:
    """The result for each job."""

    done: dict[str, str] = field(default_factory=dict[str, str])
    """Job id -> the message to print."""
    failed: dict[str, str] = field(default_factory=dict[str, str])
    """Job id -> why it failed."""


def _show(report: Report, json: bool) -> None:
    """Print the report. Exit with the code NOTHING if a job was missing, or if none matched."""
    if json:
        output.print_json({"done": list(report.done), "failed": report.failed})
    else:
        for message in report.done.values():
            typer.echo(output.one_line(message))
        for why in report.failed.values():
            output.say(f"redsched: {output.one_line(why)}")
        if not report.done and not report.failed:
            output.say("redsched: nothing matches")
    if report.failed or not report.done:
        raise typer.Exit(ExitCode.NOTHING)


def _check(ids: list[str] | None, tag: str | None) -> None:
    if bool(ids) == (tag is not None):
        raise InvalidInputError("pass either job ids or --tag", field="tag")


def _each(where: Place, ids: list[str] | None, tag: str | None, change: One) -> Report:
    """Change one job after the other. A missing job does not prevent the others from being changed."""
    _check(ids, tag)

    async def work(scheduler: BackgroundTaskScheduler) -> Report:
        report = Report()
        chosen = ids if ids else [job.id for job in await scheduler.get_jobs(tag=tag)]
        for job_id in dict.fromkeys(chosen):
            try:
                report.done[job_id] = await change(scheduler, job_id)
            except (JobLookupError, SchedulerStateError) as error:
                report.failed[job_id] = str(error)
        return report

    return run(where, work)


async def _pause(scheduler: BackgroundTaskScheduler, job_id: str) -> str:
    await scheduler.pause_job(job_id)
    return f"paused {job_id}"


async def _resume(scheduler: BackgroundTaskScheduler, job_id: str) -> str:
    job = await scheduler.resume_job(job_id)
    if job is None:
        return f"resumed {job_id}: its schedule has ended, so the job has ended too"
    return f"resumed {job_id}" + (f", next run {output.instant(job.next_run_time)}" if job.next_run_time else "")


async def _run(scheduler: BackgroundTaskScheduler, job_id: str) -> str:
    return f"{job_id} is due now, as run {await scheduler.run_now(job_id)}"


async def _remove(scheduler: BackgroundTaskScheduler, job_id: str) -> str:
    await scheduler.remove_job(job_id)
    return f"removed {job_id}"


def pause(
    ctx: typer.Context, ids: Ids = None, tag: Tag = None, json: JsonFlag = False, url: Url = None, prefix: Prefix = None
) -> None:
    """Pause jobs: they do not become due. Active runs are not affected."""
    _show(_each(place(ctx, url, prefix), ids, tag, _pause), json)


def resume(
    ctx: typer.Context, ids: Ids = None, tag: Tag = None, json: JsonFlag = False, url: Url = None, prefix: Prefix = None
) -> None:
    """Resume paused jobs: they become due again from now on."""
    _show(_each(place(ctx, url, prefix), ids, tag, _resume), json)


def run_now(
    ctx: typer.Context, ids: Ids = None, tag: Tag = None, json: JsonFlag = False, url: Url = None, prefix: Prefix = None
) -> None:
    """Make jobs due now, once, in addition to their schedules."""
    _show(_each(place(ctx, url, prefix), ids, tag, _run), json)


def remove(
    ctx: typer.Context, ids: Ids = None, tag: Tag = None, json: JsonFlag = False, url: Url = None, prefix: Prefix = None
) -> None:
    """End jobs. Active runs finish, and are not retried."""
    _show(_each(place(ctx, url, prefix), ids, tag, _remove), json)


def cancel(
    ctx: typer.Context, ids: Ids = None, tag: Tag = None, json: JsonFlag = False, url: Url = None, prefix: Prefix = None
) -> None:
    """End jobs and stop their active runs."""
    _check(ids, tag)

    async def work(scheduler: BackgroundTaskScheduler) -> Report:
        ended = await (scheduler.cancel_jobs(ids=ids) if ids else scheduler.cancel_jobs(tag=tag))
        missing = [job_id for job_id in dict.fromkeys(ids or ()) if job_id not in set(ended)]
        return Report(
            {job_id: f"cancelled {job_id}" for job_id in ended},
            {job_id: f"no job with id {job_id!r}" for job_id in missing},
        )

    _show(run(place(ctx, url, prefix), work), json)


def requeue(
    ctx: typer.Context,
    run_ids: Annotated[
        list[str] | None, typer.Argument(metavar="[RUN_ID]...", show_default=False, help="Run ids from `jobs dead`.")
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="All dead runs.")] = False,
    json: JsonFlag = False,
    url: Url = None,
    prefix: Prefix = None,
) -> None:
    """Make dead runs due again, with all their attempts."""
    if bool(run_ids) == every:
        raise InvalidInputError("pass either the ids of dead runs or --all", field="run_ids")

    async def work(scheduler: BackgroundTaskScheduler) -> Report:
        chosen = run_ids if run_ids else [run.id for run in await scheduler.get_dead(EVERY)]
        report = Report()
        for start in range(0, len(chosen), BATCH):
            batch = chosen[start : start + BATCH]
            requeued = await scheduler.requeue(*batch)
            report.done.update((run_id, f"requeued {run_id}") for run_id in requeued)
        if run_ids:  # with --all, a run that was requeued by another call in the meantime is not a failure
            missing = [run_id for run_id in run_ids if run_id not in report.done]
            report.failed.update((run_id, f"no dead run with id {run_id!r}") for run_id in missing)
        return report

    _show(run(place(ctx, url, prefix), work), json)


def register(app: typer.Typer) -> None:
    """Add these commands to `redsched jobs`."""
    app.command("pause")(pause)
    app.command("resume")(resume)
    app.command("run")(run_now)
    app.command("cancel")(cancel)
    app.command("remove")(remove)
    app.command("requeue")(requeue)
