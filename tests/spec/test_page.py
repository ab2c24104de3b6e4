"""Each snippet of the specification page runs as it stands there, and does what the text around it says.

One test (or more) for each snippet, in the order of the page; its number is in its name.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

import redsched
from redsched import (
    BackgroundTaskScheduler,
    CircuitBreakerPolicy,
    ReactiveTaskProcessor,
    Reason,
    RetryPolicy,
)
from redsched.declarations import definition
from redsched.testing import Kit, fresh_prefix, kit
from tests.servers import LocalServer
from tests.spec.framework import _Subject
from tests.spec.services import Container, Recorder, order, service_class
from tests.spec.snippets import SNIPPETS, load, names_of_the_page, snippet

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _declares_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The declarations of a snippet are only for its own test."""
    monkeypatch.setattr(definition, "declared", [])


def test_every_snippet_has_its_test() -> None:
    numbers = {int(n) for n in re.findall(r"^(?:async )?def test_(\d\d)_", Path(__file__).read_text(), re.M)}
    assert sorted(numbers) == [each.number for each in SNIPPETS] == list(range(1, 14))


@pytest.mark.parametrize("name", names_of_the_page())
def test_every_name_of_the_page_is_there(name: str) -> None:
    assert name in redsched.__all__
    assert len(names_of_the_page()) == 13


# -- 1: service registration ----------------------------------------------------------------------------------------


def test_01_the_scheduler_is_registered_with_the_real_framework() -> None:
    pytest.importorskip("neuroglia")
    from redsched.integrations import neuroglia

    neuroglia.install(alias=True)
    exec(snippet(1).text, space := dict[str, Any]())  # with the page's own imports
    app = space["create_app"]()
    scheduler = app.services.get_required_service(BackgroundTaskScheduler)
    assert scheduler is app.services.get_required_service(BackgroundTaskScheduler), "a singleton"
    assert (scheduler.redis_url, scheduler.prefix) == ("redis://localhost:6379", "mario_pizzeria")


# -- 2: tasks of a service ------------------------------------------------------------------------------------------


async def test_02_the_order_reminders_come_after_15_and_45_minutes(
    redsched_kit: Kit, capsys: pytest.CaptureFixture[str]
) -> None:
    kitchen, delivery = service_class("KitchenService"), service_class("DeliveryService")
    page = load(2, BackgroundTaskScheduler=BackgroundTaskScheduler, KitchenService=kitchen, DeliveryService=delivery)
    services = Container(redsched_kit.scheduler, kitchen(), delivery())
    await page.PizzaOrderService(services).schedule_order_reminders("order-7")
    jobs = await redsched_kit.scheduler.get_jobs(tag="reminder")
    assert [(job.name, job.tags) for job in jobs] == [
        ("order_preparation_reminder", ("order", "reminder")), ("order_delivery_reminder", ("delivery", "reminder")),
    ]  # fmt: skip
    told = services.get_service(kitchen).calls, services.get_service(delivery).calls
    await redsched_kit.advance(minutes=14, seconds=59)
    assert told == ([], [])
    await redsched_kit.advance(seconds=2)
    assert told == ([("notify_preparation_due", ("order-7",))], [])
    await redsched_kit.advance(minutes=30)
    assert told[1] == [("schedule_pickup", ("order-7",))]
    assert "Start preparing order order-7" in capsys.readouterr().out


# -- 3, 4: periodic tasks -------------------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def started_at(hour: int, url: str) -> AsyncIterator[Kit]:
    """A scheduler that is started, without a worker, a minute after that hour: it stores what is declared."""
    async with kit(BackgroundTaskScheduler(url, fresh_prefix())) as made:
        now = await made.now()
        day = now.replace(hour=hour, minute=1, second=0, microsecond=0)
        await made.travel_to(day if day > now else day + timedelta(days=1))
        await made.scheduler.start(worker=False)
        yield made


