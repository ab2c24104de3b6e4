"""redsched, with its defaults. BENCH_TASK chooses what a job is: see `redsched_tasks.TASKS`."""

import os
from contextlib import asynccontextmanager

import redsched_tasks
from common import CONCURRENCY, URL, chunks, produce_async, run, run_async, when

import redsched

NAME, _, PARAMETER = os.environ.get("BENCH_TASK", "noop").partition(":")
TASK = redsched_tasks.TASKS[NAME]
scheduler = redsched.BackgroundTaskScheduler(URL, "bench", concurrency=CONCURRENCY, declared_tasks=False)
for name, task in redsched_tasks.TASKS.items():
    scheduler.register(task, name=name)


def spec(number, due):
    if NAME == "tick":  # a periodic job with so many fires, the first of them at `due`
        fires = int(PARAMETER)
        return redsched.JobSpec(
            NAME, TASK, interval=1.0, start=when(due), end=when(due + fires * 1000 - 1), args=[number, due],
            coalesce=False, misfire_grace_time=None,
        )  # fmt: skip
    options = {} if due is None else {"run_at": when(due)}
    if NAME == "cpu":
        options["executor"] = "processpool"
    return redsched.JobSpec(NAME, TASK, args=redsched_tasks.arguments(NAME, number, PARAMETER), **options)


@asynccontextmanager
async def opened():
    async def add_many(jobs):
        for part in chunks(jobs, 100 if NAME == "blob" else len(jobs)):
            await scheduler.schedule_many([spec(number, due) for number, due in part])

    async def add(number, due):
        await scheduler.submit(spec(number, due))

    await scheduler.store()
    yield add, add_many
    await scheduler.shutdown()


def work():
    async def main():
        await scheduler.start()
        await scheduler.wait_until_stopped()

    run_async(main())


if __name__ == "__main__":
    run(produce_async(opened), work)
