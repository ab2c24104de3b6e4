"""The real neuroglia-python: its container, its host, and the imports of its documentation."""

from __future__ import annotations

import importlib
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from neuroglia.dependency_injection import ServiceCollection
from neuroglia.hosting.abstractions import Host, HostApplicationLifetime, HostedService

import redsched
from redsched import BackgroundTaskScheduler, InvalidConfigError, InvalidInputError, SchedulerStateError, schedule_task
from redsched.integrations import neuroglia as integration
from redsched.integrations.neuroglia import Container, SchedulerService, get_service
from redsched.testing import fresh_prefix
from tests.integrations.harness import environment, web, worker
from tests.integrations.pizzeria_services import (
    KitchenService,
    MailNotifier,
    Notifier,
    OrderService,
    Report,
    TextNotifier,
    UnitOfWork,
)

APPLICATION = "tests.integrations.pizzeria:app"
NAMES = {
    "BackgroundTaskScheduler", "BackgroundTask", "schedule_task", "ReactiveTaskProcessor", "CircuitBreakerPolicy",
    "RetryPolicy", "TaskExecutionResult", "TaskFailureHandler", "RedisJobStoreConfig", "SchedulerConfig",
    "CustomTaskExecutor", "TaskMetrics", "MetricsCollector",
}  # fmt: skip


@pytest.fixture(autouse=True)
def _nothing_closed() -> None:
    UnitOfWork.closed.clear()


@pytest.fixture
def services(redsched_url: str) -> Any:
    """A collection of this test alone: that of the builders is one for the whole process."""
    made: Any = ServiceCollection()
    made.add_background_task_scheduler(redsched_url, fresh_prefix(), declared_tasks=False)
    made.add_singleton(KitchenService)
    made.add_scoped(UnitOfWork)
    made.add_transient(OrderService)
    made.add_singleton(Notifier, MailNotifier)
    made.add_transient(Notifier, TextNotifier)
    return made


@pytest.fixture
async def provider(services: Any) -> AsyncIterator[Any]:
    """The container of a host that runs."""
    host = Host(services.build())
    await host.start_async()
    yield host.services
    scheduler = host.services.get_service(BackgroundTaskScheduler)
    await host.stop_async()
    await scheduler.clear_all_jobs()


def other_process(services: Any, scheduler: BackgroundTaskScheduler) -> BackgroundTaskScheduler:
    """A scheduler that has scheduled nothing: it knows only what its container knows, as in a process of its own."""
    other = services.build().get_service(BackgroundTaskScheduler)
    assert other is not scheduler
    return other


async def result(scheduler: BackgroundTaskScheduler, task: Any, *args: Any) -> Any:
    handle = await scheduler.schedule_immediate_task("task", task, args=list(args), result_ttl=60)
    return (await handle.result(timeout=10)).result


# -- the container and the host ---------------------------------------------------------------------------------------


async def test_the_scheduler_is_one_for_the_container_and_its_scopes(provider: Any) -> None:
    scheduler = provider.get_service(BackgroundTaskScheduler)
    assert provider.get_service(BackgroundTaskScheduler) is scheduler
    async with provider.create_async_scope() as scope:
        assert scope.get_service(BackgroundTaskScheduler) is scheduler


async def test_it_starts_and_stops_with_the_host_and_again(services: Any) -> None:
    host = Host(services.build())
    scheduler = host.services.get_service(BackgroundTaskScheduler)
    for _ in range(2):
        await host.start_async()
        await host.start_async()  # a host that is asked twice
        assert scheduler.running
        assert scheduler.worker is not None
        await host.stop_async()
        await host.stop_async()
        assert not scheduler.running
    await scheduler.clear_all_jobs()


async def test_other_hosted_services_are_started_beside_it(services: Any) -> None:
    class Other(HostedService):
        started = 0

        async def start_async(self) -> None:
            self.started += 1

    services.add_singleton(HostedService, Other)
    host = Host(services.build())
    await host.start_async()
    hosted = host.services.get_services(HostedService)
    assert sorted(type(service).__name__ for service in hosted) == ["Other", "SchedulerService"]
    assert next(service for service in hosted if isinstance(service, Other)).started == 1
    await host.stop_async()


async def test_a_second_registration_replaces_the_first(services: Any, redsched_url: str) -> None:
    services.add_background_task_scheduler(redsched_url, "newest", worker=False)
    host = Host(services.build())
    await host.start_async()
    [scheduler] = host.services.get_services(BackgroundTaskScheduler)
    assert (scheduler.prefix, scheduler.worker) == ("newest", None)
    assert len(host.services.get_services(HostedService)) == 1
    await host.stop_async()


