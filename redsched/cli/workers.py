"""`redsched workers`: the workers, and the jobs that no live worker can run."""

from __future__ import annotations

from collections import Counter

import typer

from redsched import BackgroundTaskScheduler
from redsched.cli import output
from redsched.cli.serving import Fleet, read_fleet
from redsched.cli.session import JsonFlag, Prefix, Url, place, run

__all__ = ["workers"]

Unserved = Counter[tuple[str, str, str]]


async def _read(scheduler: BackgroundTaskScheduler) -> tuple[Fleet, Unserved]:
    fleet = await read_fleet(scheduler)
    unserved: Unserved = Counter()
    async for job in scheduler.iter_jobs():
        why = fleet.why_unserved(job)
        if why is not None:
            unserved[job.task, job.queue, why] += 1
    return fleet, unserved


def workers(ctx: typer.Context, json: JsonFlag = False, url: Url = None, prefix: Prefix = None) -> None:
    """List workers, the declared jobs that they could not store, and the tasks that jobs need but no live worker can
    run.

    With --json: an object of `workers` (id, host, pid, queues, concurrency, running, last_seen, live, tasks, packages,
    executors, failed_declarations: job id -> error) and `unserved` (task, queue, jobs, reason).
    """
    fleet, unserved = run(place(ctx, url, prefix), _read)
    if json:
        rows = [
            {"task": task, "queue": queue, "jobs": count, "reason": why}
            for (task, queue, why), count in sorted(unserved.items())
        ]
        output.print_json({"workers": fleet.workers, "unserved": rows})
        return
    if fleet.workers:
        output.print_table(
            ["WORKER", "HOST", "PID", "QUEUES", "RUNNING", "TASKS", "LAST SEEN", "NOTE"],
            [
                (
                    view.id,
                    view.host,
                    view.pid,
                    ", ".join(view.queues),
                    f"{view.running}/{view.concurrency}",
                    len(view.tasks),
                    f"{output.lasting(max(0.0, (fleet.now - view.last_seen).total_seconds()))} ago",
                    "" if view.live else "silent: it has died or is cut off",
                )
                for view in fleet.workers
            ],
        )
    else:
        output.say("no worker has started; start one: redsched worker module:scheduler")
    for job_id, why in fleet.failed_declarations.items():
        typer.echo(output.one_line(f"not stored as declared: job {job_id}: {why}"))
    for (task, queue, why), count in sorted(unserved.items()):
        jobs = "1 job" if count == 1 else f"{count} jobs"
        typer.echo(output.one_line(f"waiting: {jobs} of task {task} in queue {queue}: {why}"))