async def test_03_the_daily_tasks_run_at_8_and_at_23(redsched_url: str, capsys: pytest.CaptureFixture[str]) -> None:
    stock = Recorder(get_low_stock_ingredients=["basil", "yeast"])
    analytics = Recorder(generate_daily_report=order(total_orders=12, total_revenue=340))
    notification, reordered = Recorder(), list[str]()

    async def reorder(ingredient: str) -> None:
        reordered.append(ingredient)

    load(
        3, schedule_task=redsched.schedule_task, schedule_ingredient_reorder=reorder, datetime=datetime,
        InventoryService=stock, AnalyticsService=analytics, NotificationService=notification,
        get_service=lambda service: service,
    )  # fmt: skip
    async with started_at(7, redsched_url) as made:
        await made.advance(minutes=58)
        assert reordered == []
        await made.advance(minutes=2)
        assert reordered == ["basil", "yeast"]
        await made.advance(hours=15)
        assert [name for name, _ in notification.calls] == ["send_sales_report"]
        await made.advance(hours=24)
    assert len(reordered) == 4
    assert len(notification.calls) == 2
    assert "Daily sales report generated: 12 orders, $340" in capsys.readouterr().out


async def test_04_the_hourly_task_runs_at_every_full_hour(redsched_url: str) -> None:
    orders = Recorder(get_delayed_orders=[order(id="order-1", customer_id="carla")])
    notification = Recorder()
    load(
        4, schedule_task=redsched.schedule_task, get_service=lambda service: service,
        OrderService=orders, NotificationService=notification,
    )  # fmt: skip
    async with started_at(12, redsched_url) as made:
        await made.advance(hours=3)
    assert [name for name, _ in orders.calls].count("escalate_delayed_order") == 3
    assert notification.calls == [("send_delay_notification", ("carla", "order-1"))] * 3


# -- 5: an event schedules ------------------------------------------------------------------------------------------


class OrderSteps:
    """The methods that the page's handler schedules and leaves out."""

    done: list[tuple[str, Any]]

    async def start_kitchen_preparation(self, order_id: str) -> None:
        self.done.append(("preparation", order_id))

    async def dispatch_delivery(self, order_id: str, customer_id: str) -> None:
        self.done.append(("dispatch", (order_id, customer_id)))

    async def notify_customer_ready(self, customer_id: str, order_id: str) -> None:
        self.done.append(("notification", (customer_id, order_id)))


def order_task_scheduler(page: Any) -> Any:
    return type("Tasks", (OrderSteps, page.OrderTaskScheduler), {"__module__": page.__name__, "done": []})


