"""What the type checker must accept: checked, never run."""

from datetime import UTC, datetime, timedelta
from typing import assert_type

import redsched


@redsched.schedule_task(cron="0 8 * * *", timezone="Europe/Berlin", misfire_grace_time=300)
async def daily(day: str) -> int:
    return len(day)


@redsched.schedule_task
def plain(number: int) -> str:
    return str(number)


class Oven:
    @redsched.schedule_task
    async def heat(self, degrees: int) -> float:
        return float(degrees)


class Notify(redsched.BackgroundTask):
    async def execute(self, order_id: str) -> None: ...


async def use(scheduler: redsched.BackgroundTaskScheduler) -> None:
    assert_type(await daily("monday"), int)
    assert_type(plain(1), str)
    handle = await scheduler.schedule_delayed_task("a", daily, delay_minutes=15, args=["x"], tags=["order"])
    assert_type(handle, redsched.JobHandle)
    assert_type(await handle.result(timeout=timedelta(seconds=1)), redsched.TaskExecutionResult)
    await scheduler.schedule_at("b", plain, datetime.now(UTC), kwargs={"number": 1}, max_attempts=3)
    await scheduler.schedule("c", plain, [redsched.CronSchedule("0 8 * * *"), redsched.DateSchedule(1)])
    assert_type(await scheduler.get_job(handle.id), redsched.JobView | None)
    assert_type(redsched.current_run().attempt, int)
    assert_type(daily.job("monday"), redsched.JobSpec)
    assert_type(await scheduler.submit(daily.job(day="monday").with_options(delay=60)), redsched.JobHandle)
    assert_type(await Oven().heat(200), float)
    await scheduler.schedule_immediate_task("d", Oven().heat, args=[200])
    await scheduler.schedule_immediate_task("e", Notify, args=["order-1"])
    await scheduler.schedule_immediate_task("f", Notify(), args=["order-1"], retry=redsched.RetryPolicy())
    assert_type(await scheduler.get_results(), list[redsched.TaskExecutionResult])
