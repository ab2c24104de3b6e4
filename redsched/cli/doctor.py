"""`redsched doctor`: checks whether a server's configuration keeps the promises, and says what to change."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from redsched import BackgroundTaskScheduler, ClockRepair, Finding, RecordVersionError, StoreError
from redsched.cli import output
from redsched.cli.exits import ExitCode
from redsched.cli.serving import Fleet, read_fleet
from redsched.cli.session import JsonFlag, Place, Prefix, Url, place, run

__all__ = ["doctor"]

CONSEQUENCES = (
    "  The repair sets the clock to the time of Redis. Jobs that ran too early have run. Periodic jobs get the next "
    "fire of their schedule. Fencing tokens may start lower than those before."
)


async def _examine(scheduler: BackgroundTaskScheduler) -> list[Finding]:
    found = await scheduler.examine_server()
    try:
        fleet = await read_fleet(scheduler)
        return [*found, await _workers(scheduler, fleet), _declarations(fleet)]
    except (StoreError, RecordVersionError) as error:  # problems of the server itself are in `found`
        return [*found, Finding("workers", "warning", f"they could not be read: {error}")]


def _declarations(fleet: Fleet) -> Finding:
    failed = fleet.failed_declarations
    if not failed:
        return Finding("declarations", "ok", "no live worker reports a declared job that could not be stored")
    shown = "; ".join(f"{job_id}: {why}" for job_id, why in list(failed.items())[:5])
    more = f"; and {len(failed) - 5} more" if len(failed) > 5 else ""
    advice = "correct these declarations (@schedule_task) and restart their processes"
    return Finding("declarations", "error", f"not stored as declared: {shown}{more}", advice)


async def _workers(scheduler: BackgroundTaskScheduler, fleet: Fleet) -> Finding:
    unserved = [why async for job in scheduler.iter_jobs() if (why := fleet.why_unserved(job))]
    if not unserved:
        return Finding("workers", "ok", f"{len(fleet.live)} live, every job is served")
    jobs = "1 job is" if len(unserved) == 1 else f"{len(unserved)} jobs are"
    advice = "start workers that serve them: redsched worker module:scheduler; see redsched workers"
    return Finding("workers", "warning", f"{jobs} not served: {', '.join(sorted(set(unserved)))}", advice)


Repair = Annotated[
    Literal["clock"] | None,
    typer.Option(
        "--repair",
        help="Repair instead of examining: clock sets the stored clock back to the time of Redis. Asks first.",
    ),
]


def doctor(
    ctx: typer.Context, repair: Repair = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask before --repair.")] = False,
    json: JsonFlag = False, url: Url = None, prefix: Prefix = None,
) -> None:  # fmt: skip
    """Examine a server: version, eviction, persistence, replicas, clock, latency, ACL, cluster, leftover keys, jobs
    that no worker serves, declared jobs that could not be stored. Says what to change, and changes nothing
    without --repair. The exit code is 5 if there is an error.

    With --json: a list of objects of check, level (ok, warning, error), message and advice.
    """
    if repair is not None:
        _repair(place(ctx, url, prefix), yes, json)
        return
    found = run(place(ctx, url, prefix), _examine)
    if json:
        output.print_json(found)
    else:
        output.print_table(
            ["CHECK", "", "FOUND", "WHAT TO DO"],
            [(each.check, "" if each.level == "ok" else each.level, each.message, each.advice) for each in found],
        )
    if any(each.level == "error" for each in found):
        raise typer.Exit(ExitCode.UNHEALTHY)


def _repair(where: Place, yes: bool, json: bool) -> None:
    async def session(scheduler: BackgroundTaskScheduler) -> ClockRepair | None:
        found = await scheduler.repair_clock(dry_run=True)
        if not found.faults:
            return found
        for fault in found.faults:
            output.say(output.one_line(f"  {fault}"))
        output.say(CONSEQUENCES)
        return await scheduler.repair_clock() if yes or typer.confirm("Repair the clock?", err=True) else None

    done = run(where, session)
    if done is None:
        output.say("redsched: nothing was changed")
        raise typer.Exit(ExitCode.UNHEALTHY)
    if json:
        output.print_json(done)
    elif not done.faults:
        typer.echo("the stored clock has no fault")
    else:
        typer.echo(f"repaired: {len(done.faults)} faults, {done.moved} leases, heartbeats and attempts moved")
        for word, ids in (("rescheduled", done.rescheduled), ("left as it is, due late:", done.left)):
            for job_id in ids:
                typer.echo(output.one_line(f"{word} {job_id}"))
