"""Code that type checkers must refuse: each line with the comment `refused` is an error, and no other is."""
# pyright: basic

from typing import Annotated

import redsched


@redsched.schedule_task(max_attempts=3)
async def remind(order_id: str, minutes: int = 5) -> bool:
    return bool(order_id)


@redsched.schedule_task
def bake(number: int) -> str:
    return str(number)


@redsched.schedule_task(crom="0 2 * * *")  # refused
async def nightly() -> None: ...


@redsched.schedule_task(cron="0 2 * * *", max_atempts=3)  # refused
async def nightly_too() -> None: ...


class Oven:
    @redsched.schedule_task
    async def heat(self, degrees: int) -> None: ...


class Notify(redsched.BackgroundTask):
    async def execute(self, order_id: str) -> None: ...


class Session: ...


def get_session() -> Session:
    return Session()


@redsched.schedule_task
async def store(order_id: str, session: Annotated[Session, redsched.Provide(get_session)] = redsched.PROVIDED) -> None:
    session.commit()  # refused


async def around(run: redsched.CurrentRun) -> None: ...


async def change(spec: str) -> str:
    return spec


async def hooks(scheduler: redsched.BackgroundTaskScheduler) -> None:
    redsched.Provide("get_session")  # refused
    scheduler.add_middleware(around)  # refused
    scheduler.add_scheduling_middleware(change)  # refused
    scheduler.add_lifespan(around)  # refused
    store.job("order-1", "no session")  # refused


async def use(scheduler: redsched.BackgroundTaskScheduler, oven: Oven) -> None:
    await remind(5)  # refused
    await remind("order-1", minutes="five")  # refused
    await remind("order-1", hours=5)  # refused
    remind.job(5)  # refused
    remind.job()  # refused
    remind.job("order-1", hours=5)  # refused
    remind.job("order-1").with_options(tags=5)  # refused
    remind.job("order-1").with_options(tag=["x"])  # refused
    bake("1")  # refused
    bake.job("1")  # refused
    await oven.heat("hot")  # refused
    await scheduler.schedule_immediate_task("a", "print")  # refused
    await scheduler.schedule_immediate_task("a", remind, argz=["x"])  # refused
    await scheduler.schedule_immediate_task("a", remind, tags=7)  # refused
    await scheduler.schedule_delayed_task("a", remind, delay_minutes="5")  # refused
    await scheduler.schedule_delayed_task("a", remind, delay_minutes=5, retry=3)  # refused
    await scheduler.schedule_at("a", remind)  # refused
    await scheduler.schedule_cron("a", remind, cron=5)  # refused
    await scheduler.schedule_interval("a", remind, seconds="5")  # refused
    await scheduler.submit(remind)  # refused
    await scheduler.schedule_many([remind])  # refused
    scheduler.add_failure_handler(print)  # refused
    redsched.RetryPolicy(max_attempts="3")  # refused
    redsched.CircuitBreakerPolicy(failure_on=ValueError)  # refused
    handle = await scheduler.submit(remind.job("order-1"))
    print((await handle.result()).nothing)  # refused
    (await handle.result()).result.upper()  # refused
    await scheduler.schedule_cron("a", remind, "@daily", crom="x")  # refused
    await scheduler.schedule_interval("a", remind, minute=5)  # refused
    await scheduler.schedule_delayed_task("a", remind, delay_hours=5)  # refused
    await scheduler.schedule_at("a", remind, "2030-01-01", tag=["x"])  # refused
    await scheduler.schedule("a", remind, redsched.DateSchedule(1), tag=["x"])  # refused
    await scheduler.modify_job("a", tag=["x"])  # refused
    await scheduler.modify_job("a", job_id="b")  # refused
    await scheduler.reschedule_job("a", crom="@daily")  # refused
    await scheduler.reschedule_job("a", cron="@daily", jiter=5)  # refused
    scheduler.register(remind, max_atempts=3)  # refused
    redsched.JobSpec("a", remind, crom="@daily")  # refused
    redsched.JobSpec("a", remind, max_attempts="3")  # refused
    redsched.BackgroundTask()  # refused


print(redsched.nonsense)  # refused