async def test_05_an_order_that_is_placed_schedules_its_three_tasks(redsched_kit: Kit) -> None:
    page = load(5, BackgroundTaskScheduler=BackgroundTaskScheduler, datetime=datetime, timedelta=timedelta)
    handler = order_task_scheduler(page)(redsched_kit.scheduler)
    delivery = await redsched_kit.now() + timedelta(hours=1)
    await handler.handle_async(page.OrderPlacedEvent("order-5", "carla", delivery))
    jobs = await redsched_kit.scheduler.get_jobs()
    milliseconds = [round((delivery - job.next_run_time).total_seconds() * 1000) for job in jobs if job.next_run_time]
    assert [(job.name, ms // 60_000) for job, ms in zip(jobs, milliseconds, strict=True)] == [
        ("kitchen_preparation", 30), ("delivery_dispatch", 10), ("customer_notification", 5),
    ]  # fmt: skip
    await redsched_kit.advance(hours=1)
    assert handler.done == [
        ("preparation", "order-5"), ("dispatch", ("order-5", "carla")), ("notification", ("carla", "order-5")),
    ]  # fmt: skip


# -- 6: a stream of events ------------------------------------------------------------------------------------------

STEPS = (
    "check_inventory",
    "add_to_kitchen_queue",
    "start_preparation",
    "perform_quality_check",
    "mark_ready_for_delivery",
)

PIZZERIA = """
# The page's processor with the methods that it leaves out, as a module that a worker loads.
import os

from tests.spec.snippets import load
from redsched import BackgroundTaskScheduler, current_run

scheduler = BackgroundTaskScheduler(os.environ["PAGE_URL"], os.environ["PAGE_PREFIX"], lease=1)
base = load(6, BackgroundTaskScheduler=BackgroundTaskScheduler).OrderStreamProcessor


def note(step, order_id):
    with open(os.environ["PAGE_LEDGER"], "a") as ledger:
        ledger.write(f"{step} {order_id} {current_run().fire_time.timestamp():.3f}\\n")


class Orders(base):
    async def check_inventory(self, order_id):
        note("check_inventory", order_id)

    async def add_to_kitchen_queue(self, order_id):
        note("add_to_kitchen_queue", order_id)

    async def start_preparation(self, order_id):
        note("start_preparation", order_id)

    async def perform_quality_check(self, order_id):
        note("perform_quality_check", order_id)

    async def mark_ready_for_delivery(self, order_id):
        note("mark_ready_for_delivery", order_id)

    async def cancel_order_tasks(self, order_id):
        await self.task_scheduler.cancel(tag=order_id)

    async def reschedule_order_tasks(self, event):
        await self.cancel_order_tasks(event.order_id)
        await self.schedule_order_workflow(event)


orders = Orders(scheduler)
scheduler.bind(orders)
"""


class Pizzeria:
    """The page's stream processor in this process, and its ledger."""

    def __init__(self, kit: Kit, folder: Path, url: str) -> None:
        self.kit = kit
        self.ledger = folder / "ledger"
        self.ledger.touch()
        (folder / "page_pizzeria.py").write_text(PIZZERIA)
        self.environment = {
            "PAGE_URL": url, "PAGE_PREFIX": kit.scheduler.prefix, "PAGE_LEDGER": str(self.ledger),
            "PYTHONPATH": os.pathsep.join((str(folder), str(ROOT))),
        }  # fmt: skip
        self.workers: list[subprocess.Popen[bytes]] = []

    def load(self, monkeypatch: pytest.MonkeyPatch) -> Any:
        for name, value in self.environment.items():
            monkeypatch.setenv(name, value)
        monkeypatch.syspath_prepend(self.environment["PYTHONPATH"].split(os.pathsep)[0])
        sys.modules.pop("page_pizzeria", None)
        import page_pizzeria  # type: ignore[import-not-found]

        orders = page_pizzeria.Orders(self.kit.scheduler)
        self.kit.scheduler.bind(orders)
        return orders

    def worker(self) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "redsched.cli", "worker", "page_pizzeria:scheduler"]
        worker = subprocess.Popen(command, env={**os.environ, **self.environment}, stderr=subprocess.DEVNULL)
        self.workers.append(worker)
        return worker

    def steps(self) -> list[tuple[str, str, float]]:
        rows = [line.split() for line in self.ledger.read_text().splitlines()]
        return [(step, order_id, float(at)) for step, order_id, at in rows]


@pytest.fixture
def pizzeria(redsched_kit: Kit, redsched_url: str, tmp_path: Path) -> Iterator[Pizzeria]:
    made = Pizzeria(redsched_kit, tmp_path, redsched_url)
    yield made
    for worker in made.workers:
        worker.kill()
        worker.wait()


async def test_06_the_workflow_of_an_order_runs_its_steps_at_0_5_15_25_and_35_minutes(
    redsched_kit: Kit, pizzeria: Pizzeria, monkeypatch: pytest.MonkeyPatch
) -> None:
    orders = pizzeria.load(monkeypatch)
    async with ReactiveTaskProcessor(redsched_kit.scheduler) as _Subject.processor:
        await orders.process_order_events()
        placed = (await redsched_kit.now()).timestamp()
        orders.order_stream.on_next(order(type="order_placed", order_id="order-6"))
        orders.order_stream.on_next(order(type="order_placed", order_id="order-60"))
        await redsched_kit.wait_for("scheduled", count=10)
        await redsched_kit.advance(minutes=20)
        orders.order_stream.on_next(order(type="order_cancelled", order_id="order-60"))
        await redsched_kit.wait_for("cancelled", count=2)
        await redsched_kit.advance(minutes=20)
    ran = [(step, round((at - placed) / 60)) for step, order_id, at in pizzeria.steps() if order_id == "order-6"]
    assert ran == list(zip(STEPS, (0, 5, 15, 25, 35), strict=True))
    cancelled = [step for step, order_id, _ in pizzeria.steps() if order_id == "order-60"]
    assert cancelled == list(STEPS[:3]), "a cancellation at minute 20 stops exactly the last two"


