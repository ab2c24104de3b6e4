"""Which functions can be tasks, and which worker can run them."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from datetime import timedelta
from pathlib import Path
from typing import Any, Protocol

import pytest

from redsched import (
    BackgroundTask,
    BackgroundTaskScheduler,
    InvalidConfigError,
    InvalidInputError,
    JobHandle,
    JobSpec,
    JobView,
    State,
    schedule_task,
)
from redsched.declarations.definition import declared
from redsched.tasks.registry import default_registry
from redsched.testing import Kit, fresh_prefix, kit

ran: list[Any] = []


async def note(*args: Any) -> None:
    ran.append(args)


def pid() -> int:
    return os.getpid()


class Oven:
    def __init__(self, name: str) -> None:
        self.name = name

    async def bake(self, pizza: str) -> str:
        return f"{self.name} bakes {pizza}"

    @staticmethod
    async def clean() -> str:
        return "clean"

    @classmethod
    async def make(cls) -> str:
        return cls.__name__


class Grill:
    """Its methods are decorated while the class is being made."""

    def __init__(self, name: str) -> None:
        self.name = name

    @schedule_task(aliases=["test_tasks.grill.warm"])
    async def heat(self, degrees: int) -> str:
        return f"{self.name} heats to {degrees}"

    @schedule_task(name="grill.clean")
    async def clean(self) -> None: ...

    @staticmethod
    @schedule_task
    async def limit() -> int:
        return 400


class StoneOven(Oven):
    pass


class Provider:
    def __init__(self, oven: Oven) -> None:
        self.oven = oven

    def get_service(self, type_: type[Any]) -> Any:
        return self.oven if type_ is Oven else None


class Make(Protocol):
    async def __call__(self, **settings: Any) -> Kit: ...


@pytest.fixture(autouse=True)
def _nothing_ran() -> None:
    ran.clear()


@pytest.fixture
async def make(redsched_url: str) -> AsyncIterator[Make]:
    """Further schedulers ("processes") of one prefix, each with a kit."""
    prefix = fresh_prefix()
    async with AsyncExitStack() as stack:

        async def one(**settings: Any) -> Kit:
            settings = {"declared_tasks": False, **settings}
            return await stack.enter_async_context(kit(BackgroundTaskScheduler(redsched_url, prefix, **settings)))

        yield one


async def get(handle: JobHandle) -> JobView:
    view = await handle.get()
    assert view is not None
    return view


async def result(handle: JobHandle) -> Any:
    ended = await handle.result(timeout=10)
    assert ended.success, ended
    return ended.result


# -- methods --------------------------------------------------------------------------------------------------------


async def test_a_method_that_is_decorated_in_its_class_waits_for_a_process_that_has_an_instance(make: Make) -> None:
    client, worker, other = await make(), await make(), await make(service_provider=Provider(Oven("another class")))
    heat: Any = Grill.heat
    handle = await client.scheduler.submit(heat.job(200).with_options(max_attempts=1))
    assert await worker.run_due() == 0
    assert await other.run_due() == 0
    assert (await get(handle)).state == State.SCHEDULED
    names = [(await get(handle)).task, "test_tasks.grill.warm", "grill.clean"]
    assert [worker.scheduler.registry.find(name) for name in names] == [None] * 3
    worker.scheduler.bind(Grill("here"))
    assert all(worker.scheduler.registry.find(name) for name in names)
    await worker.advance(minutes=5)
    assert await result(handle) == "here heats to 200"


async def test_a_static_method_that_is_decorated_in_its_class_needs_no_instance(make: Make) -> None:
    client, worker = await make(), await make()
    limit: Any = Grill.limit
    handle = await client.scheduler.submit(limit.job())
    await worker.run_due()
    assert await result(handle) == 400


async def test_a_method_is_called_on_the_instance_of_the_process_that_runs_it(make: Make) -> None:
    client, worker = await make(), await make()
    handle = await client.scheduler.schedule_immediate_task("bake", Oven("here").bake, args=["salami"])
    assert (await get(handle)).task.endswith("test_tasks.Oven.bake")
    stone = await client.scheduler.schedule_immediate_task("bake", StoneOven("here").bake, args=["funghi"])
    worker.scheduler.bind(Oven("there"))
    worker.scheduler.bind(StoneOven("of stone there"))
    assert await worker.run_due() == 2
    assert await result(handle) == "there bakes salami"
    assert await result(stone) == "of stone there bakes funghi"  # an inherited method


async def test_a_second_instance_of_a_class_keeps_to_its_own_process(make: Make) -> None:
    made = await make()
    first = await made.scheduler.schedule_immediate_task("bake", Oven("first").bake, args=["salami"])
    second = await made.scheduler.schedule_immediate_task("bake", Oven("second").bake, args=["salami"])
    assert (await get(second)).queue == f"local:{made.scheduler.id}"
    await made.run_due()
    assert await result(first) == "first bakes salami"
    assert await result(second) == "second bakes salami"


async def test_instances_come_from_the_service_provider(make: Make) -> None:
    client = await make()
    worker = await make(service_provider=Provider(Oven("provided")))
    bound = await client.scheduler.schedule_immediate_task("bake", Oven("here").bake, args=["funghi"])
    plain = await client.scheduler.schedule_immediate_task("bake", Oven.bake, args=["salami"])
    assert (await get(bound)).task == (await get(plain)).task
    worker.scheduler.register(Oven.bake)
    assert await worker.run_due() == 2
    assert await result(bound) == "provided bakes funghi"
    assert await result(plain) == "provided bakes salami"


async def test_a_method_waits_for_a_worker_that_has_an_instance(make: Make) -> None:
    client, empty, worker = await make(), await make(), await make()
    handle = await client.scheduler.schedule_immediate_task("bake", Oven.bake, args=["salami"])
    empty.scheduler.register(Oven.bake)
    assert await empty.run_due() == 0
    assert (await get(handle)).reason == "unknown_task"
    worker.scheduler.bind(Oven("late"))
    assert await worker.advance(minutes=1) == 1
    assert await result(handle) == "late bakes salami"
    assert worker.scheduler.registry.find(f"{__name__}.Oven.clean") is None  # it was not registered


async def test_static_and_class_methods_are_tasks_of_their_module(make: Make) -> None:
    made = await make()
    handles = [
        await made.scheduler.schedule_immediate_task("clean", Oven.clean),
        await made.scheduler.schedule_immediate_task("make", Oven.make),
    ]
    for handle in handles:
        assert (await get(handle)).queue == "default"
    await made.run_due()
    assert [await result(handle) for handle in handles] == ["clean", "Oven"]


# -- of one process only --------------------------------------------------------------------------------------------


async def test_closures_and_lambdas_run_in_their_own_process_only(make: Make) -> None:
    mine, other = await make(), await make()
    extra = 5

    async def closure(value: int) -> int:
        return value + extra

    handles = [
        await mine.scheduler.schedule_immediate_task("closure", closure, args=[1]),
        await mine.scheduler.schedule_immediate_task("lambda", lambda: 7),
    ]
    assert await other.run_due() == 0
    assert await mine.run_due() == 2
    assert [await result(handle) for handle in handles] == [6, 7]


async def test_a_closure_that_no_job_needs_any_more_is_let_go(make: Make) -> None:
    made = await make()
    before = made.scheduler.registry.names()
    for _ in range(3):
        await made.scheduler.schedule_immediate_task("lambda", lambda: 7)
    await made.run_due()
    assert made.scheduler.registry.names() == before


async def test_a_closure_whose_process_is_gone_ends_dead_with_the_reason(make: Make) -> None:
    mine, other = await make(), await make()
    await mine.scheduler.start()
    handle = await mine.scheduler.schedule_delayed_task("lambda", lambda: 7, delay_minutes=60)
    again = await mine.scheduler.schedule_interval("lambda", lambda: 7, hours=1)
    await mine.scheduler.shutdown()
    await other.scheduler.start()
    await other.travel(hours=2)
    for one in (handle, again):
        assert (await other.wait_for("dead", one.id)).reason == "process_gone"
    view = await other.scheduler.get_job(handle.id)
    assert view is not None
    assert (view.state, view.reason) == (State.DEAD, "process_gone")


async def test_a_named_closure_is_a_task_like_any_other(make: Make) -> None:
    client, worker = await make(), await make()
    client.scheduler.register(lambda: 7, name="seven")
    seven = client.scheduler.registry.find("seven")
    assert seven is not None
    handle = await client.scheduler.schedule_immediate_task("seven", seven.function)
    worker.scheduler.register(lambda: 8, name="seven")
    assert await worker.run_due() == 1
    assert await result(handle) == 8


# -- executors ------------------------------------------------------------------------------------------------------


async def test_a_job_of_the_process_pool_runs_in_another_process(make: Make) -> None:
    made = await make()
    handle = await made.scheduler.schedule_immediate_task("pid", pid, executor="processpool")
    await made.scheduler.start()
    assert await result(handle) not in (0, os.getpid())


# -- declared -------------------------------------------------------------------------------------------------------


@pytest.fixture
def _forget_declared() -> Iterator[None]:
    kept, known = list(declared), dict(default_registry._tasks)
    yield
    declared[:] = kept
    default_registry._tasks = known
    default_registry._names = {f: n for f, n in default_registry._names.items() if n in known}


@pytest.mark.usefixtures("_forget_declared")
async def test_a_declared_job_is_stored_once_by_every_scheduler_that_starts(make: Make) -> None:
    @schedule_task(interval=3600, name="declared.once", args=["declared"])
    async def task(text: str) -> None:
        ran.append(text)

    first, second = await make(declared_tasks=True), await make(declared_tasks=True)
    for made in (first, second):
        await made.scheduler.start(worker=False)
    [view] = await first.scheduler.get_jobs()
    assert (view.id, view.task, view.args) == ("declared.once", "declared.once", ("declared",))
    assert await second.advance(hours=1) == 1
    assert ran == ["declared"]


async def test_a_job_declared_for_one_scheduler_is_of_that_one_only(make: Make) -> None:
    first, second = await make(declared_tasks=True), await make(declared_tasks=True)

    @schedule_task(cron="0 8 * * *", scheduler=first.scheduler, name="declared.one", timezone="Europe/Berlin")
    async def task() -> None: ...

    await second.scheduler.start(worker=False)
    assert await second.scheduler.get_jobs() == []
    await first.scheduler.start(worker=False)
    [view] = await second.scheduler.get_jobs()
    assert view.schedule == "cron 0 8 * * * (Europe/Berlin)"
    assert "declared.one" not in second.scheduler.registry.names()


async def test_a_declared_job_survives_a_restart_and_is_replaced_when_its_declaration_changes(make: Make) -> None:
    async def start(**options: Any) -> tuple[Kit, JobView]:
        made = await make()
        schedule_task(scheduler=made.scheduler, name="declared.job", **options)(note)
        await made.scheduler.start(worker=False)
        view = await made.scheduler.get_job("declared.job")
        assert view is not None
        return made, view

    made, first = await start(interval=timedelta(hours=1))
    await made.travel(minutes=50)
    await made.scheduler.shutdown()
    made, second = await start(interval=timedelta(hours=1))
    assert second == first  # its next run is not an hour away again
    await made.travel(minutes=30)
    await made.scheduler.shutdown()
    made, third = await start(interval=timedelta(hours=1))
    assert await made.run_due() == 1  # what became due while nothing ran is caught up
    _, changed = await start(interval=timedelta(hours=2), tags=["new"])
    assert (changed.schedule, changed.tags) == ("every 2 hours", ("new",))
    assert changed.next_run_time is not None
    assert third.next_run_time is not None
    assert changed.next_run_time > third.next_run_time + timedelta(hours=1)


@pytest.mark.usefixtures("_forget_declared")
async def test_a_function_that_is_declared_without_a_schedule_is_a_task_with_default_options(make: Make) -> None:
    @schedule_task(name="declared.task", max_attempts=4, timeout=9)
    async def task() -> int:
        return 5

    client, worker = await make(), await make()
    handle = await client.scheduler.schedule_immediate_task("job", task, timeout=7)
    view = await get(handle)
    assert (view.task, view.max_attempts, view.timeout) == ("declared.task", 4, 7)
    assert await worker.run_due() == 1
    assert await result(handle) == 5


@pytest.mark.usefixtures("_forget_declared")
def test_a_wrong_declaration_is_refused_at_import() -> None:
    for wrong in (
        {"cron": "61 * * * *"},
        {"interval": -1},
        {"cron": "* * * * *", "interval": 5},
        {"start": "2031-01-01"},
    ):
        with pytest.raises(InvalidInputError):
            schedule_task(name="declared.wrong", **wrong)(note)


# -- names ----------------------------------------------------------------------------------------------------------


async def test_the_decorated_functions_of_a_named_package_run_and_nothing_else_of_it(
    make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    package = f"{__package__}.allowed"
    worker = await make(task_packages=[package])
    await worker.run_due()  # imports, before it claims anything
    from .allowed import jobs

    handle = await worker.scheduler.schedule_immediate_task("job", jobs.in_a_package, args=["a/b"])
    assert await worker.run_due() == 1
    assert await result(handle) == "b"
    assert f"module {package}.broken of task_packages cannot be imported" in caplog.text
    find = worker.scheduler.registry.find
    for name in ("basename", "called", "undecorated", "_private", "__getattr__", "at_all", "in_a_package.__wrapped__"):
        assert find(f"{package}.jobs.{name}") is None
    assert jobs.called == ["a/b"], "a name that is sought reaches no code of the module"


@pytest.mark.parametrize("name", ["tests.nowhere", "tests.api.allowed.loose", "no.such.module", ".relative", "a..b"])
async def test_a_named_module_that_is_none_is_refused_at_the_start(make: Make, name: str) -> None:
    made = await make(task_packages=[name])
    with pytest.raises(InvalidConfigError, match="task_packages names"):
        await made.scheduler.start()
    assert not made.scheduler.running


async def test_modules_of_tasks_are_imported_beside_the_event_loop(make: Make, tmp_path: Path) -> None:
    (tmp_path / "slow_tasks.py").write_text(
        "import threading\nthread = threading.current_thread()\nimport redsched\n"
        "@redsched.schedule_task(cron='0 3 * * *')\nasync def nightly(): ...\n"
    )
    sys.path.insert(0, str(tmp_path))
    try:
        made = await make(task_packages=["slow_tasks"], declared_tasks=True)
        await made.scheduler.start()
        assert sys.modules["slow_tasks"].thread is not threading.current_thread()
        assert await made.scheduler.get_job("slow_tasks.nightly") is not None, "it is declared by a named module"
    finally:
        sys.path.remove(str(tmp_path))
        sys.modules.pop("slow_tasks", None)
        declared[:] = [spec for spec in declared if spec.name != "slow_tasks.nightly"]
        default_registry._tasks.pop("slow_tasks.nightly", None)


class Kitchen:
    """A service with one task, and more methods than that."""

    def __init__(self) -> None:
        ran.append("made")

    async def bake(self) -> str:
        return "baked"

    async def open_the_safe(self) -> str:
        return "opened"

    async def _private(self) -> str:
        return "private"

    async def __dunder__(self) -> str:
        return "dunder"


class PizzaKitchen(Kitchen):
    async def serve(self) -> str:
        return "served"


async def test_a_registered_method_opens_no_other_method_of_its_class(make: Make) -> None:
    made = await make()
    path = f"{__name__}.PizzaKitchen."
    made.scheduler.register(PizzaKitchen().serve)
    await made.scheduler.schedule_immediate_task("bake", PizzaKitchen().serve)  # of another instance
    find = made.scheduler.registry.find
    assert find(path + "serve") is not None
    for name in ("bake", "open_the_safe", "_private", "__dunder__", "__init__", "__class__", "serve.__call__", ""):
        assert find(path + name) is None
        assert find(f"{__name__}.Kitchen.{name}") is None


async def test_a_bound_instance_has_its_public_methods_as_tasks_and_no_other(make: Make) -> None:
    made = await make()
    made.scheduler.bind(PizzaKitchen())
    registry, path = made.scheduler.registry, f"{__name__}.PizzaKitchen."
    public = {path + name for name in ("serve", "bake", "open_the_safe")}
    assert all(registry.find(name) is not None for name in public)
    assert {name for name in registry.names() if name.startswith(path)} == public, "what other processes are shown"
    for name in ("_private", "__dunder__", "__init__", "__init_subclass__", "__reduce__", "__class__"):
        assert registry.find(path + name) is None


class Reminder(BackgroundTask):
    async def execute(self) -> None: ...

    async def helper(self) -> None: ...


async def test_a_class_based_task_opens_no_other_method_of_its_class(make: Make) -> None:
    made = await make()
    made.scheduler.register(Reminder())
    find = made.scheduler.registry.find
    assert find(f"{__name__}.Reminder") is not None
    for name in ("helper", "execute", "__call__", "__init__"):
        assert find(f"{__name__}.Reminder.{name}") is None


async def test_an_unknown_task_waits_for_a_worker_that_knows_it_and_no_attempt_is_used(make: Make) -> None:
    client, ignorant, knowing = await make(), await make(), await make()
    handle = await client.scheduler.schedule_immediate_task("job", note, args=["known"], max_attempts=1)
    for _ in range(3):
        await ignorant.run_due()
        await ignorant.travel(seconds=10)
    view = await get(handle)
    assert (view.state, view.reason) == (State.SCHEDULED, "unknown_task")
    knowing.scheduler.register(note)
    await knowing.advance(minutes=5)
    assert ran == [("known",)]
    ended = await handle.result(timeout=5)
    assert (ended.success, ended.attempt) == (True, 1)
    kinds = [event.kind for event in await client.scheduler.get_history(handle.id)]
    assert kinds.count("postponed") == 1


async def test_two_functions_cannot_have_one_name(make: Make) -> None:
    scheduler = (await make()).scheduler
    scheduler.register(note, name="job")
    scheduler.register(note, name="job")  # the same one may
    with pytest.raises(InvalidInputError, match="'job'") as caught:
        scheduler.register(pid, name="job")
    assert caught.value.field == "task"


async def test_what_is_no_function_is_no_task(make: Make) -> None:
    scheduler = (await make()).scheduler
    for wrong in ("print", None, 5, note()):
        with pytest.raises(InvalidInputError, match="function") as caught:
            await scheduler.schedule_immediate_task("job", wrong)
        assert caught.value.field == "task"
        if asyncio.iscoroutine(wrong):
            wrong.close()
    with pytest.raises(InvalidInputError, match="JobSpec"):
        await scheduler.schedule_many([note])
    with pytest.raises(InvalidInputError, match="twice"):
        await scheduler.schedule_many([JobSpec("a", note, job_id="x"), JobSpec("b", note, job_id="x")])
    assert await scheduler.get_jobs() == []
