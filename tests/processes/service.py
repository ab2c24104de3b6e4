"""A service as users write it: the scheduler is made when the module is imported, and each POST schedules a job.

`app` is for ASGI servers (its worker runs the jobs, with the application); `application` is for WSGI servers, whose
requests schedule in an event loop that `asyncio.run` makes for each.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from fastapi import FastAPI

from redsched import BackgroundTaskScheduler, JobHandle
from redsched.integrations.starlette import lifespan

URL, PREFIX, LEDGER = (os.environ[f"SERVICE_{name}"] for name in ("URL", "PREFIX", "LEDGER"))
scheduler = BackgroundTaskScheduler(URL, PREFIX, declared_tasks=False)


def record(number: int) -> None:
    """The task: a line for each run."""
    with Path(LEDGER).open("a") as ledger:
        ledger.write(f"{number} {os.getpid()}\n")


async def schedule(number: int) -> JobHandle:
    return await scheduler.schedule_immediate_task("record", record, args=[number])


if os.environ.get("SERVICE_CONNECTED"):
    asyncio.run(schedule(-1))  # so that the process which is forked is connected already

app = FastAPI(lifespan=lifespan(scheduler))


@app.post("/orders/{number}")
async def place(number: int) -> dict[str, Any]:
    handle = await schedule(number)
    return {"id": handle.id, "pid": os.getpid(), "scheduler": scheduler.id}


def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """The same for WSGI."""
    handle = asyncio.run(schedule(int(environ["PATH_INFO"].rpartition("/")[2])))
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps({"id": handle.id, "pid": os.getpid(), "scheduler": scheduler.id}).encode()]
