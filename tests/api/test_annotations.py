"""A task whose annotations name what only type checkers import runs on every Python.

Since 3.14 such an annotation is an error not where the function is defined, but wherever it is evaluated.
"""

from __future__ import annotations

import sys
from typing import Any

import pytest

from redsched import BackgroundTask, TaskFailureHandler
from redsched.tasks.class_based import dependencies
from redsched.testing import Kit

SOURCE = """
async def greet(guest: {order}, greeting: str = "hello") -> {order}:
    return f"{{greeting}} {{guest}}"

class Greet(BackgroundTask):
    def __init__(self, order: {order} = None) -> None:
        self.order = order

    async def execute(self, guest: {order}) -> str:
        return f"hello {{guest}}, {{self.order}}"
"""
ORDER = "Order" if sys.version_info >= (3, 14) else "'Order'"  # before, the bare name could not even be defined


@pytest.fixture
def module() -> dict[str, Any]:
    made: dict[str, Any] = {"__name__": __name__, "BackgroundTask": BackgroundTask}
    exec(compile(SOURCE.format(order=ORDER), "<orders>", "exec", dont_inherit=True), made)
    return made


class Keep(TaskFailureHandler):
    def __init__(self) -> None:
        self.contexts: list[dict[str, Any]] = []

    async def handle_task_success(self, task_name: str, result: Any, context: dict[str, Any]) -> None:
        self.contexts.append(context)


async def test_a_function_runs_and_handlers_get_its_arguments_by_name(
    redsched_kit: Kit, module: dict[str, Any]
) -> None:
    keep = Keep()
    redsched_kit.scheduler.add_failure_handler(keep)
    handle = await redsched_kit.scheduler.schedule_immediate_task(
        "greeting", module["greet"], args=["Ada"], result_ttl=60
    )
    await redsched_kit.run_due()
    assert (await handle.result(timeout=5)).result == "hello Ada"
    assert [context["guest"] for context in keep.contexts] == ["Ada"]


async def test_a_class_whose_dependency_cannot_be_named_runs_with_its_default(
    redsched_kit: Kit, module: dict[str, Any]
) -> None:
    assert dependencies(module["Greet"], None) == {}
    handle = await redsched_kit.scheduler.schedule_immediate_task(
        "greeting", module["Greet"], args=["Ada"], result_ttl=60
    )
    await redsched_kit.run_due()
    assert (await handle.result(timeout=5)).result == "hello Ada, None"
