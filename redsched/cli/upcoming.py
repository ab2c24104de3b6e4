"""`redsched next`: the upcoming fires of the jobs in Redis, or of a cron expression to try out."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any, Literal, cast

import typer

from redsched import BackgroundTaskScheduler, CronSchedule, InvalidInputError, JobView
from redsched.cli import output
from redsched.cli.session import JsonFlag, Prefix, Url, place, run

__all__ = ["upcoming"]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def upcoming(
    ctx: typer.Context,
    count: Annotated[int, typer.Option("--count", "-n", min=1, help="Number of fires to show.")] = 10,
    tz: Annotated[
        str | None, typer.Option("--tz", metavar="ZONE", help="Show times in this zone; with --cron: its time zone.")
    ] = None,
    cron: Annotated[
        str | None,
        typer.Option("--cron", metavar="EXPR", help="Preview this cron expression instead; needs no Redis."),
    ] = None,
    seconds: Annotated[
        str | None,
        typer.Option("--seconds", metavar="first|last", help="With --cron: the position of the second in six fields."),
    ] = None,
    after: Annotated[
        str | None,
        typer.Option(
            "--after", metavar="TIME", help="With --cron: show fires after this time (ISO 8601) instead of now."
        ),
    ] = None,
    json: JsonFlag = False,
    url: Url = None,
    prefix: Prefix = None,
) -> None:
    """Show upcoming fires: the next run of each job, the soonest first, or the fires of a cron expression.

    With --json: a list of objects: at, timezone, in_seconds, and for jobs also job_id, name, task, queue, schedule.
    """
    if cron is not None:
        _preview(_cron(cron, tz or "UTC", seconds), after, count, json)
        return
    if seconds is not None:
        raise InvalidInputError("--seconds requires --cron", field="seconds")
    if after is not None:
        raise InvalidInputError("--after requires --cron: jobs become due by Redis' clock", field="after")
    where = place(ctx, url, prefix)
    shown_in = None if tz is None else _clock(tz)

    async def read(scheduler: BackgroundTaskScheduler) -> tuple[datetime, list[JobView]]:
        found = [job for job in await scheduler.get_jobs() if job.next_run_time is not None]
        return await scheduler.now(), found[:count]

    now, jobs = run(where, read)
    rows: list[dict[str, Any]] = []
    for job in jobs:
        assert job.next_run_time is not None
        at = job.next_run_time if shown_in is None else job.next_run_time.astimezone(shown_in.zone)
        rows.append(
            {
                "at": at,
                "timezone": job.timezone if shown_in is None else shown_in.timezone,
                "in_seconds": round((at - now).total_seconds(), 3),
                "job_id": job.id,
                "name": job.name,
                "task": job.task,
                "queue": job.queue,
                "schedule": job.schedule,
            }
        )
    if json:
        output.print_json(rows)
    elif not rows:
        output.say("no job has a next run time")
    else:
        output.print_table(
            ["NEXT RUN", "ZONE", "WHEN", "JOB", "NAME", "TASK"],
            [
                [output.instant(at), zone, output.until(seconds), job_id, name, task]
                for at, zone, seconds, job_id, name, task, *_ in (row.values() for row in rows)
            ],
        )


def _clock(name: str) -> CronSchedule:
    """A schedule in that zone, as a source of its key and tzinfo: a schedule checks names, and suggests corrections.

    Raises:
        InvalidScheduleError: the zone does not exist.
    """
    return CronSchedule("* * * * *", name)


def _cron(expression: str, zone: str, seconds: str | None) -> CronSchedule:
    return CronSchedule(expression, zone, seconds=cast("Literal['first', 'last'] | None", seconds))


def _preview(schedule: CronSchedule, after: str | None, count: int, json: bool) -> None:
    zone = schedule.timezone
    # The preview does not connect to Redis, so Redis' clock is not known. This one decides nothing.
    now = datetime.now(UTC)  # noqa: TID251
    start = now if after is None else _instant(after, zone)
    at_ms = (start - _EPOCH).total_seconds() * 1000 // 1
    fires: list[datetime] = []
    following = schedule.next(int(at_ms))
    while following is not None and len(fires) < count:
        fires.append(datetime.fromtimestamp(following / 1000, _clock(zone).zone))
        following = schedule.next(following)
    if json:
        output.print_json(
            [{"at": at, "timezone": zone, "in_seconds": round((at - now).total_seconds(), 3)} for at in fires]
        )
        return
    output.print_table(
        ["FIRES", "ZONE", "WHEN"],
        [(output.instant(at), zone, output.until((at - now).total_seconds()) if after is None else "") for at in fires],
    )
    if len(fires) < count:
        output.say("it does not fire again after that" if fires else "it never fires")


def _instant(text: str, zone: str) -> datetime:
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise InvalidInputError(
            f"--after is {text!r}; it must be ISO 8601, such as 2026-03-28T00:00 (in --tz) or 2026-03-28T00:00+01:00",
            field="after",
        ) from None
    return at.replace(tzinfo=_clock(zone).zone) if at.tzinfo is None else at
