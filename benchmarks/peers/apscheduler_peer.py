"""APScheduler 3 with RedisJobStore and AsyncIOExecutor (apscheduler.readthedocs.io, User guide): "job stores must never
be shared between schedulers": the store has no lock, so only one process may run. What another process adds is not seen
by one that runs, so its jobs are added before.
"""

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
        jobstores={"default": RedisJobStore(host="127.0.0.1", port=PORT)}, executors={"default": AsyncIOExecutor()},
        job_defaults={"misfire_grace_time": None}, timezone="UTC",
    )  # fmt: skip


def produce(mode, jobs) -> float:
    async def main():
        made = scheduler()
        made.start(paused=True)
        if mode == "single":
            made.add_job("apscheduler_peer:noop", "date", run_date=when(0), args=[jobs.pop(0)[0]])
        started = time.perf_counter()
        for number, due in jobs:
            run_date = when(time.time_ns() // 1_000_000 if due is None else due)
            made.add_job("apscheduler_peer:noop", "date", run_date=run_date, args=[number])
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
