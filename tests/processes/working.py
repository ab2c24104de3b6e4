"""A WSGI service of which each process runs a worker in a thread, begun by its first request.

As under a uWSGI that is a program with Python built in, and not a script: `sys.executable` is that program.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from redsched import BackgroundTaskScheduler

sys.executable = os.environ["SERVICE_PROGRAM"]
URL, PREFIX, LEDGER = (os.environ[f"SERVICE_{name}"] for name in ("URL", "PREFIX", "LEDGER"))
scheduler = BackgroundTaskScheduler(URL, PREFIX, declared_tasks=False, lease=3)
begun = threading.Event()
beginning = threading.Lock()


def record(number: int) -> None:
    with Path(LEDGER).open("a") as ledger:
        ledger.write(f"{number} {os.getpid()}\n")


scheduler.register(record)


async def work() -> None:
    async with scheduler:
        begun.set()
        await asyncio.Event().wait()


def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    with beginning:
        if not begun.is_set():
            threading.Thread(target=asyncio.run, args=[work()], daemon=True).start()
            begun.wait(20)
    number = int(environ["PATH_INFO"].rpartition("/")[2])
    client = BackgroundTaskScheduler(URL, PREFIX, declared_tasks=False)

    async def schedule() -> str:
        handle = await client.schedule_immediate_task("record", record, args=[number])
        await client.shutdown()
        return handle.id

    made = asyncio.run(schedule())
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps({"id": made, "pid": os.getpid(), "scheduler": scheduler.id}).encode()]
