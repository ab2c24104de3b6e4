"""Writes down declared jobs in Redis, as `recording` does others: `python -m tests.upgrades.recording_declared NAME`.

Makes tests/upgrades/recorded/declared/NAME.json. To be run in a checkout of the version whose data is wanted.
"""

from __future__ import annotations

import asyncio
import json
import sys
from datetime import UTC, datetime
from typing import Any

from redsched import BackgroundTaskScheduler, __version__, schedule_task
from redsched.store.store import Store
from redsched.store.transitions import PollRequest
from redsched.store.wire import Resend
from redsched.testing import Kit
from tests.servers import LocalServer
from tests.upgrades import tasks
from tests.upgrades.recording import FOLDER, PREFIX, security, write_down

DECLARED = FOLDER / "declared"
PAST, FUTURE = datetime(2026, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC)
JOBS: dict[str, dict[str, Any]] = {
    "interval": {"interval": 3000},
    "cron": {"cron": "*/20 * * * *", "timezone": "Europe/Berlin", "tags": ["t"]},
    "later": {"run_at": FUTURE},
    "ran": {"run_at": PAST},
    "failed": {"run_at": PAST},
    "paused": {"interval": 600},
    "bounded": {"interval": 600, "max_runs": 5},
    "modified": {"interval": 3600, "timeout": 60},
    "held": {"run_at": PAST},
}
"""What the code declares: the options of `schedule_task` by the job's id."""
SIGNED: dict[str, dict[str, Any]] = {"signed": {"interval": 3000, "queue": "signed"}}


def declare(scheduler: BackgroundTaskScheduler, jobs: dict[str, dict[str, Any]], **changes: dict[str, Any]) -> None:
    """Declare these jobs, each a task by its id, as the code of an application does."""

    def task_of(job_id: str) -> Any:
        async def task(*args: Any) -> None:
            await (tasks.fails if job_id == "failed" else tasks.effect)(job_id)

        return task

    for job_id, options in jobs.items():
        made: Any = schedule_task(scheduler=scheduler, name=job_id, **(options | changes.get(job_id, {})))
        made(task_of(job_id))


def scheduler_of(url: str, **settings: Any) -> BackgroundTaskScheduler:
    return BackgroundTaskScheduler(url, PREFIX, declared_tasks=False, **settings)


async def fill(url: str) -> None:
    """An application that ran for 20 minutes, and whose operator changed some of its jobs."""
    app = scheduler_of(url)
    declare(app, {job_id: options for job_id, options in JOBS.items() if job_id != "held"})
    await app.start(worker=False)
    kit = Kit(app)
    await kit.run_due()
    await kit.advance(minutes=20)
    await app.pause_job("paused")
    await app.modify_job("modified", timeout=90)
    await app.shutdown()
    signed = scheduler_of(url, payload_security=security())
    declare(signed, SIGNED)
    await signed.start(worker=False)
    await signed.shutdown()
    # A one-shot job that a worker held when it died.
    last = scheduler_of(url)
    declare(last, {"held": JOBS["held"]})
    await last.start(worker=False)
    poll = PollRequest(
        1, 10, heartbeat={"host": "gone", "pid": 1, "queues": ["default"], "concurrency": 1, "tasks": []}
    )
    await (await last.store()).shards[0].poll("a-worker-that-died", b"\x91\xa7default", poll, resend=Resend(0.0))
    await last.shutdown()


async def record(name: str) -> None:
    path = DECLARED / f"{name}.json"
    if path.exists():
        raise SystemExit(f"{path} is there already, and is what later versions must read: give another name")
    with LocalServer() as server:
        await fill(server.url)
        store = Store(server.url, PREFIX)
        keys = await write_down(store)
        await store.close()
    DECLARED.mkdir(exist_ok=True)
    path.write_text(json.dumps({"version": __version__, "keys": keys}, indent=1) + "\n")


if __name__ == "__main__":
    asyncio.run(record(*sys.argv[1:]))
