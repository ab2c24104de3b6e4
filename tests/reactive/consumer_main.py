"""A consumer in a separate process, which dies at a given point: `python -m … URL PREFIX STREAM WHERE`."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from typing import Any

from redsched import BackgroundTaskScheduler, ReactiveTaskProcessor, RedisStream


async def step(order_id: str, number: int) -> None: ...


async def main(url: str, prefix: str, stream: str, where: str) -> None:
    scheduler = BackgroundTaskScheduler(url, prefix, declared_tasks=False)

    async def placed(event: Any) -> None:
        if where == "before" or (where == "poison" and event["order_id"] == "poison"):
            os.kill(os.getpid(), signal.SIGKILL)
        for number in range(3):
            await scheduler.schedule_delayed_task(
                f"step {number}",
                step,
                delay_minutes=5 * number,
                args=[event["order_id"], number],
                tags=[event["order_id"]],
            )
            if where == f"between {number}":
                os.kill(os.getpid(), signal.SIGKILL)

    async def modified(event: Any) -> None:
        await scheduler.cancel(tag=event["order_id"])
        await placed(event)
        if where == "after":
            os.kill(os.getpid(), signal.SIGKILL)

    async with ReactiveTaskProcessor(scheduler) as processor:
        source = RedisStream(stream, group="orders", redeliver_after=0.1, max_deliveries=3)
        processor.subscribe(source, {"order_placed": placed, "order_modified": modified})
        print("ready", flush=True)
        await asyncio.sleep(30)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
