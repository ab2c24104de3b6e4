"""A task as a class: its dependencies come by the constructor, on every worker."""

from __future__ import annotations

from typing import Any

import pytest

from redsched import BackgroundTask, BackgroundTaskScheduler, InvalidInputError, Reason, schedule_task
from redsched.testing import Kit, fresh_prefix, kit

done: list[Any] = []


class Kitchen:
    def __init__(self, name: str) -> None:
        self.name = name


class Provider:
    def __init__(self, *services: Any) -> None:
        self.services = {type(service): service for service in services}

    def get_service(self, type_: type[Any]) -> Any:
        return self.services.get(type_)


class Remind(BackgroundTask):
    def __init__(self, kitchen: Kitchen, tone: str = "loud") -> None:
        self.kitchen = kitchen
        self.tone = tone

    async def execute(self, order_id: str) -> str:
        done.append((self.kitchen.name, self.tone, order_id))
        return order_id


class Named(BackgroundTask):
    task_name = "orders.count"

    def execute(self, number: int) -> int:  # plain: runs in a thread
        return number + 1


class Inherits(Named):
    """Has the method, and its own name."""


class Unfinished(BackgroundTask):
    pass


@pytest.fixture(autouse=True)
def _fresh() -> None:
    done.clear()


async def test_dependencies_come_from_the_workers_own_provider(redsched_kit: Kit, redsched_url: str) -> None:
    handle = await redsched_kit.scheduler.schedule_immediate_task("remind", Remind, args=["order-1"])
    worker = BackgroundTaskScheduler(
        redsched_url, redsched_kit.scheduler.prefix, service_provider=Provider(Kitchen("upstairs"))
    )
    async with kit(worker, clean=False) as second:
        await second.run_due()
    assert (await handle.result(timeout=5)).result == "order-1"
    assert done == [("upstairs", "loud", "order-1")]


async def test_an_instance_that_was_bound_or_passed_is_the_one(redsched_kit: Kit) -> None:
    scheduler = redsched_kit.scheduler
    mine = Remind(Kitchen("mine"), "soft")
    await scheduler.schedule_immediate_task("remind", mine, args=["order-1"])
    await scheduler.schedule_immediate_task("remind", Remind, args=["order-2"])
    await scheduler.schedule_immediate_task("remind", Remind(Kitchen("another")), args=["order-3"])
    await redsched_kit.run_due()
    assert sorted(done, key=lambda row: row[2]) == [
        ("mine", "soft", "order-1"), ("mine", "soft", "order-2"), ("another", "loud", "order-3"),
    ]  # fmt: skip


async def test_without_its_dependencies_it_is_left_to_others(redsched_kit: Kit) -> None:
    handle = await redsched_kit.scheduler.schedule_immediate_task("remind", Remind, args=["order-1"])
    await redsched_kit.run_due()
    job = await handle.get()
    assert job is not None
    assert (job.reason, job.attempt) == (Reason.UNKNOWN_TASK, 0)


async def test_a_class_may_have_a_name_and_a_plain_method(redsched_kit: Kit) -> None:
    handle = await redsched_kit.scheduler.schedule_immediate_task("count", Named, args=[1])
    job = await handle.get()
    assert job is not None
    assert job.task == "orders.count"
    inherited = await redsched_kit.scheduler.schedule_immediate_task("count", Inherits, args=[2])
    job = await inherited.get()
    assert job is not None
    assert job.task.endswith("test_class_tasks.Inherits")
    await redsched_kit.run_due()
    assert [(await h.result(timeout=5)).result for h in (handle, inherited)] == [2, 3]


async def test_a_class_of_a_function_lives_in_its_process(redsched_kit: Kit) -> None:
    class Local(BackgroundTask):
        async def execute(self) -> str:
            return "here"

    handle = await redsched_kit.scheduler.schedule_immediate_task("local", Local)
    job = await handle.get()
    assert job is not None
    assert job.queue.startswith("local:")
    await redsched_kit.run_due()
    assert (await handle.result(timeout=5)).result == "here"


async def test_a_decorated_class_declares_a_job(redsched_url: str) -> None:
    scheduler = BackgroundTaskScheduler(redsched_url, fresh_prefix(), declared_tasks=False)
    schedule_task(interval=60, scheduler=scheduler, args=[41])(Named)
    async with kit(scheduler) as the_kit:
        await scheduler.start(worker=False)
        [job] = await scheduler.get_jobs()
        assert (job.id, job.task) == ("orders.count", "orders.count")
        await the_kit.advance(seconds=61)
        assert (await scheduler.get_results("orders.count"))[-1].result == 42


async def test_a_class_without_execute_is_refused(redsched_kit: Kit) -> None:
    with pytest.raises(InvalidInputError, match="Unfinished has no execute method"):
        await redsched_kit.scheduler.schedule_immediate_task("x", Unfinished)
    assert await redsched_kit.scheduler.get_jobs() == []


async def test_a_local_class_that_needs_arguments_is_refused(redsched_kit: Kit) -> None:
    class Local(BackgroundTask):
        def __init__(self, kitchen: Kitchen) -> None: ...

        async def execute(self) -> None: ...

    with pytest.raises(InvalidInputError, match="pass an instance"):
        await redsched_kit.scheduler.schedule_immediate_task("x", Local)


async def test_an_instance_can_be_called_in_a_test_of_ones_own() -> None:
    assert await Remind(Kitchen("test"))("order-9") == "order-9"


async def test_a_job_with_typed_arguments_is_what_a_call_would_store(redsched_kit: Kit) -> None:
    handle = await redsched_kit.scheduler.submit(add.job(1, b=2).with_options(delay=5, tags=["sum"], name="sum"))
    job = await handle.get()
    assert job is not None
    assert (job.name, job.args, job.kwargs, job.tags) == ("sum", (1,), {"b": 2}, ("sum",))
    await redsched_kit.advance(seconds=5)
    assert (await handle.result(timeout=5)).result == 3
    assert await add(1, 2) == 3, "it is still the function"


@schedule_task
async def add(a: int, b: int) -> int:
    return a + b
