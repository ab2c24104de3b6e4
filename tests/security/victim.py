"""A service under attack: `python -m tests.security.victim URL PREFIX KEY`, with a worker, an event reader and metrics.

Each line of its input is a question, and each line of its output the answer, in JSON: how the loop and the worker are,
and what ran since the last question.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import sys
import time
from collections import Counter
from typing import Any

import redsched
from redsched import Event, PayloadSecurity
from tests.security import named

TICK_S = 0.02

ran: Counter[str] = Counter()
crimes: list[str] = []
tokens: Counter[int] = Counter()
"""How many runs had each fencing token."""
heard: Counter[str] = Counter()


async def honest(name: str) -> str:
    ran[name] += 1
    tokens[redsched.current_run().fencing_token] += 1
    return name


async def beat() -> None:
    """A periodic job."""
    ran["beat"] += 1


def unregistered() -> None:
    crimes.append("unregistered")


def _private() -> None:
    crimes.append("_private")


class Service:
    """Of which one method is a task."""

    async def public(self) -> None:
        ran["public"] += 1

    async def other(self) -> None:
        crimes.append("other")

    async def _hidden(self) -> None:
        crimes.append("_hidden")


class Loop:
    """How long the event loop stood still: by the clock, and in seconds of its own CPU."""

    def __init__(self) -> None:
        self.longest = 0.0

    async def watch(self) -> None:
        while True:
            at, used = time.monotonic(), time.thread_time()
            await asyncio.sleep(TICK_S)
            # A machine that has no time for this process holds the loop up as well; that is not the writer's doing.
            stood = min(time.monotonic() - at, time.thread_time() - used)
            self.longest = max(self.longest, stood)


def hear(event: Event) -> None:
    heard[event.kind] += 1


collected = 0


async def metrics(scheduler: redsched.BackgroundTaskScheduler) -> None:
    global collected
    while True:
        with contextlib.suppress(redsched.RedschedError):
            await scheduler.collect_metrics()
            collected += 1
        await asyncio.sleep(1)


def notice(event: str, args: tuple[Any, ...]) -> None:
    """What Python says of itself: a command of the system, or the import of a module that only a stored name has."""
    if event == "os.system" or (event == "import" and args[0] in ("antigravity", "this")):
        crimes.append(f"{event} {args[0]}")


async def main() -> None:
    url, prefix, key = sys.argv[1:]
    logging.basicConfig(level=logging.ERROR)
    security = PayloadSecurity([key]) if key else None
    scheduler = redsched.BackgroundTaskScheduler(
        url,
        prefix,
        lease=2.0,
        queues=["default", "other"],
        declared_tasks=False,
        payload_security=security,
        task_packages=["tests.security.named"],
    )
    scheduler.register(honest, name="honest")
    scheduler.register(beat, name="beat")
    scheduler.register(Service().public)
    scheduler.add_listener(hear)
    await scheduler.start()
    loop = Loop()
    tasks = {"loop": asyncio.create_task(loop.watch()), "metrics": asyncio.create_task(metrics(scheduler))}
    sys.addaudithook(notice)
    print(json.dumps({"id": scheduler.id}), flush=True)
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while await reader.readline():
        worker = scheduler.worker
        answer: dict[str, Any] = {
            "running": scheduler.running, "serving": worker is not None and worker.serving, "longest": loop.longest,
            "ended": [name for name, task in tasks.items() if task.done()], "ran": ran,
            "crimes": crimes + named.crimes,
            "heard": heard, "twice": [token for token, count in tokens.items() if count > 1], "collected": collected,
        }  # fmt: skip
        print(json.dumps(answer), flush=True)
        loop.longest = 0.0


if __name__ == "__main__":
    asyncio.run(main())
