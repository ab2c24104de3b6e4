"""A Celery application whose tasks schedule by a scheduler that was made when its module was imported."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path

from celery import Celery

from redsched import BackgroundTaskScheduler

FOLDER = Path(os.environ["SERVICE_FOLDER"])
app = Celery("celery_app", broker="filesystem://")
app.conf.update(
    broker_transport_options={
        "data_folder_in": str(FOLDER / "broker"), "data_folder_out": str(FOLDER / "broker"),
        "control_folder": str(FOLDER / "control"), "processed_folder": str(FOLDER / "processed"),
    },
    worker_prefetch_multiplier=1,
    broker_connection_retry_on_startup=True,
)  # fmt: skip
scheduler = BackgroundTaskScheduler(os.environ["SERVICE_URL"], os.environ["SERVICE_PREFIX"], declared_tasks=False)


async def later() -> None: ...


async def schedule() -> str:
    return (await scheduler.schedule_delayed_task("later", later, delay_seconds=600)).id


if os.environ.get("SERVICE_CONNECTED"):
    asyncio.run(schedule())  # the process that forks is connected already


@app.task(name="place")
def place(number: int) -> None:
    made = asyncio.run(schedule())
    with (FOLDER / "accepted").open("a") as accepted:
        accepted.write(json.dumps([number, made, os.getpid(), scheduler.id]) + "\n")