async def test_a_lifetime_that_the_application_registered_is_kept(redsched_url: str) -> None:
    class Lifetime(HostApplicationLifetime):
        pass

    services: Any = ServiceCollection()
    services.add_singleton(HostApplicationLifetime, Lifetime)
    services.add_background_task_scheduler(redsched_url, fresh_prefix(), declared_tasks=False)
    built = services.build()
    lifetime = built.get_service(HostApplicationLifetime)
    assert isinstance(lifetime, Lifetime)
    assert list(lifetime.on_application_started) == [built.get_service(SchedulerService).start_async]
    assert HostApplicationLifetime.on_application_started == []


def test_wrong_settings_are_told_where_they_are_given(services: Any) -> None:
    with pytest.raises(InvalidInputError, match="lease is -1"):
        services.add_background_task_scheduler(lease=-1)
    with pytest.raises(InvalidConfigError, match="service_provider is the container"):
        services.add_background_task_scheduler(service_provider=object())
    with pytest.raises(TypeError, match="no_such_setting"):
        services.add_background_task_scheduler(no_such_setting=1)


# -- where instances come from ----------------------------------------------------------------------------------------


async def test_a_transient_service_gets_a_scope_for_each_run_that_is_disposed_of_after_it(provider: Any) -> None:
    scheduler = provider.get_service(BackgroundTaskScheduler)
    async with provider.create_async_scope() as scope:
        orders = scope.get_service(OrderService)
        told = [await result(scheduler, orders.remind, f"order-{n}") for n in (1, 2)]
    assert [one["work"] for one in told] == [["order-1"], ["order-2"]]
    assert all(one["same"] for one in told)  # the provider of the instance is the run's scope
    assert [one["kitchen"].split(" in ")[0] for one in told] == ["order-1 #1", "order-2 #2"]  # one singleton
    assert UnitOfWork.closed[:2] == ["order-1", "order-2"]


async def test_a_scoped_service_runs_on_its_loop_or_in_a_thread(provider: Any) -> None:
    scheduler = provider.get_service(BackgroundTaskScheduler)
    async with provider.create_async_scope() as scope:
        work = scope.get_service(UnitOfWork)
        assert await result(scheduler, work.record, "order-1") == ["order-1"]
        assert await result(scheduler, work.count_in_thread, "order-2") == 1
    assert UnitOfWork.closed[:2] == ["order-1", "in a thread: order-2"]


async def test_of_several_classes_for_one_service_type_it_is_the_right_one(provider: Any) -> None:
    scheduler = provider.get_service(BackgroundTaskScheduler)
    assert await result(scheduler, MailNotifier().send, "order-1") == "mail order-1"
    assert await result(scheduler, TextNotifier().send, "order-1") == "text order-1"


async def test_a_class_based_task_gets_its_dependencies_from_the_scope_of_the_run(provider: Any) -> None:
    scheduler = provider.get_service(BackgroundTaskScheduler)
    assert await result(scheduler, Report, "order-1") == ["order-1"]
    assert await result(scheduler, Report, "order-2") == ["order-2"]
    assert UnitOfWork.closed == ["order-1", "order-2"]


async def test_a_class_based_task_that_is_passed_as_an_instance_is_that_instance(provider: Any) -> None:
    scheduler = provider.get_service(BackgroundTaskScheduler)
    work = UnitOfWork()
    assert await result(scheduler, Report(work, KitchenService()), "order-1") == ["order-1"]
    assert work.orders == ["order-1"]


@pytest.mark.parametrize("method", ["record", "count_in_thread"])
async def test_another_process_finds_methods_of_registered_services_by_name(
    services: Any, provider: Any, method: str
) -> None:
    other = other_process(services, provider.get_service(BackgroundTaskScheduler))
    task = other.registry.find(f"{UnitOfWork.__module__}.UnitOfWork.{method}")
    assert task is not None
    assert task.is_async == (method == "record")


@pytest.mark.parametrize(
    "name",
    [
        f"{OrderService.__module__}.OrderService._charge",
        f"{OrderService.__module__}.OrderService.__init__",
        f"{OrderService.__module__}.OrderService.no_such",
        f"{Report.__module__}.Notifier",
        "neuroglia.hosting.abstractions.HostApplicationLifetime.stop_application",
        "redsched.integrations.neuroglia.SchedulerService.stop_async",
        "redsched.scheduler.BackgroundTaskScheduler.clear_all_jobs",
    ],
)
async def test_what_is_private_or_of_the_framework_is_no_task(services: Any, provider: Any, name: str) -> None:
    other = other_process(services, provider.get_service(BackgroundTaskScheduler))
    assert other.registry.find(name) is None


def test_task_services_are_all_whose_methods_may_run(services: Any) -> None:
    services.add_background_task_scheduler(task_services=[KitchenService])
    registry = services.build().get_service(BackgroundTaskScheduler).registry
    assert registry.find(f"{KitchenService.__module__}.KitchenService.notify_preparation_due") is not None
    assert registry.find(f"{OrderService.__module__}.OrderService.remind") is None


@schedule_task
async def ask_the_kitchen(order_id: str) -> str:
    return (await get_service(KitchenService).notify_preparation_due(order_id)).split(" in ")[0]


