"""APScheduler 3 with RedisJobStore and AsyncIOExecutor. One process: the store has no locking, so only one may run."""

import asyncio
import logging
import time

from apscheduler.executors.asyncio import AsyncIOExecutor
from apscheduler.jobstores.redis import RedisJobStore
from apscheduler.schedulers.asyncio import AsyncIOScheduler
from common import PORT, effect, run, run_async, when


async def noop(number):
    effect(number)


def scheduler():
    return AsyncIOScheduler(
        jobstores={"default": RedisJobStore(port=PORT)}, executors={"default": AsyncIOExecutor()},
        job_defaults={"misfire_grace_time": None}, timezone="UTC",
    )  # fmt: skip


def produce(mode, due) -> float:
    async def main():
        made = scheduler()
        made.start(paused=True)
        started = time.perf_counter()
        for number, at in enumerate(due):
            due_at = when(time.time_ns() // 1000 if at is None else at)
            made.add_job("apscheduler_peer:noop", "date", run_date=due_at, args=[number])
        seconds = time.perf_counter() - started
        made.shutdown(wait=False)
        return seconds

    return run_async(main())


def work():
    logging.disable(logging.WARNING)

    async def main():
        scheduler().start()
        await asyncio.Event().wait()

    run_async(main())


if __name__ == "__main__":
    run(produce, work)