async def test_06_an_order_that_is_modified_starts_its_workflow_anew(
    redsched_kit: Kit, pizzeria: Pizzeria, monkeypatch: pytest.MonkeyPatch
) -> None:
    orders = pizzeria.load(monkeypatch)
    async with ReactiveTaskProcessor(redsched_kit.scheduler) as _Subject.processor:
        await orders.process_order_events()
        orders.order_stream.on_next(order(type="order_placed", order_id="order-6"))
        await redsched_kit.wait_for("scheduled", count=5)
        await redsched_kit.advance(minutes=10)
        orders.order_stream.on_next(order(type="order_modified", order_id="order-6"))
        await redsched_kit.wait_for("scheduled", count=10)
        await redsched_kit.advance(minutes=36)
    assert [step for step, _, _ in pizzeria.steps()] == [*STEPS[:2], *STEPS]


async def test_06_the_workflow_survives_a_sigkill_of_the_worker_between_two_steps(
    redsched_kit: Kit, pizzeria: Pizzeria, monkeypatch: pytest.MonkeyPatch
) -> None:
    orders = pizzeria.load(monkeypatch)
    await orders.schedule_order_workflow(order(order_id="order-6"))
    first = pizzeria.worker()
    await redsched_kit.wait_for("done", count=1, timeout=20)
    await redsched_kit.travel(minutes=5)
    await redsched_kit.wait_for("done", count=2)
    first.kill()
    first.wait()
    await redsched_kit.travel(minutes=10)
    pizzeria.worker()
    await redsched_kit.wait_for("done", count=3, timeout=20)
    for count in (4, 5):
        await redsched_kit.travel(minutes=10)
        await redsched_kit.wait_for("done", count=count)
    assert [step for step, _, _ in pizzeria.steps()] == list(STEPS)


# -- 7: policies ----------------------------------------------------------------------------------------------------


class Unavailable(Exception):
    pass


class Followers:
    """The methods that the page's processor schedules and leaves out."""

    async def fulfill_order(self, order_id: str) -> None: ...
    async def retry_payment(self, order_id: str, amount: float) -> None: ...
    async def process_fallback_payment(self, order_id: str, amount: float) -> None: ...


async def process_payment(kit: Kit, outcome: Any) -> tuple[list[str], int]:
    """The names of the jobs that exist after a payment of that outcome, and the number of charges."""
    bank = Recorder(charge_customer=outcome)
    # The page's decorators stand in a class body: their names must be there when it runs, as here, in the module.
    page = load(
        7, BackgroundTaskScheduler=BackgroundTaskScheduler, PaymentService=bank, get_service=lambda service: service,
        PaymentServiceUnavailableError=Unavailable,
        circuit_breaker=CircuitBreakerPolicy(failure_threshold=2, recovery_timeout=60, name="page 7"),
        retry_policy=RetryPolicy(max_attempts=2, initial_delay=0),
    )  # fmt: skip
    kind: Any = type("Processor", (Followers, page.ResilientOrderProcessor), {"__module__": page.__name__})
    page.Processor = kind
    processor = kind(kit.scheduler)
    kit.scheduler.bind(processor)
    assert processor.circuit_breaker == CircuitBreakerPolicy(5, 60, 3)
    assert (processor.retry_policy.max_attempts, processor.retry_policy.max_delay) == (3, 300)
    await kit.scheduler.schedule_immediate_task("payment", processor.process_payment_task, args=["order-7", 21.5])
    await kit.run_due()
    return [job.name for job in await kit.scheduler.get_jobs(state="scheduled")], len(bank.calls)


async def test_07_a_payment_goes_on_as_its_outcome_says(redsched_kit: Kit) -> None:
    assert await process_payment(redsched_kit, order(success=False)) == (["payment_retry"], 1)
    await redsched_kit.scheduler.clear_all_jobs()
    assert await process_payment(redsched_kit, Unavailable()) == (["fallback_payment"], 1)
    await redsched_kit.scheduler.clear_all_jobs()
    await process_payment(redsched_kit, order(success=True))
    history = await redsched_kit.scheduler.get_history()
    assert [event.task for event in history if event.kind == "done"][-1] is not None


