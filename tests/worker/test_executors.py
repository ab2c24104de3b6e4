"""Who calls a task: a pool of its own, an executor of the user's; and what such an executor's answers mean."""

from __future__ import annotations

import asyncio
import os
import threading
from typing import Any

import pytest

from redsched import (
    BackgroundTaskScheduler,
    CustomTaskExecutor,
    InvalidConfigError,
    InvalidInputError,
    Reason,
    RetryPolicy,
)
from redsched.testing import Kit, fresh_prefix, kit
from redsched.worker.executors.registry import Executors

SKIPPED = {"status": "skipped", "reason": "busy"}


async def bake(order_id: str = "order-1", by: str = "oven") -> str:
    return f"{order_id} by {by}"


def where() -> tuple[int, int]:
    return os.getpid(), threading.get_ident()


class Answers(CustomTaskExecutor):
    """Calls the task, and returns a preset answer."""

    def __init__(self, answer: Any = None) -> None:
        super().__init__()
        self.answer = answer
        self.calls: list[tuple[Any, ...]] = []

    async def execute_task(self, task_func: Any, *args: Any, **kwargs: Any) -> Any:
        self.calls.append((args, kwargs, await task_func(*args, **kwargs)))
        return self.answer


async def end_of(the_kit: Kit, task: Any = bake, **options: Any) -> Any:
    handle = await the_kit.scheduler.schedule_immediate_task("bake", task, executor="mine", **options)
    await the_kit.run_due()
    return await handle.result(timeout=5)


async def test_a_custom_executor_gets_the_task_and_its_arguments(redsched_kit: Kit) -> None:
    executor = Answers("its own answer")
    redsched_kit.scheduler.add_executor("mine", executor)
    result = await end_of(redsched_kit, args=["order-7"], kwargs={"by": "stove"})
    assert executor.calls == [(("order-7",), {"by": "stove"}, "order-7 by stove")]
    assert result.result == "its own answer"


async def test_it_can_await_a_plain_function_too(redsched_kit: Kit) -> None:
    executor = Answers()
    redsched_kit.scheduler.add_executor("mine", executor)
    await end_of(redsched_kit, where)
    [(_, _, (pid, thread))] = executor.calls
    assert pid == os.getpid()
    assert thread != threading.get_ident()


@pytest.mark.parametrize(
    ("answer", "success", "result", "reason"),
    [
        ({"status": "completed", "result": 5}, True, 5, None),
        ({"status": "completed"}, True, None, None),
        (SKIPPED, True, SKIPPED, Reason.EXECUTOR_SKIPPED),
        ({"status": "failed", "error": "no basil"}, False, None, Reason.TASK_FAILED),
        ({"status": "open"}, True, {"status": "open"}, None),
        ({"result": 5}, True, {"result": 5}, None),
    ],
)  # fmt: skip
async def test_what_its_answers_mean(
    redsched_kit: Kit, answer: Any, success: bool, result: Any, reason: Reason | None
) -> None:
    redsched_kit.scheduler.add_executor("mine", Answers(answer))
    end = await end_of(redsched_kit)
    assert (end.success, end.result, end.reason) == (success, result, reason)
    if reason is not None:
        assert ("busy" if success else "no basil") in ((end.result_note if success else end.error) or "")
        assert (end.error is None) == success
        [event] = [e for e in await redsched_kit.scheduler.get_history(end.job_id) if e.kind in ("done", "dead")]
        assert (event.reason, event.error) == (reason, end.result_note or end.error)


async def test_a_task_that_returns_such_a_dict_itself_means_nothing_by_it(redsched_kit: Kit) -> None:
    async def give() -> dict[str, str]:
        return {"status": "failed"}

    handle = await redsched_kit.scheduler.schedule_immediate_task("give", give)
    await redsched_kit.run_due()
    assert (await handle.result(timeout=5)).result == {"status": "failed"}


async def test_a_failure_that_it_tells_is_tried_again(redsched_kit: Kit) -> None:
    executor = Answers({"status": "failed", "error": "no basil"})
    redsched_kit.scheduler.add_executor("mine", executor)
    handle = await redsched_kit.scheduler.schedule_immediate_task(
        "bake", bake, executor="mine", retry=RetryPolicy(max_attempts=3, initial_delay=10)
    )
    await redsched_kit.run_due()
    executor.answer = {"status": "completed", "result": "done"}
    await redsched_kit.advance(minutes=1)
    end = await handle.result(timeout=5)
    assert (end.result, end.attempt) == ("done", 2)


