"""redsched, with its defaults."""

from contextlib import asynccontextmanager

from common import CONCURRENCY, URL, effect, produce_async, run, run_async, when

import redsched

scheduler = redsched.BackgroundTaskScheduler(URL, "bench", concurrency=CONCURRENCY, declared_tasks=False)


@redsched.schedule_task(name="noop", scheduler=scheduler)
async def noop(number: int) -> None:
    effect(number)


def spec(number, at):
    options = {} if at is None else {"run_at": when(at)}
    return redsched.JobSpec("noop", noop, args=[number], **options)


@asynccontextmanager
async def opened():
    async def add_many(pairs):
        await scheduler.schedule_many([spec(number, at) for number, at in pairs])

    async def add(number, at):
        await scheduler.submit(spec(number, at))

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
