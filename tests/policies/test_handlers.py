"""A TaskFailureHandler is called when runs end, with all it needs to know, and cannot affect them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from typing import Any

import pytest

from redsched import BackgroundTaskScheduler, InvalidInputError, TaskFailureHandler
from redsched.testing import Kit
from redsched.worker import handlers, worker


class Monitor(TaskFailureHandler):
    def __init__(self) -> None:
        self.failures: list[tuple[str, Exception, dict[str, Any]]] = []
        self.successes: list[tuple[str, Any, dict[str, Any]]] = []

    async def handle_task_failure(self, task_name: str, exception: Exception, context: dict[str, Any]) -> None:
        self.failures.append((task_name, exception, context))

    async def handle_task_success(self, task_name: str, result: Any, context: dict[str, Any]) -> None:
        self.successes.append((task_name, result, context))


async def deliver(order_id: str, *, by: str = "bike") -> str:
    if order_id == "lost":
        raise LookupError("no such order")
    return f"{order_id} by {by}"


def bake(order_id: str) -> None:
    raise RuntimeError(f"{order_id} is burnt")


@pytest.fixture
async def monitor(redsched_kit: Kit) -> AsyncIterator[Monitor]:
    monitor = Monitor()
    redsched_kit.scheduler.add_failure_handler(monitor)
    yield monitor


async def test_a_success_is_told_with_its_result_and_context(redsched_kit: Kit, monitor: Monitor) -> None:
    handle = await redsched_kit.scheduler.schedule_immediate_task(
        "delivery_17", deliver, args=["order-17"], kwargs={"by": "car"}, tags=["delivery"]
    )
    await redsched_kit.run_due()
    [(name, result, context)] = monitor.successes
    assert (name, result) == ("delivery_17", "order-17 by car")
    assert context["order_id"] == "order-17", "the task's argument, by its name"
    assert context["by"] == "car"
    assert context["job_id"] == handle.id
    assert context["tags"] == ("delivery",)
    assert (context["attempt"], context["retry_count"], context["will_retry"]) == (1, 0, False)
    assert 0 <= context["execution_time"] < 5, "seconds"
    assert context["fire_time"] == (await redsched_kit.wait_for("done", handle.id)).fire_time
    assert context["task"].endswith("test_handlers.deliver")
    assert monitor.failures == []


async def test_each_failed_attempt_is_told_with_its_number(redsched_kit: Kit, monitor: Monitor) -> None:
    await redsched_kit.scheduler.schedule_immediate_task(
        "delivery", deliver, kwargs={"order_id": "lost"}, max_attempts=3
    )
    await redsched_kit.advance(minutes=5)
    assert [type(error) for _, error, _ in monitor.failures] == [LookupError] * 3
    told = [(c["retry_count"], c["will_retry"], c["order_id"]) for _, _, c in monitor.failures]
    assert told == [(0, True, "lost"), (1, True, "lost"), (2, False, "lost")]


async def test_plain_functions_and_tasks_in_child_processes_are_told_too(redsched_kit: Kit, monitor: Monitor) -> None:
    scheduler = redsched_kit.scheduler
    await scheduler.schedule_immediate_task("thread", bake, args=["order-1"])
    await scheduler.schedule_immediate_task("child", bake, args=["order-2"], executor="processpool")
    await redsched_kit.run_due()
    assert sorted(name for name, _, _ in monitor.failures) == ["child", "thread"]
    assert all("is burnt" in str(error) for _, error, _ in monitor.failures)


async def test_arguments_that_do_not_fit_the_function_are_told_as_they_were_given(
    redsched_kit: Kit, monitor: Monitor
) -> None:
    async def loose(*args: Any, **kwargs: Any) -> Any:  # what a decorator of the user leaves of a signature
        return await deliver(*args, **kwargs)

    await redsched_kit.scheduler.schedule_immediate_task("wrong", loose, args=[1, 2, 3], kwargs={"order": 4})
    await redsched_kit.run_due()
    [(_, error, context)] = monitor.failures
    assert isinstance(error, TypeError)
    assert (context["args"], context["order"]) == ([1, 2, 3], 4)


async def test_what_a_task_takes_by_any_name_is_told_by_its_name(redsched_kit: Kit, monitor: Monitor) -> None:
    async def flexible(order: str, *parts: str, **options: int) -> None:
        raise ValueError("the oven is cold")

    await redsched_kit.scheduler.schedule_immediate_task(
        "wide", flexible, args=["order-1", "a", "b"], kwargs={"size": 2}, max_attempts=1
    )
    await redsched_kit.run_due()
    [(_, _, context)] = monitor.failures
    assert (context["order"], context["parts"], context["size"]) == ("order-1", ("a", "b"), 2)
    assert "options" not in context


async def test_a_handler_that_raises_or_hangs_does_no_harm(
    redsched_kit: Kit, monitor: Monitor, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    class Raises(TaskFailureHandler):
        async def handle_task_success(self, task_name: str, result: Any, context: dict[str, Any]) -> None:
            context.clear()
            raise RuntimeError("the handler is broken")

    class Hangs(TaskFailureHandler):
        async def handle_task_success(self, task_name: str, result: Any, context: dict[str, Any]) -> None:
            await asyncio.Event().wait()

    monkeypatch.setattr(handlers, "TIMEOUT_S", 0.05)
    scheduler = redsched_kit.scheduler
    for handler in (Raises(), Hangs(), last := Monitor()):
        scheduler.add_failure_handler(handler)
    with caplog.at_level(logging.ERROR):
        handle = await scheduler.schedule_immediate_task("delivery", deliver, args=["order-1"])
        await redsched_kit.run_due()
    assert (await handle.result(timeout=5)).success
    assert last.successes[0][2]["order_id"] == "order-1", "no handler sees what another did to the context"
    assert "the handler is broken" in caplog.text
    assert "took longer than" in caplog.text


async def test_a_handler_that_hangs_does_not_keep_a_scheduler_from_ending(redsched_kit: Kit) -> None:
    class Hangs(TaskFailureHandler):
        async def handle_task_success(self, task_name: str, result: Any, context: dict[str, Any]) -> None:
            await asyncio.Event().wait()

    scheduler = redsched_kit.scheduler
    scheduler.add_failure_handler(Hangs())
    await scheduler.start()
    await (await scheduler.schedule_immediate_task("delivery", deliver, args=["x"])).result(timeout=5)
    async with asyncio.timeout(8):
        await scheduler.shutdown()


async def test_handlers_that_hang_do_not_fill_the_memory(
    redsched_kit: Kit, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    class Hangs(TaskFailureHandler):
        calls = 0

        async def handle_task_success(self, task_name: str, result: Any, context: dict[str, Any]) -> None:
            Hangs.calls += 1
            await asyncio.Event().wait()

    monkeypatch.setattr(handlers, "MAX_CALLS", 5)
    monkeypatch.setattr(worker, "CANCEL_TIMEOUT_S", 0.01)
    redsched_kit.scheduler.add_failure_handler(Hangs())
    for number in range(20):
        await redsched_kit.scheduler.schedule_immediate_task("delivery", deliver, args=[str(number)])
    await redsched_kit.run_due()
    assert Hangs.calls == 5
    assert "further calls are skipped" in caplog.text


async def test_one_that_was_removed_is_told_no_more(redsched_kit: Kit, monitor: Monitor) -> None:
    redsched_kit.scheduler.remove_failure_handler(monitor)
    await redsched_kit.scheduler.schedule_immediate_task("delivery", deliver, args=["x"])
    await redsched_kit.run_due()
    assert monitor.successes == []


def test_what_is_no_handler_is_refused() -> None:
    wrong: Any = print
    with pytest.raises(InvalidInputError, match="TaskFailureHandler"):
        BackgroundTaskScheduler().add_failure_handler(wrong)


async def test_past_results_tell_how_the_newest_runs_ended(redsched_kit: Kit) -> None:
    scheduler = redsched_kit.scheduler
    good = await scheduler.schedule_immediate_task("delivery", deliver, args=["order-1"])
    bad = await scheduler.schedule_immediate_task("delivery", deliver, args=["lost"])
    await redsched_kit.run_due()
    await redsched_kit.wait_for("dead", bad.id)
    results = {result.job_id: result for result in await scheduler.get_results()}
    assert (results[good.id].success, results[good.id].result) == (True, "order-1 by bike")
    assert (results[bad.id].success, results[bad.id].error_type) == (False, "LookupError")
    assert [result.job_id for result in await scheduler.get_results(bad.id)] == [bad.id]
    await scheduler.schedule_interval("again", deliver, seconds=10, args=["x"], job_id="again", max_runs=5)
    await redsched_kit.advance(minutes=1)
    newest = await scheduler.get_results("again", limit=3)
    assert len(newest) == 3
    fires = [result.fire_time for result in newest if result.fire_time]
    assert fires == sorted(set(fires))