async def test_an_executor_that_raises_fails_the_run_and_one_that_hangs_is_timed_out(redsched_kit: Kit) -> None:
    class Raises(CustomTaskExecutor):
        async def execute_task(self, task_func: Any, *args: Any, **kwargs: Any) -> Any:
            raise OSError("out of order")

    class Hangs(CustomTaskExecutor):
        async def execute_task(self, task_func: Any, *args: Any, **kwargs: Any) -> Any:
            await asyncio.Event().wait()

    redsched_kit.scheduler.add_executor("mine", Raises())
    assert (await end_of(redsched_kit)).error == "OSError: out of order"
    redsched_kit.scheduler.add_executor("mine", Hangs())
    assert (await end_of(redsched_kit, timeout=0.05)).error_type == "TaskTimeoutError"


async def test_a_pool_under_a_name_of_its_own(redsched_url: str) -> None:
    executors = {"few": {"type": "threadpool", "max_workers": 1}, "heavy": {"type": "processpool", "max_workers": 1}}
    scheduler = BackgroundTaskScheduler(redsched_url, fresh_prefix(), executors=executors)
    async with kit(scheduler) as the_kit:
        few = [await scheduler.schedule_immediate_task("w", where, executor="few") for _ in range(3)]
        heavy = await scheduler.schedule_immediate_task("w", where, executor="heavy")
        await the_kit.run_due()
        threads = {tuple((await handle.result(timeout=5)).result) for handle in few}
        assert len(threads) == 1, "one thread did them all"
        assert (await heavy.result(timeout=5)).result[0] != os.getpid()


async def test_the_default_can_be_another_executor(redsched_url: str) -> None:
    executor = Answers("by default")
    scheduler = BackgroundTaskScheduler(redsched_url, fresh_prefix(), executors={"default": executor})
    async with kit(scheduler) as the_kit:
        handle = await scheduler.schedule_immediate_task("bake", bake)
        await the_kit.run_due()
        assert (await handle.result(timeout=5)).result == "by default"


async def test_an_executor_that_only_others_have_can_be_named(redsched_url: str) -> None:
    prefix = fresh_prefix()
    producer = BackgroundTaskScheduler(redsched_url, prefix, executors={"mine": None})
    async with kit(producer) as first:
        handle = await producer.schedule_immediate_task("bake", bake, executor="mine", max_attempts=2)
        periodic = await producer.schedule_interval("bake", bake, seconds=60, executor="mine")
        await first.travel(minutes=5)
        await first.run_due()
        for job_id in (handle.id, periodic.id):
            job = await producer.get_job(job_id)
            assert job is not None
            assert (job.reason, job.attempt) == (Reason.UNKNOWN_EXECUTOR, 0)
        worker = BackgroundTaskScheduler(redsched_url, prefix, executors={"mine": Answers("there")})
        worker.register(bake)
        async with kit(worker, clean=False) as second:
            await second.advance(minutes=1)
            assert (await handle.result(timeout=5)).result == "there"
            assert await worker.get_results(periodic.id)


async def test_an_executor_that_nobody_knows_of_is_refused(redsched_kit: Kit) -> None:
    with pytest.raises(InvalidInputError, match="executor is 'gpu'; this scheduler knows default, processpool"):
        await redsched_kit.scheduler.schedule_immediate_task("bake", bake, executor="gpu")
    handle = await redsched_kit.scheduler.schedule_delayed_task("bake", bake, 60)
    with pytest.raises(InvalidInputError, match="executor is 'gpu'"):
        await redsched_kit.scheduler.modify_job(handle.id, executor="gpu")


@pytest.mark.parametrize("wrong", [None, "threadpool", {"type": "x"}, {"max_workers": 0}, {"size": 1}, Answers, 5])
def test_what_is_no_executor_is_refused(wrong: Any) -> None:
    name = "default" if wrong is None else "mine"
    with pytest.raises(InvalidConfigError, match="executors"):
        BackgroundTaskScheduler().add_executor(name, wrong)


@pytest.mark.parametrize("sizes", [{"threads": 0}, {"processes": True}, {"threads": 1.5}])
def test_a_wrong_size_is_refused(sizes: Any) -> None:
    with pytest.raises(InvalidConfigError):
        Executors(**sizes)
