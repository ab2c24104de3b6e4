"""`redsched prune`: ends the jobs that an application has declared and no longer declares."""

from __future__ import annotations

from typing import Annotated

import anyio
import typer

from redsched import InvalidInputError
from redsched.cli import output
from redsched.cli.exits import ExitCode
from redsched.cli.session import JsonFlag, Prefix, Url, place
from redsched.cli.target import load

__all__ = ["prune"]


def prune(
    ctx: typer.Context,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show which jobs would end.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask for confirmation.")] = False,
    json: JsonFlag = False,
    url: Url = None,
    prefix: Prefix = None,
) -> None:
    """End the declared jobs of an application (--app module:scheduler) that its code no longer declares.

    Jobs that a live process may still declare are held back, and reported as such. Jobs of other applications stay.
    """
    where = place(ctx, url, prefix)
    app = where.app
    if app is None:
        raise InvalidInputError(
            "prune needs --app module:scheduler: the code says which jobs are declared", field="app"
        )

    async def session() -> tuple[list[str], list[str]]:
        scheduler = await load(app)
        scheduler.configure(redis_url=where.url_given, job_store_prefix=where.prefix_given)
        try:
            await anyio.to_thread.run_sync(scheduler.registry.load)
            gone, held = await scheduler.prune(dry_run=True)
            if dry_run or not gone or not (yes or _sure(gone)):
                return ([], held) if gone and not dry_run else (gone, held)
            return await scheduler.prune()
        finally:
            await scheduler.shutdown(wait=False)

    gone, held = anyio.run(session)
    if json:
        output.print_json({"would_end" if dry_run else "ended": gone, "held_back": held})
    else:
        for job_id in gone:
            typer.echo(output.one_line(f"{'would end' if dry_run else 'ended'} {job_id}"))
        for job_id in held:
            output.say(output.one_line(f"redsched: {job_id} is held back: a live process may still declare it"))
        if not gone and not held:
            output.say("redsched: nothing to prune")
    if held:
        raise typer.Exit(ExitCode.NOTHING)


def _sure(gone: list[str]) -> bool:
    for job_id in gone:
        output.say(output.one_line(f"  {job_id}"))
    return typer.confirm(f"End {len(gone)} job{'' if len(gone) == 1 else 's'}?", err=True)