async def test_a_function_asks_for_services(provider: Any) -> None:
    scheduler = provider.get_service(BackgroundTaskScheduler)
    assert await result(scheduler, ask_the_kitchen, "order-1") == "order-1 #1"
    with pytest.raises(SchedulerStateError, match="no service is registered for Report"):
        get_service(Report)


async def test_without_a_container_a_function_is_told_so(redsched_url: str) -> None:
    scheduler = BackgroundTaskScheduler(redsched_url, fresh_prefix(), declared_tasks=False)
    async with scheduler:
        with pytest.raises(SchedulerStateError, match="add_background_task_scheduler"):
            get_service(KitchenService)


async def test_what_cannot_be_made_fails_with_what_is_missing(redsched_url: str) -> None:
    container = Container(ServiceCollection().build(), ServiceCollection())
    with pytest.raises(SchedulerStateError, match="Report needs services"):
        await container.method(Report, Report.execute)("order-1")


# -- real hosts -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["simple", "advanced"])
async def test_a_host_under_uvicorn_runs_jobs_and_stops_at_sigterm(
    mode: str, redsched_url: str, tmp_path: Path
) -> None:
    given = {"PIZZERIA_REDIS": redsched_url, "PIZZERIA_PREFIX": fresh_prefix(), "PIZZERIA_MODE": mode}
    scheduler = BackgroundTaskScheduler(redsched_url, given["PIZZERIA_PREFIX"])
    with web(APPLICATION, tmp_path / "log", **given) as server:
        job_id = server.post("/orders/order-1").json()
        told = (await scheduler.wait_for_result(job_id, timeout=10)).result
        assert told["work"] == ["order-1"]
        assert told["kitchen"] == f"order-1 #1 in {server.process.pid}"
        assert len(await scheduler.get_workers()) == 1
        server.terminate()
        assert "Application shutdown complete" in server.log
    assert await scheduler.get_workers() == {}  # it left in good order
    await scheduler.clear_all_jobs()


async def test_a_method_of_a_service_runs_in_a_worker_process_with_that_process_instance(
    redsched_url: str, tmp_path: Path
) -> None:
    given = {"PIZZERIA_REDIS": redsched_url, "PIZZERIA_PREFIX": fresh_prefix(), "PIZZERIA_WORKER": "0"}
    scheduler = BackgroundTaskScheduler(redsched_url, given["PIZZERIA_PREFIX"])
    with (
        web(APPLICATION, tmp_path / "log", **given) as server,
        worker("tests.integrations.pizzeria:scheduler", tmp_path / "worker", **given) as process,
    ):
        job_id = server.post("/orders/order-1").json()
        told = (await scheduler.wait_for_result(job_id, timeout=20)).result
        assert told["kitchen"] == f"order-1 #1 in {process.pid}"
    await scheduler.clear_all_jobs()


# -- names ------------------------------------------------------------------------------------------------------------


def python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], env=environment(), capture_output=True, text=True, check=False)


def test_the_alias_has_every_public_name_and_those_of_the_documentation() -> None:
    integration.alias()
    integration.install(alias=True)  # again
    module = importlib.import_module("neuroglia.scheduling")
    assert set(module.__all__) == {name for name in redsched.__all__ if not name.startswith("_")}
    assert {name: getattr(module, name) for name in module.__all__} == {n: getattr(redsched, n) for n in module.__all__}
    assert set(module.__all__) >= NAMES


def test_without_the_alias_there_is_no_such_module() -> None:
    done = python("import redsched.integrations.neuroglia, neuroglia.scheduling")
    assert "No module named 'neuroglia.scheduling'" in done.stderr


def test_a_module_of_that_name_is_not_hidden() -> None:
    done = python(
        "import sys, types; import neuroglia; sys.modules['neuroglia.scheduling'] = types.ModuleType('x')\n"
        "import redsched.integrations.neuroglia as i; i.alias()"
    )
    assert "already has a module neuroglia.scheduling" in done.stderr


def test_the_imports_of_the_documentation_that_work_and_those_that_do_not() -> None:
    """What docs/guide/integrations.md says of neuroglia 0.9.4: it must be rewritten when this changes."""
    work = ["hosting.web.WebApplicationBuilder", "dependency_injection.ServiceProviderBase", "eventing.DomainEvent"]
    lack = ["eventing.EventHandler", "reactive.Observable", "reactive.StreamProcessor"]

    def there(path: str) -> bool:
        module, _, name = path.rpartition(".")
        return hasattr(importlib.import_module(f"neuroglia.{module}"), name)

    assert [path for path in work if not there(path)] == []
    assert [path for path in lack if there(path)] == []


def test_the_error_without_neuroglia_names_the_extra() -> None:
    done = python(
        "import sys; sys.modules['neuroglia.dependency_injection'] = None; import redsched.integrations.neuroglia"
    )
    assert 'pip install "redsched[neuroglia]"' in done.stderr
