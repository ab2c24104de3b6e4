"""Code that type checkers must accept: checked, never run."""

import asyncio
from collections.abc import AsyncGenerator, Coroutine
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, assert_type

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


@redsched.schedule_task(queue="slow")
class Weigh(redsched.BackgroundTask):
    def __init__(self, unit: str) -> None:
        self.unit = unit

    def execute(self, order_id: str) -> float:
        return 1.0


class Payments:
    def __init__(self) -> None:
        self.retry_policy = redsched.RetryPolicy(max_attempts=2)

    @redsched.RetryPolicy.from_instance("retry_policy")
    async def charge(self, order_id: str) -> int:
        return len(order_id)


@redsched.RetryPolicy().apply
async def tried(order_id: str) -> int:
    return len(order_id)


@redsched.schedule_task(max_attempts=2)
@redsched.CircuitBreakerPolicy().apply
async def guarded(order_id: str) -> bool:
    return True


class Session: ...


async def get_session() -> AsyncGenerator[Session]:
    yield Session()


@redsched.schedule_task
async def store(order_id: str, session: Annotated[Session, redsched.Provide(get_session)] = redsched.PROVIDED) -> int:
    return len(order_id)


async def hooks(scheduler: redsched.BackgroundTaskScheduler) -> None:
    @scheduler.add_middleware
    async def around(run: redsched.CurrentRun, call_next: redsched.CallNext) -> Any:
        assert_type(run.attempt, int)
        return await call_next()

    @scheduler.add_scheduling_middleware
    async def change(spec: redsched.JobSpec[Any]) -> redsched.JobSpec[Any]:
        return spec.with_options(tags=["a"])

    @scheduler.add_lifespan
    @asynccontextmanager
    async def database(scheduler: redsched.BackgroundTaskScheduler) -> AsyncGenerator[dict[str, Any]]:
        yield {"pool": 1}

    await change(redsched.JobSpec("a", print))
    middleware: redsched.RunMiddleware = around
    scheduler.add_middleware(middleware)
    assert_type(await scheduler.submit(store.job("order-1")), redsched.JobHandle[int])
    await store("order-1", Session())


async def use(scheduler: redsched.BackgroundTaskScheduler) -> None:
    assert_type(await daily("monday"), int)
    assert_type(plain(1), str)
    handle = await scheduler.schedule_delayed_task("a", daily, delay_minutes=15, args=["x"], tags=["order"])
    assert_type(handle, redsched.JobHandle[int])
    result = await handle.result(timeout=timedelta(seconds=1))
    assert_type(result, redsched.TaskExecutionResult[int])
    assert_type(result.result, int | None)
    await scheduler.schedule_at("b", plain, datetime.now(UTC), kwargs={"number": 1}, max_attempts=3)
    await scheduler.schedule("c", plain, [redsched.CronSchedule("0 8 * * *"), redsched.DateSchedule(1)])
    assert_type(await scheduler.get_job(handle.id), redsched.JobView | None)
    assert_type(redsched.current_run().attempt, int)
    assert_type(daily.job("monday"), redsched.JobSpec[int])
    assert_type(plain.job(number=1), redsched.JobSpec[str])
    assert_type(await scheduler.submit(daily.job(day="monday").with_options(delay=60)), redsched.JobHandle[int])
    assert_type(await scheduler.submit(plain.job(1)), redsched.JobHandle[str])
    assert_type(await scheduler.schedule_many([plain.job(1), plain.job(2)]), list[redsched.JobHandle[str]])
    assert_type(await Oven().heat(200), float)
    await scheduler.schedule_immediate_task("d", Oven().heat, args=[200])
    await scheduler.schedule_immediate_task("e", Notify, args=["order-1"])
    await scheduler.schedule_immediate_task("f", Notify(), args=["order-1"], retry=redsched.RetryPolicy())
    assert_type(await scheduler.get_results(), list[redsched.TaskExecutionResult])


async def returns(scheduler: redsched.BackgroundTaskScheduler) -> None:
    """Each way to schedule knows what each kind of task returns."""
    assert_type(await scheduler.schedule_immediate_task("a", daily), redsched.JobHandle[int])
    assert_type(await scheduler.schedule_delayed_task("a", plain, delay=5), redsched.JobHandle[str])
    assert_type(await scheduler.schedule_at("a", daily, "2030-01-01"), redsched.JobHandle[int])
    assert_type(await scheduler.schedule_cron(name="a", task=plain, cron="@daily", jitter=5), redsched.JobHandle[str])
    assert_type(await scheduler.schedule_interval("a", daily, minutes=5, start="2030-01-01"), redsched.JobHandle[int])
    assert_type(await scheduler.schedule("a", plain, redsched.DateSchedule(1)), redsched.JobHandle[str])
    assert_type(await scheduler.schedule_immediate_task("a", Oven().heat), redsched.JobHandle[float])
    assert_type(await scheduler.schedule_immediate_task("a", Notify), redsched.JobHandle[None])
    assert_type(await scheduler.schedule_immediate_task("a", Notify()), redsched.JobHandle[None])
    assert_type(await scheduler.schedule_immediate_task("a", Weigh), redsched.JobHandle[float])
    assert_type(await scheduler.schedule_immediate_task("a", Weigh("kg")), redsched.JobHandle[float])
    assert_type(await scheduler.schedule_immediate_task("a", lambda: 5), redsched.JobHandle[int])
    assert_type(redsched.JobSpec("a", daily, cron="@daily", tags=["x"]), redsched.JobSpec[int])
    assert_type(redsched.JobSpec("a", Weigh), redsched.JobSpec[float])


async def keeps(payments: Payments) -> None:
    """Decorators keep a coroutine function one: what it returns can be a task of asyncio."""
    awaited: Coroutine[Any, Any, int] = tried("a")
    assert_type(await asyncio.create_task(awaited), int)
    assert_type(await asyncio.create_task(tried("a")), int)
    assert_type(await asyncio.create_task(payments.charge("a")), int)
    assert_type(await asyncio.create_task(guarded("a")), bool)
    assert_type(guarded.job("a"), redsched.JobSpec[bool])


async def changes(scheduler: redsched.BackgroundTaskScheduler) -> None:
    scheduler.register(plain, name="plain", max_attempts=3, tags=["a"])
    scheduler.register(Weigh("kg"))
    await scheduler.modify_job("a", name="b", args=[1], max_attempts=2, next_run_time=None, task=plain)
    await scheduler.reschedule_job("a", cron="@daily", jitter=5, dst_gap="skip", timezone="Europe/Berlin")


def annotated(handle: redsched.JobHandle, spec: redsched.JobSpec) -> redsched.JobHandle[int]:
    """Without a bracket it is of any result, as before there were brackets."""
    return handle


def modules_are_attributes(error: redsched.errors.StoreError) -> redsched.StoreError:
    assert_type(redsched.schedules.CronSchedule("0 8 * * *"), redsched.CronSchedule)
    return error