async def test_07_failures_are_tried_again_and_then_open_the_circuit(redsched_kit: Kit) -> None:
    for _ in range(2):
        names, charges = await process_payment(redsched_kit, ConnectionError("the bank is away"))
        assert (names, charges) == ([], 2), "the retry policy tried twice, in one run"
    names, charges = await process_payment(redsched_kit, order(success=True))
    assert (names, charges) == (["payment"], 0), "the circuit is open: nothing is charged, and the run is postponed"
    [job] = await redsched_kit.scheduler.get_jobs(state="scheduled")
    assert job.reason is Reason.CIRCUIT_OPEN


# -- 8: monitoring of errors ----------------------------------------------------------------------------------------


class InventoryShortageError(Exception):
    pass


class KitchenOverloadError(Exception):
    pass


async def prepare(order_id: str, error: str | None = None) -> str:
    if error is not None:
        raise {"shortage": InventoryShortageError, "overload": KitchenOverloadError}[error]("no basil")
    return order_id


async def test_08_the_monitor_is_told_of_failures_and_successes(redsched_kit: Kit) -> None:
    page = load(
        8, NotificationService=Recorder, logger=logging.getLogger("page"),
        InventoryShortageError=InventoryShortageError, KitchenOverloadError=KitchenOverloadError,
    )  # fmt: skip
    followed: list[tuple[str, Any]] = []

    class Monitor(page.OrderTaskMonitor):
        async def schedule_inventory_reorder(self, order_id: str) -> None:
            followed.append(("reorder", order_id))

        async def schedule_order_delay_notification(self, order_id: str) -> None:
            followed.append(("delay", order_id))

        async def update_order_status(self, order_id: str, status: str) -> None:
            followed.append((status, order_id))

    notification = Recorder()
    scheduler = redsched_kit.scheduler
    scheduler.add_failure_handler(Monitor(notification))
    await scheduler.schedule_immediate_task("order_preparation", prepare, args=["order-1", "shortage"])
    await scheduler.schedule_immediate_task("kitchen", prepare, kwargs={"order_id": "order-2", "error": "overload"})
    await scheduler.schedule_immediate_task("delivery_dispatch", prepare, args=["order-3"])
    await redsched_kit.run_due()
    assert sorted(followed) == [("delay", "order-2"), ("delivered", "order-3"), ("reorder", "order-1")]
    [(name, (title, details))] = notification.calls
    assert (name, title) == ("send_critical_alert", "Critical task failure: order_preparation")
    assert details["error_type"] == "InventoryShortageError"
    assert (details["error_message"], details["retry_count"]) == ("no basil", 0)
    assert 0 <= details["execution_time"] < 5


# -- 9: configuration -----------------------------------------------------------------------------------------------


async def test_09_the_configuration_makes_a_scheduler(redsched_url: str) -> None:
    config = load(9).configure_advanced_scheduler()
    scheduler = BackgroundTaskScheduler.from_config(config)
    assert scheduler.redis_url == "redis://:your_redis_password@localhost:6379/1"
    assert str(scheduler.timezone) == "UTC"
    assert "your_redis_password" not in repr(config) + repr(scheduler)
    # The defaults of the job store come before those of the scheduler.
    assert (scheduler.options.coalesce, scheduler.options.max_instances) == (True, 3)
    assert scheduler.options.misfire_grace_ms == 300_000


# -- 10: an executor ------------------------------------------------------------------------------------------------


async def make_pizza(order_id: str, then: str | None = None) -> str:
    if then == "burn":
        raise RuntimeError("burnt")
    return f"pizza for {order_id}"


async def test_10_the_executor_of_the_page_runs_jobs(redsched_kit: Kit) -> None:
    executor = load(10).PizzaOrderExecutor(max_concurrent_orders=2)
    scheduler = redsched_kit.scheduler
    scheduler.add_executor("pizza", executor)
    handles = [
        await scheduler.schedule_immediate_task("make", make_pizza, executor="pizza", **arguments)  # type: ignore[arg-type]
        for arguments in (
            {"args": ["order-1"]}, {"args": ["order-2"], "kwargs": {}}, {"kwargs": {"order_id": "order-3"}},
            {"args": ["order-4", "burn"]},
        )
    ]  # fmt: skip
    executor.active_orders.add("order-2")
    await redsched_kit.run_due()
    first, second, third, fourth = [await handle.result(timeout=5) for handle in handles]
    assert (first.success, first.result) == (True, "pizza for order-1")
    assert second.result == {"status": "skipped", "reason": "already_processing"}
    assert second.reason is Reason.EXECUTOR_SKIPPED
    assert third.result == "pizza for order-3"
    assert (fourth.success, fourth.error and "burnt" in fourth.error) == (False, True)
    skipped = [e for e in await scheduler.get_history(handles[1].id) if e.kind == "done"]
    assert skipped[0].reason is Reason.EXECUTOR_SKIPPED, "visible in history"
    assert executor.active_orders == {"order-2"}


# -- 11, 12: the page's own tests -----------------------------------------------------------------------------------


def run_pytest(folder: Path, code: str) -> None:
    """Run a file of tests as its user would. Fails if one of them fails, or none is found."""
    (folder / "test_of_the_page.py").write_text(code)
    (folder / "pytest.ini").write_text("[pytest]\nasyncio_mode = auto\nmarkers = integration\n")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(folder)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_11_the_unit_tests_of_the_page_pass(tmp_path: Path) -> None:
    missing = """
from datetime import datetime, timedelta
from tests.spec.services import Container
from tests.spec.snippets import load

KitchenService = DeliveryService = object
page = load(2, BackgroundTaskScheduler=BackgroundTaskScheduler, KitchenService=object, DeliveryService=object)
events = load(5, BackgroundTaskScheduler=BackgroundTaskScheduler, datetime=datetime, timedelta=timedelta)
OrderPlacedEvent = events.OrderPlacedEvent


class OrderTaskScheduler(events.OrderTaskScheduler):
    async def start_kitchen_preparation(self, order_id): ...
    async def dispatch_delivery(self, order_id, customer_id): ...
    async def notify_customer_ready(self, customer_id, order_id): ...


class PizzaOrderService(page.PizzaOrderService):
    # On the page the service takes a container, and its test gives it the scheduler.
    def __init__(self, scheduler):
        container = Container()
        container.services[BackgroundTaskScheduler] = scheduler
        super().__init__(container)
"""
    head, _, rest = snippet(11).code.partition("class TestOrderTaskScheduling")
    run_pytest(tmp_path, f"{head}\n{missing}\n\nclass TestOrderTaskScheduling{rest}")


def is_free(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("localhost", port)) != 0


def test_12_the_integration_test_of_the_page_passes_against_a_real_redis(tmp_path: Path) -> None:
    code = "import asyncio\nimport pytest\nfrom redsched import BackgroundTaskScheduler\n\n" + snippet(12).code
    # If somebody's server is there, that is none of our business.
    with contextlib.closing(LocalServer(port=6379 if is_free(6379) else None)) as server:
        assert code.count("redis://localhost:6379/15") == 1
        run_pytest(tmp_path, code.replace(":6379/15", f":{server.port}/15"))


# -- 13: metrics ----------------------------------------------------------------------------------------------------


async def test_13_the_metrics_of_the_page_are_collected_and_exported() -> None:
    collector = load(13).PizzaOrderMetrics()
    assert await collector.collect_order_metrics() == {
        "total_orders_processed": 0, "average_preparation_time": 0, "failed_tasks_count": 0, "active_tasks": 0,
        "task_queue_size": 0,
    }  # fmt: skip
    collector.metrics.increment("orders_processed", 3)
    collector.metrics.set_gauge("avg_prep_time", 12.5)
    lines = (await collector.export_metrics_to_prometheus()).splitlines()
    assert lines[0].split() == ["mario_pizzeria_total_orders_processed", "3"]
    assert lines[1].split() == ["mario_pizzeria_average_preparation_time", "12.5"]
    assert len(lines) == 5
